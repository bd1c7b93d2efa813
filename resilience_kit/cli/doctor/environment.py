"""What the environment tells the kit, and whether the kit understands it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence

from resilience_kit.cli.doctor.finding import Finding, Severity
from resilience_kit.config import PRESETS, ResilienceSettings, recommend_preset, variable_of
from resilience_kit.config.near_names import near_names
from resilience_kit.errors import ConfigurationError, Violation

_PREFIX = "RESILIENCE_"


def inspect_environment(operations: Sequence[str] = ()) -> Iterator[Finding]:
    """The RESILIENCE_* variables and the file that one of them may name, read as an application would read them.

    `operations`: those of the application; names that presets and the file have for operations are known as well.
    """
    read, warnings = _read()
    yield _variables(os.environ)
    yield from (Finding("environment", "warning", Severity.INFO, text) for text in warnings)
    if not isinstance(read, ResilienceSettings):
        yield from map(_violation_finding, read)
        return
    yield _preset(read)
    yield from _near_name_findings(read, operations)
    if not read.enabled:
        yield Finding("environment", "RESILIENCE_ENABLED", Severity.INFO, "every protection is switched off")


class _LogCapture(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record's text."""
        self.messages.append(record.getMessage())


def _read() -> tuple[ResilienceSettings | Sequence[Violation], list[str]]:
    """The settings or what is wrong with them, and what the kit logs meanwhile."""
    logger, capture = logging.getLogger("resilience_kit"), _LogCapture()
    logger.addHandler(capture)
    try:
        return ResilienceSettings(), capture.messages
    except ConfigurationError as error:
        return error.errors, capture.messages
    finally:
        logger.removeHandler(capture)


def _violation_finding(found: Violation) -> Finding:
    """What is wrong, without the value, which may be a secret in the wrong place."""
    return Finding(
        "environment",
        found.path,
        Severity.PROBLEM,
        found.rule,
        "mend it: get_orchestrator(), or else the first protected call, raises this",
    )


def _variables(variables: Mapping[str, str]) -> Finding:
    names = sorted(name for name in variables if name.upper().startswith(_PREFIX))
    text = ", ".join(names) if names else "none is set: the defaults rule"
    return Finding("environment", "variables", Severity.OK, text)


def _near_name_findings(settings: ResilienceSettings, operations: Sequence[str]) -> Iterator[Finding]:
    """Operations that the environment names, and that are nearly one that is known."""
    named = settings.named_operations()
    of_file = {name for name, source in named.items() if source.startswith("file ")}
    of_presets = {name for preset in PRESETS.values() for name in preset.operation_overrides}
    found = {(each.source, each.name): each for each in near_names(named, operations or of_presets)}
    others = {name: source for name, source in named.items() if name not in of_file}
    found |= {(each.source, each.name): each for each in near_names(others, of_file)}
    for near in found.values():
        remedy = f"write {variable_of(near.suggestion)} or {near.suggestion!r}, if that is meant"
        text = f"names the operation {near.name!r}; did you mean {near.suggestion!r}?"
        yield Finding("environment", near.source, Severity.INFO, text, remedy)


def _preset(settings: ResilienceSettings) -> Finding:
    advice = recommend_preset()
    if advice.preset_name in {settings.preset, "simple"}:
        return Finding("environment", "preset", Severity.OK, settings.preset)
    text = f"{settings.preset}; {advice.preset_name} is what fits here ({advice.reasoning})"
    return Finding("environment", "preset", Severity.INFO, text, f"set RESILIENCE_PRESET={advice.preset_name}, if that is so")
