"""Regressions against a stored baseline.

Two runs are compared as if they had been made on an equally fast machine. A fixed piece of work is timed with every benchmark;
its time now, divided by its time then, is how much slower the machine is. Only the share of the time in which a processor was
needed is scaled by it: waiting takes as long on a slow machine as on a fast one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resilience_kit.bench.results import BenchmarkResult, BenchmarkSuite

SLOWER, FASTER, SAME, LARGER, SMALLER = "slower", "faster", "same", "larger", "smaller"
TOO_FEW = "too few samples"
#: Samples, on both sides, that a verdict about time needs.
FEWEST_SAMPLES = 10
_MIN_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A benchmark then and now. `what` is "time" or "memory".

    `ratio`: now by then, on an equally fast machine; `raw_ratio`: as it was measured; `machine`: how many times slower this
    machine is for this benchmark. `then`, `now`: the medians in seconds, or the bytes of a call. `verdict`: "slower", "faster",
    "larger", "smaller", "same", or "too few samples", of which there have to be ten in both runs.
    """

    name: str
    what: str
    ratio: float
    raw_ratio: float
    machine: float
    then: float
    now: float
    verdict: str

    @property
    def regressed(self) -> bool:
        """Return whether it takes more than before."""
        return self.verdict in {SLOWER, LARGER}

    def __str__(self) -> str:
        return f"{self.name}: {self.what} {self.ratio:.2f} times the baseline's, {self.verdict}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionReport:
    """All comparisons. `missing`: only in the baseline; `new`: only in this run; `notes`: why they may not be comparable."""

    comparisons: tuple[Comparison, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[Comparison, ...]:
        """Return the comparisons that take more than before."""
        return tuple(each for each in self.comparisons if each.regressed)


def compare(now: BenchmarkSuite, baseline: BenchmarkSuite, threshold: float) -> RegressionReport:
    """Compare a run with a baseline.

    Slower means: the median is more than `threshold` (a share) above the baseline's, and the middle halves of the samples do
    not overlap. Memory is larger when one call takes that much more, and 1 KiB more at least.
    """
    then = {result.name: result for result in baseline.results}
    here = {result.name: result for result in now.results}
    both = [(then[name], here[name]) for name in here if name in then]
    return RegressionReport(
        comparisons=tuple(found for pair in both for found in _comparisons(*pair, threshold)),
        missing=tuple(name for name in then if name not in here),
        new=tuple(name for name in here if name not in then),
        notes=tuple(_differences(now, baseline)),
    )


def _differences(now: BenchmarkSuite, baseline: BenchmarkSuite) -> Iterable[str]:
    for key, value in now.environment.items():
        if baseline.environment.get(key, value) != value:
            yield f"{key}: {baseline.environment[key]} in the baseline, {value} now"


def _comparisons(then: BenchmarkResult, now: BenchmarkResult, threshold: float) -> Iterable[Comparison]:
    yield _time(then, now, threshold)
    if then.memory and now.memory:
        yield _memory(then.name, then.memory.per_call_bytes, now.memory.per_call_bytes, threshold)


def machine_factor(then: BenchmarkResult, calibration: float) -> float:
    """Return how many times longer this machine needs for what `then` took; 1.0 when unknown."""
    if not then.calibration or not calibration:
        return 1.0
    return then.cpu_share * calibration / then.calibration + 1.0 - then.cpu_share


def _time(then: BenchmarkResult, now: BenchmarkResult, threshold: float) -> Comparison:
    machine = machine_factor(then, now.calibration) or 1.0
    raw = _ratio(now.time.median, then.time.median)
    ratio, verdict = raw / machine, SAME
    if min(then.time.count, now.time.count) < FEWEST_SAMPLES:
        verdict = TOO_FEW
    elif ratio > 1 + threshold and now.time.p25 / machine > then.time.p75:
        verdict = SLOWER
    elif ratio < 1 / (1 + threshold) and now.time.p75 / machine < then.time.p25:
        verdict = FASTER
    return Comparison(
        name=then.name,
        what="time",
        ratio=ratio,
        raw_ratio=raw,
        machine=machine,
        then=then.time.median,
        now=now.time.median,
        verdict=verdict,
    )


def _memory(name: str, then: float, now: float, threshold: float) -> Comparison:
    ratio, verdict = _ratio(now, then), SAME
    if now > then * (1 + threshold) and now - then >= _MIN_BYTES:
        verdict = LARGER
    elif then > now * (1 + threshold) and then - now >= _MIN_BYTES:
        verdict = SMALLER
    return Comparison(name=name, what="memory", ratio=ratio, raw_ratio=ratio, machine=1.0, then=then, now=now, verdict=verdict)


def _ratio(now: float, then: float) -> float:
    return now / then if then else 1.0
