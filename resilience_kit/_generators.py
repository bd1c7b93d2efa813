"""Stands in for a generator function: what the caller sends or throws reaches the stream, and closing closes it.

`yield from` does all that for plain generators. Async generators have no such statement, so its meaning is written out here,
once, for everybody who wraps one.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y", covariant=True)
S = TypeVar("S", contravariant=True)


class AsyncGeneratorLike(Protocol[Y, S]):
    """The part of an async generator that is needed to stand in for it."""

    async def asend(self, value: S | None, /) -> Y:
        """Return the next item; raise StopAsyncIteration at the end."""
        ...

    async def athrow(self, error: BaseException, /) -> Y:
        """Throw an error in at the last item."""
        ...

    async def aclose(self) -> None:
        """End the stream early; nothing happens when it has ended."""
        ...


def yield_from(source: Any, step: Callable[..., Any]) -> Generator[Any, Any, Any]:
    """`yield from source`, where `step(function, *arguments)` makes each of its steps, for instance inside a context."""
    source = iter(source)
    send = getattr(source, "send", None)
    try:
        item = step(next, source)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                if hasattr(source, "close"):
                    step(source.close)
                raise
            except BaseException as error:
                if not hasattr(source, "throw"):
                    raise
                item = step(source.throw, error)
            else:
                item = step(next, source) if sent is None or send is None else step(send, sent)
    except StopIteration as end:
        return end.value


def wrap_generator(function: Callable[P, R], open_stream: Callable[P, Any]) -> Callable[P, R]:
    """Make a generator function with the signature of `function` and the items of `open_stream(...)`."""

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, Any]:
        return (yield from open_stream(*args, **kwargs))

    return functools.update_wrapper(wrapper, function)  # type: ignore[return-value]  # the kind of function that came in


def wrap_async_generator(function: Callable[P, R], open_stream: Callable[P, AsyncGeneratorLike[Any, Any]]) -> Callable[P, R]:
    """Make an async generator function with the signature of `function` and the items of `open_stream(...)`."""

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Any, Any]:
        stream = open_stream(*args, **kwargs)
        step: Callable[[Any], Any] = stream.asend
        value: Any = None
        at_an_item = True
        try:
            while True:
                try:
                    item = await step(value)
                except GeneratorExit:
                    at_an_item = False
                    raise
                try:
                    value = yield item
                    step = stream.asend
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the stream's to answer
                    step, value = stream.athrow, thrown
        except StopAsyncIteration:
            return
        finally:
            del value  # an error thrown in would be a circle with its own traceback
            if at_an_item:  # else its consumer was dropped in the midst of a step: nobody waits, and the step has ended it
                await stream.aclose()

    return functools.update_wrapper(wrapper, function)  # type: ignore[return-value]  # the kind of function that came in
