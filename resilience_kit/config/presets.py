"""Presets: what a whole application says about its operations, under one name; and which preset fits an environment."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final, NamedTuple

from resilience_kit._checks import nearest
from resilience_kit.config.echo import shown
from resilience_kit.config.strategies import STRATEGY_NUMBERS, ResilienceStrategy
from resilience_kit.errors import ConfigurationError, Violation

_AGGRESSIVE, _BALANCED, _CONSERVATIVE, _CRITICAL = ResilienceStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A default strategy with the preset's own numbers in place of that strategy's, and strategies for single operations.

    `recovery_timeout` is in seconds. An overridden operation keeps its strategy's numbers. `contexts`: where it fits;
    `description`: the same in a sentence.
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
        """The preset's own numbers and default strategy, under the names that a custom configuration uses."""
        return {
            "retry_attempts": self.retry_attempts,
            "circuit_breaker_threshold": self.circuit_breaker_threshold,
            "recovery_timeout": self.recovery_timeout,
            "default_strategy": self.default_strategy,
        }

    def to_dict(self) -> dict[str, object]:
        """All fields, ready for JSON."""
        plain = {"operation_overrides": dict(self.operation_overrides), "contexts": list(self.contexts)}
        return {each.name: getattr(self, each.name) for each in fields(self)} | plain


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


def _of_strategy(strategy: ResilienceStrategy) -> Preset:
    numbers = STRATEGY_NUMBERS[strategy]
    return Preset(
        name=strategy.value,
        description=f"every operation with the strategy {strategy.value}",
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
_NAMESPACES: Final = ("KUBERNETES_NAMESPACE", "POD_NAMESPACE")
_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"
_NO: Final = frozenset({"", "0", "false", "no", "off"})


def recommend_preset(environment: str | None = None) -> Recommendation:
    """Which preset fits an environment's name.

    Without a name, the first of these that says something known is believed: APP_ENV, ENVIRONMENT, ENV; CI; the namespace in
    KUBERNETES_NAMESPACE or POD_NAMESPACE; the host's name (HOSTNAME, or what the system calls itself); KUBERNETES_SERVICE_HOST,
    since what runs in a cluster is hardly still being written. The later in this list, the lower the confidence. What says
    nothing, or names both development and production, gets `simple` and a low confidence.
    """
    if environment is not None:
        return _for_name(environment, f"the environment {environment!r}")
    return next(_found(os.environ), Recommendation("simple", 0.5, "no variable names the environment"))


def _found(variables: Mapping[str, str]) -> Iterator[Recommendation]:
    named = [_for_name(variables[name], f"{name}={shown(variables[name])!r}") for name in _VARIABLES if variables.get(name)]
    yield from _known(named)
    if variables.get("CI", "").lower() not in _NO:
        yield Recommendation("development", 0.9, "CI is set")
    namespaces = {name: variables[name] for name in _NAMESPACES if variables.get(name)}
    yield from _known([_for_name(value, f"{name}={shown(value)!r}", 0.8) for name, value in namespaces.items()])
    host = variables.get("HOSTNAME") or socket.gethostname()
    yield from _known([_for_name(host, f"the host's name {shown(host)!r}", 0.7)])
    if _CLUSTER in variables:
        yield Recommendation("production", 0.6, f"{_CLUSTER} is set, as in a Kubernetes cluster")
    yield from named


def _known(found: Iterable[Recommendation]) -> Iterator[Recommendation]:
    return (each for each in found if each.preset_name != "simple")


def _for_name(environment: object, who: str, most: float = 1.0) -> Recommendation:
    if not isinstance(environment, str):
        raise ConfigurationError([Violation("environment", "must be the name of an environment", environment)])
    name = environment.strip().lower()
    meanings = _meanings(_NOT_PRODUCTION.sub("nonprod", name))
    if len(meanings) == 1:
        (preset,) = meanings
        exact = name in _KNOWN
        return Recommendation(preset, min(0.95 if exact else 0.85, most), f"{who} {'names' if exact else 'looks like'} {preset}")
    return Recommendation("simple", 0.5, f"{who} names both development and production" if meanings else f"{who} is not known")


def _meanings(name: str) -> set[str]:
    words = re.split(r"[^a-z0-9]+", name)
    return {preset for preset, pattern in _WORD_MEANS for word in words if pattern.fullmatch(word)}
