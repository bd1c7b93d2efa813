"""Where each option of an operation comes from: the same layers that `resolve` folds, told one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from resilience_kit._checks import nearest
from resilience_kit.config.layers import DECIDED, Asked, Layer, layers, of_strategy
from resilience_kit.config.overlay import FIELDS
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.resolve import check_operation
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig

if TYPE_CHECKING:
    from resilience_kit.config.settings import ResilienceSettings

_POLICIES: Final[Mapping[str, type]] = {"retry": RetryConfig, "circuit_breaker": CircuitBreakerConfig}
_NAME_OF: Final = {option: setting for setting, option in FIELDS.items()}
#: Option -> the one that it may not contradict, and what is said when it took that one's value.
BOUNDS: Final = {
    "attempt_timeout": ("deadline", "cut to the deadline"),
    "base_delay": ("max_delay", "cut to max_delay"),
    "max_delay": ("base_delay", "raised to base_delay"),
    "max_recovery_timeout": ("recovery_timeout", "raised to recovery_timeout"),
}


class Overruled(NamedTuple):
    """A value that a stronger source replaced."""

    value: object
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedField:
    """An option's value, the source that decided it, and what that overruled, strongest first. Values are ready for JSON.

    `note`: what the source had asked for, and why it is not so, as in "25, cut to the deadline"; empty where it is so. Printed,
    values that were the same are left out.
    """

    name: str
    value: object
    source: str
    overruled: tuple[Overruled, ...] = ()
    note: str = ""

    @property
    def told_source(self) -> str:
        """The source, with the note in brackets."""
        return f"{self.source} ({self.note})" if self.note else self.source

    def __str__(self) -> str:
        instead = "; ".join(f"{_written(value)} from {source}" for value, source in self.overruled if value != self.value)
        return f"{self.name} = {_written(self.value)} from {self.told_source}" + (f"; instead of {instead}" if instead else "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Every option of an operation, with its source. Printed, one option a line."""

    operation: str
    fields: tuple[ExplainedField, ...]

    def __getitem__(self, name: str) -> ExplainedField:
        """One option; raises KeyError with the nearest name for what is none."""
        found = next((each for each in self.fields if each.name == name), None)
        if found is None:
            raise KeyError(f"{name!r} is not an option{nearest(name, [each.name for each in self.fields])}")
        return found

    def __str__(self) -> str:
        return "\n".join(map(str, self.fields))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: {"operation", "fields": {name: {"value", "source", "note", "overruled": [{"value", "source"}]}}}."""
        told = {
            each.name: {
                "value": each.value,
                "source": each.source,
                "note": each.note,
                "overruled": [one._asdict() for one in each.overruled],
            }
            for each in self.fields
        }
        return {"operation": self.operation, "fields": told}


def explain(operation: str, *, settings: ResilienceSettings, asked: Asked = Asked()) -> Explanation:  # noqa: B008 - immutable
    """What protects `operation` under `settings` where the code asks for `asked`, and who said so.

    Raises ConfigurationError where `resolve` does. Pure and thread-safe.
    """
    history = _History()
    config = _tell_of_application(history, settings)
    for layer in layers(check_operation(operation), settings, asked):
        config = _tell_of_layer(history, layer, config)
    return Explanation(operation=operation, fields=history.fields(options_of(config)))


def _tell_of_application(history: _History, settings: ResilienceSettings) -> ResilienceConfig:
    history.hear("default", {"enabled": True, "preset": "simple", "strategy": None, **options_of(ResilienceConfig())})
    history.hear(settings.source_of("preset"), {"preset": settings.preset})
    history.hear(settings.source_of("enabled"), {"enabled": settings.enabled})
    for source, said, strategy in settings.said:
        decided = {} if strategy is None else _decided(options_of(of_strategy(strategy))) | {"strategy": strategy.value}
        history.hear(source, decided | plain(said))
    return settings.default


def _tell_of_layer(history: _History, layer: Layer, below: ResilienceConfig) -> ResilienceConfig:
    """Hear what a layer speaks of, and what changed with it."""
    config = layer.applied(below)
    before, after = options_of(below), options_of(config)
    said = {name: value for name, value in after.items() if _in(name, layer.decides) or value != before[name]}
    if layer.whole or layer.strategy is not None:
        said["strategy"] = None if layer.strategy is None else layer.strategy.value
    history.hear(layer.source, said, {} if layer.whole else dict(_given_way(layer, before, after)))
    return config


def _given_way(layer: Layer, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Options that a layer left at, or changed to, another value than anybody asked for: name, and why."""
    for name, (bound, why) in BOUNDS.items():
        given = layer.asks.get(name, after[name] if _in(name, layer.decides) else before[name])
        if None not in (given, after[name]) and given != after[name] and after[name] == after[bound]:
            yield name, f"{_number(given)}, {why}"


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in(name: str, names: Collection[str] | None) -> bool:
    return names is None or name in names


def _decided(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name in DECIDED}


class _History:
    """Who said what of each option, in turn."""

    def __init__(self) -> None:
        self._said: dict[str, list[Overruled]] = {}
        self._notes: dict[str, str] = {}

    def hear(self, source: str, values: Mapping[str, object], notes: Mapping[str, str] = MappingProxyType({})) -> None:
        """Note the values that a source gives, and why they are not what it asked for.

        What it said just before is no longer its word.
        """
        for name, value in values.items():
            said = self._said.setdefault(name, [])
            if said and said[-1].source == source:
                said.pop()
            said.append(Overruled(value, source))
            self._notes[name] = notes.get(name, "")

    def fields(self, options: Mapping[str, object]) -> tuple[ExplainedField, ...]:
        """All options with their last sources. The values are those of the config itself."""
        return tuple(
            ExplainedField(
                name=name,
                value=options.get(name, said[-1].value),
                source=said[-1].source,
                overruled=tuple(reversed(said[:-1])),
                note=self._notes[name],
            )
            for name, said in self._said.items()
        )


def options_of(config: ResilienceConfig) -> dict[str, object]:
    """Every option of a config as a plain value, under the name that settings have for it; None where its policy is off."""
    return dict(_options_of(config))


def changes(old: ResilienceConfig, new: ResilienceConfig) -> list[tuple[str, object, object]]:
    """The options that differ between two configs: name, old value, new value."""
    before, after = options_of(old), options_of(new)
    return [(name, before[name], after[name]) for name in before if before[name] != after[name]]


def _options_of(config: ResilienceConfig) -> Iterator[tuple[str, object]]:
    for policy, kind in _POLICIES.items():
        options = getattr(config, policy)
        for each in dataclasses.fields(kind):
            name = _NAME_OF.get((kind, each.name), each.name)
            yield name, None if options is None else _option(name, getattr(options, each.name))
    for each in dataclasses.fields(ResilienceConfig):
        if each.name not in _POLICIES:
            yield each.name, plain(getattr(config, each.name))


def _option(name: str, value: object) -> object:
    return "none" if name == "jitter" and value is None else plain(value)


def plain(value: Any) -> Any:
    """A value of an option, ready for JSON: objects by their type's name or their own, so that nothing of them is told."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    name = getattr(value, "name", None) or getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else type(value).__qualname__


def _written(value: object) -> str:
    return "none" if value is None else str(value)
