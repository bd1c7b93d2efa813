"""Options of operations: strategies, presets, the environment, and their order of precedence.

Modules that need pydantic are imported at first use, since pydantic-settings is slow to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilience_kit.config.presets import PRESETS, Preset, Recommendation, get_preset, list_presets, recommend_preset
from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.config.resolve import UNSET, Unset, check_operation, resolve
from resilience_kit.config.strategies import STRATEGY_NUMBERS, ResilienceStrategy, StrategyNumbers, strategy_named

if TYPE_CHECKING:
    from resilience_kit.config.explain import ExplainedField, Explanation
    from resilience_kit.config.schema import json_schema
    from resilience_kit.config.schema_types import CustomConfig
    from resilience_kit.config.serialization import dump
    from resilience_kit.config.settings import ResilienceSettings
    from resilience_kit.config.templates import TEMPLATES, Template, get_template
    from resilience_kit.config.validator import ClientRateLimits, ConfigValidator, ResilienceConfigValidator, ValidationResult
    from resilience_kit.config.variables import variable_of

__all__ = [
    "PRESETS",
    "STRATEGY_NUMBERS",
    "TEMPLATES",
    "UNSET",
    "ClientRateLimits",
    "ConfigValidator",
    "CustomConfig",
    "ExplainedField",
    "Explanation",
    "Preset",
    "Recommendation",
    "ResilienceConfig",
    "ResilienceConfigValidator",
    "ResilienceSettings",
    "ResilienceStrategy",
    "StrategyNumbers",
    "Template",
    "Unset",
    "ValidationResult",
    "check_operation",
    "dump",
    "get_preset",
    "get_template",
    "json_schema",
    "list_presets",
    "recommend_preset",
    "resolve",
    "strategy_named",
    "variable_of",
]

_LAZY_MODULES = {
    "TEMPLATES": "templates",
    "ConfigValidator": "validator",
    "CustomConfig": "schema_types",
    "ExplainedField": "explain",
    "Explanation": "explain",
    "ClientRateLimits": "validator",
    "ResilienceConfigValidator": "validator",
    "ResilienceSettings": "settings",
    "Template": "templates",
    "ValidationResult": "validator",
    "dump": "serialization",
    "get_template": "templates",
    "json_schema": "schema",
    "variable_of": "variables",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - only where it is needed

    return getattr(importlib.import_module(f"{__name__}.{_LAZY_MODULES[name]}"), name)
