"""Memory that calls take and keep, and an alert when the process uses too much.

tracemalloc sees what Python allocates in the whole process, so allocations of other threads are in the figures. It slows calls by
a factor that is reported, so time is never measured while a plan has it on.
"""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resilience_kit.bench.json_reader import Amount, Count, SignedAmount
from resilience_kit.bench.measure.switches import FROZEN, GC_DISABLED, TRACING

if sys.platform != "win32":  # pragma: no branch - another system
    import resource

MIB = 1024 * 1024
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of `calls` calls, in bytes that Python allocated.

    `peak_bytes`: the peak above what was in use before. `current_bytes`: what is in use after them all, garbage collected; below
    zero when they freed something older. `per_call_bytes`: the average peak of one call. `kept_per_call_bytes`: `current_bytes`
    by calls; use `detect_leak` to decide whether it is a leak. `overhead`: how many times longer a call took while memory was
    tracked.
    """

    calls: Count
    peak_bytes: Count
    current_bytes: Count
    per_call_bytes: Amount
    kept_per_call_bytes: SignedAmount
    overhead: Amount


def traced_memory() -> int:
    """Return the traced bytes in use, after a garbage collection."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def memory_plan(calls: int, untraced_seconds: float) -> Generator[int, Any, MemoryUse]:
    """Plan some calls under tracemalloc; `untraced_seconds`: the time of one without it.

    One more call comes first: it replaces what earlier calls had kept before tracemalloc was on. tracemalloc's peak is reset,
    also where it was on already.
    """
    with TRACING, GC_DISABLED, FROZEN:
        yield 1
        start, took, peak, own = traced_memory(), 0, 0, 0
        for _ in range(calls):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            took += yield 1
            highest = tracemalloc.get_traced_memory()[1]
            peak, own = max(peak, highest), own + highest - before
        kept = traced_memory() - start
    return MemoryUse(
        calls=calls,
        peak_bytes=max(0, peak - start),
        current_bytes=kept,
        per_call_bytes=own / calls,
        kept_per_call_bytes=kept / calls,
        overhead=took / 1e9 / calls / untraced_seconds if untraced_seconds else 1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAlert:
    """The process uses more memory than the threshold, in MiB.

    `used_mb` comes from `source`: "rss" (resident set size), "peak rss" (its maximum, where the system reports no more) or
    "traced" (what Python has allocated, where it reports nothing). `traced_mb` is None while tracemalloc is off.
    """

    threshold_mb: float
    used_mb: float
    source: str
    traced_mb: float | None

    def __str__(self) -> str:
        return f"the process holds {self.used_mb:.1f} MiB ({self.source}), more than {self.threshold_mb:g} MiB"


def alert_above(threshold_mb: float) -> MemoryAlert | None:
    """Return an alert when the process uses more than this."""
    traced = tracemalloc.get_traced_memory()[0] / MIB if tracemalloc.is_tracing() else None
    used, source = resident() or ((traced or 0.0) * MIB, "traced")
    if used / MIB <= threshold_mb:
        return None
    return MemoryAlert(threshold_mb=threshold_mb, used_mb=used / MIB, source=source, traced_mb=traced)


def resident() -> tuple[float, str] | None:
    """Return the resident bytes of this process and the kind of the figure; None where the system reports none."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE"), "rss"
    except (OSError, ValueError, IndexError, AttributeError):
        return _peak_resident()


def _peak_resident() -> tuple[float, str] | None:
    if sys.platform == "win32":  # pragma: no cover - another system
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest * (1 if sys.platform == "darwin" else 1024), "peak rss"
