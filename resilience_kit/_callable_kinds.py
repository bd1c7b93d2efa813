"""Which of the four kinds a function is, since each kind needs a driver of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from enum import Enum
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, TypeGuard


class CallableKind(Enum):
    """What calling a function gives: a value, or something that still has to be awaited or iterated."""

    SYNC = "a function"
    ASYNC = "an async function"
    GENERATOR = "a generator function"
    ASYNC_GENERATOR = "an async generator function"


#: Results that have not done their work yet. A membership test of `type(result)` costs a tenth of an `isinstance` of an ABC.
AWAITABLE_TYPES = frozenset({CoroutineType, asyncio.Future, asyncio.Task})
DRIVABLE_TYPES = AWAITABLE_TYPES | {GeneratorType, AsyncGeneratorType}
#: Results that have surely done it: to be asked first, since `needs_driving` costs as much as a call.
VALUE_TYPES = frozenset({type(None), bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset})

_TESTS = (
    (inspect.isasyncgenfunction, CallableKind.ASYNC_GENERATOR),
    (inspect.iscoroutinefunction, CallableKind.ASYNC),
    (inspect.isgeneratorfunction, CallableKind.GENERATOR),
)


def kind_of(function: Callable[..., object]) -> CallableKind:
    """Return the kind of a function, method, partial or callable object; a class is a plain function."""
    while isinstance(function, functools.partial):
        function = function.func
    found = _kind_of_function(function)
    if found is CallableKind.SYNC and not inspect.isclass(function) and not inspect.isroutine(function):
        return _kind_of_function(type(function).__call__)
    return found


def _kind_of_function(function: Callable[..., object]) -> CallableKind:
    return next((kind for test, kind in _TESTS if test(function)), CallableKind.SYNC)


def needs_driving(result: object) -> bool:
    """Whether a result still has to be awaited, or is a generator of either kind."""
    kind = type(result)
    return kind in DRIVABLE_TYPES or hasattr(kind, "__await__")


def is_done(result: object) -> TypeGuard[asyncio.Future[Any]]:
    """Whether a result is a future whose work is over."""
    return asyncio.isfuture(result) and result.done()


def is_awaitable(result: object) -> bool:
    """Whether a result has to be awaited. Slower and more thorough than `AWAITABLE_TYPES`."""
    return type(result) in AWAITABLE_TYPES or inspect.isawaitable(result)
