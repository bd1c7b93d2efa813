"""The orchestrator's strategies at work: each with its numbers, by the documented precedence, changed live, several at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    ResilienceConfig,
    ResilienceStrategy,
    RetryConfig,
    remaining_time,
)
from resilience_kit.config import ResilienceSettings
from resilience_kit.events import StrategyChanged
from resilience_kit.testing import no_waiting

#: attempts, seconds of one attempt, failures that open, seconds open - the table of the documentation
NUMBERS = {
    "aggressive": (2, 4.0, 3, 30.0),
    "balanced": (3, 12.0, 5, 60.0),
    "conservative": (5, 45.0, 8, 120.0),
    "critical": (7, 90.0, 10, 300.0),
}
WHO = {timeout: strategy for strategy, (_, timeout, _, _) in NUMBERS.items()}


class Callee:
    """Fails always, and notes the time that each attempt had left."""

    def __init__(self) -> None:
        self.left: list[float] = []

    def __call__(self) -> None:
        self.left.append(remaining_time())
        raise ConnectionError

    async def asynchronous(self) -> None:
        """The same, async."""
        self()


def strategy_at_work(kit: AIServiceResilience, operation: str, **options: object) -> str:
    """The strategy under which a call runs, told by the time it has."""
    left = kit.call_with_resilience(remaining_time, operation, **options)
    return WHO[round(left)]


async def test_resilience_orchestrator_strategy_coordination(
    kit: AIServiceResilience, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each strategy is applied, the documented precedence holds, a live change keeps the state, several work at once."""
    _each_strategy_has_its_numbers(kit)
    await _several_at_once(AIServiceResilience())
    _precedence(monkeypatch, tmp_path)
    await _live_change(AIServiceResilience())


def _each_strategy_has_its_numbers(kit: AIServiceResilience) -> None:
    for strategy, (attempts, timeout, threshold, recovery) in NUMBERS.items():
        callee, operation = Callee(), f"uses {strategy}"
        call = kit.with_resilience(operation, strategy=ResilienceStrategy(strategy))(callee)
        with no_waiting(), pytest.raises(ConnectionError):
            call()
        assert attempts == len(callee.left)
        assert all(timeout - 1.0 < left <= timeout for left in callee.left)
        breaker = kit.get_circuit_breaker(operation)
        assert (threshold, recovery) == (breaker.failure_threshold, breaker.recovery_timeout)
        with no_waiting(), pytest.raises(CircuitBreakerOpenError):
            for _ in range(threshold):
                with pytest.raises(ConnectionError):
                    call()
        assert (CircuitState.OPEN, threshold) == (breaker.state, len(callee.left))
        assert recovery - 1.0 < breaker.open_remaining <= recovery


async def _several_at_once(kit: AIServiceResilience) -> None:
    """Threads and tasks of four strategies side by side do not mix their numbers."""
    callees = {strategy: Callee() for strategy in NUMBERS}
    plain = {strategy: kit.with_resilience(f"plain {strategy}", strategy=strategy)(callees[strategy]) for strategy in NUMBERS}
    tasks = {
        strategy: kit.with_resilience(f"task {strategy}", strategy=strategy)(callees[strategy].asynchronous)
        for strategy in NUMBERS
    }
    ends: Counter[str] = Counter()

    def thread(strategy: str) -> None:
        try:
            plain[strategy]()
        except ConnectionError:
            ends[strategy] += 1

    with no_waiting():
        threads = [threading.Thread(target=thread, args=[strategy]) for strategy in NUMBERS]
        for each in threads:
            each.start()
        results = await asyncio.gather(*(tasks[strategy]() for strategy in NUMBERS), return_exceptions=True)
        for each in threads:
            each.join()
    assert [ConnectionError] * 4 == [type(result) for result in results]
    assert dict.fromkeys(NUMBERS, 1) == ends
    for strategy, (attempts, timeout, _, _) in NUMBERS.items():
        assert 2 * attempts == len(callees[strategy].left)
        assert all(timeout - 1.0 < left <= timeout for left in callees[strategy].left)
        for kind in ("plain", "task"):
            assert attempts == kit.get_circuit_breaker(f"{kind} {strategy}").failure_count
            assert attempts - 1 == kit.get_metrics(f"{kind} {strategy}")["retry_attempts"]


def _precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the weakest word to the strongest, each added to those before it."""
    custom = ResilienceConfig.from_strategy("aggressive")
    assert "balanced" == strategy_at_work(AIServiceResilience(), "qa")
    monkeypatch.setenv("RESILIENCE_PRESET", "production")
    assert "conservative" == strategy_at_work(AIServiceResilience(), "anything")
    assert "critical" == strategy_at_work(AIServiceResilience(), "qa")
    kit = AIServiceResilience()
    kit.register_operation("qa", "balanced")
    assert "balanced" == strategy_at_work(kit, "qa")
    assert "conservative" == strategy_at_work(kit, "qa", strategy="conservative")
    assert "aggressive" == strategy_at_work(kit, "qa", strategy="conservative", custom_config=custom)
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", json.dumps({"deadline": 120, "operation_overrides": {"qa": "conservative"}}))
    assert "conservative" == strategy_at_work(AIServiceResilience(), "qa")
    assert "aggressive" == strategy_at_work(AIServiceResilience(), "qa", custom_config=custom)
    file = tmp_path / "resilience.toml"
    file.write_text('operation_overrides = { qa = "conservative" }')
    monkeypatch.setenv("RESILIENCE_CONFIG_FILE", str(file))
    assert "conservative" == strategy_at_work(AIServiceResilience(), "qa", custom_config=custom)
    monkeypatch.setenv("RESILIENCE_OPERATION_QA", "critical")
    kit = AIServiceResilience()
    assert "critical" == strategy_at_work(kit, "qa", strategy="balanced", custom_config=custom)
    kit.set_strategy("qa", "balanced")
    assert "balanced" == strategy_at_work(kit, "qa", strategy="critical", custom_config=custom)
    assert 4.0 < kit.call_with_resilience(remaining_time, "qa", deadline=5.0) <= 5.0
    assert 30.0 == kit.get_metrics()["circuit_breaker"]["qa"]["recovery_timeout"] / 2  # balanced: 60 s


async def _live_change(kit: AIServiceResilience) -> None:
    """The next call obeys, decorated long before or not; failures, state and metrics stay."""
    callee, heard = Callee(), []
    kit.add_listener(heard.append, StrategyChanged)
    call = kit.with_resilience("live", strategy="balanced")(callee.asynchronous)
    breaker = kit.get_circuit_breaker("live")
    with no_waiting(), pytest.raises(ConnectionError):
        await call()
    kit.set_strategy("live", "critical")
    assert (3, 10, 300.0, CircuitState.CLOSED) == (
        breaker.failure_count,
        breaker.failure_threshold,
        breaker.recovery_timeout,
        breaker.state,
    )
    with no_waiting(), pytest.raises(ConnectionError):
        await call()
    assert (10, CircuitState.OPEN, 10) == (len(callee.left), breaker.state, breaker.failure_count)  # 3 and 7 attempts
    assert 89.0 < callee.left[-1] <= 90.0
    remaining = breaker.open_remaining
    kit.set_strategy("live", "aggressive")
    assert CircuitState.OPEN is breaker.state
    assert breaker is kit.get_circuit_breaker("live")
    assert remaining - 1.0 < breaker.open_remaining <= remaining
    with pytest.raises(CircuitBreakerOpenError):
        await call()
    breaker.force_close("the service is back")
    with no_waiting(), pytest.raises(ConnectionError):
        await call()
    assert (12, 4) == (len(callee.left), kit.get_metrics("live")["total_calls"])
    assert [("", "critical"), ("critical", "aggressive")] == [(each.old, each.new) for each in heard]


def test_a_live_change_reaches_every_call_site_and_keeps_what_is_not_a_number(kit: AIServiceResilience) -> None:
    """Sites with a config of their own get the strategy's numbers, and keep what a strategy does not speak of."""
    config = ResilienceConfig(
        retry=RetryConfig(max_attempts=4, base_delay=0.0, exclude_exceptions=(ConnectionResetError,)),
        circuit_breaker=CircuitBreakerConfig(half_open_max_calls=3),
    )
    calls = 0

    @kit.with_resilience("op", custom_config=config)
    def reset() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionResetError

    other = kit.with_resilience("op")(remaining_time)
    kit.set_strategy("op", "critical")
    with no_waiting(), pytest.raises(ConnectionResetError):
        reset()
    assert (1, 90) == (calls, round(other()))


def test_switched_off_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """RESILIENCE_ENABLED=false: one attempt, no circuit, but still counted."""
    monkeypatch.setenv("RESILIENCE_ENABLED", "false")
    kit, callee = AIServiceResilience(), Callee()
    call = kit.with_resilience("off", strategy="critical")(callee)
    for _ in range(20):
        with pytest.raises(ConnectionError):
            call()
    assert ([None] * 20, 20, CircuitState.CLOSED) == (
        callee.left,
        kit.get_metrics("off")["failed_calls"],
        kit.get_circuit_breaker("off").state,
    )


@pytest.mark.parametrize("name", ["qa", "Q-A", "q.a", "q a"])
def test_a_variable_spells_an_operation_in_capitals(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every other sign is an underscore."""
    monkeypatch.setenv("RESILIENCE_OPERATION_" + ("QA" if name == "qa" else "Q_A"), "critical")
    assert "critical" == strategy_at_work(AIServiceResilience(), name, strategy="aggressive")


def test_arguments_beat_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings given in code are over the environment's."""
    monkeypatch.setenv("RESILIENCE_PRESET", "aggressive")
    assert "critical" == strategy_at_work(AIServiceResilience(ResilienceSettings(preset="critical")), "any")
