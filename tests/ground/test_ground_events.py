"""The stream of events: order, removal, and listeners that misbehave."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import sys
import threading

import pytest

from resilience_kit import events
from resilience_kit.errors import ConfigurationError
from resilience_kit.events import (
    CallCancelled,
    CallRejected,
    CallSucceeded,
    ChildStream,
    Event,
    EventStream,
    QueuedListener,
    StateChanged,
    event_stream,
)

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
    assert not stream.has_listener(StateChanged)
    remove = stream.add_listener(lambda event: None, StateChanged)
    assert (True, False) == (stream.has_listener(StateChanged), stream.has_listener(CallSucceeded))
    remove()
    assert not stream.has_listener(StateChanged)
    awake = [False]
    stream.add_listener(lambda event: None, when=lambda: awake[0])
    assert not stream.has_listener(CallSucceeded)
    awake[0] = True
    assert stream.has_listener(CallSucceeded)


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
    assert stream.has_listener(CallCancelled)
    stream.emit(EVENT)
    assert [EVENT] == heard
    assert ["a listener failed on CallCancelled: RuntimeError"] * 2 == [record.getMessage() for record in caplog.records]


def test_a_log_that_fails_harms_nobody(monkeypatch):
    """When the report of a failed listener fails as well, the call goes on (invariant 14)."""
    stream, heard = EventStream(), []

    def bad(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(event_stream._logger, "error", bad)
    stream.add_listener(bad)
    stream.add_listener(heard.append)
    stream.emit(EVENT)
    assert [EVENT] == heard


def test_an_exit_passes_and_what_was_queued_is_heard_next(caplog):
    """Ctrl-C in a listener is nobody's to keep; the stream goes on working (invariant 14)."""
    stream, heard = EventStream(), []

    def leave(event):
        remove()
        raise KeyboardInterrupt

    remove = stream.add_listener(leave)
    stream.add_listener(heard.append)
    stream.enqueue(numbered(1))
    stream.enqueue(numbered(2))
    with pytest.raises(KeyboardInterrupt):
        stream.flush()
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
    stream.enqueue(EVENT)
    assert [] == heard
    stream.flush()
    stream.flush()
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
        assert stream.has_listener(StateChanged)
        assert stream._subscriptions
        remove()
    assert 1 == len(stream._subscriptions)


def test_a_change_of_listeners_is_reported_to_every_dependent():
    """Those who keep something that depends on the listeners are called after each change, and see another version."""
    stream, changes, versions = EventStream(), [], []
    stream.on_listeners_changed.append(lambda: changes.append(stream.has_listener(CallSucceeded)))
    stream.on_listeners_changed.append(lambda: versions.append(stream.version))
    before = stream.version
    stream.add_listener(lambda event: None)()
    assert [True, False] == changes
    assert 3 == len({before, *versions})


class Thread(threading.Thread):
    """A thread that does one thing and hands its error on."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self._schedule_response, self._error = work, None
        self.start()

    def run(self):
        try:
            self._schedule_response()
        except BaseException as error:
            self._error = error

    def end(self):
        self.join(30)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


def test_an_event_is_delivered_by_its_own_thread_while_another_listener_is_busy():
    """A listener that does not return holds up the thread whose event it has, and no other (invariant 14)."""
    stream, heard, busy, go_on = EventStream(), [], threading.Event(), threading.Event()

    def listen(event):
        if event.attempts == 1:
            busy.set()
            assert go_on.wait(30)
        heard.append((event.attempts, threading.current_thread()))

    stream.add_listener(listen)
    slow = Thread(lambda: stream.emit(numbered(1)))
    assert busy.wait(30)
    quick = Thread(lambda: [stream.emit(numbered(2)), stream.emit(numbered(3))])
    quick.end()
    assert [(2, quick), (3, quick)] == heard
    go_on.set()
    slow.end()
    assert (1, slow) == heard[-1]


def test_eight_threads_hear_their_own_events_only_and_in_order():
    """Whatever the others emit meanwhile, a thread delivers what it emitted itself (invariant 14)."""
    stream, heard, barrier = EventStream(), [], threading.Barrier(8)
    stream.add_listener(lambda event: heard.append((threading.current_thread(), event.operation, event.attempts)))

    def work():
        me = str(threading.get_ident())
        barrier.wait(30)
        for number in range(200):
            if number % 3:
                stream.emit(CallCancelled(operation=me, attempts=number))
            else:
                stream.enqueue(CallCancelled(operation=me, attempts=number))
                stream.flush()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [Thread(work) for _ in range(8)]
        for thread in threads:
            thread.end()
    finally:
        sys.setswitchinterval(before)
    for thread in threads:
        assert [(str(thread.ident), number) for number in range(200)] == [
            (operation, number) for deliverer, operation, number in heard if deliverer is thread
        ]


def test_put_events_stay_with_their_thread():
    """Another thread's `deliver` leaves them alone: their own one may still hold the lock for which it has put them."""
    stream, heard = EventStream(), []
    stream.add_listener(heard.append)
    stream.enqueue(EVENT)
    Thread(stream.flush).end()
    assert [] == heard
    stream.flush()
    assert [EVENT] == heard


def test_what_a_listener_causes_on_another_stream_comes_after_the_present_event():
    """The order of one thread is one order, whichever streams its events go to."""
    first, second, heard = EventStream(), EventStream(), []

    def cause(event):
        second.emit(numbered(2))
        heard.append(event.attempts)

    first.add_listener(cause)
    first.add_listener(lambda event: heard.append(event.attempts))
    second.add_listener(lambda event: heard.append(event.attempts))
    first.emit(numbered(1))
    assert [1, 1, 2] == heard


def test_no_lock_is_held_while_a_listener_runs():
    """Another thread can subscribe, emit and unsubscribe meanwhile (invariant 14)."""
    stream, heard = EventStream(), []

    def listen(event):
        if event.attempts == 1:
            Thread(lambda: [stream.add_listener(heard.append)(), stream.emit(numbered(2))]).end()

    stream.add_listener(listen)
    stream.emit(numbered(1))


# --- one stream for all --------------------------------------------------------------------------------------------------


@pytest.fixture
def default():
    """A default stream for one test."""
    before, stream = events.default_stream(), EventStream()
    events.set_default_stream(stream)
    yield stream
    events.set_default_stream(before)


def test_a_child_stream_reaches_its_own_listeners_and_its_parents():
    """Its own ones come first; what the parent emits is none of its business."""
    parent, heard = EventStream(), []
    child = ChildStream(lambda: parent)
    assert not child.may_have_listener(CallCancelled)
    parent.add_listener(lambda event: heard.append(("parent", event)), CallCancelled)
    assert (True, True, False) == (
        child.has_listener(CallCancelled),
        child.may_have_listener(CallCancelled),
        child.has_listener(StateChanged),
    )
    child.add_listener(lambda event: heard.append(("child", event)))
    child.emit(EVENT)
    parent.emit(EVENT)
    assert [("child", EVENT), ("parent", EVENT), ("parent", EVENT)] == heard
    assert child.has_listener(StateChanged)


def test_a_child_stream_follows_the_default_stream(default):
    """The parent is looked up at each event: one that comes later hears what comes later, and no event twice."""
    child, first, second, other = ChildStream(), [], [], EventStream()
    default.add_listener(first.append)
    child.emit(numbered(1))
    before = child.version
    events.set_default_stream(other)
    other.add_listener(second.append)
    child.emit(numbered(2))
    assert ([numbered(1)], [numbered(2)]) == (first, second)
    assert before != child.version


# --- slow sinks ----------------------------------------------------------------------------------------------------------


class Sink:
    """Takes events while its gate is open."""

    def __init__(self, *, opened=True):
        self.heard, self.needs_admission, self.entered, self.threads = [], threading.Event(), threading.Event(), set()
        if opened:
            self.needs_admission.set()

    def __call__(self, event):
        self.entered.set()
        assert self.needs_admission.wait(30)
        self.threads.add(threading.current_thread())
        self.heard.append(event.attempts)


def test_a_queued_listener_hands_events_on_in_order_in_a_thread_of_its_own():
    """The caller does not wait for the sink; `flush` does, for as long as it was told to."""
    stream, sink = EventStream(), Sink(opened=False)
    with QueuedListener(sink) as queued:
        stream.add_listener(queued)
        for number in range(100):
            stream.emit(numbered(number))
        assert [] == sink.heard
        assert not queued.flush(0.0)
        assert queued
        sink.needs_admission.set()
        assert queued.flush()
        assert [*range(100)] == sink.heard
        assert threading.current_thread() not in sink.threads
        assert (0, 0) == (queued.dropped, len(queued))


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [0, 8, 9]), ("drop_newest", [0, 1, 2])])
def test_a_full_queue_drops_and_counts(overflow, kept):
    """The first event is with the sink; of the others as many wait as there is room for, and the rest is counted."""
    sink = Sink(opened=False)
    queued = QueuedListener(sink, maxsize=2, overflow=overflow)
    queued(numbered(0))
    assert sink.entered.wait(30)
    for number in range(1, 10):
        queued(numbered(number))
    assert (7, 2) == (queued.dropped, len(queued))
    sink.needs_admission.set()
    assert queued.close()
    assert (kept, 7) == (sink.heard, queued.dropped)


def test_a_closed_queued_listener_takes_nothing_more():
    """What was queued before reaches the sink; what comes after counts as dropped; a second `close` is no error."""
    sink = Sink()
    queued = QueuedListener(sink)
    queued(numbered(1))
    assert queued.close()
    queued(numbered(2))
    assert queued.close()
    assert ([1], 1) == (sink.heard, queued.dropped)


def test_a_sink_that_raises_is_logged_once_for_each_type(caplog):
    """Whatever it raises, the next event reaches it, and a thousand failures are no thousand lines (invariants 14 and 78)."""
    kinds, heard = [KeyError, ValueError, KeyError], []

    def sink(event):
        heard.append(event.attempts)
        raise kinds[event.attempts]("secret")

    with QueuedListener(sink) as queued:
        for number in range(3):
            queued(numbered(number))
    words = "a queued listener failed on CallCancelled: {}; further errors of this type are not logged"
    assert ([0, 1, 2], [words.format("KeyError"), words.format("ValueError")]) == (heard, caplog.messages)


async def test_a_queued_listener_does_not_hold_up_an_event_loop():
    """While its sink stands still, the loop goes on."""
    stream, sink = EventStream(), Sink(opened=False)
    queued = QueuedListener(sink, maxsize=1)
    stream.add_listener(queued)
    for number in range(10):
        stream.emit(numbered(number))
        await asyncio.sleep(0)
    assert [] == sink.heard
    sink.needs_admission.set()
    assert await asyncio.to_thread(queued.close)
    assert 9 == sink.heard[-1]


@pytest.mark.parametrize(("options", "field"), [({"maxsize": 0}, "maxsize"), ({"overflow": "block"}, "overflow")])
def test_wrong_options_of_a_queued_listener_are_refused(options, field):
    """A bound is needed, and a rule for what is beyond it."""
    with pytest.raises(ConfigurationError, match=rf"^QueuedListener\.{field}: "):
        QueuedListener(print, **options)
    with pytest.raises(TypeError, match="must be a plain function"):
        QueuedListener(asynchronous)


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


def test_a_forked_child_delivers_nothing_of_its_parent():
    """No delivery under way, no lock held, nothing queued (invariant 22)."""
    stream, heard = EventStream(), []
    stream.add_listener(heard.append)
    stream.enqueue(numbered(1))
    event_stream._pending.delivering = True
    holder = threading.Thread(target=stream._lock.acquire)
    holder.start()
    holder.join()
    event_stream._pending.reset_after_fork()
    stream.reset_after_fork()
    stream.emit(numbered(2))
    stream.add_listener(heard.append)
    assert [numbered(2)] == heard


@pytest.mark.parametrize("wrong", ["RetryScheduled", int, StateChanged(operation="x", old="", new="", reason="", at=0.0)])
def test_a_type_that_is_no_event_is_refused_and_not_kept(wrong):
    """With a sentence; the stream goes on as before."""
    stream = EventStream()
    with pytest.raises(TypeError, match=r"must be classes of resilience_kit\.events"):
        stream.add_listener(print, wrong)
    assert stream.has_listener(StateChanged) is False
