"""Reads a configuration text into plain values, and refuses what JSON or TOML readers let through in silence."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from resilience_kit.errors import NOT_SHOWN, ConfigurationError, Violation

LARGEST: Final = 1024 * 1024
_LONGEST_SHOWN: Final = 64
_FEW_BITS: Final = 64


class _Unfit(ValueError):
    """Correct JSON that must not be obeyed."""


def shown(value: object) -> object:
    """`value` where it is short enough for a message, else NOT_SHOWN."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _FEW_BITS else NOT_SHOWN
    return value if isinstance(value, str) and len(value) <= _LONGEST_SHOWN else NOT_SHOWN


def refuse(path: str, rule: str) -> NoReturn:
    """Raise a ConfigurationError that does not repeat the text."""
    raise ConfigurationError([Violation(path, rule, NOT_SHOWN)])


def strict_json(text: str, path: str) -> object:
    """The value of a JSON text of at most 1 MiB. Duplicate keys and numbers that are not finite are refused, too.

    Raises ConfigurationError about `path`, and nothing else.
    """
    if len(text) > LARGEST:
        refuse(path, f"must be at most {LARGEST} characters long")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        refuse(path, f"must be JSON: {error.msg} at line {error.lineno} column {error.colno}")
    except _Unfit as error:
        refuse(path, str(error))
    except ValueError:
        refuse(path, "must not hold a number of thousands of digits")
    except RecursionError:
        refuse(path, "must not be nested so deeply")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise _Unfit(f"must not hold the key {twice[:_LONGEST_SHOWN]!r} twice")
    return dict(pairs)


def _not_finite(constant: str) -> NoReturn:
    raise _Unfit(f"must hold finite numbers only, not {constant}")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Unfit("must hold finite numbers only")
    return number


def read_file(path: Path) -> object:
    """The value of a `.json` or `.toml` file of at most 1 MiB. Raises ConfigurationError about the file, and nothing else."""
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        refuse(str(path), "must be a .toml or a .json file")
    return parse(_text_of(path), str(path))


def _text_of(path: Path) -> str:
    try:
        if not path.is_file():
            refuse(str(path), "must be a file that exists")
        if path.stat().st_size > LARGEST:
            refuse(str(path), f"must be at most {LARGEST} bytes long")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        refuse(str(path), "must be text in UTF-8")
    except OSError as error:
        refuse(str(path), f"must be readable: {error.strerror}")


def _strict_toml(text: str, path: str) -> object:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        where = f": {error}" if isinstance(error, tomllib.TOMLDecodeError) else ""
        refuse(path, f"must be TOML{where}")


_PARSERS: Final[dict[str, Callable[[str, str], object]]] = {".json": strict_json, ".toml": _strict_toml}
