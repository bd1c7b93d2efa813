"""Copies untrusted values into plain ones, within limits, without calling methods that subclasses override.

Every later step works on the copy, so neither deep nesting nor an object with misleading methods reaches it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from resilience_kit.config.redaction import Location
from resilience_kit.errors import REDACTED, Violation

#: Formats the location of a value.
Label = Callable[[Location], str]

Item = TypeVar("Item")

_MAX_INTEGER: Final = 2**53
_MAX_VIOLATIONS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimits:
    """Limits of a text, or of a mapping in place of one.

    `size`: bytes in total. `depth`: nested objects and lists, the outermost counted. `string`: characters of a text or
    of a name. `items`: of one list. `keys`: of one object. `all_keys`: of all objects together. `printable`: reject control,
    format and other invisible characters.
    """

    size: int
    depth: int
    string: int
    items: int
    keys: int
    all_keys: int
    printable: bool


#: For files and variables, written by an operator.
TRUSTED: Final = TextLimits(
    size=1024 * 1024, depth=64, string=64 * 1024, items=1024 * 1024, keys=10_000, all_keys=10_000, printable=False
)
#: For input of the validator.
UNTRUSTED: Final = TextLimits(size=4096, depth=10, string=200, items=20, keys=50, all_keys=4096, printable=True)


class DuplicateKey:
    """Stands for a JSON object that contains a key twice."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _LimitReached(Exception):
    """Raised to stop reading."""


def sanitize(value: object, limits: TextLimits, label: Label) -> tuple[object, list[Violation]]:
    """Return a copy of `value` made of dict, list, str, int, float, bool and None only, and the violations found.

    If there are violations, the copy must not be used. At most 20 are returned, the last of which says that there are more. Time
    and memory are bounded by `limits`, whatever `value` is; raises nothing that an `except Exception` would catch.
    """
    copy = _Sanitizer(limits, label)
    try:
        return copy.copy(value, ()), copy.found
    except _LimitReached:
        return None, copy.found
    except Exception:  # noqa: BLE001 - an untrusted mapping may raise anything
        return None, [*copy.found, Violation(label(()), "must be readable", REDACTED)]


class _Sanitizer:
    """One traversal."""

    def __init__(self, limits: TextLimits, label: Label) -> None:
        self._limits, self._label = limits, label
        self._remaining_bytes, self._remaining_keys = limits.size, limits.all_keys
        self.found: list[Violation] = []

    def copy(self, value: object, where: Location) -> object:
        """Return the copy of one value; None in place of an invalid one."""
        kind = type(value)
        self._consume(1)
        if value is None or kind is bool:
            return value
        if issubclass(kind, str):
            return self._text(str.__str__(cast("str", value)), where)
        if issubclass(kind, int | float):
            return self._number(value, where)
        return self._container(value, kind, where)

    def _consume(self, size: int) -> None:
        """Count bytes. Each value is counted with at most its bytes in a text, so a short enough text is never rejected."""
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            self._add_violation((), f"must be at most {self._limits.size} bytes long")
            raise _LimitReached

    def _add_violation(self, where: Location, rule: str) -> None:
        if len(self.found) == _MAX_VIOLATIONS:
            self.found[-1] = Violation(self._label(()), "holds more mistakes than are told here", REDACTED)
            raise _LimitReached
        self.found.append(Violation(self._label(where), rule, REDACTED))

    def _text(self, text: str, where: Location) -> str:
        if len(text) > self._limits.string:
            self._add_violation(where, f"must be at most {self._limits.string} characters long")
            return ""
        self._consume(len(text))
        strange = next(self._unfit(text), None)
        if strange is not None:
            self._add_violation(
                where, f"must hold no control, format or other unprintable character, but holds U+{ord(strange):04X}"
            )
        return text

    def _unfit(self, text: str) -> Iterator[str]:
        if self._limits.printable and not text.isprintable():
            return (char for char in text if not char.isprintable())
        return (char for char in text if "\ud800" <= char <= "\udfff")

    def _number(self, value: object, where: Location) -> float:
        number = int.__int__(value) if isinstance(value, int) else float.__float__(cast("float", value))
        if isinstance(number, float) and not math.isfinite(number):
            self._add_violation(where, "must be a finite number")
        elif isinstance(number, int) and abs(number) > _MAX_INTEGER:
            self._add_violation(where, "must be a number from -2**53 to 2**53")
        return number

    def _container(self, value: object, kind: type, where: Location) -> object:
        if issubclass(kind, DuplicateKey):
            self._add_violation((*where, cast("DuplicateKey", value).name), "must not be given twice")
            return None
        rule = self._container_violation(kind, where)
        if rule is not None:
            self._add_violation(where, rule)
            return None
        if issubclass(kind, Mapping):
            return self._object(cast("Mapping[object, object]", value), where)
        return self._list(cast("list[object] | tuple[object, ...]", value), where)

    def _container_violation(self, kind: type, where: Location) -> str | None:
        if not issubclass(kind, Mapping | list | tuple):
            return "must be text, a number, true, false, null, a list or an object"
        if len(where) == self._limits.depth:
            return f"must not be nested more than {self._limits.depth} deep"
        return None

    def _list(self, value: list[object] | tuple[object, ...], where: Location) -> object:
        if len(some := self._take_at_most(_items_of(value), self._limits.items, "items", where)) > self._limits.items:
            return None
        return [self.copy(item, (*where, number)) for number, item in enumerate(some)]

    def _object(self, mapping: Mapping[object, object], where: Location) -> object:
        max_keys = min(self._limits.keys, self._remaining_keys)
        if len(some := self._take_at_most(_pairs_of(mapping), max_keys, "keys", where)) > max_keys:
            return None
        self._remaining_keys -= len(some)
        return {name: self.copy(value, (*where, name)) for key, value in some if (name := self._name(key, where)) is not None}

    def _take_at_most(self, items: Iterable[Item], max_count: int, noun: str, where: Location) -> list[Item]:
        """Return the items up to one more than allowed, adding a violation if there are more than allowed."""
        some = list(itertools.islice(items, max_count + 1))
        if len(some) > max_count:
            self._add_violation(where, f"must hold at most {max_count} {noun}")
        return some

    def _name(self, key: object, where: Location) -> str | None:
        before = len(self.found)
        if not issubclass(type(key), str):
            self._add_violation(where, "must have names that are text")
            return None
        name = str.__str__(cast("str", key))
        self._text(name, (*where, name))
        return name if len(self.found) == before else None


def _items_of(value: list[object] | tuple[object, ...]) -> Iterator[object]:
    return list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)


def _pairs_of(mapping: Mapping[object, object]) -> Iterable[tuple[object, object]]:
    return dict.items(mapping) if isinstance(mapping, dict) else mapping.items()
