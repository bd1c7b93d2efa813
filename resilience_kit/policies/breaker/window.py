"""The failure-rate window: opens a circuit by the share of failed or slow calls, instead of by consecutive failures.

Count windows hold the last `size` calls, time windows the last `size` seconds in twenty buckets, so that a time
window's edge is exact to a twentieth of its size and its memory does not grow with traffic.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class

_BUCKETS = 20
_DEFAULT_MINIMUM = 10
#: Seconds; a smaller window would have buckets below the resolution of clocks.
_MIN_SECONDS = 1e-3


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True)
class FailureRateWindow:
    """Define which share of recent calls opens the circuit.

    `size`: calls (`kind="count"`, a whole number) or seconds (`kind="time"`). `kind`: what the window holds. `failure_rate`:
    share of failed calls at or above which the circuit opens; 0.5 as in resilience4j. `minimum_calls`: fewer never open it;
    None: the whole window of calls, 10 in a window of seconds. `slow_call_duration`: seconds above which a call is slow; None:
    none is. `slow_call_rate`: share of slow calls at or above which the circuit opens.
    """

    size: float
    kind: Literal["count", "time"] = "count"
    failure_rate: float = 0.5
    minimum_calls: int | None = None
    slow_call_duration: float | None = None
    slow_call_rate: float = 1.0

    def __post_init__(self) -> None:
        checks = Checks("FailureRateWindow")
        checks.one_of("kind", self.kind, ("count", "time"))
        if self.kind == "count":
            checks.integer("size", self.size, 1)
        else:
            checks.number("size", self.size, _MIN_SECONDS)
        checks.number("failure_rate", self.failure_rate, 1e-9, 1.0)
        if self.minimum_calls is not None:
            checks.integer("minimum_calls", self.minimum_calls, 1)
        checks.optional_seconds("slow_call_duration", self.slow_call_duration)
        checks.number("slow_call_rate", self.slow_call_rate, 1e-9, 1.0)
        checks.raise_if_any()
        if self.kind == "count" and self.minimum_calls is not None and self.minimum_calls > self.size:
            checks.add("minimum_calls", f"must be at most the window's size {self.size}, or it never judges", self.minimum_calls)
            checks.raise_if_any()

    @property
    def effective_minimum_calls(self) -> int:
        """Return `minimum_calls`, or its default."""
        if self.minimum_calls is not None:
            return self.minimum_calls
        return int(self.size) if self.kind == "count" else _DEFAULT_MINIMUM

    def is_slow(self, duration: float) -> bool:
        """Return whether a call of `duration` seconds is slow."""
        return self.slow_call_duration is not None and duration > self.slow_call_duration


class SlidingWindow(Protocol):
    """Counts recent calls."""

    calls: int
    failed: int
    slow: int

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call that ended at monotonic `now`, and drop those that have left the window."""
        ...


class _CountWindow:
    """The last `size` calls."""

    def __init__(self, size: int) -> None:
        self._entries: deque[tuple[bool, bool]] = deque()
        self._size = size
        self.calls = self.failed = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:  # noqa: ARG002 - for time windows
        self._entries.append((failed, slow))
        self.failed += failed
        self.slow += slow
        if len(self._entries) > self._size:
            old_failed, old_slow = self._entries.popleft()
            self.failed -= old_failed
            self.slow -= old_slow
        self.calls = len(self._entries)


class _TimeWindow:
    """The last `size` seconds, in buckets of [number, calls, failed, slow]."""

    def __init__(self, size: float) -> None:
        self._entries: deque[list[int]] = deque()
        self._width = size / _BUCKETS
        self.calls = self.failed = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        number = int(now // self._width)
        self._evict(number - _BUCKETS)
        if not self._entries or self._entries[-1][0] != number:
            self._entries.append([number, 0, 0, 0])
        self._count(self._entries[-1], (1, int(failed), int(slow)))

    def _count(self, bucket: list[int], call: tuple[int, int, int]) -> None:
        for column, amount in enumerate(call, start=1):
            bucket[column] += amount
        self._total(call, 1)

    def _evict(self, number: int) -> None:
        while self._entries and self._entries[0][0] <= number:
            _, calls, failed, slow = self._entries.popleft()
            self._total((calls, failed, slow), -1)

    def _total(self, call: tuple[int, int, int], sign: int) -> None:
        self.calls += sign * call[0]
        self.failed += sign * call[1]
        self.slow += sign * call[2]


def make_window(window: FailureRateWindow) -> SlidingWindow:
    """Return an empty window."""
    return _CountWindow(int(window.size)) if window.kind == "count" else _TimeWindow(window.size)


def open_reason(window: FailureRateWindow, recent: SlidingWindow) -> str | None:
    """Return the reason to open the circuit now, or None."""
    if recent.calls < window.effective_minimum_calls:
        return None
    if recent.failed / recent.calls >= window.failure_rate:
        return f"{recent.failed} of {recent.calls} calls failed"
    if recent.slow / recent.calls >= window.slow_call_rate:
        return f"{recent.slow} of {recent.calls} calls were slow"
    return None
