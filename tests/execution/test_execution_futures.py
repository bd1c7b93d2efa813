"""A plain function that gives a finished future is judged when it gives it; the rest of the call is made when it is awaited."""

from __future__ import annotations

import asyncio

import pytest

from resilience_kit.errors import CircuitBreakerOpenError, InvalidRequestError, ServerError
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.retry import RetryConfig

PATHS = {"direct": {}, "timed": {"deadline": 60.0}, "long": {"deadline": 60.0, "idempotency_key": True}}
FACES = ("decorated", "call")


@pytest.fixture(params=PATHS)
def options(request):
    """The options of each of the drivers' paths."""
    return PATHS[request.param]


@pytest.fixture(params=FACES)
def protected(request, lab, options):
    """A plain function that gives futures with planned ends, behind the kit; and how often it was called."""

    def make(*ends, threshold=1000, fallback=None, **further):
        calls = []

        def function():
            end = ends[min(len(calls), len(ends) - 1)]
            calls.append(1)
            future = asyncio.get_running_loop().create_future()
            if isinstance(end, BaseException):
                future.set_exception(end)
            elif end is asyncio.CancelledError:
                future.cancel()
            else:
                future.set_result(end)
            return future

        config = lab.config(threshold, **{**options, **further})
        if request.param == "decorated":
            call = lab.kit.with_resilience("op", custom_config=config, fallback=fallback)(function)
        else:
            call = lambda: lab.kit.call_with_resilience(function, "op", custom_config=config, fallback=fallback)  # noqa: E731
        return call, calls

    return make


async def test_failing_futures_open_the_circuit_before_the_next_call(lab, protected):
    """Not after a turn of the loop, in which all of them would have passed."""
    call, calls = protected(ServerError("503"), threshold=1, retry=None)
    first, refused = call(), 0
    for _ in range(9):
        try:
            call()
        except CircuitBreakerOpenError:
            refused += 1
    assert (1, 9, CircuitState.OPEN) == (len(calls), refused, lab.kit.get_circuit_breaker("op").state)
    with pytest.raises(ServerError):
        await first
    assert {"total_calls": 10, "failed_calls": 1, "rejected_calls": 9} == lab.counted()


async def test_good_future_is_counted_when_it_is_given(lab, protected):
    """And comes as it is."""
    call, _ = protected("done")
    future = call()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()
    assert asyncio.isfuture(future)
    assert "done" == await future


async def test_cancelled_future_says_nothing(lab, protected):
    """About the service; its caller hears of it."""
    call, _ = protected(asyncio.CancelledError, threshold=1)
    future = call()
    with pytest.raises(asyncio.CancelledError):
        await future
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()
    assert lab.kit.get_circuit_breaker("op").closed


async def test_retries_of_a_finished_future_are_made_when_it_is_awaited(lab, protected):
    """After their pauses, which no plain call could sleep in a loop."""
    call, calls = protected(ServerError("a"), ServerError("b"), "done")
    given = call()
    assert (1, []) == (len(calls), lab.clock.sleeps)
    assert "done" == await given
    assert (3, [1.0, 2.0]) == (len(calls), lab.clock.sleeps)
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_retries_that_are_cancelled_leave_nothing(lab, protected):
    """Invariant 28."""
    call, _ = protected(ServerError("a"))
    lab.clock.auto = False
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ServerError)):
        await task


async def test_fallback_of_a_finished_future_is_asked_when_it_is_awaited(lab, protected):
    """For its own call's deadline and key; not for a caller's mistake."""
    call, _ = protected(ServerError("a"), retry=None, fallback=lambda: "instead")
    assert "instead" == await call()
    assert {"total_calls": 1, "failed_calls": 1, "fallback_calls": 1} == lab.counted()
    call, _ = protected(InvalidRequestError("a"), retry=None, fallback=lambda: "instead")
    with pytest.raises(InvalidRequestError):
        await call()


async def test_result_of_a_finished_future_may_mean_try_again(lab, protected):
    """As any other result."""
    call, calls = protected("empty", "full", retry=RetryConfig(jitter=None, retry_on_result=lambda value: value == "empty"))
    assert "full" == await call()
    assert 2 == len(calls)


async def test_future_that_is_executed_is_judged_at_once(lab, options):
    """`execute_with_resilience` awaits it anyway."""

    def fail():
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ServerError("503"))
        return future

    config = lab.config(1, retry=None, **options)
    ends = await asyncio.gather(
        *(lab.kit.execute_with_resilience(fail, "op", custom_config=config) for _ in range(10)), return_exceptions=True
    )
    assert [ServerError] + [CircuitBreakerOpenError] * 9 == [type(end) for end in ends]
