"""`resilience-kit config show`: what protects the operations here, and who says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resilience_kit.cli.config.operations import EVERY_OTHER, apart, by_operation, of_all_others
from resilience_kit.cli.output import Output, table, written
from resilience_kit.config import ResilienceSettings
from resilience_kit.config.explain import ExplainedField, Explanation

_NUMBERS = ("strategy", "retry_attempts", "deadline", "circuit_breaker_threshold", "recovery_timeout")


def show(output: Output) -> int:
    """Tell what the environment and its file come to. Raises ConfigurationError when they are wrong."""
    settings = ResilienceSettings()
    default, named = of_all_others(settings), by_operation(settings)
    data = {
        "default": plain(default.fields),
        "operations": {name: plain(apart(explained, default)) for name, explained in named.items()},
    }
    tables = [table(EVERY_OTHER.strip("()") if named else "every operation", ("option", "value", "source"), _options(default))]
    if named:
        tables.append(table("operations", ("", *_NUMBERS, "sources"), _rows(named, default)))
    output.show(data, *tables)
    return 0


def plain(fields: Iterable[ExplainedField]) -> dict[str, Any]:
    """Options with their sources, and a note where a value is not what was asked for; ready for JSON."""
    return {
        each.name: {"value": each.value, "source": each.source} | ({"note": each.note} if each.note else {}) for each in fields
    }


def _options(explained: Explanation) -> Iterator[Sequence[object]]:
    return ((each.name, each.value, each.told_source) for each in explained.fields)


def _rows(named: Mapping[str, Explanation], default: Explanation) -> Iterator[Sequence[object]]:
    for name, explained in named.items():
        sources = dict.fromkeys(each.source for each in apart(explained, default))
        yield name, *(written(explained[option].value) for option in _NUMBERS), "; ".join(sources)
