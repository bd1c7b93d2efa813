"""Consistency of settings with each other and with the presets that they may change, which ranges cannot check.

The settings are loaded as an application would load them, so nothing passes here that is rejected later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

from resilience_kit.config.overlay import FIELDS, overlay
from resilience_kit.config.presets import PRESETS, Preset
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.strategies import StrategyTimeout
from resilience_kit.errors import ConfigurationError, Violation
from resilience_kit.policies.retry import RetryConfig

_PARTNER: Final = {"base_delay": "max_delay", "max_delay": "base_delay", "attempt_timeout": "deadline"}
#: The least share of a wait's upper bound that is waited, by kind of jitter; full jitter may wait nothing.
_MIN_WAIT_SHARE: Final = {"equal": 0.5, "proportional": 1.0 - RetryConfig().jitter_factor, "none": 1.0}
#: With these given, waits have a lower bound under every preset.
_WAIT_SETTINGS: Final = frozenset({"retry_attempts", "base_delay", "deadline", "jitter"})

#: The preset of an application that chooses none.
_UNNAMED: Final = "simple"


class ConfigWarning(NamedTuple):
    """A warning of settings that are allowed but probably not intended, and what to do about it."""

    warning: str
    suggestion: str


class ConsistencyResult(NamedTuple):
    """Errors, or warnings if there are no errors."""

    errors: Sequence[Violation]
    warnings: Sequence[ConfigWarning] = ()


Combined = ResilienceConfig | Sequence[Violation]


def check_consistency(settings: Mapping[str, object], preset: Preset | None = None) -> ConsistencyResult:
    """Check valid settings for conflicts over `preset`, or over every preset if it is None.

    A conflict over every preset is an error. One over some presets only is a warning.
    """
    numbers = {name: value for name, value in settings.items() if name in FIELDS or name == "default_strategy"}
    unnamed = _UNNAMED if preset is None and "default_strategy" in settings else None
    by_preset = {each.name: _combine(numbers, each, unnamed) for each in ([preset] if preset else PRESETS.values())}
    certain = preset is not None or "default_strategy" in settings
    errors = [*_contradictions(numbers, by_preset, certain=certain), *_unreachable_attempts(numbers)]
    return (
        ConsistencyResult(errors)
        if errors
        else ConsistencyResult([], [*_preset_conflicts(by_preset), *_suspicious_settings(by_preset)])
    )


def config_warnings(config: ResilienceConfig) -> Iterator[ConfigWarning]:
    """Yield warnings of options of an operation that are allowed but probably not intended."""
    if config.retry is None or config.circuit_breaker is None:
        return
    unreachable = list(_deadline_too_short(config.retry, config.deadline))
    yield from unreachable
    yield from _early_opening(config.circuit_breaker.failure_threshold, config.retry.max_attempts)
    if not unreachable:
        yield from _late_attempts(config.retry, config)


def _deadline_too_short(retry: RetryConfig, deadline: float | None) -> Iterator[ConfigWarning]:
    waits = _MIN_WAIT_SHARE.get(retry.jitter or "none", 0.0) * _max_total_wait(retry)
    if deadline is not None and waits >= deadline:
        yield ConfigWarning(
            f"deadline: {_deadline_rule(waits)}, got {deadline:g}", f"deadline: above {waits:g}, or fewer retry_attempts"
        )


def _deadline_rule(waits: float) -> str:
    return f"must leave time for the last attempt, before which at least {waits:g} s are waited"


def _combine(settings: Mapping[str, object], preset: Preset, unnamed: str | None) -> Combined:
    """Apply settings over a preset. `unnamed`: the preset whose numbers a strategy in the settings replaces."""
    merged = {**({} if preset.name == unnamed else preset.settings()), **settings}
    try:
        return overlay(ResilienceConfig.from_strategy(str(merged["default_strategy"])), merged, "")
    except ConfigurationError as error:
        return [each._replace(path=each.path.removeprefix(".")) for each in error.errors]


def _violations_by_preset(by_preset: Mapping[str, Combined]) -> Iterator[tuple[str, Violation]]:
    for name, combined in by_preset.items():
        if not isinstance(combined, ResilienceConfig):
            yield from ((name, each) for each in combined)


def _contradictions(settings: Mapping[str, object], by_preset: Mapping[str, Combined], *, certain: bool) -> Iterator[Violation]:
    """Yield the conflicts that do not depend on the preset; each is found over every preset and yielded once."""
    found = {each.path: each for _, each in _violations_by_preset(by_preset) if certain or _PARTNER.get(each.path) in settings}
    yield from found.values()


def _preset_conflicts(by_preset: Mapping[str, Combined]) -> Iterator[ConfigWarning]:
    presets: dict[str, list[str]] = {}
    for name, violation in _violations_by_preset(by_preset):
        presets.setdefault(violation.path, []).append(name)
    for setting, names in presets.items():
        partner = _PARTNER.get(setting, "default_strategy")
        warning = f"{setting}: contradicts the {partner} of the presets {', '.join(names)}, and would be refused there"
        yield ConfigWarning(warning, f"{partner}: give it, too")


def _unreachable_attempts(settings: Mapping[str, object]) -> Iterator[Violation]:
    """Yield a violation if the last attempt can never start before the deadline, however the waits are drawn."""
    min_share = _MIN_WAIT_SHARE.get(str(settings.get("jitter")), 0.0)
    if not min_share or not settings.keys() >= _WAIT_SETTINGS:
        return
    waits = min_share * _max_total_wait(_shortest_waits(settings))
    if waits >= _as_float(settings["deadline"]):
        yield Violation("deadline", _deadline_rule(waits), settings["deadline"])


def _shortest_waits(settings: Mapping[str, object]) -> RetryConfig:
    """Return the shortest waits that the settings allow under any preset."""
    base = _as_float(settings["base_delay"])
    return RetryConfig(
        max_attempts=int(_as_float(settings["retry_attempts"])),
        base_delay=base,
        max_delay=_as_float(settings.get("max_delay", base)),
        backoff_factor=_as_float(settings.get("backoff_factor", 1.0)),
    )


def _as_float(value: object) -> float:
    return cast("float", value)  # by its range


def _max_total_wait(retry: RetryConfig) -> float:
    ceilings = (min(retry.base_delay * retry.backoff_factor**n, retry.max_delay) for n in range(retry.max_attempts - 1))
    return sum(ceilings)


def _suspicious_settings(by_preset: Mapping[str, Combined]) -> Iterator[ConfigWarning]:
    """Yield warnings for the settings over the first preset that accepts them."""
    name, config = next(((name, each) for name, each in by_preset.items() if isinstance(each, ResilienceConfig)), ("", None))
    if config is None or config.retry is None or config.circuit_breaker is None:
        return
    yield from _early_opening(config.circuit_breaker.failure_threshold, config.retry.max_attempts)
    for each in _late_attempts(config.retry, config):
        yield each._replace(warning=f"{each.warning} (over the preset {name})")


def _early_opening(threshold: int, attempts: int) -> Iterator[ConfigWarning]:
    if threshold < attempts:
        warning = (
            f"circuit_breaker_threshold: {threshold} is below retry_attempts {attempts}, so one failing call opens the circuit"
        )
        yield ConfigWarning(warning, f"circuit_breaker_threshold: at least {attempts}")


def _late_attempts(retry: RetryConfig, config: ResilienceConfig) -> Iterator[ConfigWarning]:
    named = None if isinstance(config.attempt_timeout, StrategyTimeout) else config.attempt_timeout
    attempts = retry.max_attempts * (named or 0.0)
    longest = attempts + _max_total_wait(retry)
    if config.deadline is None or longest < config.deadline or retry.max_attempts == 1:
        return
    parts = " and ".join([f"{retry.max_attempts} attempts"] * bool(attempts) + ["the waits between them"])
    warning = f"retry_attempts: {parts} may take {longest:g} s, and the deadline ends a call after {config.deadline:g} s"
    yield ConfigWarning(warning, f"deadline: above {longest:g}, or fewer retry_attempts")
