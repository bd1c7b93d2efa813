"""How often an attempt is made, how long is waited in between, and what is the last word: the same for every way of calling."""

from __future__ import annotations

import contextlib
import traceback
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience_kit import idempotency_key, remaining_time
from resilience_kit.errors import (
    APIConnectionError,
    AuthenticationError,
    CircuitBreakerOpenError,
    GuardKind,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
)
from resilience_kit.events import CallFailed, CallRejected, CallSucceeded, NestedRetry, RetryScheduled
from resilience_kit.outcome import FailureKind
from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig


async def test_a_success_is_one_attempt(lab, way, steps):
    """The first attempt is not delayed (invariant 25)."""
    attempt = steps("done")
    assert "done" == await lab.call(way, attempt)
    assert (1, []) == (attempt.calls, lab.clock.sleeps)
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()


async def test_retries_go_on_until_a_success(lab, way, steps):
    """Two failures, two pauses, one success (invariants 23 and 25)."""
    attempt = steps(ServerError, ConnectionError, "done")
    assert "done" == await lab.call(way, attempt)
    assert (3, [1.0, 2.0]) == (attempt.calls, lab.clock.sleeps)
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_the_last_attempt_is_the_last_word(lab, way, steps):
    """Exactly max_attempts, no sleep after the last one, the user's own error with one note (invariants 23, 25 and 32)."""
    error = ServerError("third")
    attempt = steps(ServerError("first"), ServerError("second"), error)
    with pytest.raises(ServerError) as caught:
        await lab.call(way, attempt)
    assert error is caught.value
    assert (3, [1.0, 2.0]) == (attempt.calls, lab.clock.sleeps)
    assert ["resilience_kit: 'op' failed after 3 attempts in 3.0 s: no attempts are left"] == error.__notes__
    assert None is error.__context__
    assert {"total_calls": 1, "failed_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_what_is_not_retryable_is_raised_at_once(lab, way, steps):
    """One attempt, and the breaker does not hear of a wrong key (invariant 23)."""
    attempt = steps(AuthenticationError)
    with pytest.raises(AuthenticationError) as caught:
        await lab.call(way, attempt)
    assert (1, []) == (attempt.calls, lab.clock.sleeps)
    assert ["resilience_kit: 'op' failed after 1 attempt in 0.0 s: auth is not retried"] == caught.value.__notes__
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count


async def test_without_retries_there_is_one_attempt(lab, way, steps):
    """retry=None switches them off."""
    attempt = steps(ServerError)
    with pytest.raises(ServerError) as caught:
        await lab.call(way, attempt, config=lab.config(retry=None))
    assert 1 == attempt.calls
    assert caught.value.__notes__[0].endswith("it has no retries")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    most=st.integers(1, 12), failures=st.integers(0, 15), kind=st.sampled_from(["sync", "async", "generator", "async generator"])
)
async def test_attempts_never_exceed_the_limit(lab, steps, most, failures, kind):
    """As many as it takes, and at most max_attempts (invariant 23)."""
    attempt = steps(*[ServerError] * failures, "done")
    config = lab.config(10**6, retry=RetryConfig(max_attempts=most, base_delay=0))
    try:
        result = await lab.call(kind, attempt, config=config)
    except ServerError:
        result = None
    assert ("done" if failures < most else None, min(failures + 1, most)) == (result, attempt.calls)


async def test_the_users_chain_is_kept(lab, way, steps):
    """Causes stay, nothing of ours comes in between (invariant 32)."""
    cause = KeyError("inner")

    def fail():
        raise ServerError("outer") from cause

    with pytest.raises(ServerError) as caught:
        await lab.call(way, steps(fail))
    assert cause is caught.value.__cause__


async def test_one_instance_raised_again_has_one_note_and_a_bounded_traceback(lab, way, steps):
    """Neither grows with the attempts (invariant 32)."""
    lengths, notes = [], []
    for most in (2, 40):
        single = ServerError("the same")
        with pytest.raises(ServerError):
            await lab.call(way, steps(single), config=lab.config(retry=RetryConfig(max_attempts=most, base_delay=0)))
        lengths.append(len(traceback.extract_tb(single.__traceback__)))
        notes.append(len(single.__notes__))
    assert lengths[0] == lengths[1]
    assert [1, 1] == notes


async def test_the_note_is_replaced_when_the_same_instance_comes_again(lab, kind, steps):
    """Two calls, one note; other people's notes stay (invariant 32)."""
    single = ServerError("the same")
    single.add_note("mine")
    for _ in range(2):
        with pytest.raises(ServerError):
            await lab.call(kind, steps(single))
    assert 2 == len(single.__notes__)
    assert "mine" == single.__notes__[0]


async def test_an_instance_whose_traceback_is_taken_off_is_raised_as_well(lab, kind, steps):
    """There is nothing to cut from it then."""
    single = ServerError("the same")

    def fail():
        raise single.with_traceback(None)

    with pytest.raises(ServerError) as caught:
        await lab.call(kind, steps(fail))
    assert single is caught.value


async def test_an_error_that_takes_no_note_is_raised_without(lab, kind, steps):
    """It is the user's, whatever it refuses."""

    class StubbornError(ConnectionError):
        def add_note(self, note):
            raise TypeError

    with pytest.raises(StubbornError):
        await lab.call(kind, steps(StubbornError))


# --- the service's own hints ---


async def test_a_hint_lengthens_the_pause(lab, way, steps):
    """Never earlier than the service asked for (invariant 29)."""
    await lab.call(way, steps(RateLimitError("slow", retry_after=20.0), RateLimitError("slow", retry_after=0.5), "done"))
    assert [20.0, 2.0] == lab.clock.sleeps


async def test_a_hint_over_the_limit_ends_the_retries(lab, way, steps):
    """It is neither shortened nor slept (invariant 29)."""
    attempt = steps(RateLimitError("slow", retry_after=60.001), "done")
    with pytest.raises(RateLimitError) as caught:
        await lab.call(way, attempt)
    assert (1, []) == (attempt.calls, lab.clock.sleeps)
    assert "the service asked to come back in 60.0 s" in caught.value.__notes__[0]


@pytest.mark.parametrize("hint", [float("nan"), float("inf"), -1.0, 10.0**12, "soon", True])
async def test_a_hint_that_is_none_changes_nothing(lab, kind, steps, hint):
    """NaN, negative, endless and malformed ones (invariant 29)."""
    await lab.call(kind, steps(RateLimitError("slow", retry_after=hint), "done"))
    assert lab.clock.sleeps == [1.0]


# --- the breaker ---


async def test_an_open_circuit_is_not_slept_on(lab, way, steps):
    """It opens at the second failure: no pause, and the caller gets the real error (invariants 27 and 32)."""
    error = ServerError("the last")
    attempt = steps(ServerError("first"), error)
    with pytest.raises(ServerError) as caught:
        await lab.call(way, attempt, config=lab.config(threshold=2))
    assert (error, 2, [1.0]) == (caught.value, attempt.calls, lab.clock.sleeps)
    assert "its circuit has opened" in error.__notes__[0]


async def test_an_open_circuit_refuses_without_a_failure(lab, way, steps):
    """The function is not called, the refusal is counted as one and is nothing that the breaker counts (invariant 27)."""
    lab.listen(CallRejected)
    attempt = steps("done")
    lab.kit.get_circuit_breaker("op").force_open("test")
    with pytest.raises(CircuitBreakerOpenError):
        await lab.call(way, attempt)
    assert 0 == attempt.calls
    assert {"total_calls": 1, "rejected_calls": 1} == lab.counted()
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count
    assert [CallRejected(operation="op", guard="op", guard_kind=GuardKind.CIRCUIT_BREAKER, retry_after=None)] == lab.events


async def test_a_circuit_that_opens_during_the_pause_leaves_the_real_error(lab, way, steps):
    """Somebody opens it while this call sleeps: the refusal is not what the caller gets (invariants 27 and 32)."""
    error = ServerError("real")
    breaker = lab.kit.get_circuit_breaker("op")
    lab.kit.add_listener(lambda event: breaker.force_open("test"), RetryScheduled)
    attempt = steps(error)
    with pytest.raises(ServerError) as caught:
        await lab.call(way, attempt)
    assert (error, 1) == (caught.value, attempt.calls)
    assert "'op' refused a further attempt" in error.__notes__[0]
    assert None is error.__context__
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


async def test_a_trial_closes_the_circuit(lab, way, steps):
    """Through every driver: closed, open, half-open, closed."""
    config = lab.config(threshold=1, retry=None)
    with pytest.raises(ServerError):
        await lab.call(way, steps(ServerError), config=config)
    lab.clock.advance(60.0)
    await lab.call(way, steps("done"), config=config)
    assert CircuitState.CLOSED is lab.kit.get_circuit_breaker("op").state


async def test_a_failed_trial_opens_it_again(lab, way, steps):
    """One trial, and no retry of it."""
    config = lab.config(threshold=1)
    with pytest.raises(ServerError):
        await lab.call(way, steps(ServerError), config=config)
    lab.clock.advance(60.0)
    attempt = steps(ServerError)
    with pytest.raises(ServerError):
        await lab.call(way, attempt, config=config)
    assert 1 == attempt.calls
    assert CircuitState.OPEN is lab.kit.get_circuit_breaker("op").state


async def test_a_neutral_error_gives_the_trial_back(lab, way, steps):
    """A wrong key tells nothing about the service's health."""
    config = lab.config(threshold=1, retry=None)
    with pytest.raises(ServerError):
        await lab.call(way, steps(ServerError), config=config)
    lab.clock.advance(60.0)
    with pytest.raises(AuthenticationError):
        await lab.call(way, steps(AuthenticationError), config=config)
    breaker = lab.kit.get_circuit_breaker("op")
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)


async def test_without_a_breaker_nothing_refuses(lab, way, steps):
    """circuit_breaker=None switches it off; failures count nowhere."""
    for _ in range(9):
        with pytest.raises(ServerError):
            await lab.call(way, steps(ServerError), config=lab.config(breaker=None, retry=None))
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count
    assert {"total_calls": 9, "failed_calls": 9} == lab.counted()
    assert 1 == await lab.call(way, steps(1), config=lab.config(breaker=None))


async def test_named_exceptions_judge_instead_of_the_classifier(lab, kind, steps):
    """expected_exception counts what the classifier would not, and the other way round."""
    config = lab.config(retry=None, breaker=CircuitBreakerConfig(failure_threshold=9, expected_exception=KeyError))
    for error in (KeyError, ServerError):
        with pytest.raises(error):
            await lab.call(kind, steps(error), config=config)
    assert 1 == lab.kit.get_circuit_breaker("op").failure_count


async def test_excluded_exceptions_never_count(lab, kind, steps):
    """Also those that the classifier would count (invariant 13)."""
    config = lab.config(retry=None, breaker=CircuitBreakerConfig(excluded_exceptions=(ServerError,)))
    with pytest.raises(ServerError):
        await lab.call(kind, steps(ServerError), config=config)
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count


async def test_a_predicate_that_raises_gives_the_permit_back(lab, kind, steps):
    """Its error is what the caller gets, and the trial is free again."""

    def predicate(kind, error):
        raise ZeroDivisionError

    config = lab.config(breaker=CircuitBreakerConfig(expected_exception=predicate))
    breaker = lab.kit.get_circuit_breaker("op")
    breaker.state = CircuitState.HALF_OPEN
    with pytest.raises(ZeroDivisionError) as caught:
        await lab.call(kind, steps(ServerError), config=config)
    assert 0 == breaker.trials_in_flight
    assert "it was broken off between attempts" in caught.value.__notes__[0]
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


# --- what must not be repeated ---


async def test_what_is_not_idempotent_is_not_repeated(lab, way, steps):
    """The service may have acted on it (invariant 30)."""
    attempt = steps(ServerError, "done")
    with pytest.raises(ServerError) as caught:
        await lab.call(way, attempt, config=lab.config(idempotent=False))
    assert 1 == attempt.calls
    assert "not idempotent" in caught.value.__notes__[0]


async def test_what_was_surely_not_sent_is_repeated(lab, way, steps):
    """No connection, no effect (invariant 30)."""
    attempt = steps(ConnectionRefusedError, RateLimitError("not processed"), "done")
    assert "done" == await lab.call(way, attempt, config=lab.config(idempotent=False))
    assert 3 == attempt.calls


async def test_a_key_allows_what_is_not_idempotent(lab, way, steps):
    """The service recognises it, and it is the same on every attempt (invariant 30)."""
    keys = []

    def attempt():
        keys.append(idempotency_key())
        return steps(ServerError)() if len(keys) < 3 else "done"

    await lab.call(way, attempt, config=lab.config(idempotent=False, idempotency_key=True))
    assert (3, 1) == (len(keys), len(set(keys)))
    assert None not in keys


@pytest.mark.parametrize(
    "options", [{}, {"deadline": 30.0}, {"attempt_timeout": 30.0}, {"guards": True}, {"circuit_open": "wait"}]
)
async def test_all_attempts_see_the_same_key_or_none(lab, way, steps, options):
    """Also where nobody asked for keys, and the first attempt is made on a faster path (invariant 30)."""
    keys = []

    def attempt():
        keys.append((idempotency_key(), remaining_time() is None))
        return steps(ServerError)() if len(keys) < 3 else "done"

    if "guards" in options:
        options = {"guards": (lab.Guard(),)}
    await lab.call(way, attempt, config=lab.config(**options))
    assert (3, 1) == (len(keys), len(set(keys)))


async def test_two_calls_have_two_keys(lab, way):
    """A key stands for one call (invariant 30)."""
    keys = set()
    for _ in range(2):
        await lab.call(way, lambda: keys.add(idempotency_key()), config=lab.config(deadline=5.0))
    assert 2 == len(keys)


# --- how much load retries may add ---


async def test_the_retry_budget_bounds_the_extra_load(lab, kind, steps):
    """A total outage: the burst that the bucket allows, and no more (invariant 31)."""
    config = lab.config(10**9, retry=RetryConfig(base_delay=0), retry_budget=RetryBudgetConfig(capacity=100, transient_cost=10))
    attempt = steps(ServerError)
    for _ in range(100):
        with pytest.raises(ServerError) as caught:
            await lab.call(kind, attempt, config=config)
    assert 100 + 10 == attempt.calls
    assert "the retry budget is used up" in caught.value.__notes__[0]


async def test_successes_fill_the_retry_budget_again(lab, kind, steps):
    """By one token for a first attempt, by what the retry cost after one (invariant 31)."""
    config = lab.config(10**9, retry=RetryConfig(base_delay=0), retry_budget=RetryBudgetConfig(capacity=28))
    for _ in range(2):
        with pytest.raises(ServerError):
            await lab.call(kind, steps(ServerError), config=config)
    budget = lab.kit._registry.operations["op"].budget
    assert 0 == budget.available_tokens
    protected = lab.kit.with_resilience("op", custom_config=config)(lab.shapes[kind](lambda: "done"))
    for _ in range(20):
        await lab.finished(protected())
    assert (20, True) == (budget.available_tokens, budget.below_capacity)
    await lab.call(kind, steps(ServerError, "done"), config=config)
    assert 20 == budget.available_tokens
    for _ in range(9):
        await lab.finished(protected())
    assert (28, False) == (budget.available_tokens, budget.below_capacity)


async def test_a_mixed_load_stays_within_the_budget(lab, steps):
    """Extra attempts: at most the bucket plus what successes gave back, whatever the order (invariant 31)."""
    config = lab.config(10**9, retry=RetryConfig(base_delay=0), retry_budget=RetryBudgetConfig(capacity=140))
    attempt = steps(*([ServerError, "done"] * 50 + [ServerError]))
    calls = 0
    for _ in range(300):
        calls += 1
        with contextlib.suppress(ServerError):
            await lab.call("async", attempt, config=config)
    assert attempt.calls - calls <= 50 + 140 // 14 + 1


# --- protection inside protection ---


async def test_nested_retries_do_not_multiply(lab, kind, steps):
    """The inner operation's retries are the only ones, which is told once (invariant 31)."""
    lab.listen(NestedRetry)
    attempt = steps(ServerError)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config())(lab.shapes[kind](attempt))
    outer = lab.kit.with_resilience("outer", custom_config=lab.config())(inner)
    for _ in range(2):
        with pytest.raises(ServerError) as caught:
            await lab.finished(outer())
    assert 2 * 3 == attempt.calls
    assert 2 == len(caught.value.__notes__)
    assert [("outer", "operation 'inner'")] == [(event.operation, event.inner) for event in lab.events]
    assert "operation 'inner' has retried it already" in caught.value.__notes__[1]


async def test_an_inner_operation_with_one_attempt_has_not_retried(lab, kind, steps):
    """So the outer one may (invariant 31)."""
    attempt = steps(ServerError)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(retry=RetryConfig(max_attempts=1)))(
        lab.shapes[kind](attempt)
    )
    with pytest.raises(ServerError):
        await lab.finished(lab.kit.with_resilience("outer", custom_config=lab.config())(inner)())
    assert 3 == attempt.calls


async def test_the_mark_is_found_beneath_a_wrapper(lab, kind, steps):
    """The outer function turned the inner error into its own (invariant 31)."""
    attempt = steps(ServerError)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config())(attempt)

    def wrapping():
        try:
            inner()
        except ServerError as error:
            raise ServiceUnavailableError("wrapped") from error

    with pytest.raises(ServiceUnavailableError):
        await lab.call(kind, wrapping)
    assert 3 == attempt.calls


async def test_a_mark_of_an_earlier_call_is_none(lab, kind, steps):
    """The same instance comes again, on its own this time (invariant 31)."""
    single = ServerError("the same")
    with pytest.raises(ServerError):
        await lab.call(kind, steps(single), operation="other")
    lab.clock.advance(1.0)
    attempt = steps(single)
    with pytest.raises(ServerError):
        await lab.call(kind, attempt)
    assert 3 == attempt.calls


async def test_an_sdk_that_retries_is_noticed(lab, kind, steps):
    """Its own count is in its request; ours would multiply it (invariant 31)."""
    lab.listen(NestedRetry)

    class Request:
        headers: ClassVar = {"x-stainless-retry-count": "2"}

    error = APIConnectionError("down")
    error.request = Request()
    attempt = steps(error)
    with pytest.raises(APIConnectionError):
        await lab.call(kind, attempt)
    assert 1 == attempt.calls
    assert ["the SDK's client"] == [event.inner for event in lab.events]
    assert "max_retries=0" in lab.events[0].remedy


# --- what is told ---


async def test_events_are_exact_and_in_order(lab, way, steps):
    """Every retry, then the end, with the numbers of this call."""
    lab.listen(RetryScheduled, CallSucceeded, CallFailed)
    await lab.call(way, steps(ServerError, "done"))
    with pytest.raises(AuthenticationError):
        await lab.call(way, steps(AuthenticationError))
    assert [
        RetryScheduled(operation="op", attempt=1, delay=1.0, kind=FailureKind.SERVER_ERROR, error_type="ServerError"),
        CallSucceeded(operation="op", attempts=2, duration=1.0),
        CallFailed(
            operation="op",
            attempts=1,
            duration=0.0,
            kind=FailureKind.AUTH,
            error_type="AuthenticationError",
            reason="auth is not retried",
        ),
    ] == lab.events
