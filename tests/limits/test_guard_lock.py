"""A call that the collector ends in the midst of a guard's own work, in the same thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilience_kit._wait_queue import DeferringLock
from resilience_kit.http.host_pacer import HostPacer
from resilience_kit.http.pacing import Pacing
from resilience_kit.http.pacing_config import PacingConfig
from resilience_kit.limits import BulkheadConfig, RateLimitConfig, RateLimiter
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.bulkhead import Bulkhead
from resilience_kit.testing import FakeClock

LEFT = Outcome(OutcomeKind.CANCELLED, begun=False)


def bulkhead() -> tuple[Any, DeferringLock]:
    """With room for one."""
    made = Bulkhead(BulkheadConfig(max_concurrent=1))
    return made, made._deferring_lock


def rate_limit() -> tuple[Any, DeferringLock]:
    """With a token for one."""
    made = RateLimiter(RateLimitConfig(rate=1.0, period=3600.0, burst=1.0), clock=FakeClock())
    return made, made._token_buckets.deferring_lock


def pace() -> tuple[HostPacer, DeferringLock]:
    """That lends one trial, since the credential was refused."""
    clock = FakeClock()
    made = Pacing(PacingConfig(), clock=clock).for_host("api.example.com", "key")
    refused = Verdict(FailureKind.AUTH, retryable=False, counts_against_breaker=False)
    made.admit().settle(Outcome(OutcomeKind.IGNORED, verdict=refused))
    clock.advance(60.0)
    return made, made._access_state.guard_lock


def ended() -> None:
    """Wait for those who settle what was put off."""
    for thread in [each for each in threading.enumerate() if each.name == "resilience_kit settles"]:
        thread.join(30.0)


@pytest.mark.parametrize("make", [bulkhead, rate_limit, pace])
def test_what_ends_in_the_midst_of_a_guards_work_ends_after_it(make: Callable[[], tuple[Any, DeferringLock]]) -> None:
    """The thread does not wait for itself, and what was taken is free again (invariants 5 and 15)."""
    guard, guarded = make()
    permit = guard.admit()
    with guarded.lock:
        permit.settle(LEFT)
        assert not guard.fits()
    ended()
    assert guard.fits()


def test_many_of_them_need_one_thread() -> None:
    """The collector may end any number at once."""
    guarded, done = DeferringLock(), list[int]()

    def work(number: int) -> None:
        with guarded.lock:
            done.append(number)

    with guarded.lock:
        for number in range(100):
            guarded.defer(lambda number=number: work(number))  # type: ignore[misc]
        assert [] == done
        assert 1 == [each.name for each in threading.enumerate()].count("resilience_kit settles")
    ended()
    assert list(range(100)) == done


def test_a_token_that_is_given_back_in_the_midst_comes_back() -> None:
    """As when a coroutine that waits for it is dropped."""
    limiter, guarded = rate_limit()
    limiter.admit()
    with guarded.lock:
        limiter._token_buckets.refund((1.0,))
    ended()
    assert limiter.fits()
