"""The layers that an operation's options are made of, weakest first. `resolve` puts them together, `explain` tells of each.

What is said of the whole application comes together in the settings, before anything is known about an operation: there the
numbers that somebody names replace those of the default strategy, whoever named which. A preset that nobody names has not said
its numbers: a default strategy that somebody names takes its place as a whole. The layers of one operation lie over it:

    the preset's word, and the settings', about the operation
    register_operation
    the code's strategy
    the code's custom_config
    the operator's word about the operation: the file, RESILIENCE_OPERATION_<NAME>, the settings' operation_overrides
    set_strategy
    the code's deadline, attempt_timeout, idempotent, rate_limit, bulkhead and hedge
    RESILIENCE_ENABLED

A *whole* layer makes what lies below it count no more. A strategy is one, unless the code has a `custom_config` of its own:
then an operator's strategy changes its numbers and leaves the rest of it, such as its guards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from resilience_kit._checks import misplaced_hint, shown_value
from resilience_kit.config.call_options import CUSTOM_RULE, UNSET, CallOptions
from resilience_kit.config.overlay import FIELDS, overlay, overlay_clamped, overrides_of, reject_unknown_settings
from resilience_kit.config.presets import Preset
from resilience_kit.config.resilience_config import ResilienceConfig, within
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.errors import ConfigurationError, Violation

ConfigTransform = Callable[[ResilienceConfig], ResilienceConfig]

#: The settings that a strategy decides.
STRATEGY_FIELDS: Final = frozenset(FIELDS) | {"retry_budget"}
#: Those of them that stay where somebody has named them, whatever strategy a stronger source names.
_STICKY_FIELDS: Final = frozenset({"attempt_timeout"})


class ApplicationSource(NamedTuple):
    """What one source says of the whole application. `strategy` gives numbers that any `settings` named by anybody replace."""

    source: str
    settings: Mapping[str, object]
    strategy: ResilienceStrategy | None = None


class OperationOverride(NamedTuple):
    """What one source says of a single operation: a strategy, and settings over its numbers."""

    source: str
    strategy: ResilienceStrategy | None
    settings: Mapping[str, object] = {}


class Layer(NamedTuple):
    """One source's part in an operation's options. `fields`: the settings that it speaks of, None for all.

    `requested`: values that may give way to others, as a timeout does to a shorter deadline.
    """

    source: str
    fields: Collection[str] | None
    apply: ConfigTransform
    replaces_all: bool = False
    strategy: ResilienceStrategy | None = None
    requested: Mapping[str, object] = {}


def collect_application_sources(
    preset: Preset, source: str | None, parts: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[ApplicationSource, ...]:
    """What is said of all operations, weakest first: by `preset`, which `source` names (None: nobody), and by `parts` over it."""
    named = [(where, each["default_strategy"]) for where, each in parts if "default_strategy" in each]
    by_preset = source or "default"
    strategies = [("default", ResilienceStrategy.BALANCED), (by_preset, preset.default_strategy), *named]
    numbers = parts if source is None and named else [(by_preset, preset.settings()), *parts]
    return (
        *(ApplicationSource(where, {}, strategy_named(strategy)) for where, strategy in strategies),
        *(ApplicationSource(where, {name: each[name] for name in FIELDS if name in each}) for where, each in numbers),
    )


def build_default(sources: Sequence[ApplicationSource], path: str) -> ResilienceConfig:
    """The last strategy's numbers, with all settings over them at once."""
    strategy = next(each.strategy for each in reversed(sources) if each.strategy is not None)
    settings = {name: value for each in sources for name, value in each.settings.items()}
    return overlay(strategy_config(strategy), settings, path)


def fold_layers(base: ResilienceConfig, stack: Sequence[Layer]) -> ResilienceConfig:
    """`base` with all layers applied in turn, as far as they count."""
    first = next((number for number in reversed(range(len(stack))) if stack[number].replaces_all), 0)
    for layer in stack[first:]:
        base = layer.apply(base)
    return base


@functools.cache
def strategy_config(strategy: ResilienceStrategy) -> ResilienceConfig:
    """A strategy's numbers; made once, since configs are immutable."""
    return ResilienceConfig.from_strategy(strategy)


def strategy_layer(source: str, strategy: ResilienceStrategy) -> Layer:
    """Return the layer of a strategy that replaces all layers below it."""
    return Layer(source, STRATEGY_FIELDS, lambda _below: strategy_config(strategy), replaces_all=True, strategy=strategy)


#: The source of a strategy's attempt timeout that is left out.
UNUSED_TIMEOUT_SOURCE: Final = "default, since no retry would use it"
_CUSTOM_CONFIG: Final = "custom_config"
_CUSTOM_SOURCE: Final = "custom_config argument"


def custom_config_layers(custom: object, operation: str) -> Sequence[Layer]:
    """Return the layers of the code's `custom_config`; raise ConfigurationError for a wrong one."""
    if custom is None:
        return ()
    if isinstance(custom, ResilienceConfig):
        return (Layer(_CUSTOM_SOURCE, None, lambda _below: custom, replaces_all=True),)
    if isinstance(custom, Mapping):
        return list(_mapping_layers(custom, operation))
    raise ConfigurationError([Violation(_CUSTOM_CONFIG, CUSTOM_RULE + misplaced_hint(custom), shown_value(custom))])


def _mapping_layers(custom: Mapping[str, object], operation: str) -> Iterator[Layer]:
    """A mapping's strategy for the operation, else its numbers over its default strategy or over what lies below."""
    reject_unknown_settings(custom, _CUSTOM_CONFIG)
    overrides = overrides_of(custom, _CUSTOM_CONFIG)
    if operation in overrides:
        yield strategy_layer(_CUSTOM_SOURCE, overrides[operation])
        return
    if "default_strategy" in custom:
        yield strategy_layer(_CUSTOM_SOURCE, strategy_named(custom["default_strategy"], f"{_CUSTOM_CONFIG}.default_strategy"))
    yield Layer(_CUSTOM_SOURCE, FIELDS.keys() & custom.keys(), functools.partial(overlay, settings=custom, path=_CUSTOM_CONFIG))


def operator_layers(overrides: Sequence[OperationOverride], replaces_all: bool) -> Iterator[Layer]:
    """Each word's strategy, then its settings. Those that stay come last: they outlast a stronger word's strategy."""
    for source, strategy, settings in overrides:
        if strategy is not None:
            yield strategy_layer(source, strategy) if replaces_all else _strategy_numbers_layer(source, strategy)
        yield from _settings_layer(source, {name: value for name, value in settings.items() if name not in _STICKY_FIELDS})
    for source, _, settings in overrides:
        yield from _settings_layer(source, {name: value for name, value in settings.items() if name in _STICKY_FIELDS})


def _settings_layer(source: str, settings: Mapping[str, object]) -> Iterator[Layer]:
    if settings:
        yield Layer(source, settings.keys(), functools.partial(overlay_clamped, settings=settings), requested=settings)


def _strategy_numbers_layer(source: str, strategy: ResilienceStrategy) -> Layer:
    return Layer(source, STRATEGY_FIELDS - _STICKY_FIELDS, lambda below: below.with_strategy(strategy), strategy=strategy)


def argument_layers(options: CallOptions) -> Iterator[Layer]:
    """Yield a layer for each option that the code passes beside its strategy and config."""
    deadline, timeout, idempotent = options.deadline, options.attempt_timeout, options.idempotent
    if deadline is not UNSET:
        yield Layer("deadline argument", ("deadline",), lambda below: below.with_deadline(deadline))
    if timeout is not UNSET:
        yield _argument_layer(
            "attempt_timeout", timeout, lambda below: below.replace(attempt_timeout=within(timeout, below.deadline))
        )
    if idempotent is not None:
        yield _argument_layer("idempotent", idempotent, lambda below: below.replace(idempotent=idempotent))
    for name, limit in (("rate_limit", options.rate_limit), ("bulkhead", options.bulkhead), ("hedge", options.hedge)):
        if limit is not UNSET:
            yield _argument_layer(name, limit, functools.partial(_with_changes, changes={name: limit}))


def _with_changes(below: ResilienceConfig, changes: Mapping[str, Any]) -> ResilienceConfig:
    return below.replace(**changes)


def _argument_layer(name: str, value: object, apply: ConfigTransform) -> Layer:
    return Layer(f"{name} argument", (name,), apply, requested={name: value})
