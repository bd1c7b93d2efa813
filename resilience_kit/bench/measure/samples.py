"""Statistics of many samples in bounded memory: exact as long as they are few, within 6 % when they are many.

Samples are whole numbers (nanoseconds, bytes), so their sum and the sum of their squares, and with them mean and standard
deviation, are exact however many there are.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from resilience_kit.bench.json_reader import Amount, Count, Flag
from resilience_kit.metrics import bucket_index, bucket_midpoint

#: How far outside the middle half, in widths of that half, a sample is an outlier (Tukey, Exploratory Data Analysis, 1977).
FENCE = 1.5
_COARSE = 0.125
#: The fields of a summary that are in the unit of the samples.
MEASURES = ("mean", "stdev", "minimum", "p25", "median", "p75", "p90", "p95", "p99", "maximum")
_SHARES = {"p25": 25, "median": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Statistics of samples. All are 0.0 without samples, and all but `stdev` are the sample when there is one.

    `stdev` is the one of a sample (divisor n - 1), 0.0 for a single one. Percentiles are those of
    `statistics.quantiles(..., n=100, method="inclusive")`; where `exact` is false, they are the nearest rank's bucket's middle,
    at most 6 % off. `outliers` counts what is more than 1.5 widths of the middle half outside of it.
    """

    count: Count
    mean: Amount
    stdev: Amount
    minimum: Amount
    p25: Amount
    median: Amount
    p75: Amount
    p90: Amount
    p95: Amount
    p99: Amount
    maximum: Amount
    outliers: Count
    exact: Flag = True

    @property
    def spread(self) -> float:
        """Return the interquartile range as a share of the median; 0.0 when the median is 0."""
        return (self.p75 - self.p25) / self.median if self.median else 0.0

    def divided(self, by: float) -> Summary:
        """Return the summary in another unit."""
        return replace(self, **{name: getattr(self, name) / by for name in MEASURES})


_NOTHING = Summary(
    count=0, mean=0.0, stdev=0.0, minimum=0.0, p25=0.0, median=0.0, p75=0.0, p90=0.0, p95=0.0, p99=0.0, maximum=0.0, outliers=0
)


def summarize(values: Sequence[float]) -> Summary:
    """Summarize finite numbers, also none or one, with the `statistics` module."""
    if not values:
        return _NOTHING
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [float(values[0])] * 99
    percentiles = {name: float(cuts[share - 1]) for name, share in _SHARES.items()}
    return Summary(
        count=len(values),
        mean=float(statistics.mean(values)),
        stdev=float(statistics.stdev(values)) if len(values) > 1 else 0.0,
        minimum=float(min(values)),
        **percentiles,
        maximum=float(max(values)),
        outliers=_outside(sorted(values), percentiles["p25"], percentiles["p75"]),
        exact=True,
    )


def _fences(p25: float, p75: float, blur: float = 0.0) -> tuple[float, float]:
    """Return both fences of outliers; `blur`: the width of a bucket as a share, the least width of the middle half."""
    width = FENCE * max(p75 - p25, blur * p75)
    return p25 - width, p75 + width


def _outside(ordered: Sequence[float], p25: float, p75: float) -> int:
    low, high = _fences(p25, p75)
    return bisect_left(ordered, low) + len(ordered) - bisect_right(ordered, high)


class Samples:
    """Collects whole numbers from 0 on: at most `exact` of them, and counts in some hundred buckets.

    The buckets are those of the latency histogram: eight to each doubling. Not thread-safe.
    """

    def __init__(self, exact: int) -> None:
        self._limit = exact
        self._kept: list[int] = []
        self._buckets: Counter[int] = Counter()
        self._count = self._total = self._squares = self._largest = 0
        self._smallest: float = math.inf

    def add(self, value: int) -> None:
        """Add a sample."""
        self._count += 1
        self._total += value
        self._squares += value * value
        self._smallest, self._largest = min(self._smallest, value), max(self._largest, value)
        self._buckets[bucket_index(value)] += 1
        if self._count <= self._limit:
            self._kept.append(value)
        else:
            self._kept.clear()

    @property
    def kept(self) -> int:
        """Return how many samples are kept individually."""
        return len(self._kept)

    def distribution(self) -> list[tuple[float, int]]:
        """Return values and the number of samples around each, in ascending order."""
        return [(bucket_midpoint(bucket), self._buckets[bucket]) for bucket in sorted(self._buckets)]

    def summary(self) -> Summary:
        """Return the statistics so far."""
        return summarize(self._kept) if self._count == len(self._kept) else self._sketched()

    def _sketched(self) -> Summary:
        percentiles = dict(zip(_SHARES, self._ranks(list(_SHARES.values())), strict=True))
        low, high = _fences(percentiles["p25"], percentiles["p75"], _COARSE)
        return Summary(
            count=self._count,
            mean=self._total / self._count,
            stdev=self._stdev(),
            minimum=float(self._smallest),
            **percentiles,
            maximum=float(self._largest),
            outliers=sum(samples for middle, samples in self._buckets_inside() if not low <= middle <= high),
            exact=False,
        )

    def _stdev(self) -> float:
        """Compute it from exact sums: (n * sum of squares - square of sum) / n / (n - 1)."""
        if self._count == 1:
            return 0.0
        return math.sqrt((self._count * self._squares - self._total**2) / (self._count * (self._count - 1)))

    def _buckets_inside(self) -> Iterator[tuple[float, int]]:
        for middle, samples in self.distribution():
            yield min(max(middle, self._smallest), self._largest), samples

    def _ranks(self, percents: Sequence[int]) -> Iterator[float]:
        """Yield, for ascending percentages, the bucket of the sample of that nearest rank."""
        buckets = self._buckets_inside()
        middle, seen = next(buckets)
        for percent in percents:
            while seen * 100 < percent * self._count:
                middle, samples = next(buckets)
                seen += samples
            yield middle
