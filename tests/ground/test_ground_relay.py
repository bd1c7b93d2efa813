"""Standing in for generators: what the consumer does to the stand-in reaches the stream, against a real generator."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resilience_kit._generators import wrap_async_generator, wrap_generator

#: What a consumer may do at an item.
STEPS = st.lists(st.sampled_from(["next", "send", "throw taken", "throw", "throw exit", "end", "fail", "close"]), max_size=6)


class Scene:
    """A generator of each kind, with a diary of what it saw."""

    def __init__(self) -> None:
        self.diary: list[str] = []

    def plain(self) -> Generator[Any, Any, str]:
        """Plain items."""
        number = 0
        try:
            while True:
                number += 1
                try:
                    said = yield number
                    self.diary.append(f"heard {said}")
                except LookupError as error:
                    self.diary.append(f"took {type(error).__name__}")
                    continue
                if said == "end":
                    return "value"
                if said == "fail":
                    raise ArithmeticError
        finally:
            self.diary.append("closed")

    async def asynchronous(self) -> AsyncGenerator[Any, Any]:
        """Async items."""
        stream = self.plain()
        item = next(stream)
        try:
            while True:
                await asyncio.sleep(0)
                try:
                    said = yield item
                except GeneratorExit:
                    stream.close()
                    raise
                except BaseException as error:
                    item = stream.throw(error)
                else:
                    item = stream.send(said)
        except StopIteration:
            return


def act(stream: Any, step: str, calls: dict[str, Any]) -> Any:
    """One step of a consumer: the call to make."""
    errors = {"throw taken": KeyError, "throw": ValueError, "throw exit": KeyboardInterrupt}
    if step == "close":
        return calls["close"](stream)
    if step in errors:
        return calls["throw"](stream, errors[step]("x"))
    return calls["send"](stream, None if step == "next" else step)


def drive_plain(stream: Any, steps: list[str]) -> list[str]:
    """What a consumer sees of a generator."""
    calls = {"send": lambda s, v: s.send(v), "throw": lambda s, e: s.throw(e), "close": lambda s: s.close()}
    seen = []
    for step in ["next", *steps]:
        try:
            seen.append(repr(act(stream, step, calls)))
        except BaseException as error:
            seen.append(repr(error))
    stream.close()
    return seen


async def drive_async(stream: Any, steps: list[str]) -> list[str]:
    """What a consumer sees of an async generator."""
    calls = {"send": lambda s, v: s.asend(v), "throw": lambda s, e: s.athrow(e), "close": lambda s: s.aclose()}
    seen = []
    for step in ["next", *steps]:
        try:
            seen.append(repr(await act(stream, step, calls)))
        except BaseException as error:
            seen.append(repr(error))
    await stream.aclose()
    return seen


@given(STEPS)
def test_a_relayed_generator_cannot_be_told_from_its_own(steps):
    """Items, answers, errors, value and the order of closing are the same for any consumer (invariant 15)."""
    own, other = Scene(), Scene()
    relayed = wrap_generator(other.plain, other.plain)
    assert drive_plain(own.plain(), steps) == drive_plain(relayed(), steps)
    assert own.diary == other.diary


@given(STEPS)
def test_a_relayed_async_generator_cannot_be_told_from_its_own(steps):
    """As for plain ones (invariant 15)."""

    async def both():
        own, other = Scene(), Scene()
        relayed = wrap_async_generator(other.asynchronous, other.asynchronous)
        assert await drive_async(own.asynchronous(), steps) == await drive_async(relayed(), steps)
        assert own.diary == other.diary

    asyncio.run(both())


def test_the_face_is_the_function_s():
    """Kind, name, docstring and signature."""
    scene = Scene()
    plain, asynchronous = wrap_generator(scene.plain, scene.plain), wrap_async_generator(scene.asynchronous, scene.asynchronous)
    assert (True, True) == (inspect.isgeneratorfunction(plain), inspect.isasyncgenfunction(asynchronous))
    assert [("plain", "Plain items."), ("asynchronous", "Async items.")] == [
        (f.__name__, f.__doc__) for f in (plain, asynchronous)
    ]


def test_nothing_is_opened_before_the_first_item():
    """A stream that is never iterated is never made, nor one that is closed before."""
    opened = []
    wrap_generator(lambda: None, opened.append)().close()
    wrap_async_generator(lambda: None, opened.append)()
    assert [] == opened


def test_a_stream_dropped_within_a_step_is_left_to_its_own_end():
    """A consumer that is closed while it waits for an item: its stream sees the exit, and nobody complains (invariant 5)."""
    seen = []

    async def slow():
        try:
            await asyncio.sleep(60)
            yield 1
        except BaseException as error:
            seen.append(type(error))
            raise

    class Stream:
        def __init__(self):
            self.source = slow()

        async def asend(self, value):
            return await asyncio.sleep(0)

        async def aclose(self):
            raise AssertionError("closed twice")

    async def consume():
        async for _ in wrap_async_generator(slow, Stream)():
            raise AssertionError("there was an item")

    consumer = consume()
    consumer.send(None)
    consumer.close()
    del consumer
    gc.collect()
    assert [] == seen


async def test_an_error_thrown_in_makes_no_circle():
    """The stand-in's frame lets the error go: nothing is left to the collector."""
    scene = Scene()
    relayed = wrap_async_generator(scene.asynchronous, scene.asynchronous)

    async def throw() -> str:
        stream = relayed()
        await anext(stream)
        try:
            await stream.athrow(ValueError("x"))
        except ValueError as error:
            return str(error)
        return "nothing"

    await throw()
    gc.collect()
    gc.disable()
    try:
        assert "x" == await throw()
        assert 0 == gc.collect()
    finally:
        gc.enable()
