"""What the benchmark's report makes of samples."""

import json

import pytest


@pytest.fixture
def report():
    """The module, whose folder is on the path by now."""
    import report

    return report


def one_run(report, slow=1.0, objects=0):
    """A run of one row with one target, in which the kit is `slow` times its usual cost."""
    samples = {"bare": [100.0, 200.0, 400.0], "kit": [80.0 * slow, 150.0 * slow, 280.0 * slow]}
    target = report.Target(row="success", contender="kit", against="bare", limit=0.78)
    return report.Report(
        environment={"Python": "3.x"},
        rows=(report.row("success", samples, {"bare": "bare", "kit": "bare"}),),
        findings=(report.finding(target, samples),),
        garbage=(report.Garbage(row="success", contender="kit", calls=10, objects=objects, promised=True),),
    )


def test_a_spread_is_the_median_between_the_quartiles(report):
    """Of five samples in any order: the second, the third and the fourth."""
    assert report.Spread(2.0, 3.0, 4.0) == report.Spread.of_samples([5.0, 1.0, 3.0, 2.0, 4.0])


def test_a_single_sample_has_no_spread(report):
    """One sample is its own median and quartiles."""
    assert report.Spread(7.0, 7.0, 7.0) == report.Spread.of_samples([7.0])


def test_ratios_are_formed_round_by_round(report):
    """A machine that is four times as slow in one round leaves the ratio as it is."""
    assert report.Spread(0.5, 0.5, 0.5) == report.ratios([50.0, 200.0, 50.0], [100.0, 400.0, 100.0])


def test_samples_of_different_rounds_are_not_divided(report):
    """A sample too few is a mistake, not a shorter table."""
    with pytest.raises(ValueError, match="argument 2 is longer"):
        report.ratios([1.0], [1.0, 2.0])


def test_a_target_is_met_up_to_its_limit(report):
    """The median of the ratios decides: 0.75 is within 0.78, 0.80 is not, 0.78 itself is."""
    target = report.Target(row="success", contender="kit", against="bare", limit=0.78)
    verdicts = [report.finding(target, {"bare": [100.0], "kit": [cost]}).holds for cost in (75.0, 78.0, 80.0)]
    assert [True, True, False] == verdicts


def test_garbage_counts_only_where_none_is_promised(report):
    """Other libraries may leave what they like."""
    kinds = [(0, True), (3, True), (3, False)]
    told = [report.Garbage(row="r", contender="c", calls=1, objects=objects, promised=promised) for objects, promised in kinds]
    assert [True, False, True] == [each.holds for each in told]


@pytest.mark.parametrize(("slow", "objects", "holds"), [(1.0, 0, True), (2.0, 0, False), (1.0, 1, False)])
def test_a_report_holds_when_every_target_does(report, slow, objects, holds):
    """One ratio over its limit, or one piece of garbage, is enough to fail."""
    assert holds is one_run(report, slow, objects).holds


def test_runs_are_merged_by_their_medians(report):
    """Of three runs the middle one is told, with the fastest and the slowest around it; of garbage, the most."""
    runs = [one_run(report, slow, objects) for slow, objects in ((1.0, 0), (1.2, 4), (1.1, 1))]
    together = report.merged(runs)
    kit = together.rows[0].figures[1]
    assert (150.0, 165.0, 180.0) == tuple(round(value, 6) for value in (kit.cost.low, kit.cost.mid, kit.cost.high))
    assert (0.75, 0.825, 0.9) == tuple(
        round(value, 6) for value in (kit.ratio.low, together.findings[0].ratio.mid, together.findings[0].ratio.high)
    )
    assert (4, "3") == (together.garbage[0].objects, together.environment["runs"])


def test_a_report_survives_json(report):
    """What was written can be read for a merge, and says in words what holds."""
    written = report.to_json(one_run(report, slow=2.0))
    assert one_run(report, slow=2.0) == report.from_json(json.loads(json.dumps(written)))
    assert (False, False) == (written["holds"], written["findings"][0]["holds"])


def test_the_markdown_has_the_verdict_in_the_target_s_line(report):
    """A reader finds ratio, spread, limit and verdict beside each other."""
    lines = report.to_markdown(one_run(report)).splitlines()
    assert "| success | kit | bare | 0.750 | 0.725 - 0.775 | 0.78 | pass |" in lines
    assert "| kit | 150 | 115 - 215 | 0.750 | 0.725 - 0.775 | bare |" in lines
    assert "| success | kit 0 | pass |" in lines


def test_thousands_are_set_apart(report):
    """Long numbers stay readable."""
    samples = {"tenacity": [12345.0]}
    told = report.row("success", samples, {"tenacity": "tenacity"})
    shown = report.to_markdown(report.Report(environment={}, rows=(told,), findings=(), garbage=()))
    assert "| tenacity | 12 345 | 12 345 - 12 345 | 1.000 |" in shown
