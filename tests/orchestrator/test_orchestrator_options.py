"""Options in a wrong place, of another kind or under another library's name: refused at once, with what was meant."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreaker,
    CircuitBreakerConfig,
    ConfigurationError,
    FailureRateWindow,
    ResilienceConfig,
    ResilienceStrategy,
    RetryConfig,
    with_resilience,
)
from resilience_kit._keyword_hints import OPTION_ALIASES, keyword_hint
from resilience_kit.config import ResilienceSettings
from resilience_kit.events import HedgeStarted
from resilience_kit.http import APIClient, AsyncAPIClient, AsyncResilientTransport, ResilientTransport
from resilience_kit.policies.bulkhead import BulkheadConfig
from resilience_kit.policies.hedge import HedgeConfig
from resilience_kit.policies.rate_limit import RateLimitConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from resilience_kit.testing import FakeClock

WRONG_OPTIONS = [
    ({"custom_config": RetryConfig()}, r"a RetryConfig belongs in ResilienceConfig\(retry=...\)"),
    ({"custom_config": CircuitBreakerConfig()}, r"a CircuitBreakerConfig belongs in ResilienceConfig\(circuit_breaker=...\)"),
    ({"custom_config": RetryBudgetConfig()}, r"a RetryBudgetConfig belongs in ResilienceConfig\(retry_budget=...\)"),
    ({"custom_config": HedgeConfig()}, "a HedgeConfig belongs in hedge="),
    ({"custom_config": RateLimitConfig(rate=1)}, "a RateLimitConfig belongs in rate_limit="),
    ({"custom_config": BulkheadConfig(max_concurrent=1)}, "a BulkheadConfig belongs in bulkhead="),
    ({"custom_config": CircuitBreaker()}, "a CircuitBreaker belongs in circuit_breaker= of a JSON client"),
    ({"custom_config": ResilienceConfig}, "this is the class ResilienceConfig itself: call it"),
    ({"custom_config": 5}, r"for so many attempts, ResilienceConfig\(retry=RetryConfig\(max_attempts=5\)\), got 5"),
    ({"custom_config": True}, "must be a ResilienceConfig or a mapping of settings, got True"),
    ({"custom_config": [1]}, r"must be a ResilienceConfig or a mapping of settings, got \[1\]"),
    ({"custom_config": "balanced"}, "a strategy's name goes to strategy='balanced'"),
    ({"custom_config": ResilienceStrategy.CRITICAL}, "a strategy's name goes to strategy='critical'"),
    ({"custom_config": '{"deadline": 5}'}, "a text of settings has to be parsed first, by json.loads"),
    ({"custom_config": {"retry_attempts": "5"}}, r"custom_config.retry_attempts: .*"),
    ({"custom_config": {"default_strategy": "balance"}}, "custom_config.default_strategy: .*did you mean 'balanced'"),
    ({"custom_config": {"operation_overrides": {"x": 5}}}, "custom_config.operation_overrides.x: must be the name of a strategy"),
    ({"custom_config": {"base_delay": 5.0, "max_delay": 2.0}}, "custom_config.base_delay: must not exceed max_delay"),
    ({"custom_config": {"retry_attempt": 5}}, "did you mean 'retry_attempts'"),
    ({"fallback": 5}, "fallback: must be callable with the call's own arguments; for a fixed answer, a function that returns it"),
    ({"strategy": ResilienceConfig()}, "strategy: must be the name of a strategy; a ResilienceConfig belongs in custom_config="),
    ({"strategy": 5}, "strategy: must be the name of a strategy; known"),
    ({"strategy": "crtical"}, "did you mean 'critical'"),
    ({"deadline": "30"}, "deadline: must be a finite number of seconds above 0; write 30 without quotes"),
    ({"deadline": "soon"}, "deadline: must be a finite number of seconds above 0, got 'soon'"),
    ({"deadline": timedelta(seconds=3)}, "deadline: .*; write 3.0, got"),
    ({"attempt_timeout": "3"}, "attempt_timeout: .*; write 3 without quotes"),
    ({"rate_limit": 5}, r"rate_limit: .*; write RateLimitConfig\(rate=5\)"),
    ({"rate_limit": "5/s"}, "rate_limit: must be a RateLimitConfig"),
    ({"bulkhead": 5}, r"bulkhead: .*; write BulkheadConfig\(max_concurrent=5\)"),
    ({"hedge": 0.5}, r"hedge: must be a HedgeConfig or None; write HedgeConfig\(delay=0.5\)"),
    ({"hedge": True}, "hedge: must be a HedgeConfig or None, got True"),
    ({"hedge": HedgeConfig(), "idempotent": False}, "hedge: must be left out where idempotent is False"),
    ({"idempotent": "yes"}, "idempotent: must be True or False"),
]


@pytest.mark.table(("options", "sentence"), WRONG_OPTIONS)
def test_a_wrong_option_is_refused_when_decorating(options, sentence):
    """Of the module's decorator and of an orchestrator's, before anything is called, with what was meant."""
    with pytest.raises(ConfigurationError, match=sentence):
        with_resilience("x", **options)
    with pytest.raises(ConfigurationError, match=sentence):
        AIServiceResilience(ResilienceSettings()).with_resilience("x", **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(o, s) for o, s in WRONG_OPTIONS if o.keys() <= {"custom_config", "fallback", "strategy", "deadline"}],
)
async def test_a_wrong_option_of_a_single_call_is_refused_the_same(options, sentence):
    """The function is not called."""
    kit, made = AIServiceResilience(ResilienceSettings()), []
    with pytest.raises(ConfigurationError, match=sentence):
        kit.call_with_resilience(lambda: made.append(1), "x", **options)
    with pytest.raises(ConfigurationError, match=sentence):
        await kit.execute_with_resilience(lambda: made.append(1), "x", **options)
    assert [] == made


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ResilienceConfig(retry=5), r"retry: must be a RetryConfig or None; write RetryConfig\(max_attempts=5\)"),
        (lambda: ResilienceConfig(retry=True), "retry: must be a RetryConfig or None, got True"),
        (
            lambda: ResilienceConfig(retry=ResilienceConfig()),
            "retry: must be a RetryConfig or None; a ResilienceConfig belongs in",
        ),
        (lambda: ResilienceConfig(circuit_breaker=CircuitBreaker()), r"give its options: CircuitBreakerConfig\(...\)"),
        (lambda: ResilientTransport(config=RetryConfig()), r"config: .*; a RetryConfig belongs in ResilienceConfig\(retry=...\)"),
        (lambda: AsyncAPIClient("http://x", retry_config=3), r"retry_config: .*; write RetryConfig\(max_attempts=3\)"),
        (lambda: APIClient("http://x", retry_config=ResilienceConfig()), "retry_config: .*; a ResilienceConfig belongs in"),
        (
            lambda: APIClient("http://x", circuit_breaker=CircuitBreakerConfig()),
            "CircuitBreaker.from_config makes a breaker of it",
        ),
    ],
)
def test_an_object_in_a_wrong_place_is_refused_with_the_right_one(make, sentence):
    """Configs, transports and clients say where it belongs."""
    with pytest.raises(ConfigurationError, match=sentence):
        make()


@pytest.mark.table(
    ("owner", "keyword", "spelling"),
    [
        (ResilienceConfig, "retry_attempts", r"retry=RetryConfig\(max_attempts=...\)"),
        (ResilienceConfig, "timeout", "deadline= for the whole call, waits included, or attempt_timeout= for one attempt"),
        (ResilienceConfig, "fail_max", r"circuit_breaker=CircuitBreakerConfig\(failure_threshold=...\)"),
        (ResilienceConfig, "failureRateThreshold", r"window=FailureRateWindow\(..., failure_rate=...\)"),
        (ResilienceConfig, "max_concurrency", r"bulkhead=BulkheadConfig\(max_concurrent=...\)"),
        (ResilienceConfig, "strategy", r"ResilienceConfig.from_strategy\(...\)"),
        (CircuitBreaker, "fail_max", "failure_threshold="),
        (CircuitBreaker, "reset_timeout", "recovery_timeout="),
        (CircuitBreaker, "timeout_duration", "recovery_timeout="),
        (CircuitBreaker, "exclude", "excluded_exceptions="),
        (CircuitBreaker, "waitDurationInOpenState", "recovery_timeout="),
        (CircuitBreaker, "permittedNumberOfCallsInHalfOpenState", "half_open_max_calls="),
        (CircuitBreaker, "slidingWindowSize", r"window=FailureRateWindow\(..., size=...\)"),
        (CircuitBreakerConfig, "recovery_time", "recovery_timeout="),
        (FailureRateWindow, "minimumNumberOfCalls", "minimum_calls="),
        (RetryConfig, "stop", r"config.retrying\(stop=...\)"),
        (RetryConfig, "max_tries", "max_attempts="),
        (RetryConfig, "giveup", "exclude_exceptions="),
        (RetryConfig, "on", "retry_exceptions="),
        (RetryConfig, "wait_initial", "base_delay="),
        (RetryConfig, "max_time", r"ResilienceConfig\(retry=RetryConfig\(...\), deadline=...\)"),
        (ResilientTransport, "retries", r"config=ResilienceConfig\(retry=RetryConfig\(max_attempts=...\)\)"),
        (AsyncResilientTransport, "deadline", r"config=ResilienceConfig\(deadline=...\)"),
        (AsyncAPIClient, "max_retries", r"retry_config=RetryConfig\(max_retries=...\)"),
        (APIClient, "breaker", "circuit_breaker="),
        (BulkheadConfig, "max_concurrent_calls", "max_concurrent="),
        (RateLimitConfig, "limitForPeriod", "rate="),
        (with_resilience, "timeout", "deadline= for the whole call"),
        (with_resilience, "retries", r"custom_config=ResilienceConfig\(retry=RetryConfig\(max_attempts=...\)\)"),
        (with_resilience, "retry", r"custom_config=ResilienceConfig\(retry=...\)"),
    ],
)
def test_a_keyword_of_another_library_is_a_type_error_with_ours(owner, keyword, spelling):
    """pybreaker, aiobreaker, resilience4j, tenacity, backoff, stamina, and other classes of the kit."""
    name = owner.__name__
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument '{keyword}'; write .*{spelling}"):
        owner(**{keyword: 5})


def test_a_misspelt_keyword_is_a_type_error_with_the_nearest():
    """Or with all of them where none is near; a method of an orchestrator says the same as the function."""
    with pytest.raises(TypeError, match="'failure_treshold'; did you mean 'failure_threshold'"):
        CircuitBreaker(failure_treshold=5)
    with pytest.raises(TypeError, match="'zzz'; known: attempt_timeout, bulkhead"):
        ResilienceConfig(zzz=5)
    with pytest.raises(TypeError, match=r"with_resilience\(\) got .* 'dead_line'; did you mean 'deadline'"):
        AIServiceResilience(ResilienceSettings()).with_resilience("x", dead_line=3)
    with pytest.raises(
        TypeError, match=r"AIServiceResilience\(\) got an unexpected keyword argument 'strategy'; write .*preset="
    ):
        AIServiceResilience(strategy="balanced")


def test_a_subclass_says_its_own_name():
    """So that a user finds the line."""

    class Mine(CircuitBreaker):
        pass

    with pytest.raises(TypeError, match=r"Mine\(\) got an unexpected keyword argument 'fail_max'; write failure_threshold="):
        Mine(fail_max=5)


def test_every_word_of_the_vocabulary_has_an_answer():
    """Wherever it is given, a keyword of the tables is answered with a place to write it, and never with itself."""
    known = frozenset(ResilienceConfig.__dataclass_fields__)
    for words in OPTION_ALIASES.values():
        for word in words:
            for owner in ("ResilienceConfig", "with_resilience", "transport"):
                spelling = keyword_hint(word, owner, known if owner == "ResilienceConfig" else frozenset({"config"}))
                assert f"write {word}=" != spelling or word in known


# --- hedge= of a call site -----------------------------------------------------------------------------------------------------


async def slow_then_quick(clock, calls):
    """The first request takes ten seconds, the second one none."""
    calls.append(1)
    if len(calls) == 1:
        await clock.sleep_async(10.0)
        return "slow"
    return "quick"


@pytest.mark.parametrize("by", ["decorator", "execute"])
async def test_a_hedge_of_a_call_site_is_sent(by):
    """`hedge=` beats that of the config, None switches it off."""
    for hedge, config, expected in (
        (HedgeConfig(delay=1.0), None, 1),
        (HedgeConfig(delay=1.0), ResilienceConfig(), 1),
        (None, ResilienceConfig(hedge=HedgeConfig(delay=1.0)), 0),
    ):
        clock, events = FakeClock(), []
        kit = AIServiceResilience(ResilienceSettings(), clock=clock)
        kit.add_listener(events.append, HedgeStarted)
        for _ in range(2):
            calls = []
            if by == "decorator":
                await kit.with_resilience("x", custom_config=config, hedge=hedge)(slow_then_quick)(clock, calls)
            else:
                await kit.execute_with_resilience(slow_then_quick, "x", clock, calls, custom_config=config, hedge=hedge)
        assert 2 * expected == len(events)
        if by == "execute":  # another hedge, and none, are other call sites
            await kit.execute_with_resilience(slow_then_quick, "x", clock, [], custom_config=config, hedge=HedgeConfig(delay=2.0))
            await kit.execute_with_resilience(slow_then_quick, "x", clock, [], custom_config=ResilienceConfig())
            assert 2 * expected + 1 == len(events)


async def test_a_plain_function_is_not_hedged():
    """It could not be cancelled: refused when decorating, and by the sync twin."""
    kit = AIServiceResilience(ResilienceSettings())
    with pytest.raises(ConfigurationError, match="hedges async functions only"):
        kit.with_resilience("x", hedge=HedgeConfig())(len)
    with pytest.raises(ConfigurationError, match="hedges async functions only"):
        kit.call_with_resilience(len, "x", "abc", hedge=HedgeConfig())
    assert 3 == kit.with_resilience("x", custom_config=ResilienceConfig(hedge=HedgeConfig()), hedge=None)(len)("abc")
