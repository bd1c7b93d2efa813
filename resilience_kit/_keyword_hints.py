"""Answers a keyword that another library, or another class of the kit, has for an option: with the spelling that is right here.

Python's own `TypeError` names the wrong keyword only. Users come from pybreaker, tenacity, backoff, stamina, resilience4j and
others, and write what they know; `OPTION_ALIASES` is what these call the options of the kit.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Group of options -> our name of each -> what others call it, in snake case.
_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    "retry": {
        "max_attempts": "attempts tries max_tries retries retry_attempts num_retries total max_attempt_number retry_max_attempts",
        "max_retries": "max_retry_attempts max_retry retry_count",
        "base_delay": "wait_initial initial_delay initial_backoff initial_interval delay interval wait_duration min_delay",
        "max_delay": "wait_max max_wait max_backoff max_interval max_value delay_max",
        "backoff_factor": "wait_exp_base multiplier exponential_base exp_base factor base backoff backoff_multiplier",
        "jitter": "wait_jitter randomized_wait_factor use_jitter",
        "jitter_factor": "",
        "retry_exceptions": "on exception exceptions retry_on retry_on_exception retryable_exceptions should_handle",
        "exclude_exceptions": "giveup give_up ignore_exceptions ignore excluded_exceptions exclude abort_on",
        "retry_on_result": "predicate on_predicate retry_if_result result_predicate",
        "max_retry_after": "retry_after_max",
        "before_sleep": "on_backoff on_retry before_retry",
        "after": "",
    },
    "circuit": {
        "failure_threshold": "fail_max max_failures failures failure_count threshold circuit_breaker_threshold trip_after",
        "recovery_timeout": "reset_timeout timeout_duration break_duration wait_duration_in_open_state ttl recovery_time"
        " recovery_time_secs cooldown cooldown_seconds open_timeout sleep_window",
        "expected_exception": "exceptions record_exceptions should_handle expected_exceptions is_failure",
        "excluded_exceptions": "exclude ignore_exceptions exclude_exceptions ignored_exceptions excluded",
        "half_open_max_calls": "permitted_number_of_calls_in_half_open_state half_open_max_requests max_half_open_calls",
        "success_threshold": "half_open_successes success_count required_successes",
        "trial_lease": "",
        "window": "failure_rate_window sliding_window",
        "max_recovery_timeout": "max_wait_duration_in_open_state max_recovery_time max_reset_timeout",
        "store": "state_storage storage uow",
        "fallback_function": "fallback fallback_method",
    },
    "window": {
        "size": "sliding_window_size window_size sampling_duration window_duration",
        "kind": "sliding_window_type window_type",
        "failure_rate": "failure_rate_threshold failure_ratio error_rate error_threshold_percentage",
        "minimum_calls": "minimum_number_of_calls minimum_throughput request_volume_threshold min_calls",
        "slow_call_duration": "slow_call_duration_threshold slow_threshold",
        "slow_call_rate": "slow_call_rate_threshold",
    },
    "resilience": {
        "retry": "retry_config retries_config retry_policy retrying",
        "circuit_breaker": "breaker circuit circuit_breaker_config",
        "deadline": "total_timeout max_time max_duration stop_after_delay overall_timeout time_limit",
        "attempt_timeout": "per_try_timeout try_timeout call_timeout request_timeout timeout_per_attempt",
        "retry_budget": "",
        "guards": "",
        "rate_limit": "rate_limiter ratelimit limiter rate_limits",
        "bulkhead": "bulkhead_config",
        "hedge": "hedging hedge_config",
        "idempotent": "",
        "idempotency_key": "",
        "circuit_open": "",
        "first_item_timeout": "",
        "idle_timeout": "",
    },
    "bulkhead": {
        "max_concurrent": "max_concurrency max_concurrent_calls concurrency permit_limit max_parallel",
        "max_queue": "queue_limit queue_size max_waiting",
        "max_wait": "max_wait_duration queue_timeout",
    },
    "limit": {
        "rate": "limit max_rate calls max_calls limit_for_period max_executions requests tokens",
        "period": "time_period per limit_refresh_period per_time_secs seconds",
        "burst": "bucket_size capacity max_burst max_tokens",
        "max_wait": "timeout_duration timeout",
    },
    "hedge": {"delay": "hedging_delay", "max_hedges": "max_hedged_attempts", "quantile": "percentile", "max_share": ""},
}
#: Group -> a keyword -> our name of it.
OPTION_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    group: {alias: option for option, aliases in options.items() for alias in (option, *aliases.split())}
    for group, options in _ALIASES.items()
}


class _OptionOwner(NamedTuple):
    """Where options of each group are given, for one class or function. The first group that knows a keyword answers."""

    templates: Mapping[str, str]
    #: Keywords that need a sentence of their own.
    remedies: Mapping[str, str] = {}


_TIMEOUT: Final = "deadline= for the whole call, waits included, or attempt_timeout= for one attempt"
_IN_CONFIG: Final = {
    "resilience": "{}=",
    "retry": "retry=RetryConfig({}=...)",
    "circuit": "circuit_breaker=CircuitBreakerConfig({}=...)",
    "window": "circuit_breaker=CircuitBreakerConfig(window=FailureRateWindow(..., {}=...))",
    "bulkhead": "bulkhead=BulkheadConfig({}=...)",
    "limit": "rate_limit=RateLimitConfig({}=...)",
    "hedge": "hedge=HedgeConfig({}=...)",
}
_TENACITY: Final = {
    name: f"config.retrying({name}=...), .async_retrying({name}=...) or .decorator({name}=...), which take tenacity's options"
    for name in ("stop", "wait", "retry", "before", "sleep", "reraise", "retry_error_cls", "retry_error_callback", "enabled")
}


def _templates_within(argument: str) -> dict[str, str]:
    return {
        group: f"{argument}=ResilienceConfig({home.replace('{}=', '{}=...') if home == '{}=' else home})"
        for group, home in _IN_CONFIG.items()
    }


_OWNERS: Final[Mapping[str, _OptionOwner]] = {
    "RetryConfig": _OptionOwner(
        {"retry": "{}=", "resilience": "ResilienceConfig(retry=RetryConfig(...), {}=...)"},
        {**_TENACITY, "timeout": "ResilienceConfig(retry=RetryConfig(...), deadline=...)"},
    ),
    "CircuitBreakerConfig": _OptionOwner(
        {"circuit": "{}=", "window": "window=FailureRateWindow(..., {}=...)", "resilience": "ResilienceConfig({}=...)"},
        {"timeout": "recovery_timeout=", "listeners": "orchestrator.add_listener(...)"},
    ),
    "CircuitBreaker": _OptionOwner(
        {"circuit": "{}=", "window": "window=FailureRateWindow(..., {}=...)"},
        {"timeout": "recovery_timeout=", "listeners": "events=EventStream(), and .add_listener(...) of that"},
    ),
    "FailureRateWindow": _OptionOwner({"window": "{}="}),
    "ResilienceConfig": _OptionOwner(
        _IN_CONFIG,
        {
            "timeout": _TIMEOUT,
            "strategy": "ResilienceConfig.from_strategy(...)",
            "default_strategy": "ResilienceConfig.from_strategy(...)",
            "fallback": "with_resilience(..., fallback=...)",
        },
    ),
    "with_resilience": _OptionOwner(
        _templates_within("custom_config"),
        {"timeout": _TIMEOUT, "config": "custom_config=", "name": "the name first: with_resilience('summarize')"},
    ),
    "transport": _OptionOwner(
        _templates_within("config"),
        {"timeout": "the client's own timeout=, or config=ResilienceConfig(deadline=...)", "custom_config": "config="},
    ),
    "client": _OptionOwner(
        {
            "retry": "retry_config=RetryConfig({}=...)",
            "circuit": "circuit_breaker=CircuitBreaker({}=...)",
            "limit": "rate_limiter=TokenBucketRateLimiter({}=...)",
        },
        {
            "retry": "retry_config=RetryConfig(...)",
            "breaker": "circuit_breaker=",
            "rate_limit": "rate_limiter=",
            "config": "retry_config=RetryConfig(...)",
        },
    ),
    "AIServiceResilience": _OptionOwner(
        {},
        dict.fromkeys(
            ("strategy", "preset", "default_strategy", "config"), "AIServiceResilience(ResilienceSettings(preset=...))"
        ),
    ),
    "BulkheadConfig": _OptionOwner({"bulkhead": "{}="}, {"timeout": "max_wait="}),
    "RateLimitConfig": _OptionOwner({"limit": "{}="}),
    "HedgeConfig": _OptionOwner({"hedge": "{}="}),
}
#: How near a misspelt name has to be.
_MIN_SIMILARITY: Final = 0.7
_UNKNOWN_OWNER: Final = _OptionOwner({})


def keyword_hint(keyword: str, owner: str, known: Collection[str]) -> str:
    """Return what to write instead of `keyword`, as the end of a sentence. `known` is what `owner` takes."""
    name = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", keyword).lower()
    option_owner = _OWNERS.get(owner, _UNKNOWN_OWNER)
    if name in option_owner.remedies:
        return f"write {option_owner.remedies[name]}"
    found = next(_suggestions(name, option_owner, known), None)
    if found is not None:
        return f"write {found}"
    close = difflib.get_close_matches(name, sorted(known), 1, _MIN_SIMILARITY)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _suggestions(name: str, owner: _OptionOwner, known: Collection[str]) -> Iterator[str]:
    for group, home in owner.templates.items():
        option = OPTION_ALIASES[group].get(name)
        if option in known:
            yield f"{option}="
        elif option is not None and home != "{}=":
            yield home.format(option)


def suggests_keywords(owner: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function: a keyword that it does not take raises a `TypeError` that tells what to write instead."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code: Any = getattr(function, "__code__")  # noqa: B009 - a plain function's
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        known, is_method = frozenset(names) - {"self"}, names[:1] == ("self",)

        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not kwargs.keys() <= known:
                wrong = next(name for name in kwargs if name not in known)
                shown = type(args[0]).__name__ if is_method and function.__name__ == "__init__" else function.__name__
                spelling = keyword_hint(wrong, owner, known)
                raise TypeError(f"{shown}() got an unexpected keyword argument {wrong!r}; {spelling}")
            return function(*args, **kwargs)

        return functools.update_wrapper(wrapper, function)

    return decorate


def suggests_keywords_for_class(cls: type[T]) -> type[T]:
    """Decorate a class: as `suggests_keywords` for its constructor."""
    made: Any = cls
    made.__init__ = suggests_keywords(cls.__name__)(made.__init__)
    return cls
