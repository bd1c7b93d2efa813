"""The options that code passes at one call site of an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Literal

from resilience_kit._checks import Checks
from resilience_kit.config.overlay import validate_settings
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit, ResilienceConfig, check_limits, within
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.policies.hedge import HedgeConfig


class Unset(Enum):
    """The default of arguments for which None has a meaning of its own."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final = Unset.UNSET

StrategyName = ResilienceStrategy | str
Seconds = float | Literal[Unset.UNSET] | None
CustomConfigOption = ResilienceConfig | Mapping[str, object] | None

CUSTOM_RULE: Final = "must be a ResilienceConfig or a mapping of settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """The options of one call site. `None` and `UNSET` leave an option to the settings; a `Seconds` of None switches it off."""

    strategy: StrategyName | None = None
    custom_config: CustomConfigOption = None
    fallback: Callable[..., Any] | None = None
    deadline: Seconds = UNSET
    attempt_timeout: Seconds = UNSET
    idempotent: bool | None = None
    rate_limit: RateLimit | Unset | None = UNSET
    bulkhead: BulkheadLimit | Unset | None = UNSET
    hedge: HedgeConfig | Unset | None = UNSET

    def validate(self) -> None:
        """Raise ConfigurationError for values that are wrong under any settings."""
        checks = Checks("with_resilience")
        checks.optional_callable(
            "fallback", self.fallback, "the call's own arguments; for a fixed answer, a function that returns it"
        )
        if self.idempotent is not None:
            checks.flag("idempotent", self.idempotent)
        times = {"deadline": self.deadline, "attempt_timeout": self.attempt_timeout}
        provided = {name: seconds for name, seconds in times.items() if seconds is not UNSET}
        valid = [_check_seconds(checks, name, seconds) for name, seconds in provided.items()]
        if all(valid):
            _check_order(checks, **provided)
        limits = (None if limit is UNSET else limit for limit in (self.rate_limit, self.bulkhead))
        check_limits(checks, *limits)
        if self.hedge is not UNSET:
            checks.instance("hedge", self.hedge, HedgeConfig, type(None))
            if self.hedge is not None and self.idempotent is False:
                checks.add("hedge", "must be left out where idempotent is False: it sends a request twice", REDACTED)
        custom: object = self.custom_config
        if custom is not None and not isinstance(custom, ResilienceConfig | Mapping):
            checks.add(
                "custom_config", CUSTOM_RULE + _custom_config_hint(custom), REDACTED if isinstance(custom, str) else custom
            )
        checks.raise_if_any()
        if self.strategy is not None:
            strategy_named(self.strategy, "strategy")
        if isinstance(self.custom_config, Mapping):
            validate_settings(self.custom_config, "custom_config")


def _check_seconds(checks: Checks, name: str, seconds: object) -> bool:
    """Check as `optional_seconds` does, with a hint for a text of digits or a timedelta."""
    if isinstance(seconds, timedelta):
        checks.add(name, f"must be a finite number of seconds above 0; write {seconds.total_seconds()!r}", seconds)
        return False
    if isinstance(seconds, str) and seconds.strip().replace(".", "", 1).isdecimal():
        checks.add(name, f"must be a finite number of seconds above 0; write {seconds.strip()} without quotes", seconds)
        return False
    return checks.optional_seconds(name, seconds)


def _check_order(checks: Checks, deadline: float | None = None, attempt_timeout: float | None = None) -> None:
    if within(attempt_timeout, deadline) != attempt_timeout:
        checks.add("attempt_timeout", f"must not exceed deadline {deadline}", attempt_timeout)


def _custom_config_hint(custom_config: object) -> str:
    """Return a hint about what a text or a number in place of a config was meant for."""
    if isinstance(custom_config, int) and not isinstance(custom_config, bool):
        return f"; for so many attempts, ResilienceConfig(retry=RetryConfig(max_attempts={custom_config}))"
    if not isinstance(custom_config, str):
        return ""
    try:
        return f"; a strategy's name goes to strategy={strategy_named(custom_config).value!r}"
    except ConfigurationError:
        return "; a text of settings has to be parsed first, by json.loads"
