"""Which kind a callable is, and whether what it gave still has to be awaited."""

from __future__ import annotations

import asyncio
import functools
from types import coroutine

import pytest

from resilience_kit._callable_kinds import (
    AWAITABLE_TYPES,
    DRIVABLE_TYPES,
    VALUE_TYPES,
    CallableKind,
    is_awaitable,
    kind_of,
    needs_driving,
)


def plain():
    """Give a value."""
    return 1


async def asynchronous():
    """Give a value to await."""
    return 1


def generator():
    """Give items."""
    yield 1


async def async_generator():
    """Give items to await."""
    yield 1


@coroutine
def old_style():
    """Give a value to await, as it was done before 3.5."""
    yield


def object_with(call):
    """An object whose call is `call`."""
    return type("Callable", (), {"__call__": lambda self: call()} if call is plain else {"__call__": staticmethod(call)})()


class Methods:
    async def method(self):
        return 1

    @classmethod
    async def class_method(cls):
        return 1

    @staticmethod
    def static_method():
        yield 1

    async def __call__(self):
        yield 1


class Awaitable:
    def __await__(self):
        yield


@pytest.mark.parametrize(("function", "kind"), [
    (plain, CallableKind.SYNC),
    (asynchronous, CallableKind.ASYNC),
    (generator, CallableKind.GENERATOR),
    (async_generator, CallableKind.ASYNC_GENERATOR),
    (Methods().method, CallableKind.ASYNC),
    (Methods.class_method, CallableKind.ASYNC),
    (Methods.static_method, CallableKind.GENERATOR),
    (Methods(), CallableKind.ASYNC_GENERATOR),
    (Methods, CallableKind.SYNC),
    (object_with(plain), CallableKind.SYNC),
    (object_with(asynchronous), CallableKind.ASYNC),
    (functools.partial(asynchronous), CallableKind.ASYNC),
    (functools.partial(functools.partial(object_with(generator))), CallableKind.GENERATOR),
    (functools.partial(Methods), CallableKind.SYNC),
    (len, CallableKind.SYNC),
    ([].append, CallableKind.SYNC),
    (int, CallableKind.SYNC),
    (lambda: asynchronous(), CallableKind.SYNC),  # noqa: PLW0108 - a plain function that gives a coroutine
])  # fmt: skip
def test_kinds(function, kind):
    """Functions, methods, partials and callable objects; a class makes instances, whatever they do when called."""
    assert kind is kind_of(function)


async def test_what_still_has_to_be_done():
    """Coroutines, futures, tasks and anything with `__await__` are awaitable; generators of both kinds are unfinished too."""
    made = asynchronous()
    task = asyncio.ensure_future(asyncio.sleep(0))
    gathered = asyncio.gather(task)
    awaitables = [made, task, gathered, asyncio.get_running_loop().create_future(), Awaitable(), old_style()]
    assert [True] * 6 == [is_awaitable(thing) for thing in awaitables]
    assert [True] * 6 == [needs_driving(thing) for thing in awaitables]
    streams = [generator(), async_generator()]
    assert [False, False] == [is_awaitable(thing) for thing in streams]
    assert [True, True] == [needs_driving(thing) for thing in streams]
    finished = [None, 1, "x", [made], iter([]), plain, asynchronous, Awaitable]
    assert [False] * 8 == [is_awaitable(thing) or needs_driving(thing) for thing in finished]
    await made
    await gathered


def test_finished_types_are_finished():
    """What is asked first never hides anything unfinished."""
    assert set() == VALUE_TYPES & DRIVABLE_TYPES
    assert [] == [kind for kind in VALUE_TYPES if hasattr(kind, "__await__")]
    assert AWAITABLE_TYPES < DRIVABLE_TYPES
