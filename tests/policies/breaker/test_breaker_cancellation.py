"""Calls that are broken off: at every await, in storms, by every kind of BaseException."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from types import coroutine
from typing import Any

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState

AWAITS = 5
BROKEN_OFF = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit]


@coroutine
def step() -> Generator[None, None, None]:
    """Wait for one turn of whoever drives."""
    yield


async def work() -> str:
    """Wait five times."""
    for _ in range(AWAITS):
        await step()
    return "done"


async def items() -> AsyncIterator[int]:
    """Wait before each of five items."""
    for number in range(AWAITS):
        await step()
        yield number


def plain_items() -> Iterator[int]:
    """Five items."""
    yield from range(AWAITS)


async def through_with(breaker: CircuitBreaker) -> None:
    """A block."""
    async with breaker:
        await work()


async def through_stream(breaker: CircuitBreaker) -> None:
    """A stream."""
    async for _ in breaker.decorate(items)():
        await step()


WAYS: dict[str, Callable[[CircuitBreaker], Awaitable[object]]] = {
    "call_async": lambda breaker: breaker.call_async(work),
    "execute": lambda breaker: breaker.execute(work),
    "execute plain": lambda breaker: breaker.execute(lambda: work()),  # noqa: PLW0108 - it has to be a plain function
    "call": lambda breaker: breaker.call(work),
    "decorated": lambda breaker: breaker.decorate(work)(),
    "with": through_with,
    "stream": through_stream,
}


def break_off_after(awaitable: Any, steps: int, error: type[BaseException]) -> bool:
    """Drive a coroutine for some steps, then throw an error in; False when it was done before."""
    try:
        for _ in range(steps):
            awaitable.send(None)
    except StopIteration:
        return False
    with pytest.raises(error):
        awaitable.throw(error())
    return True


@pytest.mark.parametrize("error", BROKEN_OFF)
@pytest.mark.parametrize("way", WAYS)
def test_a_trial_broken_off_at_any_await_goes_back(lab, way, error):
    """Whatever step it is at: permit back, still half-open, nothing counted, the next caller tries (invariants 3, 5)."""
    breaker = lab.half_open()
    before = breaker.metrics
    for steps in itertools.count(1):
        if not break_off_after(WAYS[way](breaker), steps, error):
            break
        assert (CircuitState.HALF_OPEN, 0, True, 2) == (
            breaker.state,
            breaker.trials_in_flight,
            breaker.fits(),
            breaker.failure_count,
        )
        assert (0, before["failure_count"]) == (breaker.metrics["success_count"], breaker.metrics["failure_count"])
    assert steps > AWAITS
    assert (True, 1) == (breaker.closed, breaker.metrics["success_count"])


@pytest.mark.parametrize("way", WAYS)
def test_breaking_off_in_closed_state_counts_nothing(lab, way):
    """Neither a success, which would end the row, nor a failure (invariant 4)."""
    breaker = lab.breaker()
    lab.fail(breaker)
    for steps in range(1, AWAITS + 1):
        assert break_off_after(WAYS[way](breaker), steps, asyncio.CancelledError)
    metrics = breaker.metrics
    assert (0, 1, 1) == (metrics["success_count"], metrics["failure_count"], breaker.failure_count)


def test_a_call_never_awaited_takes_nothing(lab):
    """A coroutine or stream that is made and dropped has not asked for admission (invariants 3, 15)."""
    breaker = lab.half_open()
    for made in (breaker.call_async(work), breaker.decorate(work)(), breaker.execute(work)):
        made.close()
    made = [
        breaker.decorate(items)(),
        breaker.decorate(plain_items)(),
        breaker.call(plain_items),
        breaker.call_async_generator(items),
    ]
    assert (0, True) == (breaker.trials_in_flight, breaker.fits())
    del made
    assert (0, True) == (breaker.trials_in_flight, breaker.fits())


@pytest.mark.slow
@pytest.mark.parametrize("state", ["closed", "half_open"])
async def test_a_storm_of_cancels_leaves_no_permit_taken(lab, state):
    """10 000 tasks cancelled at random moments: no permit in use, and the next caller is let in (invariant 5)."""
    breaker = lab.breaker(half_open_max_calls=3, success_threshold=10**6)
    breaker.state = state
    dice = random.Random(state)
    running: list[asyncio.Task[str]] = []

    async def napping() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return "done"

    for number in range(10_000):
        running.append(asyncio.create_task(breaker.call_async(napping)))
        if dice.random() < 0.5:
            await asyncio.sleep(0)
        running[dice.randrange(max(0, number - 6), number + 1)].cancel()
    ends = await asyncio.gather(*running, return_exceptions=True)
    cancelled = sum(isinstance(end, asyncio.CancelledError) for end in ends)
    refused = sum(isinstance(end, CircuitBreakerOpenError) for end in ends)
    assert cancelled > 1000
    assert (0, 0) == (breaker.trials_in_flight, breaker.failure_count)
    metrics = breaker.metrics
    assert (ends.count("done"), refused, 0) == (metrics["success_count"], metrics["rejected_count"], metrics["failure_count"])
    assert not lab.refuses(breaker)


async def test_a_timeout_around_a_trial_is_neutral(lab):
    """`asyncio.timeout` cancels the trial: the service has said nothing (invariant 3)."""
    breaker = lab.half_open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await breaker.call_async(asyncio.sleep, 60)
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)
