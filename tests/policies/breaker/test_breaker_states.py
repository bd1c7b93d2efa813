"""The state machine on a standing clock: when it opens, whom it lets in, what closes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError
from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState, FailureRateWindow, circuit

# --- opening ---


def test_it_opens_at_the_threshold_and_not_before(lab):
    """Two failures in a row open a breaker with a threshold of two."""
    breaker = lab.breaker()
    lab.fail(breaker)
    assert (CircuitState.CLOSED, 1) == (breaker.state, breaker.failure_count)
    lab.fail(breaker)
    assert (CircuitState.OPEN, 2, 1) == (breaker.state, breaker.failure_count, breaker.times_opened)


def test_a_success_ends_the_row(lab):
    """Failures are counted in a row: a success between them starts the count anew."""
    breaker = lab.breaker()
    for _ in range(5):
        lab.fail(breaker)
        breaker.call(int)
        assert (0, None) == (breaker.failure_count, breaker.last_failure)
    assert breaker.closed


def test_a_rejection_costs_no_call_and_says_when_to_come_back(lab):
    """An open circuit refuses with the name and the seconds left, and the function does not run."""
    breaker = lab.open(name="summarize")
    ran = []
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.call(ran.append, 1)
    assert "Circuit breaker is open: 'summarize'; next trial in 10.0 s" == str(caught.value)
    assert ("summarize", 10.0, []) == (caught.value.name, caught.value.retry_after, ran)


def test_an_unnamed_breaker_refuses_under_a_name_that_can_be_read(lab):
    """Nobody is told that the breaker 'None' is open."""
    with pytest.raises(CircuitBreakerOpenError) as caught:
        lab.open(name=None).acquire()
    assert "unnamed circuit breaker" == caught.value.name


@pytest.mark.parametrize(("nanoseconds", "refused"), [(-1, True), (0, False), (1, False)])
def test_open_ends_to_the_nanosecond(lab, nanoseconds, refused):
    """Every call before the end of the open time is refused, the first at or after it is let in (invariant 10)."""
    lab.clock.now = 0.0
    breaker = lab.open(recovery_timeout=1.0)
    lab.clock.now = (1_000_000_000 + nanoseconds) / 1e9
    assert refused is (not breaker.fits())
    assert refused is lab.refuses(breaker)


def test_every_instant_of_the_open_time_is_refused(lab):
    """No call passes at any moment inside the open time (invariant 10)."""
    breaker = lab.open()
    start = lab.clock.now
    for step in range(1000):
        lab.clock.now = start + step / 100
        assert lab.refuses(breaker)
    assert 1000 == breaker.metrics["rejected_count"]


def test_only_monotonic_time_is_read(lab, monkeypatch):
    """The wall clock may jump or break: a breaker trips and heals without reading it (invariant 11)."""

    def no_time(*_):
        raise AssertionError("the wall clock was read")

    monkeypatch.setattr(time, "time", no_time)
    monkeypatch.setattr(time, "time_ns", no_time)
    monkeypatch.setattr(circuit, "datetime", None)
    breaker = lab.half_open()
    breaker.add_listener(lambda event: None)
    breaker.call(int)
    assert ["open", "half_open", "closed"] == lab.path(breaker)


def test_the_system_clock_is_read_through_its_module(monkeypatch, lab):
    """Whoever patches `time.monotonic` is obeyed when no clock is given, also by one that gives Decimals or ints."""
    monkeypatch.setattr(time, "monotonic", lambda: 7)
    breaker = lab.open(clock=None)
    monkeypatch.setattr(time, "monotonic", lambda: 10)
    assert 7.0 == breaker.open_remaining
    monkeypatch.setattr(time, "monotonic", lambda: 17)
    assert not lab.refuses(breaker)


def test_a_suspended_host_wakes_to_one_trial(lab):
    """Ten hours of sleep in open or half-open state let one trial in, not a burst (invariant 12)."""
    breaker = lab.open()
    lab.clock.now += 36_000
    admitted = [token for token in (try_enter(breaker) for _ in range(50)) if token is not None]
    assert 1 == len(admitted)
    lab.clock.now += 36_000
    assert 1 == sum(try_enter(breaker) is not None for _ in range(50))


def try_enter(breaker):
    """A token, or None."""
    try:
        return breaker.acquire()
    except CircuitBreakerOpenError:
        return None


# --- half-open ---


def test_refused_callers_of_a_half_open_circuit_change_one_counter(lab):
    """While the trial is under way the others do not run and count as rejected only (invariant 2)."""
    breaker = lab.half_open()
    trial = breaker.acquire()
    before = breaker.metrics
    snapshot, ran = breaker.snapshot, []
    for _ in range(10):
        with pytest.raises(CircuitBreakerOpenError, match="its trial call is still under way") as caught:
            breaker.call(ran.append, 1)
        assert caught.value.retry_after is None
    after = breaker.metrics
    assert before["rejected_count"] + 10 == after["rejected_count"]
    assert {**before, "rejected_count": 0} == {**after, "rejected_count": 0}
    assert (snapshot, [], 1) == (breaker.snapshot, ran, breaker.trials_in_flight)
    breaker.on_success(trial)
    assert breaker.closed


def test_a_good_trial_closes_and_a_bad_one_opens_again(lab):
    """One success closes, one counted failure opens again for the whole recovery time (invariant 17)."""
    breaker = lab.half_open()
    lab.fail(breaker)
    assert (CircuitState.OPEN, 10.0, 3) == (breaker.state, breaker.open_remaining, breaker.failure_count)
    lab.clock.now += 10
    breaker.call(int)
    assert (CircuitState.CLOSED, 0, None) == (breaker.state, breaker.failure_count, breaker.last_failure)
    assert [
        ("closed", "open", 1000.0, "2 failures in a row"),
        ("open", "half_open", 1010.0, "the open time is over"),
        ("half_open", "open", 1010.0, "the trial failed"),
        ("open", "half_open", 1020.0, "the open time is over"),
        ("half_open", "closed", 1020.0, "the trial succeeded"),
    ] == [tuple(change.values()) for change in breaker.metrics["state_changes"]]


def test_success_threshold_trials_close_it(lab):
    """With a success threshold of three, the third good trial closes; a failure before it opens with one failure in a row."""
    breaker = lab.half_open(success_threshold=3)
    breaker.call(int)
    breaker.call(int)
    assert CircuitState.HALF_OPEN is breaker.state
    lab.fail(breaker)
    assert (CircuitState.OPEN, 1) == (breaker.state, breaker.failure_count)
    lab.clock.now += 10
    for _ in range(3):
        assert not breaker.closed
        breaker.call(int)
    assert breaker.closed


def test_as_many_trials_as_allowed_run_at_once(lab):
    """`half_open_max_calls` callers try at a time; a slot that comes back goes to the next (invariant 1)."""
    breaker = lab.half_open(half_open_max_calls=3, success_threshold=9)
    trials = [breaker.acquire() for _ in range(3)]
    assert (True, False, 3) == (lab.refuses(breaker), breaker.fits(), breaker.trials_in_flight)
    breaker.on_success(trials[0])
    assert (True, 2) == (breaker.fits(), breaker.trials_in_flight)
    assert not lab.refuses(breaker)


def test_a_failing_trial_makes_its_companions_late(lab):
    """When one of several trials fails, the others' results belong to a stay that is over (invariants 7 and 8)."""
    breaker = lab.half_open(half_open_max_calls=3)
    first, second, third = (breaker.acquire() for _ in range(3))
    breaker.on_failure(first, lab.Boom())
    until = breaker.snapshot.until
    breaker.on_success(second)
    lab.clock.now += 1
    breaker.on_failure(third, lab.Boom())
    assert (CircuitState.OPEN, until, 3, 2) == (
        breaker.state,
        breaker.snapshot.until,
        breaker.failure_count,
        breaker.times_opened,
    )


def test_a_trial_that_never_returns_frees_its_slot(lab):
    """After `trial_lease` another caller tries, and what comes back later is ignored (invariant 6)."""
    breaker = lab.half_open(trial_lease=5.0)
    lost = breaker.acquire()
    lab.clock.now = math.nextafter(lab.clock.now + 5, 0)
    assert lab.refuses(breaker)
    lab.clock.now = math.nextafter(lab.clock.now, math.inf)
    assert 0 == breaker.trials_in_flight
    trial = breaker.acquire()
    breaker.on_failure(lost, lab.Boom())
    assert (CircuitState.HALF_OPEN, 1) == (breaker.state, breaker.trials_in_flight)
    breaker.on_success(lost)
    assert CircuitState.HALF_OPEN is breaker.state
    breaker.on_success(trial)
    assert breaker.closed


@pytest.mark.parametrize("settle", ["on_success", "on_failure"])
def test_a_lease_that_is_over_is_over_for_its_holder_too(lab, settle):
    """A result that comes when the lease has just run out changes nothing, though nobody took the slot (invariant 6)."""
    breaker = lab.half_open(trial_lease=5.0)
    trial = breaker.acquire()
    lab.clock.now += 5
    getattr(breaker, settle)(trial, *([lab.Boom()] if settle == "on_failure" else []))
    assert (CircuitState.HALF_OPEN, 2) == (breaker.state, breaker.failure_count)


def test_a_trial_settled_twice_counts_once(lab):
    """A trial's second word is ignored."""
    breaker = lab.half_open(success_threshold=2)
    trial = breaker.acquire()
    breaker.on_success(trial)
    breaker.on_success(trial)
    breaker.on_failure(trial, lab.Boom())
    assert CircuitState.HALF_OPEN is breaker.state


# --- late results ---


def test_a_late_success_does_not_close(lab):
    """A call begun before the trip that ends well afterwards changes nothing in the state (invariant 7)."""
    breaker = lab.breaker()
    early = breaker.acquire()
    lab.fail(breaker, 2)
    opened = breaker.snapshot
    breaker.on_success(early)
    assert (opened, 2) == (breaker.snapshot, opened.failures)
    lab.clock.now += 10
    trial = breaker.acquire()
    breaker.on_success(early)
    assert (CircuitState.HALF_OPEN, 1) == (breaker.state, breaker.trials_in_flight)
    breaker.on_success(trial)


def test_a_late_failure_neither_moves_the_opening_nor_opens_again(lab):
    """A failure of a call begun before the trip leaves `open_until` and a half-open state alone (invariant 8)."""
    breaker = lab.breaker()
    early = [breaker.acquire() for _ in range(3)]
    lab.fail(breaker, 2)
    until, at = breaker.snapshot.until, breaker.last_failure_time
    lab.clock.now += 5
    breaker.on_failure(early[0], lab.Boom())
    assert (until, at, 2) == (breaker.snapshot.until, breaker.last_failure_time, breaker.failure_count)
    lab.clock.now += 5
    trial = breaker.acquire()
    breaker.on_failure(early[1], lab.Boom())
    assert CircuitState.HALF_OPEN is breaker.state
    breaker.on_success(trial)
    breaker.on_failure(early[2], lab.Boom())
    assert (CircuitState.CLOSED, 0, 5) == (breaker.state, breaker.failure_count, breaker.metrics["failure_count"])


# --- neutral ends ---


@pytest.mark.parametrize("neutral", [KeyboardInterrupt, SystemExit, GeneratorExit, ValueError, LookupError])
def test_neutral_ends_count_neither_way(lab, neutral):
    """Excluded and unexpected errors and those that are no Exception give a trial back and say nothing (invariants 3, 4, 13)."""
    options = {"expected_exception": (lab.Boom, KeyError), "excluded_exceptions": (ValueError,)}

    def end():
        raise neutral

    breaker = lab.breaker(**options)
    lab.fail(breaker)
    with pytest.raises(neutral):
        breaker.call(end)
    assert (1, True) == (breaker.failure_count, breaker.closed)
    breaker = lab.half_open(**options)
    before = breaker.metrics
    with pytest.raises(neutral):
        breaker.call(end)
    assert (CircuitState.HALF_OPEN, 0, True) == (breaker.state, breaker.trials_in_flight, breaker.fits())
    assert (before["success_count"], before["failure_count"]) == (
        breaker.metrics["success_count"],
        breaker.metrics["failure_count"],
    )


def test_excluded_wins_over_expected(lab):
    """An excluded subclass of an expected class does not count (invariant 13)."""
    breaker = lab.breaker(expected_exception=LookupError, excluded_exceptions=(KeyError,))
    assert (True, False, False) == (
        breaker.counts_as_failure(IndexError()),
        breaker.counts_as_failure(KeyError()),
        breaker.counts_as_failure(ValueError()),
    )
    assert (True, False) == (breaker.excludes(KeyError()), breaker.excludes(IndexError()))


def test_a_predicate_that_raises_gives_the_trial_back(lab):
    """The predicate's error reaches the caller, and the next caller gets the trial."""

    def predicate(kind, error):
        raise ArithmeticError

    breaker = lab.breaker(expected_exception=predicate)
    breaker.state = "half_open"
    with pytest.raises(ArithmeticError):
        breaker.call(lab.boom)
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)


# --- by hand ---


def test_forced_open_stays_until_told_otherwise(lab):
    """No time ends it, no late result does; force_close does."""
    breaker = lab.breaker(name="x")
    early = breaker.acquire()
    breaker.force_open("maintenance")
    lab.clock.now += 1e9
    breaker.on_success(early)
    with pytest.raises(CircuitBreakerOpenError, match="Circuit breaker is open: 'x'; forced open: maintenance") as caught:
        breaker.acquire()
    assert caught.value.retry_after is None
    assert (CircuitState.FORCED_OPEN, True, True, math.inf) == (
        breaker.state,
        breaker.opened,
        breaker.forced_open,
        breaker.open_remaining,
    )
    assert (False, 9999) == (breaker.fits(), breaker.open_until.year)
    breaker.force_close("done")
    assert (CircuitState.CLOSED, False) == (breaker.state, breaker.forced_open)
    assert ["maintenance", "done"] == [change["reason"] for change in breaker.metrics["state_changes"]]


def test_the_newest_reason_is_given(lab):
    """Forced open twice, a breaker tells the second reason."""
    breaker = lab.breaker()
    breaker.force_open("first")
    breaker.force_open("second")
    with pytest.raises(CircuitBreakerOpenError, match="second"):
        breaker.acquire()


def test_reset_forgets_everything(lab):
    """After a reset the circuit is closed, without failures, and a trial under way is late."""
    breaker = lab.half_open(max_recovery_timeout=1000.0, random=lambda: 0.5)
    trial = breaker.acquire()
    breaker.reset()
    assert (CircuitState.CLOSED, 0, 0, None) == (
        breaker.state,
        breaker.failure_count,
        breaker.trials_in_flight,
        breaker.last_failure,
    )
    breaker.on_failure(trial, lab.Boom())
    assert 0 == breaker.failure_count
    lab.fail(breaker, 2)
    assert 10.0 == breaker.open_remaining


def test_the_state_can_be_set(lab):
    """closed, open for a recovery timeout from now, half-open; by value, by name or as a member."""
    breaker = lab.breaker()
    lab.fail(breaker)
    breaker.state = "open"
    assert (CircuitState.OPEN, 10.0, lab.clock.now, 1, 1) == (
        breaker.state, breaker.open_remaining, breaker.last_failure_time, breaker.times_opened, breaker.failure_count,
    )  # fmt: skip
    breaker.state = CircuitState.HALF_OPEN
    assert (CircuitState.HALF_OPEN, 0.0) == (breaker.state, breaker.open_remaining)
    breaker.call(int)
    assert breaker.closed
    breaker.state = "FORCED_OPEN"
    assert breaker.forced_open
    breaker.state = "CLOSED"
    assert breaker.closed
    assert [
        ("closed", "open", 1000.0, "set by hand"),
        ("open", "half_open", 1000.0, "set by hand"),
        ("half_open", "closed", 1000.0, "the trial succeeded"),
        ("closed", "forced_open", 1000.0, "set by hand"),
        ("forced_open", "closed", 1000.0, "set by hand"),
    ] == [tuple(change.values()) for change in breaker.metrics["state_changes"]]
    lab.fail(breaker)
    breaker.state = "forced_open"
    assert 1 == breaker.failure_count


@pytest.mark.parametrize("wrong", ["ajar", 3, None, [], "budget_limited"])
def test_an_unknown_state_is_refused_with_the_known_ones(lab, wrong):
    """The sentence lists what may be set; a budget is not set by hand."""
    breaker = lab.breaker()
    with pytest.raises(
        ConfigurationError, match=r"CircuitBreaker\.state: must be one of 'closed', 'open', 'half_open', 'forced_open', got"
    ):
        breaker.state = wrong
    assert breaker.closed


def test_last_failure_time_moves_an_opening(lab):
    """Set on an open circuit, its trial is due a recovery timeout later; elsewhere it is only kept."""
    breaker = lab.breaker()
    assert breaker.last_failure_time is None
    lab.fail(breaker)
    assert lab.clock.now == breaker.last_failure_time
    breaker.last_failure_time = 5.0
    assert (5.0, CircuitState.CLOSED) == (breaker.last_failure_time, breaker.state)
    lab.fail(breaker)
    breaker.last_failure_time = lab.clock.now - 9.5
    assert 0.5 == breaker.open_remaining
    breaker.last_failure_time = None
    assert (None, 0.5) == (breaker.last_failure_time, breaker.open_remaining)
    breaker.last_failure_time = lab.clock.now - 10
    assert CircuitState.HALF_OPEN is breaker.state
    assert not lab.refuses(breaker)


@pytest.mark.parametrize("wrong", [True, "1", float("nan"), float("inf")])
def test_a_last_failure_time_is_a_finite_number(lab, wrong):
    """What is no time is refused and changes nothing."""
    breaker = lab.open()
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker\.last_failure_time: must be a finite number, got"):
        breaker.last_failure_time = wrong
    assert 10.0 == breaker.open_remaining


def test_generations_only_grow(lab):
    """Each move, by rule or by hand, is a new generation (invariant 17)."""
    breaker = lab.breaker()
    seen = [breaker.snapshot.generation]
    moves: list[Callable[[], object]] = [
        lambda: lab.fail(breaker, 2),
        lambda: setattr(lab.clock, "now", lab.clock.now + 10) or breaker.acquire(),
        lambda: breaker.force_open("x"),
        lambda: breaker.force_open("y"),
        breaker.reset,
        breaker.reset,
        lambda: setattr(breaker, "state", "half_open"),
        lambda: setattr(breaker, "state", "open"),
    ]
    for move in moves:
        move()
        seen.append(breaker.snapshot.generation)
    assert sorted(set(seen)) == seen


# --- reading ---


def test_states_are_found_by_value_and_name():
    """`CircuitState("OPEN")` is the open state, and opened means that every call is refused."""
    assert CircuitState.OPEN is CircuitState("OPEN") is CircuitState("open")
    assert CircuitState.HALF_OPEN is CircuitState("Half_Open")
    with pytest.raises(ValueError, match="ajar"):
        CircuitState("ajar")
    with pytest.raises(ValueError, match="3"):
        CircuitState(3)
    assert [False, True, False, True, False] == [state.opened for state in CircuitState]
    assert ["closed", "open", "half_open", "forced_open", "budget_limited"] == [state.value for state in CircuitState]


def test_metrics_tell_totals_and_the_last_hundred_changes(lab):
    """Totals survive closings; changes are kept to a hundred, each with from, to, at and reason."""
    breaker = lab.breaker(failure_threshold=1)
    assert {"success_count": 0, "failure_count": 0, "rejected_count": 0, "state_changes": []} == breaker.metrics
    for _ in range(60):
        lab.fail(breaker)
        breaker.call(int) if breaker.fits() else lab.refuses(breaker)
        breaker.reset()
    breaker.call(int)
    metrics = breaker.metrics
    assert (1, 60, 60, 100) == (
        metrics["success_count"],
        metrics["failure_count"],
        metrics["rejected_count"],
        len(metrics["state_changes"]),
    )
    assert {"from": "open", "to": "closed", "at": lab.clock.now, "reason": "reset"} == metrics["state_changes"][-1]


def test_counts_of_a_driver_are_added(lab):
    """A driver that counts its own successes and refusals lends its counters to the metrics."""
    breaker = lab.open()
    breaker.add_external_counters(successes=lambda: 5, rejections=lambda: 7)
    assert lab.refuses(breaker)
    assert isinstance(breaker.try_acquire(breaker.snapshot), CircuitBreakerOpenError)
    breaker.reset()
    breaker.call(int)
    assert (6, 8) == (breaker.metrics["success_count"], breaker.metrics["rejected_count"])


def test_a_breaker_describes_itself(lab):
    """Its text is its name, its repr tells the state, its description is ready for JSON."""
    breaker = lab.open(name="summarize")
    assert ("summarize", "<CircuitBreaker 'summarize' open>") == (str(breaker), repr(breaker))
    assert {
        "state": "OPEN", "failure_count": 2, "failure_threshold": 2, "recovery_timeout": 10.0, "open_remaining": 10.0,
        "times_opened": 1,
    } == breaker.describe()  # fmt: skip
    breaker.force_open("x")
    assert ("FORCED_OPEN", None) == (breaker.describe()["state"], breaker.describe()["open_remaining"])
    assert "unnamed circuit breaker" == str(lab.breaker(name=None))


def test_open_until_is_a_moment_of_the_wall_clock(lab):
    """As in the library, and the last moment there is for an open time beyond the calendar."""
    now = datetime.now(UTC)
    assert 9.0 < (lab.open().open_until - now).total_seconds() < 15.0
    assert datetime.max.replace(tzinfo=UTC) == lab.open(recovery_timeout=1e300).open_until


def test_a_clock_may_begin_below_zero(lab):
    """Only an open circuit has open time left."""
    lab.clock.now = -1000.0
    breaker = lab.breaker()
    assert 0.0 == breaker.open_remaining
    lab.fail(breaker, 2)
    assert 10.0 == breaker.open_remaining


def test_a_waiting_call_may_find_its_admission_gone(lab):
    """`still_valid` follows the state: closed, gone when it tripped or a lease ran out, and any token when it is closed."""
    breaker = lab.breaker(trial_lease=5.0)
    early = breaker.acquire()
    assert breaker.still_valid(early)
    lab.fail(breaker, 2)
    assert not breaker.still_valid(early)
    lab.clock.now += 10
    trial = breaker.acquire()
    assert (True, False) == (breaker.still_valid(trial), breaker.still_valid(early))
    lab.clock.now += 5
    assert not breaker.still_valid(trial)
    breaker.reset()
    assert breaker.still_valid(trial)


# --- other options while running ---


def test_other_options_are_obeyed_from_the_next_outcome_on(lab):
    """Threshold and expected exceptions change at once; state, failures and an unnamed expectation stay."""
    breaker = lab.breaker(failure_threshold=5, expected_exception=lab.Boom)
    lab.fail(breaker, 2)
    breaker.reconfigure(CircuitBreakerConfig(failure_threshold=3, recovery_timeout=7.0))
    assert (CircuitState.CLOSED, 2, 3, 7.0) == (
        breaker.state,
        breaker.failure_count,
        breaker.failure_threshold,
        breaker.recovery_timeout,
    )
    with pytest.raises(ValueError, match="x"):
        breaker.call(int, "x")
    assert 2 == breaker.failure_count
    lab.fail(breaker)
    assert 7.0 == breaker.open_remaining
    breaker.reconfigure(CircuitBreakerConfig(expected_exception=ValueError))
    assert (7.0, True, False) == (
        breaker.open_remaining,
        breaker.counts_as_failure(ValueError()),
        breaker.counts_as_failure(lab.Boom()),
    )


def test_a_window_comes_and_goes(lab):
    """With a window from now on, successes are reported; without it again, they write nothing once more."""
    breaker = lab.breaker()
    window = FailureRateWindow(4, minimum_calls=2)
    breaker.reconfigure(CircuitBreakerConfig(window=window))
    assert breaker.snapshot.tracks_success
    breaker.call(int)
    breaker.reconfigure(CircuitBreakerConfig(window=window, failure_threshold=9))
    lab.fail(breaker)
    assert CircuitState.OPEN is breaker.state
    breaker.reset()
    breaker.reconfigure(CircuitBreakerConfig(failure_threshold=9))
    breaker.call(int)
    assert not breaker.snapshot.tracks_success


def test_a_breaker_knows_its_options(lab):
    """`matches_config` compares; an expectation of None says nothing."""
    breaker = lab.breaker(expected_exception=[lab.Boom, KeyError])
    assert breaker.matches_config(CircuitBreakerConfig(failure_threshold=2, recovery_timeout=10.0))
    assert breaker.matches_config(
        CircuitBreakerConfig(failure_threshold=2, recovery_timeout=10.0, expected_exception=(lab.Boom, KeyError))
    )
    assert not breaker.matches_config(CircuitBreakerConfig(failure_threshold=3, recovery_timeout=10.0))
