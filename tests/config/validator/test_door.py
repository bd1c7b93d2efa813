"""The rate limit at the door: exact, monotonic, and bounded whatever names come (contract 7)."""

import os
import sys

import pytest

from resilience_kit.config import ClientRateLimits
from resilience_kit.config.validator.client_rate_limiter import ClientRateLimiter
from resilience_kit.testing import FakeClock


@pytest.fixture
def clock():
    """A clock that is moved by hand."""
    return FakeClock(auto_advance=False)


def passes(door, client, times):
    """How many of some tries at once are let through."""
    return sum(door.admit(client) is None for _ in range(times))


def test_the_limits_are_those_of_the_contract():
    """60 a minute, 1000 an hour, 1 s between two."""
    limits = ClientRateLimits()
    assert (60, 1000, 1.0) == (limits.per_minute, limits.per_hour, limits.interval)


def test_wrong_limits_are_told_at_once(sentences):
    """Each with its rule."""
    assert [
        "ClientRateLimits.per_minute: must be a whole number of at least 1, got 0",
        "ClientRateLimits.per_hour: must be a whole number of at least 1, got True",
        "ClientRateLimits.interval: must be a finite number of seconds of at least 0, got nan",
        "ClientRateLimits.max_clients: must be a whole number of at least 1, got 0",
    ] == sentences(ClientRateLimits, per_minute=0, per_hour=True, interval=float("nan"), max_clients=0)


def test_two_tries_are_a_second_apart(clock):
    """The second one is let through at the very nanosecond."""
    door = ClientRateLimiter(ClientRateLimits(), clock)
    assert 1 == passes(door, "a", 3)
    clock.advance(0.999999999)
    assert door.admit("a").retry_after == pytest.approx(1e-9)
    clock.advance(0.000000001)
    assert 1 == passes(door, "a", 3)


def test_no_minute_holds_more_than_its_limit(clock):
    """Wherever it begins; each try counts for sixty seconds from its own moment on."""
    door = ClientRateLimiter(ClientRateLimits(per_minute=3, per_hour=None, interval=None), clock)
    let_through = []
    for _ in range(200):
        clock.advance(7.0)
        let_through += [clock.monotonic()] * passes(door, "a", 2)
    assert all(3 >= sum(begin <= each < begin + 60 for each in let_through) for begin in let_through)
    assert len(let_through) >= 3 * 200 * 7 // 60 - 3


def test_no_hour_holds_more_than_its_limit(clock):
    """A thousand tries at one a second take the hour's quota; the next is let through when the first is an hour old."""
    door = ClientRateLimiter(ClientRateLimits(per_minute=None), clock)
    for _ in range(1000):
        assert door.admit("a") is None
        clock.advance(1.0)
    refusal = door.admit("a")
    assert ("must be at most 1000 an hour", 2600.0) == refusal
    clock.advance(refusal.retry_after)
    assert 1 == passes(door, "a", 2)


def test_the_longest_wait_of_all_limits_is_told(clock):
    """Whoever waits that long is let through."""
    door = ClientRateLimiter(ClientRateLimits(per_minute=1, per_hour=1), clock)
    assert door.admit("a") is None
    assert 3600.0 == door.admit("a").retry_after


def test_a_limit_longer_than_an_hour_is_kept(clock):
    """A record lasts as long as its longest limit."""
    door = ClientRateLimiter(ClientRateLimits(interval=7200.0), clock)
    assert door.admit("a") is None
    clock.advance(3601.0)
    assert 3599.0 == door.admit("a").retry_after
    assert 1000 == door.info("a")["remaining_this_hour"]


def test_refused_tries_cost_nothing(clock):
    """A thousand of them leave the quota as it is."""
    door = ClientRateLimiter(ClientRateLimits(per_minute=2), clock)
    assert 1 == passes(door, "a", 1000)
    clock.advance(1.0)
    assert 1 == passes(door, "a", 1000)


def test_without_limits_everybody_passes(clock):
    """None is off, and no record is kept for long."""
    door = ClientRateLimiter(ClientRateLimits(per_minute=None, per_hour=None, interval=None), clock)
    assert 1000 == passes(door, "a", 1000)
    assert {"allowed": True, "retry_after": 0.0} == {name: door.info("a")[name] for name in ("allowed", "retry_after")}
    assert (None, None) == (door.info("a")["remaining_this_minute"], door.info("a")["remaining_this_hour"])


def test_clients_do_not_share_a_quota(clock):
    """Each has its own."""
    door = ClientRateLimiter(ClientRateLimits(), clock)
    assert [1, 1, 1] == [passes(door, client, 2) for client in ("a", "b", "")]


def test_what_is_left_is_told_and_not_taken(clock):
    """Asking is free."""
    door = ClientRateLimiter(ClientRateLimits(), clock)
    assert {
        "allowed": True,
        "retry_after": 0.0,
        "remaining_this_minute": 60,
        "remaining_this_hour": 1000,
        "per_minute": 60,
        "per_hour": 1000,
        "interval": 1.0,
    } == door.info("a")
    door.admit("a")
    told = [door.info("a") for _ in range(3)][-1]
    assert (False, 1.0, 59, 999) == (
        told["allowed"],
        told["retry_after"],
        told["remaining_this_minute"],
        told["remaining_this_hour"],
    )
    clock.advance(3600.0)
    assert (True, 60, 1000) == (
        door.info("a")["allowed"],
        door.info("a")["remaining_this_minute"],
        door.info("a")["remaining_this_hour"],
    )
    assert door.admit("a") is None


def test_a_flood_of_names_takes_no_more_than_the_table(clock):
    """Newcomers share one record while the table is full; nobody in it loses his."""
    door = ClientRateLimiter(ClientRateLimits(interval=None, per_minute=3, max_clients=100), clock)
    assert 3 == passes(door, "first", 5)
    let_through = sum(passes(door, f"flood {n}", 1) for n in range(10_000))
    assert (99 + 3, 100) == (let_through, door.clients)
    assert 0 == passes(door, "first", 5)
    assert 0 == passes(door, "an honest newcomer", 5)


def test_idle_clients_make_room(clock):
    """A record goes when it is too old to count, and whoever is new then has a quota of his own."""
    door = ClientRateLimiter(ClientRateLimits(max_clients=2), clock)
    passes(door, "a", 1)
    clock.advance(1800.0)
    assert [1, 1] == [passes(door, client, 1) for client in ("b", "shared")]
    clock.advance(1800.0)
    assert [1, 1] == [passes(door, "new", 1), passes(door, "b", 1)]
    assert 2 == door.clients
    clock.advance(3600.0)
    passes(door, "last", 1)
    assert 1 == door.clients


def test_a_long_name_costs_no_more_than_a_short_one(clock):
    """Its two ends and its length stand for it; half surrogate pairs are names as well."""
    door = ClientRateLimiter(ClientRateLimits(), clock)
    assert [1, 0, 1, 1] == [passes(door, name, 1) for name in ("x" * 10**6, "x" * 10**6, "x" * (10**6 - 1), "\ud800")]
    assert sys.getsizeof(next(iter(door._requests))) < 64


def test_names_are_not_kept(clock):
    """A name may be an address or a key; what is kept is a keyed hash of it, another one in each door."""
    doors = [ClientRateLimiter(ClientRateLimits(), clock) for _ in range(2)]
    for door in doors:
        door.admit("10.0.0.7")
    assert 2 == len({key for door in doors for key in door._requests} - {b"10.0.0.7"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_is_not_locked_out(clock):
    """Although another thread held the lock when it was forked (invariant 22)."""
    door = ClientRateLimiter(ClientRateLimits(), clock)
    door._lock.acquire()
    door.reset_after_fork()
    assert door.admit("a") is None
