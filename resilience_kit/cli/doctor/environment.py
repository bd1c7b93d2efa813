"""What the environment tells the kit, and whether the kit understands it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence

from resilience_kit.cli.doctor.finding import Finding, Health
from resilience_kit.config import ResilienceSettings, recommend_preset
from resilience_kit.errors import ConfigurationError, Violation

_PREFIX = "RESILIENCE_"


def look_at_environment() -> Iterator[Finding]:
    """The RESILIENCE_* variables and the file that one of them may name, read as an application would read them."""
    read, warnings = _read()
    yield _variables(os.environ)
    yield from (Finding("environment", "warning", Health.NOTE, text) for text in warnings)
    if not isinstance(read, ResilienceSettings):
        yield from map(_wrong, read)
        return
    yield _preset(read)
    if not read.enabled:
        yield Finding("environment", "RESILIENCE_ENABLED", Health.NOTE, "every protection is switched off")


class _Ear(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record's text."""
        self.heard.append(record.getMessage())


def _read() -> tuple[ResilienceSettings | Sequence[Violation], list[str]]:
    """The settings or what is wrong with them, and what the kit logs meanwhile."""
    logger, ear = logging.getLogger("resilience_kit"), _Ear()
    logger.addHandler(ear)
    try:
        return ResilienceSettings(), ear.heard
    except ConfigurationError as error:
        return error.errors, ear.heard
    finally:
        logger.removeHandler(ear)


def _wrong(found: Violation) -> Finding:
    """What is wrong, without the value, which may be a secret in the wrong place."""
    return Finding(
        "environment",
        found.path,
        Health.PROBLEM,
        found.rule,
        "mend it: get_orchestrator(), or else the first protected call, raises this",
    )


def _variables(variables: Mapping[str, str]) -> Finding:
    ours = sorted(name for name in variables if name.upper().startswith(_PREFIX))
    text = ", ".join(ours) if ours else "none is set: the defaults rule"
    return Finding("environment", "variables", Health.FINE, text)


def _preset(settings: ResilienceSettings) -> Finding:
    advice = recommend_preset()
    if advice.preset_name in {settings.preset, "simple"}:
        return Finding("environment", "preset", Health.FINE, settings.preset)
    text = f"{settings.preset}; {advice.preset_name} is what fits here ({advice.reasoning})"
    return Finding("environment", "preset", Health.NOTE, text, f"set RESILIENCE_PRESET={advice.preset_name}, if that is so")
