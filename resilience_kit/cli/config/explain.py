"""`resilience-kit config explain`: every option of one operation, its source, and the values that it overrode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from resilience_kit._checks import did_you_mean
from resilience_kit.cli.config.app_loader import orchestrator_of
from resilience_kit.cli.config.operations import named_operations
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.output import Output, format_value, table
from resilience_kit.config import ResilienceSettings, variable_of
from resilience_kit.config.call_options import CallOptions
from resilience_kit.config.explain import ExplainedField, Explanation, explain
from resilience_kit.config.parsing import strict_json


def explain_operation(
    output: Output, operation: str, *, strategy: str | None, custom_config: str | None, live: str | None
) -> int:
    """Explain an operation whose code passes `strategy` and `custom_config` (JSON), with the strategy `live` set at run time.

    Raises ConfigurationError for wrong options, also in the environment.
    """
    custom = None if custom_config is None else _mapping(custom_config)
    options, settings = CallOptions(strategy=strategy, custom_config=custom), ResilienceSettings()
    explained = explain(operation, settings=settings, options=options, live=live)
    as_configured = live is None and options == CallOptions()
    return _show(output, explained, named_operations(settings) if as_configured else [operation])


def explain_of_app(output: Output, operation: str, app: str, *, live: str | None) -> int:
    """Explain an operation of the application at `app`. Raises CliError if it cannot be imported, and ConfigurationError."""
    orchestrator = orchestrator_of(app, operation)
    if live is not None:
        orchestrator.set_strategy(operation, live)
    explained = orchestrator.explain(operation)
    return _show(output, explained, [*named_operations(orchestrator.settings), *orchestrator.operations])


def _mapping(text: str) -> Mapping[str, object]:
    found = strict_json(text, "--custom-config")
    if not isinstance(found, dict):
        raise CliError("--custom-config: must be a JSON object")
    return cast("Mapping[str, object]", found)


def _show(output: Output, explained: Explanation, named: Sequence[str]) -> int:
    columns, note = ("option", "value", "source", "instead of"), _unknown_operation_note(explained.operation, named)
    made = table(explained.operation, columns, _rows(explained))
    output.show(explained.to_dict() | {"note": note}, made, *([note] if note else []))
    return 0


def _unknown_operation_note(operation: str, named: Sequence[str]) -> str:
    """Return a note on an operation that no source names: its name may be misspelled."""
    if variable_of(operation) in map(variable_of, named):
        return ""
    hint = did_you_mean(operation, named)
    return f"no source names the operation {operation!r}{hint if 'did you mean' in hint else ''}"


def _rows(explained: Explanation) -> Iterator[Sequence[object]]:
    return ((each.name, each.value, each.source_and_note, _overridden(each)) for each in explained.fields)


def _overridden(field: ExplainedField) -> str:
    """Format the overridden values that differ."""
    return "; ".join(f"{format_value(value)} ({source})" for value, source in field.overridden if value != field.value)
