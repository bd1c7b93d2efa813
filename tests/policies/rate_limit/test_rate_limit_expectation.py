"""How long a wait is taken to be: by what calls have used, not by their estimates; and what may start: by the estimates alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience_kit import AIServiceResilience
from resilience_kit.errors import RateLimitExceededError
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter
from resilience_kit.policies.rate_limit.consumption import MIN_REPORTS
from resilience_kit.policies.rate_limit.token_buckets import _MAX_CLASSES
from resilience_kit.testing import FakeClock

TOKENS = {"rate": 12_000.0, "period": 60.0}


def answered(units: float, seconds: float = 1.0) -> Outcome:
    """A good answer that tells what it used."""
    return Outcome(OutcomeKind.SUCCESS, seconds, value=units)


class World:
    """Tasks that start at once under one operation, and what became of them."""

    def __init__(self, *limits: RateLimitConfig, latency: float = 0.1, used: Any = 10.0, **options: Any) -> None:
        self.clock = FakeClock()
        self.latency, self.used = latency, used if callable(used) else lambda _: used
        self.starts: list[tuple[float, float]] = []
        self.refusals: list[tuple[float, float]] = []
        kit = AIServiceResilience(clock=self.clock)
        self.call = kit.with_resilience("op", rate_limit=limits, **{"strategy": "balanced", **options})(self._call)

    async def _call(self, number: int) -> float:
        used = self.used(number)
        self.starts.append((self.clock.monotonic(), used))
        await self.clock.sleep_async(self.latency)
        return used

    async def _one(self, number: int) -> bool:
        try:
            await self.call(number)
        except RateLimitExceededError as error:
            self.refusals.append((self.clock.monotonic(), error.retry_after))
            return False
        return True

    def run(self, number: int) -> int:
        """So many tasks at once: how many were answered."""

        async def all_of_them() -> int:
            return sum(await asyncio.gather(*(self._one(each) for each in range(number))))

        return asyncio.run(all_of_them())


def tokens(cost: Any = 44.0, usage: Any = lambda answer: answer, **options: Any) -> RateLimitConfig:
    """200 tokens a second."""
    return RateLimitConfig(**{**TOKENS, "cost": cost, "usage": usage, **options})


@pytest.mark.slow
@pytest.mark.parametrize("latency", [0.0, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("limits", ["a number", "a function", "two windows", "max_wait"])
def test_calls_that_use_less_than_they_book_are_all_answered(latency: float, limits: str) -> None:
    """200 tasks need 44 seconds by their estimates, 10 by their use, and have 30: each is answered."""
    given_limits = {
        "a number": (tokens(),),
        "a function": (tokens(lambda number: 40.0 + number % 9),),
        "two windows": (RateLimitConfig(rate=1200.0, period=60.0), tokens()),
        "max_wait": (tokens(max_wait=30.0),),
    }[limits]
    world = World(*given_limits, latency=latency)
    assert (200, []) == (world.run(200), world.refusals)


def test_calls_of_threads_that_use_less_than_they_book_are_all_answered() -> None:
    """Threads wait in the same queue, and are judged by the same evidence."""
    kit, done = AIServiceResilience(), []
    limit = RateLimitConfig(rate=2000.0, burst=200.0, cost=200.0, usage=lambda answer: answer)
    call = kit.with_resilience("op", rate_limit=limit, deadline=2.0)(lambda: 10.0)  # 4 s by the estimates, 0.1 by the use
    threads = [threading.Thread(target=lambda: done.append(call())) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [10.0] * 40 == done


def test_without_evidence_nobody_is_refused_and_with_it_those_who_cannot_make_it_are() -> None:
    """1000 tasks need 50 s: as soon as some calls have told what they used, those whose turn comes too late are refused."""
    world = World(tokens(), latency=0.5)
    answered_ones = world.run(1000)
    assert 500 <= answered_ones
    assert 1000 - answered_ones == len(world.refusals)
    assert 2.0 > max(at for at, _ in world.refusals)


def test_a_refusal_tells_when_there_is_room_in_truth() -> None:
    """Whoever comes back at the time that the refusal named is let in, and need not have come much later."""
    world = World(tokens(), latency=0.5)

    async def come_back() -> list[tuple[float, float]]:
        waits = []

        async def one(number: int) -> None:
            try:
                await world.call(number)
            except RateLimitExceededError as error:
                await world.clock.sleep_async(error.retry_after)
                began = world.clock.monotonic()
                await world.call(number)
                waits.append((error.retry_after, world.clock.monotonic() - began))

        await asyncio.gather(*(one(number) for number in range(1000)))
        return waits

    waits = asyncio.run(come_back())
    assert waits
    assert 10.0 > max(wait for _, wait in waits)
    assert 60.0 > max(hint for hint, _ in waits)


def test_calls_that_use_more_than_they_book_are_refused_at_once_with_an_honest_hint(lab: Any) -> None:
    """Estimates of 10 and answers of 40: four callers ahead take 160 units, so the fifth has to wait that long."""
    limiter = lab.limiter(10.0, burst=10.0, cost=10.0, max_wait=20.0, usage=lambda answer: answer)
    for _ in range(MIN_REPORTS):
        permit = limiter.admit()
        lab.start(permit)
        permit.settle(answered(40.0))
    lab.clock.advance(100.0)
    limiter.admit()
    waiting = [limiter.admit() for _ in range(4)]
    with pytest.raises(RateLimitExceededError) as caught:
        waiting.extend(limiter.admit() for _ in range(10))
    in_truth = (10.0 + 30.0 + 40.0 * len(waiting)) / 10.0
    assert in_truth <= caught.value.retry_after <= 1.3 * in_truth


def test_an_estimate_that_nobody_corrects_is_what_a_call_uses(lab: Any) -> None:
    """Answers that tell nothing leave their estimates, and so do limits without `usage`."""
    limiter = lab.limiter(1.0, max_wait=2.0, usage=lambda _: None)
    for _ in range(MIN_REPORTS):
        permit = limiter.admit()
        lab.start(permit)
        permit.settle(answered(0.0))
    lab.waiting(limiter).turn.look()
    lab.waiting(limiter)
    with pytest.raises(RateLimitExceededError) as caught:
        limiter.admit()
    assert 3.0 <= caught.value.retry_after <= 3.5


def test_what_failed_or_was_cancelled_is_no_evidence_of_use(lab: Any) -> None:
    """It keeps its estimate, as the service has counted it; the next calls may well use less."""
    limiter = lab.limiter(10.0, burst=10.0, cost=10.0, max_wait=3.0, usage=lambda answer: answer)
    for kind in (OutcomeKind.FAILURE, OutcomeKind.IGNORED, OutcomeKind.CANCELLED) * MIN_REPORTS:
        permit = limiter.admit()
        lab.start(permit)
        permit.settle(Outcome(kind))
    permit = lab.waiting(limiter)
    assert 0.0 == lab.clock.monotonic() + permit.turn.look() - lab.start(permit)
    assert [True] * 20 == [limiter.admit().turn is not None for _ in range(20)]


def test_calls_of_one_size_say_nothing_of_another(lab: Any) -> None:
    """Long questions use all that they book; that is no reason to refuse short ones, of which nobody knows it."""
    limiter = lab.limiter(100.0, burst=100.0, cost=lambda size: size, max_wait=5.0, usage=lambda answer: answer)
    for _ in range(MIN_REPORTS):
        permit = limiter.admit(100.0)
        lab.start(permit)
        permit.settle(answered(100.0))
    permits = [limiter.admit(100.0) for _ in range(5)]
    with pytest.raises(RateLimitExceededError):
        limiter.admit(100.0)
    for permit in permits:
        permit.settle(lab.NOT_BEGUN)
    assert 100 == sum(limiter.admit(9.0).turn is not None for _ in range(100))


def test_calls_of_another_function_of_the_same_limit_have_evidence_of_their_own(lab: Any) -> None:
    """Chats that use little do not make embeddings wait in vain, which use all that they book."""
    chats = lab.limiter(10.0, burst=10.0, cost=10.0, max_wait=5.0, usage=lambda answer: answer)
    embeddings = chats.with_costs(RateLimitConfig(rate=10.0, burst=10.0, cost=10.0, max_wait=5.0))
    for _ in range(MIN_REPORTS):
        permit = chats.admit()
        lab.start(permit)
        permit.settle(answered(1.0))
    assert 20 == sum(chats.admit().turn is not None for _ in range(20))
    with pytest.raises(RateLimitExceededError):
        for _ in range(20):
            embeddings.admit()


def test_functions_of_each_call_are_known_again_where_they_are_the_same(lab: Any) -> None:
    """Options that come with every call make a new view of the limiter each time, with the evidence of those before."""
    config = RateLimitConfig(rate=10.0, burst=10.0, cost=10.0, max_wait=5.0, usage=lambda answer: answer)
    limiter = RateLimiter(config, clock=lab.clock)
    for _ in range(MIN_REPORTS):
        permit = limiter.with_costs(config).admit()
        lab.start(permit)
        permit.settle(answered(10.0))
    with pytest.raises(RateLimitExceededError):
        for _ in range(20):
            limiter.with_costs(config).admit()


def test_functions_that_cannot_be_hashed_are_told_apart_all_the_same(lab: Any) -> None:
    """A callable object may refuse to be hashed."""

    class Used:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, answer: float) -> float:
            return answer

    limiter = lab.limiter(10.0, cost=10.0, usage=Used())
    limiter.admit().settle(answered(4.0))
    assert 6.0 == limiter._token_buckets.buckets[0].level


def test_a_debt_that_an_estimate_has_made_is_not_waited_for_by_the_clock() -> None:
    """A call that books 40 seconds' worth and uses a second's: who comes next has 30 s, waits for its end, and is answered."""
    world = World(tokens(8000.0), latency=1.0, used=50.0)
    assert (20, []) == (world.run(20), world.refusals)
    assert 25.0 > world.clock.monotonic()


def test_a_caller_whose_patience_ends_before_others_give_back_is_refused_then() -> None:
    """The call ahead is still under way at the deadline: the refusal comes then, and names the time that the debt takes."""
    clock = FakeClock()
    limiter, kit = RateLimiter(tokens(8000.0), clock=clock), AIServiceResilience(clock=clock)
    limiter.admit()
    call = kit.with_resilience("op", rate_limit=limiter, deadline=30.0)(clock.sleep_async)
    with pytest.raises(RateLimitExceededError) as caught:
        asyncio.run(call(0.0))
    assert (30.0, 10.0) == (clock.monotonic(), pytest.approx(caught.value.retry_after))


def test_what_comes_back_comes_when_its_calls_end(lab: Any) -> None:
    """A wait for others' estimates is taken to last as long as a call, and no longer than the bucket takes to fill."""
    limiter = lab.limiter(10.0, burst=10.0, cost=100.0, usage=lambda answer: answer)
    for _ in range(MIN_REPORTS):
        permit = limiter.admit()
        lab.start(permit)
        permit.settle(answered(1.0, seconds=2.5))
        lab.clock.advance(60.0)
    limiter.admit()
    head = lab.waiting(limiter)
    assert (10.0, 2.5) == (head.turn.look(), head.turn.expected)
    lab.clock.advance(9.0)
    assert (1.0, 1.0) == (pytest.approx(head.turn.look()), pytest.approx(head.turn.expected))


def test_a_head_with_max_wait_waits_for_what_others_give_back(lab: Any) -> None:
    """The bucket takes ten seconds to fill, which is too long; the call ahead will have ended by then."""
    limiter = lab.limiter(10.0, burst=10.0, cost=100.0, max_wait=5.0, usage=lambda answer: answer)
    first = limiter.admit()
    head = lab.waiting(limiter)
    assert (None, 5.0) == (head.turn.look(), head.turn.patience)
    lab.clock.advance(1.0)
    first.settle(answered(10.0))
    assert 0.0 == head.turn.look()
    late = lab.waiting(limiter)
    lab.clock.advance(5.0)
    with pytest.raises(RateLimitExceededError):
        late.turn.look()


def test_a_call_that_was_not_made_gives_all_back_and_one_without_an_answer_nothing(lab: Any) -> None:
    """Where calls report their use, too: None as an answer is none that could tell it."""
    limiter = lab.limiter(10.0, cost=4.0, usage=lambda answer: answer)
    first, second = limiter.admit(), limiter.admit()
    first.settle(lab.NOT_BEGUN)
    second.settle(lab.SUCCESS)
    assert (6.0, {}) == (limiter._token_buckets.buckets[0].level, limiter._token_buckets._active_classes)


def test_evidence_is_bounded(lab: Any) -> None:
    """Functions that are made for each call leave no more than a few classes behind."""
    limiter = lab.limiter(10.0)
    for _ in range(2 * _MAX_CLASSES):
        limiter.with_costs(RateLimitConfig(rate=10.0, usage=lambda answer: answer)).admit().settle(answered(0.0))
    assert _MAX_CLASSES == len(limiter._token_buckets._cost_classes)
    assert {} == limiter._token_buckets._active_classes


def test_a_forked_child_has_none_of_the_calls_and_all_of_the_evidence(lab: Any) -> None:
    """What is settled there that began before counts for nothing."""
    limiter = lab.limiter(10.0, cost=10.0, max_wait=5.0, usage=lambda answer: answer)
    for _ in range(MIN_REPORTS):
        permit = limiter.admit()
        lab.start(permit)
        permit.settle(answered(10.0))
    lab.clock.advance(10.0)
    inherited = limiter.admit()
    limiter.admit()
    limiter._token_buckets.reset_after_fork()
    assert {} == limiter._token_buckets._active_classes
    inherited.settle(answered(10.0))
    with pytest.raises(RateLimitExceededError):
        for _ in range(20):
            limiter.admit()


def test_a_caller_that_lost_its_loop_after_its_turn_had_come_is_not_under_way(lab: Any) -> None:
    """Its estimate goes back, and nothing is expected of it."""
    limiter = lab.limiter(10.0, cost=10.0, usage=lambda answer: answer)
    limiter.admit()
    permit = lab.waiting(limiter)

    def closed() -> None:
        raise RuntimeError("Event loop is closed")

    permit.turn.look()
    permit.turn.wake_by(closed)
    limiter._token_buckets.refund((10.0,))
    permit.settle(answered(1.0))
    assert (10.0, 1) == (limiter._token_buckets.buckets[0].level, limiter._fixed_class._in_flight)


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.tuples(st.integers(1, 400), st.floats(0.0, 1.0)), min_size=1, max_size=60),
    latency=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_no_more_is_used_than_the_limit_brings(costs: list[tuple[int, float]], latency: float) -> None:
    """Whatever is expected: no more than burst and rate, but for the debt of one estimate above the burst."""
    world = World(
        tokens(lambda number: float(costs[number][0])),
        latency=latency,
        used=lambda number: costs[number][0] * costs[number][1],
        deadline=300.0,
    )
    assert len(costs) == world.run(len(costs))
    used, began = 0.0, world.starts[0][0]
    for at, units in world.starts:
        used += units
        assert used <= 200.0 + 200.0 * (at - began + 0.05) + 200.0 * any(cost > 200 for cost, _ in costs) + 1e-6


def test_a_refusal_after_the_turn_has_come_leaves_the_queue_as_it_is() -> None:
    """The call's deadline may be over in the moment in which its turn comes; those behind have booked what they have booked."""
    clock = FakeClock()
    limiter = RateLimiter(tokens(cost=lambda units: units, burst=100.0), clock=clock)
    limiter.admit_call((100.0,), {})
    first, second = limiter.admit_call((80.0,), {}), limiter.admit_call((70.0,), {})
    clock.advance(0.4)
    assert 0.0 == first.turn.look()
    cost_class = second.cost_class
    assert first.cost_class is cost_class
    first.turn.refusal()
    assert 70.0 == cost_class.queued_cost(0, 0, worst_case=True)
