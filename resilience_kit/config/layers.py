"""The layers that an operation's options are made of, weakest first. `resolve` folds them, `explain` tells of each.

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
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from resilience_kit._checks import misplaced, shown_kind
from resilience_kit.config.overlay import FIELDS, give_way, overlay, overrides_of, refuse_unknown
from resilience_kit.config.presets import Preset
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit, ResilienceConfig, within
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.errors import ConfigurationError, Violation
from resilience_kit.policies.hedge import HedgeConfig

if TYPE_CHECKING:
    from resilience_kit.config.settings import ResilienceSettings


class NotGiven(Enum):
    """For arguments to which None means something."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN

StrategyName = ResilienceStrategy | str
Seconds = float | Literal[NotGiven.NOT_GIVEN] | None
Change = Callable[[ResilienceConfig], ResilienceConfig]

#: The settings that a strategy decides.
DECIDED: Final = frozenset(FIELDS) | {"retry_budget"}
#: Those of them that stay where somebody has named them, whatever strategy a stronger source names.
_STAYS: Final = frozenset({"attempt_timeout"})


class Said(NamedTuple):
    """What one source says of the whole application. `strategy` gives numbers that any `settings` named by anybody replace."""

    source: str
    settings: Mapping[str, object]
    strategy: ResilienceStrategy | None = None


class Word(NamedTuple):
    """What one source says of a single operation: a strategy, and settings over its numbers."""

    source: str
    strategy: ResilienceStrategy | None
    settings: Mapping[str, object] = {}


class Layer(NamedTuple):
    """One source's part in an operation's options. `decides`: the settings that it speaks of, None for all.

    `asks`: values that may give way to others, as a timeout does to a shorter deadline.
    """

    source: str
    decides: Collection[str] | None
    applied: Change
    whole: bool = False
    strategy: ResilienceStrategy | None = None
    asks: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the code asks for, and what was changed while running: `registered` and `live`."""

    strategy: StrategyName | None = None
    custom_config: ResilienceConfig | Mapping[str, object] | None = None
    registered: StrategyName | None = None
    live: StrategyName | None = None
    deadline: Seconds = NOT_GIVEN
    attempt_timeout: Seconds = NOT_GIVEN
    idempotent: bool | None = None
    rate_limit: RateLimit | NotGiven | None = NOT_GIVEN
    bulkhead: BulkheadLimit | NotGiven | None = NOT_GIVEN
    hedge: HedgeConfig | NotGiven | None = NOT_GIVEN


def of_application(preset: Preset, source: str | None, parts: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Said, ...]:
    """What is said of all operations, weakest first: by `preset`, which `source` names (None: nobody), and by `parts` over it."""
    named = [(where, each["default_strategy"]) for where, each in parts if "default_strategy" in each]
    by_preset = source or "default"
    strategies = [("default", ResilienceStrategy.BALANCED), (by_preset, preset.default_strategy), *named]
    numbers = parts if source is None and named else [(by_preset, preset.settings()), *parts]
    return (
        *(Said(where, {}, strategy_named(strategy)) for where, strategy in strategies),
        *(Said(where, {name: each[name] for name in FIELDS if name in each}) for where, each in numbers),
    )


def together(said: Sequence[Said], path: str) -> ResilienceConfig:
    """The last strategy's numbers, with all settings over them at once."""
    strategy = next(each.strategy for each in reversed(said) if each.strategy is not None)
    settings = {name: value for each in said for name, value in each.settings.items()}
    return overlay(of_strategy(strategy), settings, path)


def layers(operation: str, settings: ResilienceSettings, asked: Asked) -> list[Layer]:
    """The layers of one operation over `settings.default`. A wrong value is a ConfigurationError, also where it does not win."""
    found = [_whole(source, strategy) for source, strategy in settings.preset_words(operation)]
    found += _strategy("register_operation", asked.registered, "registered")
    found += _strategy("strategy argument", asked.strategy, "strategy")
    found += _custom(asked.custom_config, operation)
    words = settings.operator_words(operation)
    if asked.live is not None:
        words = [*words, Word("set_strategy", strategy_named(asked.live, "live"))]
    found += _operator(words, asked.custom_config is None)
    found += _arguments(asked)
    found.append(Layer(_NO_RETRY_USES_IT, (), ResilienceConfig.with_useful_timeout))
    if not settings.enabled:
        found.append(Layer(settings.source_of("enabled"), (), ResilienceConfig.switched_off))
    return found


def folded(base: ResilienceConfig, over: Sequence[Layer]) -> ResilienceConfig:
    """`base` with all layers applied in turn, as far as they count."""
    first = next((number for number in reversed(range(len(over))) if over[number].whole), 0)
    for layer in over[first:]:
        base = layer.applied(base)
    return base


@functools.cache
def of_strategy(strategy: ResilienceStrategy) -> ResilienceConfig:
    """A strategy's numbers; made once, since configs are immutable."""
    return ResilienceConfig.from_strategy(strategy)


def _strategy(source: str, strategy: StrategyName | None, path: str) -> Sequence[Layer]:
    return () if strategy is None else (_whole(source, strategy_named(strategy, path)),)


def _whole(source: str, strategy: ResilienceStrategy) -> Layer:
    return Layer(source, DECIDED, lambda _below: of_strategy(strategy), whole=True, strategy=strategy)


#: The source of a strategy's attempt timeout that is left out.
_NO_RETRY_USES_IT: Final = "default, since no retry would use it"
_CUSTOM: Final = "custom_config"
CUSTOM_RULE: Final = "must be a ResilienceConfig or a mapping of settings"
_CUSTOM_SOURCE: Final = "custom_config argument"


def _custom(custom: object, operation: str) -> Sequence[Layer]:
    if custom is None:
        return ()
    if isinstance(custom, ResilienceConfig):
        return (Layer(_CUSTOM_SOURCE, None, lambda _below: custom, whole=True),)
    if isinstance(custom, Mapping):
        return list(_mapping(custom, operation))
    raise ConfigurationError([Violation(_CUSTOM, CUSTOM_RULE + misplaced(custom), shown_kind(custom))])


def _mapping(custom: Mapping[str, object], operation: str) -> Iterator[Layer]:
    """A mapping's strategy for the operation, else its numbers over its default strategy or over what lies below."""
    refuse_unknown(custom, _CUSTOM)
    overrides = overrides_of(custom, _CUSTOM)
    if operation in overrides:
        yield _whole(_CUSTOM_SOURCE, overrides[operation])
        return
    if "default_strategy" in custom:
        yield _whole(_CUSTOM_SOURCE, strategy_named(custom["default_strategy"], f"{_CUSTOM}.default_strategy"))
    yield Layer(_CUSTOM_SOURCE, FIELDS.keys() & custom.keys(), functools.partial(overlay, settings=custom, path=_CUSTOM))


def _operator(words: Sequence[Word], replaces: bool) -> Iterator[Layer]:
    """Each word's strategy, then its settings. Those that stay come last: they outlast a stronger word's strategy."""
    for source, strategy, settings in words:
        if strategy is not None:
            yield _whole(source, strategy) if replaces else _partly(source, strategy)
        yield from _over(source, {name: value for name, value in settings.items() if name not in _STAYS})
    for source, _, settings in words:
        yield from _over(source, {name: value for name, value in settings.items() if name in _STAYS})


def _over(source: str, settings: Mapping[str, object]) -> Iterator[Layer]:
    if settings:
        yield Layer(source, settings.keys(), functools.partial(give_way, settings=settings), asks=settings)


def _partly(source: str, strategy: ResilienceStrategy) -> Layer:
    return Layer(source, DECIDED - _STAYS, lambda below: below.with_strategy(strategy), strategy=strategy)


def _arguments(asked: Asked) -> Iterator[Layer]:
    deadline, timeout, idempotent = asked.deadline, asked.attempt_timeout, asked.idempotent
    if deadline is not NOT_GIVEN:
        yield Layer("deadline argument", ("deadline",), lambda below: below.with_deadline(deadline))
    if timeout is not NOT_GIVEN:
        yield _argument("attempt_timeout", timeout, lambda below: below.replace(attempt_timeout=within(timeout, below.deadline)))
    if idempotent is not None:
        yield _argument("idempotent", idempotent, lambda below: below.replace(idempotent=idempotent))
    for name, limit in (("rate_limit", asked.rate_limit), ("bulkhead", asked.bulkhead), ("hedge", asked.hedge)):
        if limit is not NOT_GIVEN:
            yield _argument(name, limit, functools.partial(_with, changes={name: limit}))


def _with(below: ResilienceConfig, changes: Mapping[str, Any]) -> ResilienceConfig:
    return below.replace(**changes)


def _argument(name: str, value: object, applied: Change) -> Layer:
    return Layer(f"{name} argument", (name,), applied, asks={name: value})
