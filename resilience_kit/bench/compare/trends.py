"""Trends over runs, corrected for the speed of the machine of each run."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from resilience_kit.bench.compare.regressions import FASTER, SAME, SLOWER, machine_factor
from resilience_kit.bench.measure.slopes import fall_probability, rise_probability, slope
from resilience_kit.bench.results import BenchmarkResult, BenchmarkSuite

TOO_FEW = "too few runs"
#: A benchmark has to have been run so often before it has a trend.
FEWEST_RUNS = 4
#: At most so many of the newest runs are used, since all pairs of them are compared.
MOST_RUNS = 200
#: A trend below this share is not reported.
MIN_CHANGE = 0.05
#: Seconds; a median of zero would have no logarithm.
_SHORTEST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One benchmark over several runs.

    `medians`: seconds, as on the machine of the first run, the oldest first. `change`: what the Theil-Sen line through their
    logarithms gains from its beginning to its end, as a share of the beginning. `probability`: of a row without a trend that
    moves as clearly. `verdict`: "slower", "faster", "same" or "too few runs".
    """

    name: str
    medians: tuple[float, ...]
    change: float
    probability: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendReport:
    """All trends; `problems`: what of the history could not be read."""

    trends: tuple[Trend, ...]
    problems: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Trend:
        for trend in self.trends:
            if trend.name == name:
                return trend
        raise KeyError(name)


def trends_of(suites: Sequence[BenchmarkSuite], significance: float, problems: Sequence[str] = ()) -> TrendReport:
    """Return the trend of every benchmark over runs, oldest first; of more than 200 runs, the newest count."""
    rows: dict[str, list[BenchmarkResult]] = defaultdict(list)
    for suite in suites[-MOST_RUNS:]:
        for result in suite.results:
            rows[result.name].append(result)
    return TrendReport(trends=tuple(_trend(name, row, significance) for name, row in rows.items()), problems=tuple(problems))


def _trend(name: str, row: Sequence[BenchmarkResult], significance: float) -> Trend:
    medians = tuple(each.time.median / (machine_factor(row[0], each.calibration) or 1.0) for each in row)
    change = _change(medians)
    probability = min(rise_probability(medians), fall_probability(medians))
    if len(medians) < FEWEST_RUNS:
        verdict = TOO_FEW
    elif probability > significance or abs(change) < MIN_CHANGE:
        verdict = SAME
    else:
        verdict = SLOWER if change > 0 else FASTER
    return Trend(name=name, medians=medians, change=change, probability=probability, verdict=verdict)


def _change(row: Sequence[float]) -> float:
    """Compute the change from logarithms: a straight line through values that double would begin below zero."""
    return math.expm1(slope([math.log(max(each, _SHORTEST)) for each in row]) * (len(row) - 1))
