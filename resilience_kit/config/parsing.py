"""Parses a configuration text into plain values, and rejects what JSON and TOML parsers accept silently."""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from resilience_kit._nesting import MAX_PARSED_DEPTH, nesting_depth
from resilience_kit.config.redaction import Location, dotted_path, json_path
from resilience_kit.config.sanitize import TRUSTED, DuplicateKey, Label, TextLimits, sanitize
from resilience_kit.errors import REDACTED, ConfigurationError, Violation

MAX_TEXT_BYTES: Final = TRUSTED.size
#: Digits that fit into 64 bits; a longer integer is out of every range, and parsing thousands of digits takes seconds.
_MAX_DIGITS: Final = 18

#: More than twice the keys that a file may hold.
_MAX_TOML_ENTRIES: Final = 25_000
#: A name that tomllib repeats in a message.
_TOML_NAME: Final = re.compile(r"(declare|namespace|table key) (\(.*\)|'.*'|\".*\")(?=.*\(at )", re.DOTALL)


def raise_violation(path: str, rule: str) -> NoReturn:
    """Raise a ConfigurationError that does not repeat the text."""
    raise ConfigurationError([Violation(path, rule, REDACTED)])


def strict_json(text: str, path: str) -> object:
    """Parse a JSON text; reject duplicate keys, numbers that are not finite, and texts over the limits, too.

    Raises ConfigurationError about places in `path`, and nothing else.
    """
    return _within_limits(parsed_json(text.removeprefix(BYTE_ORDER_MARK), path), lambda where: path + json_path(where))


def _within_limits(content: object, label: Label) -> object:
    value, found = sanitize(content, TRUSTED, label)
    if found:
        raise ConfigurationError(found)
    return value


def parsed_json(text: str, path: str, limits: TextLimits = TRUSTED) -> object:
    """Parse a JSON text for `sanitize`, which rejects what is still in it, such as a `DuplicateKey`."""
    if len(text) > limits.size:
        raise_violation(path, f"must be at most {limits.size} characters long")
    depth = nesting_depth(text, limits.depth)
    try:
        if depth <= MAX_PARSED_DEPTH:
            return json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_int=_parse_integer)
    except json.JSONDecodeError as error:
        if depth <= limits.depth:
            raise_violation(
                path, f"must be JSON: {error.msg.removesuffix(' starting at')} at line {error.lineno} column {error.colno}"
            )
    except RecursionError:  # the caller's stack is nearly exhausted
        pass
    raise_violation(path, f"must not be nested more than {limits.depth} deep")


def _reject_duplicate_keys(pairs: list[tuple[str, object]]) -> object:
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else DuplicateKey(_first_duplicate(pairs))


def _first_duplicate(pairs: list[tuple[str, object]]) -> str:
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # which is false


def _parse_integer(digits: str) -> int:
    return int(digits[: _MAX_DIGITS + 1])  # the rest of a longer number is still out of every range


def read_file(path: Path) -> object:
    """Read a `.json` or `.toml` file of at most 1 MiB. Raises ConfigurationError about the file, and nothing else."""
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise_violation(str(path), "must be a .toml or a .json file")
    return _within_limits(parse(_text_of(path), str(path)), lambda where: in_file(str(path), where))


def in_file(path: str, where: Location) -> str:
    """Describe a place in the file at `path`."""
    return ": ".join([path, dotted_path(where)] if where else [path])


#: Byte order marks of encodings that are not UTF-8, the longer ones first.
_OTHER_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
#: The part of a text that its encoding is guessed from.
_ENCODING_PROBE_BYTES: Final = 64
#: The byte order mark.
BYTE_ORDER_MARK: Final = "\ufeff"


def decoded(data: bytes, path: str) -> str:
    """Decode `data` as UTF-8 without a byte order mark; raise ConfigurationError for any other encoding."""
    other = next((name for mark, name in _OTHER_BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if other is None and data[:_ENCODING_PROBE_BYTES].count(0) * 3 > len(data[:_ENCODING_PROBE_BYTES]):
        other = "UTF-16"
    if other is not None:
        raise_violation(path, f"must be text in UTF-8, but is in {other}: save it as UTF-8")
    try:
        return data.decode().removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError:
        raise_violation(path, "must be text in UTF-8")


def _text_of(path: Path) -> str:
    try:
        if not path.is_file():
            raise_violation(str(path), "must be a file that exists")
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise_violation(str(path), f"must be at most {MAX_TEXT_BYTES} bytes long")
        return _decoded(path)
    except OSError as error:
        raise_violation(str(path), f"must be readable: {error.strerror}")


def _decoded(path: Path) -> str:
    """Read the text, checking its size again; reject an empty file, which is probably still being written."""
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise_violation(str(path), f"must be at most {MAX_TEXT_BYTES} bytes long")
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise_violation(str(path), "must not be empty")
    return decoded(content, str(path))


def _toml(text: str, path: str) -> object:
    _reject_expensive_toml(text, path)
    if nesting_depth(text, TRUSTED.depth, toml=True) > MAX_PARSED_DEPTH:
        raise_violation(path, f"must not be nested more than {TRUSTED.depth} deep")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = _TOML_NAME.sub(r"\1 ...", str(error)) if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise_violation(path, "must be TOML" + (f": {why}" if why else ""))


def _reject_expensive_toml(text: str, path: str) -> None:
    """Reject texts that take tomllib quadratic time (a name of 20 000 parts: 14 s), or seconds (a long list)."""
    if sum(map(text.count, "=,[")) > _MAX_TOML_ENTRIES:
        raise_violation(path, f"must be shorter: it holds more than {_MAX_TOML_ENTRIES} keys and items")
    lines = enumerate(text.splitlines(), 1)
    dotted = next((number for number, line in lines if line.count(".") > TRUSTED.depth and line.lstrip()[:1] != "#"), None)
    if dotted is not None:
        raise_violation(path, f"must not be nested more than {TRUSTED.depth} deep, as the dots in line {dotted} say")


_PARSERS: Final[dict[str, Callable[[str, str], object]]] = {".json": parsed_json, ".toml": _toml}
