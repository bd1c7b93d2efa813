"""Hedged attempts: a second request for a slow first one, the first answer counts, and the loser is gone before it is given."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc

import pytest

from resilience_kit import idempotency_key, remaining_time
from resilience_kit.config import ResilienceConfig
from resilience_kit.errors import AuthenticationError, BulkheadFullError, ConfigurationError, DeadlineExceededError, ServerError
from resilience_kit.events import CallSucceeded, HedgeStarted
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.hedge import HedgeConfig
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig

AFTER_A_SECOND = HedgeConfig(delay=1.0)


class Service:
    """Answers with planned steps after planned seconds: a value, or an error to raise. Remembers what became of each request."""

    def __init__(self, lab, *plan):
        self.clock, self.plan, self.log, self.seen = lab.clock, list(plan), [], []

    async def __call__(self):
        number = len(self.seen) + 1
        self.seen.append((idempotency_key(), remaining_time()))
        seconds, step = self.plan.pop(0)
        try:
            await self.clock.sleep_async(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # as a connection that is given back
            self.log.append(f"{number} cancelled")
            raise
        self.log.append(f"{number} ended")
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step
        return step


@pytest.fixture
def protected(lab):
    """A service under a config with hedges after 1 s."""

    def make(*plan, hedge=AFTER_A_SECOND, retry=None, **options):
        service = Service(lab, *plan)
        config = lab.config(hedge=hedge, retry=retry, **options)

        async def request():
            return await service()

        service.call = lab.kit.with_resilience("op", custom_config=config)(request)
        return service

    return make


async def test_the_second_request_answers_for_a_slow_first_one(lab, protected):
    """After the delay; and the first one is over before the caller has the answer."""
    service = protected((30.0, "late"), (0.5, "hedge"))
    assert ("hedge", 101.5) == (await service.call(), lab.clock.monotonic())
    assert ["2 ended", "1 cancelled"] == service.log


async def test_a_fast_answer_needs_no_second_request(lab, protected):
    """Nothing is sent within the delay, nor is anything left that would be later."""
    service = protected((0.9, "first"))
    assert "first" == await service.call()
    await lab.clock.sleep_async(5.0)
    assert ["1 ended"] == service.log


async def test_the_first_request_may_still_win(lab, protected):
    """Then the second one is the loser."""
    service = protected((1.5, "first"), (5.0, "hedge"))
    assert "first" == await service.call()
    assert ["1 ended", "2 cancelled"] == service.log


async def test_both_answers_at_once_are_one(lab, protected):
    """The first request's counts."""
    service = protected((2.0, "first"), (1.0, "hedge"))
    assert "first" == await service.call()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()


async def test_a_hedged_call_counts_once(lab, protected):
    """One attempt, one success, one event of each kind."""
    lab.listen(HedgeStarted, CallSucceeded)
    service = protected((30.0, "late"), (0.5, "hedge"))
    await service.call()
    assert [HedgeStarted(operation="op", after=1.0), CallSucceeded(operation="op", attempts=1, duration=1.5)] == lab.events
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()
    breaker = lab.kit.get_circuit_breaker("op")
    assert (1, 0) == (breaker.metrics["success_count"], breaker.metrics["failure_count"])


async def test_an_error_that_may_pass_waits_for_the_other_request(lab, protected):
    """The hedge's answer is the attempt's, and no failure was."""
    service = protected((2.0, ServerError("first")), (3.0, "hedge"))
    assert "hedge" == await service.call()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count


async def test_when_both_fail_the_first_ones_error_is_told(lab, protected):
    """It is what the caller would have had without hedges; it counts once."""
    service = protected((3.0, ServerError("first")), (1.0, ServerError("hedge")))
    with pytest.raises(ServerError, match="first"):
        await service.call()
    assert ["2 ended", "1 ended"] == service.log
    assert 1 == lab.kit.get_circuit_breaker("op").failure_count


async def test_a_hedge_that_fails_harms_nobody(lab, protected):
    """The first request goes on."""
    service = protected((3.0, "first"), (0.5, AuthenticationError("hedge")))
    assert "first" == await service.call()


async def test_an_error_that_does_not_pass_ends_the_attempt(lab, protected):
    """The other request would meet it, too."""
    service = protected((2.0, AuthenticationError("first")), (30.0, "hedge"))
    with pytest.raises(AuthenticationError):
        await service.call()
    assert (102.0, ["1 ended", "2 cancelled"]) == (lab.clock.monotonic(), service.log)


async def test_no_hedge_is_sent_once_the_first_request_has_failed(lab, protected):
    """That would be a retry without its pause."""
    service = protected((1.5, ServerError("first")), (5.0, ServerError("hedge")), hedge=HedgeConfig(delay=1.0, max_hedges=2))
    with pytest.raises(ServerError, match="first"):
        await service.call()
    assert 2 == len(service.seen)


async def test_each_attempt_is_hedged(lab, protected):
    """After a failure of all its requests comes the pause, as without hedges."""
    plan = ((1.5, ServerError("a")), (0.1, ServerError("b")), (9.0, "late"), (0.5, "hedge of the retry"))
    service = protected(*plan, retry=RetryConfig(jitter=None))
    assert "hedge of the retry" == await service.call()
    assert 100.0 + 1.5 + 1.0 + 1.5 == lab.clock.monotonic()
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 1} == lab.counted()


async def test_several_hedges_go_out_one_after_the_other(lab, protected):
    """As many as allowed, a delay apart."""
    service = protected((30.0, "a"), (30.0, "b"), (0.5, "c"), hedge=HedgeConfig(delay=1.0, max_hedges=2))
    assert ("c", 102.5) == (await service.call(), lab.clock.monotonic())
    assert ["3 ended", "1 cancelled", "2 cancelled"] == service.log


async def test_all_requests_carry_one_key(lab, protected):
    """The same on the hedge (invariant 30)."""
    service = protected((30.0, "late"), (0.5, "hedge"), idempotency_key=True)
    await service.call()
    assert 1 == len({key for key, _ in service.seen})
    assert service.seen[0][0]


async def test_a_hedge_knows_how_much_time_is_left(lab, protected):
    """Of the attempt, which began before it."""
    service = protected((30.0, "late"), (0.5, "hedge"), deadline=10.0, attempt_timeout=4.0)
    await service.call()
    assert [4.0, 3.0] == [left for _, left in service.seen]


async def test_the_deadline_ends_all_requests(lab, protected):
    """And is what the caller hears (invariant 26)."""
    service = protected((30.0, "late"), (30.0, "later"), deadline=5.0)
    with pytest.raises(DeadlineExceededError):
        await service.call()
    assert (105.0, ["1 cancelled", "2 cancelled"]) == (lab.clock.monotonic(), service.log)


@pytest.mark.parametrize("after", [0.5, 1.5])
async def test_a_cancelled_caller_cancels_all_requests(lab, protected, after):
    """Before and after the hedge; it is not counted as anything else (invariants 4 and 28)."""
    guard = lab.Guard()
    service = protected((30.0, "late"), (30.0, "later"), guards=(guard,))
    task = asyncio.ensure_future(service.call())
    await lab.clock.sleep_async(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [["cancelled"]] * len(service.seen) == guard.kinds
    assert [f"{number + 1} cancelled" for number in range(len(service.seen))] == service.log
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


async def test_cancelled_twice_waits_for_the_requests_all_the_same(lab):
    """Neither is left behind, however often somebody is in a hurry."""
    ended = []

    async def stubborn():
        try:
            await lab.clock.sleep_async(30.0)
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):
                await lab.clock.sleep_async(1.0)
            ended.append(1)
            raise

    call = lab.kit.with_resilience("op", custom_config=lab.config(hedge=HedgeConfig(delay=1.0)))(stubborn)
    task = asyncio.ensure_future(call())
    await lab.clock.sleep_async(2.0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [1, 1] == ended


async def test_a_cancellation_from_within_goes_its_way(lab, protected):
    """A function may cancel itself."""
    service = protected((2.0, asyncio.CancelledError()), (30.0, "hedge"))
    with pytest.raises(asyncio.CancelledError):
        await service.call()
    assert ["1 ended", "2 cancelled"] == service.log


# --- what may forbid a hedge -------------------------------------------------------------------------------------------------


async def test_the_guards_are_asked_for_a_hedge_too(lab, protected):
    """The winner's permit hears the answer, the loser's that it was cancelled: what was used is settled once."""
    guards = (lab.Guard("a"), lab.Guard("b"))
    service = protected((30.0, "late"), (0.5, "hedge"), guards=guards)
    await service.call()
    for guard in guards:
        loser, winner = (permit.outcomes for permit in guard.permits)
        assert [("cancelled", None, 1.5)] == [(each.kind, each.value, each.duration) for each in loser]
        assert [("success", "hedge")] == [(each.kind, each.value) for each in winner]


async def test_guards_hear_how_a_request_failed_whose_error_is_not_told(lab, protected):
    """The service said it, even if the attempt went well."""
    guard = lab.Guard()
    await protected((3.0, ServerError), (4.0, "hedge"), guards=(guard,)).call()
    assert ["server_error"] == [each.verdict.kind for each in guard.permits[0].outcomes]
    await protected((3.0, "first"), (0.5, AuthenticationError), guards=(guard,)).call()
    assert [["failure"], ["success"], ["success"], ["ignored"]] == guard.kinds


@pytest.mark.parametrize("answer", [BulkheadFullError("b", 1.0), 0.5])
async def test_a_guard_that_refuses_or_would_make_it_wait_forbids_it(lab, protected, answer):
    """What other guards gave comes back unused, and the caller waits for the first request."""
    first, second = lab.Guard("a"), lab.Guard("b", 0.0, answer)
    service = protected((3.0, "first"), guards=(first, second))
    assert "first" == await service.call()
    assert [["success"], ["cancelled"]] == first.kinds
    assert [True, False] == [permit.outcomes[0].begun for permit in first.permits]


async def test_a_turn_to_wait_for_forbids_it(lab, protected):
    """A hedge stands in no line."""

    class Busy(lab.Guard):
        def admit(self, cost=1.0):
            permit = super().admit(cost)
            permit.turn = object() if len(self.permits) > 1 else None
            return permit

    guard = Busy()
    assert "first" == await protected((3.0, "first"), guards=(guard,)).call()
    assert [["success"], ["cancelled"]] == guard.kinds


async def test_a_guard_that_breaks_ends_the_call(lab, protected):
    """As before a first attempt; and no request is left behind."""
    service = protected((30.0, "late"), guards=(lab.Guard("a", 0.0, ZeroDivisionError("bug")),))
    with pytest.raises(ZeroDivisionError):
        await service.call()
    assert ["1 cancelled"] == service.log


@pytest.mark.parametrize("state", [CircuitState.OPEN, CircuitState.HALF_OPEN])
async def test_a_circuit_that_is_no_longer_closed_forbids_it(lab, protected, state):
    """It has opened while the first request was under way."""
    service = protected((3.0, "first"))
    lab.clock.call_later(0.5, lambda: setattr(lab.kit.get_circuit_breaker("op"), "state", state))
    assert ("first", 1) == (await service.call(), len(service.seen))


async def test_a_trial_is_not_hedged(lab, protected):
    """One request at a time in half-open (invariant 1)."""
    service = protected((3.0, "first"))
    lab.kit.get_circuit_breaker("op").state = CircuitState.HALF_OPEN
    assert ("first", 1) == (await service.call(), len(service.seen))


async def test_an_operation_without_a_breaker_is_hedged(lab, protected):
    """Nothing forbids it."""
    service = protected((30.0, "late"), (0.5, "hedge"), breaker=None)
    assert "hedge" == await service.call()


async def test_hedges_are_bounded_by_the_retry_budget(lab, protected):
    """Each takes what a retry takes; a success puts one token back (invariant 31)."""
    budget = RetryBudgetConfig(capacity=20, transient_cost=14)
    service = protected(*[(3.0, "slow")] * 6, retry_budget=budget)
    for _ in range(5):
        await service.call()
    assert 6 == len(service.seen)


async def test_hedges_are_bounded_by_their_share(lab, protected):
    """Ten at once, and then that share of the attempts."""
    service = protected(*[(3.0, "slow")] * 200, hedge=HedgeConfig(delay=1.0, max_share=0.1))
    for _ in range(100):
        await service.call()
    assert 100 + 10 + 100 * 0.1 - 1 <= len(service.seen) <= 100 + 10 + 100 * 0.1


async def test_the_delay_is_what_most_calls_have_not_exceeded(lab, protected):
    """Once there are enough of them; at most an eighth above the share asked for."""
    hedge = HedgeConfig(minimum_calls=20)
    service = protected(*[(2.0, "usual")] * 19, (30.0, "unknown"), (30.0, "late"), (0.5, "hedge"), hedge=hedge)
    for _ in range(20):
        await service.call()
    began = lab.clock.monotonic()
    assert "hedge" == await service.call()
    assert 2.5 <= lab.clock.monotonic() - began <= 2.0 * 1.125 + 0.5


# --- what cannot be hedged -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "generator", "async generator"])
def test_only_async_functions_are_hedged(lab, kind):
    """Said when decorating, in a sentence."""
    decorate = lab.kit.with_resilience("op", custom_config=lab.config(hedge=HedgeConfig()))
    with pytest.raises(ConfigurationError, match=r"hedges async functions only.*'op"):
        decorate(lab.shapes[kind](lambda: 1))


def test_a_plain_call_is_not_hedged(lab):
    """Said by the call, before anything is done."""
    done = []
    with pytest.raises(ConfigurationError, match="async functions only"):
        lab.kit.call_with_resilience(done.append, "op", 1, custom_config=lab.config(hedge=HedgeConfig()))
    assert [] == done


async def test_what_cannot_be_cancelled_is_not_hedged(lab):
    """A plain function in the loop's thread, and one in another thread."""
    done = []
    config = lab.config(hedge=HedgeConfig(), retry=None)
    run = functools.partial(lab.kit.execute_with_resilience, done.append, "op", custom_config=config)
    with pytest.raises(ConfigurationError, match="async functions only"):
        await run(1)
    with pytest.raises(ConfigurationError, match="async functions only"):
        await run(2, in_thread=True)
    assert 2 not in done


def test_what_may_not_be_repeated_is_not_hedged(lab):
    """Neither in a config, nor by a call site's argument, whatever key it carries."""
    with pytest.raises(ConfigurationError, match=r"hedge: must be None where idempotent is False"):
        ResilienceConfig(hedge=HedgeConfig(), idempotent=False, idempotency_key=True)
    with pytest.raises(ConfigurationError, match=r"hedge: must be None where idempotent is False"):
        lab.kit.with_resilience("op", custom_config=lab.config(hedge=HedgeConfig()), idempotent=False)(asyncio.sleep)


async def test_a_lambda_that_gives_a_coroutine_is_hedged(lab):
    """The usual way with an SDK's method."""
    service = Service(lab, (30.0, "late"), (0.5, "hedge"))
    config = lab.config(hedge=HedgeConfig(delay=1.0))
    assert "hedge" == await lab.kit.execute_with_resilience(lambda: asyncio.wait_for(service(), None), "op", custom_config=config)


def test_call_sites_share_what_is_known(lab):
    """Those with equal options have one hedging; another config has its own."""

    def hedging(config):
        async def f(): ...

        lab.kit.with_resilience("op", custom_config=lab.config(hedge=config))(f)
        return lab.kit._registry.operations["op"].limiters["hedge"]

    assert hedging(HedgeConfig()) is hedging(HedgeConfig())
    assert hedging(HedgeConfig()) is not hedging(HedgeConfig(delay=1.0))


async def test_a_hedged_failure_leaves_no_circles(lab, protected):
    """Errors and frames are gone when the caller lets go, not at the next collection."""
    service = protected(*[(3.0, ServerError), (1.0, ServerError)] * 2)
    with pytest.raises(ServerError):
        await service.call()
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ServerError):
            await service.call()
        assert 0 == gc.collect()
    finally:
        gc.enable()
