"""Runs the four kinds of functions through a breaker: admission when the work begins, one outcome when it ends.

A stream's outcome is taken at its end. Left half-way, it says nothing about the service; its permit goes back all the same.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from resilience_kit._callable_kinds import CallableKind, is_awaitable, kind_of
from resilience_kit._generators import wrap_async_generator, wrap_generator, yield_from
from resilience_kit.context import reset_context
from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.policies.breaker.states import running_trials, running_trials_with

if TYPE_CHECKING:
    from resilience_kit.policies.breaker.circuit import CircuitBreaker
    from resilience_kit.policies.breaker.states import Token

    Enter = Callable[[CircuitBreaker], Token | None]

P = ParamSpec("P")
R = TypeVar("R")


def protect(breaker: CircuitBreaker, function: Callable[P, R]) -> Callable[P, R]:
    """`function` behind `breaker`, of the same kind and signature."""
    return _WRAPPERS[kind_of(function)](breaker, function)


def _acquire_or_fallback(breaker: CircuitBreaker) -> Token | None:
    """A token, or None when the circuit refuses and a fallback function answers instead."""
    if breaker.fallback_function is None:
        return breaker.acquire()
    try:
        return breaker.acquire()
    except CircuitBreakerOpenError:
        return None


def _acquire(breaker: CircuitBreaker) -> Token | None:
    return breaker.acquire()


def _sync(breaker: CircuitBreaker, function: Callable[P, R]) -> Callable[P, R]:
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        token = _acquire_or_fallback(breaker)
        if token is None:
            return _call_fallback(breaker, *args, **kwargs)
        return breaker.run(token, function, *args, **kwargs)

    return functools.update_wrapper(wrapper, function)


def _async(breaker: CircuitBreaker, function: Callable[P, Any]) -> Callable[P, Any]:
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        token = _acquire_or_fallback(breaker)
        if token is not None:
            return await breaker.run_async(token, function, *args, **kwargs)
        result = _call_fallback(breaker, *args, **kwargs)
        return await result if is_awaitable(result) else result

    return functools.update_wrapper(wrapper, function)


def _call_fallback(breaker: CircuitBreaker, *args: Any, **kwargs: Any) -> Any:
    """What the fallback function says; asked only when `_enter` has found one."""
    return breaker.fallback_function(*args, **kwargs)  # type: ignore[misc]


def generator(breaker: CircuitBreaker, function: Callable[P, R], acquire: Enter = _acquire) -> Callable[P, R]:
    """A generator function behind a breaker."""
    return wrap_generator(function, lambda *args, **kwargs: _observe(breaker, acquire, function, args, kwargs))


def _observe(
    breaker: CircuitBreaker, acquire: Enter, function: Callable[..., Any], args: Any, kwargs: Any
) -> Generator[Any, Any, Any]:
    token = acquire(breaker)
    if token is None:
        return (yield from _call_fallback(breaker, *args, **kwargs))
    started = breaker.now()
    try:
        value = yield from _stream_under(token, function(*args, **kwargs))
    except BaseException as error:
        breaker.record_error(token, error, started)
        raise
    breaker.record_success(token, started)
    return value


def _stream_under(token: Token, stream: Any) -> Any:
    """The stream itself, or for a trial one whose steps run under it: what is within each of them is within the trial."""
    if not token.needs_admission:
        return stream
    return yield_from(stream, functools.partial(_run_under, token))


def under_trial(token: Token, function: Callable[P, R]) -> Callable[P, R]:
    """`function`, within which calls of the same breaker run under a trial."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return _run_under(token, functools.partial(function, *args, **kwargs))

    return call


def under_trial_async(token: Token, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """The same for an async function."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        context_token = running_trials.set(running_trials_with((token,)))
        try:
            return await function(*args, **kwargs)
        finally:
            reset_context(running_trials, context_token)

    return call


def _run_under(token: Token, step: Callable[..., R], *args: Any) -> R:
    context_token = running_trials.set(running_trials_with((token,)))
    try:
        return step(*args)
    finally:
        running_trials.reset(context_token)


def async_generator(breaker: CircuitBreaker, function: Callable[P, R], acquire: Enter = _acquire) -> Callable[P, R]:
    """An async generator function behind a breaker."""
    return wrap_async_generator(function, lambda *args, **kwargs: _ObservedStream(breaker, acquire, function, args, kwargs))


class _ObservedStream:
    """An async stream that tells a breaker how it ended."""

    def __init__(self, breaker: CircuitBreaker, acquire: Enter, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._breaker, self._acquire, self._function, self._args, self._kwargs = breaker, acquire, function, args, kwargs
        self._stream: Any = None
        self._token: Token | None = None
        self._started = breaker.now()

    async def asend(self, value: Any) -> Any:
        if self._stream is None:
            self._token = self._acquire(self._breaker)
            self._started = self._breaker.now()
            return await self._observe(self._first_item())
        return await self._observe(self._stream.asend(value))

    async def _first_item(self) -> Any:
        self._stream = self._open_stream()
        return await self._stream.asend(None)

    def _open_stream(self) -> Any:
        if self._token is not None:
            return self._function(*self._args, **self._kwargs)
        result = _call_fallback(self._breaker, *self._args, **self._kwargs)
        return result if isinstance(result, AsyncGenerator) else _items(result)

    async def athrow(self, error: BaseException) -> Any:
        observed = self._observe(self._stream.athrow(error))
        del error  # with its own traceback it would be a circle
        return await observed

    async def _observe(self, step: Awaitable[Any]) -> Any:
        token = self._token
        context_token = None if token is None or not token.needs_admission else running_trials.set(running_trials_with((token,)))
        try:
            return await step
        except StopAsyncIteration:
            self._settle(None)
            raise
        except BaseException as error:
            self._settle(error)
            raise
        finally:
            if context_token is not None:
                reset_context(running_trials, context_token)
            del step  # it may hold the error that holds this frame

    def _settle(self, error: BaseException | None) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        if error is None:
            self._breaker.record_success(token, self._started)
        else:
            self._breaker.record_error(token, error, self._started)

    async def aclose(self) -> None:
        self._settle(GeneratorExit())
        if self._stream is not None:
            await self._stream.aclose()


async def _items(source: AsyncIterable[R]) -> AsyncGenerator[R, None]:
    async for item in source:
        yield item


_WRAPPERS: dict[CallableKind, Callable[[CircuitBreaker, Callable[..., Any]], Callable[..., Any]]] = {
    CallableKind.SYNC: _sync,
    CallableKind.ASYNC: _async,
    CallableKind.GENERATOR: functools.partial(generator, acquire=_acquire_or_fallback),
    CallableKind.ASYNC_GENERATOR: functools.partial(async_generator, acquire=_acquire_or_fallback),
}


def wrap_pending_result(breaker: CircuitBreaker, token: Token, started: float, result: Any) -> Any:
    """What a plain function gave before its work was done, behind the breaker.

    The work of a future is done or under way: it stays the same object, its caller keeps the token, and its error counts as
    retrieved.
    That of all others has not begun: they give the token back, and their stand-ins ask for one when it does.
    """
    if asyncio.isfuture(result) and result.done():
        _on_future_done(breaker, token, started, result)  # not by a callback, which would come a turn of the loop too late
        return result
    if asyncio.isfuture(result):
        result.add_done_callback(functools.partial(_on_future_done, breaker, token, started))
        return result
    breaker.release(token)
    if isinstance(result, AsyncGeneratorType):
        return async_generator(breaker, _constant(result))()
    if isinstance(result, GeneratorType) and not is_awaitable(result):
        return generator(breaker, _constant(result))()
    return _awaited(breaker, result)


def _on_future_done(breaker: CircuitBreaker, token: Token, started: float, future: asyncio.Future[Any]) -> None:
    error = asyncio.CancelledError() if future.cancelled() else future.exception()
    if error is None:
        breaker.record_success(token, started)
    else:
        breaker.record_error(token, error, started)


def _constant(result: R) -> Callable[[], R]:
    return lambda: result


async def _awaited(breaker: CircuitBreaker, result: Any) -> Any:
    try:
        token = breaker.acquire()
    except CircuitBreakerOpenError:
        if hasattr(result, "close"):  # a coroutine, which would complain that nobody awaited it
            result.close()
        raise
    return await breaker.run_async(token, _constant(result))
