"""The operations that the environment, a file or a preset speaks of, and the rest of them."""

from __future__ import annotations

from resilience_kit.config import ResilienceSettings, get_preset, variable_of
from resilience_kit.config.explain import ExplainedField, Explanation, explain

#: Stands for the operations of which nobody speaks; brackets, so that nobody calls one of theirs the same.
UNNAMED_OPERATIONS = "(every other operation)"


def named_operations(settings: ResilienceSettings) -> list[str]:
    """The operations that are spoken of by name, sorted; as they are written, or as the kit spells what only a variable names."""
    custom = settings.custom_config or {}
    exact = {*get_preset(settings.preset).operation_overrides, *custom.get("operation_overrides", {})}
    taken = {variable_of(name) for name in exact}
    spelled = {*settings.operation_overrides, *settings.operations}
    return sorted(exact | {settings.original_name(name) for name in spelled if variable_of(name) not in taken})


def explain_unnamed(settings: ResilienceSettings) -> Explanation:
    """What protects an operation of which nobody speaks."""
    return explain(UNNAMED_OPERATIONS, settings=settings)


def explain_named(settings: ResilienceSettings) -> dict[str, Explanation]:
    """What protects each operation that is spoken of."""
    return {name: explain(name, settings=settings) for name in named_operations(settings)}


def differing_options(explained: Explanation, other: Explanation) -> list[ExplainedField]:
    """The options that have another value or another source than in `other`."""
    theirs = {each.name: (each.value, each.source) for each in other.fields}
    return [each for each in explained.fields if theirs.get(each.name) != (each.value, each.source)]
