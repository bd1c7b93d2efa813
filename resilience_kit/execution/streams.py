"""Carries out calls of generators and async generators: retries before the first item, one outcome for the whole stream.

Once an item has reached the caller it cannot be taken back, so a break after that is told as `StreamInterruptedError`, with
what was delivered. A stream that the caller leaves says nothing about the service. The call's context is set around each step
only, since a generator runs in whatever context its consumer is in.
"""

from __future__ import annotations

import functools
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import GeneratorType
from typing import Any, ParamSpec, TypeVar

from resilience_kit._generators import wrap_async_generator, wrap_generator, yield_from
from resilience_kit.context import CallContext, current_call, reset_context
from resilience_kit.errors import APITimeoutError
from resilience_kit.execution import waiting
from resilience_kit.execution.call import TIMED_OUT, Call
from resilience_kit.execution.delivered_items import DeliveredItems
from resilience_kit.execution.plan import CallPlan, CallSite
from resilience_kit.execution.rejection import select_fallback
from resilience_kit.execution.scope import FallbackScope
from resilience_kit.execution.timeouts import timeout_at
from resilience_kit.outcome import Streamed

P = ParamSpec("P")
R = TypeVar("R")


def protect_generator(site: CallSite, function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a generator function under the plan of `site`."""
    return wrap_generator(function, lambda *args, **kwargs: stream(site.current(), function, args, kwargs))


def protect_async_generator(site: CallSite, function: Callable[P, R]) -> Callable[P, R]:
    """Wrap an async generator function under the plan of `site`."""
    return wrap_async_generator(function, lambda *args, **kwargs: ProtectedAsyncStream(site.current(), function, args, kwargs))


def drive_result(plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Run a generator that a plain function returned under its plan."""
    site, first = CallSite(lambda: plan), with_first_result(result, function)
    if isinstance(result, GeneratorType):
        return protect_generator(site, first)(*args, **kwargs)
    return protect_async_generator(site, first)(*args, **kwargs)


def _admit(call: Call) -> float:
    """`call.admit()`, inside the call's context as with the other drivers: guards may ask which attempt it is."""
    context = current_call.set(call.scope())
    try:
        return call.admit()
    finally:
        current_call.reset(context)


def with_first_result(result: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with its first call replaced by `result`, which it has returned already."""
    results = [result]

    def again(*args: Any, **kwargs: Any) -> Any:
        return results.pop() if results else function(*args, **kwargs)

    return functools.update_wrapper(again, function)


# --- plain generators ----------------------------------------------------------------------------------------------------


def stream(
    plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    """Yield the items of a generator function's stream, or of its fallback's if it cannot start."""
    call = Call(plan, function, args, kwargs)
    try:
        source, item, ended = _open_stream(call)
    except Exception as error:
        fallback = select_fallback(plan, error)
        if fallback is None:
            raise
        plan.operation.metrics.fallback_calls.add()
        return (yield from _fallback_stream(FallbackScope(call), fallback, args, kwargs))
    return item if ended else (yield from _remaining_items(call, source, item))


def _open_stream(call: Call) -> tuple[Any, Any, bool]:
    """Return the stream and its first item; or its return value, and True, if it has none."""
    sleep = call.plan.clock.sleep
    failure: BaseException | None = None
    try:
        while True:
            while pause := _admit(call):
                waiting.wait(call, pause)
            call.begin()
            try:
                source = call.function(*call.args, **call.kwargs)
                item = _step(call, next, source)
            except StopIteration as end:
                call.succeeded(Streamed(()))
                return None, end.value, True
            except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
                failure = error
            else:
                call.first_item_received()
                return source, item, False
            next_pause = call.failed(failure)
            if next_pause is None:
                raise failure
            failure = None
            sleep(next_pause)
    except BaseException as error:
        call.abandon(error)
        raise
    finally:
        failure = None  # a frame that holds the error that holds the frame would wait for the collector


def _fallback_stream(
    scope: FallbackScope, fallback: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    def inside(function: Callable[..., Any], *arguments: Any) -> Any:
        context = current_call.set(scope)
        try:
            return function(*arguments)
        finally:
            current_call.reset(context)

    def step(function: Callable[..., Any], *arguments: Any) -> Any:
        item = inside(function, *arguments)
        scope.first_item_received()
        return item

    try:
        return (yield from yield_from(inside(functools.partial(fallback, *args, **kwargs)), step))
    finally:
        scope.ended = True


def _step(call: Call, step: Callable[..., Any], *args: Any) -> Any:
    context = current_call.set(call.scope())
    call.enter_trials()
    try:
        return step(*args)
    finally:
        call.leave_trials()
        current_call.reset(context)


def _remaining_items(call: Call, source: Any, item: Any) -> Generator[Any, Any, Any]:
    delivered, thrown, broken = DeliveredItems(), None, None
    call.delivered = delivered
    try:
        while True:
            try:
                sent = yield delivered.record(item)
            except Exception as error:  # noqa: BLE001 - it is the stream's to answer
                thrown = error
                item = _step(call, source.throw, error)
            else:
                item = _step(call, source.send, sent)
    except StopIteration as end:
        call.succeeded(Streamed(delivered.last))
        return end.value
    except BaseException as error:
        if not isinstance(error, Exception) or error is thrown:
            call.abandon(GeneratorExit())
            source.close()
            raise
        broken = call.stream_interrupted(error, delivered.count, tuple(delivered.last))
    finally:
        thrown = None
    try:
        raise broken
    finally:
        broken = None


# --- async generators ----------------------------------------------------------------------------------------------------


class ProtectedAsyncStream:
    """The items of an async generator function's stream, or of its fallback's when it cannot be begun."""

    def __init__(self, plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._plan, self._call = plan, Call(plan, function, args, kwargs)
        self._source: AsyncGenerator[Any, Any] | None = None
        self._delivered = DeliveredItems()
        #: Of the fallback, once that is asked.
        self._scope: FallbackScope | None = None

    async def asend(self, value: Any) -> Any:
        """Return the next item."""
        if self._source is None:
            return await self._begin()
        source = self._source
        if self._scope is not None:
            return await self._within(self._scope, lambda: source.asend(value), None)
        return await self._next(lambda: source.asend(value), None)

    async def athrow(self, error: BaseException) -> Any:
        """Return the stream's response to an error that its consumer throws in."""
        source: Any = self._source
        if self._scope is not None:
            return await self._within(self._scope, lambda: source.athrow(error), None)
        return await self._next(lambda: source.athrow(error), error)

    async def aclose(self) -> None:
        """Leave the stream where it is."""
        self._call.abandon(GeneratorExit())
        if self._scope is not None:
            self._scope.ended = True
        if self._source is not None:
            await self._source.aclose()

    async def _begin(self) -> Any:
        try:
            return await self._open()
        except StopAsyncIteration:
            raise
        except Exception as error:
            fallback = select_fallback(self._plan, error)
            if fallback is None:
                raise
            scope = self._scope = FallbackScope(self._call)
            self._plan.operation.metrics.fallback_calls.add()
            source = self._source = fallback(*self._call.args, **self._call.kwargs)
            try:
                item = await self._within(scope, lambda: source.asend(None), scope.fallback_deadline_ns())
            except _StepTimeoutError:
                raise self._call.fallback_timed_out(error) from error
            scope.first_item_received()
            return item

    async def _open(self) -> Any:
        call, sleep = self._call, self._plan.clock.sleep_async
        failure: BaseException | None = None
        try:
            while True:
                while pause := _admit(call):
                    await waiting.wait_async(call, pause)
                call.begin()
                item, failure, cut_off = await self._attempt()
                if failure is None:
                    call.first_item_received(self._delivered)
                    return self._delivered.record(item)
                if isinstance(failure, StopAsyncIteration):
                    call.succeeded(Streamed(()))
                    raise failure
                next_pause = call.failed(failure, TIMED_OUT if cut_off else None)
                if next_pause is None:
                    raise failure
                failure = None
                await sleep(next_pause)
        except BaseException as error:
            call.abandon(error)
            raise
        finally:
            failure = None

    async def _attempt(self) -> tuple[Any, BaseException | None, bool]:
        """Return the first item, or the error and whether this call has cut the attempt off."""
        try:
            source = self._source = self._call.function(*self._call.args, **self._call.kwargs)
            return (
                await self._bounded(lambda: source.asend(None), self._call.attempt_deadline_ns(self._plan.first_item_timeout)),
                None,
                False,
            )
        except _StepTimeoutError:
            return None, self._call.timed_out(self._plan.first_item_timeout), True
        except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
            return None, error, False

    async def _next(self, step: Callable[[], Awaitable[Any]], thrown: BaseException | None) -> Any:
        call = self._call
        try:
            return self._delivered.record(await self._bounded(step, self._idle_deadline_ns()))
        except StopAsyncIteration:
            call.succeeded(Streamed(self._delivered.last))
            raise
        except _StepTimeoutError:
            broken = self._broken(APITimeoutError(f"{self._plan.operation.name!r}: no item for {self._plan.idle_timeout:.3g} s"))
        except BaseException as error:
            if not isinstance(error, Exception) or error is thrown:
                call.abandon(GeneratorExit())
                raise
            broken = self._broken(error)
        try:
            raise broken
        finally:
            del broken

    def _broken(self, error: Exception) -> Exception:
        return self._call.stream_interrupted(error, self._delivered.count, tuple(self._delivered.last))

    def _idle_deadline_ns(self) -> int | None:
        timeout = self._plan.idle_timeout
        return None if timeout is None else self._plan.now() + int(timeout * 1e9)

    async def _bounded(self, step: Callable[[], Awaitable[Any]], until: int | None) -> Any:
        """One step of the stream, inside the call's context and not beyond `until` nanoseconds."""
        return await self._within(self._call.scope(), step, until)

    async def _within(self, scope: CallContext | None, step: Callable[[], Awaitable[Any]], until: int | None) -> Any:
        context = current_call.set(scope)
        self._call.enter_trials()
        limit = timeout_at(self._plan.clock, until)
        cut_off = False
        try:
            return await step()
        except CancelledError:
            cut_off = True
            raise
        finally:
            self._call.leave_trials()
            reset_context(current_call, context)
            if limit.finish() and cut_off:
                raise _StepTimeoutError


class _StepTimeoutError(Exception):
    """A step took longer than its limit."""
