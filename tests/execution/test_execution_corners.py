"""What a single line of the drivers decides, each at its edge."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import traceback
from typing import ClassVar

import pytest

from resilience_kit import idempotency_key, remaining_time
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.config.call_options import CallOptions
from resilience_kit.errors import (
    APIConnectionError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
    InvalidRequestError,
    ServerError,
    StreamInterruptedError,
)
from resilience_kit.events import CallFailed, CallSucceeded, FallbackUsed, NestedRetry
from resilience_kit.execution.plan import CallSite
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from resilience_kit.testing import FakeClock

#: Options of a call site that send its calls different ways.
SITES = {
    "direct": {},
    "timed": {"deadline": 600.0},
    "long": {"idempotency_key": True},
    "long and timed": {"idempotency_key": True, "deadline": 600.0},
}
#: Options of a call site, and whether its calls are direct or timed.
SHORT = [
    ({}, (True, False)),
    ({"breaker": None}, (True, False)),
    ({"retry_budget": RetryBudgetConfig()}, (True, False)),
    ({"deadline": 5.0}, (False, True)),
    ({"breaker": None, "retry_budget": RetryBudgetConfig()}, (False, False)),
    ({"attempt_timeout": 5.0}, (False, True)),
    ({"deadline": 9.0, "attempt_timeout": 5.0}, (False, True)),
    ({"idempotency_key": True}, (False, False)),
    ({"circuit_open": "wait"}, (False, False)),
]


@pytest.fixture(params=SITES)
def site(request):
    """Options that decide which way a call goes."""
    return SITES[request.param]


@pytest.mark.parametrize(("options", "expected"), SHORT)
def test_what_takes_the_short_ways(lab, options, expected):
    """A site that asks for no more than breaker, retries, metrics and a limit of time; until somebody listens to successes."""
    request = CallOptions(custom_config=lab.config(**options))
    plan = lab.kit.make_plan("op", request)
    assert (*expected, any(expected)) == (plan.fast_without_deadline, plan.fast_with_deadline, plan.fast_path)
    lab.listen(CallSucceeded)
    plan = lab.kit.make_plan("op", request)
    assert (False, False, False) == (plan.fast_without_deadline, plan.fast_with_deadline, plan.fast_path)


def test_a_guard_or_a_fallback_takes_the_long_way(lab):
    """Both are for a call that is set up."""
    assert not lab.kit.make_plan("op", CallOptions(custom_config=lab.config(guards=(lab.Guard(),)))).fast_path
    assert not lab.kit.make_plan("op", CallOptions(custom_config=lab.config(), fallback=print)).fast_path


def test_a_site_makes_its_plan_once(lab):
    """Until it is told to forget it."""
    site = CallSite(lambda: lab.kit.make_plan("op", CallOptions()))
    plan = site.current()
    assert plan is site.current()
    site.invalidate()
    assert plan is not site.current()


# --- what goes in and what comes out ---


async def test_a_result_of_any_class_is_handed_on(lab, way, site):
    """It is the function's own."""
    result = object()
    assert result is await lab.call(way, lambda: result, config=lab.config(**site))


@pytest.mark.parametrize("way", ["sync", "async", "generator", "async generator", "call", "execute"])
async def test_a_fallback_gets_all_arguments_and_is_told(lab, way, steps):
    """By position and by name, with the error's class."""
    lab.listen(FallbackUsed)
    shape, by = lab.WAYS[way]
    seen = []

    def instead(*args, **kwargs):
        seen.append((args, kwargs))
        return "instead"

    function, options = shape(steps(ServerError)), {"custom_config": lab.config(retry=None), "fallback": shape(instead)}
    if by == "decorated":
        given = lab.kit.with_resilience("op", **options)(function)(1, 2, three=3)
    elif by == "call":
        given = lab.kit.call_with_resilience(function, "op", 1, 2, three=3, **options)
    else:
        given = await lab.kit.execute_with_resilience(function, "op", 1, 2, three=3, **options)
    assert "instead" == await lab.finished(given)
    assert ([((1, 2), {"three": 3})], ["ServerError"]) == (seen, [event.error_type for event in lab.events])


async def test_a_wrong_request_is_told_and_not_answered(lab, kind):
    """A fallback would hide the caller's mistake."""

    def wrong():
        raise InvalidRequestError("no such parameter")

    fallback = lab.shapes[kind](lambda: "instead")
    with pytest.raises(InvalidRequestError):
        await lab.call(kind, wrong, fallback=fallback)


async def test_a_hook_sees_the_functions_own_name(lab, way):
    """Also where it has been called once already."""
    names = []

    def attempt():
        if not names:
            raise ServerError
        return "done"

    retry = RetryConfig(jitter=None, before_sleep=lambda state: names.append(state.fn.__name__))
    await lab.call(way, attempt, config=lab.config(retry=retry))
    assert [lab.WAYS[way][0](attempt).__name__] == names


async def test_a_hook_sees_when_the_call_began(lab, way, steps):
    """As tenacity tells it, in the state and in the statistics."""
    seen = []

    def look(state):
        seen.append(state.retry_object.statistics["start_time"] - state.start_time)

    await lab.call(way, steps(ServerError, "done"), config=lab.config(retry=RetryConfig(jitter=None, before_sleep=look)))
    assert [0.0] == seen


# --- trials ---


async def test_a_trial_closes_or_opens_the_circuit_on_every_way(lab, way, site, steps):
    """Whatever the call site asks for."""
    breaker = lab.kit.get_circuit_breaker("op")
    breaker.state = CircuitState.HALF_OPEN
    await lab.call(way, steps("done"), config=lab.config(**site))
    assert (CircuitState.CLOSED, 0) == (breaker.state, breaker.trials_in_flight)
    breaker.state = CircuitState.HALF_OPEN
    with pytest.raises(ServerError):
        await lab.call(way, steps(ServerError), config=lab.config(1, **site))
    assert CircuitState.OPEN is breaker.state


# --- time ---


async def test_the_context_of_a_call_that_is_over_sets_no_limit(lab, way, steps):
    """Whoever has copied it inside: after a success and after a failure."""
    contexts = []

    def attempt(end):
        contexts.append(contextvars.copy_context())
        return end()

    for options in (SITES["timed"], SITES["long and timed"]):
        for end in (steps("done"), steps(ServerError)):
            with contextlib.suppress(ServerError):
                await lab.call(way, attempt, end, config=lab.config(retry=None, **options))
    assert [None] * 4 == [context.run(remaining_time) for context in contexts]


@pytest.mark.parametrize("give", ["coroutine", "generator"])
@pytest.mark.parametrize("options", [SITES["timed"], SITES["long and timed"]])
async def test_the_context_of_a_call_that_was_handed_over_sets_no_limit(lab, give, options):
    """A plain function that gives something whose work is still to be done."""
    contexts = []

    async def work():
        return "done"

    def items():
        yield "done"

    def begin():
        contexts.append(contextvars.copy_context())
        return work() if give == "coroutine" else items()

    assert "done" == await lab.finished(lab.kit.with_resilience("op", custom_config=lab.config(**options))(begin)())
    assert None is contexts[0].run(remaining_time)


async def test_the_nearest_deadline_is_told(lab, way):
    """The call's own inside a longer one around it."""
    seen = []

    async def outer():
        await lab.call(way, lambda: seen.append(remaining_time()), operation="inner", config=lab.config(deadline=3.0))

    await lab.kit.with_resilience("outer", custom_config=lab.config(deadline=9.0))(outer)()
    assert [3.0] == seen


async def test_a_retry_fits_in_the_last_second(lab, way, steps):
    """The time is over when it is over."""
    attempt = steps(ServerError, ServerError, "done")
    config = lab.config(deadline=0.5, retry=RetryConfig(base_delay=0.125, jitter=None))
    assert "done" == await lab.call(way, attempt, config=config)


@pytest.mark.parametrize("way", ["async", "async generator", "execute"])
async def test_a_cut_at_the_deadline_is_told_with_its_reason(lab, way):
    """And whatever the classifier says of such an error, time was over."""
    lab.listen(CallFailed)

    async def hang():
        await lab.clock.sleep_async(1000.0)

    async def stream():
        yield await hang()

    function, config = (stream if "generator" in way else hang), lab.config(deadline=5.0)
    for options in ({}, {"guards": (lab.Guard(),)}):
        with pytest.raises(DeadlineExceededError):
            if way == "execute":
                await lab.kit.execute_with_resilience(function, "op", custom_config=config.replace(**options))
            else:
                await lab.finished(lab.kit.with_resilience("op", custom_config=config.replace(**options))(function)())
    assert ["its time is over"] * 2 == [event.reason for event in lab.events]


@pytest.mark.parametrize("options", [{"deadline": 5.0}, {"attempt_timeout": 5.0}])
async def test_a_result_at_the_moment_of_the_cut_is_a_result(lab, options):
    """The attempt moves the time itself and ends before the cut gets its turn; nothing is cancelled later."""
    broken = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))

    async def answer():
        lab.clock.advance(50.0)
        return "done"

    assert "done" == await lab.kit.with_resilience("op", custom_config=lab.config(**options))(answer)()
    for _ in range(3):
        await asyncio.sleep(0)
    assert ([], 0) == (broken, asyncio.current_task().cancelling())


# --- what is left ---


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_refusal_that_keeps_its_traceback_is_in_no_circle(lab, kind, steps, collected):
    """The frames that it passed do not hold it."""
    find = lab.kit.with_resilience("op", custom_config=lab.config())(lab.shapes[kind](steps("done")))
    lab.kit.get_circuit_breaker("op").force_open("maintenance")

    async def refused():
        with contextlib.suppress(CircuitBreakerOpenError):
            await lab.finished(find())

    assert 0 == await collected(refused)


@pytest.mark.parametrize("give", ["coroutine", "generator"])
async def test_a_call_that_was_handed_over_is_in_no_circle(lab, give, collected):
    """Its first attempt failed, the second one gave something whose work is still to be done."""
    calls = []

    async def work():
        return "done"

    def items():
        yield "done"

    def begin():
        calls.append(1)
        if len(calls) % 2:
            raise ServerError
        return work() if give == "coroutine" else items()

    function = lab.kit.with_resilience("op", custom_config=lab.config())(begin)
    assert 0 == await collected(lambda: lab.finished(function()))


@pytest.fixture
def collected():
    """How many objects wait for the collector after a call."""
    import gc

    async def count(call):
        await call()  # fills caches
        gc.collect()
        gc.disable()
        try:
            await call()
            return gc.collect()
        finally:
            gc.enable()

    return count


async def test_an_instance_that_comes_again_shows_its_last_attempt(lab, kind):
    """With the function's own frames, each once."""
    single = ServerError("the same")

    def connect():
        raise single

    def attempt():
        connect()

    with pytest.raises(ServerError):
        await lab.call(kind, attempt)
    frames = [frame.name for frame in traceback.extract_tb(single.__traceback__)]
    assert (1, 1, "connect") == (frames.count("attempt"), frames.count("connect"), frames[-1])


# --- guards and the breaker hear of failures ---


async def test_a_failed_attempts_outcome_has_its_duration(lab, direct):
    """In seconds, of the attempt alone."""
    guard = lab.Guard("probe", 3.0)

    def attempt():
        lab.clock.advance(0.5)
        raise ServerError

    with pytest.raises(ServerError):
        await lab.call(direct, attempt, config=lab.config(retry=None, guards=(guard,)))
    [outcome] = guard.permits[0].outcomes
    assert 0.5 == outcome.duration


@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_broken_streams_own_error_is_heard_of(lab, kind):
    """By breaker and guards; the listener gets the reason."""
    lab.listen(CallFailed)
    guard = lab.Guard()

    def source():
        yield 1
        raise ServerError

    async def source_async():
        yield 1
        raise ServerError

    protect = lab.kit.with_resilience("op", custom_config=lab.config(guards=(guard,)))
    with pytest.raises(StreamInterruptedError):
        await lab.finished(protect(source if kind == "generator" else source_async)())
    [outcome], [event] = guard.permits[0].outcomes, lab.events
    assert (ServerError, ServerError, "a stream that has begun is not repeated") == (
        type(outcome.error), type(lab.kit.get_circuit_breaker("op").last_failure), event.reason,
    )  # fmt: skip


async def test_a_hooks_error_is_told_by_its_kind(lab, way, steps):
    """It is the call's last word."""
    lab.listen(CallFailed)

    def breaking(_):
        raise TimeoutError("no hook")

    retry = RetryConfig(jitter=None, before_sleep=breaking)
    with pytest.raises(TimeoutError):
        await lab.call(way, steps(ServerError), config=lab.config(retry=retry))
    assert [("timeout", "it was broken off between attempts")] == [(event.kind, event.reason) for event in lab.events]


async def test_time_that_is_over_is_told(lab, direct):
    """Before the classifier's retry is thought of."""
    lab.listen(CallFailed)

    def attempt():
        lab.clock.advance(50.0)
        raise ServerError

    with contextlib.suppress(ServerError, DeadlineExceededError):
        await lab.call(direct, attempt, config=lab.config(deadline=5.0))
    assert ["its time is over"] == [event.reason for event in lab.events]


# --- layers ---


async def test_what_was_surely_not_sent_may_be_repeated_from_outside(lab, direct, steps):
    """The inner operation is not idempotent, and its request has not left (invariant 30)."""
    attempt = steps(ConnectionRefusedError, ConnectionRefusedError, "done")
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(retry=None, idempotent=False))(attempt)
    assert "done" == await lab.call(direct, inner, operation="outer")


def test_an_error_without_a_mark_is_retried_at_the_beginning_of_time(steps):
    """What no mark says is before any attempt, also before one at 0."""
    kit = AIServiceResilience(ResilienceSettings(), clock=FakeClock())
    attempt = steps(ServerError, "done")
    assert "done" == kit.with_resilience("op", custom_config=ResilienceConfig(retry=RetryConfig(base_delay=0)))(attempt)()


async def test_a_remedy_is_told(lab, steps):
    """For an operation below and for a client below."""
    lab.listen(NestedRetry)

    class OneRetry:
        headers: ClassVar = {"x-stainless-retry-count": "1"}

    error = APIConnectionError("down")
    error.request = OneRetry()
    inner = lab.kit.with_resilience("inner", custom_config=lab.config())(steps(ServerError))
    for function in (inner, steps(error)):
        with pytest.raises((ServerError, APIConnectionError)):
            await lab.call("sync", function)
    assert [
        ("operation 'inner'", "let only one of the two retry: give the other one retry=None"),
        ("the SDK's client", "build the client with max_retries=0 and leave retrying to this operation"),
    ] == [(event.inner, event.remedy) for event in lab.events]


async def test_one_error_for_two_streams_is_no_nested_retry(lab):
    """Both wait for the same connection; the one that gives up first says nothing about the other (invariant 31)."""
    lab.listen(NestedRetry)
    shared = asyncio.get_running_loop().create_future()
    attempts = {"first": 0, "second": 0}

    @lab.kit.with_resilience("op", custom_config=lab.config(retry=RetryConfig(max_attempts=2, base_delay=0)))
    async def stream(who):
        attempts[who] += 1
        if (who, attempts[who]) == ("first", 1):
            raise ServerError
        await asyncio.shield(shared)
        yield

    async def read(who):
        async for _ in stream(who):
            pass

    readers = [asyncio.ensure_future(read(who)) for who in attempts]
    for _ in range(5):
        await asyncio.sleep(0)
    shared.set_exception(ServerError("shared"))
    await asyncio.gather(*readers, return_exceptions=True)
    assert ({"first": 2, "second": 2}, []) == (attempts, lab.events)


# --- streams ---


async def test_an_error_thrown_in_is_answered_inside_the_call(lab):
    """The stream sees the key that it saw before."""

    def source():
        keys = [idempotency_key()]
        try:
            yield
        except KeyError:
            keys.append(idempotency_key())
        yield keys

    items = lab.kit.with_resilience("op", custom_config=lab.config(idempotency_key=True))(source)()
    next(items)
    one, other = items.throw(KeyError())
    assert (True, one) == (one is not None, other)


async def test_a_stream_that_somebody_else_holds_is_closed(lab):
    """As soon as its consumer leaves."""
    held, closed = [], []

    def source():
        try:
            yield 1
        finally:
            closed.append(True)

    def give():
        held.append(source())
        return held[0]

    items = lab.kit.with_resilience("op", custom_config=lab.config())(give)()
    next(items)
    items.close()
    assert [True] == closed


async def test_an_error_answered_with_another_one_breaks_an_async_stream(lab):
    """It is the stream's own then."""

    async def source():
        try:
            yield 1
        except KeyError:
            raise ServerError from None

    stream = lab.kit.with_resilience("op", custom_config=lab.config())(source)()
    await anext(stream)
    with pytest.raises(StreamInterruptedError):
        await stream.athrow(KeyError())
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_fallback_that_ends_at_an_error_thrown_in_is_no_success(lab, kind):
    """The call has failed before it was asked."""

    def failing():
        raise ServerError
        yield

    def other():
        with contextlib.suppress(KeyError):
            yield "instead"

    async def failing_async():
        raise ServerError
        yield

    async def other_async():
        with contextlib.suppress(KeyError):
            yield "instead"

    if kind == "generator":
        items = lab.kit.with_resilience("op", custom_config=lab.config(retry=None), fallback=other)(failing)()
        next(items)
        with pytest.raises(StopIteration):
            items.throw(KeyError())
    else:
        stream = lab.kit.with_resilience("op", custom_config=lab.config(retry=None), fallback=other_async)(failing_async)()
        await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await stream.athrow(KeyError())
    assert {"total_calls": 1, "failed_calls": 1, "fallback_calls": 1} == lab.counted()


async def test_an_empty_stream_has_no_need_of_its_fallback(lab):
    """It has ended well."""

    async def source():
        return
        yield

    async def other():
        yield "instead"

    stream = lab.kit.with_resilience("op", custom_config=lab.config(), fallback=other)(source)()
    assert [] == [item async for item in stream]
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()


async def test_an_item_that_comes_despite_its_cut_has_come(lab):
    """A result is a result."""

    async def source():
        yield 1
        with contextlib.suppress(asyncio.CancelledError):
            await lab.clock.sleep_async(1000.0)
        yield 2

    stream = lab.kit.with_resilience("op", custom_config=lab.config(idle_timeout=5.0))(source)()
    assert [1, 2] == [item async for item in stream]
    assert 0 == asyncio.current_task().cancelling()
