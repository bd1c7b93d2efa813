"""The timed pass: warm up, find the number of calls to a sample that the clock can measure, take samples.

As in pyperf and pytest-benchmark the number of loops is calibrated, here to the clock's resolution, and outliers are reported
instead of removed.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from resilience_kit.bench.measure.calibration import Calibration, CpuShare
from resilience_kit.bench.measure.driving import Timer
from resilience_kit.bench.measure.options import BenchOptions
from resilience_kit.bench.measure.samples import Samples, Summary
from resilience_kit.bench.measure.switches import GC_DISABLED

#: A sample takes at least so many ticks of the clock.
TICKS = 1000
MOST_LOOPS = 1 << 20
_TRIES = 200
_FEW_TICKS = 100
_WIDE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds a call; how many calls made a sample; the clock's resolution and the calibration, in seconds.

    `cpu_share`: the share of the time in which this process needed a processor.
    """

    time: Summary
    distribution: tuple[tuple[float, int], ...]
    loops: int
    resolution: float
    calibration: float
    cpu_share: float


def resolution(timer: Timer) -> int:
    """Return the smallest step between two readings in nanoseconds: the cost of reading the clock, or its tick if larger."""
    readings = [timer() for _ in range(_TRIES)]
    steps = [later - earlier for earlier, later in pairwise(readings) if later > earlier]
    return min(steps, default=1)


def timing_plan(
    iterations: int, options: BenchOptions, timer: Timer, cpu: Timer = time.process_time_ns
) -> Generator[int, Any, Timing]:
    """Plan `iterations` samples."""
    step = resolution(timer)
    if options.warmup:
        yield options.warmup
    loops = options.loops or (yield from _calibrate_loops(step * TICKS))
    samples, calibration = Samples(options.exact_samples), Calibration(iterations, timer, cpu)
    measured = CpuShare(options.exact_samples)
    with nullcontext() if options.gc_enabled else GC_DISABLED:
        for number in range(iterations):
            began = cpu()
            sample = yield loops
            measured.add(cpu() - began, sample)
            samples.add(sample)
            calibration.sample(number, sample)
    unit = loops * 1e9
    return Timing(
        time=samples.summary().divided(unit),
        distribution=tuple((middle / unit, count) for middle, count in samples.distribution()),
        loops=loops,
        resolution=step / 1e9,
        calibration=calibration.seconds,
        cpu_share=calibration.cpu_share(measured),
    )


def _calibrate_loops(nanoseconds: int) -> Generator[int, Any, int]:
    """Find the smallest power of two of calls that take so long."""
    loops = 1
    while (yield loops) < nanoseconds and loops < MOST_LOOPS:
        loops *= 2
    return loops


def quality_warnings(timing: Timing) -> list[str]:
    """Return sentences on why the figures may be unreliable."""
    found = []
    if timing.time.minimum * timing.loops < _FEW_TICKS * timing.resolution:
        found.append(f"a sample takes less than {_FEW_TICKS} ticks of the clock; loops=None puts more calls into one")
    if timing.time.spread > _WIDE:
        found.append(f"half of the samples are spread over {timing.time.spread:.0%} of the median; try a quieter machine")
    return found
