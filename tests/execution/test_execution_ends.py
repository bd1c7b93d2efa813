"""How each end of a call is told: the event's kind and reason, the breaker's hint and last failure, the budget's tokens."""

from __future__ import annotations

import contextlib

import pytest

from resilience_kit.errors import BulkheadFullError, DeadlineExceededError, RateLimitError, ServerError
from resilience_kit.events import CallFailed
from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig


def told(lab):
    """What the one failed call was told of."""
    [event] = lab.events
    return event.attempts, event.duration, event.kind, event.error_type, event.reason


def noted(error):
    """The kit's note on an error."""
    [note] = [note for note in error.__notes__ if note.startswith("resilience_kit:")]
    return note


def breaking(*_):
    """A hook that fails."""
    raise LookupError("no hook")


def slow_down(seconds=None):
    """A service's refusal with its own hint, each time anew."""
    return RateLimitError("slow down", retry_after=seconds)


#: Options, the error of each attempt, and what is told of the call.
ENDS = {
    "no retries": ({"retry": None}, ServerError, (1, 0.0, "server_error", "ServerError", "it has no retries")),
    "no attempts": ({}, ServerError, (3, 3.0, "server_error", "ServerError", "no attempts are left")),
    "no attempts, watched": (
        {"retry": RetryConfig(jitter=None, after=lambda _: None)}, ServerError,
        (3, 3.0, "server_error", "ServerError", "no attempts are left"),
    ),
    "not retried": ({}, ValueError, (1, 0.0, "unknown", "ValueError", "unknown is not retried")),
    "opened": ({"threshold": 2}, ServerError, (2, 1.0, "server_error", "ServerError", "its circuit has opened")),
    "deadline": (
        {"deadline": 2.5}, ServerError,
        (2, 1.0, "server_error", "ServerError", "the next attempt would begin after the deadline"),
    ),
    "budget": (
        {"retry_budget": RetryBudgetConfig(capacity=14)}, ServerError,
        (2, 1.0, "server_error", "ServerError", "the retry budget is used up"),
    ),
    "hint": (
        {}, lambda: slow_down(61.0),
        (1, 0.0, "rate_limit", "RateLimitError", "the service asked to come back in 61.0 s"),
    ),
    "hook": (
        {"retry": RetryConfig(jitter=None, before_sleep=breaking)}, ServerError,
        (1, 0.0, "unknown", "LookupError", "it was broken off between attempts"),
    ),
    "not idempotent": (
        {"idempotent": False}, ServerError,
        (1, 0.0, "server_error", "ServerError", "the request may have been carried out, and it is not idempotent"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
async def test_a_failed_call_is_told_with_its_reason(lab, way, steps, end):
    """Attempts, seconds, kind, class and why there was no further attempt; the error carries the same in a note."""
    options, make, event = ENDS[end]
    lab.listen(CallFailed)
    with pytest.raises(Exception) as caught:
        await lab.call(way, steps(make()), config=lab.config(**options))
    attempts, seconds, _, error_type, reason = event
    assert (error_type, event) == (type(caught.value).__name__, told(lab))
    assert f"resilience_kit: 'op' failed after {attempts} attempt{'s'[: attempts != 1]} in {seconds} s: {reason}" == noted(
        caught.value
    )


async def test_a_guard_s_refusal_leaves_the_last_real_error(lab, direct, steps):
    """It is told with that error's kind."""
    lab.listen(CallFailed)
    guard = lab.Guard("probe", 0.0, BulkheadFullError("probe", 2.0))
    with pytest.raises(ServerError):
        await lab.call(direct, steps(ServerError), config=lab.config(guards=(guard,)))
    assert (1, 1.0, "server_error", "ServerError", "'probe' refused a further attempt") == told(lab)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_wait_that_oversleeps_gives_everything_back(lab, kind, steps, monkeypatch):
    """A host that was suspended comes back after the deadline: no attempt begins, trial and permits are free (invariant 26)."""

    async def oversleep_async(seconds):
        lab.clock.advance(seconds + 60.0)

    monkeypatch.setattr(lab.clock, "sleep", lambda seconds: lab.clock.advance(seconds + 60.0))
    monkeypatch.setattr(lab.clock, "sleep_async", oversleep_async)
    lab.listen(CallFailed)
    lab.kit.get_circuit_breaker("op").state = "half_open"
    guard, attempt = lab.Guard("probe", 3.0), steps("done")
    with pytest.raises(DeadlineExceededError):
        await lab.call(kind, attempt, config=lab.config(guards=(guard,)), deadline=10.0)
    breaker = lab.kit.get_circuit_breaker("op")
    assert (0, [["cancelled"]], 0, CircuitState.HALF_OPEN) == (
        attempt.calls, guard.kinds, breaker.trials_in_flight, breaker.state,
    )  # fmt: skip
    assert (0, pytest.approx(63.0), "timeout", "DeadlineExceededError", "its time is over") == told(lab)


async def test_a_trial_that_waits_for_a_guard_stays_a_trial(lab, direct, steps):
    """After the wait neither the breaker nor the guard is asked anew."""
    lab.kit.get_circuit_breaker("op").state = "half_open"
    generation = lab.kit.get_circuit_breaker("op").snapshot.generation
    guard = lab.Guard("probe", 3.0)
    await lab.call(direct, steps("done"), config=lab.config(guards=(guard,)))
    breaker = lab.kit.get_circuit_breaker("op")
    assert (["admit probe", "settle probe success"], True, generation + 1) == (
        guard.log, breaker.closed, breaker.snapshot.generation,
    )  # fmt: skip


async def test_the_breaker_hears_the_error_and_its_hint(lab, way, steps):
    """The last failure is the attempt's own error, and a server's hint lengthens the open time."""
    config = lab.config(retry=None, breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=10.0))
    error = ServerError("maintenance")
    error.retry_after = 99.0
    with pytest.raises(ServerError):
        await lab.call(way, steps(error), config=config)
    breaker = lab.kit.get_circuit_breaker("op")
    assert (ServerError, 99.0) == (type(breaker.last_failure), breaker.open_remaining)


@pytest.mark.parametrize(("make", "left"), [(ServerError, 28), (slow_down, 37)])
async def test_a_retry_costs_what_its_error_costs(lab, way, steps, make, left):
    """Throttling less than others; a success after it gives that back, one at once its refund."""
    budget = RetryBudgetConfig(capacity=42, success_refund=2)
    config = lab.config(retry=RetryConfig(max_attempts=2, jitter=None), retry_budget=budget)
    with contextlib.suppress(ServerError, RateLimitError):
        await lab.call(way, steps(make()), config=config)
    bucket = lab.kit._registry.operations["op"].budget
    assert left == bucket.available_tokens
    await lab.call(way, steps("done"), config=config)
    assert left + 2 == bucket.available_tokens
    await lab.call(way, steps(make(), "done"), config=config)
    assert left + 2 == bucket.available_tokens


async def test_a_layer_below_that_might_have_retried_is_not_repeated(lab, steps):
    """Also where its circuit opened before its second attempt: one layer decides on retries."""
    attempt = steps(ServerError)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(1, retry=RetryConfig(max_attempts=2)))(
        lab.shapes["async"](attempt)
    )

    async def outer():
        return await inner()

    with pytest.raises(ServerError):
        await lab.kit.with_resilience("outer", custom_config=lab.config())(outer)()
    assert (1, {"total_calls": 1, "failed_calls": 1}) == (attempt.calls, lab.counted("outer"))
