"""Slower than the baseline, slower from run to run - or only a slower machine."""

import random

import pytest

from resilience_kit.bench import BenchOptions, History, MemoryUse, PerformanceBenchmarker, write_suite
from resilience_kit.bench.compare.regressions import compare
from resilience_kit.bench.compare.trends import trends_of
from resilience_kit.errors import ConfigurationError


def memory(per_call):
    """What a call takes, and nothing else."""
    return MemoryUse(
        calls=1, peak_bytes=0, current_bytes=0, per_call_bytes=float(per_call), kept_per_call_bytes=0.0, overhead=1.0
    )


def verdicts(report):
    """All of them."""
    return [(each.name, each.what, each.verdict) for each in report.comparisons]


@pytest.mark.parametrize(
    ("median", "verdict"), [(1.0, "same"), (1.24, "same"), (1.26, "slower"), (3.0, "slower"), (0.81, "same"), (0.79, "faster")]
)
def test_a_quarter_is_the_threshold(result, suite, median, verdict):
    """Both ways."""
    report = compare(suite(result(median=median)), suite(result()), 0.25)
    assert [("a", "time", verdict)] == verdicts(report)
    assert pytest.approx(median) == report.comparisons[0].ratio
    assert ("slower" == verdict) == bool(report.regressions)


@pytest.mark.parametrize(("then", "now", "verdict"), [(1, 3, "too few samples"), (3, 1, "too few samples"), (2, 2, "slower")])
def test_a_few_samples_prove_nothing(result, suite, then, now, verdict):
    """Ten on both sides are enough; fewer are no regression, however slow."""
    (found,) = compare(suite(result(median=9.0, repeated=now)), suite(result(repeated=then)), 0.25).comparisons
    assert (verdict, verdict == "slower", 1.0, 9.0) == (found.verdict, found.regressed, found.then, found.now)


@pytest.mark.parametrize(("factor", "share"), [(3.0, 1.0), (0.3, 1.0), (3.0, 0.5), (10.0, 0.0)])
def test_a_slow_machine_does_not_cry_wolf(result, suite, factor, share):
    """The calibration took as much longer as the processor's share of the benchmark did."""
    machine = share * factor + 1 - share
    now = result(median=machine, calibration=1e-4 * factor, cpu_share=share)
    then = result(cpu_share=share)
    (found,) = compare(suite(now), suite(then), 0.25).comparisons
    assert ("same", pytest.approx(1.0), pytest.approx(machine)) == (found.verdict, found.ratio, found.machine)


def test_a_fast_machine_does_not_hide_a_regression(result, suite):
    """As quick as the baseline on a machine that is twice as quick: twice as slow."""
    (found,) = compare(suite(result(calibration=0.5e-4)), suite(result()), 0.25).comparisons
    assert ("slower", 2.0, 1.0) == (found.verdict, found.ratio, found.raw_ratio)


def test_noise_is_no_regression(result, suite):
    """The medians differ by half, but the middle halves overlap."""
    report = compare(suite(result(median=1.5, spread=0.6)), suite(result(spread=0.6)), 0.25)
    assert ["same"] == [each.verdict for each in report.comparisons]


@pytest.mark.parametrize("calibrations", [(0.0, 1e-4), (1e-4, 0.0)])
def test_without_a_calibration_times_are_taken_as_they_are(result, suite, calibrations):
    """A clock that stood still says nothing of the machine."""
    then, now = (result(calibration=each) for each in calibrations)
    assert 1.0 == compare(suite(now), suite(then), 0.25).comparisons[0].machine


def test_a_baseline_of_no_time_at_all_is_not_divided_by(result, suite):
    """The ratio is 1."""
    assert 1.0 == compare(suite(result()), suite(result(median=0.0)), 0.25).comparisons[0].ratio


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [(10_000, 13_000, "larger"), (10_000, 7_000, "smaller"), (10_000, 12_000, "same"), (100, 1000, "same"), (0, 5000, "larger")],
)
def test_memory_is_compared_too(result, suite, then, now, verdict):
    """A quarter more, and a KiB at least."""
    report = compare(suite(result(memory=memory(now))), suite(result(memory=memory(then))), 0.25)
    assert [("a", "time", "same"), ("a", "memory", verdict)] == verdicts(report)


def test_missing_and_new_benchmarks_are_told(result, suite):
    """And what else differs."""
    then = suite(result("a"), result("gone"))
    now = suite(result("a"), result("new"), environment={"python": "3.14", "system": "Linux"})
    report = compare(now, then, 0.25)
    assert (("gone",), ("new",), ("python: 3.11 in the baseline, 3.14 now",)) == (report.missing, report.new, report.notes)


def test_what_was_measured_is_held_against_a_file(bench, timer, tmp_path):
    """Without a suite, all that this benchmarker has measured."""
    bench.measure_performance("a", timer.call_taking(1000), 10)
    write_suite(bench.to_suite(), tmp_path / "baseline.json")
    assert () == bench.detect_regressions(tmp_path / "baseline.json").regressions
    bench.measure_performance("a", timer.call_taking(2000), 10)
    (found,) = bench.detect_regressions(str(tmp_path / "baseline.json")).regressions
    assert "a: time 2.00 times the baseline's, slower" == str(found)
    assert () == bench.detect_regressions(bench.to_suite(), bench.to_suite()).regressions


def test_the_threshold_is_an_option(result, suite):
    """Everything that is slower at all."""
    bench = PerformanceBenchmarker(BenchOptions(regression_threshold=0))
    assert 1 == len(bench.detect_regressions(suite(result()), suite(result(median=1.01))).regressions)


def test_a_baseline_that_is_none_is_refused(bench, tmp_path):
    """The file and the place are named."""
    (tmp_path / "b.json").write_text('{"name": "s", "timestamp": "t", "duration": "long"}')
    with pytest.raises(ConfigurationError, match=r"none.json: must be readable: No such file"):
        bench.detect_regressions(tmp_path / "none.json")
    with pytest.raises(ConfigurationError, match=r"b.json.duration: must be a finite number"):
        bench.detect_regressions(tmp_path / "b.json")


def runs(result, suite, medians, **more):
    """Suites with a benchmark each."""
    return [suite(result(median=median, **more)) for median in medians]


@pytest.mark.parametrize(
    ("medians", "verdict"),
    [
        ([1.0, 1.1, 1.2, 1.3], "slower"),
        ([1.3, 1.2, 1.1, 1.0], "faster"),
        ([1.0, 1.1, 1.0, 1.1], "same"),
        ([1.0, 2.0, 4.0, 8.0, 16.0], "slower"),
        ([16.0, 8.0, 4.0, 2.0, 1.0], "faster"),
        ([1.0] * 10, "same"),
        ([1.0, 1.001, 1.002, 1.003, 1.004], "same"),
        ([1.0, 2.0, 3.0], "too few runs"),
        ([1.0], "too few runs"),
        ([0.0] * 4, "same"),
    ],
)
def test_trends(bench, result, suite, medians, verdict):
    """A direction that is more than chance and amounts to 5 %, of four runs at least."""
    trend = bench.analyze_performance_trends(runs(result, suite, medians))["a"]
    assert (verdict, tuple(medians)) == (trend.verdict, trend.medians)


def test_the_change_is_that_of_the_line(bench, result, suite):
    """From 1 to 2 is once more; one wild run does not count."""
    medians = [1.0 + number / 10 for number in range(11)]
    medians[3] = 50.0
    assert 1.0 == pytest.approx(bench.analyze_performance_trends(runs(result, suite, medians))["a"].change, abs=0.1)


def test_a_machine_that_gets_slower_is_no_trend(bench, result, suite):
    """Every run is as on the machine of the first one."""
    suites = [suite(result(median=factor, calibration=1e-4 * factor)) for factor in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert ("same", 0.0) == (
        bench.analyze_performance_trends(suites)["a"].verdict,
        pytest.approx(bench.analyze_performance_trends(suites)["a"].change),
    )


@pytest.mark.slow
def test_steady_noise_has_a_trend_as_seldom_as_promised(result, suite):
    """One-sided both ways: about one in ten at 5 %; less, since a small change is not told."""
    draw = random.Random(3)
    found = [
        trends_of(runs(result, suite, [1 + draw.random() for _ in range(10)]), 0.05)["a"].verdict != "same" for _ in range(300)
    ]
    assert sum(found) <= 45


def test_a_history_gives_its_runs_and_its_problems(bench, result, suite, tmp_path):
    """By object or by path; a broken line is told."""
    history = History(tmp_path / "h.jsonl")
    for each in runs(result, suite, [1.0, 1.1, 1.2, 1.3]):
        history.append(each)
    with (tmp_path / "h.jsonl").open("a") as file:
        file.write("{half a line")
    for given in (history, tmp_path / "h.jsonl", str(tmp_path / "h.jsonl")):
        report = bench.analyze_performance_trends(given)
        assert ("slower", 1, True) == (report["a"].verdict, len(report.problems), "line 5" in report.problems[0])
    with pytest.raises(KeyError, match="b"):
        report["b"]


def test_only_the_newest_runs_count(result, suite):
    """All pairs of them are looked at, so there are 200 at most."""
    trend = trends_of(runs(result, suite, [9.0] * 50 + [1.0] * 200), 0.05)["a"]
    assert (200, "same") == (len(trend.medians), trend.verdict)
