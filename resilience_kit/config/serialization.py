"""Serializes settings to JSON or TOML that parses to the same settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, cast

from resilience_kit._checks import Checks

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def dump(settings: Mapping[str, object], kind: Literal["json", "toml"] = "json") -> str:
    """Serialize `settings` to JSON or TOML, for RESILIENCE_CUSTOM_CONFIG or for a file.

    Raises ConfigurationError for another `kind`.
    """
    checks = Checks("dump")
    checks.one_of("kind", kind, ("json", "toml"))
    checks.raise_if_any()
    if kind == "json":
        return json.dumps(settings, indent=2, default=dict)
    return "".join(f"{line}\n" for line in _table(settings, ()))


def _table(settings: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    inner = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    if path:
        yield f"[{'.'.join(map(_key, path))}]"
    yield from (f"{_key(name)} = {_format_literal(value)}" for name, value in settings.items() if name not in inner)
    for name, value in inner.items():
        yield from _table(cast("Mapping[str, object]", value), (*path, name))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _format_literal(name)


def _format_literal(value: object) -> str:
    """Format as JSON does, but for two kinds of characters: TOML has no surrogates and allows no raw DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
