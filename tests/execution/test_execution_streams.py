"""Streams: retried before the first item only, one outcome each, and what a consumer sends or throws reaches the source."""

from __future__ import annotations

import asyncio
import gc

import pytest

from resilience_kit import remaining_time
from resilience_kit.errors import (
    APITimeoutError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
    ServerError,
    StreamInterruptedError,
)
from resilience_kit.events import CallCancelled, CallFailed, CallSucceeded
from resilience_kit.outcome import FailureKind
from resilience_kit.policies.breaker import CircuitState


class Stream:
    """A consumer's view of a generator of either kind."""

    def __init__(self, source):
        self._source, self._plain = source, not hasattr(source, "asend")

    async def next(self):
        return next(self._source) if self._plain else await anext(self._source)

    async def send(self, value):
        return self._source.send(value) if self._plain else await self._source.asend(value)

    async def throw(self, error):
        return self._source.throw(error) if self._plain else await self._source.athrow(error)

    async def close(self):
        self._source.close() if self._plain else await self._source.aclose()

    async def rest(self):
        return list(self._source) if self._plain else [item async for item in self._source]


def shaped(kind, source):
    """`source`, a plain generator function, as an async one where that is wanted."""
    if kind == "generator":
        return source

    async def f(*args):
        items = source(*args)
        try:
            step, value = items.send, None
            while True:
                try:
                    item = step(value)
                except StopIteration:
                    return
                try:
                    value = yield item
                    step = items.send
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step, value = items.throw, error
        finally:
            items.close()

    return f


@pytest.fixture(params=["generator", "async generator"])
def streamed(lab, request):
    """Makes protected streams of both kinds."""

    def make(source, *args, fallback=None, **options):
        function = shaped(request.param, source)
        other = None if fallback is None else shaped(request.param, fallback)
        protect = lab.kit.with_resilience("op", fallback=other, custom_config=lab.config(**options))
        return Stream(protect(function)(*args))

    return make


async def test_a_stream_is_one_call(lab, streamed):
    """Its success is counted at its end, with its whole time."""
    lab.listen(CallSucceeded)

    def source():
        for number in range(3):
            lab.clock.advance(1.0)
            yield number

    stream = streamed(source)
    assert 0 == await stream.next()
    assert {} == lab.counted()
    assert [1, 2] == await stream.rest()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()
    assert [CallSucceeded(operation="op", attempts=1, duration=3.0)] == lab.events


async def test_an_empty_stream_is_a_success(lab, streamed):
    """There was nothing to say."""

    def source():
        return
        yield

    assert [] == await streamed(source).rest()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()


def test_a_generators_return_value_arrives(lab):
    """With items and without."""

    def source(count):
        yield from range(count)
        return "value"

    def consume(count):
        value = yield from lab.kit.with_resilience("op", custom_config=lab.config())(source)(count)
        results.append(value)

    results = []
    assert ([0, 1], []) == (list(consume(2)), list(consume(0)))
    assert ["value", "value"] == results


async def test_retries_come_before_the_first_item_only(lab, streamed, steps):
    """A second attempt is not seen by the consumer."""
    attempt = steps(ServerError, "first")

    def source():
        yield attempt()
        yield "second"

    assert ["first", "second"] == await streamed(source).rest()
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 1} == lab.counted()


async def test_a_break_after_the_first_item_is_the_end(lab, streamed):
    """It says how many items came, which, and why; the breaker counts it."""
    lab.listen(CallFailed)
    error = ServerError("mid-stream")

    def source():
        yield "a"
        yield "b"
        raise error

    stream = streamed(source)
    await stream.next()
    await stream.next()
    with pytest.raises(StreamInterruptedError) as caught:
        await stream.next()
    broken = caught.value
    assert (2, ("a", "b"), error) == (broken.delivered, broken.partial, broken.__cause__)
    assert "stream of 'op' broke after 2 items" == str(broken)
    assert "a stream that has begun is not repeated" in broken.__notes__[0]
    assert 1 == lab.kit.get_circuit_breaker("op").failure_count
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()
    assert [(FailureKind.SERVER_ERROR, "StreamInterruptedError")] == [(each.kind, each.error_type) for each in lab.events]


async def test_the_last_1000_items_are_kept(streamed):
    """Of a long stream that breaks."""

    def source():
        yield from range(1500)
        raise ServerError

    stream = streamed(source)
    for _ in range(1500):
        await stream.next()
    with pytest.raises(StreamInterruptedError) as caught:
        await stream.next()
    assert (1500, tuple(range(500, 1500))) == (caught.value.delivered, caught.value.partial)


async def test_a_stream_left_halfway_is_neutral(lab, streamed):
    """No success, no failure, and the source is closed (invariant 15)."""
    lab.listen(CallCancelled)
    closed = []

    def source():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    breaker = lab.kit.get_circuit_breaker("op")
    breaker.state = CircuitState.HALF_OPEN
    stream = streamed(source)
    await stream.next()
    assert 1 == breaker.trials_in_flight
    await stream.close()
    assert (CircuitState.HALF_OPEN, 0, [True]) == (breaker.state, breaker.trials_in_flight, closed)
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()
    assert [CallCancelled(operation="op", attempts=1)] == lab.events


async def test_a_stream_that_is_dropped_is_neutral(lab, streamed):
    """Whoever collects it (invariant 15)."""

    def source():
        yield 1
        yield 2

    stream = streamed(source)
    await stream.next()
    del stream
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


async def test_a_stream_that_is_never_begun_is_no_call(lab, streamed):
    """It has asked for nothing (invariant 15)."""

    def source():
        yield 1

    await streamed(source).close()
    assert {} == lab.counted()


async def test_what_is_sent_arrives(streamed):
    """Send is part of a generator."""

    def source():
        got = yield "ready"
        while True:
            got = yield f"got {got}"

    stream = streamed(source)
    assert "ready" == await stream.next()
    assert ["got 1", "got 2"] == [await stream.send(1), await stream.send(2)]
    await stream.close()


async def test_what_is_thrown_arrives_and_may_be_answered(lab, streamed):
    """The stream goes on."""

    def source():
        try:
            yield 1
        except KeyError:
            yield "answered"

    stream = streamed(source)
    await stream.next()
    assert "answered" == await stream.throw(KeyError("x"))
    assert [] == await stream.rest()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()


async def test_what_is_thrown_and_comes_back_is_the_consumers_own(lab, streamed):
    """Neutral, and as it was."""

    def source():
        yield 1

    stream = streamed(source)
    await stream.next()
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        await stream.throw(error)
    assert error is caught.value
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
async def test_broken_off_in_the_midst(lab, streamed, error):
    """Neutral (invariant 4)."""

    def source():
        yield 1
        raise error

    stream = streamed(source)
    await stream.next()
    with pytest.raises(error):
        await stream.next()
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


async def test_a_refused_stream_never_begins(lab, streamed):
    """The refusal comes with the first item."""
    lab.kit.get_circuit_breaker("op").force_open("test")

    def source():
        raise AssertionError("was begun")
        yield

    with pytest.raises(CircuitBreakerOpenError):
        await streamed(source).next()
    assert {"total_calls": 1, "rejected_calls": 1} == lab.counted()


# --- the fallback ---


async def test_a_fallback_streams_instead(lab, streamed):
    """With what is sent and thrown; counted as failed and as a fallback's."""

    def source():
        raise ServerError
        yield

    def other():
        got = yield "instead"
        try:
            yield got
        except KeyError:
            yield "answered"

    stream = streamed(source, fallback=other)
    assert "instead" == await stream.next()
    assert "sent" == await stream.send("sent")
    assert "answered" == await stream.throw(KeyError())
    assert [] == await stream.rest()
    assert {"total_calls": 1, "failed_calls": 1, "retry_attempts": 2, "fallback_calls": 1} == lab.counted()


async def test_a_fallback_that_is_left_is_closed(lab, streamed):
    """As any stream."""
    closed = []

    def source():
        raise ServerError
        yield

    def other():
        try:
            yield 1
        finally:
            closed.append(True)

    stream = streamed(source, fallback=other)
    await stream.next()
    await stream.close()
    assert [True] == closed


async def test_a_fallback_does_not_continue_a_broken_stream(lab, streamed):
    """Half of one answer and half of another would be neither."""

    def source():
        yield 1
        raise ServerError

    def other():
        yield "other"

    stream = streamed(source, fallback=other)
    await stream.next()
    with pytest.raises(StreamInterruptedError):
        await stream.next()


async def test_a_fallback_that_fails_has_the_last_word(lab, streamed):
    """With the first error as its context."""

    def source():
        raise ServerError
        yield

    def other():
        raise KeyError("fallback")
        yield

    with pytest.raises(KeyError) as caught:
        await streamed(source, fallback=other).next()
    assert isinstance(caught.value.__context__, ServerError)


# --- time ---


async def slow_items(lab, *seconds):
    """Items with pauses before them."""
    for number, pause in enumerate(seconds):
        await lab.clock.sleep_async(pause)
        yield number


def protected(lab, *seconds, **options):
    """The same, protected."""
    return lab.kit.with_resilience("op", custom_config=lab.config(**options))(slow_items)(lab, *seconds)


async def test_the_deadline_is_for_the_first_item(lab):
    """What has begun to flow may flow on."""
    assert [0, 1] == [item async for item in protected(lab, 4.0, 100.0, deadline=5.0, attempt_timeout=4.5)]
    with pytest.raises(DeadlineExceededError):
        await anext(protected(lab, 6.0, deadline=5.0))


async def test_the_deadline_is_no_longer_told_once_items_flow(lab, streamed, steps):
    """What the stream calls on the way is not bound by it either."""
    seen = []

    def source():
        seen.append(remaining_time())
        yield 1
        lab.clock.advance(60.0)
        seen.append(remaining_time())
        yield lab.kit.call_with_resilience(steps("inner"), "inner")

    assert [1, "inner"] == await streamed(source, deadline=5.0, attempt_timeout=4.0).rest()
    assert [4.0, None] == seen


async def test_a_deadline_around_goes_on_while_items_flow(lab, streamed):
    """It is not the stream's own."""
    seen = []

    def source():
        yield 1
        seen.append(remaining_time())

    async def outer():
        await streamed(source, deadline=5.0).rest()

    await lab.kit.with_resilience("outer", custom_config=lab.config(deadline=9.0))(outer)()
    assert [9.0] == seen


async def test_the_first_item_has_a_timeout_of_its_own(lab):
    """Retried, since nothing has been delivered."""
    with pytest.raises(APITimeoutError, match="no answer within 2 s"):
        await anext(protected(lab, 6.0, first_item_timeout=2.0, attempt_timeout=50.0))
    assert 100.0 + 2.0 + 1.0 + 2.0 + 2.0 + 2.0 == lab.clock.monotonic()


async def test_silence_between_items_breaks_the_stream(lab):
    """After idle_timeout, as a failure of kind timeout."""
    stream = protected(lab, 1.0, 50.0, idle_timeout=3.0)
    assert 0 == await anext(stream)
    with pytest.raises(StreamInterruptedError) as caught:
        await anext(stream)
    assert "'op': no item for 3 s" == str(caught.value.__cause__)
    assert (104.0, 1) == (lab.clock.monotonic(), lab.kit.get_circuit_breaker("op").failure_count)
    assert 0 == asyncio.current_task().cancelling()


async def test_a_consumers_own_pauses_are_not_silence(lab):
    """The clock of idle_timeout runs while the stream is asked for an item."""
    stream = protected(lab, 1.0, 2.0, idle_timeout=3.0)
    assert 0 == await anext(stream)
    await lab.clock.sleep_async(100.0)
    assert 1 == await anext(stream)


async def test_a_cancelled_wait_for_an_item_is_neutral(lab):
    """Before the first and after it (invariants 4 and 28)."""
    for ready in (0, 1):
        lab.kit.reset_metrics()
        stream = protected(lab, *[0.0] * ready, 1000.0, idle_timeout=500.0, first_item_timeout=500.0)
        for _ in range(ready):
            await anext(stream)
        task = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


async def test_an_async_generator_whose_making_fails_is_retried(lab, steps):
    """A plain function that gives one may raise at its second call."""
    attempt = steps("unused", ServerError, "done")
    first = [True]

    async def items(fails):
        if fails:
            raise ServerError
        yield "done"

    def give():
        attempt()
        return items(bool(first and first.pop()))

    stream = lab.kit.with_resilience("op", custom_config=lab.config())(give)()
    assert ["done"] == [item async for item in stream]
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_a_refused_coroutine_is_closed(lab):
    """A plain function has made it, and the circuit opened before it was awaited: no warning is left behind."""

    async def work():
        raise AssertionError("was begun")

    def give():
        return work()

    given = lab.kit.with_resilience("op", custom_config=lab.config())(give)()
    lab.kit.get_circuit_breaker("op").force_open("test")
    with pytest.raises(CircuitBreakerOpenError):
        await given
    gc.collect()


async def test_a_task_that_a_plain_function_gives_is_awaited(lab):
    """As a coroutine that is protected."""

    async def work():
        return "done"

    def give():
        return asyncio.ensure_future(work())

    assert "done" == await lab.kit.with_resilience("op", custom_config=lab.config())(give)()
    assert {"total_calls": 1, "successful_calls": 1} == lab.counted()
