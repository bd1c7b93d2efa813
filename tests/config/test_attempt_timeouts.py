"""The attempt timeouts of the strategies: what they leave room for, and what becomes of them under other options."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from resilience_kit.config import STRATEGY_NUMBERS, ResilienceConfig, ResilienceSettings, ResilienceStrategy, resolve
from resilience_kit.config.explain import explain
from resilience_kit.policies.retry import RetryConfig

TIMEOUTS = {"aggressive": 4.0, "balanced": 12.0, "conservative": 45.0, "critical": 90.0}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_two_attempts_that_hang_fit_into_the_deadline(name):
    """With the longest wait between them, and a tenth of the deadline to spare."""
    config, numbers = ResilienceConfig.from_strategy(name), STRATEGY_NUMBERS[ResilienceStrategy(name)]
    assert TIMEOUTS[name] == config.attempt_timeout == numbers.attempt_timeout
    assert 2 * numbers.attempt_timeout + numbers.base_delay <= 0.9 * numbers.deadline


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 12.0),
        ({"strategy": "critical"}, 90.0),
        ({"deadline": 120.0}, None),
        ({"deadline": 30.0}, None),
        ({"deadline": 0.5}, None),
        ({"deadline": None}, None),
        ({"attempt_timeout": None}, None),
        ({"attempt_timeout": 29.0}, 29.0),
        ({"attempt_timeout": 3.0, "deadline": 4.0}, 3.0),
        ({"idempotent": False}, None),
        ({"custom_config": {"retry_attempts": 1}}, None),
        ({"custom_config": {"deadline": 60}}, None),
        ({"custom_config": {"attempt_timeout": 25, "retry_attempts": 1}}, 25),
        ({"custom_config": ResilienceConfig()}, None),
        ({"custom_config": ResilienceConfig.from_strategy("critical").replace(idempotent=False, idempotency_key=True)}, 90.0),
        ({"custom_config": ResilienceConfig.from_strategy("critical").replace(retry=None)}, None),
        ({"custom_config": ResilienceConfig.from_strategy("aggressive"), "live": "critical"}, 90.0),
        ({"custom_config": ResilienceConfig(attempt_timeout=20.0), "live": "critical"}, 20.0),
    ],
)
def test_it_goes_with_the_strategys_deadline_and_with_retries(asked, expected):
    """Beside a deadline that somebody names, and where nothing is repeated, it is off; one that somebody names stays."""
    found = resolve("op", settings=ResilienceSettings(), **asked).attempt_timeout
    assert (expected is None) == (found is None)
    assert expected is None or found == pytest.approx(expected)


def test_templates_with_one_attempt_have_all_of_their_deadline():
    """A request that is not repeated is not cut off before its time."""
    settings = ResilienceSettings(custom_config={"retry_attempts": 1, "default_strategy": "aggressive", "deadline": 5.0})
    assert (5.0, None) == ((config := resolve("op", settings=settings)).deadline, config.attempt_timeout)
    field = explain("op", settings=ResilienceSettings(custom_config={"retry_attempts": 1}))["attempt_timeout"]
    assert (None, "default, since no retry would use it") == (field.value, field.source)
    assert 12.0 == explain("op", settings=ResilienceSettings())["attempt_timeout"].value


def test_a_variant_with_a_named_deadline_has_none():
    """`replace` and `with_deadline`; by name it is whatever is named."""
    config = ResilienceConfig.from_strategy("conservative")
    assert (None, None, 50.0) == (
        config.replace(deadline=60.0).attempt_timeout,
        config.with_deadline(60.0).attempt_timeout,
        config.replace(deadline=60.0, attempt_timeout=50.0).attempt_timeout,
    )
    assert 45.0 == config.replace(idempotent=False).attempt_timeout
    copied = pickle.loads(pickle.dumps(config))
    assert (config, None) == (copied, copied.with_deadline(12.0).attempt_timeout)
    assert None is dataclasses.replace(config, retry=RetryConfig()).with_deadline(12.0).attempt_timeout
