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
        tails=(report.TailRow(title="held", unit="ns", tails=(tail(report, "bare"), tail(report, "kit", slow))),),
    )


def tail(report, contender, slow=1.0):
    """A thousand samples, the longest a hundred times the median."""
    samples = [100.0 * slow] * 980 + [200.0 * slow] * 19 + [10_000.0 * slow]
    return report.Tail.of_samples(contender, "bare", samples)


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


def test_a_tail_is_told_by_nearest_rank(report):
    """Of a thousand samples: the 500th, the 990th and the last; a single one is all three."""
    told = tail(report, "bare")
    assert (1000, 100.0, 200.0, 10_000.0) == (told.samples, told.mid, told.p99, told.high)
    alone = report.Tail.of_samples("kit", "bare", [7.0])
    assert (7.0, 7.0, 7.0) == (alone.mid, alone.p99, alone.high)


def test_tails_are_merged_by_their_medians_and_the_longest_of_all(report):
    """The rarest sample is what they are there for."""
    told = report.merged([one_run(report, slow) for slow in (2.0, 4.0, 3.0)]).tails[0].tails[1]
    assert (3000, 300.0, 600.0, 40_000.0) == (told.samples, told.mid, told.p99, told.high)


def test_tails_are_told_beside_whom_they_are_held_against(report):
    """Each ratio follows the figure that it belongs to."""
    told = report.tails_section(one_run(report, slow=2.0).tails[0])
    assert "| kit | 1 000 | 200 | 2.000 | 400 | 2.000 | 20 000 | bare |" in told.splitlines()


def test_a_row_may_have_another_unit(report):
    """It is the head of its column, and survives JSON and a merge."""
    weighed = report.row("bytes", {"kit": [1100.0]}, {"kit": "kit"}, "bytes each")
    run = report.Report(environment={}, rows=(weighed,), findings=(), garbage=())
    again = report.merged([report.from_json(report.to_json(run))] * 2)
    assert "| contender | bytes each |" in report.costs_section(again.rows[0])
    assert 1100.0 == again.rows[0].of("kit").cost.mid


def test_a_run_of_before_there_were_tails_can_be_read(report):
    """As one without them."""
    document = report.to_json(one_run(report))
    del document["tails"], document["rows"][0]["unit"]
    again = report.from_json(document)
    assert ((), "ns a call") == (again.tails, again.rows[0].unit)
