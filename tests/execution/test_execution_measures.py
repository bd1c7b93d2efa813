"""What a call leaves behind, the same on the short ways and on the long one: numbers, durations, arguments, no context."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from resilience_kit.context import idempotency_key, remaining_time
from resilience_kit.errors import CircuitBreakerOpenError, ServerError
from resilience_kit.events import CallRejected
from resilience_kit.metrics import bucket_index
from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState, FailureRateWindow

#: Options of a call site that send its calls different ways.
SITES = {
    "direct": {},
    "timed": {"deadline": 600.0},
    "long": {"idempotency_key": True},
    "long and timed": {"idempotency_key": True, "deadline": 600.0},
}
SLOW = FailureRateWindow(4, failure_rate=1.0, slow_call_duration=1.0, slow_call_rate=0.5)


@pytest.fixture(params=SITES)
def site(request):
    """Options that decide which way a call goes."""
    return SITES[request.param]


async def made(lab, way, function, config, *args, **kwargs):
    """One call with arguments of both kinds, to its end."""
    shape, by = lab.WAYS[way]
    if by == "decorated":
        return await lab.finished(lab.kit.with_resilience("op", custom_config=config)(shape(function))(*args, **kwargs))
    if by == "call":
        return await lab.finished(lab.kit.call_with_resilience(shape(function), "op", *args, custom_config=config, **kwargs))
    given = await lab.kit.execute_with_resilience(shape(function), "op", *args, custom_config=config, **kwargs)
    return await lab.finished(given)


def taking(lab, *seconds, error=None):
    """An attempt that takes so many seconds each time; with an error, its first, third and so on fail at their end."""
    left = list(seconds)

    def attempt():
        lab.clock.advance(left.pop(0))
        if error is not None and len(left) % 2:
            raise error

    return attempt


def latencies(lab):
    """The histogram's buckets that are not empty."""
    return {bucket: count for bucket, count in enumerate(lab.kit._registry.operations["op"].metrics.latency.counts) if count}


async def test_a_latency_is_the_call_s(lab, way, site):
    """From its beginning to its end, each in its own bucket."""
    config, attempt = lab.config(**site), taking(lab, 0.3, 0.3, 5.0)
    for _ in range(3):
        await lab.call(way, attempt, config=config)
    assert {bucket_index(300_000_000): 2, bucket_index(5_000_000_000): 1} == latencies(lab)
    assert lab.clock.nanoseconds() == lab.kit._registry.operations["op"].metrics.last_success


async def test_a_latency_includes_failed_attempts_and_pauses(lab, way, site):
    """The caller waits for all of them."""
    await lab.call(way, taking(lab, 0.2, 0.3, error=ServerError), config=lab.config(**site))
    assert {bucket_index(1_500_000_000): 1} == latencies(lab)
    assert lab.clock.nanoseconds() == lab.kit._registry.operations["op"].metrics.last_success


async def test_the_last_failure_has_a_time(lab, way, site):
    """That of the last attempt's end."""
    with pytest.raises(ServerError):
        await lab.call(way, taking(lab, *[0.5] * 6, error=ServerError), config=lab.config(retry=None, **site))
    metrics = lab.kit._registry.operations["op"].metrics
    assert (lab.clock.nanoseconds(), None, {}) == (metrics.last_failure, metrics.last_success, latencies(lab))


async def test_slow_successes_open_the_circuit(lab, way, site):
    """The breaker hears how long each attempt took."""
    config = lab.config(breaker=CircuitBreakerConfig(window=SLOW), **site)
    attempt = taking(lab, *[1.0] * 4, 1.001, 1.0, 1.001)
    breaker = lab.kit.get_circuit_breaker("op")
    for _ in range(6):
        await lab.call(way, attempt, config=config)
        assert breaker.closed
    await lab.call(way, attempt, config=config)
    assert (CircuitState.OPEN, "2 of 4 calls were slow") == (breaker.state, breaker.metrics["state_changes"][-1]["reason"])


async def test_pauses_make_no_attempt_slow(lab, way, site):
    """Nor does the attempt before it; a slow failure counts by itself."""
    config = lab.config(breaker=CircuitBreakerConfig(window=SLOW), **site)
    breaker = lab.kit.get_circuit_breaker("op")
    for _ in range(2):
        await lab.call(way, taking(lab, 0.9, 0.9, error=ServerError), config=config)
    assert breaker.closed
    await lab.call(way, taking(lab, 1.1, 0.9, error=ServerError), config=config)
    assert breaker.closed
    with pytest.raises(ServerError):
        await lab.call(way, taking(lab, 1.1, 0.9, error=ServerError), config=config)
    assert "2 of 4 calls were slow" == breaker.metrics["state_changes"][0]["reason"]


async def test_every_attempt_gets_all_arguments(lab, way, site):
    """By position and by name."""
    seen = []

    def attempt(*args, **kwargs):
        seen.append((args, kwargs))
        if len(seen) == 1:
            raise ServerError
        return "done"

    assert "done" == await made(lab, way, attempt, lab.config(**site), 1, 2, three=3)
    assert [((1, 2), {"three": 3})] * 2 == seen
    assert "done" == await made(lab, way, attempt, lab.config(**site), three=3)
    assert "done" == await made(lab, way, attempt, lab.config(**site), 1)
    assert [((), {"three": 3}), ((1,), {})] == seen[2:]


async def test_no_context_is_left(lab, way, site, steps):
    """After a success, a failure and a refusal nobody is inside a call."""
    config = lab.config(retry=None, **site)
    await lab.call(way, steps("done"), config=config)
    assert (None, None) == (remaining_time(), idempotency_key())
    with pytest.raises(ServerError):
        await lab.call(way, steps(ServerError), config=config)
    assert (None, None) == (remaining_time(), idempotency_key())
    lab.kit.get_circuit_breaker("op").force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await lab.call(way, steps("done"), config=config)
    assert (None, None) == (remaining_time(), idempotency_key())


@pytest.mark.parametrize("error", [None, ServerError])
async def test_who_outlives_a_call_is_not_bound_by_it(lab, error):
    """A task that was begun inside has no time limit once the call is over, whichever way that went."""
    over, told, tasks = asyncio.Event(), [], []

    async def outlive():
        told.append(remaining_time())
        await over.wait()
        told.append(remaining_time())

    async def attempt():
        tasks.append(asyncio.create_task(outlive()))
        await asyncio.sleep(0)
        if error is not None:
            raise error

    with contextlib.suppress(ServerError):
        await lab.kit.with_resilience("op", custom_config=lab.config(retry=None), deadline=5.0)(attempt)()
    over.set()
    await tasks[0]
    assert [5.0, None] == told


@pytest.mark.parametrize("inner_kind", ["sync", "async"])
async def test_a_trial_inside_another_call_takes_one_slot(lab, steps, inner_kind):
    """Inside another call the long way is taken: what the short one was lent goes back first (invariant 1)."""
    inner = lab.kit.with_resilience("inner", custom_config=lab.config(1))(lab.shapes[inner_kind](lambda: "done"))
    lab.kit.get_circuit_breaker("inner").state = "half_open"

    async def attempt():
        return await lab.finished(inner())

    outer = lab.kit.with_resilience("outer", custom_config=lab.config(), deadline=5.0)(attempt)
    assert ("done", True) == (await outer(), lab.kit.get_circuit_breaker("inner").closed)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_listener_that_wakes_up_is_noticed_at_the_64th_refusal(lab, kind):
    """Refusals come in storms, so whether anybody wants to hear of them is asked now and then; from there on each is told."""
    awake = []
    lab.kit.add_listener(lab.events.append, CallRejected, when=lambda: bool(awake))
    find = lab.kit.with_resilience("op", custom_config=lab.config())(lab.shapes[kind](lambda: "done"))
    await lab.finished(find())
    lab.kit.get_circuit_breaker("op").force_open("maintenance")

    async def refused(times):
        for _ in range(times):
            with pytest.raises(CircuitBreakerOpenError):
                await lab.finished(find())
        return len(lab.events)

    assert 0 == await refused(1)
    awake.append(True)
    assert [0, 1, 101] == [await refused(63), await refused(1), await refused(100)]
    awake.clear()
    assert 101 == await refused(10)
    awake.append(True)
    assert 101 == await refused(1)
