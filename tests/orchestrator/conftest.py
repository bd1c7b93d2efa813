"""An orchestrator on a fake clock, with no settings of the machine's."""

from __future__ import annotations

import os
from typing import Any

import pytest

from resilience_kit import orchestrator
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing import FakeClock


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch):
    """No variable of ours, and no default orchestrator before or after a test."""
    for name in [name for name in os.environ if name.upper().startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    orchestrator.set_orchestrator(None)
    yield
    orchestrator.set_orchestrator(None)


@pytest.fixture
def clock() -> FakeClock:
    """Time that passes when told to."""
    return FakeClock(100.0)


@pytest.fixture
def kit(clock: FakeClock) -> AIServiceResilience:
    """An orchestrator on that clock."""
    return AIServiceResilience(ResilienceSettings(), clock=clock)


@pytest.fixture
def config() -> Any:
    """Makes configs: no jitter, a breaker that opens at `threshold`."""

    def make(threshold: int = 1000, **options: Any) -> ResilienceConfig:
        defaults = {"retry": RetryConfig(jitter=None), "circuit_breaker": CircuitBreakerConfig(failure_threshold=threshold)}
        return ResilienceConfig(**{**defaults, **options})

    return make
