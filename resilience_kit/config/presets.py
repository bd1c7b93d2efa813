"""Presets: what a whole application says about its operations, under one name; and which preset fits an environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from resilience_kit._checks import nearest
from resilience_kit.config.strategies import STRATEGY_NUMBERS, ResilienceStrategy
from resilience_kit.errors import ConfigurationError, Violation

_AGGRESSIVE, _BALANCED, _CONSERVATIVE, _CRITICAL = ResilienceStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A default strategy with the preset's own numbers in place of that strategy's, and strategies for single operations.

    `recovery_timeout` is in seconds. An overridden operation keeps its strategy's numbers. `contexts`: where it fits.
    """

    name: str
    retry_attempts: int
    circuit_breaker_threshold: int
    recovery_timeout: float
    default_strategy: ResilienceStrategy
    operation_overrides: Mapping[str, ResilienceStrategy] = field(default_factory=lambda: MappingProxyType({}))
    contexts: tuple[str, ...] = ("all",)

    def settings(self) -> dict[str, object]:
        """The preset's own numbers and default strategy, under the names that a custom configuration uses."""
        return {
            "retry_attempts": self.retry_attempts,
            "circuit_breaker_threshold": self.circuit_breaker_threshold,
            "recovery_timeout": self.recovery_timeout,
            "default_strategy": self.default_strategy,
        }


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "simple": Preset(
            name="simple",
            retry_attempts=3,
            circuit_breaker_threshold=5,
            recovery_timeout=60.0,
            default_strategy=_BALANCED,
        ),
        "development": Preset(
            name="development",
            retry_attempts=2,
            circuit_breaker_threshold=3,
            recovery_timeout=30.0,
            default_strategy=_AGGRESSIVE,
            operation_overrides=MappingProxyType({"sentiment": _AGGRESSIVE, "qa": _BALANCED}),
            contexts=("development", "testing"),
        ),
        "production": Preset(
            name="production",
            retry_attempts=5,
            circuit_breaker_threshold=10,
            recovery_timeout=120.0,
            default_strategy=_CONSERVATIVE,
            operation_overrides=MappingProxyType(
                {
                    "qa": _CRITICAL,
                    "sentiment": _AGGRESSIVE,
                    "summarize": _CONSERVATIVE,
                    "key_points": _BALANCED,
                    "questions": _BALANCED,
                }
            ),
            contexts=("production", "staging"),
        ),
    }
)


def _of_strategy(strategy: ResilienceStrategy) -> Preset:
    numbers = STRATEGY_NUMBERS[strategy]
    return Preset(
        name=strategy.value,
        retry_attempts=numbers.max_attempts,
        circuit_breaker_threshold=numbers.failure_threshold,
        recovery_timeout=numbers.recovery_timeout,
        default_strategy=strategy,
    )


_ALL: Final[Mapping[str, Preset]] = MappingProxyType({**PRESETS, **{s.value: _of_strategy(s) for s in ResilienceStrategy}})


def list_presets() -> list[str]:
    """The names of the presets, strategies' names not counted."""
    return list(PRESETS)


def get_preset(name: str) -> Preset:
    """The preset of that name; a strategy's name is one too: that strategy, for all operations.

    Raises ConfigurationError with the nearest name when there is none.
    """
    found = _ALL.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        rule = "must be the name of a preset or of a strategy" + nearest(name, _ALL)
        raise ConfigurationError([Violation("preset", rule, name)])
    return found


class Recommendation(NamedTuple):
    """A preset for an environment, how sure that is (0 to 1), and why."""

    preset_name: str
    confidence: float
    reasoning: str


#: Each word of an environment's name ("prod-eu-1" has three) is looked at on its own, so that "product" means nothing.
_WORD_MEANS: Final = (
    ("development", re.compile(r"(dev(el|eloper|elopment)?|test(s|ing)?|ci|non?prod(uction)?)\d*")),
    ("production", re.compile(r"(stag(e|ing)?|(pre)?prod(uction)?|live)\d*")),
)
_NOT_PRODUCTION: Final = re.compile(r"\b(?:non|not|no)[^a-z0-9]+prod")
_KNOWN: Final = frozenset({"dev", "development", "test", "testing", "ci", "prod", "production", "stag", "staging", "live"})
_VARIABLES: Final = ("APP_ENV", "ENVIRONMENT", "ENV")
_NO: Final = frozenset({"", "0", "false", "no", "off"})


def recommend_preset(environment: str | None = None) -> Recommendation:
    """Which preset fits an environment's name; without one, APP_ENV, ENVIRONMENT, ENV and CI are asked, in this order.

    What says nothing, or names both development and production, gets `simple` and a low confidence.
    """
    if environment is not None:
        return _for_name(environment, f"the environment {environment!r}")
    return next(_from_variables(os.environ), Recommendation("simple", 0.5, "no variable names the environment"))


def _from_variables(variables: Mapping[str, str]) -> Iterator[Recommendation]:
    named = {name: variables[name] for name in _VARIABLES if variables.get(name)}
    found = [_for_name(value, f"{name}={value!r}") for name, value in named.items()]
    yield from (each for each in found if each.preset_name != "simple")
    if variables.get("CI", "").lower() not in _NO:
        yield Recommendation("development", 0.9, "CI is set")
    yield from found


def _for_name(environment: object, who: str) -> Recommendation:
    if not isinstance(environment, str):
        raise ConfigurationError([Violation("environment", "must be the name of an environment", environment)])
    name = environment.strip().lower()
    meanings = _meanings(_NOT_PRODUCTION.sub("nonprod", name))
    if len(meanings) == 1:
        (preset,) = meanings
        exact = name in _KNOWN
        return Recommendation(preset, 0.95 if exact else 0.85, f"{who} {'names' if exact else 'looks like'} {preset}")
    return Recommendation("simple", 0.5, f"{who} names both development and production" if meanings else f"{who} is not known")


def _meanings(name: str) -> set[str]:
    words = re.split(r"[^a-z0-9]+", name)
    return {preset for preset, pattern in _WORD_MEANS for word in words if pattern.fullmatch(word)}
