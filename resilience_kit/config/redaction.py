"""Redaction of untrusted values in messages: short harmless values are shown, anything like a secret is not."""

from __future__ import annotations

import re
from typing import Final

from resilience_kit._redaction import contains_secret, is_secret_name
from resilience_kit.errors import REDACTED

Location = tuple[str | int, ...]

_MAX_LENGTH: Final = 64
_MAX_BITS: Final = 64
_SIMPLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def redact_value(value: object) -> object:
    """Return `value` if it is short and looks like no secret, else `REDACTED`."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_BITS else REDACTED
    return value if isinstance(value, str) and _is_harmless(value) else REDACTED


def redact_value_at(where: Location, value: object) -> object:
    """Redact as `redact_value` does, and every value of a field whose name suggests a secret."""
    return REDACTED if any(map(is_secret_name, where)) else redact_value(value)


def json_path(where: Location) -> str:
    """Format the location of a value, as in `.operations['a b'][0]`, leaving out long, unprintable or secret-like names."""
    return "".join(map(_path_segment, where))


def dotted_path(where: Location) -> str:
    """Format a location as `json_path` does, without the leading dot."""
    return json_path(where).removeprefix(".")


def _path_segment(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if not _is_harmless(part) or not part.isprintable():
        return "[<name not shown>]"
    return f".{part}" if _SIMPLE_NAME.fullmatch(part) else f"[{part!r}]"


def _is_harmless(text: str) -> bool:
    return len(text) <= _MAX_LENGTH and not contains_secret(text)
