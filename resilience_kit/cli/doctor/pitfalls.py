"""Pitfalls of the wrapped libraries, and whether the installed versions still have them.

Each is checked by triggering it. tests/test_upstream_contract.py pins these and all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import circuitbreaker
import tenacity

from resilience_kit.cli.doctor.finding import Finding, Severity


class UpstreamPitfall(NamedTuple):
    """A pitfall of `library`; `is_present` triggers it."""

    library: str
    description: str
    mitigation: str
    is_present: Callable[[], bool]


def inspect_pitfalls() -> Iterator[Finding]:
    """Yield a finding for each pitfall. None is a problem: the kit avoids all of them."""
    for each in PITFALLS:
        text = f"{each.description}; {each.mitigation}" if each.is_present() else f"fixed in this version: {each.description}"
        yield Finding("pitfalls", each.library, Severity.OK, text)


def _half_open_lets_in_all() -> bool:
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=-1)
    inside = 0

    def trial(deeper: int) -> None:
        nonlocal inside
        inside += 1
        if deeper:
            breaker.call(trial, deeper - 1)
        raise ZeroDivisionError

    with suppress(ZeroDivisionError):
        breaker.call(trial, 0)
    inside = 0
    with suppress(ZeroDivisionError, circuitbreaker.CircuitBreakerError):
        breaker.call(trial, 1)
    return inside > 1


def _zero_is_replaced() -> bool:
    made: object = circuitbreaker.CircuitBreaker(failure_threshold=0)
    return bool(getattr(made, "_failure_threshold", 0))


def _with_ignores_the_state() -> bool:
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=60)
    with suppress(ZeroDivisionError):
        breaker.call(lambda: 1 // 0)
    try:
        with breaker:
            return True
    except circuitbreaker.CircuitBreakerError:
        return False


def _cancellation_is_retried() -> bool:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    cancelled = asyncio.CancelledError()
    state.set_exception((type(cancelled), cancelled, None))
    return bool(tenacity.retry_if_not_exception_type(ValueError)(state))


def _delay_is_overrun() -> bool:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.outcome_timestamp, state.upcoming_sleep = state.start_time + 0.9, 0.7
    return not tenacity.stop_after_delay(1.0)(state)


PITFALLS = (
    UpstreamPitfall(
        "circuitbreaker", "a half-open circuit lets every caller in", "the kit limits the trials", _half_open_lets_in_all
    ),
    UpstreamPitfall("circuitbreaker", "a failure_threshold of 0 becomes 5 in silence", "the kit rejects it", _zero_is_replaced),
    UpstreamPitfall("circuitbreaker", "`with breaker:` enters an open circuit", "the kit raises", _with_ignores_the_state),
    UpstreamPitfall(
        "tenacity", "retry_if_not_exception_type retries a cancelled task", "the kit does not", _cancellation_is_retried
    ),
    UpstreamPitfall("tenacity", "stop_after_delay lets a sleep begin that ends too late", "the kit does not", _delay_is_overrun),
)
