"""`TokenBucketRateLimiter`: asked by hand, and as a guard."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.errors import ConfigurationError
from resilience_kit.guards import Guard
from resilience_kit.limits import TokenBucketRateLimiter
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.testing import FakeClock


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock(100.0)


def test_it_begins_full():
    """With as many tokens as a period brings, or as are said."""
    limiter = TokenBucketRateLimiter(10, 2.0)
    assert (10, 2.0, 10, 10) == (limiter.rate, limiter.period, limiter.max_tokens, limiter.tokens)
    assert (3.5, 3.5) == (TokenBucketRateLimiter(10, max_tokens=3.5).max_tokens, TokenBucketRateLimiter(1, 1.0, 3.5).tokens)
    assert isinstance(limiter, Guard)


async def test_acquire_books_at_once_and_tells_the_wait(clock):
    """Tokens that are not there are a debt."""
    limiter = TokenBucketRateLimiter(10.0, 1.0, 2.0, clock=clock)
    waits = [await limiter.acquire(tokens) for tokens in (1.0, 1.0, 1.0, 0.5, 2.0)]
    assert [0.0, 0.0, 0.1, 0.15, 0.35] == pytest.approx(waits)
    assert -3.5 == limiter.tokens
    clock.advance(0.45)
    assert -3.5 == limiter.tokens
    await limiter._refill()
    assert 1.0 == pytest.approx(limiter.tokens)
    clock.advance(3600.0)
    await limiter._refill()
    assert 2.0 == limiter.tokens


async def test_tokens_can_be_set(clock):
    """As of now."""
    limiter = TokenBucketRateLimiter(10.0, clock=clock)
    clock.advance(5.0)
    limiter.tokens = 0.0
    assert 0.1 == await limiter.acquire()
    with pytest.raises(ConfigurationError, match="tokens: must be a finite number"):
        limiter.tokens = math.nan


def test_a_try_takes_or_leaves(clock):
    """Never into debt, not even for more than it can hold."""
    limiter = TokenBucketRateLimiter(2.0, clock=clock)
    assert [True, False, True, False] == [limiter.try_acquire(tokens) for tokens in (1.5, 1.0, 0.5, 0.5)]
    clock.advance(10.0)
    assert [False, True] == [limiter.try_acquire(tokens) for tokens in (2.5, 2.0)]
    limiter.admit()
    clock.advance(0.5)
    assert not limiter.try_acquire(0.1)


@pytest.mark.parametrize("rate", [7, 100, 0.5, 1 / 3])
def test_a_minute_has_what_the_rate_says(clock, rate):
    """Exact to one, in sixty simulated seconds of steps of a hundredth."""
    limiter, taken = TokenBucketRateLimiter(rate, max_tokens=max(2.0, rate), clock=clock), 0
    for _ in range(6000):
        while limiter.try_acquire():
            taken += 1
        clock.advance(0.01)
    assert abs(taken - (max(2.0, rate) + 60 * rate)) <= 1


async def test_execute_waits_once_and_runs(clock):
    """Async functions and plain ones; first come, first served."""
    limiter, done = TokenBucketRateLimiter(2.0, max_tokens=1.0, clock=clock), []

    async def work(number, *, unit):
        done.append((number, clock.monotonic()))
        return unit

    answers = await asyncio.gather(*(limiter.execute(work, number, unit="s") for number in range(3)))
    assert ([(0, 100.0), (1, 100.5), (2, 101.0)], ["s"] * 3, [0.5, 1.0]) == (done, answers, clock.sleeps)
    assert 42 == await limiter.execute(lambda: 42)


async def test_a_block_waits_for_its_token(clock):
    """In a task, and in a thread."""
    limiter = TokenBucketRateLimiter(2.0, max_tokens=1.0, clock=clock)
    async with limiter as same:
        assert (limiter, 100.0) == (same, clock.monotonic())
    async with limiter:
        assert 100.5 == clock.monotonic()
    with limiter as same:
        assert (limiter, 101.0) == (same, clock.monotonic())


def test_a_broken_wait_of_a_thread_gives_its_token_back(clock, monkeypatch):
    """As a cancelled one of a task does."""
    limiter = TokenBucketRateLimiter(2.0, max_tokens=1.0, clock=clock)
    limiter.try_acquire()

    def broken(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", broken)
    with pytest.raises(KeyboardInterrupt), limiter:
        pass
    assert 0.0 == limiter.tokens


async def test_execute_sleeps_by_asyncio(monkeypatch):
    """Whoever patches `asyncio.sleep` is obeyed; no wait is no sleep."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    limiter = TokenBucketRateLimiter(0.001, 1.0, 1.0)
    await limiter.execute(lambda: None)
    assert [] == slept
    await limiter.execute(lambda: None)
    assert [1000.0] == pytest.approx(slept, rel=1e-3)


@pytest.mark.slow
async def test_ten_thousand_cancelled_waits_give_their_tokens_back(clock):
    """Whoever comes then has to wait for nobody."""
    limiter = TokenBucketRateLimiter(1.0, clock=clock)
    assert limiter.try_acquire()
    waiting = [asyncio.ensure_future(limiter.execute(lambda: None)) for _ in range(10_000)]
    await asyncio.sleep(0)
    assert -10_000.0 == limiter.tokens
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert 0.0 == limiter.tokens
    assert 1.0 == await limiter.acquire()


async def test_an_error_of_the_function_leaves_as_it_is(clock):
    """Its token is used."""
    limiter = TokenBucketRateLimiter(1.0, clock=clock)
    with pytest.raises(ZeroDivisionError):
        await limiter.execute(lambda: 1 / 0)
    assert 0.0 == limiter.tokens


async def test_it_serves_as_a_guard_of_several_operations(clock):
    """They share its tokens, in plain and async functions."""
    kit, limiter = AIServiceResilience(ResilienceSettings(), clock=clock), TokenBucketRateLimiter(1.0, clock=clock)

    @kit.with_resilience("plain", rate_limit=limiter)
    def plain():
        return clock.monotonic()

    @kit.with_resilience("async", custom_config=ResilienceConfig(guards=(limiter,)))
    async def task():
        return clock.monotonic()

    assert [100.0, 101.0, 102.0] == [plain(), await task(), plain()]


async def test_128_threads_and_1000_tasks_take_exactly_what_is_there(clock):
    """Not one token too many, not one too few."""
    limiter, taken = TokenBucketRateLimiter(7777, clock=clock), []

    def many():
        while limiter.try_acquire():
            taken.append(1)

    async def one():
        taken.append(1) if limiter.try_acquire() else None

    threads = [threading.Thread(target=many) for _ in range(128)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(one() for _ in range(1000)))
    for thread in threads:
        thread.join()
    assert 7777 == len(taken)


def test_wrong_options_are_told_together():
    """In sentences."""
    with pytest.raises(ConfigurationError) as caught:
        TokenBucketRateLimiter(-1, 0, math.inf)
    assert [
        "TokenBucketRateLimiter.rate: must be a finite number above 0, got -1",
        "TokenBucketRateLimiter.period: must be a finite number of seconds above 0, got 0",
        "TokenBucketRateLimiter.max_tokens: must be a finite number above 0, got inf",
    ] == [str(each) for each in caught.value.errors]


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, True, "5"])
async def test_a_number_of_tokens_is_above_zero(clock, wrong):
    """Asked for or tried."""
    limiter = TokenBucketRateLimiter(1.0, clock=clock)
    with pytest.raises(ConfigurationError, match=r"TokenBucketRateLimiter\.tokens"):
        await limiter.acquire(wrong)
    with pytest.raises(ConfigurationError, match=r"TokenBucketRateLimiter\.tokens"):
        limiter.try_acquire(wrong)
    assert 1.0 == limiter.tokens


async def test_whole_numbers_of_tokens_are_numbers(clock):
    """Ints are as good as floats."""
    assert 0.0 == await TokenBucketRateLimiter(5, clock=clock).acquire(2)


def test_tokens_that_are_set_let_those_in_who_wait_for_them():
    """Callers in the queue need not wait for a bucket that somebody has filled."""
    limiter = TokenBucketRateLimiter(1.0, clock=FakeClock(100.0))
    limiter.admit()
    waiting = [limiter.admit() for _ in range(3)]
    limiter.tokens = 2.0
    assert [True, True, False] == [permit.turn.granted for permit in waiting]
    assert 0.0 == limiter.tokens
