"""Few samples exactly, many within 6 %."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.bench.measure.samples import MEASURES, Samples, summarize

WHOLE = st.integers(0, 10**12)
PERCENTILES = {"p25": 25, "median": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}


def summary_of(values, exact=10_000):
    """What so many samples say."""
    samples = Samples(exact)
    for value in values:
        samples.add(value)
    return samples.summary()


def test_without_samples_all_is_zero():
    """Nothing was measured, and nothing raises."""
    assert {*range(1)} == {getattr(summarize([]), name) for name in (*MEASURES, "count", "outliers")}
    assert summarize([]) == Samples(10).summary()


@pytest.mark.parametrize("exact", [0, 10])
def test_a_single_sample_is_its_own_summary(exact):
    """Every percentile is the sample, and it does not spread."""
    summary = summary_of([12_345], exact)
    assert {12_345.0} == {getattr(summary, name) for name in MEASURES if name != "stdev"}
    assert (1, 0.0, 0, 0.0) == (summary.count, summary.stdev, summary.outliers, summary.spread)


@given(st.lists(WHOLE, min_size=2, max_size=300))
def test_few_samples_are_summarized_as_the_statistics_module_does(values):
    """Mean, standard deviation and percentiles are the module's own."""
    summary = summary_of(values)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert (statistics.mean(values), statistics.stdev(values)) == (summary.mean, summary.stdev)
    assert {name: cuts[share - 1] for name, share in PERCENTILES.items()} == {
        name: getattr(summary, name) for name in PERCENTILES
    }
    assert (min(values), max(values), len(values), True) == (summary.minimum, summary.maximum, summary.count, summary.exact)


@given(st.lists(WHOLE, min_size=1, max_size=300))
def test_many_samples_keep_an_exact_mean_and_percentiles_within_6_percent(values):
    """Past the limit no sample is kept; sums are whole numbers, buckets answer for the rest."""
    summary = summary_of(values, exact=0)
    ordered = sorted(values)
    assert not summary.exact
    assert (statistics.mean(values), min(values), max(values)) == (summary.mean, summary.minimum, summary.maximum)
    assert pytest.approx(statistics.stdev(values) if len(values) > 1 else 0.0) == summary.stdev
    for name, share in PERCENTILES.items():
        rank = ordered[-(-share * len(values) // 100) - 1]
        assert pytest.approx(rank, rel=0.06) == getattr(summary, name)


def test_memory_is_bounded_however_many_samples_there_are():
    """At the limit all are held, beyond it none, and the buckets do not grow with the number."""
    samples = Samples(exact=1000)
    for value in range(1000):
        samples.add(value)
    assert 1000 == samples.kept
    for value in range(50_000):
        samples.add(value)
    assert 0 == samples.kept
    assert len(samples.distribution()) < 200
    assert 51_000 == samples.summary().count == sum(count for _, count in samples.distribution())


@pytest.mark.parametrize("exact", [0, 1000])
def test_outliers_are_what_is_far_from_the_middle_half(exact):
    """Tukey's fences, on both sides."""
    assert 2 == summary_of([*range(1000, 1100), 100_000, 1], exact).outliers


def test_a_summary_changes_its_unit():
    """Counts stay as they are."""
    summary = summarize([2, 4, 6]).divided(2)
    assert (2.0, 1.0, 3.0, 3) == (summary.mean, summary.minimum, summary.maximum, summary.count)


def test_the_spread_of_nothing_is_zero():
    """A median of zero divides nothing."""
    assert (0.0, 1.0) == (summarize([0, 0]).spread, summarize([1, 2, 3]).spread * 2)
