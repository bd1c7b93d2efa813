"""The layers that make up an operation's options, weakest first. `resolve` applies them, `explain` reports each.

The settings combine the sources for the whole application: numbers given by any source replace those of the default strategy,
given by any other. The numbers of a preset count only if it was chosen: without a choice, a default strategy that is named
replaces the preset entirely. The layers of one operation are applied over that default:

    the strategy of the preset or the settings for the operation
    register_operation
    the code's strategy
    the code's custom_config
    the operator's overrides for the operation: the file, RESILIENCE_OPERATION_<NAME>, the settings' operation_overrides
    set_strategy
    the code's deadline, attempt_timeout, idempotent, rate_limit, bulkhead and hedge
    RESILIENCE_ENABLED

A layer with `replaces_all=True` discards all layers below it. A strategy is one, unless the code passes a `custom_config`: then
an operator's strategy changes its numbers and keeps the rest, such as its guards.
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
#: Those of them that keep a value once given, even if a stronger source names a strategy.
_STICKY_FIELDS: Final = frozenset({"attempt_timeout"})


class ApplicationSource(NamedTuple):
    """One source's options for the whole application. The `settings` of any source override the numbers of `strategy`."""

    source: str
    settings: Mapping[str, object]
    strategy: ResilienceStrategy | None = None


class OperationOverride(NamedTuple):
    """One source's options for a single operation: a strategy, and settings over its numbers."""

    source: str
    strategy: ResilienceStrategy | None
    settings: Mapping[str, object] = {}


class Layer(NamedTuple):
    """One source's part in an operation's options. `fields`: the settings that it decides, None for all.

    `requested`: values that may be clamped, as a timeout is to a shorter deadline.
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
    """Return the sources for all operations, weakest first: `preset`, chosen by `source` (None: default), then `parts`."""
    named = [(where, each["default_strategy"]) for where, each in parts if "default_strategy" in each]
    by_preset = source or "default"
    strategies = [("default", ResilienceStrategy.BALANCED), (by_preset, preset.default_strategy), *named]
    numbers = parts if source is None and named else [(by_preset, preset.settings()), *parts]
    return (
        *(ApplicationSource(where, {}, strategy_named(strategy)) for where, strategy in strategies),
        *(ApplicationSource(where, {name: each[name] for name in FIELDS if name in each}) for where, each in numbers),
    )


def build_default(sources: Sequence[ApplicationSource], path: str) -> ResilienceConfig:
    """Return the last strategy's numbers with all settings over them."""
    strategy = next(each.strategy for each in reversed(sources) if each.strategy is not None)
    settings = {name: value for each in sources for name, value in each.settings.items()}
    return overlay(strategy_config(strategy), settings, path)


def fold_layers(base: ResilienceConfig, stack: Sequence[Layer]) -> ResilienceConfig:
    """Apply the layers to `base` in turn, from the last one that replaces all."""
    first = next((number for number in reversed(range(len(stack))) if stack[number].replaces_all), 0)
    for layer in stack[first:]:
        base = layer.apply(base)
    return base


@functools.cache
def strategy_config(strategy: ResilienceStrategy) -> ResilienceConfig:
    """Return a strategy's config, which is cached: configs are immutable."""
    return ResilienceConfig.from_strategy(strategy)


def strategy_layer(source: str, strategy: ResilienceStrategy) -> Layer:
    """Return the layer of a strategy that replaces all layers below it."""
    return Layer(source, STRATEGY_FIELDS, lambda _below: strategy_config(strategy), replaces_all=True, strategy=strategy)


#: The source of dropping a strategy's attempt timeout.
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
    """Yield a mapping's strategy for the operation, else its numbers over its default strategy or over the layers below."""
    reject_unknown_settings(custom, _CUSTOM_CONFIG)
    overrides = overrides_of(custom, _CUSTOM_CONFIG)
    if operation in overrides:
        yield strategy_layer(_CUSTOM_SOURCE, overrides[operation])
        return
    if "default_strategy" in custom:
        yield strategy_layer(_CUSTOM_SOURCE, strategy_named(custom["default_strategy"], f"{_CUSTOM_CONFIG}.default_strategy"))
    yield Layer(_CUSTOM_SOURCE, FIELDS.keys() & custom.keys(), functools.partial(overlay, settings=custom, path=_CUSTOM_CONFIG))


def operator_layers(overrides: Sequence[OperationOverride], replaces_all: bool) -> Iterator[Layer]:
    """Yield the strategy of each override, then its settings; sticky settings come last, to survive a stronger strategy."""
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
