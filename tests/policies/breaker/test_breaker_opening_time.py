"""How long it stays open: the recovery time, its growth, and what the server asks for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.policies.breaker import CircuitBreaker


def reopenings(lab, breaker, number):
    """The open times of a row of failing trials, the first trip included."""
    found = []
    for _ in range(number):
        lab.fail(breaker, 1 if found else breaker.failure_threshold)
        found.append(breaker.open_remaining)
        lab.clock.now += breaker.open_remaining
    return found


def test_without_a_maximum_it_stays_the_same(lab):
    """No growth and no jitter unless `max_recovery_timeout` is given; nor is the random source asked."""
    breaker = lab.breaker(random=None)
    assert [10.0, 10.0, 10.0] == reopenings(lab, breaker, 3)


@pytest.mark.parametrize(("dice", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_it_doubles_up_to_the_maximum_with_jitter(lab, dice, factor):
    """Twice as long at each re-opening, spread by a tenth either way, never above the maximum (invariant 18)."""
    breaker = lab.breaker(max_recovery_timeout=100.0, random=lambda: dice)
    lab.clock.now = 0.0
    expected = [seconds * factor for seconds in (10, 20, 40, 80)] + [100.0 - 100.0 * abs(factor - 1.0)] * 2
    assert [pytest.approx(seconds) for seconds in expected] == reopenings(lab, breaker, 6)


def test_reopenings_at_the_maximum_are_spread(lab):
    """A thousand circuits that have reached it do not reopen at the same moment (invariant 18)."""
    found = []
    for number in range(1000):
        breaker = lab.breaker(recovery_timeout=99.0, max_recovery_timeout=100.0, random=lambda number=number: number / 1000)
        found += reopenings(lab, breaker, 1)
    assert 89.0 <= min(found) < 90.0
    assert 99.5 < max(found) <= 100.0
    assert all(found.count(each) <= 2 for each in found)


def test_it_is_back_to_its_first_length_after_a_close(lab):
    """A good trial ends the growth (invariant 18)."""
    breaker = lab.breaker(max_recovery_timeout=100.0, random=lambda: 0.5)
    assert [10.0, 20.0, 40.0] == reopenings(lab, breaker, 3)
    breaker.call(int)
    assert [10.0, 20.0] == reopenings(lab, breaker, 2)


def test_neutral_trials_do_not_make_it_grow(lab):
    """Only a failing trial does (invariants 3, 18)."""
    breaker = lab.breaker(max_recovery_timeout=100.0, random=lambda: 0.5)
    reopenings(lab, breaker, 1)
    for _ in range(5):
        breaker.release(breaker.acquire())
    lab.fail(breaker)
    assert 20.0 == breaker.open_remaining


def test_many_reopenings_do_not_overflow(lab):
    """Neither by their number nor by the size of the times (invariant 18)."""
    for first, longest, expected in ((1.0, 1e300, 2.0**64), (1e300, 1.5e308, 1.5e308)):
        breaker = lab.breaker(recovery_timeout=first, max_recovery_timeout=longest, random=lambda: 0.5)
        for _ in range(100):
            breaker.state = "half_open"
            lab.fail(breaker)
        lab.clock.now = breaker.snapshot.until / 2  # far from where the clock's own figures matter
        assert pytest.approx(expected / 2) == breaker.open_remaining
        lab.clock.now = 0.0


@pytest.mark.parametrize(("hint", "longest", "seconds"), [
    (60.0, None, 60.0),
    (3.0, None, 10.0),
    (0.0, None, 10.0),
    (1e9, None, 300.0),
    (math.inf, None, 300.0),
    (math.nan, None, 10.0),
    (-5.0, None, 10.0),
    (1e9, 100.0, 100.0),
    (60.0, 100.0, 60.0),
])  # fmt: skip
def test_the_server_s_hint_raises_it(lab, hint, longest, seconds):
    """Retry-After is obeyed up to a bound, and never shortens (semantics: breaker)."""
    breaker = lab.breaker(failure_threshold=1, max_recovery_timeout=longest, random=lambda: 0.5)
    breaker.on_failure(breaker.acquire(), lab.Boom(), retry_after=hint)
    assert seconds == breaker.open_remaining


def test_a_trial_s_hint_counts_too(lab):
    """A failing trial may bring another hint."""
    breaker = lab.half_open()
    breaker.on_failure(breaker.acquire(), lab.Boom(), retry_after=42.0)
    assert 42.0 == breaker.open_remaining


@given(
    first=st.floats(1e-3, 1e3), longest=st.floats(1, 1e4), dice=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    hint=st.none() | st.floats(),
)  # fmt: skip
def test_it_stays_in_its_range(first, longest, dice, hint):
    """Whatever the dice and the server say: at least nine tenths of the doubled time, at most the maximum (invariant 18)."""
    top = first * longest
    throws = iter(dice)
    breaker = CircuitBreaker(1, first, max_recovery_timeout=top, clock=lambda: 0.0, random=lambda: next(throws))
    for number in range(len(dice)):
        breaker.state = "half_open"
        breaker.on_failure(breaker.acquire(), ValueError(), retry_after=hint)
        assert min(top, first * 2**number) * 0.9 * (1 - 1e-12) <= breaker.open_remaining <= top
