"""The rules that options are held to, and their words."""

from __future__ import annotations

import math

import pytest

from resilience_kit._checks import Checks, did_you_mean
from resilience_kit.errors import ConfigurationError


def told(check, *args, **kwargs):
    """What one check says, without owner and value."""
    checks = Checks("Owner")
    getattr(checks, check)("field", *args, **kwargs)
    try:
        checks.raise_if_any()
    except ConfigurationError as error:
        (violation,) = error.errors
        assert "Owner.field" == violation.path
        return violation.rule
    return None


NO_NUMBERS = [True, "1", None, math.nan, math.inf, -math.inf, 1j, 10**400]


@pytest.mark.parametrize("wrong", [*NO_NUMBERS[:-1], 1.0, 2, -(10**400)])
def test_whole_numbers(wrong):
    """An int, no bool, from a number on, without an end."""
    assert "must be a whole number of at least 3" == told("integer", wrong, 3)
    assert told("integer", 3, 3) is None
    assert told("integer", 10**400, 3) is None


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -1, -0.5, -5e-324])
def test_seconds(wrong):
    """A finite number above zero, or from zero on; None only where it is optional."""
    assert "must be a finite number of seconds above 0" == told("seconds", wrong)
    assert "must be a finite number of seconds of at least 0" == told("seconds", wrong, zero=True)
    if wrong is not None:
        assert "must be a finite number of seconds above 0" == told("optional_seconds", wrong)


def test_seconds_at_zero():
    """Zero is a number of seconds where it is said to be one."""
    assert "must be a finite number of seconds above 0" == told("seconds", 0)
    assert "must be a finite number of seconds above 0" == told("optional_seconds", 0.0)
    for good in (0, 0.0, -0.0, 5e-324, 1):
        assert told("seconds", good, zero=True) is None
        assert told("optional_seconds", good, zero=True) is None
    assert told("seconds", 5e-324) is None
    assert told("optional_seconds", None) is None


def test_seconds_say_whether_they_hold():
    """For rules that compare two of them."""
    checks = Checks("Owner")
    assert [True, False, True, True, False] == [
        checks.seconds("a", 1), checks.seconds("a", 0), checks.optional_seconds("a", None), checks.optional_seconds("a", 1),
        checks.optional_seconds("a", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, 0.99, 2.01])
def test_numbers(wrong):
    """From one bound to another, both included."""
    assert "must be a finite number from 1 to 2" == told("number", wrong, 1.0, 2.0)
    assert told("number", 1, 1.0, 2.0) is None
    assert told("number", 2.0, 1.0, 2.0) is None


def test_numbers_without_bounds():
    """Each bound may be left out."""
    assert "must be a finite number of at least 0.5" == told("number", 0.4, 0.5)
    assert "must be a finite number" == told("number", math.nan)
    assert told("number", -1e308) is None


def test_names():
    """One of the known names; all are told, and the nearest."""
    assert told("one_of", "full", ("full", "equal", None)) is None
    assert told("one_of", None, ("full", None)) is None
    assert "must be one of 'full', 'equal', None; did you mean 'equal'?" == told("one_of", "Equl", ("full", "equal", None))
    assert "must be one of 'full', None" == told("one_of", "xyz", ("full", None))
    assert told("one_of", True, ("true",)) is not None


def test_methods_that_are_provided():
    """What lacks one of them, or has it as data, is refused with all of their names."""
    assert told("has_methods", [], "append", "pop") is None
    assert "must have the methods load, save" == told("has_methods", "breakers.db", "load", "save")


def test_flags():
    """True and False are flags, 1 and "yes" are not."""
    assert [None, None] == [told("flag", True), told("flag", False)]
    assert ["must be True or False"] * 3 == [told("flag", 1), told("flag", "yes"), told("flag", None)]


def test_exception_types():
    """A tuple of classes of exceptions, also an empty one."""
    assert [None, None] == [told("exception_types", ()), told("exception_types", (KeyError, KeyboardInterrupt))]
    for wrong in (KeyError, [KeyError], (int,), (KeyError(),), None):
        assert "must be a tuple of exception classes" == told("exception_types", wrong)


def test_instances():
    """Of one of the classes."""
    assert told("instance", None, str, type(None)) is None
    assert "must be a str or None" == told("instance", 3, str, type(None))


def test_all_violations_are_told_together():
    """In the order in which they were found, with their values."""
    checks = Checks("Owner")
    checks.integer("first", 0, 1)
    checks.add("second", "is odd", 3)
    with pytest.raises(
        ConfigurationError, match=r"^Owner.first: must be a whole number of at least 1, got 0; Owner.second: is odd, got 3$"
    ):
        checks.raise_if_any()
    Checks("Owner").raise_if_any()


def test_the_nearest_name():
    """Of any case; a stranger gets the list, sorted."""
    assert "; did you mean 'balanced'?" == did_you_mean("BALANCD", ["critical", "balanced"])
    assert "; known: balanced, critical" == did_you_mean(3, ["critical", "balanced"])


def test_optional_callables():
    """None, or anything that can be called."""
    assert [None, None] == [told("optional_callable", None, "an event"), told("optional_callable", print, "an event")]
    assert "must be callable with an event" == told("optional_callable", "print", "an event")
