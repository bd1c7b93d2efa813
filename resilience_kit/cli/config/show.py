"""`resilience-kit config show`: the options of all operations, with their sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resilience_kit.cli.config.operations import UNNAMED_OPERATIONS, differing_options, explain_named, explain_unnamed
from resilience_kit.cli.output import Output, format_value, table
from resilience_kit.config import ResilienceSettings
from resilience_kit.config.explain import ExplainedField, Explanation

_LISTED_OPTIONS = ("strategy", "retry_attempts", "deadline", "circuit_breaker_threshold", "recovery_timeout")


def show(output: Output) -> int:
    """Show the options that result from the environment and its file. Raises ConfigurationError if these are wrong."""
    settings = ResilienceSettings()
    default, named = explain_unnamed(settings), explain_named(settings)
    data = {
        "default": options_to_dict(default.fields),
        "operations": {name: options_to_dict(differing_options(explained, default)) for name, explained in named.items()},
    }
    tables = [
        table(UNNAMED_OPERATIONS.strip("()") if named else "every operation", ("option", "value", "source"), _options(default))
    ]
    if named:
        tables.append(table("operations", ("", *_LISTED_OPTIONS, "sources"), _rows(named, default)))
    output.show(data, *tables)
    return 0


def options_to_dict(fields: Iterable[ExplainedField]) -> dict[str, Any]:
    """Return options with their sources, and a note on a clamped value; ready for JSON."""
    return {
        each.name: {"value": each.value, "source": each.source} | ({"note": each.note} if each.note else {}) for each in fields
    }


def _options(explained: Explanation) -> Iterator[Sequence[object]]:
    return ((each.name, each.value, each.source_and_note) for each in explained.fields)


def _rows(named: Mapping[str, Explanation], default: Explanation) -> Iterator[Sequence[object]]:
    for name, explained in named.items():
        sources = dict.fromkeys(each.source for each in differing_options(explained, default))
        yield name, *(format_value(explained[option].value) for option in _LISTED_OPTIONS), "; ".join(sources)
