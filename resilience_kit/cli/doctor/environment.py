"""Checks of the RESILIENCE_* variables and the configuration file."""

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
    """Read the RESILIENCE_* variables and the configuration file as an application would, and yield findings.

    `operations`: those of the application, known in addition to those of presets and the file.
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
    """Collects log messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one record's message."""
        self.messages.append(record.getMessage())


def _read() -> tuple[ResilienceSettings | Sequence[Violation], list[str]]:
    """Return the settings or their violations, and the warnings logged while reading."""
    logger, capture = logging.getLogger("resilience_kit"), _LogCapture()
    logger.addHandler(capture)
    try:
        return ResilienceSettings(), capture.messages
    except ConfigurationError as error:
        return error.errors, capture.messages
    finally:
        logger.removeHandler(capture)


def _violation_finding(found: Violation) -> Finding:
    """Return a finding without the value, which may be a misplaced secret."""
    return Finding(
        "environment",
        found.path,
        Severity.PROBLEM,
        found.rule,
        "fix it: get_orchestrator(), or the first protected call, raises this",
    )


def _variables(variables: Mapping[str, str]) -> Finding:
    names = sorted(name for name in variables if name.upper().startswith(_PREFIX))
    text = ", ".join(names) if names else "none is set: the defaults apply"
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
    text = f"{settings.preset}; recommended here: {advice.preset_name} ({advice.reasoning})"
    return Finding("environment", "preset", Severity.INFO, text, f"set RESILIENCE_PRESET={advice.preset_name}, if that is so")
