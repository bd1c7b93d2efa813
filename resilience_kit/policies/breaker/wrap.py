"""Wraps the four kinds of functions in a breaker: admission when the work begins, one outcome when it ends.

The outcome of a stream is recorded at its end. A stream closed early is neutral for the circuit; its permit is
released.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, ParamSpec, TypeVar

from resilience_kit._callable_kinds import VALUE_TYPES, CallableKind, is_awaitable, kind_of, needs_driving
from resilience_kit._generators import wrap_async_generator, wrap_generator, yield_from
from resilience_kit.context import reset_context
from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.policies.breaker.core import BreakerCore
from resilience_kit.policies.breaker.states import Token, running_trials, running_trials_with

P = ParamSpec("P")
R = TypeVar("R")

#: Returns a token, or None when the circuit rejects and a fallback is called instead.
Acquire = Callable[[], Token | None]
Fallback = Callable[..., Any]


def run(core: BreakerCore, token: Token, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `func` with a token already acquired."""
    if token.needs_admission:
        func = under_trial(token, func)
    started = core.now()
    try:
        result = func(*args, **kwargs)
    except BaseException as error:
        core.record_error(token, error, started)
        raise
    if type(result) not in VALUE_TYPES and needs_driving(result):
        return wrap_pending_result(core, token, started, result)  # type: ignore[no-any-return]  # the same kind of thing
    core.record_success(token, started)
    return result


async def run_async(core: BreakerCore, token: Token, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Await `func` with a token already acquired."""
    if token.needs_admission:
        func = under_trial_async(token, func)
    started = core.now()
    try:
        result = await func(*args, **kwargs)
    except BaseException as error:
        core.record_error(token, error, started)
        raise
    core.record_success(token, started)
    return result


def protect(core: BreakerCore, function: Callable[P, R], fallback: Fallback | None) -> Callable[P, R]:
    """Wrap `function`, keeping its kind and signature; `fallback` is called while the circuit rejects."""
    acquire = core.acquire if fallback is None else functools.partial(_acquire_or_none, core)
    return _WRAPPERS[kind_of(function)](core, function, acquire, fallback)


def _acquire_or_none(core: BreakerCore) -> Token | None:
    try:
        return core.acquire()
    except CircuitBreakerOpenError:
        return None


def _sync(core: BreakerCore, function: Callable[P, R], acquire: Acquire, fallback: Fallback | None) -> Callable[P, R]:
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        token = acquire()
        if token is None:
            return fallback(*args, **kwargs)  # type: ignore[misc]  # not None where a token may be None
        return run(core, token, function, *args, **kwargs)

    return functools.update_wrapper(wrapper, function)


def _async(core: BreakerCore, function: Callable[P, Any], acquire: Acquire, fallback: Fallback | None) -> Callable[P, Any]:
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        token = acquire()
        if token is not None:
            return await run_async(core, token, function, *args, **kwargs)
        result = fallback(*args, **kwargs)  # type: ignore[misc]  # as above
        return await result if is_awaitable(result) else result

    return functools.update_wrapper(wrapper, function)


def generator(
    core: BreakerCore, function: Callable[P, R], acquire: Acquire | None = None, fallback: Fallback | None = None
) -> Callable[P, R]:
    """Wrap a generator function."""
    acquire = acquire or core.acquire
    return wrap_generator(function, lambda *args, **kwargs: _observe(core, acquire, fallback, function, args, kwargs))


def _observe(  # noqa: PLR0913 - a call and its breaker
    core: BreakerCore, acquire: Acquire, fallback: Fallback | None, function: Callable[..., Any], args: Any, kwargs: Any
) -> Generator[Any, Any, Any]:
    token = acquire()
    if token is None:
        return (yield from fallback(*args, **kwargs))  # type: ignore[misc]  # as above
    started = core.now()
    try:
        value = yield from _stream_under(token, function(*args, **kwargs))
    except BaseException as error:
        core.record_error(token, error, started)
        raise
    core.record_success(token, started)
    return value


def _stream_under(token: Token, stream: Any) -> Any:
    """Return the stream; for a trial, one whose steps run under it, so that nested calls share the trial."""
    if not token.needs_admission:
        return stream
    return yield_from(stream, functools.partial(_run_under, token))


def under_trial(token: Token, function: Callable[P, R]) -> Callable[P, R]:
    """Wrap `function` so that calls of the same breaker within it share the trial."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return _run_under(token, functools.partial(function, *args, **kwargs))

    return call


def under_trial_async(token: Token, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Wrap an async function as `under_trial` does."""

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


def async_generator(
    core: BreakerCore, function: Callable[P, R], acquire: Acquire | None = None, fallback: Fallback | None = None
) -> Callable[P, R]:
    """Wrap an async generator function."""
    acquire = acquire or core.acquire
    return wrap_async_generator(
        function, lambda *args, **kwargs: _ObservedStream(core, acquire, fallback, function, args, kwargs)
    )


class _ObservedStream:
    """An async stream whose end is recorded in a breaker."""

    def __init__(  # noqa: PLR0913 - a call and its breaker
        self, core: BreakerCore, acquire: Acquire, fallback: Fallback | None, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        self._core, self._acquire, self._fallback = core, acquire, fallback
        self._function, self._args, self._kwargs = function, args, kwargs
        self._stream: Any = None
        self._token: Token | None = None
        self._started = core.now()

    async def asend(self, value: Any) -> Any:
        if self._stream is None:
            self._token = self._acquire()
            self._started = self._core.now()
            return await self._observe(self._first_item())
        return await self._observe(self._stream.asend(value))

    async def _first_item(self) -> Any:
        self._stream = self._open_stream()
        return await self._stream.asend(None)

    def _open_stream(self) -> Any:
        if self._token is not None:
            return self._function(*self._args, **self._kwargs)
        result = self._fallback(*self._args, **self._kwargs)  # type: ignore[misc]  # as above
        return result if isinstance(result, AsyncGenerator) else _items(result)

    async def athrow(self, error: BaseException) -> Any:
        observed = self._observe(self._stream.athrow(error))
        del error  # its traceback holds this frame: a reference cycle
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
            del step  # may hold the error that holds this frame

    def _settle(self, error: BaseException | None) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        if error is None:
            self._core.record_success(token, self._started)
        else:
            self._core.record_error(token, error, self._started)

    async def aclose(self) -> None:
        self._settle(GeneratorExit())
        if self._stream is not None:
            await self._stream.aclose()


async def _items(source: AsyncIterable[R]) -> AsyncGenerator[R, None]:
    async for item in source:
        yield item


_WRAPPERS: dict[CallableKind, Callable[[BreakerCore, Callable[..., Any], Acquire, Fallback | None], Callable[..., Any]]] = {
    CallableKind.SYNC: _sync,
    CallableKind.ASYNC: _async,
    CallableKind.GENERATOR: generator,
    CallableKind.ASYNC_GENERATOR: async_generator,
}


def wrap_pending_result(core: BreakerCore, token: Token, started: float, result: Any) -> Any:
    """Wrap the result of a plain function whose work is not done yet.

    The work of a future is done or in flight: the same object is returned, it keeps the token, and its error counts as
    retrieved. The work of all others has not begun: the token is released, and the wrapper acquires one when it begins.
    """
    if asyncio.isfuture(result) and result.done():
        _on_future_done(core, token, started, result)  # not by a callback, which would run one iteration of the loop too late
        return result
    if asyncio.isfuture(result):
        result.add_done_callback(functools.partial(_on_future_done, core, token, started))
        return result
    core.release(token)
    if isinstance(result, AsyncGeneratorType):
        return async_generator(core, _constant(result))()
    if isinstance(result, GeneratorType) and not is_awaitable(result):
        return generator(core, _constant(result))()
    return _awaited(core, result)


def _on_future_done(core: BreakerCore, token: Token, started: float, future: asyncio.Future[Any]) -> None:
    error = asyncio.CancelledError() if future.cancelled() else future.exception()
    if error is None:
        core.record_success(token, started)
    else:
        core.record_error(token, error, started)


def _constant(result: R) -> Callable[[], R]:
    return lambda: result


async def _awaited(core: BreakerCore, result: Any) -> Any:
    try:
        token = core.acquire()
    except CircuitBreakerOpenError:
        if hasattr(result, "close"):  # a coroutine, which would warn that it was never awaited
            result.close()
        raise
    return await run_async(core, token, _constant(result))
