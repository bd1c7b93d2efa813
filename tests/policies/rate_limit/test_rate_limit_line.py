"""Who comes next: by priority, then by arrival; and nobody's going harms those behind."""

from __future__ import annotations

import itertools
import random
import sys
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilience_kit.context import priority
from resilience_kit.errors import RateLimitExceededError
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter
from resilience_kit.testing import FakeClock


def order(lab, permits):
    """The numbers of permits in the order in which their turns come."""
    started, left = [], dict(enumerate(permits))
    while left:
        head = next(number for number, permit in left.items() if permit.turn.look() is not None)
        lab.start(left.pop(head))
        started.append(head)
    return started


def test_first_come_first_served(lab):
    """Only the head knows a time; the others wait to be woken."""
    limiter = lab.emptied(2.0)
    permits = [lab.waiting(limiter) for _ in range(4)]
    assert [0.5, None, None, None] == [permit.turn.look() for permit in permits]
    assert [0.5, 1.0, 1.5, 2.0] == [permit.turn.expected for permit in permits]
    assert [0, 1, 2, 3] == order(lab, permits)
    assert (102.0, 0) == (lab.clock.monotonic(), limiter.waiting)


def test_nobody_passes_those_who_wait(lab):
    """Not even a call that costs nearly nothing."""
    limiter = lab.emptied(1.0)
    lab.waiting(limiter)
    lab.clock.advance(0.5)
    assert not limiter.fits(0.1)
    assert None is not limiter.admit(0.1).turn


def test_the_higher_priority_goes_first(lab):
    """Within one, who came first."""
    limiter = lab.emptied(1.0)
    permits = [lab.waiting(limiter, level) for level in ("low", "normal", "low", "high", "normal", "high")]
    assert [3, 5, 1, 4, 0, 2] == order(lab, permits)


def test_a_head_that_was_overtaken_waits_again(lab):
    """It slept for a turn that went to a higher priority."""
    limiter = lab.emptied(1.0)
    low = lab.waiting(limiter, "low")
    assert 1.0 == low.turn.look()
    high = lab.waiting(limiter, "high")
    lab.clock.advance(1.0)
    low.turn.claim()
    assert (None, 0.0, 1.0) == (low.turn.look(), high.turn.look(), low.turn.look())


def test_low_priority_is_refused_first(lab):
    """Its wait is behind all others."""
    limiter = lab.emptied(1.0, max_wait=3.0)
    for _ in range(3):
        lab.waiting(limiter)
    with pytest.raises(RateLimitExceededError) as caught, priority("low"):
        limiter.admit()
    assert 4.0 == caught.value.retry_after
    assert 1.0 == lab.waiting(limiter, "high").turn.expected


def test_one_that_is_pushed_back_too_far_is_refused(lab):
    """When its patience is over, or as soon as its turn would come too late."""
    limiter = lab.emptied(1.0, max_wait=2.0)
    first, second = lab.waiting(limiter), lab.waiting(limiter)
    assert (2.0, 1.0, None) == (first.turn.patience, first.turn.look(), second.turn.look())
    for _ in range(2):
        lab.waiting(limiter, "high")
    lab.clock.advance(2.0)
    assert 0.0 == second.turn.patience
    for permit in (first, second):
        with pytest.raises(RateLimitExceededError):
            permit.turn.look()


def test_a_head_whose_cost_grew_beyond_its_patience_is_refused(lab):
    """Others used more than they said."""
    limiter = lab.emptied(1.0, max_wait=2.0, usage=lambda _: 5.0)
    permit = lab.waiting(limiter)
    limiter._token_buckets.refund((-5.0,))
    with pytest.raises(RateLimitExceededError) as caught:
        permit.turn.look()
    assert 6.0 == caught.value.retry_after


def test_without_max_wait_patience_has_no_end(lab):
    """The driver's deadline bounds it."""
    assert None is lab.waiting(lab.emptied()).turn.patience


def test_ten_thousand_who_leave_leave_no_hole(lab):
    """The one behind them starts when the first would have."""
    limiter = lab.emptied(1.0)
    leaving, last = [lab.waiting(limiter) for _ in range(10_000)], lab.waiting(limiter)
    random.Random(7).shuffle(leaving)
    for permit in leaving:
        permit.settle(lab.NOT_BEGUN)
    assert 1 == limiter.waiting
    assert 101.0 == lab.start(last)
    assert 0.0 == limiter._token_buckets.buckets[0].level
    assert 0.0 == limiter._token_buckets.exact_class.queued_cost(0, 0, worst_case=True)


def test_the_next_is_woken_when_the_head_leaves(lab):
    """And nobody when another one does."""
    limiter = lab.emptied(1.0)
    first, second, third = (lab.waiting(limiter) for _ in range(3))
    woken: list[str] = []
    for name, permit in (("first", first), ("second", second)):
        permit.turn.look()
        permit.turn.wake_by(lambda name=name: woken.append(name))
    third.settle(lab.NOT_BEGUN)
    assert [] == woken
    first.settle(lab.NOT_BEGUN)
    assert ["second"] == woken
    assert 1.0 == second.turn.look()


def test_news_between_a_look_and_a_wait_are_not_lost(lab):
    """Whoever says how to be woken is told at once."""
    limiter = lab.emptied(1.0)
    first, second = lab.waiting(limiter), lab.waiting(limiter)
    assert None is second.turn.look()
    first.settle(lab.NOT_BEGUN)
    woken: list[int] = []
    second.turn.wake_by(lambda: woken.append(1))
    assert [1] == woken


def test_what_comes_back_lets_in_all_that_it_is_enough_for(lab):
    """They need not wake each other one by one."""
    limiter = lab.emptied(10.0, cost=1.0)
    permits = [lab.waiting(limiter) for _ in range(4)]
    limiter._token_buckets.refund((3.0,))
    assert [True, True, True, False] == [permit.turn.granted for permit in permits]
    assert [0.0, 0.0, 0.0, 0.1] == [permit.turn.look() for permit in permits]


def test_a_turn_that_came_and_was_not_used_comes_back(lab):
    """The deadline passed meanwhile, or a later guard refused."""
    limiter = lab.emptied(1.0)
    permit = lab.waiting(limiter)
    lab.start(permit)
    permit.settle(lab.NOT_BEGUN)
    assert limiter.fits()


def test_a_claim_before_the_time_leaves_a_debt(lab):
    """Where nobody waits in truth, the time is not waited for."""
    limiter = lab.emptied(1.0)
    permit = lab.waiting(limiter)
    permit.turn.claim()
    permit.turn.claim()
    assert (0.0, -1.0) == (permit.turn.look(), limiter._token_buckets.buckets[0].level)


def test_who_lost_its_event_loop_loses_its_place(lab):
    """Else all behind it would wait for ever."""
    limiter = lab.emptied(1.0)
    first, second, third = (lab.waiting(limiter) for _ in range(3))

    def closed():
        raise RuntimeError("Event loop is closed")

    second.turn.wake_by(closed)
    first.settle(lab.NOT_BEGUN)
    assert (1.0, 1) == (third.turn.look(), limiter.waiting)
    with pytest.raises(RateLimitExceededError):
        second.turn.look()
    second.settle(lab.NOT_BEGUN)
    assert 101.0 == lab.start(third)


def test_one_whose_turn_has_come_in_a_lost_loop_gives_it_back(lab):
    """Once."""
    limiter = lab.emptied(1.0)
    permit, behind = lab.waiting(limiter), lab.waiting(limiter)

    def closed():
        raise RuntimeError("Event loop is closed")

    permit.turn.wake_by(closed)
    limiter._token_buckets.refund((1.0,))
    permit.settle(lab.NOT_BEGUN)
    assert (0.0, 0) == (behind.turn.look(), limiter.waiting)
    assert not limiter.fits()


def test_a_refusal_says_when_somebody_else_would_be_let_in(lab):
    """Behind those who wait, without the one that is refused."""
    limiter = lab.emptied(1.0)
    permits = [lab.waiting(limiter) for _ in range(3)]
    assert 3.0 == permits[0].turn.refusal().retry_after
    assert 3 == limiter.waiting


@pytest.fixture
def switching():
    """Threads that are switched as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
def test_threads_take_exactly_what_is_there(lab):
    """128 of them at once, each time as many as they can get."""
    limiter, barrier, taken = lab.limiter(5000.0), threading.Barrier(128), []

    def work():
        barrier.wait()
        mine = 0
        while True:
            permit = limiter.admit()
            if permit.turn is not None:
                permit.settle(lab.NOT_BEGUN)
                break
            mine += 1
        taken.append(mine)

    threads = [threading.Thread(target=work) for _ in range(128)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (5000, 0, 0.0) == (sum(taken), limiter.waiting, limiter._token_buckets.buckets[0].level)


class Model(RuleBasedStateMachine):
    """Callers come, wait, leave and end at random; held against what a bucket may ever give."""

    RATE, BURST = 2.0, 3.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(1000.0)
        config = RateLimitConfig(rate=self.RATE, burst=self.BURST)
        self.limiter = RateLimiter(config, clock=self.clock)
        self.waiting: list[tuple[int, int, Any]] = []
        self.starts: list[tuple[float, float]] = []
        self.arrivals = 0

    @rule(cost=st.sampled_from([0.25, 0.5, 1.0, 2.0]), level=st.sampled_from(["low", "normal", "high"]))
    def come(self, cost: float, level: str) -> None:
        with priority(level) as rank:  # type: ignore[arg-type]
            permit = self.limiter.admit(cost)
        self.arrivals += 1
        if permit.turn is None:
            assert not self.waiting
            self.starts.append((self.clock.monotonic(), cost))
        else:
            self.waiting.append((-rank, self.arrivals, permit))
            self.waiting.sort(key=lambda each: each[:2])

    @precondition(lambda self: self.waiting)
    @rule()
    def wait(self) -> None:
        """All look; the first by priority and arrival is the one that knows its time, and gets it."""
        looks = [permit.turn.look() for _, _, permit in self.waiting]
        assert None is not looks[0]
        behind = list(itertools.dropwhile(lambda look: look == 0.0, looks))
        assert {None} >= set(behind[1:])
        _, _, head = self.waiting.pop(0)
        while (pause := head.turn.look()) != 0.0:
            self.clock.advance(pause)
            head.turn.claim()
        self.starts.append((self.clock.monotonic(), head.costs[0]))
        self.note_others()

    def note_others(self) -> None:
        """Those that were let in along with another."""
        while self.waiting and self.waiting[0][2].turn.granted:
            _, _, permit = self.waiting.pop(0)
            self.starts.append((self.clock.monotonic(), permit.costs[0]))

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 1000))
    def leave(self, which: int) -> None:
        _, _, permit = self.waiting.pop(which % len(self.waiting))
        permit.settle(Outcome(OutcomeKind.CANCELLED, begun=False))
        self.note_others()

    @rule(seconds=st.sampled_from([0.01, 0.25, 1.0, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def no_stretch_of_time_has_more_than_its_share(self) -> None:
        """Burst, rate, and the twentieth of a second that a late caller is granted."""
        for number, (begin, _) in enumerate(self.starts):
            total = 0.0
            for time, cost in self.starts[number:]:
                total += cost
                assert total <= self.BURST + self.RATE * (time - begin + 0.05) + 1e-6

    @invariant()
    def all_are_accounted_for(self) -> None:
        assert len(self.waiting) == self.limiter.waiting


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=settings.default.max_examples * 3 // 5, stateful_step_count=40)
