"""Detects that a worker's event loop was blocked.

While it is blocked no heartbeat is sent, other workers may take this one's jobs, and no timeout can end the job that blocks it.
This can be reported only afterwards, since nothing runs on the loop meanwhile.
"""

from __future__ import annotations

from typing import NoReturn

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.events import EventStream
from resilience_kit.jobs.events import LoopBlocked


class EventLoopMonitor:
    """Wakes every `every` seconds and emits `LoopBlocked` when that is more than `tolerance` seconds late."""

    def __init__(self, events: EventStream, *, every: float = 1.0, tolerance: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
        checks = Checks("EventLoopMonitor")
        checks.seconds("every", every)
        checks.seconds("tolerance", tolerance)
        checks.raise_if_any()
        self._events, self._every, self._tolerance, self._clock = events, every, tolerance, clock

    async def run(self) -> NoReturn:
        """Monitor the loop until cancelled."""
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep_async(self._every)
            late = self._clock.monotonic() - before - self._every
            if late > self._tolerance:
                self._events.emit(LoopBlocked(seconds=late))
