"""Two functions of one operation, one inside the other: their breaker's trial is the outer one's, and it closes again."""

from __future__ import annotations

import asyncio

import pytest

from resilience_kit.errors import CircuitBreakerOpenError, ServerError
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState

KINDS = ("sync", "async", "generator", "async generator", "call", "execute", "guard")


def nested(kit, kind, custom, work):
    """An outer function of a kind around an inner plain one of the same operation."""
    inner = kit.with_resilience("op", custom_config=custom)(work)

    def plain():
        return inner()

    async def coroutine():
        await asyncio.sleep(0)
        return inner()

    def generator():
        yield "first"
        yield inner()

    async def async_generator():
        yield "first"
        yield inner()

    async def last(items):
        return [item async for item in items][-1]

    decorate = kit.with_resilience("op", custom_config=custom)

    async def by_kind():
        match kind:
            case "sync" | "guard":
                return decorate(plain)()
            case "async":
                return await decorate(coroutine)()
            case "generator":
                return list(decorate(generator)())[-1]
            case "async generator":
                return await last(decorate(async_generator)())
            case "call":
                return kit.call_with_resilience(plain, "op", custom_config=custom)
        return await kit.execute_with_resilience(coroutine, "op", custom_config=custom)

    return by_kind


@pytest.mark.parametrize("options", [{}, {"deadline": 60.0}, {"idempotency_key": True}], ids=["direct", "timed", "long"])
@pytest.mark.parametrize("kind", KINDS)
async def test_operation_inside_itself_closes_after_a_good_trial(kit, clock, config, kind, options):
    """Whichever path the outer and the inner call take, also where a shared breaker is a guard of both (invariant 20)."""
    breaker = kit.get_circuit_breaker("op")
    if kind == "guard":
        breaker = CircuitBreaker(2, 60.0, name="host", clock=clock.monotonic)
        options = {**options, "guards": (breaker,), "circuit_breaker": None}
    custom, down = config(retry=None, **options), [True]

    def work():
        if down:
            raise ServerError
        return "done"

    outer = nested(kit, kind, custom, work)
    breaker.state = "open"
    for _ in range(2):
        clock.advance(breaker.open_remaining)
        with pytest.raises(Exception):  # noqa: B017 - of a stream, that it broke
            await outer()
        assert CircuitState.OPEN is breaker.state
    down.clear()
    clock.advance(breaker.open_remaining)
    assert "done" == await outer()
    assert (CircuitState.CLOSED, 0) == (breaker.state, breaker.trials_in_flight)


async def test_nested_call_elsewhere_is_refused_while_the_trial_is_under_way(kit, clock, config):
    """Another task that has not been started in the trial finds the slot taken."""
    custom = config(retry=None)
    breaker = kit.get_circuit_breaker("op")
    breaker.state = "half_open"
    entered, leave = asyncio.Event(), asyncio.Event()

    @kit.with_resilience("op", custom_config=custom)
    async def trial():
        entered.set()
        await leave.wait()

    @kit.with_resilience("op", custom_config=custom)
    async def other():
        return "let in"

    task = asyncio.ensure_future(trial())
    await entered.wait()
    with pytest.raises(CircuitBreakerOpenError, match="trial call is still under way"):
        await other()
    leave.set()
    await task
    assert "let in" == await other()


def test_refused_inner_operation_opens_no_breaker_around_it(kit, config):
    """A refusal is not the outer operation's failure, also where its breaker expects every exception."""
    expecting = config(
        retry=None, circuit_breaker=config().circuit_breaker.__class__(failure_threshold=1, expected_exception=Exception)
    )
    kit.get_circuit_breaker("inner").force_open("maintenance")
    inner = kit.with_resilience("inner", custom_config=config(retry=None))(lambda: "done")

    def wrapping():
        try:
            return inner()
        except CircuitBreakerOpenError as error:
            raise ConnectionError("the SDK says") from error

    for function in (inner, wrapping):
        for custom in (expecting, config(retry=None)):
            outer = kit.with_resilience("outer", custom_config=custom)(function)
            for _ in range(9):
                with pytest.raises((CircuitBreakerOpenError, ConnectionError)):
                    outer()
            assert kit.get_circuit_breaker("outer").closed


@pytest.mark.parametrize("options", [{}, {"deadline": 60.0}], ids=["direct", "timed"])
async def test_call_that_finds_its_circuit_closed_at_the_gate_is_a_usual_call(kit, config, monkeypatch, options):
    """Somebody has closed it between two steps of the call: there is no trial, and nothing to run under one."""
    ask = CircuitBreaker.try_acquire

    def closed_meanwhile(self, snapshot):
        self.reset()
        return ask(self, snapshot) if self.snapshot is snapshot else self.snapshot

    monkeypatch.setattr(CircuitBreaker, "try_acquire", closed_meanwhile)
    breaker, custom = kit.get_circuit_breaker("op"), config(retry=None, **options)

    async def work():
        return breaker.trials_in_flight

    for function in (lambda: breaker.trials_in_flight, work):
        breaker.state = "half_open"
        protected = kit.with_resilience("op", custom_config=custom)(function)
        result = protected()
        assert 0 == (await result if function is work else result)
        assert breaker.closed
