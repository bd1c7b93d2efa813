"""How much memory calls take, what they keep, and when that is too much.

tracemalloc sees what Python allocates, in the whole process: what other threads allocate meanwhile is in the figures. It makes
calls slower by a factor that is told, so time is never taken while it is on because of us.
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

from resilience_kit.bench.json_reader import Amount, SignedAmount, Whole
from resilience_kit.bench.measure.switches import FROZEN, GC_DISABLED, TRACING

if sys.platform != "win32":  # pragma: no branch - another system
    import resource

MIB = 1024 * 1024
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """What `calls` calls took, in bytes that Python allocated.

    `peak_bytes`: the most that was held at one time, above what was held before. `current_bytes`: what is held after them all,
    garbage collected; below zero when they let go of something older. `per_call_bytes`: what one call holds at most, on the
    average. `kept_per_call_bytes`: `current_bytes` shared out; whether it is a leak, `detect_leak` can tell. `overhead`: how
    many times longer a call took while memory was tracked.
    """

    calls: Whole
    peak_bytes: Whole
    current_bytes: Whole
    per_call_bytes: Amount
    kept_per_call_bytes: SignedAmount
    overhead: Amount


def traced_memory() -> int:
    """Bytes that Python holds and tracemalloc has seen allocated, garbage collected first."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def memory_plan(calls: int, untraced_seconds: float) -> Generator[int, Any, MemoryUse]:
    """A plan that makes some calls under tracemalloc; `untraced_seconds`: what one of them took without.

    One more call comes first, which replaces what earlier ones had left before tracemalloc saw it. tracemalloc's peak is reset,
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
    """The process holds more than it should, in MiB.

    `used_mb` comes from `source`: "rss" (what the system has given this process), "peak rss" (the most it ever had, where the
    system tells no more) or "traced" (what Python has allocated, where it tells nothing). `traced_mb` is None while tracemalloc
    is off.
    """

    threshold_mb: float
    used_mb: float
    source: str
    traced_mb: float | None

    def __str__(self) -> str:
        return f"the process holds {self.used_mb:.1f} MiB ({self.source}), more than {self.threshold_mb:g} MiB"


def alert_above(threshold_mb: float) -> MemoryAlert | None:
    """An alert when the process holds more than this."""
    traced = tracemalloc.get_traced_memory()[0] / MIB if tracemalloc.is_tracing() else None
    used, source = resident() or ((traced or 0.0) * MIB, "traced")
    if used / MIB <= threshold_mb:
        return None
    return MemoryAlert(threshold_mb=threshold_mb, used_mb=used / MIB, source=source, traced_mb=traced)


def resident() -> tuple[float, str] | None:
    """Bytes that the system has given this process, and what kind of figure it is; None where the system does not tell."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE"), "rss"
    except (OSError, ValueError, IndexError, AttributeError):
        return _peak_resident()


def _peak_resident() -> tuple[float, str] | None:
    if sys.platform == "win32":  # pragma: no cover - another system
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest * (1 if sys.platform == "darwin" else 1024), "peak rss"
