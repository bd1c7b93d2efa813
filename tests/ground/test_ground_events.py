"""The stream of events: order, removal, and listeners that misbehave."""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading

import pytest

from resilience_kit import events
from resilience_kit.events import CallCancelled, CallRejected, CallSucceeded, Event, EventStream, StateChanged

EVENT = CallCancelled(operation="x", attempts=1)


def numbered(number: int) -> CallCancelled:
    """An event with a number."""
    return CallCancelled(operation="x", attempts=number)


def test_events_are_frozen_and_slotted():
    """A listener can change none of them, and none carries a dict."""
    for kind in vars(events).values():
        if isinstance(kind, type) and issubclass(kind, Event):
            assert kind.__dataclass_params__.frozen
            assert "__slots__" in vars(kind)
            assert all(field.kw_only for field in dataclasses.fields(kind))


def test_events_reach_those_who_asked():
    """All of them, or those of some types and their subclasses; in the order of emission; until removed."""
    stream, everything, cancelled, both = EventStream(), [], [], []
    remove = stream.add_listener(everything.append)
    stream.add_listener(cancelled.append, CallCancelled)
    stream.add_listener(both.append, CallCancelled, CallRejected)
    rejected = CallRejected(operation="x", guard="y", retry_after=None)
    for event in (EVENT, rejected):
        stream.emit(event)
    remove()
    remove()
    stream.emit(EVENT)
    assert ([EVENT, rejected], [EVENT, EVENT], [EVENT, rejected, EVENT]) == (everything, cancelled, both)


def test_somebody_wants_it_or_nobody_does():
    """Asked before an event is built; follows subscriptions, also of base classes, and `when`."""
    stream = EventStream()
    assert not stream.wants(StateChanged)
    remove = stream.add_listener(lambda event: None, StateChanged)
    assert (True, False) == (stream.wants(StateChanged), stream.wants(CallSucceeded))
    remove()
    assert not stream.wants(StateChanged)
    awake = [False]
    stream.add_listener(lambda event: None, when=lambda: awake[0])
    assert not stream.wants(CallSucceeded)
    awake[0] = True
    assert stream.wants(CallSucceeded)


def test_when_decides_at_the_delivery_too():
    """A listener that sleeps hears nothing of what others wanted."""
    stream, heard, awake = EventStream(), [], [False]
    stream.add_listener(heard.append, when=lambda: awake[0])
    stream.emit(numbered(1))
    awake[0] = True
    stream.emit(numbered(2))
    assert [numbered(2)] == heard


def test_listeners_that_raise_harm_nobody(caplog):
    """Whether in the listener or in its `when`: the others hear, a line names the types and no text (invariant 14)."""
    stream, heard = EventStream(), []

    def bad(*_):
        raise RuntimeError("secret")

    stream.add_listener(bad)
    stream.add_listener(heard.append, when=bad)
    stream.add_listener(heard.append)
    assert stream.wants(CallCancelled)
    stream.emit(EVENT)
    assert [EVENT] == heard
    assert ["a listener failed on CallCancelled: RuntimeError"] * 2 == [record.getMessage() for record in caplog.records]


def test_an_exit_passes_and_what_was_queued_is_heard_next(caplog):
    """Ctrl-C in a listener is nobody's to keep; the stream goes on working (invariant 14)."""
    stream, heard = EventStream(), []

    def leave(event):
        remove()
        raise KeyboardInterrupt

    remove = stream.add_listener(leave)
    stream.add_listener(heard.append)
    stream.put(numbered(1))
    stream.put(numbered(2))
    with pytest.raises(KeyboardInterrupt):
        stream.deliver()
    assert [] == heard
    stream.emit(numbered(3))
    assert [numbered(2), numbered(3)] == heard


def test_what_a_listener_causes_comes_after_what_it_hears():
    """Every listener sees the events in the same order, also those that a listener emits (invariant 14)."""
    stream, first, second = EventStream(), [], []

    def echo(event):
        first.append(event.attempts)
        if event.attempts < 3:
            stream.emit(numbered(event.attempts + 1))

    stream.add_listener(echo)
    stream.add_listener(lambda event: second.append(event.attempts))
    stream.emit(numbered(1))
    assert ([1, 2, 3], [1, 2, 3]) == (first, second)


def test_put_waits_for_deliver():
    """For those who hold a lock."""
    stream, heard = EventStream(), []
    stream.add_listener(heard.append)
    stream.put(EVENT)
    assert [] == heard
    stream.deliver()
    stream.deliver()
    assert [EVENT] == heard


def test_threads_lose_no_event_and_no_listener():
    """Emitting and subscribing from many threads at once (invariant 14)."""
    stream, heard, removals = EventStream(), [], []
    stream.add_listener(heard.append)
    barrier = threading.Barrier(16)

    def work():
        barrier.wait()
        for number in range(100):
            stream.emit(numbered(number))
            if number % 10 == 0:
                removals.append(stream.add_listener(lambda event: None, StateChanged))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert 1600 == len(heard)
    for remove in removals:
        assert stream.wants(StateChanged)
        assert stream._subscriptions
        remove()
    assert 1 == len(stream._subscriptions)


def test_a_change_of_listeners_is_told():
    """To the one who keeps something that depends on it."""
    stream, changes = EventStream(), []
    stream.on_subscribe = lambda: changes.append(stream.wants(CallSucceeded))
    stream.add_listener(lambda event: None)()
    assert [True, False] == changes


async def asynchronous(event):
    """Would have to be awaited."""


@pytest.mark.parametrize(("listener", "words"), [
    (3, "a listener must be callable with one event, got int"),
    (asynchronous, "a listener must be a plain function, got an async function"),
    (functools.partial(asynchronous), "a listener must be a plain function, got an async function"),
])  # fmt: skip
def test_what_cannot_listen_is_refused(listener, words):
    """With a sentence, when it is added."""
    with pytest.raises(TypeError, match=f"^{words}$"):
        EventStream().add_listener(listener)


def test_a_fork_leaves_nothing_of_the_parent_s():
    """No delivery under way, no lock held, nothing queued (invariant 22)."""
    stream, heard = EventStream(), []
    stream.add_listener(heard.append)
    stream.put(numbered(1))
    stream._delivering = True
    holder = threading.Thread(target=stream._lock.acquire)
    holder.start()
    holder.join()
    stream.renew_after_fork()
    stream.emit(numbered(2))
    assert [numbered(2)] == heard


@pytest.mark.parametrize("wrong", ["RetryScheduled", int, StateChanged(operation="x", old="", new="", reason="", at=0.0)])
def test_a_type_that_is_no_event_is_refused_and_not_kept(wrong):
    """With a sentence; the stream goes on as before."""
    stream = EventStream()
    with pytest.raises(TypeError, match=r"must be classes of resilience_kit\.events"):
        stream.add_listener(print, wrong)
    assert stream.wants(StateChanged) is False
