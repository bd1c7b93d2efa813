"""Carries out calls of plain functions."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

from resilience_kit._callable_kinds import VALUE_TYPES, is_awaitable, is_done, needs_driving
from resilience_kit.context import current_call
from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.execution import aio, streams, waiting
from resilience_kit.execution.call import Call
from resilience_kit.execution.first_attempt import FirstAttempt
from resilience_kit.execution.hedge import hedging_not_supported
from resilience_kit.execution.plan import CallPlan, CallSite
from resilience_kit.execution.rejection import LISTENER_CHECK_MASK, emit_fast_rejection, select_fallback
from resilience_kit.execution.scope import FallbackScope
from resilience_kit.policies.breaker.states import Token

P = ParamSpec("P")
R = TypeVar("R")


def protect(site: CallSite, function: Callable[P, R]) -> Callable[P, R]:  # noqa: C901 - see below
    """Wrap `function` under the plan of `site`.

    What costs is here in place: a first attempt that goes well reads the clock twice and takes no lock.
    """
    inside = current_call.get
    usual: type = type(None)  # what a result was of last, so that most are looked at no further

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:  # noqa: C901, PLR0911, PLR0912 - a function more costs each call
        nonlocal usual
        plan: Any = site.plan
        if not plan.fast_path:
            return run(site.current(), function, args, kwargs)  # type: ignore[no-any-return]  # what the function gives
        token = plan.admission_breaker.snapshot
        if token.needs_admission:
            if inside() is not None:
                return run(plan, function, args, kwargs)  # type: ignore[no-any-return]
            token = plan.admission_breaker.try_acquire(token)
            if type(token) is CircuitBreakerOpenError:
                if not plan.count_fast_rejection() & LISTENER_CHECK_MASK or plan.emits_rejections:
                    emit_fast_rejection(plan, token)
                try:
                    raise token
                finally:
                    del token
            if token.needs_admission:
                return drive(Call.from_admission(plan, function, args, kwargs, token))  # type: ignore[no-any-return]
        elif inside() is not None:
            return run(plan, function, args, kwargs)  # type: ignore[no-any-return]
        if plan.fast_with_deadline:
            return run_fast_with_deadline(plan, function, args, kwargs, token)  # type: ignore[no-any-return]
        started = plan.now()
        try:
            result = function(*args, **kwargs) if kwargs else function(*args)  # type: ignore[call-arg]  # cheaper
        except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
            failure = error
        else:
            if type(result) is not usual:
                if needs_driving(result):
                    if is_done(result):
                        return settle_done_future(Call.from_first_attempt(plan, function, args, kwargs, token, started), result)  # type: ignore[no-any-return]
                    plan.admission_breaker.release(token)
                    return drive_result(plan, function, args, kwargs, result)  # type: ignore[no-any-return]  # the same kind of thing
                usual = type(result)
            plan.metrics.last_success = ended = plan.now()
            sample = ended - started
            shift = (sample | 8).bit_length() - 4
            plan.latency_buckets[(shift << 3) + (sample >> shift)] += 1
            if token.tracks_success:
                plan.report_success(token, sample)
            return result
        try:
            return drive(Call.from_first_attempt(plan, function, args, kwargs, token, started), failure)  # type: ignore[no-any-return]
        finally:
            del failure

    return functools.update_wrapper(wrapper, function)


def run_fast(plan: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], token: Token) -> Any:
    """Run an admitted call without a `Call` object, for callers that ask the breaker themselves; `protect` inlines the same."""
    started = plan.now()
    try:
        result = function(*args, **kwargs) if kwargs else function(*args)
    except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
        failure = error
    else:
        if type(result) not in VALUE_TYPES and needs_driving(result):
            if is_done(result):
                return settle_done_future(Call.from_first_attempt(plan, function, args, kwargs, token, started), result)
            plan.admission_breaker.release(token)
            return drive_result(plan, function, args, kwargs, result)
        plan.metrics.last_success = ended = plan.now()
        plan.metrics.succeeded(ended - started)
        if token.tracks_success:
            plan.report_success(token, ended - started)
        return result
    try:
        return drive(Call.from_first_attempt(plan, function, args, kwargs, token, started), failure)
    finally:
        del failure


def run_fast_with_deadline(
    plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], token: Token
) -> Any:
    """Run a call with a deadline and no context; a plain function may query the deadline and cannot be cut off."""
    first = FirstAttempt(plan)
    context = current_call.set(first)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
        failure = error
    else:
        if type(result) not in VALUE_TYPES and needs_driving(result):
            if is_done(result):
                return settle_done_future(first.to_call(function, args, kwargs, token), result)
            plan.admission_breaker.release(token)
            return drive_result(plan, function, args, kwargs, result)
        plan.metrics.last_success = ended = plan.now()
        plan.metrics.succeeded(ended - first.started)
        if token.tracks_success:
            plan.report_success(token, ended - first.started)
        return result
    finally:
        first.ended = True
        current_call.reset(context)
    try:
        return drive(first.to_call(function, args, kwargs, token), failure)
    finally:
        del failure


def run(plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call from its first admission on, and its fallback."""
    if plan.hedging is not None:
        raise hedging_not_supported(plan.operation.name)
    if plan.fallback is None:
        return drive(Call(plan, function, args, kwargs))
    call = Call(plan, function, args, kwargs)
    try:
        return drive(call)
    except Exception as error:
        fallback = select_fallback(plan, error)
        if fallback is None:
            raise
        scope = FallbackScope(call)
        context = current_call.set(scope)
        try:
            answer = fallback(*args, **kwargs)
        finally:
            scope.ended = True
            current_call.reset(context)
    plan.operation.metrics.fallback_calls.add()
    return answer


def drive(call: Call, failure: BaseException | None = None) -> Any:  # noqa: C901, PLR0912 - one loop
    """Run attempts and pauses until the call ends. `failure` is that of a first attempt made without the call."""
    sleep, context = call.plan.clock.sleep, current_call.set(call.context_for_callee(failure))
    try:
        while True:
            if failure is None:
                while pause := call.admit():
                    waiting.wait(call, pause)
                if call.ended:
                    return call.last_result()
                call.begin()
                call.enter_trials()
                if call.attempts > 1:
                    current_call.set(call.scope())
                try:
                    result = call.function(*call.args, **call.kwargs)
                except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
                    failure = error
                else:
                    if type(result) not in VALUE_TYPES and needs_driving(result):
                        if is_done(result):
                            return settle_done_future(call, result)
                        call.discard()
                        return drive_result(call.plan, call.function, call.args, call.kwargs, result)
                    next_pause = call.pause_after_result(result)
                    if next_pause is None:
                        call.succeeded(result)
                        return result
                    sleep(next_pause)
                    continue
            next_pause = call.failed(failure)
            if next_pause is None:
                raise failure
            failure = None
            sleep(next_pause)
    except BaseException as error:
        call.abandon(error)
        raise
    finally:
        call.leave_trials()
        current_call.reset(context)
        failure = None


def settle_done_future(call: Call, future: asyncio.Future[Any]) -> Any:
    """Settle the attempt of a plain function that returned a finished future now, not when it is awaited.

    Gives the future itself, or what makes the further attempts or asks the fallback when it is awaited.
    """
    error = asyncio.CancelledError() if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, Exception):
        call.abandon(error)
        return future
    if error is None:
        pause = call.pause_after_result(future.result())
        if pause is None:
            call.succeeded(future.result())
            return future
    else:
        call.context_for_callee(error)
        pause = call.failed(error)
        if pause is None and call.plan.fallback is None:
            return future
    return aio.resume(call, pause, error)


def drive_result(plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Wrap a result of a plain function whose work is still to be done: a generator of the same kind, or a coroutine."""
    if is_awaitable(result):
        return _awaited(plan, function, args, kwargs, result)
    return streams.drive_result(plan, function, args, kwargs, result)


async def _awaited(
    plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Any:
    try:
        return await aio.run(plan, streams.with_first_result(result, function), args, kwargs)
    finally:
        if type(result) is CoroutineType:
            result.close()  # has an effect only if it was refused and never begun
