"""The four strategies and their numbers."""

import pytest

from resilience_kit.config import STRATEGY_NUMBERS, ResilienceConfig, ResilienceStrategy, strategy_named
from resilience_kit.policies.retry_budget import RetryBudgetConfig

TABLE = [
    ("aggressive", 2, 1, 5, 10, 3, 30),
    ("balanced", 3, 2, 10, 30, 5, 60),
    ("conservative", 5, 4, 30, 120, 8, 120),
    ("critical", 7, 3, 60, 300, 10, 300),
]


@pytest.mark.parametrize(("name", "attempts", "base", "longest", "deadline", "threshold", "recovery"), TABLE)
def test_a_strategy_is_its_row_of_the_table(name, attempts, base, longest, deadline, threshold, recovery):
    """`from_strategy` has each number of the strategy, factor 2, full jitter, and the retry budget on."""
    config = ResilienceConfig.from_strategy(name)
    retry, breaker = config.retry, config.circuit_breaker
    assert (attempts, base, longest, 2.0, "full") == (
        retry.max_attempts,
        retry.base_delay,
        retry.max_delay,
        retry.backoff_factor,
        retry.jitter,
    )
    assert (deadline, threshold, recovery) == (config.deadline, breaker.failure_threshold, breaker.recovery_timeout)
    assert RetryBudgetConfig() == config.retry_budget


def test_every_strategy_has_numbers():
    """No member of the enum is without a row."""
    assert set(ResilienceStrategy) == set(STRATEGY_NUMBERS)


@pytest.mark.parametrize("name", ["critical", "CRITICAL", "Critical", ResilienceStrategy.CRITICAL])
def test_a_strategy_is_found_by_its_name(name):
    """Text in any case and the member itself mean the same."""
    assert ResilienceStrategy.CRITICAL is strategy_named(name)
    assert ResilienceConfig.from_strategy(ResilienceStrategy.CRITICAL) == ResilienceConfig.from_strategy(name)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("balansed", "did you mean 'balanced'?, got 'balansed'"),
        ("", "known: aggressive, balanced, conservative, critical, got ''"),
        (None, "known: aggressive, balanced, conservative, critical, got None"),
        (3, "known: aggressive, balanced, conservative, critical, got 3"),
        (True, "known: aggressive, balanced, conservative, critical, got True"),
        (["critical"], "did you mean 'critical'?, got ['critical']"),
    ],
)
def test_an_unknown_strategy_is_a_sentence_with_the_nearest_name(sentences, wrong, hint):
    """Field, rule, nearest valid name; whatever type was given."""
    assert [f"strategy: must be the name of a strategy; {hint}"] == sentences(strategy_named, wrong)
    assert [f"strategy: must be the name of a strategy; {hint}"] == sentences(ResilienceConfig.from_strategy, wrong)
