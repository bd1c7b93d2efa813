"""`resilience-kit config explain`: every option of one operation, who decided it, and whom that overruled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from resilience_kit.cli.config.code import orchestrator_of
from resilience_kit.cli.mistake import Mistake
from resilience_kit.cli.output import Output, table, written
from resilience_kit.config import ResilienceSettings
from resilience_kit.config.explain import ExplainedField, Explanation, explain
from resilience_kit.config.layers import Asked
from resilience_kit.config.text import strict_json


def explain_as_told(output: Output, operation: str, *, strategy: str | None, custom_config: str | None, live: str | None) -> int:
    """Tell what protects an operation whose code asks for a `strategy` and a `custom_config` (JSON), after `live` was set.

    Raises ConfigurationError for what is wrong, in the environment too.
    """
    custom = None if custom_config is None else _mapping(custom_config)
    asked = Asked(strategy=strategy, custom_config=custom, live=live)
    return _show(output, explain(operation, settings=ResilienceSettings(), asked=asked))


def explain_of_app(output: Output, operation: str, app: str, *, live: str | None) -> int:
    """The same as the application at `app` has it. Raises Mistake when that cannot be imported, and ConfigurationError."""
    orchestrator = orchestrator_of(app, operation)
    if live is not None:
        orchestrator.set_strategy(operation, live)
    return _show(output, orchestrator.explain(operation))


def _mapping(text: str) -> Mapping[str, object]:
    found = strict_json(text, "--custom-config")
    if not isinstance(found, dict):
        raise Mistake("--custom-config: must be a JSON object")
    return cast("Mapping[str, object]", found)


def _show(output: Output, explained: Explanation) -> int:
    columns = ("option", "value", "source", "instead of")
    output.show(explained.to_dict(), table(explained.operation, columns, _rows(explained)))
    return 0


def _rows(explained: Explanation) -> Iterator[Sequence[object]]:
    return ((each.name, each.value, each.source, _overruled(each)) for each in explained.fields)


def _overruled(field: ExplainedField) -> str:
    """Other values only: who says the same is overruled without a difference."""
    return "; ".join(f"{written(value)} ({source})" for value, source in field.overruled if value != field.value)
