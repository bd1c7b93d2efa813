"""Bounds database retries during shutdown, so that a worker stops within its grace period even if the database is down."""

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
#: Together, and with the grace between them, 5 s: the last fetch, the writes that it delays, the worker's deregistration.
_FETCH: Final = 3.0
_WRITES: Final = 4.0
_MIN_SECONDS: Final = 1.0


class ShutdownBudget:
    """A worker's shutdown. A fetch is abandoned 3 s after its start, all else `grace` + 4 s after it; each has at least a second.

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
        """Return whether the shutdown has started."""
        return self._started_at is not None

    def start(self) -> None:
        """Start the shutdown. Only the first call counts."""
        if self._started_at is None:
            self._started_at = self._clock.monotonic()
            for cut, (since, fetch) in list(self._live.items()):
                cut.due_ns = self._due(since, fetch=fetch)

    async def run_limited(self, work: Awaitable[T], *, fetch: bool) -> T:
        """Await it within the budget. Raises ConnectorException when that is used up."""
        cutter, since = scheduler_for(self._clock), self._clock.monotonic()
        cut = cutter.schedule(self._due(since, fetch=fetch))
        self._live[cut] = since, fetch
        try:
            result = await work
        except BaseException:
            if cutter.finish(cut):
                raise ConnectorException("the worker is shutting down and the database is unavailable") from TimeoutError()
            raise
        finally:
            del self._live[cut]
        cutter.finish(cut)
        return result

    def _due(self, since: float, *, fetch: bool) -> int:
        """Return the end of the budget in nanoseconds of the clock."""
        if self._started_at is None or (self._grace is None and not fetch):
            return _NEVER
        last = self._started_at + (_FETCH if fetch else (self._grace or 0.0) + _WRITES)
        remaining = max(last, since + _MIN_SECONDS) - self._clock.monotonic()
        return self._clock.nanoseconds() + round(remaining * 1e9)


#: The budget of the worker that the current task belongs to.
current_shutdown: ContextVar[ShutdownBudget | None] = ContextVar("resilience_kit_jobs_ending", default=None)


def is_shutting_down() -> bool:
    """Return whether the current task's worker is shutting down."""
    shutdown = current_shutdown.get()
    return shutdown is not None and shutdown.started


class ShutdownAwareWorker(Worker):
    """Procrastinate's worker with a shutdown budget that bounds the connector's statements."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(**options)
        self._shutdown_budget = ShutdownBudget(self.shutdown_graceful_timeout, clock)

    async def run(self) -> None:
        """Run the worker. The budget bounds its statements and the last writes of its jobs."""
        token = current_shutdown.set(self._shutdown_budget)
        try:
            await super().run()  # type: ignore[no-untyped-call]  # Procrastinate's
        finally:
            current_shutdown.reset(token)

    def stop(self) -> None:
        """Stop the worker and start its shutdown budget."""
        self._shutdown_budget.start()
        super().stop()  # type: ignore[no-untyped-call]  # Procrastinate's
