"""Tests whether a series rises, and how fast, without assumptions about the distribution of its noise.

Both use all pairs of numbers, so a series has to be short: callers pass at most some hundred.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import combinations


def rise_probability(row: Sequence[float]) -> float:
    """Return the probability that a series without a trend rises at least as clearly as this one: near 0 for a sure rise.

    The Mann-Kendall test (H. B. Mann, Econometrica 13, 1945), one-sided, with the variance corrected for ties and the
    continuity correction of M. G. Kendall, Rank Correlation Methods, 1975:
    S = number of rising pairs - number of falling pairs; var = (n(n-1)(2n+5) - sum over ties of t(t-1)(2t+5)) / 18;
    z = (S - 1) / sqrt(var) for S > 0. The normal distribution is near enough from about ten numbers on.
    """
    score = sum((later > earlier) - (later < earlier) for earlier, later in combinations(row, 2))
    variance = (_pairs_variance(len(row)) - sum(map(_pairs_variance, Counter(row).values()))) / 18
    if score <= 0 or not variance:
        return 1.0 if score < 0 else 0.5
    return statistics.NormalDist().cdf(-(score - 1) / math.sqrt(variance))


def fall_probability(row: Sequence[float]) -> float:
    """Return the same probability for a fall."""
    return rise_probability([-each for each in row])


def _pairs_variance(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)


def slope(row: Sequence[float]) -> float:
    """Return the median slope of all pairs, per step; 0.0 for fewer than two numbers.

    The estimator of H. Theil, 1950, and P. K. Sen, Journal of the American Statistical Association 63, 1968: up to 29 % of the
    numbers may be wild without moving it far.
    """
    pairs = combinations(enumerate(row), 2)
    slopes = [(later - earlier) / (j - i) for (i, earlier), (j, later) in pairs]
    return statistics.median(slopes) if slopes else 0.0
