"""The demo's figures: what is counted where, and that nothing but the recording goes in."""

from __future__ import annotations

import json

import pytest

from resilience_kit.cli.demo.recording import BreakerTransition, CallRecord, Recording, Side
from resilience_kit.cli.demo.run_statistics import (
    OUTAGE,
    SlowCalls,
    burst,
    client_statistics,
    errors,
    goals,
    percentile,
    report,
    slow_calls,
)
from resilience_kit.cli.demo.scenario import Phase, Scenario

SCENARIO = Scenario(seed=7, duration=16.0, rate=100.0)


def recording() -> Recording:
    """Ten calls a side: one before, four in each half of the outage, one after."""
    times = [1.0, *(4.0, 4.5, 5.0, 5.5), *(6.0, 6.5, 7.0, 7.5), 9.0]
    errors_seen = [None, *["HTTP 503"] * 4, *["ConnectError"] * 4, None]
    made = Recording(SCENARIO)
    for side in made.sides:
        side.issued = len(times)
    made.unprotected.calls = [CallRecord(at, at + 0.02, error) for at, error in zip(times, errors_seen, strict=True)]
    made.unprotected.sent, made.unprotected.received = times, [at for at in times if not 6.0 <= at < 8.0]
    made.protected.calls = [CallRecord(at, max(at + 0.02, 8.1 if 4.0 <= at < 8.0 else 0.0)) for at in times]
    made.protected.sent = [1.0, 4.0, *[8.1] * 8, 9.0]
    made.protected.received = made.protected.sent
    made.protected.transitions = [
        BreakerTransition(4.1, "open"),
        BreakerTransition(8.0, "half_open"),
        BreakerTransition(8.1, "closed"),
    ]
    made.protected.retries = 1
    return made


def test_calls_belong_to_the_time_of_their_issue() -> None:
    """A call issued in the outage and answered after it counts for the outage."""
    during = client_statistics(recording().protected, SCENARIO, OUTAGE)
    assert (8, 8, 1, 1) == (during.calls, during.answered, during.sent, during.received)
    assert pytest.approx(4100.0) == during.p95_ms


def test_phases_add_up_to_the_whole() -> None:
    """Every call, attempt and request is in exactly one phase."""
    for side in recording().sides:
        parts = [client_statistics(side, SCENARIO, [phase]) for phase in Phase]
        whole = client_statistics(side, SCENARIO)
        assert (whole.calls, whole.answered, whole.sent, whole.received) == tuple(
            sum(getattr(part, name) for part in parts) for name in ("calls", "answered", "sent", "received")
        )


def test_goals_compare_with_the_plain_client() -> None:
    """Of eight attempts of the plain client the kit sent one, an eighth, which is too much; all other calls were answered."""
    found = goals(recording())
    assert (1.0, 0.125, False) == (found.outside, found.upstream, found.met)


def test_goals_miss_a_recovery_that_comes_too_fast() -> None:
    """Twice the normal rate in one second after the outage is allowed, one attempt more is not."""
    made = recording()
    made.unprotected.sent = [5.0] * 40
    made.protected.sent = [8.0] * 200
    assert (2.0, True) == (goals(made).burst, goals(made).met)
    made.protected.sent.append(8.99)
    assert (2.01, False) == (goals(made).burst, goals(made).met)


def test_burst_counts_the_fullest_second_after_the_outage() -> None:
    """Seconds begin at any attempt, and what was sent before the end of the outage is no part of them."""
    side = Side("any", sent=[7.9] * 50 + [8.4, 9.0, 9.3, 9.39, 9.4])
    assert 0.04 == burst(side, SCENARIO)
    assert 0.0 == burst(Side("idle"), SCENARIO)


def test_waits_are_those_of_answered_calls() -> None:
    """A call that failed late has waited in vain, and one that was answered within a second has not waited."""
    side = Side("any", calls=[CallRecord(0.0, 1.0), CallRecord(0.0, 2.5), CallRecord(1.0, 2.25), CallRecord(0.0, 9.0, "x")])
    assert SlowCalls(2, 2.5, 2.5) == slow_calls(side)
    assert SlowCalls(0, 0.0, 0.0) == slow_calls(Side("idle"))


def test_goals_are_met_at_their_limits() -> None:
    """One attempt against twenty is exactly the 5 % that are allowed."""
    made = recording()
    made.unprotected.sent = [5.0] * 20
    assert goals(made).met


def test_goals_without_an_attempt_of_the_plain_client() -> None:
    """Nothing to compare with is no load."""
    found = goals(Recording(SCENARIO))
    assert (1.0, 0.0, 0.0) == (found.outside, found.upstream, found.burst)


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


def test_the_report_is_json_with_all_clients() -> None:
    """The report goes through JSON unchanged and names what was measured."""
    made = report(recording())
    assert made == json.loads(json.dumps(made))
    assert {"plain client", "SDK, 2 retries", "resilience_kit"} == set(made["clients"])
    assert {"start": 4.0, "connections_refused_from": 6.0, "end": 8.0} == made["outage_s"]
    assert [{"at": 4.1, "state": "open"}, {"at": 8.0, "state": "half_open"}, {"at": 8.1, "state": "closed"}] == made["clients"][
        "resilience_kit"
    ]["breaker"]
    assert 0.2 == made["clients"]["plain client"]["total"]["success_rate"]


def test_a_side_begins_closed() -> None:
    """Before the first move the breaker is closed."""
    assert "closed" == Side("any").state
