"""Notices that a worker's event loop stood still.

Then no heartbeat went out, other workers may take this one's jobs, and no timeout could end the one to blame. It can be told only
afterwards: while it lasts, nothing runs here.
"""

from __future__ import annotations

from typing import NoReturn

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.events import EventStream
from resilience_kit.jobs.events import LoopBlocked


class EventLoopMonitor:
    """Looks every `every` seconds; a look that comes more than `tolerance` seconds late is told as `LoopBlocked`."""

    def __init__(self, events: EventStream, *, every: float = 1.0, tolerance: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
        checks = Checks("EventLoopMonitor")
        checks.seconds("every", every)
        checks.seconds("tolerance", tolerance)
        checks.raise_if_any()
        self._events, self._every, self._tolerance, self._clock = events, every, tolerance, clock

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep_async(self._every)
            late = self._clock.monotonic() - before - self._every
            if late > self._tolerance:
                self._events.emit(LoopBlocked(seconds=late))
