"""Results that mean "try again": attempts, pauses, and the last word, for every way of calling."""

from __future__ import annotations

import asyncio

import pytest
import tenacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience_kit.errors import RateLimitExceededError, ServerError
from resilience_kit.events import CallFailed, CallSucceeded, RetryScheduled
from resilience_kit.outcome import FailureKind
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig

#: Ways whose function returns a value; a stream's items are no result.
VALUES = (
    "sync",
    "async",
    "sync giving a coroutine",
    "call",
    "call of async",
    "execute",
    "execute plain",
    "execute giving a coroutine",
)


def is_pending(result):
    """Whether the answer is not there yet."""
    return result == "pending"


POLLING = RetryConfig(jitter=None, retry_on_result=is_pending)


@pytest.fixture(params=VALUES)
def value_way(request):
    """Every way of calling a function that returns a value."""
    return request.param


async def test_an_unwanted_result_is_asked_for_again(lab, value_way, steps):
    """Two unwanted results, two pauses, one call that went well; the breaker counts no failure (invariants 23 and 25)."""
    lab.listen(RetryScheduled, CallSucceeded, CallFailed)
    attempt = steps("pending", "pending", "done")
    assert "done" == await lab.call(value_way, attempt, config=lab.config(1, retry=POLLING))
    assert (3, [1.0, 2.0]) == (attempt.calls, lab.clock.sleeps)
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()
    assert CircuitState.CLOSED == lab.kit.get_circuit_breaker("op").state
    scheduled = [
        (each.attempt, each.delay, each.kind, each.error_type) for each in lab.events if isinstance(each, RetryScheduled)
    ]
    assert [(1, 1.0, FailureKind.TRANSIENT, "result"), (2, 2.0, FailureKind.TRANSIENT, "result")] == scheduled
    assert isinstance(lab.events[-1], CallSucceeded)


async def test_the_last_result_is_returned_when_no_attempt_is_left(lab, value_way, steps):
    """Exactly max_attempts, no sleep after the last one, and no error (invariants 23 and 25)."""
    attempt = steps(*["pending"] * 9)
    assert "pending" == await lab.call(value_way, attempt, config=lab.config(retry=POLLING))
    assert (3, [1.0, 2.0]) == (attempt.calls, lab.clock.sleeps)
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_errors_and_unwanted_results_share_the_attempts(lab, value_way, steps):
    """An error after an unwanted result is the last word when it comes last, and the other way round."""
    with pytest.raises(ServerError):
        await lab.call(value_way, steps("pending", ServerError, ServerError), config=lab.config(retry=POLLING))
    attempt = steps(ServerError, "pending", "pending")
    assert "pending" == await lab.call(value_way, attempt, config=lab.config(retry=POLLING))
    assert 3 == attempt.calls


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"deadline": 2.5}, 2),
        ({"idempotent": False}, 1),
        ({"idempotent": False, "idempotency_key": True}, 3),
        ({"retry_budget": RetryBudgetConfig(capacity=14)}, 2),
        ({"retry_budget": RetryBudgetConfig(capacity=1)}, 1),
    ],
)
async def test_what_ends_retries_ends_those_of_a_result(lab, kind, steps, options, expected):
    """Deadline, budget and what may not be repeated: then the last result is the answer (invariants 26, 30 and 31)."""
    attempt = steps(*["pending"] * 9)
    assert "pending" == await lab.call(kind, attempt, config=lab.config(retry=POLLING, **options))
    assert expected == attempt.calls


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_result_that_comes_after_the_deadline_is_the_last_one(lab, kind, steps):
    """Nobody asks again when the time is over (invariant 26)."""
    attempt = steps(lambda: (lab.clock.advance(9.0), "late")[1])
    retry = RetryConfig(jitter=None, retry_on_result=lambda _: True)
    assert "late" == await lab.call(
        "sync" if kind == "sync" else "execute plain", attempt, config=lab.config(retry=retry, deadline=5.0)
    )
    assert 1 == attempt.calls


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_refusal_between_two_attempts_gives_the_last_result(lab, kind, steps):
    """What the service said last is the answer, not that a guard or the circuit refused a further attempt (invariant 27)."""
    guard = lab.Guard("probe", 0.0, RateLimitExceededError("probe", 1.0))
    attempt = steps(*["pending"] * 9)
    assert "pending" == await lab.call(kind, attempt, config=lab.config(retry=POLLING, guards=(guard,)))
    assert (1, [["success"]]) == (attempt.calls, guard.kinds)
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()
    breaker = lab.kit.get_circuit_breaker("op")
    attempt = steps(lambda: (breaker.force_open("test"), "pending")[1], "done")
    assert "pending" == await lab.call(kind, attempt, config=lab.config(retry=POLLING))
    assert 1 == attempt.calls


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_deadline_that_passes_in_the_pause_gives_the_last_result(lab, kind, steps):
    """A sleep may last longer than it was asked to (invariant 26)."""
    attempt = steps("pending", "done")
    overslept = lambda _: lab.clock.advance(10.0)  # noqa: E731 - a hook
    retry = RetryConfig(jitter=None, retry_on_result=is_pending, before_sleep=overslept)
    assert "pending" == await lab.call(kind, attempt, config=lab.config(retry=retry, deadline=5.0))
    assert 1 == attempt.calls


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_each_answer_settles_its_guards_as_a_success(lab, kind, steps):
    """With its value: the service has done the work, and tokens were used."""
    guard = lab.Guard()
    await lab.call(kind, steps("pending", "done"), config=lab.config(retry=POLLING, guards=(guard,)))
    assert [["success"], ["success"]] == guard.kinds
    assert ["pending", "done"] == [permit.outcomes[0].value for permit in guard.permits]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_trial_of_a_half_open_circuit_closes_it_with_an_unwanted_result(lab, kind, steps):
    """The service answers: the next attempt needs no second trial."""
    config = lab.config(1, retry=POLLING)
    with pytest.raises(ServerError):
        await lab.call(kind, steps(ServerError), config=config)
    lab.clock.advance(61.0)
    attempt = steps("pending", "done")
    assert "done" == await lab.call(kind, attempt, config=config)
    assert CircuitState.CLOSED == lab.kit.get_circuit_breaker("op").state


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_predicate_that_raises_ends_the_call(lab, kind, steps):
    """Its error is the last word, and no permit is kept."""
    guard = lab.Guard()
    retry = RetryConfig(retry_on_result=lambda result: result["status"])
    with pytest.raises(TypeError):
        await lab.call(kind, steps("text"), config=lab.config(retry=retry, guards=(guard,)))
    assert [["cancelled"]] == guard.kinds
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


async def test_without_a_breaker_results_are_judged_the_same(lab, value_way, steps):
    """The predicate belongs to the retries, not to the circuit."""
    attempt = steps("pending", "done")
    assert "done" == await lab.call(value_way, attempt, config=lab.config(breaker=None, retry=POLLING))
    assert 2 == attempt.calls


async def test_hooks_see_the_unwanted_result(lab, value_way, steps):
    """As tenacity shows it: an outcome that did not fail."""
    seen = []
    retry = RetryConfig(
        jitter=None,
        retry_on_result=is_pending,
        before_sleep=lambda state: seen.append((state.outcome.failed, state.outcome.result())),
    )
    await lab.call(value_way, steps("pending", "done"), config=lab.config(retry=retry))
    assert [(False, "pending")] == seen


async def test_a_streams_items_are_no_result(lab, steps):
    """The predicate is not asked about streams."""
    for way in ("generator", "async generator"):
        attempt = steps("pending")
        assert "pending" == await lab.call(way, attempt, config=lab.config(retry=POLLING))
        assert 1 == attempt.calls


async def test_a_cancelled_pause_after_a_result_ends_at_once(lab, steps):
    """Cancelled is cancelled, not answered (invariant 28)."""
    lab.clock.auto_advance = False
    task = asyncio.ensure_future(lab.call("async", steps("pending", "done"), config=lab.config(retry=POLLING)))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


@pytest.mark.parametrize("way", ["sync", "async"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(script=st.lists(st.sampled_from(["pending", "error", "done"]), min_size=8, max_size=8), most=st.integers(1, 6))
async def test_any_script_ends_as_in_tenacity(lab, steps, way, script, most):
    """Attempts, pauses and the last word are those of tenacity with the same rules; only its RetryError is a result here."""
    lab.clock.sleeps.clear()
    values = [ServerError if each == "error" else each for each in script]
    retry = RetryConfig(max_attempts=most, jitter=None, retry_on_result=is_pending)
    attempt, slept = steps(*values), []
    try:
        ours = await lab.call(way, attempt, config=lab.config(breaker=None, retry=retry))
    except ServerError:
        ours = "error"
    again = steps(*values)
    try:
        theirs = retry.retrying(sleep=slept.append)(again)
    except ServerError:
        theirs = "error"
    assert (theirs, again.calls, slept) == (ours, attempt.calls, lab.clock.sleeps)
    assert not isinstance(theirs, tenacity.RetryError)
