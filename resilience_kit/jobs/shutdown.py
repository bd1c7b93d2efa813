"""How long a worker that was told to stop still speaks to the database: with one that is away it ends soon all the same."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker

from resilience_kit.clock import Clock
from resilience_kit.execution.timeouts import Timeout, scheduler_for

T = TypeVar("T")

_NEVER: Final = sys.maxsize
#: Together, and with the grace between them, 5 s: the last fetch, the writes of what it keeps waiting, the goodbye.
_FETCH: Final = 3.0
_WRITES: Final = 4.0
_MIN_SECONDS: Final = 1.0


class ShutdownBudget:
    """One worker's end. A fetch is given up 3 s after its begin, all else `grace` + 4 s after it; each has a second at least.

    `grace`: seconds that running jobs have, None for any number. `start` may be called in any thread, `run_limited` in the
    loop's.
    """

    __slots__ = ("_clock", "_grace", "_live", "_started_at")

    def __init__(self, grace: float | None, clock: Clock) -> None:
        self._grace, self._clock = grace, clock
        self._started_at: float | None = None
        self._live: dict[Timeout, tuple[float, bool]] = {}

    @property
    def started(self) -> bool:
        """Whether the worker was told to stop."""
        return self._started_at is not None

    def start(self) -> None:
        """The worker was told to stop. The first time counts."""
        if self._started_at is None:
            self._started_at = self._clock.monotonic()
            for cut, (since, fetch) in list(self._live.items()):
                cut.due_ns = self._due(since, fetch=fetch)

    async def run_limited(self, work: Awaitable[T], *, fetch: bool) -> T:
        """Await it for as long as the end leaves. Raises ConnectorException where that is over."""
        cutter, since = scheduler_for(self._clock), self._clock.monotonic()
        cut = cutter.schedule(self._due(since, fetch=fetch))
        self._live[cut] = since, fetch
        try:
            result = await work
        except BaseException:
            if cutter.finish(cut):
                raise ConnectorException("the worker stops, and the database is away") from TimeoutError()
            raise
        finally:
            del self._live[cut]
        cutter.finish(cut)
        return result

    def _due(self, since: float, *, fetch: bool) -> int:
        """In nanoseconds of the clock."""
        if self._started_at is None or (self._grace is None and not fetch):
            return _NEVER
        last = self._started_at + (_FETCH if fetch else (self._grace or 0.0) + _WRITES)
        remaining = max(last, since + _MIN_SECONDS) - self._clock.monotonic()
        return self._clock.nanoseconds() + round(remaining * 1e9)


#: Of the worker that the present task belongs to.
current_shutdown: ContextVar[ShutdownBudget | None] = ContextVar("resilience_kit_jobs_ending", default=None)


def is_shutting_down() -> bool:
    """Whether that worker was told to stop."""
    shutdown = current_shutdown.get()
    return shutdown is not None and shutdown.started


class ShutdownAwareWorker(Worker):
    """Procrastinate's worker, whose end is told to the connector's statements."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(**options)
        self._shutdown_budget = ShutdownBudget(self.shutdown_graceful_timeout, clock)

    async def run(self) -> None:
        """Run it. Its statements, and those of its jobs' ends, know its end."""
        token = current_shutdown.set(self._shutdown_budget)
        try:
            await super().run()  # type: ignore[no-untyped-call]  # Procrastinate's
        finally:
            current_shutdown.reset(token)

    def stop(self) -> None:
        """Stop it, soon."""
        self._shutdown_budget.start()
        super().stop()  # type: ignore[no-untyped-call]  # Procrastinate's
