"""What happened to an operation, in numbers: exact counters, and latencies within 6 %.

Counting must not cost the call that is counted, so a success adds one to a list's entry, without a lock: under the GIL nothing
can come between the reading and the writing of `counts[i] += 1` (pinned by a test with threads). Builds without the GIL take
a lock instead.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from resilience_kit._counter import Counter
from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import Clock

#: Whether `counts[i] += 1` is one step for other threads.
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
_LARGEST = 1 << 62
_EXACT = 16


def bucket_index(nanoseconds: int) -> int:
    """Return the histogram bucket of a latency: one for each up to 16, then eight to each doubling.

    So a bucket's middle is within 6 % of what is in it.
    """
    shift = (nanoseconds | 8).bit_length() - 4
    return (shift << 3) + (nanoseconds >> shift)


_BUCKETS = bucket_index(_LARGEST) + 1
_NO_SAMPLES = (0,) * _BUCKETS


def bucket_midpoint(bucket: int) -> float:
    """Return the nanoseconds in the middle of a bucket; the relative error is at most 1/17."""
    if bucket < _EXACT:
        return float(bucket)
    shift = (bucket >> 3) - 1
    low = bucket - (shift << 3)
    return 2 * low * (low + 1) / (2 * low + 1) * (1 << shift)


class LatencyHistogram:
    """Counts latencies by bucket. The drivers' fast path adds to `counts` in place."""

    __slots__ = ("_counts_at_reset", "_lock", "counts")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self._counts_at_reset = _NO_SAMPLES
        self._lock = threading.Lock()

    def add(self, nanoseconds: int) -> None:
        """Count one."""
        if GIL:
            self.counts[bucket_index(nanoseconds)] += 1
        else:  # pragma: no cover - needs a build without the GIL
            with self._lock:
                self.counts[bucket_index(nanoseconds)] += 1

    @property
    def total(self) -> int:
        """Samples since the start, resets left aside."""
        return sum(self.counts)

    @property
    def count(self) -> int:
        """Samples since the last reset."""
        seen = self._counts_at_reset  # before the counts, or a reset in between would leave fewer than none
        return sum(self.counts) - sum(seen)

    def reset(self) -> None:
        """Forget the samples; `total` stays. Counts only grow, so none is lost to a reset: what was seen is taken off."""
        self._counts_at_reset = tuple(self.counts)

    def summary(self) -> dict[str, float]:
        """Mean, quantiles (nearest rank) and maximum in milliseconds, each within 6 %; all 0.0 without samples."""
        counts = [
            (bucket_midpoint(bucket), now - seen)
            for bucket, (now, seen) in enumerate(zip(self.counts, self._counts_at_reset, strict=True))
            if now > seen
        ]
        count = sum(samples for _, samples in counts)
        if not count:
            return dict.fromkeys(("mean", "p50", "p95", "p99", "max"), 0.0)
        mean = sum(middle * samples for middle, samples in counts) / count
        quantiles = {name: _quantile(counts, count, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
        return {name: value / 1e6 for name, value in {"mean": mean, **quantiles, "max": counts[-1][0]}.items()}

    def quantile_upper_bound(self, quantile: float, min_samples: int) -> float | None:
        """Seconds that at least this share of the samples since the start are below; None for fewer than `min_samples` samples.

        The end of a bucket, so up to an eighth more than the quantile, never less.
        """
        counts = tuple(self.counts)
        total = sum(counts)
        if total < min_samples:
            return None
        wanted, bucket = quantile * total, -1
        while wanted > 0:
            bucket += 1
            wanted -= counts[bucket]
        return bucket_lower_bound(bucket + 1) / 1e9

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self._lock = threading.Lock()


def bucket_lower_bound(bucket: int) -> int:
    """Return the fewest nanoseconds that belong into a bucket."""
    shift = max(0, (bucket >> 3) - 1)
    return (bucket - (shift << 3)) << shift


def _quantile(counts: list[tuple[float, int]], count: int, quantile: float) -> float:
    """Return the smallest latency that at least `quantile` of the samples do not exceed."""
    seen = 0
    for middle, samples in counts:
        seen += samples
        if seen >= quantile * count:
            return middle
    return counts[-1][0]  # pragma: no cover - the last bucket reaches every share


_COUNTERS = ("failed_calls", "rejected_calls", "fast_rejections", "cancelled_calls", "retry_attempts", "fallback_calls")
_ZEROS = MappingProxyType(dict.fromkeys(_COUNTERS, 0))


class OperationMetrics:
    """The numbers of one operation. Every call ends in exactly one of succeeded, failed, rejected and cancelled. Thread-safe.

    `fast_rejections` are the rejected calls that the breaker does not count itself, apart so that a refusal counts once.
    """

    __slots__ = (*_COUNTERS, "__weakref__", "_base", "_clock", "last_failure", "last_success", "latency")

    failed_calls: Counter
    rejected_calls: Counter
    fast_rejections: Counter
    cancelled_calls: Counter
    retry_attempts: Counter
    fallback_calls: Counter

    def __init__(self, clock: Clock) -> None:
        self.latency = LatencyHistogram()
        for name in _COUNTERS:
            setattr(self, name, Counter())
        self.last_success: int | None = None
        self.last_failure: int | None = None
        self._base: Mapping[str, int] = _ZEROS
        self._clock = clock
        register_fork_aware(self)

    def use_clock(self, clock: Clock) -> None:
        """Take stamps from another clock from now on, of which the old ones say nothing."""
        if clock is not self._clock:
            self._clock, self.last_success, self.last_failure = clock, None, None

    def succeeded(self, nanoseconds: int) -> None:
        """Count a success that took so long; the drivers' fast path does the same in place."""
        self.latency.add(nanoseconds)

    def total_successes(self) -> int:
        """Since the start, resets left aside."""
        return self.latency.total

    def total_fast_rejections(self) -> int:
        """Return the same of `fast_rejections`."""
        return self.fast_rejections.value

    def reset(self) -> None:
        """Start from zero. Counters only ever grow, so that no count is lost to a reset; what they were is taken off."""
        self.latency.reset()
        self._base = {name: self._counter(name).value for name in _COUNTERS}
        self.last_success = self.last_failure = None

    def _counter(self, name: str) -> Counter:
        counter: Counter = getattr(self, name)
        return counter

    def snapshot(self) -> dict[str, object]:
        """Return the numbers, ready for JSON. Timestamps are wall clock times, computed from monotonic ones on demand."""
        base = self._base  # before the counters, for a reset in between
        counted = {name: self._counter(name).value - base[name] for name in _COUNTERS}
        counted["rejected_calls"] += counted.pop("fast_rejections")
        succeeded = self.latency.count
        total = succeeded + counted["failed_calls"] + counted["rejected_calls"] + counted["cancelled_calls"]
        return {
            "total_calls": total,
            "successful_calls": succeeded,
            **counted,
            "success_rate": succeeded / total if total else 1.0,
            "latency_ms": self.latency.summary(),
            "last_success": self._stamp(self.last_success),
            "last_failure": self._stamp(self.last_failure),
        }

    def _stamp(self, nanoseconds: int | None) -> str | None:
        if nanoseconds is None:
            return None
        ago = timedelta(microseconds=(self._clock.nanoseconds() - nanoseconds) / 1000)
        return (datetime.now(UTC) - ago).isoformat(timespec="milliseconds")

    def reset_after_fork(self) -> None:
        """In a forked child: locks that nobody holds."""
        self.latency.reset_after_fork()
