"""Takes what a JSON file holds apart. What is missing or of another kind is a ConfigurationError that names its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from resilience_kit._nesting import PARSED_DEPTH, nesting
from resilience_kit.errors import NOT_SHOWN, ConfigurationError, Violation

#: Bytes of one suite: thousands of benchmarks.
LARGEST = 16 * 1024 * 1024


def refuse(path: str, rule: str) -> NoReturn:
    """Raise a ConfigurationError that does not repeat what was read."""
    raise ConfigurationError([Violation(path, rule, NOT_SHOWN)])


def parsed(data: bytes, path: str) -> object:
    """The value of a JSON text of at most 16 MiB. Raises ConfigurationError about `path`, and nothing else."""
    if len(data) > LARGEST:
        refuse(path, f"must be at most {LARGEST} bytes long")
    if nesting(data.decode("utf-8", "replace"), PARSED_DEPTH) > PARSED_DEPTH:
        refuse(path, f"must not be nested more than {PARSED_DEPTH} deep")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno} column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        refuse(path, f"must be JSON in UTF-8{where}")


def read_file(path: Path) -> object:
    """The value of a file."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        refuse(str(path), f"must be readable: {error.strerror}")
    return parsed(data, str(path))


class Fields:
    """One object of a JSON text, at `path`."""

    def __init__(self, data: object, path: str) -> None:
        if not isinstance(data, Mapping):
            refuse(path, "must be an object")
        self._data, self._path = data, path

    def _place(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _value(self, name: str) -> object:
        if name not in self._data:
            refuse(self._place(name), "is missing")
        return self._data[name]

    def has(self, name: str) -> bool:
        """Whether there is something other than null."""
        return self._data.get(name) is not None

    def number(self, name: str) -> float:
        """A finite number that is not below zero."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            refuse(self._place(name), "must be a finite number of at least 0")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """The same, or None."""
        return self.number(name) if self.has(name) else None

    def whole(self, name: str) -> int:
        """A whole number that may be below zero."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(self._place(name), "must be a whole number")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            refuse(self._place(name), "must be true or false")
        return value

    def text(self, name: str) -> str:
        """A string."""
        return self._text(self._value(name), name)

    def _text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            refuse(self._place(name), "must be a string")
        return value

    def part(self, name: str) -> Fields:
        """An object in this one."""
        return Fields(self._value(name), self._place(name))

    def items(self, name: str) -> Sequence[object]:
        """An array."""
        value = self._value(name)
        if not isinstance(value, (list, tuple)):
            refuse(self._place(name), "must be an array")
        return value

    def parts(self, name: str) -> list[Fields]:
        """An array of objects."""
        return [Fields(each, f"{self._place(name)}[{number}]") for number, each in enumerate(self.items(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings."""
        return tuple(self._text(each, name) for each in self.items(name))

    def pairs(self, name: str) -> tuple[tuple[float, int], ...]:
        """An array of pairs of a number and a count."""
        found = [
            Fields(dict(enumerate(each)) if isinstance(each, (list, tuple)) else each, self._place(name))
            for each in self.items(name)
        ]
        return tuple((each.number(0), each.whole(1)) for each in found)  # type: ignore[arg-type]  # an array's index is its key

    def named(self, name: str) -> dict[str, str]:
        """An object of strings."""
        return self.part(name).all_texts()

    def all_texts(self) -> dict[str, str]:
        """This object, of strings only."""
        return {str(key): self._text(value, str(key)) for key, value in self._data.items()}
