"""The demo's plan: repeatable by its seed, dense enough, and with an outage in the second quarter."""

from __future__ import annotations

import pytest

from resilience_kit.cli.demo.scenario import FAULT_RATES, Phase, Scenario
from resilience_kit.testing.provider import FaultKind


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scenario", [Scenario(), Scenario.quick()], ids=["full", "quick"])
def test_at_least_a_hundred_calls_a_second(scenario: Scenario, seed: int) -> None:
    """For every seed, both lengths; all inside the traffic's time, in order."""
    times = list(Scenario(seed=seed, duration=scenario.duration, rate=scenario.rate).arrivals())
    assert len(times) / scenario.duration >= 100
    assert times == sorted(times)
    assert 0.0 < times[0] < times[-1] < scenario.duration


def test_the_same_seed_is_the_same_traffic() -> None:
    """Another seed is another row of calls."""
    first, again, other = (list(Scenario(seed=seed).arrivals()) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("at", "phase"),
    [
        (0.0, Phase.BEFORE),
        (3.999, Phase.BEFORE),
        (4.0, Phase.FAILING),
        (5.999, Phase.FAILING),
        (6.0, Phase.REFUSING),
        (7.999, Phase.REFUSING),
        (8.0, Phase.AFTER),
        (99.0, Phase.AFTER),
    ],
)
def test_the_outage_fills_the_second_quarter(at: float, phase: Phase) -> None:
    """Its first half fails, its second half refuses."""
    assert phase == Scenario(duration=16.0).phase(at)


def test_the_faults_and_the_strategy_are_those_that_the_report_names() -> None:
    """5 % 429 and 2 % 500; four attempts, one second of recovery, waiting for the reopening, at 1.6 times the normal rate."""
    assert {FaultKind.RATE_LIMITED: 0.05, FaultKind.SERVER_ERROR: 0.02} == {
        fault.kind: rate for fault, rate in FAULT_RATES.items()
    }
    strategy = Scenario(rate=100.0).strategy
    assert (4, 1.0, "wait", 160.0) == (
        strategy.retry.max_attempts,
        strategy.circuit_breaker.recovery_timeout,
        strategy.circuit_open,
        strategy.rate_limit.rate,
    )
