"""Who hears of state changes: in order, outside the lock, harming nobody."""

from __future__ import annotations

import threading

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.events import CallSucceeded, EventStream, StateChanged
from resilience_kit.policies.breaker import CircuitState, core


def moves(heard):
    """The states gone through."""
    return [(event.old, event.new) for event in heard]


CYCLE = [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


def run_a_cycle(lab, breaker):
    """Trip, wait, recover."""
    lab.fail(breaker, 2)
    lab.clock.now += 10
    breaker.call(int)


def test_a_listener_hears_every_change(lab):
    """With names, reason and time; until it is removed."""
    breaker, heard = lab.breaker(name="x"), []
    remove = breaker.add_listener(heard.append)
    run_a_cycle(lab, breaker)
    assert CYCLE == moves(heard)
    assert StateChanged(operation="x", old="closed", new="open", reason="2 failures in a row", at=1000.0) == heard[0]
    assert ["2 failures in a row", "the open time is over", "the trial succeeded"] == [event.reason for event in heard]
    remove()
    run_a_cycle(lab, breaker)
    assert 3 == len(heard)


def test_a_stream_of_events_is_shared(lab):
    """Events go to the stream that was given; listeners of other types hear nothing."""
    stream, heard, others = EventStream(), [], []
    breaker = lab.breaker(events=stream)
    stream.add_listener(heard.append, StateChanged)
    breaker.add_listener(others.append, CallSucceeded)
    run_a_cycle(lab, breaker)
    assert (CYCLE, []) == (moves(heard), others)


def test_a_change_that_nobody_listens_to_builds_no_event(lab, monkeypatch):
    """The state moves all the same."""
    monkeypatch.setattr(core, "StateChanged", None)
    breaker = lab.breaker(events=(stream := EventStream()))
    monkeypatch.setattr(stream, "has_listener", lambda kind: False)
    run_a_cycle(lab, breaker)
    assert breaker.closed


def test_a_listener_that_raises_harms_nobody(lab, caplog):
    """Neither the call nor the state nor the next listener (invariant 14)."""
    breaker, heard = lab.breaker(), []

    def bad(event):
        raise RuntimeError("secret")

    breaker.add_listener(bad)
    breaker.add_listener(heard.append)
    run_a_cycle(lab, breaker)
    assert (CYCLE, True) == (moves(heard), breaker.closed)
    assert 3 == caplog.messages.count("a listener failed on StateChanged: RuntimeError")


def test_a_listener_may_come_back(lab):
    """What a listener does to the breaker is heard after what it heard, and does not deadlock (invariant 14)."""
    breaker, heard = lab.breaker(), []

    def meddle(event):
        heard.append((event.new, breaker.state.value))
        if event.new == "open":
            breaker.force_close("meddling")
            breaker.call(int)
            lab.fail(breaker)
            assert "closed" == breaker.state.value
            assert ["open"] == [new for new, _ in heard]

    breaker.add_listener(meddle)
    lab.fail(breaker, 2)
    assert [("open", "open"), ("closed", "closed")] == heard
    assert 1 == breaker.failure_count


def test_the_lock_is_free_while_a_listener_runs(lab):
    """Another thread can use the breaker meanwhile (invariants 14, 21)."""
    breaker = lab.breaker()
    done = []

    def wait_for_another_thread(event):
        thread = threading.Thread(target=lambda: (breaker.reset(), done.append(breaker.closed)))
        thread.start()
        thread.join(10)

    breaker.add_listener(wait_for_another_thread, StateChanged)
    breaker.force_open("x")
    assert [True, True] == (done * 2)[:2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_a_listener_gives_the_trial_back(lab, error):
    """Ctrl-C while the half-open state is announced: the call is not made, the trial is free (invariant 3)."""
    breaker = lab.half_open()
    ran = []

    def leave(event):
        raise error

    remove = breaker.add_listener(leave)
    with pytest.raises(error):
        breaker.call(ran.append, 1)
    remove()
    assert ([], CircuitState.HALF_OPEN, 0) == (ran, breaker.state, breaker.trials_in_flight)
    breaker.call(int)
    assert breaker.closed


def test_nothing_is_told_when_nothing_changed(lab):
    """Failures below the threshold, refusals and repeated orders are no state changes."""
    breaker, heard = lab.breaker(), []
    breaker.add_listener(heard.append)
    lab.fail(breaker)
    breaker.reset()
    breaker.force_open("x")
    breaker.force_open("y")
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    assert [("closed", "forced_open")] == moves(heard)
