"""Templates: named settings to start a custom configuration from, and the search for the nearest template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from resilience_kit.config.strategies import ResilienceStrategy, strategy_named

_AGGRESSIVE, _BALANCED, _CONSERVATIVE, _CRITICAL = ResilienceStrategy
_RANKS: Final = tuple(ResilienceStrategy)
#: A template at a larger distance is not suggested.
_MAX_DISTANCE: Final = 0.4


class Template(Mapping[str, object]):
    """A read-only mapping of settings with a name and a description, accepted wherever a mapping of settings is."""

    __slots__ = ("_settings", "description", "name")

    def __init__(self, name: str, description: str, /, **settings: object) -> None:
        self.name, self.description, self._settings = name, description, settings

    def __getitem__(self, setting: str) -> object:
        value = self._settings[setting]
        return MappingProxyType(value) if isinstance(value, dict) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __repr__(self) -> str:
        return f"<Template {self.name}: {self._settings}>"

    def settings(self) -> dict[str, object]:
        """Return a copy of the settings, ready for JSON."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in self._settings.items()}

    def to_dict(self) -> dict[str, object]:
        """Return name, description and settings, ready for JSON."""
        return {"name": self.name, "description": self.description, "settings": self.settings()}


_ALL: Final = (
    Template(
        "fast_development",
        "for writing code: fails at once and says so",
        retry_attempts=1,
        circuit_breaker_threshold=2,
        recovery_timeout=15.0,
        default_strategy=_AGGRESSIVE,
        operation_overrides={"sentiment": _AGGRESSIVE},
    ),
    Template(
        "robust_production",
        "for a service that people rely on: patient, and most so where it matters",
        retry_attempts=6,
        circuit_breaker_threshold=12,
        recovery_timeout=180.0,
        default_strategy=_CONSERVATIVE,
        operation_overrides={"qa": _CRITICAL, "summarize": _CONSERVATIVE},
    ),
    Template(
        "low_latency",
        "for somebody who types: an answer within five seconds, or none",
        retry_attempts=1,
        circuit_breaker_threshold=2,
        recovery_timeout=10.0,
        default_strategy=_AGGRESSIVE,
        deadline=5.0,
        base_delay=0.5,
        max_delay=5.0,
    ),
    Template(
        "high_throughput",
        "for many calls: a few attempts each, and a service in trouble is soon tried again",
        retry_attempts=3,
        circuit_breaker_threshold=8,
        recovery_timeout=45.0,
        default_strategy=_BALANCED,
        operation_overrides={"sentiment": _AGGRESSIVE, "key_points": _BALANCED},
    ),
    Template(
        "maximum_reliability",
        "for what must come through, however long it takes",
        retry_attempts=8,
        circuit_breaker_threshold=15,
        recovery_timeout=300.0,
        default_strategy=_CRITICAL,
        operation_overrides={
            "qa": _CRITICAL,
            "summarize": _CRITICAL,
            "sentiment": _CONSERVATIVE,
            "key_points": _CONSERVATIVE,
            "questions": _CONSERVATIVE,
        },
        base_delay=3.0,
        max_delay=60.0,
    ),
)
TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType({template.name: template for template in _ALL})


def get_template(name: object) -> Template | None:
    """Return the template of that name, or None."""
    return TEMPLATES.get(name.lower()) if isinstance(name, str) else None


class NearestTemplate(NamedTuple):
    """The template nearest to some settings, its distance (0: all equal, 1: none equal), and the reason."""

    name: str
    distance: float
    reason: str


def nearest_template(settings: Mapping[str, object]) -> NearestTemplate | None:
    """Return the template nearest to valid `settings`, the first of several; None for no settings or if none is near.

    The distance is the mean over the settings given: of two numbers `|a - b| / max(a, b)`, of two strategies their distance in
    the order of patience, of overrides the share of operations that differ. A setting that a template leaves open counts 0.5.
    """
    if not settings:
        return None
    template, distances = min(((each, _distances(settings, each)) for each in _ALL), key=lambda pair: sum(pair[1].values()))
    distance = sum(distances.values()) / len(distances)
    return NearestTemplate(template.name, distance, _reason(settings, template, distances)) if distance <= _MAX_DISTANCE else None


def _distances(settings: Mapping[str, object], template: Template) -> dict[str, float]:
    full = {"operation_overrides": {}, **template}
    return {name: _distance(value, full[name]) if name in full else 0.5 for name, value in settings.items()}


def _distance(value: object, template_value: object) -> float:
    if isinstance(value, Mapping) and isinstance(template_value, Mapping):
        names = {*value, *template_value}
        return len([name for name in names if value.get(name) != template_value.get(name)]) / max(len(names), 1)
    if isinstance(template_value, ResilienceStrategy):
        return abs(_RANKS.index(strategy_named(value)) - _RANKS.index(template_value)) / (len(_RANKS) - 1)
    one, other = cast("float", value), cast("float", template_value)
    return abs(one - other) / max(one, other)


def _reason(settings: Mapping[str, object], template: Template, distances: Mapping[str, float]) -> str:
    same = [name for name, distance in distances.items() if not distance]
    other = [
        f"{name} ({_format_value(settings[name])}, there {_format_value(template.get(name, 'open'))})"
        for name in distances
        if distances[name]
    ]
    parts = [f"the same {', '.join(same)}"] if same else []
    return "; ".join([*parts, f"another {', '.join(other)}"] if other else parts)


def _format_value(value: object) -> str:
    return "its own" if isinstance(value, Mapping) else f"{value:g}" if isinstance(value, float) else str(value)
