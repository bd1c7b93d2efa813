"""Header names and values as callers give them: checks, pairs and additions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resilience_kit._checks import Checks
from resilience_kit.errors import REDACTED


def is_header_name(name: object) -> bool:
    """Return whether a text can name a header."""
    return isinstance(name, str) and name.isascii() and name.replace("-", "").isalnum()


def check_headers(checks: Checks, headers: object) -> None:
    """Check that headers map names to texts without line breaks."""
    if headers is not None and not isinstance(headers, Mapping):
        checks.add("headers", "must map names to texts", REDACTED)
        return
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            checks.add("headers", "must map names to texts; turn other values into text, and leave out what is None", REDACTED)
        elif any(sign in name + value for sign in "\r\n\0"):
            checks.add("headers", "must hold no line breaks; strip what was read from a file", REDACTED)


def with_headers(kwargs: Mapping[str, Any], added: Mapping[str, str]) -> dict[str, Any]:
    """Return `kwargs` with the headers of `added` that it does not name."""
    known = kwargs.get("headers")
    names = header_names(known)
    new = {name: value for name, value in added.items() if name.lower() not in names}
    if isinstance(known, (list, tuple)):
        return {**kwargs, "headers": [*known, *new.items()]}
    return {**kwargs, "headers": {**(known or {}), **new}}


def header_pairs(headers: object) -> Iterator[tuple[str, str]]:
    """Return the names and values of headers as text. Accepts a mapping or pairs; skips what is neither."""
    items = headers.items() if isinstance(headers, Mapping) else headers if isinstance(headers, (list, tuple)) else ()
    for item in items:
        if isinstance(item, (list, tuple)) and len(item) == 2:  # noqa: PLR2004 - a name and a value
            yield _text(item[0]), _text(item[1])


def header_names(headers: object) -> set[str]:
    """Return the names of headers in lower case."""
    return {name.lower() for name, _ in header_pairs(headers)}


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
