"""Counters of job events by task."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from resilience_kit._counter import Counter
from resilience_kit.events import Event, EventStream
from resilience_kit.jobs.events import (
    JobAborted,
    JobFailed,
    JobPostponed,
    JobRetried,
    JobStarted,
    JobSucceeded,
    JobSuperseded,
    JobTimedOut,
    StalledJobFinished,
    StalledJobRetried,
)
from resilience_kit.metrics import LatencyHistogram

_COUNTED: Final[dict[type[Event], str]] = {
    JobStarted: "started",
    JobSucceeded: "succeeded",
    JobRetried: "retried",
    JobFailed: "failed",
    JobAborted: "aborted",
    JobPostponed: "postponed",
    JobTimedOut: "timed_out",
    JobSuperseded: "superseded",
    StalledJobRetried: "stalled_retried",
    StalledJobFinished: "stalled_finished",
}


class _TaskNumbers:
    def __init__(self) -> None:
        self.counts = {name: Counter() for name in _COUNTED.values()}
        self.duration = LatencyHistogram()

    def snapshot(self) -> dict[str, Any]:
        return {name: counter.value for name, counter in self.counts.items()} | {"duration_ms": self.duration.summary()}


class JobMetrics:
    """Counts the job events of a stream by task, in this process. Thread-safe.

    `duration_ms` is of runs that succeeded, within 6 %. A name that no task has cannot come up: events name tasks.
    """

    def __init__(self, events: EventStream) -> None:
        self._tasks: dict[str, _TaskNumbers] = {}
        self._lock = threading.Lock()
        self.stop: Callable[[], None] = events.add_listener(self._count, *_COUNTED)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return the counters by task, ready for JSON."""
        return {name: numbers.snapshot() for name, numbers in sorted(self._tasks.items())}

    def _count(self, event: Event) -> None:
        numbers = self._numbers(event.operation)
        numbers.counts[_COUNTED[type(event)]].add()
        if isinstance(event, JobSucceeded):
            numbers.duration.add(round(event.duration * 1e9))

    def _numbers(self, task: str) -> _TaskNumbers:
        known = self._tasks.get(task)
        if known is None:
            with self._lock:
                known = self._tasks.setdefault(task, _TaskNumbers())
        return known
