"""Copies what comes from outside into plain values, within limits, and calls no method that the values bring along.

Every later step works on the copy, so that neither a deep text nor an object that lies about itself reaches it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from resilience_kit.config.echo import Where
from resilience_kit.errors import NOT_SHOWN, Violation

#: Says in words where a value stands.
Label = Callable[[Where], str]

Item = TypeVar("Item")

_LARGEST_INT: Final = 2**53
_MOST_TOLD: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimits:
    """How much a text, or a mapping in place of one, may hold.

    `size`: bytes in all. `depth`: objects and lists inside each other, the outermost counted. `string`: characters of a text or
    of a name. `items`: of one list. `keys`: of one object. `all_keys`: of all objects together. `printable`: refuse control,
    format and other characters that cannot be seen.
    """

    size: int
    depth: int
    string: int
    items: int
    keys: int
    all_keys: int
    printable: bool


#: For files and variables, which an operator writes.
OPERATOR: Final = TextLimits(
    size=1024 * 1024, depth=64, string=64 * 1024, items=1024 * 1024, keys=10_000, all_keys=10_000, printable=False
)
#: For what comes in through the validator.
STRANGER: Final = TextLimits(size=4096, depth=10, string=200, items=20, keys=50, all_keys=4096, printable=True)


class Repeated:
    """Stands for an object of a JSON text that holds a key twice."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Enough(Exception):
    """The rest is not worth reading."""


def plain(value: object, limits: TextLimits, label: Label) -> tuple[object, list[Violation]]:
    """A copy of `value` made of dict, list, str, int, float, bool and None only, and all that breaks a limit or is no such value.

    Where something was found, the copy is not to be used. At most 20 violations are told, the last of which says so. Bounded in
    time and memory by `limits`, whatever `value` is; raises nothing that an `except Exception` would catch.
    """
    copy = _Copy(limits, label)
    try:
        return copy.of(value, ()), copy.found
    except _Enough:
        return None, copy.found
    except Exception:  # noqa: BLE001 - a mapping made by strangers may raise anything
        return None, [*copy.found, Violation(label(()), "must be readable", NOT_SHOWN)]


class _Copy:
    """One traversal."""

    def __init__(self, limits: TextLimits, label: Label) -> None:
        self._limits, self._label = limits, label
        self._bytes_left, self._keys_left = limits.size, limits.all_keys
        self.found: list[Violation] = []

    def of(self, value: object, where: Where) -> object:
        """The copy of one value; None stands for what is wrong."""
        kind = type(value)
        self._pay(1)
        if value is None or kind is bool:
            return value
        if issubclass(kind, str):
            return self._text(str.__str__(cast("str", value)), where)
        if issubclass(kind, int | float):
            return self._number(value, where)
        return self._container(value, kind, where)

    def _pay(self, size: int) -> None:
        """No value takes fewer bytes in a text than what is paid for it here: a text that is short enough always is."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            self._fail((), f"must be at most {self._limits.size} bytes long")
            raise _Enough

    def _fail(self, where: Where, rule: str) -> None:
        if len(self.found) == _MOST_TOLD:
            self.found[-1] = Violation(self._label(()), "holds more mistakes than are told here", NOT_SHOWN)
            raise _Enough
        self.found.append(Violation(self._label(where), rule, NOT_SHOWN))

    def _text(self, text: str, where: Where) -> str:
        if len(text) > self._limits.string:
            self._fail(where, f"must be at most {self._limits.string} characters long")
            return ""
        self._pay(len(text))
        strange = next(self._unfit(text), None)
        if strange is not None:
            self._fail(where, f"must hold no control, format or other unprintable character, but holds U+{ord(strange):04X}")
        return text

    def _unfit(self, text: str) -> Iterator[str]:
        if self._limits.printable and not text.isprintable():
            return (char for char in text if not char.isprintable())
        return (char for char in text if "\ud800" <= char <= "\udfff")

    def _number(self, value: object, where: Where) -> float:
        number = int.__int__(value) if isinstance(value, int) else float.__float__(cast("float", value))
        if isinstance(number, float) and not math.isfinite(number):
            self._fail(where, "must be a finite number")
        elif isinstance(number, int) and abs(number) > _LARGEST_INT:
            self._fail(where, "must be a number from -2**53 to 2**53")
        return number

    def _container(self, value: object, kind: type, where: Where) -> object:
        if issubclass(kind, Repeated):
            self._fail((*where, cast("Repeated", value).name), "must not be given twice")
            return None
        rule = self._refusal(kind, where)
        if rule is not None:
            self._fail(where, rule)
            return None
        if issubclass(kind, Mapping):
            return self._object(cast("Mapping[object, object]", value), where)
        return self._list(cast("list[object] | tuple[object, ...]", value), where)

    def _refusal(self, kind: type, where: Where) -> str | None:
        if not issubclass(kind, Mapping | list | tuple):
            return "must be text, a number, true, false, null, a list or an object"
        if len(where) == self._limits.depth:
            return f"must not be nested more than {self._limits.depth} deep"
        return None

    def _list(self, value: list[object] | tuple[object, ...], where: Where) -> object:
        if len(some := self._some(_items_of(value), self._limits.items, "items", where)) > self._limits.items:
            return None
        return [self.of(item, (*where, number)) for number, item in enumerate(some)]

    def _object(self, mapping: Mapping[object, object], where: Where) -> object:
        most = min(self._limits.keys, self._keys_left)
        if len(some := self._some(_pairs_of(mapping), most, "keys", where)) > most:
            return None
        self._keys_left -= len(some)
        return {name: self.of(value, (*where, name)) for key, value in some if (name := self._name(key, where)) is not None}

    def _some(self, items: Iterable[Item], most: int, what: str, where: Where) -> list[Item]:
        """The first of them: one more than are allowed, where there are so many."""
        some = list(itertools.islice(items, most + 1))
        if len(some) > most:
            self._fail(where, f"must hold at most {most} {what}")
        return some

    def _name(self, key: object, where: Where) -> str | None:
        before = len(self.found)
        if not issubclass(type(key), str):
            self._fail(where, "must have names that are text")
            return None
        name = str.__str__(cast("str", key))
        self._text(name, (*where, name))
        return name if len(self.found) == before else None


def _items_of(value: list[object] | tuple[object, ...]) -> Iterator[object]:
    return list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)


def _pairs_of(mapping: Mapping[object, object]) -> Iterable[tuple[object, object]]:
    return dict.items(mapping) if isinstance(mapping, dict) else mapping.items()
