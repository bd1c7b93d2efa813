"""Explains where each option of an operation comes from, by applying the layers of `resolve` one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from resilience_kit._checks import did_you_mean
from resilience_kit.config.call_options import CallOptions, StrategyName
from resilience_kit.config.layers import STRATEGY_FIELDS, Layer, strategy_config
from resilience_kit.config.overlay import FIELDS
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.resolve import check_operation, layers_for
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig

if TYPE_CHECKING:
    from resilience_kit.config.settings import ResilienceSettings

_POLICIES: Final[Mapping[str, type]] = {"retry": RetryConfig, "circuit_breaker": CircuitBreakerConfig}
_NAME_OF: Final = {option: setting for setting, option in FIELDS.items()}
#: Option -> the option that limits it, and the note for a value that was clamped to that one.
BOUNDS: Final = {
    "attempt_timeout": ("deadline", "cut to the deadline"),
    "base_delay": ("max_delay", "cut to max_delay"),
    "max_delay": ("base_delay", "raised to base_delay"),
    "max_recovery_timeout": ("recovery_timeout", "raised to recovery_timeout"),
}


class Overridden(NamedTuple):
    """A value that a stronger source replaced."""

    value: object
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedField:
    """An option's value, the source that decided it, and the values it overrode, strongest first. Values are ready for JSON.

    `note`: the requested value if it was clamped, and why, as in "25, cut to the deadline"; else empty. As text, overridden
    values that are equal are left out.
    """

    name: str
    value: object
    source: str
    overridden: tuple[Overridden, ...] = ()
    note: str = ""

    @property
    def source_and_note(self) -> str:
        """The source, with the note in parentheses."""
        return f"{self.source} ({self.note})" if self.note else self.source

    def __str__(self) -> str:
        instead = "; ".join(f"{_format_option(value)} from {source}" for value, source in self.overridden if value != self.value)
        return f"{self.name} = {_format_option(self.value)} from {self.source_and_note}" + (
            f"; instead of {instead}" if instead else ""
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Every option of an operation, with its source. As text, one option a line."""

    operation: str
    fields: tuple[ExplainedField, ...]

    def __getitem__(self, name: str) -> ExplainedField:
        """Return one option; raise KeyError with the nearest name if there is none."""
        found = next((each for each in self.fields if each.name == name), None)
        if found is None:
            raise KeyError(f"{name!r} is not an option{did_you_mean(name, [each.name for each in self.fields])}")
        return found

    def __str__(self) -> str:
        return "\n".join(map(str, self.fields))

    def to_dict(self) -> dict[str, Any]:
        """Return a dict ready for JSON.

        {"operation", "fields": {name: {"value", "source", "note", "overridden": [{"value", "source"}]}}}
        """
        options = {
            each.name: {
                "value": each.value,
                "source": each.source,
                "note": each.note,
                "overridden": [one._asdict() for one in each.overridden],
            }
            for each in self.fields
        }
        return {"operation": self.operation, "fields": options}


def explain(
    operation: str,
    *,
    settings: ResilienceSettings,
    options: CallOptions = CallOptions(),  # noqa: B008 - immutable
    registered: StrategyName | None = None,
    live: StrategyName | None = None,
) -> Explanation:
    """Explain each option of `operation` under `settings`, with the code's `options` and the strategies changed at run time.

    Raises ConfigurationError where `resolve` does. Pure and thread-safe.
    """
    history = _ValueHistory()
    config = _record_application(history, settings)
    for layer in layers_for(check_operation(operation), settings, options, registered=registered, live=live):
        config = _record_layer(history, layer, config)
    return Explanation(operation=operation, fields=history.fields(options_of(config)))


def _record_application(history: _ValueHistory, settings: ResilienceSettings) -> ResilienceConfig:
    history.record("default", {"enabled": True, "preset": "simple", "strategy": None, **options_of(ResilienceConfig())})
    history.record(settings.source_of("preset"), {"preset": settings.preset})
    history.record(settings.source_of("enabled"), {"enabled": settings.enabled})
    for source, values, strategy in settings.application_sources:
        decided = (
            {} if strategy is None else _strategy_options(options_of(strategy_config(strategy))) | {"strategy": strategy.value}
        )
        history.record(source, decided | to_json_value(values))
    return settings.default


def _record_layer(history: _ValueHistory, layer: Layer, below: ResilienceConfig) -> ResilienceConfig:
    """Apply a layer and record the options that it decides or changes."""
    config = layer.apply(below)
    before, after = options_of(below), options_of(config)
    values = {name: value for name, value in after.items() if _in(name, layer.fields) or value != before[name]}
    if layer.replaces_all or layer.strategy is not None:
        values["strategy"] = None if layer.strategy is None else layer.strategy.value
    history.record(layer.source, values, {} if layer.replaces_all else dict(_clamped_options(layer, before, after)))
    return config


def _clamped_options(layer: Layer, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the options that a layer clamped to another value than requested, each with the reason."""
    for name, (bound, why) in BOUNDS.items():
        requested = layer.requested.get(name, after[name] if _in(name, layer.fields) else before[name])
        if None not in (requested, after[name]) and requested != after[name] and after[name] == after[bound]:
            yield name, f"{_format_number(requested)}, {why}"


def _format_number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in(name: str, names: Collection[str] | None) -> bool:
    return names is None or name in names


def _strategy_options(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name in STRATEGY_FIELDS}


class _ValueHistory:
    """The values of each option in turn, with their sources."""

    def __init__(self) -> None:
        self._values: dict[str, list[Overridden]] = {}
        self._notes: dict[str, str] = {}

    def record(self, source: str, values: Mapping[str, object], notes: Mapping[str, str] = MappingProxyType({})) -> None:
        """Record the values of a source, with notes on those that were clamped.

        They replace the values that the same source gave just before.
        """
        for name, value in values.items():
            recorded = self._values.setdefault(name, [])
            if recorded and recorded[-1].source == source:
                recorded.pop()
            recorded.append(Overridden(value, source))
            self._notes[name] = notes.get(name, "")

    def fields(self, options: Mapping[str, object]) -> tuple[ExplainedField, ...]:
        """Return all options with their last sources; the values are those of the config itself."""
        return tuple(
            ExplainedField(
                name=name,
                value=options.get(name, recorded[-1].value),
                source=recorded[-1].source,
                overridden=tuple(reversed(recorded[:-1])),
                note=self._notes[name],
            )
            for name, recorded in self._values.items()
        )


def options_of(config: ResilienceConfig) -> dict[str, object]:
    """Return every option of a config as a plain value under its name in settings; None if its policy is off."""
    return dict(_options_of(config))


def changes(old: ResilienceConfig, new: ResilienceConfig) -> list[tuple[str, object, object]]:
    """List the options that differ between two configs: name, old value, new value."""
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
            yield each.name, to_json_value(getattr(config, each.name))


def _option(name: str, value: object) -> object:
    return "none" if name == "jitter" and value is None else to_json_value(value)


def to_json_value(value: Any) -> Any:
    """Return an option's value, ready for JSON; an object becomes its name or its type's name, so no content is exposed."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {name: to_json_value(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [to_json_value(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_json_value(getattr(value, each.name)) for each in dataclasses.fields(value)}
    name = getattr(value, "name", None) or getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else type(value).__qualname__


def _format_option(value: object) -> str:
    return "none" if value is None else str(value)
