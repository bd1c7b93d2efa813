"""What is told of a run's error, and which errors are not the job's to pay for."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import BulkheadFullError, CircuitBreakerOpenError, ServiceUnavailableError
from resilience_kit.jobs.failures import (
    JobArgumentsError,
    arguments_error,
    clean,
    details_of,
    error_chain,
    location_of,
    name_of,
    rejection_in,
)

CANARY = "canary-3c1f"


def raised(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    """The error as it is caught."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def line_of(function: Callable[..., Any]) -> str:
    """`path:line` of a function's first line after its head and its docstring."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno + 2}"


def breaks() -> None:
    """Raise; the line after this one is the place."""
    raise ValueError(CANARY)


def parses() -> None:
    """Have a library raise."""
    json.loads("{")


def fails(function: Callable[[], None], job: Callable[..., Any] = breaks) -> tuple[str, BaseException]:
    """Where a job's function failed, and the error."""
    try:
        function()
    except Exception as error:
        return location_of(error, job), error
    raise AssertionError


def test_the_place_is_the_line_that_raised() -> None:
    """With its file."""
    place, error = fails(breaks)
    assert line_of(breaks) == place
    assert "ValueError" == name_of(error)


def test_the_place_is_in_the_package_of_the_job() -> None:
    """Not in a library that it called."""
    assert line_of(parses) == fails(parses)[0]


def test_the_place_of_a_foreign_function_is_the_innermost() -> None:
    """Where nothing of the traceback is in the job's package, or it is not known."""
    assert "json/decoder.py:" in fails(parses, json.JSONDecoder.raw_decode)[0]
    assert "json/decoder.py:" in fails(parses, len)[0]  # a builtin is in no file


def test_the_place_of_a_group_is_that_of_its_first_error() -> None:
    """And of an error with a cause its own."""

    def group() -> None:
        raise ExceptionGroup("two", [fails(breaks)[1], fails(parses)[1]])

    assert line_of(breaks) == fails(group)[0]


def test_an_error_that_was_never_raised_has_no_place() -> None:
    """It is told without one."""
    assert "" == location_of(ValueError(), breaks)


@given(st.text())
def test_whatever_an_error_says_can_be_written_down(text: str) -> None:
    """PostgreSQL takes no NUL and no half of a character."""
    kept = clean(text)
    assert "\0" not in kept
    assert kept.encode("utf-8").decode() == kept


def test_details_are_message_and_traceback() -> None:
    """The end of them, where they are long."""
    details = details_of(fails(breaks)[1])
    assert details.startswith("Traceback")
    assert details.endswith(f"ValueError: {CANARY}")
    assert 20_000 == len(details_of(ValueError("x" * 50_000)))
    assert "\\" not in clean("a\ud800\0b")


def test_what_belongs_to_an_error_is_found_once() -> None:
    """Also where errors name each other in a circle."""
    inner, outer = ValueError("inner"), ValueError("outer")
    outer.__cause__, inner.__context__ = inner, outer
    assert [outer, inner] == [*error_chain(outer)]
    assert [*error_chain(outer)] == [*error_chain(outer)]


OPEN, LATER, FULL = CircuitBreakerOpenError("a", 3.0), CircuitBreakerOpenError("b", 7.0), BulkheadFullError("c")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OPEN, OPEN),
        (raised(LookupError("no answer"), cause=OPEN), OPEN),
        (raised(LookupError("no answer"), cause=raised(KeyError("x"), cause=OPEN)), OPEN),
        (ExceptionGroup("two", [OPEN, LATER]), LATER),
        (ExceptionGroup("two", [FULL, LATER]), LATER),
        (ExceptionGroup("two", [raised(LookupError("no answer"), cause=OPEN)]), OPEN),
        (ExceptionGroup("two", [OPEN, ServiceUnavailableError("x")]), None),
        (ServiceUnavailableError("x"), None),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_refusal_is_found_behind_the_error_that_it_became(error: BaseException, expected: object) -> None:
    """As a cause, and in a group of nothing else; of several it is the one with the longest wait."""
    assert expected is rejection_in(error)


def test_a_chain_without_an_end_holds_no_refusal() -> None:
    """A cause may be its own."""
    error = ValueError()
    error.__cause__ = error
    assert rejection_in(error) is None


def takes(document: int, *, language: str = "en") -> None:
    """Take what a job gives."""
    if language == "xx":
        raise TypeError(CANARY)


def gives(function: Callable[..., None]) -> Callable[..., None]:
    """Give the function an argument that its caller does not know."""

    @functools.wraps(function)
    def wrapper(**kwargs: Any) -> None:
        function(1, **kwargs)

    return wrapper


injected = gives(takes)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> JobArgumentsError | None:
    """What the call's error is taken for."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        return arguments_error(error, function, args, kwargs)
    return None


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing: document"),
        ((), {"document": 1, CANARY: 2}, "1 that it does not take"),
        ((), {"langauge": "en"}, "missing: document; 1 that it does not take"),
        ((1, 2), {}, "they cannot be passed by name"),
    ],
)
def test_a_call_that_cannot_begin_is_told_by_the_functions_own_names(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    """Those of the job came with it, and may be anything."""
    found = call(takes, *args, **kwargs)
    assert isinstance(found, TypeError)
    assert f"the job's arguments do not fit its function: {words}" == str(found)


@pytest.mark.parametrize(
    ("function", "kwargs"),
    [
        (takes, {"document": 1, "language": "xx"}),  # its own
        (injected, {"language": "xx"}),  # its own, though the signature lacks an argument that a decorator gives
        (breaks, {}),  # of another type
        (len, {}),  # fits, by a signature that nobody knows or that another error broke
    ],
)
def test_an_error_of_the_function_is_its_own(function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """However much it looks like one of the call."""
    found = call(function, **kwargs)
    assert found is None or function is len
    known = JobArgumentsError("x")
    assert arguments_error(known, takes, (), {}) is None
    assert arguments_error(TypeError(), takes, (), {"document": 1}) is None
