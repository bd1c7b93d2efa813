"""What a bucket holds, what calls cost, and what is wrong in options."""

from __future__ import annotations

import logging
import math

import pytest

from resilience_kit.errors import ConfigurationError, RateLimitExceededError
from resilience_kit.guards import Guard, Permit
from resilience_kit.outcome import Outcome, OutcomeKind, Streamed
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter


def taken_in(clock, limiter, seconds, step):
    """Calls that start at once, when somebody asks all the time."""
    taken, end = 0, clock.monotonic() + seconds
    while clock.monotonic() < end:
        while limiter.fits():
            limiter.admit()
            taken += 1
        clock.advance(step)
    return taken


def test_a_limiter_is_a_guard(lab):
    """Known by its methods, as are its permits."""
    limiter = lab.limiter()
    assert isinstance(limiter, Guard)
    assert isinstance(limiter.admit(), Permit)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1, 7, 0.3, 500 / 60, 1000, 3.7])
def test_a_minute_brings_what_the_rate_says(lab, rate):
    """And the burst once: exact to one, whatever the steps in which time passes."""
    for step in (0.25, 0.1, 1 / 3):
        burst = max(2.0, rate)
        taken = taken_in(lab.clock, lab.limiter(rate, burst=burst), 60.0 + step / 2, step)
        assert abs(taken - (burst + rate * 60.0)) <= 1


@pytest.mark.slow
def test_waiting_callers_start_at_the_rate_to_the_end(lab):
    """An hour of them, one by one: no rounding adds up."""
    limiter = lab.emptied(7.0, burst=1.0)
    starts = [lab.start(limiter.admit()) for _ in range(7 * 3600)]
    assert 3600.0 == pytest.approx(starts[-1] - 100.0, abs=1e-6)


def test_a_bucket_holds_no_more_than_its_burst(lab):
    """A night of silence is no reason for a storm (invariant 12)."""
    limiter = lab.emptied(10.0, burst=3.0)
    lab.clock.advance(36_000.0)
    assert [True, True, True, False] == [limiter.fits() and limiter.admit().turn is None for _ in range(4)]


def test_a_caller_who_comes_late_to_its_turn_loses_little(lab):
    """While somebody waits, a twentieth of a second goes on top of the burst, and no more."""
    limiter = lab.emptied(100.0, burst=1.0)
    lab.waiting(limiter)
    lab.clock.advance(10.0)
    others = [lab.waiting(limiter) for _ in range(20)]
    head = limiter._token_buckets.queue.head()
    assert 0.0 == head.look()
    assert 5 == sum(permit.turn.granted for permit in others)


def test_costs_may_be_fractions(lab):
    """Ten tenths are one."""
    limiter = lab.limiter(1.0)
    assert [True] * 10 + [False] == [limiter.fits(0.1) and limiter.admit(0.1).turn is None for _ in range(11)]


def test_a_cost_above_the_burst_waits_for_a_full_bucket_and_leaves_a_debt(lab):
    """Over time the rate is kept."""
    limiter = lab.emptied(10.0, burst=5.0)
    assert [100.5, 102.5] == [lab.start(limiter.admit(20.0)), lab.start(limiter.admit(5.0))]


def test_the_burst_is_what_a_second_brings(lab):
    """At least one."""
    sizes = {60.0: 1.0, 6.0: 10.0, 0.5: 120.0}
    assert sizes == {period: RateLimitConfig(rate=60.0, period=period).capacity for period in sizes}
    assert 1.0 == RateLimitConfig(rate=1.0, period=3600.0).capacity


def test_several_buckets_are_taken_from_together(lab):
    """Requests and tokens: whichever is short is waited for, and nothing is taken meanwhile."""
    requests, tokens = RateLimitConfig(rate=10.0, burst=2.0), RateLimitConfig(rate=100.0, burst=100.0, cost=len)
    limiter = RateLimiter(requests, tokens, name="lab", clock=lab.clock)
    assert None is limiter.admit_call((b"x" * 90,), {}).turn
    large, small = limiter.admit_call((b"x" * 60,), {}), limiter.admit_call((b"x" * 10,), {})
    assert (0.5, None) == (large.turn.look(), small.turn.look())
    assert [1.0, 10.0] == [bucket.level for bucket in limiter._token_buckets.buckets]
    assert [100.5, 100.6] == pytest.approx([lab.start(large), lab.start(small)])
    assert not limiter.fits()


def test_the_cost_of_a_call_is_a_function_of_its_arguments(lab):
    """Whatever the other limits on it cost."""
    limiter = lab.limiter(100.0, cost=lambda text, *, factor: len(text) * factor)
    assert (20.0,) == limiter.admit_call(("x" * 10,), {"factor": 2.0}).costs
    assert (3.0,) == limiter.admit(3.0).costs


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, True, "5", None])
def test_a_cost_that_is_no_amount_is_a_mistake(lab, sentences, wrong):
    """Told by the caller's own error."""
    limiter = lab.limiter(100.0, cost=lambda: wrong)
    (sentence,) = sentences(limiter.admit_call, (), {})
    assert sentence.startswith("RateLimitConfig.cost: must give a finite number of at least 0, got ")
    (sentence,) = sentences(limiter.admit, wrong)
    assert sentence.startswith("RateLimitConfig.cost: ")


@pytest.mark.parametrize(("used", "left"), [(30.0, 70.0), (80.0, 20.0), (150.0, -50.0), (None, 50.0)])
def test_the_answer_corrects_the_estimate(lab, used, left):
    """What was not used comes back, what was used beyond is a debt; None is as estimated."""
    limiter = lab.limiter(100.0, cost=lambda: 50.0, usage=lambda answer: answer["used"])
    limiter.admit_call((), {}).settle(Outcome(OutcomeKind.SUCCESS, value={"used": used}))
    assert left == limiter._token_buckets.buckets[0].level


@pytest.mark.parametrize(("items", "left"), [([None, 30.0, None], 70.0), ([10.0, 80.0], 20.0), ([None], 50.0), ([], 50.0)])
def test_a_stream_is_asked_item_by_item_from_its_end(lab, items, left):
    """The last one that tells counts; one that nobody tells of is as estimated."""
    limiter = lab.limiter(100.0, cost=50.0, usage=lambda item: item)
    limiter.admit().settle(Outcome(OutcomeKind.SUCCESS, value=Streamed(items)))
    assert left == limiter._token_buckets.buckets[0].level


def test_two_limits_are_corrected_each_by_its_own(lab):
    """One that knows no usage stays as it is."""
    tokens = RateLimitConfig(rate=100.0, cost=50.0, usage=len)
    limiter = RateLimiter(RateLimitConfig(rate=10.0), tokens, clock=lab.clock)
    limiter.admit().settle(Outcome(OutcomeKind.SUCCESS, value=b"x" * 20))
    assert [9.0, 80.0] == [bucket.level for bucket in limiter._token_buckets.buckets]


@pytest.mark.parametrize("usage", [lambda _: 1 / 0, lambda _: "many", lambda _: -3.0])
def test_a_usage_that_fails_leaves_the_estimate(lab, usage, caplog):
    """The call has gone well; that is told once, and nothing of the answer is."""
    limiter = lab.limiter(100.0, cost=50.0, usage=usage)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            limiter.admit().settle(Outcome(OutcomeKind.SUCCESS, value="sk-canary"))
    assert 0.0 == limiter._token_buckets.buckets[0].level
    (told,) = caplog.messages
    assert told.startswith("usage of 'lab' failed, its estimate stands here and from now on wherever it fails: ")
    assert "canary" not in caplog.text


@pytest.mark.parametrize(
    ("outcome", "left"),
    [
        (Outcome(OutcomeKind.CANCELLED, begun=False), 10.0),
        (Outcome(OutcomeKind.CANCELLED), 9.0),
        (Outcome(OutcomeKind.FAILURE), 9.0),
        (Outcome(OutcomeKind.IGNORED), 9.0),
        (Outcome(OutcomeKind.SUCCESS), 9.0),
    ],
)
def test_only_what_was_not_begun_is_given_back(lab, outcome, left):
    """A request that was sent has been counted by the service, however it ended."""
    limiter = lab.limiter(10.0)
    limiter.admit().settle(outcome)
    assert left == limiter._token_buckets.buckets[0].level


def test_other_weights_share_the_buckets(lab):
    """For operations of other arguments on one account."""
    limiter = lab.limiter(10.0)
    dear = limiter.with_costs(RateLimitConfig(rate=10.0, cost=8.0))
    assert (8.0,) == dear.admit().costs
    assert not limiter.fits(3.0)
    assert [limiter.waiting, dear.waiting] == [0, 0]


def test_other_limits_do_not(lab, sentences):
    """They would be other buckets."""
    (sentence,) = sentences(lab.limiter(10.0).with_costs, RateLimitConfig(rate=11.0))
    assert sentence.startswith("RateLimiter.with_costs: must have the same rate, period, burst and max_wait as the limiter")


def test_wrong_options_are_told_together(sentences):
    """Zero and negative rates, no period, a burst of nothing."""
    found = sentences(RateLimitConfig, rate=-5, period=0, burst=0, max_wait=-1, cost=0, usage="tokens")
    assert [
        "RateLimitConfig.rate: must be a finite number above 0, got -5",
        "RateLimitConfig.period: must be a finite number of seconds above 0, got 0",
        "RateLimitConfig.burst: must be a finite number above 0, got 0",
        "RateLimitConfig.max_wait: must be a finite number of seconds of at least 0, got -1",
        "RateLimitConfig.cost: must be a finite number above 0, or a function of the call's arguments, got 0",
        "RateLimitConfig.usage: must be callable with the answer, got 'tokens'",
    ] == found


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, True, "5", 10**400])
def test_a_rate_is_a_finite_number_above_zero(sentences, wrong):
    """No silent default (invariant 19)."""
    (sentence,) = sentences(RateLimitConfig, rate=wrong)
    assert sentence.startswith("RateLimitConfig.rate: must be a finite number above 0")


def test_a_limiter_needs_limits_and_a_clock(sentences):
    """In sentences."""
    assert 1 == len(sentences(RateLimiter))
    assert 2 == len(sentences(RateLimiter, 3, clock=None))


def test_a_wait_beyond_max_wait_is_refused_at_once(lab):
    """With the seconds after which it makes sense to come back."""
    limiter = lab.emptied(0.5, max_wait=3.0)
    lab.waiting(limiter)
    with pytest.raises(RateLimitExceededError) as caught:
        limiter.admit()
    assert ("lab", 4.0) == (caught.value.name, caught.value.retry_after)
    assert 1 == limiter.waiting


def test_the_shortest_max_wait_rules(lab):
    """Of several limits on one call."""
    configs = [RateLimitConfig(rate=1.0, max_wait=wait) for wait in (None, 0.0, 5.0)]
    limiter = RateLimiter(*configs, clock=lab.clock)
    limiter.admit()
    with pytest.raises(RateLimitExceededError):
        limiter.admit()


def test_a_wrong_config_is_a_value_error():
    """For those who catch what Python has."""
    with pytest.raises(ValueError, match="rate"):
        RateLimitConfig(rate=0)
    assert issubclass(ConfigurationError, ValueError)
