"""What of a foreign text a message may repeat: little, and nothing that could be a secret."""

from __future__ import annotations

import re
from typing import Final

from resilience_kit._redaction import looks_secret, names_a_secret
from resilience_kit.errors import NOT_SHOWN

Where = tuple[str | int, ...]

_LONGEST: Final = 64
_FEW_BITS: Final = 64
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def shown(value: object) -> object:
    """`value` where it is short enough for a message and looks like no secret, else NOT_SHOWN."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _FEW_BITS else NOT_SHOWN
    return value if isinstance(value, str) and _is_harmless(value) else NOT_SHOWN


def shown_at(where: Where, value: object) -> object:
    """`shown`, but nothing of a field whose name says that it holds a secret."""
    return NOT_SHOWN if any(map(names_a_secret, where)) else shown(value)


def place(where: Where) -> str:
    """Where a value stands, as in `.operations['a b'][0]`. A long, strange or secret-looking name is left out."""
    return "".join(map(_step, where))


def dotted(where: Where) -> str:
    """`place` without a dot at its beginning."""
    return place(where).removeprefix(".")


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if not _is_harmless(part) or not part.isprintable():
        return "[<name not shown>]"
    return f".{part}" if _PLAIN_NAME.fullmatch(part) else f"[{part!r}]"


def _is_harmless(text: str) -> bool:
    return len(text) <= _LONGEST and not looks_secret(text)
