"""Takes what a JSON file holds apart. What is missing or of another kind is a ConfigurationError that names its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from resilience_kit._nesting import MAX_PARSED_DEPTH, nesting_depth
from resilience_kit.errors import REDACTED, ConfigurationError, Violation

#: Bytes of one suite: thousands of benchmarks.
LARGEST = 16 * 1024 * 1024


def reject(path: str, rule: str) -> NoReturn:
    """Raise a ConfigurationError that does not repeat what was read."""
    raise ConfigurationError([Violation(path, rule, REDACTED)])


def parse_json(data: bytes, path: str) -> object:
    """The value of a JSON text of at most 16 MiB. Raises ConfigurationError about `path`, and nothing else."""
    if len(data) > LARGEST:
        reject(path, f"must be at most {LARGEST} bytes long")
    if nesting_depth(data.decode("utf-8", "replace"), MAX_PARSED_DEPTH) > MAX_PARSED_DEPTH:
        reject(path, f"must not be nested more than {MAX_PARSED_DEPTH} deep")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno} column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        reject(path, f"must be JSON in UTF-8{where}")


def read_file(path: Path) -> object:
    """The value of a file."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        reject(str(path), f"must be readable: {error.strerror}")
    return parse_json(data, str(path))


class JsonReader:
    """One object of a JSON text, at `path`."""

    def __init__(self, data: object, path: str) -> None:
        if not isinstance(data, Mapping):
            reject(path, "must be an object")
        self._data, self._path = data, path

    def _path_of(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _value(self, name: str) -> object:
        if name not in self._data:
            reject(self._path_of(name), "is missing")
        return self._data[name]

    def has(self, name: str) -> bool:
        """Whether there is something other than null."""
        return self._data.get(name) is not None

    def number(self, name: str) -> float:
        """A finite number that is not below zero."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
            reject(self._path_of(name), "must be a finite number of at least 0")
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """The same, or None."""
        return self.number(name) if self.has(name) else None

    def integer(self, name: str) -> int:
        """A whole number that may be below zero."""
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int):
            reject(self._path_of(name), "must be a whole number")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        if not isinstance(value, bool):
            reject(self._path_of(name), "must be true or false")
        return value

    def text(self, name: str) -> str:
        """A string."""
        return self._text(self._value(name), name)

    def _text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            reject(self._path_of(name), "must be a string")
        return value

    def child(self, name: str) -> JsonReader:
        """An object in this one."""
        return JsonReader(self._value(name), self._path_of(name))

    def items(self, name: str) -> Sequence[object]:
        """An array."""
        value = self._value(name)
        if not isinstance(value, (list, tuple)):
            reject(self._path_of(name), "must be an array")
        return value

    def children(self, name: str) -> list[JsonReader]:
        """An array of objects."""
        return [JsonReader(each, f"{self._path_of(name)}[{number}]") for number, each in enumerate(self.items(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings."""
        return tuple(self._text(each, name) for each in self.items(name))

    def pairs(self, name: str) -> tuple[tuple[float, int], ...]:
        """An array of pairs of a number and a count."""
        found = [
            JsonReader(dict(enumerate(each)) if isinstance(each, (list, tuple)) else each, self._path_of(name))
            for each in self.items(name)
        ]
        return tuple((each.number(0), each.integer(1)) for each in found)  # type: ignore[arg-type]  # an array's index is its key

    def string_map(self, name: str) -> dict[str, str]:
        """An object of strings."""
        return self.child(name).all_texts()

    def all_texts(self) -> dict[str, str]:
        """This object, of strings only."""
        return {str(key): self._text(value, str(key)) for key, value in self._data.items()}
