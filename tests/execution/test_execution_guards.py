"""Guards around an attempt: asked in order, waited for, told the outcome in reverse; and circuits that are waited for."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from resilience_kit.errors import (
    AuthenticationError,
    BulkheadFullError,
    CircuitBreakerOpenError,
    RateLimitExceededError,
    ServerError,
)
from resilience_kit.events import CallRejected
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState


async def test_guards_are_asked_in_order_and_told_in_reverse(lab, direct, steps):
    """Around each attempt."""
    log = []
    guards = (lab.Guard("a", log=log), lab.Guard("b", log=log))
    await lab.call(direct, lambda: log.append("call"), config=lab.config(guards=guards))
    assert ["admit a", "admit b", "call", "settle b success", "settle a success"] == log


async def test_each_attempt_has_permits_of_its_own(lab, direct, steps):
    """And each hears how its own attempt ended."""
    guard = lab.Guard()
    with pytest.raises(AuthenticationError):
        await lab.call(direct, steps(ServerError, AuthenticationError), config=lab.config(guards=(guard,)))
    assert [["failure"], ["ignored"]] == guard.kinds
    first = guard.permits[0].outcomes[0]
    assert ("server_error", ServerError) == (first.verdict.kind, type(first.error))


async def test_an_outcome_has_its_value_and_duration(lab):
    """For whoever settles money by the usage in an answer."""
    guard = lab.Guard()
    for kind in ("sync", "async"):
        await lab.call(kind, lambda: lab.clock.advance(2.0) or "answer", config=lab.config(guards=(guard,)))
        outcome = guard.permits[-1].outcomes[0]
        assert ("answer", 2.0) == (outcome.value, outcome.duration)


async def test_a_wait_is_slept_once_and_the_longest_counts(lab, direct, steps):
    """The guards are not asked again after it."""
    guards = (lab.Guard("a", 1.0), lab.Guard("b", 3.0))
    await lab.call(direct, steps("done"), config=lab.config(guards=guards))
    assert [3.0] == lab.clock.sleeps
    assert ([["success"]], [["success"]]) == (guards[0].kinds, guards[1].kinds)


async def test_a_refusal_gives_back_what_others_gave(lab, way, steps):
    """No call, no failure; the permits hear that nothing was tried."""
    lab.listen(CallRejected)
    first, full = lab.Guard("first"), lab.Guard("full", BulkheadFullError("full", 2.0))
    attempt = steps("done")
    with pytest.raises(BulkheadFullError):
        await lab.call(way, attempt, config=lab.config(guards=(first, full)))
    assert (0, [["cancelled"]]) == (attempt.calls, first.kinds)
    assert {"total_calls": 1, "rejected_calls": 1} == lab.counted()
    assert [CallRejected(operation="op", guard="full", retry_after=2.0)] == lab.events
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count


async def test_a_refusal_of_a_retry_leaves_the_real_error(lab, direct, steps):
    """The caller learns what went wrong, not that there was no room to try again (invariant 32)."""
    guard = lab.Guard("limit", 0.0, RateLimitExceededError("limit", 9.0))
    error = ServerError("real")
    with pytest.raises(ServerError) as caught:
        await lab.call(direct, steps(error), config=lab.config(guards=(guard,)))
    assert error is caught.value
    assert "'limit' refused a further attempt" in error.__notes__[0]
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


async def test_a_guard_that_breaks_ends_the_call(lab, way, steps):
    """Its own error, and the permits that were given come back."""
    first, broken = lab.Guard("first"), lab.Guard("broken", ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        await lab.call(way, steps("done"), config=lab.config(guards=(first, broken)))
    assert [["cancelled"]] == first.kinds
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


async def test_a_breaker_serves_as_a_guard(lab, way, steps):
    """One that several operations share: it counts the failures, and refuses all of them."""
    shared = CircuitBreaker(2, 10.0, name="host", clock=lab.clock)
    config = lab.config(guards=(shared,), retry=None)
    for _ in range(2):
        with pytest.raises(ServerError):
            await lab.call(way, steps(ServerError), config=config)
    with pytest.raises(CircuitBreakerOpenError, match="'host'"):
        await lab.call(way, steps("done"), config=config)


async def test_the_breaker_is_asked_again_after_a_wait(lab, way, steps):
    """It opened while this call waited for its guard: no call, and the permit goes back."""
    breaker = lab.kit.get_circuit_breaker("op")

    class Opener(lab.Guard):
        def admit(self, cost=1.0):
            breaker.force_open("meanwhile")
            return super().admit(cost)

    guard = Opener("slow", 3.0)
    attempt = steps("done")
    with pytest.raises(CircuitBreakerOpenError):
        await lab.call(way, attempt, config=lab.config(guards=(guard,)))
    assert (0, [["cancelled"]]) == (attempt.calls, guard.kinds)


async def test_a_trials_lease_that_runs_out_during_a_wait_is_asked_for_again(lab, kind, steps):
    """The place has gone to somebody else, or is free: both are found out before the call."""
    breaker = lab.kit.get_circuit_breaker("op")
    breaker.state = CircuitState.HALF_OPEN
    guard = lab.Guard("slow", 100.0)
    await lab.call(kind, steps("done"), config=lab.config(guards=(guard,)))
    assert [["cancelled"], ["success"]] == guard.kinds
    assert CircuitState.CLOSED is breaker.state


@pytest.mark.parametrize("indirect", ["sync giving a coroutine", "sync giving an async generator", "execute generator"])
async def test_who_only_gives_something_to_do_is_asked_for_twice(lab, indirect, steps):
    """For calling it, which takes nothing in the end, and for the work (invariant 16)."""
    guard = lab.Guard()
    assert "done" == await lab.call(indirect, steps("done"), config=lab.config(guards=(guard,)))
    assert [["cancelled"], ["success"]] == guard.kinds
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()


async def test_a_guard_without_a_breaker(lab, direct, steps):
    """Guards work where the breaker is off."""
    guard = lab.Guard("slow", 1.0)
    assert "done" == await lab.call(direct, steps(ServerError, "done"), config=lab.config(breaker=None, guards=(guard,)))
    assert [["failure"], ["success"]] == guard.kinds


@pytest.mark.parametrize("async_kind", ["async", "async generator"])
async def test_a_cancelled_wait_gives_everything_back(lab, async_kind, steps):
    """Permits and the trial, exactly once (invariants 3 and 28)."""
    breaker = lab.kit.get_circuit_breaker("op")
    breaker.state = CircuitState.HALF_OPEN
    guard = lab.Guard("slow", 50.0)
    attempt = steps("done")
    task = asyncio.ensure_future(lab.call(async_kind, attempt, config=lab.config(guards=(guard,))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (0, [["cancelled"]], 0) == (attempt.calls, guard.kinds, breaker.trials_in_flight)
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


# --- waiting for the circuit ---


async def test_an_open_circuit_is_waited_for(lab, way, steps):
    """Until its reopening; then the call is its trial (invariant 27)."""
    lab.kit.get_circuit_breaker("op").state = CircuitState.OPEN
    assert "done" == await lab.call(way, steps("done"), config=lab.config(circuit_open="wait"))
    assert [60.0] == lab.clock.sleeps
    assert CircuitState.CLOSED is lab.kit.get_circuit_breaker("op").state


async def test_a_circuit_that_opens_between_attempts_is_waited_for(lab, way, steps):
    """The retry's pause first, then the rest of the open time (invariant 27)."""
    attempt = steps(ServerError, "done")
    assert "done" == await lab.call(way, attempt, config=lab.config(threshold=1, circuit_open="wait"))
    assert [1.0, 59.0] == lab.clock.sleeps


async def test_a_trial_under_way_is_waited_for(lab, way, steps):
    """Looked at again every 50 ms."""
    breaker = lab.kit.get_circuit_breaker("op")
    breaker.state = CircuitState.HALF_OPEN
    trial = breaker.acquire()
    sleep, looks = lab.clock.sleeps, []

    class Sleeps(list):
        def append(self, seconds):
            looks.append(seconds)
            if len(looks) == 3:
                breaker.on_success(trial)

    lab.clock.sleeps = Sleeps(sleep)
    assert "done" == await lab.call(way, steps("done"), config=lab.config(circuit_open="wait"))
    assert [0.05] * 3 == looks


async def test_a_circuit_that_is_forced_open_is_not_waited_for(lab, way, steps):
    """Nobody knows until when (invariant 27)."""
    lab.kit.get_circuit_breaker("op").force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError, match="maintenance"):
        await lab.call(way, steps("done"), config=lab.config(circuit_open="wait"))
    assert [] == lab.clock.sleeps


async def test_a_circuit_forced_open_between_attempts_ends_the_call_at_once(lab, way, steps):
    """The real error, and no pause (invariant 27)."""

    def attempt():
        lab.kit.get_circuit_breaker("op").force_open("maintenance")
        raise ServerError

    with pytest.raises(ServerError):
        await lab.call(way, attempt, config=lab.config(circuit_open="wait"))
    assert [] == lab.clock.sleeps


async def test_a_wait_beyond_the_deadline_is_not_begun(lab, way, steps):
    """The refusal at once, with the time to come back (invariants 26 and 27)."""
    lab.kit.get_circuit_breaker("op").state = CircuitState.OPEN
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await lab.call(way, steps("done"), config=lab.config(circuit_open="wait", deadline=59.0))
    assert (60.0, []) == (caught.value.retry_after, lab.clock.sleeps)


async def test_a_wait_between_attempts_beyond_the_deadline_is_not_begun(lab, way, steps):
    """The real error at once (invariants 26 and 27)."""
    with pytest.raises(ServerError) as caught:
        await lab.call(way, steps(ServerError), config=lab.config(threshold=1, circuit_open="wait", deadline=30.0))
    assert [] == lab.clock.sleeps
    assert "after the deadline" in caught.value.__notes__[0]


async def test_another_guards_refusal_is_not_waited_for(lab, way, steps):
    """Waiting for the circuit is about the circuit."""
    guard = lab.Guard("full", BulkheadFullError("full", 1.0))
    with pytest.raises(BulkheadFullError):
        await lab.call(way, steps("done"), config=lab.config(circuit_open="wait", guards=(guard,)))
    assert [] == lab.clock.sleeps


async def test_waiting_needs_a_breaker(lab, way, steps):
    """A shared breaker that refuses as a guard is no circuit of this operation."""
    shared = CircuitBreaker(1, 10.0, name="host", clock=lab.clock)
    shared.state = CircuitState.OPEN
    config = lab.config(circuit_open="wait", guards=(shared,), breaker=None)
    with pytest.raises(CircuitBreakerOpenError), contextlib.nullcontext():
        await lab.call(way, steps("done"), config=config)
    assert [] == lab.clock.sleeps
