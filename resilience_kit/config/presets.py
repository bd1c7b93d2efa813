"""Presets: named options for a whole application, and the recommendation of a preset for an environment."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final, NamedTuple

from resilience_kit._checks import did_you_mean
from resilience_kit.config.redaction import redact_value
from resilience_kit.config.strategies import STRATEGY_NUMBERS, ResilienceStrategy
from resilience_kit.errors import ConfigurationError, Violation

_AGGRESSIVE, _BALANCED, _CONSERVATIVE, _CRITICAL = ResilienceStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A default strategy, numbers that replace the strategy's, and strategies for single operations.

    `recovery_timeout` is in seconds. An operation with a strategy of its own gets that strategy's numbers. `contexts`: the
    environments it fits; `description`: the same in a sentence.
    """

    name: str
    description: str = ""
    retry_attempts: int
    circuit_breaker_threshold: int
    recovery_timeout: float
    default_strategy: ResilienceStrategy
    operation_overrides: Mapping[str, ResilienceStrategy] = field(default_factory=lambda: MappingProxyType({}))
    contexts: tuple[str, ...] = ("all",)

    def settings(self) -> dict[str, object]:
        """Return the preset's numbers and default strategy as settings of a custom configuration."""
        return {
            "retry_attempts": self.retry_attempts,
            "circuit_breaker_threshold": self.circuit_breaker_threshold,
            "recovery_timeout": self.recovery_timeout,
            "default_strategy": self.default_strategy,
        }

    def to_dict(self) -> dict[str, object]:
        """Return all fields, ready for JSON."""
        json_values = {"operation_overrides": dict(self.operation_overrides), "contexts": list(self.contexts)}
        return {each.name: getattr(self, each.name) for each in fields(self)} | json_values


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "simple": Preset(
            name="simple",
            description="for a first day: every operation alike",
            retry_attempts=3,
            circuit_breaker_threshold=5,
            recovery_timeout=60.0,
            default_strategy=_BALANCED,
        ),
        "development": Preset(
            name="development",
            description="for writing code and for tests: errors show up at once",
            retry_attempts=2,
            circuit_breaker_threshold=3,
            recovery_timeout=30.0,
            default_strategy=_AGGRESSIVE,
            operation_overrides=MappingProxyType({"sentiment": _AGGRESSIVE, "qa": _BALANCED}),
            contexts=("development", "testing"),
        ),
        "production": Preset(
            name="production",
            description="for people who wait for an answer: patient, and most so with questions",
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


def _strategy_preset(strategy: ResilienceStrategy) -> Preset:
    numbers = STRATEGY_NUMBERS[strategy]
    return Preset(
        name=strategy.value,
        description=f"every operation with the strategy {strategy.value}",
        retry_attempts=numbers.max_attempts,
        circuit_breaker_threshold=numbers.failure_threshold,
        recovery_timeout=numbers.recovery_timeout,
        default_strategy=strategy,
    )


_ALL: Final[Mapping[str, Preset]] = MappingProxyType({**PRESETS, **{s.value: _strategy_preset(s) for s in ResilienceStrategy}})


def list_presets() -> list[str]:
    """List the names of the presets, without those of strategies."""
    return list(PRESETS)


def get_preset(name: str) -> Preset:
    """Return the preset of that name; a strategy's name stands for that strategy for all operations.

    Raises ConfigurationError with the nearest name when there is none.
    """
    found = _ALL.get(name.lower()) if isinstance(name, str) else None
    if found is None:
        rule = "must be the name of a preset or of a strategy" + did_you_mean(name, _ALL)
        raise ConfigurationError([Violation("preset", rule, name)])
    return found


class Recommendation(NamedTuple):
    """A preset for an environment, the confidence in it (0 to 1), and the reason."""

    preset_name: str
    confidence: float
    reasoning: str


#: Each part of an environment's name ("prod-eu-1" has three) is matched as a whole, so "product" does not match.
_TOKEN_PATTERNS: Final = (
    ("development", re.compile(r"(dev(el|eloper|elopment)?|test(s|ing)?|ci|non?prod(uction)?)\d*")),
    ("production", re.compile(r"(stag(e|ing)?|(pre)?prod(uction)?|live)\d*")),
)
_NOT_PRODUCTION: Final = re.compile(r"\b(?:non|not|no)[^a-z0-9]+prod")
_EXACT_NAMES: Final = frozenset({"dev", "development", "test", "testing", "ci", "prod", "production", "stag", "staging", "live"})
_VARIABLES: Final = ("APP_ENV", "ENVIRONMENT", "ENV")
_NAMESPACES: Final = ("KUBERNETES_NAMESPACE", "POD_NAMESPACE")
_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"
_FALSE_VALUES: Final = frozenset({"", "0", "false", "no", "off"})


def recommend_preset(environment: str | None = None) -> Recommendation:
    """Recommend a preset for an environment's name.

    Without a name, the first of these with a known value decides: APP_ENV, ENVIRONMENT, ENV; CI; the namespace in
    KUBERNETES_NAMESPACE or POD_NAMESPACE; the host name (HOSTNAME, or the system's); KUBERNETES_SERVICE_HOST, since an
    application in a cluster is rarely in development. The later in this list, the lower the confidence. An unknown name, or one
    that contains both development and production, gets `simple` with a low confidence.
    """
    if environment is not None:
        return _for_name(environment, f"the environment {environment!r}")
    return next(_recommendations(os.environ), Recommendation("simple", 0.5, "no variable names the environment"))


def _recommendations(variables: Mapping[str, str]) -> Iterator[Recommendation]:
    named = [
        _for_name(variables[name], f"{name}={redact_value(variables[name])!r}") for name in _VARIABLES if variables.get(name)
    ]
    yield from _conclusive(named)
    if variables.get("CI", "").lower() not in _FALSE_VALUES:
        yield Recommendation("development", 0.9, "CI is set")
    namespaces = {name: variables[name] for name in _NAMESPACES if variables.get(name)}
    yield from _conclusive([_for_name(value, f"{name}={redact_value(value)!r}", 0.8) for name, value in namespaces.items()])
    host = variables.get("HOSTNAME") or socket.gethostname()
    yield from _conclusive([_for_name(host, f"the host's name {redact_value(host)!r}", 0.7)])
    if _CLUSTER in variables:
        yield Recommendation("production", 0.6, f"{_CLUSTER} is set, as in a Kubernetes cluster")
    yield from named


def _conclusive(found: Iterable[Recommendation]) -> Iterator[Recommendation]:
    return (each for each in found if each.preset_name != "simple")


def _for_name(environment: object, source: str, max_confidence: float = 1.0) -> Recommendation:
    if not isinstance(environment, str):
        raise ConfigurationError([Violation("environment", "must be the name of an environment", environment)])
    name = environment.strip().lower()
    matching = _matching_presets(_NOT_PRODUCTION.sub("nonprod", name))
    if len(matching) == 1:
        (preset,) = matching
        exact = name in _EXACT_NAMES
        return Recommendation(
            preset, min(0.95 if exact else 0.85, max_confidence), f"{source} {'names' if exact else 'looks like'} {preset}"
        )
    return Recommendation(
        "simple", 0.5, f"{source} names both development and production" if matching else f"{source} is not known"
    )


def _matching_presets(name: str) -> set[str]:
    tokens = re.split(r"[^a-z0-9]+", name)
    return {preset for preset, pattern in _TOKEN_PATTERNS for token in tokens if pattern.fullmatch(token)}
