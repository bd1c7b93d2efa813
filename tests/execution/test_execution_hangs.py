"""A request that is accepted and never answered, under each strategy: it is asked again inside the deadline."""

from __future__ import annotations

import pytest

from resilience_kit import AIServiceResilience, DeadlineExceededError, ResilienceConfig, remaining_time
from resilience_kit.config import STRATEGY_NUMBERS, ResilienceSettings, ResilienceStrategy
from resilience_kit.errors import APITimeoutError
from resilience_kit.testing import FakeClock

STRATEGIES = list(ResilienceStrategy)


@pytest.fixture
def clock():
    """Time that moves where somebody waits for it."""
    return FakeClock()


@pytest.fixture
def kit(clock):
    """An orchestrator on that clock."""
    return AIServiceResilience(ResilienceSettings(), clock=clock)


def hanging_once(clock):
    """An async function whose first call is never answered."""
    calls = []

    async def ask():
        calls.append(clock.monotonic())
        if len(calls) == 1:
            await clock.sleep_async(100_000.0)
        return "answer"

    return ask, calls


@pytest.mark.parametrize("way", ["decorated", "executed", "custom_config"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_hang_is_asked_again_inside_the_deadline(kit, clock, strategy, way):
    """After the strategy's attempt timeout and one wait; the breaker hears of a timeout."""
    ask, calls = hanging_once(clock)
    if way == "executed":
        answer = await kit.execute_with_resilience(ask, "op", strategy=strategy)
    elif way == "decorated":
        answer = await kit.with_resilience("op", strategy)(ask)()
    else:
        answer = await kit.with_resilience("op", custom_config=ResilienceConfig.from_strategy(strategy))(ask)()
    numbers = STRATEGY_NUMBERS[strategy]
    assert ("answer", 2) == (answer, len(calls))
    assert numbers.attempt_timeout <= clock.monotonic() <= numbers.attempt_timeout + numbers.base_delay + 0.1
    assert 1 == kit.get_metrics("op")["retry_attempts"]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_stream_whose_first_item_never_comes_is_asked_again(kit, clock, strategy):
    """The attempt timeout covers the time to the first item, and nothing after it."""
    calls = []

    async def ask():
        calls.append(1)
        if len(calls) == 1:
            await clock.sleep_async(100_000.0)
        yield "first"
        await clock.sleep_async(1000.0)
        yield "second"

    assert ["first", "second"] == [item async for item in kit.with_resilience("op", strategy)(ask)()]
    assert 2 == len(calls)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_plain_function_is_told_how_long_an_attempt_may_take(kit, clock, strategy):
    """It cannot be interrupted: its client's timeout is what ends a hang, and then it is asked again."""
    told = []

    def ask():
        told.append(remaining_time())
        if len(told) == 1:
            clock.sleep(told[0])
            raise TimeoutError
        return "answer"

    assert "answer" == kit.with_resilience("op", strategy)(ask)()
    assert STRATEGY_NUMBERS[strategy].attempt_timeout == told[0]
    assert 2 == len(told)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_service_that_always_hangs_ends_the_call_inside_the_deadline(kit, clock, strategy):
    """With one of the two errors of time, after at least two attempts (invariant 26)."""
    calls = []

    async def ask():
        calls.append(1)
        await clock.sleep_async(100_000.0)

    with pytest.raises((APITimeoutError, DeadlineExceededError)):
        await kit.with_resilience("op", strategy)(ask)()
    assert len(calls) >= 2
    assert clock.monotonic() <= STRATEGY_NUMBERS[strategy].deadline + 0.1


async def test_an_attempt_timeout_alone_is_a_short_way_too(kit, clock):
    """Without a deadline, and under a shorter one around it."""
    ask, calls = hanging_once(clock)
    assert "answer" == await kit.with_resilience("op", custom_config=ResilienceConfig(attempt_timeout=3.0))(ask)()
    assert 2 == len(calls)
    assert 3.0 <= clock.monotonic() <= 4.1
