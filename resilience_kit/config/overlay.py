"""Applies settings over a config.

`FIELDS` maps each setting that a configuration text or a mapping in code may hold to the option that it sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from resilience_kit._checks import did_you_mean
from resilience_kit.config.resilience_config import ResilienceConfig, within
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.errors import REDACTED, ConfigurationError, Violation
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

#: Setting -> the class and the field that it sets.
FIELDS: Final[Mapping[str, tuple[type, str]]] = MappingProxyType(
    {
        "retry_attempts": (RetryConfig, "max_attempts"),
        "base_delay": (RetryConfig, "base_delay"),
        "max_delay": (RetryConfig, "max_delay"),
        "backoff_factor": (RetryConfig, "backoff_factor"),
        "jitter": (RetryConfig, "jitter"),
        "circuit_breaker_threshold": (CircuitBreakerConfig, "failure_threshold"),
        "recovery_timeout": (CircuitBreakerConfig, "recovery_timeout"),
        "deadline": (ResilienceConfig, "deadline"),
        "attempt_timeout": (ResilienceConfig, "attempt_timeout"),
    }
)
#: A config that conflicts with no setting.
_PERMISSIVE: Final = ResilienceConfig(retry=RetryConfig(base_delay=0.0, max_delay=float(2**53)))
SETTING_NAMES: Final = (*FIELDS, "default_strategy", "operation_overrides")
#: Allowed beside settings in a file, and nowhere else.
_FILE_ONLY: Final = frozenset({"preset", "operations"})
#: Settings that are whole numbers.
_INTEGER_SETTINGS: Final = frozenset({"retry_attempts", "circuit_breaker_threshold"})
_SETTING_BY_FIELD: Final = {f"{owner.__name__}.{name}": setting for setting, (owner, name) in FIELDS.items()}


def overrides_of(settings: Mapping[str, object], path: str) -> Mapping[str, ResilienceStrategy]:
    """Return the strategies that `settings` name for single operations."""
    named = settings.get("operation_overrides", {})
    if not isinstance(named, Mapping):
        raise ConfigurationError([Violation(f"{path}.operation_overrides", "must map operations to strategies", REDACTED)])
    return {name: strategy_named(value, f"{path}.operation_overrides.{name}") for name, value in named.items()}


def overlay(base: ResilienceConfig, settings: Mapping[str, object], path: str) -> ResilienceConfig:
    """Return `base` with the options that `settings` name, checked by each option's own rule, not by the ranges for texts.

    Raises ConfigurationError about `path`.setting. A deadline below the attempt timeout of `base` shortens that, too.
    """
    try:
        changed = _changed(base, settings)
    except ConfigurationError as error:
        found = [_with_setting_path(each, path) for each in error.errors]
    else:
        found = list(_delays_out_of_order(changed.retry, settings, path))
        if not found:
            return changed
    raise ConfigurationError(found)


def overlay_clamped(base: ResilienceConfig, settings: Mapping[str, object]) -> ResilienceConfig:
    """Apply `settings` as `overlay` does, but adjust options of `base` that would conflict with them.

    For an operator's settings, which must take effect whatever numbers the code has.
    """
    retry, breaker = base.retry or RetryConfig(), base.circuit_breaker or CircuitBreakerConfig()
    numbers: dict[str, Any] = {**settings}
    if "base_delay" in numbers:
        numbers.setdefault("max_delay", max(retry.max_delay, numbers["base_delay"]))
    elif "max_delay" in numbers:
        numbers["base_delay"] = min(retry.base_delay, numbers["max_delay"])
    if "attempt_timeout" in numbers and "deadline" not in numbers:
        numbers["attempt_timeout"] = within(numbers["attempt_timeout"], base.deadline)
    if breaker.max_recovery_timeout is not None and "recovery_timeout" in numbers:
        longest = max(breaker.max_recovery_timeout, numbers["recovery_timeout"])
        base = base.replace(circuit_breaker=dataclasses.replace(breaker, max_recovery_timeout=longest))
    return overlay(base, numbers, "")


def validate_settings(settings: Mapping[str, object], path: str) -> None:
    """Raise ConfigurationError for `settings` in code that are wrong over any config."""
    reject_unknown_settings(settings, path)
    overrides_of(settings, path)
    if "default_strategy" in settings:
        strategy_named(settings["default_strategy"], f"{path}.default_strategy")
    overlay(_PERMISSIVE, settings, path)


def validate_section(settings: Mapping[str, object], path: str) -> None:
    """Raise ConfigurationError for `settings` of one operation that conflict with each other or with their strategy."""
    strategy = settings.get("strategy")
    base = _PERMISSIVE if strategy is None else ResilienceConfig.from_strategy(strategy_named(strategy))
    overlay(base, settings, path)


def _changed(base: ResilienceConfig, settings: Mapping[str, object]) -> ResilienceConfig:
    found: list[Violation] = []
    retry = _policy(RetryConfig, base.retry, settings, found)
    breaker = _policy(CircuitBreakerConfig, base.circuit_breaker, settings, found)
    times = _options(ResilienceConfig, settings)
    if "deadline" in times and "attempt_timeout" not in times:
        times["attempt_timeout"] = base.attempt_timeout_within(times["deadline"])
    config = _replaced(base, times, found)
    if found:
        raise ConfigurationError(found)
    return dataclasses.replace(config, retry=retry, circuit_breaker=breaker)


def _policy(
    kind: type[Options], policy: Options | None, settings: Mapping[str, object], found: list[Violation]
) -> Options | None:
    """Return a policy with some options changed; a policy that was off is switched on by that."""
    changes = _options(kind, settings)
    return _replaced(policy or kind(), changes, found) if changes else policy


def _options(owner: type, settings: Mapping[str, object]) -> dict[str, object]:
    option_names = {name: option for name, (target, option) in FIELDS.items() if target is owner}
    return {option_names[name]: _option_value(name, value) for name, value in settings.items() if name in option_names}


def _option_value(name: str, value: object) -> object:
    if name == "jitter" and value == "none":
        return None
    return to_integer_if_exact(value) if name in _INTEGER_SETTINGS else value


def to_integer_if_exact(value: object) -> object:
    """Return a float without a fraction as an int: JSON has one kind of number, and some programs write 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _replaced(options: Options, changes: Mapping[str, object], found: list[Violation]) -> Options:
    try:
        return dataclasses.replace(options, **changes)
    except ConfigurationError as error:
        found += error.errors
        return options


def _with_setting_path(violation: Violation, path: str) -> Violation:
    return violation._replace(path=f"{path}.{_SETTING_BY_FIELD.get(violation.path, violation.path)}")


def _delays_out_of_order(retry: RetryConfig | None, settings: Mapping[str, object], path: str) -> Iterator[Violation]:
    if retry is None or retry.base_delay <= retry.max_delay:
        return
    if "base_delay" in settings:
        yield Violation(f"{path}.base_delay", f"must not exceed max_delay {retry.max_delay}", retry.base_delay)
    elif "max_delay" in settings:
        yield Violation(f"{path}.max_delay", f"must be at least base_delay {retry.base_delay}", retry.max_delay)


def reject_unknown_settings(settings: Mapping[str, object], path: str) -> None:
    """Raise ConfigurationError for names that are no settings."""
    unknown = [name for name in settings if name not in SETTING_NAMES]
    if unknown:
        raise ConfigurationError(unknown_setting(f"{path}.{name}", name, SETTING_NAMES) for name in unknown)


def unknown_setting(path: str, name: object, known: Collection[str]) -> Violation:
    """Return the violation of an unknown setting, with the nearest known name; the value, perhaps a secret, is not shown."""
    only_there = name in _FILE_ONLY and "operation_overrides" in known
    hint = f"; only a file may hold {name!r}" if only_there else did_you_mean(name, known)
    return Violation(path, f"is not a setting{hint}", REDACTED)
