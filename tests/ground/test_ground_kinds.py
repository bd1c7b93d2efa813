"""Which kind a callable is, and whether what it gave still has to be awaited."""

from __future__ import annotations

import asyncio
import functools
from types import coroutine

import pytest

from resilience_kit._kinds import AWAITABLE_TYPES, FINISHED_TYPES, UNFINISHED_TYPES, Kind, is_awaitable, is_unfinished, kind_of


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
    (plain, Kind.SYNC),
    (asynchronous, Kind.ASYNC),
    (generator, Kind.GENERATOR),
    (async_generator, Kind.ASYNC_GENERATOR),
    (Methods().method, Kind.ASYNC),
    (Methods.class_method, Kind.ASYNC),
    (Methods.static_method, Kind.GENERATOR),
    (Methods(), Kind.ASYNC_GENERATOR),
    (Methods, Kind.SYNC),
    (object_with(plain), Kind.SYNC),
    (object_with(asynchronous), Kind.ASYNC),
    (functools.partial(asynchronous), Kind.ASYNC),
    (functools.partial(functools.partial(object_with(generator))), Kind.GENERATOR),
    (functools.partial(Methods), Kind.SYNC),
    (len, Kind.SYNC),
    ([].append, Kind.SYNC),
    (int, Kind.SYNC),
    (lambda: asynchronous(), Kind.SYNC),  # noqa: PLW0108 - a plain function that gives a coroutine
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
    assert [True] * 6 == [is_unfinished(thing) for thing in awaitables]
    streams = [generator(), async_generator()]
    assert [False, False] == [is_awaitable(thing) for thing in streams]
    assert [True, True] == [is_unfinished(thing) for thing in streams]
    finished = [None, 1, "x", [made], iter([]), plain, asynchronous, Awaitable]
    assert [False] * 8 == [is_awaitable(thing) or is_unfinished(thing) for thing in finished]
    await made
    await gathered


def test_finished_types_are_finished():
    """What is asked first never hides anything unfinished."""
    assert set() == FINISHED_TYPES & UNFINISHED_TYPES
    assert [] == [kind for kind in FINISHED_TYPES if hasattr(kind, "__await__")]
    assert AWAITABLE_TYPES < UNFINISHED_TYPES
