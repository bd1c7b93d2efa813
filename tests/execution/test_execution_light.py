"""Call sites that ask for little, which take the short ways: they do what the long way does."""

from __future__ import annotations

import pytest

from resilience_kit import RetryConfig
from resilience_kit.errors import CircuitBreakerOpenError, ServerError
from resilience_kit.events import CallSucceeded
from resilience_kit.policies.retry_budget import RetryBudgetConfig


async def test_without_a_breaker_nobody_is_refused(lab, way, steps):
    """The operation's circuit is open for its other sites, and stays so."""
    lab.kit.get_circuit_breaker("op").force_open("maintenance")
    assert "done" == await lab.call(way, steps("done"), config=lab.config(breaker=None))
    with pytest.raises(CircuitBreakerOpenError):
        await lab.call(way, steps("done"))
    assert {"total_calls": 2, "successful_calls": 1, "rejected_calls": 1} == lab.counted()


async def test_without_a_breaker_failures_are_retried_and_counted(lab, way, steps):
    """Three attempts, then an answer; the breaker has heard of none of them."""
    attempt = steps(ServerError, ServerError, "done")
    assert "done" == await lab.call(way, attempt, config=lab.config(1, breaker=None))
    assert (3, 0, "closed") == (
        attempt.calls,
        lab.kit.get_circuit_breaker("op").failure_count,
        lab.kit.get_circuit_breaker("op").state,
    )
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_without_a_breaker_successes_fill_the_retry_budget(lab, way, steps):
    """No breaker's snapshot tells which success has to be reported, so each of them is (invariant 31)."""
    config = lab.config(breaker=None, retry=RetryConfig(base_delay=0), retry_budget=RetryBudgetConfig(capacity=28))
    with pytest.raises(ServerError):
        await lab.call(way, steps(ServerError), config=config)
    assert 0 == lab.kit._registry.operations["op"].budget.available_tokens
    for _ in range(3):
        await lab.call(way, steps("done"), config=config)
    assert 3 == lab.kit._registry.operations["op"].budget.available_tokens


async def test_a_listener_of_successes_hears_of_each(lab, way, steps):
    """The short ways build no event, so such a listener sends all calls the long way."""
    lab.listen(CallSucceeded)
    for breaker in (None, ...):
        await lab.call(way, steps(ServerError, "done"), config=lab.config(breaker=breaker))
    assert [2, 2] == [event.attempts for event in lab.events]


async def test_a_hint_in_whole_seconds_is_slept(lab, way, steps):
    """A verdict's `retry_after` may be an int."""
    error = ServerError("busy")
    error.retry_after = 7
    assert "done" == await lab.call(way, steps(error, "done"))
    assert [7.0] == lab.clock.sleeps
