"""Resolves the config of an operation from its layers.

The first of these that decides an option wins:

    1. the strategy set while running (`set_strategy`)
    2. the operator's override for this operation: RESILIENCE_OPERATION_<NAME>, or the file's
    3. the code's `custom_config`
    4. the code's `strategy`
    5. the strategy registered for the operation, then the preset's override of it
    6. the preset's default, with the settings over it
    7. balanced, the base of every preset

A strategy named by 1 or 2 changes the numbers of the code's `custom_config` and keeps the rest, such as its guards. So does each
setting in a file's section for the operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience_kit.config.call_options import UNSET, CallOptions, CustomConfigOption, Seconds, StrategyName, Unset
from resilience_kit.config.layers import (
    UNUSED_TIMEOUT_SOURCE,
    Layer,
    OperationOverride,
    argument_layers,
    custom_config_layers,
    fold_layers,
    operator_layers,
    strategy_layer,
)
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.strategies import strategy_named
from resilience_kit.errors import ConfigurationError, Violation

if TYPE_CHECKING:
    from resilience_kit.config.settings import ResilienceSettings

__all__ = ["UNSET", "Unset", "check_operation", "layers_for", "resolve"]


def resolve(  # noqa: PLR0913 - one argument a source
    operation: str,
    *,
    settings: ResilienceSettings,
    strategy: StrategyName | None = None,
    custom_config: CustomConfigOption = None,
    registered: StrategyName | None = None,
    live: StrategyName | None = None,
    deadline: Seconds = UNSET,
    attempt_timeout: Seconds = UNSET,
    idempotent: bool | None = None,
) -> ResilienceConfig:
    """Return the config of `operation`. A `custom_config` that is a mapping of settings changes the level below it.

    `deadline`, `attempt_timeout` and `idempotent` override the config's; a time of None is off. An attempt timeout above the
    deadline is shortened to it. With RESILIENCE_ENABLED=false everything is off. Raises ConfigurationError for a wrong value,
    also at a level that does not win. Pure and thread-safe.
    """
    options = CallOptions(
        strategy=strategy,
        custom_config=custom_config,
        deadline=deadline,
        attempt_timeout=attempt_timeout,
        idempotent=idempotent,
    )
    found = layers_for(check_operation(operation), settings, options, registered=registered, live=live)
    return fold_layers(settings.default, found)


def layers_for(
    operation: str,
    settings: ResilienceSettings,
    options: CallOptions,
    *,
    registered: StrategyName | None = None,
    live: StrategyName | None = None,
) -> list[Layer]:
    """Return the layers of one operation over `settings.default`; raise ConfigurationError for any wrong value."""
    found = [strategy_layer(source, named) for source, named in settings.preset_overrides(operation)]
    for source, strategy, path in (
        ("register_operation", registered, "registered"),
        ("strategy argument", options.strategy, "strategy"),
    ):
        if strategy is not None:
            found.append(strategy_layer(source, strategy_named(strategy, path)))
    found += custom_config_layers(options.custom_config, operation)
    overrides = settings.operator_overrides(operation)
    if live is not None:
        overrides = [*overrides, OperationOverride("set_strategy", strategy_named(live, "live"))]
    found += operator_layers(overrides, options.custom_config is None)
    found += argument_layers(options)
    found.append(Layer(UNUSED_TIMEOUT_SOURCE, (), ResilienceConfig.with_useful_timeout))
    if not settings.enabled:
        found.append(Layer(settings.source_of("enabled"), (), ResilienceConfig.switched_off))
    return found


_MAX_NAME_LENGTH = 200


def check_operation(operation: object) -> str:
    """Return the name; raise ConfigurationError if it is no text, blank, too long or not printable.

    Names end up in logs and metric labels.
    """
    if isinstance(operation, str) and operation.strip():
        if len(operation) <= _MAX_NAME_LENGTH and operation.isprintable():
            return operation
        raise ConfigurationError(
            [Violation("operation", f"must be printable and at most {_MAX_NAME_LENGTH} characters", operation)]
        )
    hint = ', as in @with_resilience("summarize")' if callable(operation) else ""
    raise ConfigurationError([Violation("operation", f"must be a name: text that is not blank{hint}", operation)])
