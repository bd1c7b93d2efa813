"""A refusal, an event, a log line and a note all say which guard it was, and of which kind."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest

from resilience_kit.errors import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    GuardKind,
    RateLimitExceededError,
    Rejected,
    ServerError,
)
from resilience_kit.events import CallDelayed, CallFailed, CallRejected
from resilience_kit.guards import guard_kind_of
from resilience_kit.limits import AsyncExecutor, Bulkhead, RateLimitedExecutor, RateLimiter, TokenBucketRateLimiter
from resilience_kit.policies.breaker import CircuitBreaker
from resilience_kit.policies.bulkhead import BulkheadConfig
from resilience_kit.policies.rate_limit import RateLimitConfig

SPENT = RateLimitConfig(rate=0.001, burst=1.0, max_wait=0.0)
NO_ROOM = BulkheadConfig(max_concurrent=1, max_queue=0)


async def refusal_of(lab, way, steps, **options):
    """The refusal of a second call, the first of which has used up what there is."""
    lab.listen(CallRejected)
    refusal = None
    for _ in range(2):
        try:
            await lab.call(way, steps("done"), config=lab.config(**options))
        except Rejected as error:
            refusal = error
    return refusal


async def test_refusal_of_an_operations_own_rate_limit_names_it(lab, direct, steps, caplog):
    """The error, the event and the log name the limit and its kind, and the error's name stays the operation's."""
    caplog.set_level(logging.DEBUG, "resilience_kit")
    refusal = await refusal_of(lab, direct, steps, rate_limit=SPENT)
    assert ("op", "op (rate limit)", GuardKind.RATE_LIMIT) == (refusal.name, refusal.guard, refusal.guard_kind)
    (event,) = lab.events
    assert ("op (rate limit)", "rate_limit") == (event.guard, event.guard_kind)
    assert any(line.startswith("'op': refused by rate limit 'op (rate limit)'; retry after") for line in caplog.messages)


async def test_refusal_of_an_operations_own_bulkhead_names_it(lab, steps):
    """A call inside a call that has all the room is refused by the bulkhead, not by something named as the operation."""
    lab.listen(CallRejected)
    config = lab.config(bulkhead=NO_ROOM)
    inner = lab.kit.with_resilience("op", custom_config=config)(steps("done"))
    with pytest.raises(BulkheadFullError) as caught:
        lab.kit.with_resilience("op", custom_config=config)(inner)()
    assert ("op", "op (bulkhead)", GuardKind.BULKHEAD) == (caught.value.name, caught.value.guard, caught.value.guard_kind)
    assert [("op (bulkhead)", GuardKind.BULKHEAD)] == [(event.guard, event.guard_kind) for event in lab.events]


async def test_refusal_of_the_breaker_names_the_breaker(lab, way, steps):
    """The gate of every driver tells the kind, too."""
    lab.listen(CallRejected)
    lab.kit.get_circuit_breaker("op").force_open("test")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await lab.call(way, steps("done"))
    assert ("op", GuardKind.CIRCUIT_BREAKER) == (caught.value.guard, caught.value.guard_kind)
    assert [("op", GuardKind.CIRCUIT_BREAKER)] == [(event.guard, event.guard_kind) for event in lab.events]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(None, "custom"), (7, "custom"), ("of mine", "custom"), ("budget", "budget"), (GuardKind.THROTTLE, "throttle")],
)
async def test_refusal_of_a_users_guard_has_the_kind_that_it_names(lab, direct, steps, kind, expected):
    """A guard without a usable kind is custom, whichever error it raises."""
    lab.listen(CallRejected)
    guard = lab.Guard("mine", BulkheadFullError("full", 2.0))
    if kind is not None:
        guard.kind = kind
    with pytest.raises(BulkheadFullError) as caught:
        await lab.call(direct, steps("done"), config=lab.config(guards=(lab.Guard("first"), guard)))
    assert ("full", "mine", expected) == (caught.value.name, caught.value.guard, caught.value.guard_kind)
    assert [("mine", expected)] == [(event.guard, event.guard_kind) for event in lab.events]


async def test_refusal_that_a_guard_has_attributed_keeps_its_attribution(lab, steps):
    """A guard that asks others may name the one of them that refused."""
    refusal = Rejected("inner").attribute_to("innermost", GuardKind.THROTTLE)
    with pytest.raises(Rejected) as caught:
        await lab.call("sync", steps("done"), config=lab.config(guards=(lab.Guard("outer", refusal),)))
    assert ("innermost", GuardKind.THROTTLE) == (caught.value.guard, caught.value.guard_kind)
    assert "throttle of 'inner' refused the call" == str(caught.value)


async def test_refusal_of_a_breaker_among_the_guards_names_it(lab, direct, steps):
    """It is asked as any guard is, and says that it is a breaker."""
    shared = CircuitBreaker(1, 10.0, name="host", clock=lab.clock.monotonic)
    shared.force_open("test")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await lab.call(direct, steps("done"), config=lab.config(guards=(shared,)))
    assert ("host", GuardKind.CIRCUIT_BREAKER) == (caught.value.guard, caught.value.guard_kind)


async def test_wait_that_does_not_fit_names_the_guard_that_wants_it(lab, direct, steps):
    """A wait beyond the deadline is refused in the name of its guard, though the driver is the one that refuses."""
    guards = (lab.Guard("first"), lab.Guard("slow", 7.0), lab.Guard("last"))
    guards[1].kind = "throttle"
    with pytest.raises(Rejected) as caught:
        await lab.call(direct, steps("done"), config=lab.config(guards=guards, deadline=5.0))
    assert ("slow", "slow", "throttle", 7.0) == (
        caught.value.name, caught.value.guard, caught.value.guard_kind, caught.value.retry_after,
    )  # fmt: skip


async def test_queue_that_is_too_long_names_its_guard(lab, direct, steps):
    """A refusal out of a queue is attributed as one at its entrance is."""
    shared = RateLimiter(RateLimitConfig(rate=0.1), name="account", clock=lab.clock)
    shared.admit()
    guards = (lab.Guard("first"),)
    with pytest.raises(RateLimitExceededError) as caught:
        await lab.call(direct, steps("done"), config=lab.config(guards=guards, rate_limit=shared, deadline=5.0))
    assert ("account", GuardKind.RATE_LIMIT) == (caught.value.guard, caught.value.guard_kind)


async def test_refused_retry_tells_the_kind_in_note_and_event(lab, direct, steps):
    """The last real error says what kept it from being repeated."""
    lab.listen(CallFailed)
    with pytest.raises(ServerError) as caught:
        await lab.call(direct, steps(ServerError), config=lab.config(rate_limit=SPENT))
    assert "rate limit of 'op' refused a further attempt" in caught.value.__notes__[0]
    assert ["rate limit of 'op' refused a further attempt"] == [event.reason for event in lab.events]


async def test_waits_tell_the_kind_of_their_guard(lab, steps, caplog):
    """A wait is told with the guard's own name and kind, in the event and in the log."""
    caplog.set_level(logging.DEBUG, "resilience_kit")
    lab.listen(CallDelayed)
    config = lab.config(rate_limit=RateLimitConfig(rate=0.5, burst=1.0))
    for _ in range(2):
        await lab.call("sync", steps("done"), config=config)
    assert [("op (rate limit)", GuardKind.RATE_LIMIT, 2.0)] == [
        (event.guard, event.guard_kind, event.seconds) for event in lab.events
    ]
    assert "'op': waited 2.0 s for its turn at rate limit 'op (rate limit)'" in caplog.messages


def test_the_kits_own_guards_name_their_kind(lab):
    """Each says so itself, by hand or in a plan."""
    guards = {
        RateLimiter(SPENT): "rate_limit",
        TokenBucketRateLimiter(1.0): "rate_limit",
        RateLimitedExecutor(1.0): "rate_limit",
        Bulkhead(NO_ROOM): "bulkhead",
        AsyncExecutor(1): "bulkhead",
        CircuitBreaker(): "circuit_breaker",
        lab.Guard("mine"): "custom",
    }
    assert list(guards.values()) == [guard_kind_of(guard).value for guard in guards]


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_attribution_survives_copy_and_pickle(copied):
    """A refusal that crosses a process still says who refused."""
    refusal = copied(RateLimitExceededError("op", 2.0).attribute_to("op (rate limit)", GuardKind.RATE_LIMIT))
    assert ("op", "op (rate limit)", GuardKind.RATE_LIMIT, 2.0) == (
        refusal.name, refusal.guard, refusal.guard_kind, refusal.retry_after,
    )  # fmt: skip
