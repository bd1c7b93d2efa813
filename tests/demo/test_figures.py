"""The demo's figures: what is counted where, and that nothing but the recording goes in."""

from __future__ import annotations

import json

import pytest

from resilience_kit.cli.demo.figures import OUTAGE, errors, figures, goals, percentile, report
from resilience_kit.cli.demo.recording import CallRecord, Move, Recording, Side
from resilience_kit.cli.demo.scenario import Phase, Scenario

SCENARIO = Scenario(seed=7, duration=12.0, rate=100.0)


def recording() -> Recording:
    """Ten calls a side: one before, four in each half of the outage, one after."""
    times = [1.0, *(4.0, 4.5, 5.0, 5.5), *(6.0, 6.5, 7.0, 7.5), 9.0]
    errors_seen = [None, *["HTTP 503"] * 4, *["ConnectError"] * 4, None]
    made = Recording(SCENARIO)
    for side in made.sides:
        side.issued = len(times)
    made.plain.calls = [CallRecord(at, at + 0.02, error) for at, error in zip(times, errors_seen, strict=True)]
    made.plain.sent, made.plain.received = times, [at for at in times if not 6.0 <= at < 8.0]
    made.kit.calls = [CallRecord(at, max(at + 0.02, 8.1 if 4.0 <= at < 8.0 else 0.0)) for at in times]
    made.kit.sent = [1.0, 4.0, *[8.1] * 8, 9.0]
    made.kit.received = made.kit.sent
    made.kit.moves = [Move(4.1, "open"), Move(8.0, "half_open"), Move(8.1, "closed")]
    made.kit.retries = 1
    return made


def test_calls_belong_to_the_time_of_their_issue() -> None:
    """A call issued in the outage and answered after it counts for the outage."""
    during = figures(recording().kit, SCENARIO, OUTAGE)
    assert (8, 8, 1, 1) == (during.calls, during.answered, during.sent, during.received)
    assert pytest.approx(4100.0) == during.p95_ms


def test_phases_add_up_to_the_whole() -> None:
    """Every call, attempt and request is in exactly one phase."""
    for side in recording().sides:
        parts = [figures(side, SCENARIO, [phase]) for phase in Phase]
        whole = figures(side, SCENARIO)
        assert (whole.calls, whole.answered, whole.sent, whole.received) == tuple(
            sum(getattr(part, name) for part in parts) for name in ("calls", "answered", "sent", "received")
        )


def test_goals_compare_with_the_plain_client() -> None:
    """One attempt against eight is an eighth, which is too much; all calls outside the outage were answered."""
    found = goals(recording())
    assert (1.0, 0.125, False) == (found.outside, found.upstream, found.met)


def test_goals_are_met_at_their_limits() -> None:
    """One attempt against twenty is exactly the 5 % that are allowed."""
    made = recording()
    made.plain.sent = [5.0] * 20
    assert goals(made).met


def test_goals_without_an_attempt_of_the_plain_client() -> None:
    """Nothing to compare with is no load."""
    assert (1.0, 0.0) == (goals(Recording(SCENARIO)).outside, goals(Recording(SCENARIO)).upstream)


def test_errors_are_counted_by_name() -> None:
    """The most frequent comes first."""
    calls = [CallRecord(0, 1, name) for name in ("a", "b", None, "b")]
    assert [("b", 2), ("a", 1)] == list(errors(calls).items())


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 6), (0.95, 10), (1.0, 10)])
def test_percentile_is_a_value_that_occurred(share: float, expected: float) -> None:
    """Of one to ten, whatever their order."""
    assert expected == percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], share)


def test_percentile_of_nothing_is_zero() -> None:
    """Before the first call there is no latency."""
    assert percentile([], 0.95) == 0.0


def test_the_report_is_json_with_both_clients() -> None:
    """The report goes through JSON unchanged and names what was measured."""
    made = report(recording())
    assert made == json.loads(json.dumps(made))
    assert {"plain client", "resilience_kit"} == set(made["clients"])
    assert {"start": 4.0, "connections_refused_from": 6.0, "end": 8.0} == made["outage_s"]
    assert [{"at": 4.1, "state": "open"}, {"at": 8.0, "state": "half_open"}, {"at": 8.1, "state": "closed"}] == made["clients"][
        "resilience_kit"
    ]["breaker"]
    assert 0.2 == made["clients"]["plain client"]["total"]["success_rate"]


def test_a_side_begins_closed() -> None:
    """Before the first move the breaker is closed."""
    assert "closed" == Side("any").state
