"""Operations that the environment, a file or a preset names, and all others."""

from __future__ import annotations

from resilience_kit.config import ResilienceSettings, get_preset, variable_of
from resilience_kit.config.explain import ExplainedField, Explanation, explain

#: Stands for all operations without a name in the configuration; the parentheses avoid collisions.
UNNAMED_OPERATIONS = "(every other operation)"


def named_operations(settings: ResilienceSettings) -> list[str]:
    """List the operations that the settings name, sorted, as written there, or in lower case if only a variable names them."""
    custom = settings.custom_config or {}
    exact = {*get_preset(settings.preset).operation_overrides, *custom.get("operation_overrides", {})}
    taken = {variable_of(name) for name in exact}
    spelled = {*settings.operation_overrides, *settings.operations}
    return sorted(exact | {settings.original_name(name) for name in spelled if variable_of(name) not in taken})


def explain_unnamed(settings: ResilienceSettings) -> Explanation:
    """Explain an operation that the settings do not name."""
    return explain(UNNAMED_OPERATIONS, settings=settings)


def explain_named(settings: ResilienceSettings) -> dict[str, Explanation]:
    """Explain each operation that the settings name."""
    return {name: explain(name, settings=settings) for name in named_operations(settings)}


def differing_options(explained: Explanation, other: Explanation) -> list[ExplainedField]:
    """List the options with another value or another source than in `other`."""
    theirs = {each.name: (each.value, each.source) for each in other.fields}
    return [each for each in explained.fields if theirs.get(each.name) != (each.value, each.source)]
