"""Copies of what comes from outside: plain values within limits, whatever is handed in (invariants 72 and 73)."""

import enum
import itertools
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from resilience_kit.config.redaction import dotted_path
from resilience_kit.config.sanitize import TRUSTED, UNTRUSTED, sanitize


class Nasty:
    """An object that raises whenever it is asked for anything."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = None


class Endless(Mapping):
    """A mapping that never ends."""

    def __getitem__(self, key):
        return self

    def __iter__(self):
        return (str(n) for n in itertools.count())

    def __len__(self):
        return 0


class Broken(Endless):
    """A mapping that cannot be read."""

    def items(self):
        raise OSError("the disk is gone")


class Odd(Endless):
    """A mapping whose items are no pairs."""

    def items(self):
        return iter([1, 2, 3])


class LoudText(str):
    """Text that raises when anything of it is used."""

    __slots__ = ()

    def __getattribute__(self, name):
        raise RuntimeError(name)

    __str__ = __eq__ = __hash__ = __len__ = __iter__ = lambda *_: 1 / 0


class LoudInt(int):
    """A number that lies and raises."""

    __eq__ = __hash__ = __int__ = __index__ = __lt__ = __abs__ = lambda *_: 1 / 0


class LoudFloat(float):
    """The same for fractions."""

    __eq__ = __hash__ = __float__ = __lt__ = lambda *_: 1 / 0


class LoudDict(dict):
    """A dict whose methods raise."""

    __iter__ = __len__ = items = keys = __getitem__ = lambda *_: 1 / 0


class LoudList(list):
    """A list whose methods raise."""

    __iter__ = __len__ = __getitem__ = lambda *_: 1 / 0


class Colour(enum.StrEnum):
    """Text with a name."""

    RED = "red"


def found(value, limits=UNTRUSTED):
    """The sentences about a value."""
    return [str(each) for each in sanitize(value, limits, lambda where: dotted_path(where) or "it")[1]]


def made_anew(value):
    """A value, or what a function makes: objects that raise at everything must not outlive their test."""
    return value() if callable(value) else value


def circle():
    """A mapping that holds itself."""
    mapping = {}
    mapping["a"] = mapping
    return mapping


def bush(levels):
    """Lists that hold the same list many times: few objects, endlessly many paths."""
    value = []
    for _ in range(levels):
        value = [value] * 20
    return value


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        (lambda: LoudText("loud"), "loud"),
        (Colour.RED, "red"),
        (lambda: LoudInt(3), 3),
        (lambda: LoudFloat(1.5), 1.5),
        ((1, 2), [1, 2]),
        (lambda: LoudList([1, [2]]), [1, [2]]),
        (lambda: LoudDict(a=1), {"a": 1}),
        ({Colour.RED: MappingProxyType({"b": (None,)})}, {"red": {"b": [None]}}),
    ],
    ids=lambda _: "",
)
def test_plain_values_are_copied_and_nothing_of_theirs_is_called(value, copy):
    """What raises in every method of its own is copied as the built-in that it is."""
    made, sentences = sanitize(made_anew(value), UNTRUSTED, dotted_path)
    assert [] == sentences
    assert (copy, type(copy)) == (made, type(made))


NO_VALUE = "must be text, a number, true, false, null, a list or an object"


@pytest.mark.table(
    ("value", "sentence"),
    [
        (Nasty, f"it: {NO_VALUE}"),
        (lambda: {"a": [Nasty()]}, f"a[0]: {NO_VALUE}"),
        ({"a": {1, 2}}, f"a: {NO_VALUE}"),
        ({"a": b"bytes"}, f"a: {NO_VALUE}"),
        ({"a": 1j}, f"a: {NO_VALUE}"),
        ({1: 2}, "it: must have names that are text"),
        ({"a": {None: 2}}, "a: must have names that are text"),
        (circle, ".".join("a" * 10) + ": must not be nested more than 10 deep"),
        (Endless, "it: must hold at most 50 keys"),
        (Broken, "it: must be readable"),
        (lambda: {"a": Odd()}, "it: must be readable"),
        ({"a": "x" * 201}, "a: must be at most 200 characters long"),
        ({"x" * 201: 1}, "[<name not shown>]: must be at most 200 characters long"),
        (["x"] * 21, "it: must hold at most 20 items"),
        ({str(n): n for n in range(51)}, "it: must hold at most 50 keys"),
        ({"a": 2**53 + 1}, "a: must be a number from -2**53 to 2**53"),
        ({"a": -(10**5000)}, "a: must be a number from -2**53 to 2**53"),
        ({"a": float("nan")}, "a: must be a finite number"),
        ({"a": float("-inf")}, "a: must be a finite number"),
        (["x" * 200] * 20 + ["y"], "it: must hold at most 20 items"),
        ([["x" * 200] * 20] * 2, "it: must be at most 4096 bytes long"),
        (bush(9), "it: must be at most 4096 bytes long"),
    ],
    ids=lambda _: "",
)
def test_what_is_no_plain_value_or_too_much_is_a_sentence(value, sentence):
    """Objects that lie, circles, endless mappings: one violation with path and rule, and no exception (invariant 72)."""
    assert [sentence] == found(made_anew(value))


@pytest.mark.parametrize(
    "char", ["\n", "\0", "\x7f", "\x9b", "\u200b", "\u202e", "\u2066", "\u2028", "\ufeff", "\ud800", "\U000e0041"]
)
def test_strangers_write_printable_characters_only(char):
    """Control, format (bidi, zero-width, tags), separators and surrogates are refused in values and names."""
    rule = f"must hold no control, format or other unprintable character, but holds U+{ord(char):04X}"
    assert [f"a: {rule}"] == found({"a": f"b{char}c"})
    assert [f"[<name not shown>]: {rule}"] == found({f"b{char}c": 1})


def test_operators_may_write_what_can_be_encoded():
    """In a file a tab is a tab; half a surrogate pair is no text anywhere."""
    assert [] == found({"a": "b\tc\u200b"}, TRUSTED)
    assert 1 == len(found({"a": "\udfff"}, TRUSTED))


def test_not_everything_that_is_wrong_is_told():
    """Twenty sentences at most, and the last says that there is more."""
    sentences = found({f"n{n}": [float("nan")] * 20 for n in range(3)})
    assert 20 == len(sentences)
    assert "it: holds more mistakes than are told here" == sentences[-1]
