"""What comes upon the service when it is back, on a virtual clock: the demo's own strategy and traffic."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.cli.demo.recording import Side
from resilience_kit.cli.demo.run_statistics import GOAL_BURST, burst
from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.errors import ServiceUnavailableError
from resilience_kit.testing import FakeClock

LATENCY = 0.02


async def play(scenario: Scenario, strategy: ResilienceConfig) -> tuple[Side, list[object]]:
    """The scenario's calls to a service that is down as planned; what was sent, and what each call came to."""
    clock, side = FakeClock(), Side("kit")
    start, _, end = scenario.outage

    async def ask(number: int) -> int:
        side.sent.append(clock.monotonic())
        if start <= clock.monotonic() < end:
            raise ServiceUnavailableError("down")
        await clock.sleep_async(LATENCY)
        return number

    protected = AIServiceResilience(clock=clock).with_resilience("chat", custom_config=strategy)(ask)

    async def issue(number: int, at: float) -> int:
        await clock.sleep_async(at)
        return await protected(number)

    calls = [issue(number, at) for number, at in enumerate(scenario.arrivals())]
    return side, await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_service_that_is_back_is_not_flattened(seed: int) -> None:
    """Every call is answered, and no second after the outage sees twice the normal rate, though many calls have waited."""
    scenario = Scenario.quick(seed)
    side, ended = await play(scenario, scenario.strategy)
    assert list(range(len(ended))) == ended
    assert burst(side, scenario) <= GOAL_BURST


async def test_without_a_rate_limit_all_that_waited_comes_at_once() -> None:
    """The same strategy without its limit, so that the test above is known to see a burst."""
    scenario = Scenario.quick()
    side, _ = await play(scenario, replace(scenario.strategy, rate_limit=None))
    assert burst(side, scenario) > GOAL_BURST
