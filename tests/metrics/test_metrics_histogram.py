"""Latencies within 6 %, whatever they are."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilience_kit.metrics import LatencyHistogram, bucket_index, bucket_midpoint

LATENCY = st.one_of(st.integers(0, 100), st.integers(8, 2**40), st.sampled_from([0, 1, 7, 8, 15, 16, 17, 1000, 2**20 - 1, 2**40]))


def near(exact: float, got: float) -> bool:
    """Within 6 %."""
    return abs(got - exact) <= 0.06 * exact + 1e-6


@given(LATENCY)
@example(8)
@example(16)
@example(2**62)
def test_a_buckets_middle_is_near_all_that_is_in_it(latency):
    """In both directions, at both ends."""
    assert near(latency, bucket_midpoint(bucket_index(latency)))


@given(st.integers(0, 2**45))
def test_buckets_are_in_order(latency):
    """Without gaps: the next latency is in the same bucket or in the next one."""
    assert bucket_index(latency + 1) - bucket_index(latency) in {0, 1}


@given(st.lists(LATENCY, min_size=1, max_size=300))
@example([0])
@example([7])
@example([16])
@example([8, 15, 2**40])
def test_the_summary_is_near_the_exact_one(latencies):
    """Quantiles by nearest rank, mean and maximum."""
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)
    ranked = sorted(latencies)
    summary = histogram.summary()
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        assert near(ranked[math.ceil(share * len(ranked)) - 1], summary[name] * 1e6), name
    assert near(sum(ranked) / len(ranked), summary["mean"] * 1e6)
    assert len(latencies) == histogram.count == histogram.total


def test_no_samples_no_latency():
    """All zero."""
    assert dict.fromkeys(("mean", "p50", "p95", "p99", "max"), 0.0) == LatencyHistogram().summary()


def test_a_reset_forgets_the_samples_and_keeps_the_total():
    """What comes afterwards is counted from zero."""
    histogram = LatencyHistogram()
    histogram.add(1000)
    histogram.reset()
    assert (0, 1) == (histogram.count, histogram.total)
    histogram.add(2_000_000)
    assert (1, 2) == (histogram.count, histogram.total)
    assert 2.0 == pytest.approx(histogram.summary()["p50"], rel=0.06)


@given(st.lists(st.integers(1, 10**11), min_size=1), st.floats(0.5, 0.999))
def test_what_a_share_has_not_exceeded_is_no_less_than_its_quantile(samples, share):
    """And at most an eighth more; a hedge sent by it is not sent too early."""
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.add(sample)
    exact = sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
    found = histogram.quantile_upper_bound(share, 1) * 1e9
    assert exact <= found <= exact * 1.125 + 1


def test_what_is_not_exceeded_is_unknown_for_too_few():
    """Fewer than asked for."""
    histogram = LatencyHistogram()
    histogram.add(100)
    assert (None, True) == (histogram.quantile_upper_bound(0.95, 2), histogram.quantile_upper_bound(0.95, 1) is not None)
