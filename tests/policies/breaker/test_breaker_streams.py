"""Generators and async generators: one outcome at their end, whichever end that is."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Generator

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.policies.breaker import CircuitState, FailureRateWindow


class Finder:
    """Two streams that answer what is sent, take some errors and fail on command; their ends are noted."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def plain(self, *_args: object) -> Generator[object, object, str]:
        said: object = "begun"
        try:
            while said != "end":
                try:
                    said = yield said
                except LookupError as error:
                    said = f"took {type(error).__name__}"
                if said == "fail":
                    raise ValueError
        finally:
            self.ends.append("plain")
        return "value"

    async def async_(self, *_args: object) -> AsyncGenerator[object, object]:
        said: object = "begun"
        try:
            while said != "end":
                await asyncio.sleep(0)
                try:
                    said = yield said
                except LookupError as error:
                    said = f"took {type(error).__name__}"
                if said == "fail":
                    raise ValueError
        finally:
            self.ends.append("async")


@pytest.fixture
def finder() -> Finder:
    """Streams."""
    return Finder()


def counts(breaker):
    """Successes, failures, trials under way."""
    metrics = breaker.metrics
    return metrics["success_count"], metrics["failure_count"], breaker.trials_in_flight


def test_a_generator_is_the_same_to_its_user(lab, finder):
    """What is sent and thrown reaches the stream, its items and its value come back; one success at the end (invariant 15)."""
    breaker = lab.breaker()
    find = breaker(finder.plain)
    assert inspect.isgeneratorfunction(find)
    assert "plain" == find.__name__
    stream = find()
    assert ["begun", "x", "took KeyError"] == [next(stream), stream.send("x"), stream.throw(KeyError())]
    assert (0, 0, 0) == counts(breaker)
    with pytest.raises(StopIteration) as end:
        stream.send("end")
    assert ("value", (1, 0, 0), ["plain"]) == (end.value.value, counts(breaker), finder.ends)


async def test_an_async_generator_is_the_same_to_its_user(lab, finder):
    """As for plain ones (invariant 15)."""
    breaker = lab.breaker()
    find = breaker(finder.async_)
    assert inspect.isasyncgenfunction(find)
    stream = find()
    assert ["begun", "x", "took KeyError"] == [await anext(stream), await stream.asend("x"), await stream.athrow(KeyError())]
    assert (0, 0, 0) == counts(breaker)
    with pytest.raises(StopAsyncIteration):
        await stream.asend("end")
    assert ((1, 0, 0), ["async"]) == (counts(breaker), finder.ends)


def test_a_failing_generator_counts_once(lab, finder):
    """An error in the stream is a failure, thrown in or raised; a finished stream says no more (invariant 15)."""
    breaker = lab.breaker(failure_threshold=9)
    stream = breaker.call_generator(finder.plain)
    next(stream)
    with pytest.raises(ValueError, match=r"^$"):
        stream.send("fail")
    stream.close()
    assert [] == list(stream)
    stream = breaker.call_generator(finder.plain)
    next(stream)
    with pytest.raises(lab.Boom):
        stream.throw(lab.Boom())
    assert ((0, 2, 0), ["plain", "plain"]) == (counts(breaker), finder.ends)


async def test_a_failing_async_generator_counts_once(lab, finder):
    """As for plain ones (invariant 15)."""
    breaker = lab.breaker(failure_threshold=9)
    stream = breaker.call_async_generator(finder.async_)
    await anext(stream)
    with pytest.raises(ValueError, match=r"^$"):
        await stream.asend("fail")
    await stream.aclose()
    assert [] == [item async for item in stream]
    stream = breaker.call_async_generator(finder.async_)
    await anext(stream)
    with pytest.raises(lab.Boom):
        await stream.athrow(lab.Boom())
    assert ((0, 2, 0), ["async", "async"]) == (counts(breaker), finder.ends)


@pytest.mark.parametrize("end", ["close", "drop", "throw"])
def test_a_generator_left_half_way_is_neutral(lab, finder, end):
    """Closed, dropped or broken off by the caller's own exit: nothing counted, the trial free (invariants 3, 15)."""
    breaker = lab.half_open()
    stream = breaker(finder.plain)()
    next(stream)
    assert 1 == breaker.trials_in_flight
    if end == "close":
        stream.close()
    elif end == "throw":
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt())
    del stream
    assert ((0, 2, 0), ["plain"], CircuitState.HALF_OPEN) == (counts(breaker), finder.ends, breaker.state)


@pytest.mark.parametrize("end", ["close", "drop", "throw"])
async def test_an_async_generator_left_half_way_is_neutral(lab, finder, end):
    """As for plain ones; a dropped stream is closed by the loop (invariants 3, 15)."""
    breaker = lab.half_open()
    stream = breaker(finder.async_)()
    await anext(stream)
    assert 1 == breaker.trials_in_flight
    if end == "close":
        await stream.aclose()
    elif end == "throw":
        with pytest.raises(asyncio.CancelledError):
            await stream.athrow(asyncio.CancelledError())
    del stream
    for _ in range(3):
        await asyncio.sleep(0)
    assert ((0, 2, 0), ["async"], CircuitState.HALF_OPEN) == (counts(breaker), finder.ends, breaker.state)


def test_a_stream_in_a_circle_is_found_by_the_collector(lab, finder):
    """An abandoned trial that only the garbage collector can reach gives its permit back (invariant 15)."""
    breaker = lab.half_open()
    circle = {"stream": breaker(finder.plain)()}
    next(circle["stream"])
    circle["self"] = circle
    del circle
    assert 1 == breaker.trials_in_flight
    gc.collect()
    assert (0, ["plain"]) == (breaker.trials_in_flight, finder.ends)


def test_streams_are_admitted_at_their_first_item(lab, finder):
    """Made while closed, begun while open: refused; made while open, begun when due: let in (invariants 15, 16)."""
    breaker = lab.breaker()
    find = breaker(finder.plain)
    early = find()
    lab.fail(breaker, 2)
    due = find()
    with pytest.raises(CircuitBreakerOpenError):
        next(early)
    assert ([], (0, 2, 0)) == (finder.ends, counts(breaker))
    lab.clock.now += 10
    assert "begun" == next(due)
    assert 1 == breaker.trials_in_flight
    due.close()


async def test_async_streams_are_admitted_at_their_first_item(lab, finder):
    """As for plain ones."""
    breaker = lab.breaker()
    find = breaker(finder.async_)
    early = find()
    lab.fail(breaker, 2)
    due = find()
    with pytest.raises(CircuitBreakerOpenError):
        await anext(early)
    assert ([], (0, 2, 0)) == (finder.ends, counts(breaker))
    lab.clock.now += 10
    assert "begun" == await anext(due)
    assert 1 == breaker.trials_in_flight
    await due.aclose()


def test_wrong_arguments_are_the_call_s_error(lab, finder):
    """A stream that cannot even be made fails at its first step, as a function would, and leaves nothing taken."""
    breaker = lab.half_open()
    stream = breaker(finder.plain)(wrong=1)
    with pytest.raises(TypeError):
        next(stream)
    assert (CircuitState.OPEN, 3) == (breaker.state, breaker.failure_count)


async def test_wrong_arguments_are_the_async_call_s_error(lab, finder):
    """As for plain ones."""
    breaker = lab.half_open()
    stream = breaker(finder.async_)(wrong=1)
    with pytest.raises(TypeError):
        await anext(stream)
    assert (CircuitState.OPEN, 3) == (breaker.state, breaker.failure_count)


async def test_fallbacks_answer_for_streams(lab, finder):
    """While open, a fallback's items come instead: of a generator, an iterable, an async generator or an async iterable."""

    async def spare(*args, **kwargs):
        yield args, kwargs

    class Spare:
        def __init__(self, *_, **__):
            self.left = [2, 1]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if self.left:
                return self.left.pop()
            raise StopAsyncIteration

    plain = lab.open(fallback_function=lambda *args, **kwargs: [(args, kwargs)])(finder.plain)
    assert [((7,), {"by": 8})] == list(plain(7, by=8))
    for fallback, items in ((spare, [((7,), {"by": 8})]), (Spare, [1, 2])):
        breaker = lab.open(fallback_function=fallback)
        assert items == [item async for item in breaker(finder.async_)(7, by=8)]
        assert (0, 2, 0) == counts(breaker)
    assert [] == finder.ends


async def test_a_fallback_stream_hears_what_is_sent(lab, finder):
    """It stands in for the other one in both directions."""
    plain = lab.open(fallback_function=finder.plain)(finder.plain)()
    assert ["begun", "hello"] == [next(plain), plain.send("hello")]
    stream = lab.open(fallback_function=finder.async_)(finder.async_)()
    assert ["begun", "hello"] == [await anext(stream), await stream.asend("hello")]
    await stream.aclose()


async def test_a_stream_is_slow_from_its_first_item_to_its_end(lab):
    """The time between its items counts, that before its first does not."""
    window = FailureRateWindow(2, slow_call_duration=1.0, slow_call_rate=0.5)

    def numbers():
        yield 1

    async def numbers_async():
        yield 1

    plain, async_ = lab.breaker(window=window), lab.breaker(window=window)
    for pause, closed in ((1.0, True), (1.001, False)):
        stream = plain.call_generator(numbers)
        lab.clock.now += 9.0
        next(stream)
        lab.clock.now += pause
        assert [] == list(stream)
        assert closed is plain.closed
    for pause, closed in ((1.0, True), (1.001, False)):
        stream = async_.call_async_generator(numbers_async)
        await anext(stream)
        lab.clock.now += pause
        assert [] == [item async for item in stream]
        assert closed is async_.closed


def test_only_decorated_streams_have_a_fallback(lab, finder):
    """`call_generator` raises, as `call` does."""
    breaker = lab.open(fallback_function=lambda: [1])
    with pytest.raises(CircuitBreakerOpenError):
        next(breaker.call_generator(finder.plain))
