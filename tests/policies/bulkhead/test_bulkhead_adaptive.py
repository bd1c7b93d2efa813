"""A limit that finds what a service can take, and finds it again when that changes."""

from __future__ import annotations

import asyncio
import random

import pytest

from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict


def round_of(lab, bulkhead, outcome=None):
    """One full round of calls, all under way together."""
    permits = [bulkhead.admit() for _ in range(bulkhead.limit)]
    for permit in permits:
        permit.settle(outcome or lab.DONE)


def test_it_begins_where_it_is_told(lab):
    """And never above the most."""
    assert (10, 5) == (lab.adaptive().limit, lab.adaptive(5).limit)


def test_it_rises_by_one_a_round_and_faster_after_some(lab):
    """While it is in use."""
    bulkhead = lab.adaptive(1000)
    limits = []
    for _ in range(12):
        limits.append(bulkhead.limit)
        for _ in range(bulkhead.limit):
            permits = [bulkhead.admit() for _ in range(bulkhead.limit - bulkhead.in_use)]
            permits[-1].settle(lab.DONE)
        while bulkhead.in_use:
            permits.pop().settle(Outcome(OutcomeKind.CANCELLED)) if permits else bulkhead.reset_after_fork()
    assert limits == sorted(limits)
    assert limits[3] - limits[0] <= 4
    assert limits[-1] - limits[-2] >= 4


def test_a_limit_that_is_not_used_stays(lab):
    """Whether there would be room for more, nobody knows."""
    bulkhead = lab.adaptive()
    for _ in range(1000):
        bulkhead.admit().settle(lab.DONE)
    assert 10 == bulkhead.limit


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.TIMEOUT])
def test_trouble_lowers_it_once_for_all_under_way(lab, kind):
    """They met the same trouble."""
    bulkhead = lab.adaptive(initial=100)
    round_of(lab, bulkhead, lab.failed(kind))
    assert 90 == bulkhead.limit
    round_of(lab, bulkhead, lab.failed(kind))
    assert 81 == bulkhead.limit


@pytest.mark.parametrize("kind", sorted(set(FailureKind) - {FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.TIMEOUT}))
def test_other_errors_teach_nothing(lab, kind):
    """A broken connection is not a matter of how many there are."""
    bulkhead = lab.adaptive()
    round_of(lab, bulkhead, lab.failed(kind))
    round_of(lab, bulkhead, Outcome(OutcomeKind.CANCELLED))
    assert 10.0 == bulkhead._adaptive_limit._exact_limit


def test_it_never_falls_below_the_minimum(lab):
    """Whatever happens."""
    bulkhead = lab.adaptive(initial=5, minimum=3)
    for _ in range(50):
        round_of(lab, bulkhead, lab.failed(FailureKind.OVERLOADED))
    assert 3 == bulkhead.limit


def test_a_slow_answer_may_count_as_trouble(lab):
    """Where the service does not say that it is overloaded."""
    bulkhead = lab.adaptive(slow_call_duration=1.0)
    round_of(lab, bulkhead, Outcome(OutcomeKind.SUCCESS, 1.5))
    assert 9 == bulkhead.limit


def test_one_who_waited_is_judged_by_when_its_turn_came(lab):
    """Not by when it came."""
    bulkhead = lab.adaptive(1, initial=1)
    first, second = bulkhead.admit(), bulkhead.admit()
    first.settle(lab.failed(FailureKind.OVERLOADED))
    second.settle(lab.failed(FailureKind.OVERLOADED))
    assert 2 == bulkhead._adaptive_limit.decreases


class Server:
    """Serves `capacity` calls at a time at full speed, and refuses or slows down the others."""

    def __init__(self, clock, capacity, *, refuses=True):
        self.clock, self.capacity, self.refuses = clock, capacity, refuses
        self.under_way = 0
        self.dice = random.Random(11)

    async def call(self):
        """How it ended."""
        began = self.clock.monotonic()
        self.under_way += 1
        try:
            over = self.under_way > self.capacity
            if over and self.refuses:
                await self.clock.sleep_async(0.01)
                return Outcome(OutcomeKind.FAILURE, 0.01, Verdict(FailureKind.OVERLOADED, True, True))
            await self.clock.sleep_async(self.dice.uniform(0.08, 0.12) * (3.0 if over else 1.0))
            return Outcome(OutcomeKind.SUCCESS, self.clock.monotonic() - began)
        finally:
            self.under_way -= 1


async def limits_over(lab, bulkhead, server, changes, seconds):
    """The limit at each tenth of a second, while 200 callers want as much as they can get."""
    limits = []

    async def caller():
        while True:
            permit = bulkhead.admit()
            while permit.turn is not None and permit.turn.look() is None:
                woken = asyncio.get_running_loop().create_future()
                permit.turn.wake_by(lambda woken=woken: woken.done() or woken.set_result(True))
                await woken
            permit.settle(await server.call())

    callers = [asyncio.ensure_future(caller()) for _ in range(200)]
    for tick in range(int(seconds * 10)):
        server.capacity = changes.get(tick / 10, server.capacity)
        await lab.clock.sleep_async(0.1)
        limits.append(bulkhead.limit)
    for task in callers:
        task.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return limits


def is_near(limits, capacity):
    """Whether a stretch of limits is within 20 % of a capacity on the whole."""
    near = [abs(limit - capacity) <= 0.2 * capacity for limit in limits]
    return sum(near) >= 0.9 * len(near) and abs(sum(limits) / len(limits) - capacity) <= 0.2 * capacity


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [12, 40, 100])
async def test_it_finds_an_unknown_capacity(lab, capacity):
    """Within 20 % after five seconds of calls of a tenth of a second."""
    server = Server(lab.clock, capacity)
    limits = await limits_over(lab, lab.adaptive(1000), server, {}, 15.0)
    assert is_near(limits[50:], capacity)


@pytest.mark.slow
@pytest.mark.parametrize("refuses", [True, False])
async def test_it_finds_a_capacity_that_changes(lab, refuses):
    """Within five seconds of a change, up or down; also by slow answers alone."""
    server = Server(lab.clock, 40, refuses=refuses)
    bulkhead = lab.adaptive(1000, slow_call_duration=None if refuses else 0.2)
    limits = await limits_over(lab, bulkhead, server, {10.0: 15, 20.0: 60}, 30.0)
    assert is_near(limits[50:100], 40)
    assert is_near(limits[150:200], 15)
    assert is_near(limits[250:300], 60)
