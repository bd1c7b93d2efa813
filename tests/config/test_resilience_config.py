"""`ResilienceConfig`: its rules, and the variants made from it."""

import dataclasses
import math

import pytest

from resilience_kit.config import ResilienceConfig
from resilience_kit.guards import Guard
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig


class Turnstile:
    name = "turnstile"

    def admit(self, cost=1.0):
        raise NotImplementedError

    def fits(self, cost=1.0):
        return True


def test_bare_config_retries_and_breaks_and_has_no_deadline_or_budget():
    """What is on in a config that says nothing: retry and breaker, with their own defaults."""
    config = ResilienceConfig()
    assert (RetryConfig(), CircuitBreakerConfig()) == (config.retry, config.circuit_breaker)
    assert (None, None, None, ()) == (config.deadline, config.attempt_timeout, config.retry_budget, config.guards)
    assert (True, False, "reject") == (config.idempotent, config.idempotency_key, config.circuit_open)


def test_config_is_frozen_and_may_be_shared():
    """A field cannot be set; equal configs are equal and have one hash."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ResilienceConfig().deadline = 3.0
    assert hash(ResilienceConfig(deadline=3.0)) == hash(ResilienceConfig().replace(deadline=3.0))


def test_all_violations_are_told_at_once(sentences):
    """One ConfigurationError lists every wrong field with its rule and what was given."""
    found = sentences(
        ResilienceConfig,
        retry=3,
        circuit_breaker="off",
        retry_budget=True,
        guards=(object(),),
        deadline=0,
        attempt_timeout=math.nan,
        first_item_timeout=-1,
        idle_timeout=True,
        idempotent=1,
        idempotency_key="",
        circuit_open="wait_for_it",
    )
    assert [
        "retry",
        "circuit_breaker",
        "retry_budget",
        "guards",
        "deadline",
        "attempt_timeout",
        "first_item_timeout",
        "idle_timeout",
        "idempotent",
        "idempotency_key",
        "circuit_open",
    ] == [sentence.partition(":")[0].removeprefix("ResilienceConfig.") for sentence in found]


@pytest.mark.table("wrong", [0, -1, math.nan, math.inf, True, "5", 10**400])
@pytest.mark.table("field", ["deadline", "attempt_timeout", "first_item_timeout", "idle_timeout"])
def test_times_are_finite_numbers_above_zero(sentences, field, wrong):
    """Zero, negative, bool, NaN, infinite and text are refused (invariant 19)."""
    (sentence,) = sentences(ResilienceConfig, **{field: wrong})
    assert sentence.startswith(f"ResilienceConfig.{field}: must be a finite number of seconds above 0")


def test_an_attempt_may_not_last_longer_than_the_call(sentences):
    """`attempt_timeout` is at most `deadline`; equal is allowed."""
    assert ["ResilienceConfig.attempt_timeout: must not exceed deadline 5, got 6"] == sentences(
        ResilienceConfig, deadline=5, attempt_timeout=6
    )
    assert 5 == ResilienceConfig(deadline=5, attempt_timeout=5).attempt_timeout


def test_guards_are_a_tuple_of_guards(sentences):
    """A list could be changed behind the config's back, so it is refused; a guard is whatever has the methods of one."""
    guard = Turnstile()
    assert isinstance(guard, Guard)
    assert (guard,) == ResilienceConfig(guards=(guard,)).guards
    (sentence,) = sentences(ResilienceConfig, guards=[guard])
    assert sentence.startswith("ResilienceConfig.guards: must be a tuple of guards (objects with name, admit and fits)")


def test_replace_makes_a_variant_and_leaves_the_original():
    """Some fields change, the others stay."""
    original = ResilienceConfig.from_strategy("critical")
    variant = original.replace(retry=None, deadline=7.0)
    assert (None, 7.0, original.circuit_breaker) == (variant.retry, variant.deadline, variant.circuit_breaker)
    assert 300.0 == original.deadline


def test_replace_refuses_unknown_fields_with_the_nearest_name(sentences):
    """A misspelt field is a sentence, and its value is not shown."""
    assert [
        "ResilienceConfig.dead_line: is not a field; did you mean 'deadline'?",
        "ResilienceConfig.guard: is not a field; did you mean 'guards'?",
    ] == sentences(ResilienceConfig().replace, dead_line=5, guard=())


def test_a_shorter_deadline_shortens_the_attempt_timeout():
    """`with_deadline` keeps the config valid; a longer deadline or none leaves the attempt timeout as it is."""
    config = ResilienceConfig(deadline=20.0, attempt_timeout=10.0)
    assert (5.0, 5.0) == (config.with_deadline(5.0).deadline, config.with_deadline(5.0).attempt_timeout)
    assert 10.0 == config.with_deadline(30.0).attempt_timeout
    assert (None, 10.0) == (config.with_deadline(None).deadline, config.with_deadline(None).attempt_timeout)


@pytest.mark.parametrize("wrong", [-1, 0, True, "5", math.nan])
def test_a_wrong_deadline_is_one_violation(sentences, wrong):
    """The attempt timeout is not blamed for the deadline."""
    (sentence,) = sentences(ResilienceConfig(attempt_timeout=10.0).with_deadline, wrong)
    assert sentence.startswith("ResilienceConfig.deadline: ")


def test_a_strategy_over_a_config_changes_numbers_only():
    """Guards, exceptions, timeouts and idempotency are the code's, whatever strategy an operator names."""
    budget = RetryBudgetConfig(capacity=50)
    config = ResilienceConfig(
        retry=RetryConfig(max_attempts=9, jitter=None, retry_exceptions=(KeyError,), max_retry_after=7.0),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=2, excluded_exceptions=(KeyError,), max_recovery_timeout=90.0),
        attempt_timeout=15.0,
        retry_budget=budget,
        guards=(Turnstile(),),
        idempotent=False,
        idempotency_key=True,
        circuit_open="wait",
        idle_timeout=2.0,
    )
    changed = config.with_strategy("aggressive")
    aggressive = ResilienceConfig.from_strategy("aggressive")
    assert aggressive.retry == dataclasses.replace(changed.retry, retry_exceptions=None, max_retry_after=60.0)
    assert ((KeyError,), 7.0) == (changed.retry.retry_exceptions, changed.retry.max_retry_after)
    assert (3, 30.0, (KeyError,), 90.0) == (
        changed.circuit_breaker.failure_threshold,
        changed.circuit_breaker.recovery_timeout,
        changed.circuit_breaker.excluded_exceptions,
        changed.circuit_breaker.max_recovery_timeout,
    )
    assert (10.0, 10.0, budget) == (changed.deadline, changed.attempt_timeout, changed.retry_budget)
    assert config == changed.replace(
        retry=config.retry, circuit_breaker=config.circuit_breaker, deadline=None, attempt_timeout=config.attempt_timeout
    )


def test_a_strategy_lifts_a_longest_recovery_that_it_passes():
    """`max_recovery_timeout` stays at least the strategy's own recovery."""
    config = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(max_recovery_timeout=90.0))
    assert 300.0 == config.with_strategy("critical").circuit_breaker.max_recovery_timeout


def test_a_strategy_switches_on_what_it_has_numbers_for():
    """A policy that the code had switched off is on when a strategy is named over it."""
    off = ResilienceConfig(retry=None, circuit_breaker=None)
    assert ResilienceConfig.from_strategy("balanced") == off.with_strategy("balanced")


def test_switched_off_protects_nothing_and_keeps_the_key():
    """Everything off, but the callee still has its idempotency key, and a call that may not be repeated stays so."""
    config = ResilienceConfig.from_strategy("critical").replace(guards=(Turnstile(),), idempotent=False, idempotency_key=True)
    off = config.switched_off()
    assert ResilienceConfig(retry=None, circuit_breaker=None, idempotent=False, idempotency_key=True) == off
