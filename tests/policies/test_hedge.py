"""When a second request goes out, and how many may."""

from __future__ import annotations

import threading

import pytest

from resilience_kit._fork import _reset_all
from resilience_kit.errors import ConfigurationError
from resilience_kit.policies.hedge import HedgeConfig, Hedging


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"delay": -1.0}, "HedgeConfig.delay"),
        ({"max_hedges": 0}, "HedgeConfig.max_hedges"),
        ({"quantile": 0.2}, "HedgeConfig.quantile"),
        ({"minimum_calls": 0}, "HedgeConfig.minimum_calls"),
        ({"max_share": 0.0}, "HedgeConfig.max_share"),
    ],
)
def test_a_wrong_option_is_a_sentence(options, told):
    """With the field and the rule."""
    with pytest.raises(ConfigurationError, match=told):
        HedgeConfig(**options)


def test_a_given_delay_is_not_observed():
    """Nobody is asked for it."""
    assert 0.25 == Hedging(HedgeConfig(delay=0.25), None).delay()


def test_an_observed_delay_is_looked_up_now_and_then():
    """Each time while it is unknown, then at every 32nd attempt."""
    answers = iter([None, None, 1.0, 2.0])
    asked = []

    def observed(share, least):
        asked.append((share, least))
        return next(answers)

    hedging = Hedging(HedgeConfig(quantile=0.9, minimum_calls=7), observed)
    assert [None, None, *[1.0] * 29, 2.0, 2.0] == [hedging.delay() for _ in range(33)]
    assert [(0.9, 7)] * 4 == asked


def test_the_share_bounds_hedges_over_time():
    """At most ten at once; each attempt brings its share."""
    hedging = Hedging(HedgeConfig(delay=0.0, max_share=0.25), None)
    assert [True] * 10 + [False] == [hedging.try_acquire() for _ in range(11)]
    for _ in range(4):
        hedging.delay()
    assert [True, False] == [hedging.try_acquire() for _ in range(2)]


def test_a_hedge_that_was_not_sent_comes_back():
    """And never makes more than ten."""
    hedging = Hedging(HedgeConfig(delay=0.0), None)
    hedging.try_acquire()
    for _ in range(2):
        hedging.refund()
    assert 10 == sum(hedging.try_acquire() for _ in range(20))


def test_threads_share_it_exactly():
    """No credit is spent twice."""
    hedging, taken = Hedging(HedgeConfig(delay=0.0), None), []
    threads = [threading.Thread(target=lambda: taken.extend(hedging.try_acquire() for _ in range(50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 10 == sum(taken)


def test_a_forked_child_has_a_lock_of_its_own():
    """One that nobody holds (invariant 22)."""
    hedging = Hedging(HedgeConfig(delay=0.0), None)
    with hedging._lock:
        _reset_all()
        assert hedging.try_acquire()
