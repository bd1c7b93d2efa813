"""What the simulation found, each shrunk to its core."""

from __future__ import annotations

import asyncio

import pytest

from resilience_kit import AIServiceResilience, RetryConfig, remaining_time
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import AuthenticationError, DeadlineExceededError, ServerError
from resilience_kit.events import NestedRetry, StateChanged
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from resilience_kit.testing import FakeClock

ONE = RetryConfig(base_delay=0)


async def test_the_time_of_a_first_attempt_begins_after_its_wait(lab, direct, steps):
    """A circuit that is waited for takes nothing from the attempt's own time (invariant 26)."""
    lab.kit.get_circuit_breaker("op").state = "open"
    seen = []
    config = lab.config(1, circuit_open="wait", attempt_timeout=5.0)
    await lab.call(direct, lambda: seen.append(remaining_time()), config=config)
    assert lab.clock.sleeps[0] > 5.0
    assert [5.0] == seen


async def test_a_first_attempt_that_waited_is_not_cut_off_at_once(lab):
    """The wait alone is longer than the attempt timeout (invariant 26)."""
    lab.kit.get_circuit_breaker("op").state = "open"

    async def answer():
        await lab.clock.sleep_async(4.0)
        return "done"

    config = lab.config(1, retry=None, circuit_open="wait", attempt_timeout=5.0)
    assert "done" == await lab.kit.with_resilience("op", custom_config=config)(answer)()


def short_of(lab, steps, capacity):
    """An operation whose retry budget is empty, and a function of it that answers."""
    config = lab.config(10**9, retry=ONE, retry_budget=RetryBudgetConfig(capacity=capacity))
    failing = lab.kit.with_resilience("op", custom_config=config)(steps(ServerError))
    for _ in range(2):
        with pytest.raises(ServerError):
            failing()
    return lab.kit._registry.operations["op"], lab.kit.with_resilience("op", custom_config=config)(steps("done"))


@pytest.mark.parametrize("move", ["reset", "force_close"])
def test_successes_are_heard_of_after_a_move_of_the_breaker(lab, steps, move):
    """The new state asks for their reports as the old one did (invariant 31)."""
    operation, answer = short_of(lab, steps, 28)
    getattr(operation.breaker, move)(*(["x"] if move == "force_close" else []))
    for _ in range(5):
        answer()
    assert 5 == operation.budget.available_tokens


def test_successes_are_heard_of_after_one_of_a_site_without_a_budget(lab, steps):
    """Its success clears the breaker's failures, and not the budget's wish to hear of the next (invariant 31)."""
    operation, answer = short_of(lab, steps, 28)
    lab.kit.with_resilience("op", custom_config=lab.config(10**9))(steps("done"))()
    for _ in range(5):
        answer()
    assert 5 == operation.budget.available_tokens


async def test_a_success_under_way_at_a_move_is_heard_of(lab, steps):
    """Its token is of a state that is over; the budget gets its refund all the same (invariant 31)."""
    config = lab.config(10**9, retry=ONE, retry_budget=RetryBudgetConfig(capacity=28))
    go = asyncio.Event()

    async def answer():
        await go.wait()

    under_way = asyncio.ensure_future(lab.kit.with_resilience("op", custom_config=config)(answer)())
    await asyncio.sleep(0)
    lab.kit.get_circuit_breaker("op").force_open("x")
    lab.kit.get_circuit_breaker("op").force_close("x")
    operation, _ = short_of(lab, steps, 28)
    go.set()
    await under_way
    assert 1 == operation.budget.available_tokens


def test_no_report_is_asked_for_once_the_budget_is_full(lab, steps):
    """One more success finds that out; from then on none takes a lock."""
    operation, answer = short_of(lab, steps, 28)
    for _ in range(28 + 1):
        answer()
    assert (28, False) == (operation.budget.available_tokens, operation.breaker.snapshot.tracks_success)


@pytest.mark.parametrize("last", [AuthenticationError, DeadlineExceededError])
async def test_whatever_a_retried_call_ends_in_is_not_retried_again(lab, direct, steps, last):
    """The inner operation has used its attempts, though its last error is another one (invariant 31)."""
    lab.listen(NestedRetry)
    attempt = steps(ServerError, last)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config())(attempt)
    outer = lab.config(retry=RetryConfig(retry_exceptions=(Exception,), base_delay=0))
    with pytest.raises(last):
        await lab.call(direct, inner, operation="outer", config=outer)
    assert 2 == attempt.calls
    assert ["operation 'inner'"] == [event.inner for event in lab.events]


async def test_what_must_not_be_repeated_is_not_repeated_from_outside(lab, direct, steps):
    """The inner operation is not idempotent, and may have been carried out (invariant 30)."""
    lab.listen(NestedRetry)
    attempt = steps(ServerError)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(idempotent=False))(attempt)
    with pytest.raises(ServerError) as caught:
        await lab.call(direct, inner, operation="outer")
    assert (1, []) == (attempt.calls, lab.events)
    assert "operation 'inner' may have been carried out, and it is not idempotent" in caught.value.__notes__[1]


@pytest.mark.parametrize("deadline", [None, 10.0])
async def test_what_may_have_been_carried_out_is_not_repeated_whatever_it_ended_in(lab, direct, steps, deadline):
    """The inner operation, which is not idempotent, does not retry such an error; the outer one would (invariant 30)."""
    attempt = steps(ServerError)
    never = RetryConfig(retry_exceptions=(KeyError,))
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(idempotent=False, retry=never, deadline=deadline))(attempt)
    with pytest.raises(ServerError):
        await lab.call(direct, inner, operation="outer", config=lab.config(deadline=deadline))
    assert 1 == attempt.calls


def test_a_success_counts_though_a_listener_of_the_closing_is_broken_off(lab, steps):
    """Ctrl-C while the listener writes: permits are settled, the call is in its counter (invariants 5, 14)."""
    guard = lab.Guard()
    config = lab.config(1, retry=None, guards=(guard,))
    with pytest.raises(ServerError):
        lab.kit.with_resilience("op", custom_config=config)(steps(ServerError))()
    lab.clock.advance(60.0)

    def interrupted(event):
        if event.new == "closed":
            raise KeyboardInterrupt

    lab.kit.add_listener(interrupted, StateChanged)
    with pytest.raises(KeyboardInterrupt):
        lab.kit.with_resilience("op", custom_config=config)(steps("done"))()
    assert {"total_calls": 2, "successful_calls": 1, "failed_calls": 1} == lab.counted()
    assert [["failure"], ["success"]] == guard.kinds


async def test_one_error_for_two_calls_is_no_nested_retry(lab):
    """Both wait for the same connection; the one that gives up first says nothing about the other (invariant 31)."""
    lab.listen(NestedRetry)
    shared = asyncio.get_running_loop().create_future()
    attempts = {"first": 0, "second": 0}

    @lab.kit.with_resilience("op", custom_config=lab.config(retry=RetryConfig(max_attempts=2, base_delay=0), deadline=10.0))
    async def call(who):
        attempts[who] += 1
        if (who, attempts[who]) == ("first", 1):
            raise ServerError
        await asyncio.shield(shared)

    calls = [asyncio.ensure_future(call(who)) for who in attempts]
    for _ in range(5):
        await asyncio.sleep(0)
    shared.set_exception(ServerError("shared"))
    await asyncio.gather(*calls, return_exceptions=True)
    assert ({"first": 2, "second": 2}, []) == (attempts, lab.events)


@pytest.mark.parametrize("deadline", [None, 10.0])
async def test_an_operation_within_itself_does_not_multiply(lab, direct, steps, deadline):
    """Two functions of one operation, the one calling the other (invariant 31)."""
    attempt = steps(ServerError)
    config = lab.config(deadline=deadline)
    inner = lab.kit.with_resilience("op", custom_config=config)(attempt)
    with pytest.raises(ServerError):
        await lab.call(direct, inner, config=config)
    assert 3 == attempt.calls


async def test_a_retry_in_a_thread_without_the_context_is_noticed(lab, steps):
    """`run_in_executor` copies no context; the operation's name tells (invariant 31)."""
    attempt = steps(ServerError)
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(retry=ONE))(attempt)

    async def outer():
        await asyncio.get_running_loop().run_in_executor(None, inner)

    kit = AIServiceResilience(ResilienceSettings(), clock=FakeClock(auto_advance=False))
    with pytest.raises(ServerError):
        await kit.with_resilience("outer", custom_config=lab.config(retry=ONE, deadline=10.0))(outer)()
    assert 3 == attempt.calls
