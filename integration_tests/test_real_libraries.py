"""The kit on the real circuitbreaker and tenacity, in real time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

import circuitbreaker
import pytest
import tenacity

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    ResilienceConfig,
    RetryConfig,
)
from resilience_kit.events import Event, StateChanged
from resilience_kit.testing import fails_then_succeeds

RECOVERY = 0.3
LATE = 0.3  # seconds by which a busy machine may be late


@dataclass
class Upstream:
    """A service that is down or up, and knows when it was asked."""

    down: bool = True
    asked: list[float] = field(default_factory=list)

    def ask(self, prompt: str) -> str:
        """An answer, or the error of a connection that cannot be made."""
        self.asked.append(time.monotonic())
        if self.down:
            raise ConnectionRefusedError(prompt)
        return prompt.upper()

    async def ask_async(self, prompt: str) -> str:
        """The same for async callers."""
        return self.ask(prompt)


@dataclass
class Hooks:
    """tenacity's callbacks, and the states that tenacity gave them."""

    slept: list[tuple[int, float, str]] = field(default_factory=list)
    ended: list[tuple[int, bool]] = field(default_factory=list)

    def before_sleep(self, state: tenacity.RetryCallState) -> None:
        """Attempt number, seconds to sleep, and the error's class."""
        error = state.outcome.exception()
        self.slept.append((state.attempt_number, round(state.upcoming_sleep, 6), type(error).__name__))

    def after(self, state: tenacity.RetryCallState) -> None:
        """Attempt number, and whether it failed."""
        self.ended.append((state.attempt_number, state.outcome.failed))


def protected(kit: AIServiceResilience, upstream: Upstream, hooks: Hooks, kind: str) -> Callable[[str], Awaitable[str]]:
    """The upstream under retries of 50 and 100 ms and a circuit that opens at three failures."""
    config = ResilienceConfig(
        retry=RetryConfig(max_attempts=3, base_delay=0.05, jitter=None, before_sleep=hooks.before_sleep, after=hooks.after),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=RECOVERY),
    )
    decorate = kit.with_resilience("ask", custom_config=config)
    if kind == "async":
        return decorate(upstream.ask_async)
    plain = decorate(upstream.ask)

    async def ask(prompt: str) -> str:
        return plain(prompt)

    return ask


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_resilience_library_integration_works_with_real_implementations(kit: AIServiceResilience, kind: str) -> None:
    """Closed, open, half-open, open again, half-open, closed: each step in its time, seen by both libraries, counted exactly."""
    gc.collect()  # breakers of earlier tests leave the library's monitor
    upstream, hooks, changes = Upstream(), Hooks(), []
    kit.add_listener(changes.append, StateChanged)
    ask = protected(kit, upstream, hooks, kind)
    breaker = kit.get_circuit_breaker("ask")
    monitor = circuitbreaker.CircuitBreakerMonitor

    # It is the real library's breaker, in the real library's monitor.
    assert isinstance(breaker, circuitbreaker.CircuitBreaker)
    others = {each.name for each in monitor.get_open()}  # of earlier tests, in the default orchestrator
    assert (True, not others) == (monitor.get("ask").closed, monitor.all_closed())

    # Closed: tenacity retries after 50 and 100 ms, and tells its callbacks.
    with pytest.raises(ConnectionRefusedError, match="one"):
        await ask("one")
    opened = time.monotonic()
    pauses = [later - earlier for earlier, later in pairwise(upstream.asked)]
    assert [True, True] == [due <= pause < due + LATE for due, pause in zip((0.05, 0.1), pauses, strict=True)]
    assert [(1, 0.05, "ConnectionRefusedError"), (2, 0.1, "ConnectionRefusedError")] == hooks.slept
    assert [(1, True), (2, True), (3, True)] == hooks.ended

    # Open: nobody is asked, nothing is retried, nobody sleeps, and both libraries say so.
    assert (CircuitState.OPEN, 3) == (breaker.state, breaker.failure_count)
    assert {"ask"} == {each.name for each in monitor.get_open()} - others
    for _ in range(5):
        begun = time.monotonic()
        with pytest.raises(circuitbreaker.CircuitBreakerError) as refused:
            await ask("refused")
        assert time.monotonic() - begun < 0.04
        assert isinstance(refused.value, CircuitBreakerOpenError)
        assert 0.0 < refused.value.retry_after <= RECOVERY
    assert (3, 2, 3) == (len(upstream.asked), len(hooks.slept), len(hooks.ended))

    # Half-open, and a trial that fails: open again at once, without a retry.
    assert abs(await _first_admission(ask, upstream, opened) - RECOVERY) < LATE
    opened = time.monotonic()
    assert (4, 2, 4) == (len(upstream.asked), len(hooks.slept), len(hooks.ended))
    assert (CircuitState.OPEN, 2) == (breaker.state, breaker.times_opened)

    # Half-open, and a trial that succeeds: closed.
    upstream.down = False
    assert abs(await _first_admission(ask, upstream, opened) - RECOVERY) < LATE
    assert "FIVE" == await ask("five")
    still_open = [each.name for each in monitor.get_open() if each.name not in others]
    assert (CircuitState.CLOSED, 0, []) == (breaker.state, breaker.failure_count, still_open)
    assert [
        ("closed", "open", "3 failures in a row"),
        ("open", "half_open", "the open time is over"),
        ("half_open", "open", "the trial failed"),
        ("open", "half_open", "the open time is over"),
        ("half_open", "closed", "the trial succeeded"),
    ] == [(change.old, change.new, change.reason) for change in changes]

    refusals = kit.get_metrics("ask")["rejected_calls"]
    assert {
        "total_calls": 4 + refusals,
        "successful_calls": 2,
        "failed_calls": 2,
        "retry_attempts": 2,
        "rejected_calls": refusals,
        "fallback_calls": 0,
        "cancelled_calls": 0,
    } == {name: count for name, count in kit.get_metrics("ask").items() if name.endswith(("_calls", "_attempts"))}
    assert (2, 4, refusals) == tuple(breaker.metrics[name] for name in ("success_count", "failure_count", "rejected_count"))
    assert 6 == len(upstream.asked)


async def _first_admission(ask: Callable[[str], Awaitable[str]], upstream: Upstream, opened: float) -> float:
    """Ask until the upstream hears of it: seconds from the opening until then."""
    before = len(upstream.asked)
    while len(upstream.asked) == before:
        try:
            await ask("trial")
        except (CircuitBreakerOpenError, ConnectionRefusedError):
            await asyncio.sleep(0.001)
    return upstream.asked[-1] - opened


def test_a_config_gives_real_tenacity_objects() -> None:
    """Controllers and decorator are tenacity's own, with tenacity's statistics, callbacks and meaning."""
    hooks = Hooks()
    config = RetryConfig(max_attempts=3, base_delay=0.02, jitter=None, before_sleep=hooks.before_sleep, after=hooks.after)
    assert (True, True) == (
        isinstance(config.retrying(), tenacity.Retrying),
        isinstance(config.async_retrying(), tenacity.AsyncRetrying),
    )
    flaky = config.decorator()(fails_then_succeeds(lambda: "good", 2, error=ConnectionError()))
    begun = time.monotonic()
    assert "good" == flaky()
    assert 0.06 <= time.monotonic() - begun < 0.06 + LATE
    assert [(1, 0.02, "ConnectionError"), (2, 0.04, "ConnectionError")] == hooks.slept
    assert [(1, True), (2, True)] == hooks.ended
    assert 3 == flaky.statistics["attempt_number"]


async def test_tenacitys_loop_and_controllers_work_as_tenacity_has_them() -> None:
    """`for attempt in config.retrying()` and its async twin run until the block succeeds, and the last error leaves as it is."""
    config, turns = RetryConfig(max_attempts=3, base_delay=0.01, jitter=None), []
    for attempt in config.retrying():
        with attempt:
            turns.append(attempt.retry_state.attempt_number)
            if len(turns) < 2:
                raise ConnectionError
    with pytest.raises(ConnectionError):
        async for attempt in config.async_retrying():
            with attempt:
                turns.append(attempt.retry_state.attempt_number)
                raise ConnectionError
    assert [1, 2, 1, 2, 3] == turns


async def test_tenacity_inside_and_circuitbreaker_outside_see_plain_errors(kit: AIServiceResilience) -> None:
    """A user's own tenacity and circuitbreaker around an operation of ours get the callee's error, and our refusals as theirs."""
    upstream = Upstream()
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=2, recovery_timeout=RECOVERY))
    ask = kit.with_resilience("inner", custom_config=config)(upstream.ask_async)
    theirs = circuitbreaker.CircuitBreaker(failure_threshold=5, expected_exception=circuitbreaker.CircuitBreakerError)

    @tenacity.retry(stop=tenacity.stop_after_attempt(4), retry=tenacity.retry_if_exception_type(ConnectionError), reraise=True)
    @theirs
    async def outer(prompt: str) -> str:
        return await ask(prompt)

    with pytest.raises(CircuitBreakerOpenError):
        await outer("x")
    assert (2, 1) == (len(upstream.asked), theirs.failure_count)


def test_recovery_is_on_time(kit: AIServiceResilience) -> None:
    """The first call after the open time is let in, within a few milliseconds, over several rounds (invariant 10)."""
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=0.1))
    upstream = Upstream()
    ask = kit.with_resilience("timed", custom_config=config)(upstream.ask)
    breaker, late = kit.get_circuit_breaker("timed"), []
    with pytest.raises(ConnectionRefusedError):
        ask("x")
    for _ in range(5):
        due = breaker.last_failure_time + 0.1
        asked = len(upstream.asked)
        while len(upstream.asked) == asked:
            try:
                ask("x")
            except (CircuitBreakerOpenError, ConnectionRefusedError):
                continue
        late.append(upstream.asked[-1] - due)
    assert min(late) >= 0.0
    assert min(late) < 0.005
    assert max(late) < LATE


def test_listeners_and_monitor_do_not_keep_a_breaker_alive() -> None:
    """When an orchestrator goes, its breakers leave the library's monitor, whose methods go on working."""
    events: list[Event] = []
    kit = AIServiceResilience()
    kit.add_listener(events.append)
    kit.with_resilience("short-lived")(len)("x")
    assert "short-lived" in {each.name for each in circuitbreaker.CircuitBreakerMonitor.get_circuits()}
    del kit
    gc.collect()
    assert "short-lived" not in {each.name for each in circuitbreaker.CircuitBreakerMonitor.get_circuits()}
