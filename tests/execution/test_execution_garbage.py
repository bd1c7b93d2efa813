"""What a call leaves to the garbage collector: nothing. What it keeps alive: nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from resilience_kit.errors import AuthenticationError, ServerError, TransientAIError
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.retry import RetryConfig


class Local:
    """Something in a caller's frame."""


def quick(lab, **options):
    """Three attempts without pauses."""
    return lab.config(10**9, retry=RetryConfig(max_attempts=3, base_delay=0), **options)


ENDS = {
    "success": (["done"], {}),
    "failure": ([ServerError], {}),
    "retried success": ([ServerError, "done"], {}),
    "final error": ([AuthenticationError], {}),
    "no retries": ([ServerError], {"retry": None}),
    "deadline during pauses": ([ServerError], {"deadline": 1e-9}),
    "cancelled": ([asyncio.CancelledError], {}),
    "cancelled later": ([ServerError, asyncio.CancelledError], {}),
    "with guards": ([ServerError, "done"], {"guards": True}),
    "with a deadline": ([ServerError, "done"], {"deadline": 50.0}),
    "failed with a deadline": ([ServerError], {"deadline": 50.0}),
    "broken hook": ([ServerError], {"retry": RetryConfig(after=lambda state: 1 / 0)}),
    "waiting": ([ServerError, "done"], {"circuit_open": "wait"}),
}


@pytest.fixture(scope="module", autouse=True)
def no_collector():
    """Whatever is left in a circle stays to be found."""
    gc.collect()
    gc.freeze()  # what was there before need not be looked at
    gc.disable()
    yield
    gc.enable()


async def left_by(call):
    """How many objects wait for the collector after `call`."""
    for again in (True, False):  # the first one fills caches
        try:
            await call()
        except BaseException as error:
            error.__traceback__ = None
        for _ in range(4):
            await asyncio.sleep(0)
        if again:
            gc.collect()
    return gc.collect()


@pytest.mark.parametrize("end", ENDS)
async def test_no_end_of_a_call_leaves_circles(lab, way, steps, end):
    """Errors, frames and calls let go of each other, however it ends."""
    planned, options = ENDS[end]
    if "guards" in options:
        options = {"guards": (lab.Guard(),)}
    config = quick(lab).replace(**options)
    assert 0 == await left_by(lambda: lab.call(way, steps(*planned), config=config))


async def test_a_refusal_leaves_no_circles(lab, way, steps):
    """At the gate and behind it."""
    lab.kit.get_circuit_breaker("op").force_open("test")
    for options in ({}, {"guards": (lab.Guard(),)}, {"deadline": 5.0}):
        assert 0 == await left_by(lambda options=options: lab.call(way, steps("done"), config=quick(lab, **options)))


async def test_a_circuit_that_opens_in_between_leaves_no_circles(lab, kind, steps):
    """The real error is raised instead of the refusal."""

    def attempt():
        lab.kit.get_circuit_breaker("op").force_open("test")
        raise ServerError

    async def call():
        lab.kit.get_circuit_breaker("op").reset()
        await lab.call(kind, attempt, config=quick(lab))

    assert 0 == await left_by(call)


@pytest.mark.parametrize("options", [{"deadline": 3.0}, {"attempt_timeout": 1.0}, {"deadline": 3.0, "attempt_timeout": 2.0}])
async def test_a_time_out_leaves_no_circles(lab, options):
    """With the cancellation that it is made of."""
    protected = lab.kit.with_resilience("op", custom_config=quick(lab, **options))(lab.clock.sleep_async)
    assert 0 == await left_by(lambda: protected(1000.0))


async def test_a_fallback_leaves_no_circles(lab, kind, steps):
    """Neither when it answers nor when it fails."""
    shape = lab.shapes[kind]
    for answer in (["instead"], [KeyError]):
        fallback = shape(steps(*answer))
        assert 0 == await left_by(
            lambda fallback=fallback: lab.call(kind, steps(ServerError), fallback=fallback, config=quick(lab))
        )


async def test_a_plain_stream_leaves_no_circles(lab):
    """Broken, thrown into, left, and read to its end."""

    def source(end):
        yield 1
        if end is not None:
            raise end

    protected = lab.kit.with_resilience("op", custom_config=quick(lab))(source)

    async def thrown():
        items = protected(None)
        next(items)
        items.throw(KeyError())

    async def left():
        items = protected(None)
        next(items)
        items.close()

    async def read(end=None):
        list(protected(end))

    for way in (thrown, left, read, lambda: read(ServerError), lambda: read(KeyboardInterrupt)):
        assert 0 == await left_by(way)


async def test_an_async_stream_leaves_no_circles(lab):
    """Broken, silent, left, and read to its end."""

    async def source(end):
        yield 1
        await lab.clock.sleep_async(0.1)
        if end is Local:
            await lab.clock.sleep_async(1000.0)
        if end is not None:
            raise end

    protected = lab.kit.with_resilience("op", custom_config=quick(lab, idle_timeout=5.0))(source)

    async def left():
        items = protected(None)
        await anext(items)
        await items.aclose()

    async def read(end=None):
        async for _ in protected(end):
            pass

    for way in (left, read, lambda: read(ServerError), lambda: read(asyncio.CancelledError), lambda: read(Local)):
        assert 0 == await left_by(way)


async def test_results_and_arguments_are_not_kept(lab, way):
    """Nor errors and the frames that they passed."""
    results, arguments, frames = [], [], []

    def attempt(argument):
        result, local = Local(), Local()
        results.append(weakref.ref(result))
        frames.append(weakref.ref(local))
        if len(frames) == 1:
            raise TransientAIError
        return result

    argument = Local()
    arguments.append(weakref.ref(argument))
    await lab.call(way, attempt, argument, config=quick(lab))
    del argument
    for _ in range(3):
        await asyncio.sleep(0)
    assert [None] * 5 == [ref() for ref in (*results, *arguments, *frames)]


async def test_the_breaker_of_a_failing_operation_keeps_no_frame(lab, way):
    """It knows its last failure by a copy."""
    frames = []

    def attempt():
        local = Local()
        frames.append(weakref.ref(local))
        raise ServerError

    try:
        await lab.call(way, attempt, config=lab.config(threshold=2))
    except ServerError as error:
        error.__traceback__ = None
    for _ in range(3):
        await asyncio.sleep(0)
    assert CircuitState.OPEN is lab.kit.get_circuit_breaker("op").state
    assert [None, None] == [ref() for ref in frames]
