"""The benchmark runs and looks whether it calls what it says it calls. No time is judged here."""

import json

import pytest


@pytest.fixture
def harness():
    """The module, whose folder is on the path by now."""
    import harness

    return harness


def contender(harness, call, reaches=1):
    """A contender around a callee that counts."""
    callee = harness.Callee(harness.steady)
    measure = harness.calls(call(callee.function))
    return harness.Contender(name="kit", against="kit", callee=callee, measure=measure, reaches=reaches)


def test_a_measurement_counts_the_calls_of_the_callee(harness):
    """Twice a call is right for a contender that calls twice."""

    def twice(function):
        return lambda x: (function(x), function(x))

    assert harness.measured(contender(harness, twice, reaches=2), 7) > 0


@pytest.mark.parametrize("reaches", [0, 2])
def test_a_callee_that_is_not_reached_as_often_as_expected_ends_the_benchmark(harness, reaches):
    """Neither skipped calls nor repeated ones go unnoticed."""
    with pytest.raises(harness.MiscountError, match=f"kit: 7 calls reached the callee 7 times, not {7 * reaches}"):
        harness.measured(contender(harness, lambda function: function, reaches), 7)


def test_calls_that_should_fail_have_to(harness):
    """A success among refusals is not measured as one."""
    with pytest.raises(harness.MiscountError, match="a call succeeded"):
        harness.errors(lambda x: x, ValueError)(1)


def test_the_number_of_calls_fills_the_time(harness):
    """It is doubled until a measurement takes at least half of the seconds wanted, and stays a multiple of the step."""
    callee = harness.Callee(harness.steady)

    def measure(number):
        for _ in range(number):
            callee.function(1)
        return number * 1000

    slow = harness.Contender(name="slow", against="slow", callee=callee, measure=measure)
    assert (30, 10 * 64) == (harness.fitting(slow, 0.0, 25, 10), harness.fitting(slow, 0.001, 1, 10))


@pytest.mark.slow
def test_a_quick_run_covers_every_row_and_every_target(tmp_path, capsys):
    """Every contender of every row reaches its callee as often as it should, or the run would not have ended well."""
    import overhead

    written = tmp_path / "run.json"
    assert 0 == overhead.main(["--quick", "--json", str(written)])
    run = json.loads(written.read_text())
    assert len(overhead.TARGETS) == len(run["findings"])
    assert {overhead.SUCCESS, overhead.ASYNC_REFUSAL, overhead.ASYNC_RETRIED, overhead.THREADS} < {
        row["title"] for row in run["rows"]
    }
    assert [] == [each for each in run["garbage"] if each["promised"] and each["objects"]]
    assert "## Targets" in capsys.readouterr().out


def test_runs_can_be_merged(tmp_path, capsys):
    """Files of earlier runs become one table; `--check` tells by the exit code whether the targets are met."""
    import overhead

    written = tmp_path / "run.json"
    overhead.main(["--quick", "--only", "circuit open", "--json", str(written)])
    run = json.loads(written.read_text())
    run["findings"][0]["ratio"] = {"low": 9.0, "mid": 9.0, "high": 9.0}
    written.write_text(json.dumps(run))
    assert (0, 1) == tuple(overhead.main(["--merge", *[str(written)] * 2, *more]) for more in ([], ["--check"]))
    assert "runs 2" in capsys.readouterr().out
