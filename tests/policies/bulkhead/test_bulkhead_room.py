"""Who gets the room that one leaves, who is refused, and what is wrong in options."""

from __future__ import annotations

import random
import threading

import pytest

from resilience_kit.errors import BulkheadFullError
from resilience_kit.guards import Guard, Permit
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.bulkhead import AdaptiveLimit, Bulkhead, BulkheadConfig


def test_a_bulkhead_is_a_guard(lab):
    """Known by its methods, as are its permits."""
    bulkhead = lab.bulkhead()
    assert isinstance(bulkhead, Guard)
    assert isinstance(bulkhead.admit(), Permit)


def test_so_many_and_no_more(lab):
    """The next one waits until one has ended."""
    bulkhead = lab.bulkhead(2)
    first, second, third = (lab.come(bulkhead) for _ in range(3))
    assert (None, None, None) == (first.turn, second.turn, third.turn.look())
    assert (2, 1, False) == (bulkhead.in_use, bulkhead.waiting, bulkhead.fits())
    first.settle(lab.DONE)
    assert (0.0, 2, 0) == (third.turn.look(), bulkhead.in_use, bulkhead.waiting)
    for permit in (second, third):
        permit.settle(lab.DONE)
    assert (0, True) == (bulkhead.in_use, bulkhead.fits())


def test_first_come_first_served_and_nobody_slips_in(lab):
    """Room goes to the head at once, not to whoever comes by."""
    bulkhead = lab.bulkhead()
    first, second, third = (lab.come(bulkhead) for _ in range(3))
    first.settle(lab.DONE)
    late = lab.come(bulkhead)
    assert [0.0, None, None] == [permit.turn.look() for permit in (second, third, late)]


def test_the_higher_priority_goes_first(lab):
    """Within one, who came first."""
    bulkhead = lab.bulkhead()
    running, waiting = lab.come(bulkhead), [lab.come(bulkhead, level) for level in ("low", "normal", "high", "normal")]
    order = []
    while waiting:
        running.settle(lab.DONE)
        running = next(permit for permit in waiting if permit.turn.look() == 0.0)
        waiting.remove(running)
        order.append(running.turn.priority.name.lower())
    assert ["high", "normal", "normal", "low"] == order


def test_a_full_line_refuses(lab):
    """At once, and nobody knows until when."""
    bulkhead = lab.bulkhead(1, max_queue=1)
    lab.come(bulkhead)
    lab.come(bulkhead)
    with pytest.raises(BulkheadFullError, match="bulkhead 'lab' is full") as caught:
        lab.come(bulkhead)
    assert None is caught.value.retry_after


def test_without_a_line_a_full_bulkhead_refuses(lab):
    """Zero means zero."""
    bulkhead = lab.bulkhead(1, max_queue=0)
    lab.come(bulkhead)
    for level in ("low", "high"):
        with pytest.raises(BulkheadFullError):
            lab.come(bulkhead, level)


def test_low_priority_is_refused_first(lab):
    """Its place goes to one of a higher priority; the last of the lowest is taken."""
    bulkhead = lab.bulkhead(1, max_queue=3)
    lab.come(bulkhead)
    early, late, normal = (lab.come(bulkhead, level) for level in ("low", "low", "normal"))
    woken: list[int] = []
    late.turn.wake_by(lambda: woken.append(1))
    high = lab.come(bulkhead, "high")
    assert [1] == woken
    with pytest.raises(BulkheadFullError):
        late.turn.look()
    late.settle(lab.NOT_BEGUN)
    assert [None] * 3 == [permit.turn.look() for permit in (early, normal, high)]
    with pytest.raises(BulkheadFullError):
        lab.come(bulkhead, "low")
    assert (1, 3) == (bulkhead.in_use, bulkhead.waiting)


def test_patience_ends(lab):
    """After `max_wait` seconds."""
    bulkhead = lab.bulkhead(1, max_wait=2.0)
    lab.come(bulkhead)
    permit = lab.come(bulkhead)
    assert (2.0, None, None) == (permit.turn.patience, permit.turn.expected, permit.turn.look())
    lab.clock.advance(1.5)
    assert (0.5, None) == (permit.turn.patience, permit.turn.look())
    lab.clock.advance(0.5)
    with pytest.raises(BulkheadFullError):
        permit.turn.look()
    assert isinstance(permit.turn.refusal(), BulkheadFullError)
    assert None is lab.come(lab.bulkhead()).turn


def test_ten_thousand_who_leave_leave_no_hole(lab):
    """The one behind them is next."""
    bulkhead = lab.bulkhead()
    running = lab.come(bulkhead)
    leaving, last = [lab.come(bulkhead) for _ in range(10_000)], lab.come(bulkhead)
    assert None is last.turn.patience
    random.Random(7).shuffle(leaving)
    for permit in leaving:
        permit.settle(lab.NOT_BEGUN)
    running.settle(lab.DONE)
    assert (0.0, 1, 0) == (last.turn.look(), bulkhead.in_use, bulkhead.waiting)


def test_room_that_came_and_was_not_used_goes_on(lab):
    """The caller was cancelled just then."""
    bulkhead = lab.bulkhead()
    running, second, third = (lab.come(bulkhead) for _ in range(3))
    running.settle(lab.DONE)
    second.settle(lab.NOT_BEGUN)
    assert (0.0, 1) == (third.turn.look(), bulkhead.in_use)


def test_who_lost_its_event_loop_loses_its_room(lab):
    """Once, whatever is settled afterwards."""
    bulkhead = lab.bulkhead()
    running, lost, third = (lab.come(bulkhead) for _ in range(3))

    def closed():
        raise RuntimeError("Event loop is closed")

    lost.turn.wake_by(closed)
    running.settle(lab.DONE)
    assert (0.0, 1) == (third.turn.look(), bulkhead.in_use)
    with pytest.raises(BulkheadFullError):
        lost.turn.look()
    lost.settle(lab.NOT_BEGUN)
    assert 1 == bulkhead.in_use


def test_who_lost_its_event_loop_loses_its_place(lab):
    """Also before its turn has come, and only once."""
    bulkhead = lab.bulkhead(1, max_queue=1)
    lab.come(bulkhead)
    lost = lab.come(bulkhead, "low")

    def closed():
        raise RuntimeError("Event loop is closed")

    lost.turn.wake_by(closed)
    assert None is not lab.come(bulkhead, "high").turn
    assert (1, 1) == (bulkhead.in_use, bulkhead.waiting)
    other = lab.come(lab.bulkhead())
    waiting = lab.bulkhead()
    lab.come(waiting)
    gone = lab.come(waiting)
    waiting.leave(gone.turn)
    waiting.leave(gone.turn)
    assert (0, None) == (waiting.waiting, other.turn)


def test_no_time_can_be_slept_for(lab):
    """A claim changes nothing."""
    bulkhead = lab.bulkhead()
    lab.come(bulkhead)
    permit = lab.come(bulkhead)
    permit.turn.claim()
    assert None is permit.turn.look()


def test_threads_never_pass_the_limit(lab):
    """128 at a barrier, each many times, and none is lost (invariant 21)."""
    bulkhead, barrier, lock = lab.bulkhead(7), threading.Barrier(128), threading.Lock()
    inside, most, done = 0, 0, 0

    def work():
        nonlocal inside, most, done
        barrier.wait()
        for _ in range(20):
            permit = bulkhead.admit()
            if permit.turn is not None:
                while permit.turn.look() is None:
                    woken = threading.Event()
                    permit.turn.wake_by(woken.set)
                    woken.wait()
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
                done += 1
            permit.settle(lab.DONE)

    threads = [threading.Thread(target=work) for _ in range(128)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (128 * 20, 0, 0) == (done, bulkhead.in_use, bulkhead.waiting)
    assert 1 <= most <= 7


def test_wrong_options_are_told_together(sentences):
    """Zero concurrency, negative lines and waits."""
    assert [
        "BulkheadConfig.max_concurrent: must be a whole number of at least 1, got 0",
        "BulkheadConfig.max_queue: must be a whole number of at least 0, got -1",
        "BulkheadConfig.max_wait: must be a finite number of seconds of at least 0, got -1",
        "BulkheadConfig.adaptive: must be an AdaptiveLimit or None, got 5",
    ] == sentences(BulkheadConfig, max_concurrent=0, max_queue=-1, max_wait=-1, adaptive=5)
    assert [
        "AdaptiveLimit.minimum: must be a whole number of at least 1, got 0",
        "AdaptiveLimit.initial: must be a whole number of at least 1, got 0",
        "AdaptiveLimit.backoff: must be a finite number from 0.1 to 0.99, got 1",
        "AdaptiveLimit.slow_call_duration: must be a finite number of seconds above 0, got 0",
    ] == sentences(AdaptiveLimit, minimum=0, initial=0, backoff=1, slow_call_duration=0)


def test_a_minimum_above_the_maximum_is_refused(sentences):
    """And one above the start."""
    (sentence,) = sentences(BulkheadConfig, max_concurrent=3, adaptive=AdaptiveLimit(minimum=5))
    assert "BulkheadConfig.max_concurrent: must be at least adaptive.minimum 5, got 3" == sentence
    (sentence,) = sentences(AdaptiveLimit, minimum=20, initial=10)
    assert "AdaptiveLimit.initial: must be a whole number of at least 20, got 10" == sentence


def test_a_bulkhead_needs_options_and_a_clock(sentences):
    """In sentences."""
    assert 2 == len(sentences(Bulkhead, 5, "lab", None))


def test_a_forked_child_starts_empty(lab):
    """Nobody of the parent's calls came along (invariant 22)."""
    bulkhead = lab.bulkhead()
    lab.come(bulkhead)
    lab.come(bulkhead)
    bulkhead.reset_after_fork()
    assert (0, 0, True) == (bulkhead.in_use, bulkhead.waiting, bulkhead.fits())


def test_a_call_that_a_forked_child_inherits_makes_no_room_there(lab):
    """It may end in the child, too, where it had taken none (invariant 22)."""
    bulkhead = lab.bulkhead()
    permit = lab.come(bulkhead)
    bulkhead.reset_after_fork()
    permit.settle(lab.DONE)
    assert 0 == bulkhead.in_use


def test_an_attempt_that_was_not_begun_teaches_nothing(lab):
    """Neither room nor trouble."""
    bulkhead = lab.adaptive(initial=1)
    lab.come(bulkhead).settle(Outcome(OutcomeKind.SUCCESS, begun=False))
    assert 1.0 == bulkhead._adaptive_limit._exact_limit
