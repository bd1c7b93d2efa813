"""Which config an operation gets.

The first of these that speaks wins:

    1. the strategy set while running (`set_strategy`)
    2. the operator's word about this operation: RESILIENCE_OPERATION_<NAME>, or the file's
    3. the code's `custom_config`
    4. the code's `strategy`
    5. the strategy registered for the operation, then the preset's override of it
    6. the preset's default, with the settings over it
    7. balanced, which is what a preset is made from when it says nothing

A strategy named by 1 or 2 changes the numbers of the code's `custom_config` and leaves the rest of it, such as its guards.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from resilience_kit.config.overlay import configured
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.strategies import ResilienceStrategy, strategy_named
from resilience_kit.errors import ConfigurationError, Violation

if TYPE_CHECKING:
    from resilience_kit.config.settings import ResilienceSettings


class NotGiven(Enum):
    """For arguments to which None means something."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN

StrategyName = ResilienceStrategy | str


def resolve(  # noqa: PLR0913 - one argument a source
    operation: str,
    *,
    settings: ResilienceSettings,
    strategy: StrategyName | None = None,
    custom_config: ResilienceConfig | Mapping[str, object] | None = None,
    registered: StrategyName | None = None,
    live: StrategyName | None = None,
    deadline: float | Literal[NotGiven.NOT_GIVEN] | None = NOT_GIVEN,
) -> ResilienceConfig:
    """The config of `operation`. `custom_config` may be a mapping of the settings' names; it changes the level below it.

    `deadline` beats the config's; None means no deadline. With RESILIENCE_ENABLED=false everything is off. A wrong value is a
    ConfigurationError, also at a level that does not win. Pure and thread-safe.
    """
    below = _below(check_operation(operation), settings, _named(strategy, "strategy"), _named(registered, "registered"))
    chosen = _customised(custom_config, operation, below)
    operator = _named(live, "live") or settings.operator_strategy(operation)
    if operator is not None:
        chosen = ResilienceConfig.from_strategy(operator) if custom_config is None else chosen.with_strategy(operator)
    if deadline is not NOT_GIVEN:
        chosen = chosen.with_deadline(deadline)
    return chosen if settings.enabled else chosen.switched_off()


_LONGEST_NAME = 200


def check_operation(operation: object) -> str:
    """The name itself; raises ConfigurationError for what is no text, is blank, very long or not printable.

    Names end up in logs and metric labels.
    """
    if isinstance(operation, str) and operation.strip():
        if len(operation) <= _LONGEST_NAME and operation.isprintable():
            return operation
        raise ConfigurationError([Violation("operation", f"must be printable and at most {_LONGEST_NAME} characters", operation)])
    hint = ', as in @with_resilience("summarize")' if callable(operation) else ""
    raise ConfigurationError([Violation("operation", f"must be a name: text that is not blank{hint}", operation)])


def _named(strategy: StrategyName | None, path: str) -> ResilienceStrategy | None:
    return None if strategy is None else strategy_named(strategy, path)


def _below(
    operation: str, settings: ResilienceSettings, strategy: ResilienceStrategy | None, registered: ResilienceStrategy | None
) -> ResilienceConfig:
    named = strategy or registered or settings.preset_strategy(operation)
    return settings.default if named is None else ResilienceConfig.from_strategy(named)


def _customised(custom: object, operation: str, below: ResilienceConfig) -> ResilienceConfig:
    if custom is None:
        return below
    if isinstance(custom, ResilienceConfig):
        return custom
    if isinstance(custom, Mapping):
        return configured(custom, operation, below, "custom_config")
    raise ConfigurationError([Violation("custom_config", "must be a ResilienceConfig or a mapping of settings", custom)])
