"""Everything that happens, as data, and the stream that carries it to whoever listens.

Events name operations, kinds and numbers; never an error's text, an argument or a result, so a listener cannot leak a secret
by printing what it is given.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from resilience_kit._fork import renew_after_fork
from resilience_kit._kinds import Kind, kind_of
from resilience_kit.errors import GuardKind
from resilience_kit.outcome import FailureKind

_logger = logging.getLogger("resilience_kit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to `operation`."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """A circuit breaker moved. `old` and `new` are `CircuitState` values, `at` is monotonic seconds."""

    old: str
    new: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """Attempt number `attempt` (from 1) failed; the next one starts after `delay` seconds.

    `error_type` is "result" where the function returned something that means "try again".
    """

    attempt: int
    delay: float
    kind: FailureKind
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSucceeded(Event):
    """A call ended well after `attempts` attempts and `duration` seconds, waits included."""

    attempts: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(Event):
    """A call ended in an error after `attempts` attempts; `reason` says why there was no further one."""

    attempts: int
    duration: float
    kind: FailureKind
    error_type: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRejected(Event):
    """A guard of kind `guard_kind` refused the call before its first attempt; `guard` is its name, `retry_after` in seconds."""

    guard: str
    guard_kind: GuardKind = GuardKind.CUSTOM
    retry_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDelayed(Event):
    """A call has waited `seconds` for its turn at `guard`, a limit of the operation or the pace of its host."""

    guard: str
    guard_kind: GuardKind = GuardKind.CUSTOM
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCancelled(Event):
    """The caller went away; nothing was learnt about the service."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackUsed(Event):
    """A fallback is asked instead of raising an error of type `error_type`."""

    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedRetry(Event):
    """Two layers retry the same call; told once an operation. `inner` names the layer below, `remedy` what to change."""

    inner: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsIgnored(Event):
    """An operation was used a second time with breaker or limit options that differ from its first; those rule."""

    options: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyChanged(Event):
    """The strategy of an operation was changed while running."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted(Event):
    """A call took unusually long: a second request was sent `after` so many seconds. The first answer counts."""

    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersParked(Event):
    """A service has asked for a pause of `seconds`, which all requests to it with the same key obey. `operation` is the host."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLatched(Event):
    """A host has refused a credential, or an account without credit: requests are held back but for a trial now and then.

    `operation` is the host, `why` is "credential" or "billing", `retry_after` the seconds to the first trial.
    """

    why: str
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRestored(Event):
    """A trial went well: what was latched is open again."""

    why: str


class ConfigChange(NamedTuple):
    """An option of an operation that a reload changed. The values are plain ones."""

    operation: str
    field: str
    old: object
    new: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded(Event):
    """The settings were read anew and are obeyed from the next call on. `changes`: of all operations in use."""

    operation: str = ""
    changes: tuple[ConfigChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRejected(Event):
    """Settings that were read anew are wrong, and the old ones stay; told once for each set of `errors`, which are sentences."""

    operation: str = ""
    errors: tuple[str, ...]


class Listener(Protocol):
    """Anything that takes an event. It runs in the thread of the call, outside every lock; what it raises is logged only."""

    def __call__(self, event: Event, /) -> object:
        """Hear of one event."""
        ...


class _Subscription(NamedTuple):
    listener: Listener
    types: tuple[type[Event], ...]
    when: Callable[[], bool] | None

    def wants(self, kind: type[Event]) -> bool:
        try:
            return self.when is None or self.when()
        except Exception as error:  # noqa: BLE001 - as for the listener itself
            _log_failure(kind, error)
            return False


class EventStream:
    """Carries events to listeners, in the order in which they were put in. Thread-safe.

    A listener may call back into the kit: what that causes is delivered after the present event, by the same thread.
    """

    def __init__(self) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._by_kind: dict[type[Event], tuple[_Subscription, ...]] = {}
        self._lock = threading.RLock()
        self._queue: deque[Event] = deque()
        self._delivering = False
        self.on_subscribe: Callable[[], object] | None = None
        renew_after_fork(self)

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
        if self.on_subscribe is not None:
            self.on_subscribe()

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of this type: ask before building one."""
        return any(subscription.wants(kind) for subscription in self._for(kind))

    def may_want(self, kind: type[Event]) -> bool:
        """Whether anybody listens to events of this type, now or at other times: ask beforehand, when what is chosen stays."""
        return bool(self._for(kind))

    def _for(self, kind: type[Event]) -> tuple[_Subscription, ...]:
        by_kind = self._by_kind  # read before the subscriptions: a change replaces it after them, so it never keeps old ones
        found = by_kind.get(kind)
        if found is None:
            found = tuple(subscription for subscription in self._subscriptions if issubclass(kind, subscription.types))
            by_kind[kind] = found
        return found

    def put(self, event: Event) -> None:
        """Queue an event without delivering it: for callers that hold a lock. Follow it with `deliver()`."""
        self._queue.append(event)

    def emit(self, event: Event) -> None:
        """Queue an event and deliver what is queued."""
        self._queue.append(event)
        self.deliver()

    def deliver(self) -> None:
        """Hand every queued event to its listeners. Returns at once where another delivery is under way: it goes on there."""
        while self._queue:
            with self._lock:
                if self._delivering:
                    return
                self._delivering = True
            try:
                self._drain()
            finally:
                self._delivering = False

    def _drain(self) -> None:
        while self._queue:
            event = self._queue.popleft()
            for subscription in self._for(type(event)):
                if subscription.wants(type(event)):
                    _tell(subscription.listener, event)

    def renew_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, and no event or delivery of the parent's."""
        self._lock = threading.RLock()
        self._queue.clear()
        self._delivering = False


def _check_listener(listener: object) -> None:
    if not callable(listener):
        msg = f"a listener must be callable with one event, got {type(listener).__name__}"
        raise TypeError(msg)
    if kind_of(listener) is not Kind.SYNC:
        msg = f"a listener must be a plain function, got {kind_of(listener).value}"
        raise TypeError(msg)


def _check_types(types: tuple[object, ...]) -> None:
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            msg = f"a listener's types must be classes of resilience_kit.events, such as StateChanged; got {kind!r}"
            raise TypeError(msg)


def _tell(listener: Listener, event: Event) -> None:
    try:
        listener(event)
    except Exception as error:  # noqa: BLE001 - a listener harms nobody, whatever it raises
        _log_failure(type(event), error)


def _log_failure(kind: type[Event], error: Exception) -> None:
    _logger.error("a listener failed on %s: %s", kind.__name__, type(error).__name__)
