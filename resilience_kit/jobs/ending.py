"""How long a worker that was told to stop still speaks to the database: with one that is away it ends soon all the same."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker

from resilience_kit._drive.timers import Cut, cutter_for
from resilience_kit.outcome import Clock

T = TypeVar("T")

_NEVER: Final = sys.maxsize
#: Together, and with the grace between them, 5 s: the last fetch, the writes of what it keeps waiting, the goodbye.
_FETCH: Final = 3.0
_WRITES: Final = 4.0
_LEAST: Final = 1.0


class Ending:
    """One worker's end. A fetch is given up 3 s after its begin, all else `grace` + 4 s after it; each has a second at least.

    `grace`: seconds that running jobs have, None for any number. `begin` may be called in any thread, `limited` in the loop's.
    """

    __slots__ = ("_begun", "_clock", "_grace", "_live")

    def __init__(self, grace: float | None, clock: Clock) -> None:
        self._grace, self._clock = grace, clock
        self._begun: float | None = None
        self._live: dict[Cut, tuple[float, bool]] = {}

    @property
    def begun(self) -> bool:
        """Whether the worker was told to stop."""
        return self._begun is not None

    def begin(self) -> None:
        """The worker was told to stop. The first time counts."""
        if self._begun is None:
            self._begun = self._clock.monotonic()
            for cut, (since, fetch) in list(self._live.items()):
                cut.due = self._due(since, fetch=fetch)

    async def limited(self, work: Awaitable[T], *, fetch: bool) -> T:
        """Await it for as long as the end leaves. Raises ConnectorException where that is over."""
        cutter, since = cutter_for(self._clock), self._clock.monotonic()
        cut = cutter.watch(self._due(since, fetch=fetch))
        self._live[cut] = since, fetch
        try:
            result = await work
        except BaseException:
            if cutter.over(cut):
                raise ConnectorException("the worker stops, and the database is away") from TimeoutError()
            raise
        finally:
            del self._live[cut]
        cutter.over(cut)
        return result

    def _due(self, since: float, *, fetch: bool) -> int:
        """In nanoseconds of the clock."""
        if self._begun is None or (self._grace is None and not fetch):
            return _NEVER
        last = self._begun + (_FETCH if fetch else (self._grace or 0.0) + _WRITES)
        left = max(last, since + _LEAST) - self._clock.monotonic()
        return self._clock.nanoseconds() + round(left * 1e9)


#: Of the worker that the present task belongs to.
current_ending: ContextVar[Ending | None] = ContextVar("resilience_kit_jobs_ending", default=None)


def is_ending() -> bool:
    """Whether that worker was told to stop."""
    ending = current_ending.get()
    return ending is not None and ending.begun


class EndingWorker(Worker):
    """Procrastinate's worker, whose end is told to the connector's statements."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(**options)
        self._ending = Ending(self.shutdown_graceful_timeout, clock)

    async def run(self) -> None:
        """Run it. Its statements, and those of its jobs' ends, know its end."""
        token = current_ending.set(self._ending)
        try:
            await super().run()  # type: ignore[no-untyped-call]  # Procrastinate's
        finally:
            current_ending.reset(token)

    def stop(self) -> None:
        """Stop it, soon."""
        self._ending.begin()
        super().stop()  # type: ignore[no-untyped-call]  # Procrastinate's
