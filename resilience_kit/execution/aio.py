"""Carries out calls of async functions on asyncio."""

from __future__ import annotations

import functools
from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

from resilience_kit._callable_kinds import DRIVABLE_TYPES, is_awaitable
from resilience_kit.context import current_call, reset_context
from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.execution import streams, waiting
from resilience_kit.execution.call import TIMED_OUT, Call
from resilience_kit.execution.first_attempt import FirstAttempt
from resilience_kit.execution.hedge import run_hedged
from resilience_kit.execution.plan import CallPlan, CallSite, Fallback
from resilience_kit.execution.rejection import LISTENER_CHECK_MASK, emit_fast_rejection, select_fallback
from resilience_kit.execution.scope import FallbackScope
from resilience_kit.execution.timeouts import scheduler_for, timeout_at
from resilience_kit.outcome import Verdict

P = ParamSpec("P")
R = TypeVar("R")


def protect(site: CallSite, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:  # noqa: C901, PLR0915 - see below
    """Wrap `function` with the plan of `site`. As in `sync.protect`, the fast path is inlined, with a deadline, too."""
    inside, enter, leave = current_call.get, current_call.set, current_call.reset

    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:  # noqa: C901, PLR0911, PLR0912, PLR0915 - a function more costs each call
        plan: Any = site.plan
        if not plan.fast_path:
            return await run(site.current(), function, args, kwargs)  # type: ignore[no-any-return]  # what the function gives
        token = plan.admission_breaker.snapshot
        if token.needs_admission:
            if inside() is not None:
                return await run(plan, function, args, kwargs)  # type: ignore[no-any-return]
            token = plan.admission_breaker.try_acquire(token)
            if type(token) is CircuitBreakerOpenError:
                if not plan.count_fast_rejection() & LISTENER_CHECK_MASK or plan.emits_rejections:
                    emit_fast_rejection(plan, token)
                try:
                    raise token
                finally:
                    del token
            if token.needs_admission:
                return await drive(Call.from_admission(plan, function, args, kwargs, token))  # type: ignore[no-any-return]
        elif inside() is not None:
            return await run(plan, function, args, kwargs)  # type: ignore[no-any-return]
        if plan.fast_with_deadline:
            scheduler = scheduler_for(plan.clock)
            first = FirstAttempt(plan, current_task(scheduler.loop))
            scheduler.pending[first] = True
            if first.due_ns < scheduler.armed_for:
                scheduler.arm(first.due_ns)
            context = enter(first)
            try:
                result = await (function(*args, **kwargs) if kwargs else function(*args))  # type: ignore[call-arg]  # cheaper
            except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
                failure, cut_off = error, scheduler.finish(first) and isinstance(error, CancelledError)
            else:
                if not scheduler.pending.pop(first, False):
                    first.uncancel()
                plan.metrics.last_success = ended = plan.now()
                sample = ended - first.started
                shift = (sample | 8).bit_length() - 4
                plan.latency_buckets[(shift << 3) + (sample >> shift)] += 1
                if token.tracks_success:
                    plan.report_success(token, sample)
                return result
            finally:
                first.ended = True
                try:  # noqa: SIM105 - as `reset_context`, which would cost a call
                    leave(context)
                except ValueError:
                    pass
            call = first.to_call(function, args, kwargs, token)
        else:
            started, cut_off = plan.now(), False
            try:
                result = await (function(*args, **kwargs) if kwargs else function(*args))  # type: ignore[call-arg]  # cheaper
            except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
                failure = error
            else:
                plan.metrics.last_success = ended = plan.now()
                sample = ended - started
                shift = (sample | 8).bit_length() - 4
                plan.latency_buckets[(shift << 3) + (sample >> shift)] += 1
                if token.tracks_success:
                    plan.report_success(token, sample)
                return result
            call = Call.from_first_attempt(plan, function, args, kwargs, token, started)
        try:
            return await (drive(call, call.timed_out(), TIMED_OUT) if cut_off else drive(call, failure))  # type: ignore[no-any-return]
        finally:
            del failure

    return functools.update_wrapper(wrapper, function)


async def run(plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call from its first admission on, and its fallback; both may be plain or async."""
    if plan.fallback is None:
        return await drive(Call(plan, function, args, kwargs))
    call = Call(plan, function, args, kwargs)
    return await _or_fallback(call, drive(call))


async def resume(call: Call, pause: float | None, error: Exception | None) -> Any:
    """Go on with a call whose first attempt has been judged: its further attempts after `pause`, or just its fallback."""
    return await _or_fallback(call, _remaining_attempts(call, pause, error))


async def _remaining_attempts(call: Call, pause: float | None, error: Exception | None) -> Any:
    try:
        if pause is None and error is not None:
            raise error
        await call.plan.clock.sleep_async(pause or 0.0)
    except BaseException as broken_off:
        call.abandon(broken_off)
        raise
    return await drive(call)


async def _or_fallback(call: Call, driven: Awaitable[Any]) -> Any:
    try:
        return await driven
    except Exception as error:
        fallback = select_fallback(call.plan, error)
        if fallback is None:
            raise
        answer = await _run_fallback(call, fallback, error)
    call.plan.operation.metrics.fallback_calls.add()
    return answer


async def _run_fallback(call: Call, fallback: Fallback, error: Exception) -> Any:
    """Return the fallback's result, computed inside the scope of the call and within the rest of its deadline."""
    scope = FallbackScope(call)
    context = current_call.set(scope)
    limit = timeout_at(call.plan.clock, scope.fallback_deadline_ns())
    cut_off = False
    try:
        answer = fallback(*call.args, **call.kwargs)
        return await answer if is_awaitable(answer) else answer
    except CancelledError:
        cut_off = True
        raise
    finally:
        scope.ended = True
        reset_context(current_call, context)
        if limit.finish() and cut_off:
            raise call.fallback_timed_out(error)


async def drive(call: Call, failure: BaseException | None = None, verdict: Verdict | None = None) -> Any:  # noqa: C901 - one loop
    """Run attempts and pauses until the call ends. `failure` is that of a first attempt made without the call."""
    sleep, context = call.plan.clock.sleep_async, current_call.set(call.context_for_callee(failure))
    hedging = call.plan.hedging
    try:
        while True:
            if failure is None:
                while pause := call.admit():
                    await waiting.wait_async(call, pause)
                if call.ended:
                    return call.last_result()
                call.begin()
                call.enter_trials()
                if call.attempts > 1:
                    current_call.set(call.scope())
                limit = timeout_at(call.plan.clock, call.attempt_deadline_ns())
                try:
                    returned = call.function(*call.args, **call.kwargs) if hedging is None else run_hedged(call, hedging)
                    awaited = type(returned) is CoroutineType or is_awaitable(returned)
                    result = await returned if awaited else returned
                except BaseException as error:  # noqa: BLE001 - the call's rules tell them apart
                    cut_off = limit.finish() and isinstance(error, CancelledError)
                    failure, verdict = (call.timed_out(), TIMED_OUT) if cut_off else (error, None)
                else:
                    limit.finish()
                    if not awaited and type(result) in DRIVABLE_TYPES:
                        call.discard()
                        return streams.drive_result(call.plan, call.function, call.args, call.kwargs, result)
                    next_pause = call.pause_after_result(result)
                    if next_pause is None:
                        call.succeeded(result)
                        return result
                    await sleep(next_pause)
                    continue
            next_pause = call.failed(failure, verdict)
            if next_pause is None:
                raise failure
            failure = None
            await sleep(next_pause)
    except BaseException as error:
        call.abandon(error)
        raise
    finally:
        call.leave_trials()
        reset_context(current_call, context)
        failure = None
