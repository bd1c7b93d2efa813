"""Reads the meaning of each field of an option class from the class's docstring, where it stands as "`field`: meaning"."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final, NamedTuple

_FIELDS: Final = re.compile(r"(?:^|(?<=[.;] )|(?<=\n))`(\w+)`: ")


def field_descriptions(owner: type) -> dict[str, str]:
    """Return field -> meaning for the fields in the docstring; empty under `python -OO`, which drops docstrings."""
    found: dict[str, str] = {}
    for paragraph in (inspect.getdoc(owner) or "").split("\n\n"):
        parts = _FIELDS.split(" ".join(paragraph.split()))
        found |= {name: meaning.strip().rstrip(".;") for name, meaning in zip(parts[1::2], parts[2::2], strict=True)}
    return found


class Variable(NamedTuple):
    """An environment variable: its name, what it accepts, its default and its description."""

    name: str
    accepts: str
    default: str
    description: str


_ACCEPTED_VALUES: Final = {
    "preset": "a preset's or strategy's name",
    "custom_config": "a JSON object of settings",
    "operation_overrides": "a strategy's name; NAME is the operation in capitals, with _ for every other sign",
    "enabled": "true, 1, yes, on, or false, 0, no, off",
    "config_file": "a path",
}


def environment_variables() -> tuple[Variable, ...]:
    """Return the variables that `ResilienceSettings` reads, in the order of its fields."""
    from resilience_kit.config.settings import ResilienceSettings  # noqa: PLC0415 - it takes pydantic-settings with it

    descriptions, fields = field_descriptions(ResilienceSettings), ResilienceSettings.model_fields
    prefix = ResilienceSettings.model_config["env_prefix"]
    return tuple(
        Variable(prefix + _spelled(name), _ACCEPTED_VALUES[name], _default(fields[name].default), descriptions[name])
        for name in _ACCEPTED_VALUES
    )


def _spelled(field: str) -> str:
    return "OPERATION_<NAME>" if field == "operation_overrides" else field.upper()


def _default(value: Any) -> str:
    return "" if value is None or value == {} else str(value).lower()
