"""Deliver events to listeners: in the thread of the call, or by a queue in a thread of its own."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, Self

from resilience_kit._callable_kinds import CallableKind, kind_of
from resilience_kit._checks import Checks
from resilience_kit._counter import Counter
from resilience_kit._fork import register_fork_aware
from resilience_kit._worker import Worker
from resilience_kit.events.event_types import Event

_logger = logging.getLogger("resilience_kit")


class Listener(Protocol):
    """Anything that takes an event. It runs in the thread of the call, outside every lock; what it raises is logged only.

    For a slow one, see `QueuedListener`.
    """

    def __call__(self, event: Event, /) -> object:
        """Hear of one event."""
        ...


class _Subscription(NamedTuple):
    listener: Listener
    types: tuple[type[Event], ...]
    when: Callable[[], bool] | None

    def is_active(self, kind: type[Event]) -> bool:
        try:
            return self.when is None or self.when()
        except Exception as error:  # noqa: BLE001 - as for the listener itself
            _log_failure(kind, error)
            return False


class EventStream:
    """Carries events to listeners. Thread-safe.

    A thread delivers what it emits itself, in order, and nothing of other threads; so a slow listener slows its own calls alone.
    A listener may call back into the kit: what that causes is delivered after the present event, by the same thread.
    """

    def __init__(self) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._by_kind: dict[type[Event], tuple[_Subscription, ...]] = {}
        self._version = next(_versions)
        self._lock = threading.RLock()
        #: Called after each change of the listeners.
        self.on_listeners_changed: list[Callable[[], object]] = []
        register_fork_aware(self)

    def add_listener(self, listener: Listener, *types: type[Event], when: Callable[[], bool] | None = None) -> Callable[[], None]:
        """Send events of `types` (all when none is named) to `listener`; the function returned ends that.

        `when()` is asked before an event is built, for listeners whose interest changes. Raises TypeError for a listener
        that cannot be called, or would have to be awaited.
        """
        _check_listener(listener)
        _check_types(types)
        added = _Subscription(listener, types or (Event,), when)
        self._change(lambda old: (*old, added))
        return lambda: self._change(lambda old: tuple(kept for kept in old if kept is not added))

    def _change(self, change: Callable[[tuple[_Subscription, ...]], tuple[_Subscription, ...]]) -> None:
        with self._lock:
            self._subscriptions, self._by_kind = change(self._subscriptions), {}
            self._version = next(_versions)
        for changed in tuple(self.on_listeners_changed):
            changed()

    @property
    def version(self) -> object:
        """Equal to an earlier one as long as the listeners are the same: for those who keep what `may_have_listener` said."""
        return self._version

    def has_listener(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of this type: ask before building one."""
        return any(subscription.is_active(kind) for subscription in self._subscriptions_for(kind))

    def may_have_listener(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of this type, now or at other times: ask beforehand, when what is chosen stays."""
        return bool(self._subscriptions_for(kind))

    def _subscriptions_for(self, kind: type[Event]) -> tuple[_Subscription, ...]:
        by_kind = self._by_kind  # read before the subscriptions: a change replaces it after them, so it never keeps old ones
        found = by_kind.get(kind)
        if found is None:
            found = tuple(subscription for subscription in self._subscriptions if issubclass(kind, subscription.types))
            by_kind[kind] = found
        return found

    def enqueue(self, event: Event) -> None:
        """Queue an event without delivering it: for callers that hold a lock. The same thread follows it with `deliver()`."""
        _pending.queue.append((self, event))

    def emit(self, event: Event) -> None:
        """Queue an event and deliver what this thread has queued."""
        _pending.queue.append((self, event))
        self.flush()

    def flush(self) -> None:
        """Hand every event that this thread has queued to its listeners. Called by a listener, it leaves that to its caller."""
        pending = _pending
        if pending.delivering:
            return
        pending.delivering = True
        try:
            while pending.queue:
                stream, event = pending.queue.popleft()
                stream._dispatch(event)  # noqa: SLF001 - of the same class
        finally:
            pending.delivering = False

    def _dispatch(self, event: Event) -> None:
        kind = type(event)
        for subscription in self._subscriptions_for(kind):
            if subscription.is_active(kind):
                _notify(subscription.listener, event)

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self._lock = threading.RLock()


class _Pending(threading.local):
    """What the present thread has still to deliver, whichever streams it goes to."""

    def __init__(self) -> None:
        self.queue: deque[tuple[EventStream, Event]] = deque()
        self.delivering = False

    def reset_after_fork(self) -> None:
        """In a forked child, which has one thread: no event and no delivery of the parent's."""
        self.queue.clear()
        self.delivering = False


_versions = itertools.count(1)
_pending = _Pending()
register_fork_aware(_pending)


class ChildStream(EventStream):
    """The stream of one part, such as a client or a breaker: its own listeners hear of it, and those of its parent.

    `parent()` is looked up at each event; the default stream, unless another one is given.
    """

    def __init__(self, parent: Callable[[], EventStream] | None = None) -> None:
        super().__init__()
        self._parent = parent or default_stream

    @property
    def version(self) -> object:
        """See `EventStream.version`; another parent is another version."""
        return self._version, self._parent().version

    def _subscriptions_for(self, kind: type[Event]) -> tuple[_Subscription, ...]:
        own, others = super()._subscriptions_for(kind), self._parent()._subscriptions_for(kind)  # noqa: SLF001 - of its own kind
        return own + others if own else others


_default = EventStream()


def default_stream() -> EventStream:
    """Return the stream of the default orchestrator; before there is one, the stream that it will have.

    Whatever has no orchestrator or stream of its own emits here: pacing, JSON clients, jobs, breakers that stand alone.
    """
    return _default


def set_default_stream(stream: EventStream) -> None:
    """Have another default stream, from the next event on. `set_orchestrator` does this."""
    global _default  # noqa: PLW0603 - there is one default a process
    _default = stream


class QueuedListener:
    """A listener for slow sinks: takes each event at once, and hands it to `listener` in a thread of its own, in order.

        kit.add_listener(QueuedListener(send_to_metrics_service))

    At most `maxsize` events wait. Beyond that the oldest one is dropped, or with `overflow="drop_newest"` the new one;
    `dropped` counts them. What `listener` raises is logged, once for each type of error. The thread is a daemon and starts
    when needed, also in a forked child, which leaves the parent's events to the parent. The end of the interpreter waits for
    the queue, at most two seconds. Raises TypeError and ConfigurationError.
    """

    def __init__(
        self, listener: Listener, maxsize: int = 10_000, overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest"
    ) -> None:
        _check_listener(listener)
        checks = Checks(type(self).__name__)
        checks.integer("maxsize", maxsize, 1)
        checks.one_of("overflow", overflow, ("drop_oldest", "drop_newest"))
        checks.raise_if_any()
        self._listener, self._reported, self._closed, self._dropped_after_close = (
            listener,
            set[type[Exception]](),
            False,
            Counter(),
        )
        self._worker = Worker("resilience_kit listener", self._notify, maxsize=maxsize, drop_newest=overflow == "drop_newest")

    def __call__(self, event: Event) -> None:
        """Queue an event. Never waits for the sink. After `close` it is dropped."""
        if self._closed:
            self._dropped_after_close.add()
        else:
            self._worker.submit(event)

    def __len__(self) -> int:
        return len(self._worker)

    def __bool__(self) -> bool:
        return True

    @property
    def dropped(self) -> int:
        """Events that never reached the sink, for lack of room or after `close`."""
        return self._worker.dropped + self._dropped_after_close.value

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until the events so far have reached the sink, at most `timeout` seconds; tells whether they have."""
        return self._worker.flush(timeout)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Take no further events, and `flush`. A second time is no error."""
        self._closed = True
        return self._worker.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _notify(self, event: Event) -> None:
        try:
            self._listener(event)
        except Exception as error:  # noqa: BLE001 - as for any listener
            if type(error) not in self._reported:
                self._reported.add(type(error))
                message = "a queued listener failed on %s: %s; further errors of this type are not logged"
                _logger.error(message, type(event).__name__, type(error).__name__)


def _check_listener(listener: object) -> None:
    if not callable(listener):
        msg = f"a listener must be callable with one event, got {type(listener).__name__}"
        raise TypeError(msg)
    if kind_of(listener) is not CallableKind.SYNC:
        msg = f"a listener must be a plain function, got {kind_of(listener).value}"
        raise TypeError(msg)


def _check_types(types: tuple[object, ...]) -> None:
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            msg = f"a listener's types must be classes of resilience_kit.events, such as StateChanged; got {kind!r}"
            raise TypeError(msg)


def _notify(listener: Listener, event: Event) -> None:
    try:
        listener(event)
    except Exception as error:  # noqa: BLE001 - a listener harms nobody, whatever it raises
        _log_failure(type(event), error)


def _log_failure(kind: type[Event], error: Exception) -> None:
    with contextlib.suppress(Exception):  # a handler of the user's may fail, too
        _logger.error("a listener failed on %s: %s", kind.__name__, type(error).__name__)
