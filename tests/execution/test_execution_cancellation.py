"""Calls that are broken off: at every await, in storms, by every kind of BaseException. Nothing is counted, nothing is kept."""

from __future__ import annotations

import asyncio
import random
from types import coroutine

import pytest

from resilience_kit.errors import ServerError
from resilience_kit.events import CallCancelled, Event
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing import FakeClock

BROKEN_OFF = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit]


@coroutine
def step():
    """Wait for one turn of whoever drives."""
    yield


class SteppedClock(FakeClock):
    """Its sleeps are turns of whoever drives, so that a test can break off each."""

    async def sleep_async(self, seconds):
        self.sleeps.append(seconds)
        await step()
        await step()
        self._now += int(seconds * 1e9)


@pytest.fixture
def stepped(lab):
    """The lab, on a clock whose sleeps are steps."""
    lab.clock = SteppedClock(100.0)
    lab.kit._registry.clock = lab.clock
    return lab


def failing_once(after=3):
    """Fails at its first attempt, and takes some steps at each."""
    calls = []

    async def work():
        calls.append(1)
        for _ in range(after):
            await step()
        if len(calls) == 1:
            raise ServerError
        return "done"

    return work


def consumed(lab, kind, config):
    """One whole call, as something to step through."""
    work = failing_once()
    if kind == "async":
        return lab.kit.with_resilience("op", custom_config=config)(work)()
    if kind == "execute":
        return lab.kit.execute_with_resilience(work, "op", custom_config=config)

    async def stream():
        yield await work()
        await step()
        yield "more"

    async def consume():
        async for _ in lab.kit.with_resilience("op", custom_config=config)(stream)():
            await step()

    return consume()


def broken_off(work, at, error):
    """Step through `work`, break it off at step `at`; tells whether it got that far."""
    try:
        for _ in range(at):
            work.send(None)
        work.throw(error)
    except StopIteration:
        return False
    except error:
        return True
    raise AssertionError("a cancellation was swallowed")


@pytest.mark.parametrize("error", BROKEN_OFF)
@pytest.mark.parametrize("trial", [False, True])
@pytest.mark.parametrize("stepping", ["async", "execute", "async generator"])
@pytest.mark.parametrize("guarded", [False, True])
def test_broken_off_at_every_await(stepped, stepping, guarded, trial, error):
    """Every permit is back, once; no success and no failure is counted for it; the retry's predicate never sees it.

    (invariants 3, 4, 5 and 28)
    """
    lab = stepped
    seen = []

    retry = RetryConfig(jitter=None, before_sleep=lambda state: seen.append(type(state.outcome.exception())))
    at = 0
    while True:
        at += 1
        breaker = lab.kit.get_circuit_breaker("op")
        breaker.state = CircuitState.HALF_OPEN if trial else CircuitState.CLOSED
        lab.kit.reset_metrics()
        guard = lab.Guard("slow", 1.0, 1.0)
        config = lab.config(guards=(guard,) if guarded else (), retry=retry)
        work = consumed(lab, stepping, config)
        try:
            reached = broken_off(work, at, error)
        except ServerError:  # a trial's failure: the circuit has opened, and this is the end
            reached = False
        assert 0 == breaker.trials_in_flight
        assert all(len(permit.outcomes) == 1 for permit in guard.permits)
        if not reached:
            break
        counted = lab.counted()
        assert (1, 1) == (counted["total_calls"], counted["cancelled_calls"])
    assert at > 3
    assert {ServerError} >= set(seen)


@pytest.mark.parametrize("error", BROKEN_OFF)
async def test_broken_off_inside_the_function(lab, way, steps, error):
    """Whatever is no Exception goes its way: not retried, not classified, not counted (invariant 28)."""
    lab.listen(CallCancelled)
    attempt = steps(error)
    with pytest.raises(error):
        await lab.call(way, attempt, config=lab.config(retry=RetryConfig(retry_exceptions=(BaseException,))))
    assert 1 == attempt.calls
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()
    assert [CallCancelled(operation="op", attempts=1)] == lab.events


async def test_a_cancelled_pause_ends_at_once(lab, steps):
    """Within one turn of the loop, re-raised, with the failures before it counted (invariant 28)."""
    for kind in ("async", "async generator", "execute"):
        attempt = steps(ServerError)
        lab.kit.get_circuit_breaker("op")
        lab.kit.reset_metrics()
        task = asyncio.ensure_future(lab.call(kind, attempt))
        while not attempt.calls:
            await asyncio.sleep(0)
        before = lab.clock.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (1, before) == (attempt.calls, lab.clock.monotonic())
        assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


async def test_ctrl_c_in_a_pause_goes_through(lab, kind, steps):
    """A sleep that raises is no attempt that failed."""

    def sleep(seconds):
        raise KeyboardInterrupt

    async def sleep_async(seconds):
        raise KeyboardInterrupt

    lab.clock.sleep, lab.clock.sleep_async = sleep, sleep_async
    with pytest.raises(KeyboardInterrupt):
        await lab.call(kind, steps(ServerError))
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


@pytest.mark.slow
async def test_a_storm_of_cancellations_leaves_nothing(lab):
    """10 000 calls, half of them cancelled at random moments: no permit and no cut is left (invariant 5)."""
    draw = random.Random(5)
    guard = lab.Guard()
    config = lab.config(guards=(guard,), deadline=50.0, attempt_timeout=5.0)

    async def work():
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        if draw.random() < 0.3:
            raise ServerError

    protected = [
        lab.kit.with_resilience("op", custom_config=config)(work),
        lab.kit.with_resilience("op", custom_config=lab.config(deadline=50.0))(work),
    ]
    for _ in range(100):
        tasks = [asyncio.ensure_future(draw.choice(protected)()) for _ in range(100)]
        await asyncio.sleep(0)
        for _ in range(draw.randrange(3)):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert all(len(permit.outcomes) == 1 for permit in guard.permits)
    counted = lab.counted()
    assert 10_000 == counted["total_calls"]
    kinds = ("successful_calls", "failed_calls", "rejected_calls", "cancelled_calls")
    assert counted["total_calls"] == sum(counted.get(name, 0) for name in kinds)


async def test_a_listener_harms_no_call(lab, way, steps, caplog):
    """Whatever it raises; and it may call back (invariant 14)."""
    heard = []

    def listener(event: Event) -> None:
        heard.append(type(event).__name__)
        lab.kit.get_metrics()
        lab.kit.add_listener(heard.append, CallCancelled)
        lab.kit.register_operation("another", "balanced")
        raise ZeroDivisionError

    lab.kit.add_listener(listener)
    assert "done" == await lab.call(way, steps(ServerError, "done"))
    assert ["RetryScheduled", "CallSucceeded"] == heard
    assert "a listener failed on CallSucceeded: ZeroDivisionError" in caplog.text
