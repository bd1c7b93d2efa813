"""Opening by the share of failed or slow calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import ConfigurationError
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState, FailureRateWindow
from resilience_kit.policies.breaker.window import make_window, open_reason


def feed(lab, breaker, calls):
    """F fails, s succeeds, n is neutral; returns the state after each."""
    states = []
    for call in calls:
        token = breaker.acquire()
        if call == "f":
            breaker.on_failure(token, lab.Boom())
        elif call == "s":
            breaker.on_success(token)
        else:
            breaker.release(token)
        states.append(breaker.state.value)
    return states


def test_it_opens_at_the_rate_over_the_last_calls(lab):
    """Half of the last four: old calls leave, neutral ones never enter (invariant 13)."""
    breaker = lab.breaker(window=FailureRateWindow(4))
    assert {"closed"} == set(feed(lab, breaker, "sfnss" + "sss" + "nf" + "s" + "n"))
    assert ["open"] == feed(lab, breaker, "f")
    assert "2 of 4 calls failed" == breaker.metrics["state_changes"][-1]["reason"]


def test_failures_in_a_row_do_not_matter(lab):
    """A window replaces the threshold."""
    breaker = lab.breaker(failure_threshold=1, window=FailureRateWindow(10, failure_rate=1.0))
    assert ["closed"] * 9 == feed(lab, breaker, "f" * 9)
    assert 9 == breaker.failure_count
    assert ["open"] == feed(lab, breaker, "f")


def test_no_judgement_below_the_minimum(lab):
    """`minimum_calls` of any kind have to be seen first."""
    breaker = lab.breaker(window=FailureRateWindow(10, minimum_calls=3))
    assert ["closed", "closed", "open"] == feed(lab, breaker, "ffs")


def test_a_rate_is_met_to_the_last_call(lab):
    """Seven of a hundred is a rate of 0.07, though 0.07 * 100 is a little more than seven in binary."""
    for failed in range(1, 101):
        window = FailureRateWindow(100, failure_rate=failed / 100, slow_call_rate=failed / 100, slow_call_duration=1.0)
        for field in ("failed", "slow"):
            counted = make_window(window)
            for number in range(100):
                assert open_reason(window, counted) is None
                counted.add(0.0, **{"failed": False, "slow": False, field: number < failed})
            assert f"{failed} of 100 calls" in str(open_reason(window, counted))
            counted.add(0.0, failed=False, slow=False)
            assert open_reason(window, counted) is None


def test_seconds_leave_in_twentieths(lab):
    """A time window forgets calls after its size, to a twentieth of it."""
    window = FailureRateWindow(20.0, kind="time", minimum_calls=2)
    breaker = lab.breaker(window=window)
    lab.clock.now = 1000.0
    feed(lab, breaker, "f")
    lab.clock.now = 1000.0 + 20.0
    assert ["closed"] == feed(lab, breaker, "f")
    lab.clock.now += 18.9
    assert ["open"] == feed(lab, breaker, "s")


def test_a_twentieth_is_forgotten_at_its_turn(lab):
    """Not a moment before, and not a fraction of a twentieth after."""
    counted = make_window(FailureRateWindow(20.0, kind="time"))
    kept = []
    for now in (0.99, 19.99, 20.0):
        counted.add(now, failed=False, slow=False)
        kept.append(counted.calls)
    assert [1, 2, 2] == kept


def test_a_time_window_works_below_zero(lab):
    """A clock may begin anywhere: what is older than the window is forgotten all the same."""
    counted = make_window(FailureRateWindow(20.0, kind="time"))
    for now in (-0.5, 19.4):
        counted.add(now, failed=False, slow=False)
    assert 1 == counted.calls


def test_a_time_window_does_not_grow_with_traffic(lab):
    """It keeps a twentieth each, however many calls come."""
    counted = make_window(FailureRateWindow(20.0, kind="time"))
    for number in range(1000):
        counted.add(number / 10.0, failed=False, slow=False)
    assert (20, 200) == (len(counted._entries), counted.calls)


def test_a_time_window_wants_ten_calls_by_itself(lab):
    """The default minimum of a time window is ten, of a count window its size."""
    breaker = lab.breaker(window=FailureRateWindow(60.0, kind="time"))
    assert ["closed"] * 9 + ["open"] == feed(lab, breaker, "f" * 10)
    assert (7, 7) == (FailureRateWindow(7).effective_minimum_calls, FailureRateWindow(7, minimum_calls=7).effective_minimum_calls)


def test_slow_calls_open_it_too(lab):
    """Calls above the duration are slow; their share opens the circuit though all succeed, the boundary itself is not slow."""
    breaker = lab.breaker(window=FailureRateWindow(4, slow_call_duration=1.0, slow_call_rate=0.5))

    def call(seconds):
        def body():
            lab.clock.now += seconds

        breaker.call(body)

    for seconds in (1.0, 0.0, 1.5):
        call(seconds)
    assert breaker.closed
    call(1.001)
    assert (CircuitState.OPEN, "2 of 4 calls were slow") == (breaker.state, breaker.metrics["state_changes"][-1]["reason"])


def test_a_permit_knows_how_long_it_was_out(lab):
    """A guard's call is slow from its admission to its settlement."""
    breaker = lab.breaker(window=FailureRateWindow(1, slow_call_duration=1.0))
    permit = breaker.admit()
    lab.clock.now += 1.001
    permit.settle(Outcome(OutcomeKind.SUCCESS))
    assert "1 of 1 calls were slow" == breaker.metrics["state_changes"][-1]["reason"]


def test_a_failed_call_may_be_slow_too(lab):
    """It counts under both."""
    breaker = lab.breaker(window=FailureRateWindow(2, failure_rate=1.0, slow_call_duration=1.0, slow_call_rate=0.5))

    def fail_slowly():
        lab.clock.now += 2
        raise lab.Boom

    with pytest.raises(lab.Boom):
        breaker.call(fail_slowly)
    breaker.call(int)
    assert "1 of 2 calls were slow" == breaker.metrics["state_changes"][-1]["reason"]


def test_a_failed_call_need_not_be_slow(lab):
    """Its seconds are those of its own run."""
    breaker = lab.breaker(window=FailureRateWindow(2, failure_rate=1.0, slow_call_duration=1.0, slow_call_rate=0.5))
    lab.fail(breaker)
    breaker.call(int)
    assert breaker.closed


def test_a_call_of_unknown_duration_is_not_slow(lab):
    """Who tells no seconds has not been slow, whether the call ended well or badly."""
    breaker = lab.breaker(window=FailureRateWindow(4, slow_call_duration=1e-3, slow_call_rate=0.25))
    assert ["closed"] * 4 == feed(lab, breaker, "ssfs")


def test_a_slow_trial_opens_again(lab):
    """A trial that succeeds too slowly has not shown that the service is back."""
    breaker = lab.breaker(window=FailureRateWindow(4, slow_call_duration=1.0))
    breaker.state = "half_open"
    breaker.on_success(breaker.acquire(), 1.5)
    assert (CircuitState.OPEN, "the trial was slow") == (breaker.state, breaker.metrics["state_changes"][-1]["reason"])
    assert 0 == breaker.failure_count
    lab.clock.now += 10
    breaker.on_success(breaker.acquire(), 1.0)
    assert breaker.closed


def test_a_window_is_empty_after_a_close(lab):
    """What opened the circuit last time does not open it again."""
    breaker = lab.breaker(window=FailureRateWindow(4, minimum_calls=2))
    feed(lab, breaker, "ff")
    lab.clock.now += 10
    assert ["closed", "closed", "open"] == feed(lab, breaker, "sff")
    breaker.reset()
    breaker.call(int)
    lab.fail(breaker)
    assert "1 of 2 calls failed" == breaker.metrics["state_changes"][-1]["reason"]


@given(st.lists(st.tuples(st.sampled_from("sf"), st.booleans(), st.floats(0, 30)), max_size=60), st.integers(1, 12))
def test_counts_are_those_of_a_list(calls, size):
    """Both tallies agree with one that keeps every call and looks back."""
    count, seconds = FailureRateWindow(size), FailureRateWindow(20.0, kind="time")
    by_count, by_time = make_window(count), make_window(seconds)
    now, kept = 0.0, []
    for how, slow, pause in calls:
        now += pause
        kept.append((now, how == "f", slow))
        by_count.add(now, failed=how == "f", slow=slow)
        by_time.add(now, failed=how == "f", slow=slow)
        last = kept[-size:]
        assert (len(last), sum(f for _, f, _ in last), sum(s for *_, s in last)) == (
            by_count.calls,
            by_count.failed,
            by_count.slow,
        )
        recent = [call for call in kept if call[0] // 1.0 > now // 1.0 - 20]
        assert (len(recent), sum(f for _, f, _ in recent), sum(s for *_, s in recent)) == (
            by_time.calls,
            by_time.failed,
            by_time.slow,
        )


@pytest.mark.parametrize(("fields", "sentence"), [
    ({"size": 0}, "FailureRateWindow.size: must be a whole number of at least 1, got 0"),
    ({"size": 1.5}, "FailureRateWindow.size: must be a whole number of at least 1, got 1.5"),
    ({"size": 0.0, "kind": "time"}, "FailureRateWindow.size: must be a finite number of at least 0.001, got 0.0"),
    ({"size": float("nan"), "kind": "time"}, "FailureRateWindow.size: must be a finite number of at least 0.001, got nan"),
    ({"size": 5, "kind": "tiem"}, "FailureRateWindow.kind: must be one of 'count', 'time'"),
    ({"size": 5, "kind": "tiem"}, "did you mean 'time'"),
    ({"size": 5, "failure_rate": 0}, "FailureRateWindow.failure_rate: must be a finite number from 1e-09 to 1, got 0"),
    ({"size": 5, "failure_rate": True}, "FailureRateWindow.failure_rate"),
    ({"size": 5, "slow_call_rate": 1.01}, "FailureRateWindow.slow_call_rate"),
    ({"size": 5, "slow_call_duration": 0}, "slow_call_duration: must be a finite number of seconds above 0, got 0"),
    ({"size": 5, "minimum_calls": 0}, "FailureRateWindow.minimum_calls: must be a whole number of at least 1, got 0"),
    ({"size": 5, "minimum_calls": 6}, "minimum_calls: must be at most the window's size 5, or it never judges, got 6"),
])  # fmt: skip
def test_wrong_windows_are_refused(fields, sentence):
    """A sentence each, never a default in its place (invariant 19)."""
    with pytest.raises(ConfigurationError) as caught:
        FailureRateWindow(**fields)
    assert sentence in str(caught.value)


def test_a_window_is_a_window(lab):
    """A number in its place is refused by the breaker."""
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker\.window: must be a FailureRateWindow or None, got 5"):
        CircuitBreaker(window=5)
