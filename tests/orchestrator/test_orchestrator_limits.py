"""Limits belong to operations, or to whoever hands them in: one for all call sites, kept while settings change."""

from __future__ import annotations

import pytest

from resilience_kit import ConfigurationError, with_resilience
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import BulkheadFullError, RateLimitExceededError
from resilience_kit.events import OptionsIgnored
from resilience_kit.limits import BulkheadConfig, RateLimitConfig, RateLimiter, TokenBucketRateLimiter
from resilience_kit.orchestrator import get_orchestrator

TWO = RateLimitConfig(rate=0.001, burst=2.0, max_wait=0.0)
NO_ROOM = BulkheadConfig(max_concurrent=1, max_queue=0)


def refused(call):
    """Whether a call is refused."""
    try:
        call()
    except (RateLimitExceededError, BulkheadFullError):
        return True
    return False


def test_call_sites_of_an_operation_share_its_limit(kit, config):
    """Whichever way they say it."""
    first = kit.with_resilience("op", custom_config=config(rate_limit=TWO))(lambda: 1)
    second = kit.with_resilience("op", rate_limit=RateLimitConfig(rate=0.001, burst=2.0, max_wait=0.0))(lambda: 2)
    other = kit.with_resilience("other", rate_limit=TWO)(lambda: 3)
    assert [False, False, True, False] == [refused(call) for call in (first, second, first, other)]
    assert refused(lambda: kit.call_with_resilience(lambda: 4, "op", custom_config=config(rate_limit=TWO)))


def test_operations_share_a_limiter_that_is_handed_in(kit, clock):
    """One account, several operations."""
    shared = RateLimiter(TWO, name="account", clock=clock)
    calls = [kit.with_resilience(name, rate_limit=shared)(lambda: 1) for name in ("a", "b")]
    assert [False, False, True, True] == [refused(call) for call in (*calls, *calls)]
    with pytest.raises(RateLimitExceededError, match="'account'"):
        calls[0]()


def test_a_limit_outlasts_changes(kit):
    """Of strategy and settings: what was taken stays taken."""
    call = kit.with_resilience("op", rate_limit=TWO)(lambda: 1)
    call()
    kit.set_strategy("op", "critical")
    call()
    kit.reload(ResilienceSettings(preset="production"))
    assert refused(call)


def test_each_call_site_has_its_own_costs(kit):
    """They depend on its function's arguments; the buckets are the operation's."""
    tokens = {"rate": 0.001, "burst": 10.0, "max_wait": 0.0}
    short = kit.with_resilience("op", rate_limit=RateLimitConfig(cost=len, **tokens))(lambda text: text)
    long = kit.with_resilience("op", rate_limit=RateLimitConfig(cost=lambda count: count * 4, **tokens))(lambda count: count)
    short("xxxx")
    assert [False, True, False] == [refused(call) for call in (lambda: long(1), lambda: long(1), lambda: short("xx"))]


def test_several_limits_on_one_operation(kit):
    """Requests and tokens."""
    limits = (
        RateLimitConfig(rate=0.001, burst=3.0, max_wait=0.0),
        RateLimitConfig(rate=0.001, burst=10.0, max_wait=0.0, cost=len),
    )
    call = kit.with_resilience("op", rate_limit=limits)(lambda text: text)
    assert [False, True, False, False, True] == [refused(lambda text=text: call(text)) for text in ("x" * 8, "xxx", "x", "", "")]


def test_other_limits_of_the_same_operation_do_not_count(kit):
    """The first ones rule; it is told once."""
    heard = []
    kit.add_listener(heard.append, OptionsIgnored)
    first = kit.with_resilience("op", rate_limit=TWO, bulkhead=NO_ROOM)(lambda: 1)
    for _ in range(3):
        other = kit.with_resilience("op", rate_limit=RateLimitConfig(rate=9.0), bulkhead=BulkheadConfig(max_concurrent=9))(
            lambda: 2
        )
    assert ["bulkhead options", "rate limit options"] == sorted(event.options for event in heard)
    assert [False, False, True] == [refused(call) for call in (first, other, other)]


def test_room_is_the_operations_too(kit):
    """A call within a call of the same operation finds it full."""
    inner = kit.with_resilience("op", bulkhead=NO_ROOM)(lambda: 1)
    outer = kit.with_resilience("op", bulkhead=NO_ROOM)(lambda: refused(inner))
    assert (True, False) == (outer(), refused(inner))


def test_what_is_off_is_off(kit, config):
    """None takes away what the config has; everything is off with the switch."""
    full = config(rate_limit=TWO, bulkhead=NO_ROOM)
    free = kit.with_resilience("op", custom_config=full, rate_limit=None, bulkhead=None)(lambda: 1)
    assert not any(refused(free) for _ in range(9))
    kit.reload(ResilienceSettings(enabled=False))
    assert not any(refused(kit.with_resilience("op", custom_config=full)(lambda: 1)) for _ in range(9))


def test_the_default_orchestrator_has_them_too():
    """At the first call."""
    call = with_resilience("op", rate_limit=TWO, bulkhead=NO_ROOM)(lambda: 1)
    assert [False, False, True] == [refused(call) for _ in range(3)]
    assert 1 == get_orchestrator().get_metrics("op")["rejected_calls"]


def test_what_is_no_limit_is_refused_where_it_is_said(kit):
    """In a sentence each."""
    for wrong in (5, "fast", (), (TWO, 3), [TWO], True):
        with pytest.raises(ConfigurationError, match=r"with_resilience\.rate_limit: must be a RateLimitConfig"):
            kit.with_resilience("op", rate_limit=wrong)
    with pytest.raises(ConfigurationError, match=r"with_resilience\.bulkhead: must be a BulkheadConfig"):
        kit.with_resilience("op", bulkhead=5)


def test_limits_are_explained(kit):
    """By who said them, in plain values."""
    limiter = TokenBucketRateLimiter(5, name="account")
    kit.with_resilience("op", rate_limit=limiter, bulkhead=NO_ROOM)(lambda: 1)
    told = kit.explain("op")
    assert ("account", "rate_limit argument") == (told["rate_limit"].value, told["rate_limit"].source)
    assert 1 == told["bulkhead"].value["max_concurrent"]
    kit.with_resilience("other", rate_limit=RateLimitConfig(rate=3.0, cost=len))(lambda _: 1)
    assert (3.0, "len") == tuple(kit.explain("other")["rate_limit"].value[name] for name in ("rate", "cost"))
