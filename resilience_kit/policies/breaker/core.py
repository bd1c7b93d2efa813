"""The core of a circuit breaker: admission, outcomes, transitions by hand. Calls no user function.

The lock guards a handful of assignments. It is never held during the user's function, an await, I/O or a listener, so
threads and event loops can share a breaker. Methods with the suffix `_locked` are in `rules` and require the lock; all
methods here must be called without it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from resilience_kit._counter import Counter
from resilience_kit._fork import register_fork_aware
from resilience_kit.context import trial_observer
from resilience_kit.errors import CircuitBreakerOpenError, is_rejection
from resilience_kit.events import ChildStream, Event, EventStream, Listener, StateChanged, default_stream
from resilience_kit.policies.breaker.last_failure import strip_traceback
from resilience_kit.policies.breaker.options import CircuitBreakerConfig, validate_state
from resilience_kit.policies.breaker.persistence import RESTORED_STATES, PendingRestore, StatePersistence
from resilience_kit.policies.breaker.rules import BreakerRules, SuccessObserver, Transition
from resilience_kit.policies.breaker.states import (
    CircuitState,
    HalfOpenSnapshot,
    NestedTrialPermit,
    StateSnapshot,
    Token,
    TrialPermit,
    enclosing_trial,
)
from resilience_kit.policies.breaker.store import BreakerStore, StoredState
from resilience_kit.policies.breaker.window import make_window

_logger = logging.getLogger("resilience_kit")
_UNNAMED = "unnamed circuit breaker"
_OPEN = CircuitState.OPEN  # an enum's members are slow to look up


class BreakerCore(BreakerRules):
    """The state of one breaker, with the lock around its rules. Thread-safe."""

    #: Returns whether an error is one of the expected exceptions.
    is_failure: Callable[[type[BaseException], BaseException], bool]
    #: The listeners of this breaker alone; None until the first one is added.
    _own_stream: ChildStream | None = None
    #: Whether the expected exceptions name a class of rejections.
    _expects_rejections: bool

    def __init__(  # noqa: PLR0913 - its dependencies
        self,
        options: CircuitBreakerConfig,
        name: str | None,
        *,
        clock: Callable[[], float] | None,
        store: BreakerStore | None,
        events: EventStream | None,
        random: Callable[[], float],
    ) -> None:
        super().__init__(options, clock=clock, random=random)
        self._name, self._events = name, events
        self._persistence = StatePersistence(store)
        self._failures_total = 0
        self._successes, self._rejections = Counter(), Counter()
        self._external_counters: tuple[Callable[[], int], Callable[[], int]] | None = None
        register_fork_aware(self)

    def __str__(self) -> str:
        return self._name or _UNNAMED

    @property
    def name(self) -> str | None:
        """Return the name of the breaker; without one, that of the function it decorates."""
        return self._name

    # --- what the drivers call -------------------------------------------------------------------------------------------

    def try_acquire(self, snapshot: StateSnapshot) -> Token | CircuitBreakerOpenError:
        """Admit a call that `snapshot` does not admit by itself: return a token, or the rejection as a value.

        A returned error is cheaper than a raised one, which costs time in each frame. Call it only when
        `snapshot.needs_admission`. The caller counts the rejections; see `add_external_counters`.
        """
        clock = self._clock
        now = float(time.monotonic() if clock is None else clock())
        remaining = snapshot.until - now
        if remaining > 0.0:
            if snapshot.rejection_reason is None:
                return CircuitBreakerOpenError(self._name or _UNNAMED, remaining)
            return CircuitBreakerOpenError(self._name or _UNNAMED, None, snapshot.rejection_reason)
        if type(snapshot) is HalfOpenSnapshot:
            outer = enclosing_trial(snapshot, now)
            if outer is not None:
                return NestedTrialPermit(snapshot, outer.until)
            if self._trials_exhausted(snapshot, now):
                return self._rejection(snapshot, remaining)
        with self._lock:
            token, snapshot = self._admit_locked(self.now()), self.snapshot  # a trial's lease starts when it is granted
            transitions = self._drain_transitions_locked()
        if transitions:
            try:
                self._publish(transitions)
            except BaseException:  # Ctrl-C in a listener: this call will not be made
                self.release(token)
                raise
        return self._rejection(snapshot, snapshot.until - now) if token is None else token

    def acquire(self) -> Token:
        """Admit a call and return its token. Raises `CircuitBreakerOpenError`."""
        snapshot = self.snapshot
        if not snapshot.needs_admission:
            return snapshot
        admission = self.try_acquire(snapshot)
        if not isinstance(admission, CircuitBreakerOpenError):
            return admission
        try:
            self._rejections.add()
            raise admission
        finally:
            del admission  # the error holds this frame: a reference to it would be a cycle

    def still_valid(self, token: Token) -> bool:
        """Return whether an admitted call may still start, after it has waited for another guard."""
        return self._is_current(token, self.now()) or not self.snapshot.needs_admission

    def on_success(self, token: Token, seconds: float = 0.0) -> None:
        """Record that a call of this token succeeded after `seconds`. Required only when `token.tracks_success`."""
        with self._lock:
            now = self.now()
            if self._is_current(token, now):
                self._apply_success_locked(token, seconds, now)
            transitions = self._drain_transitions_locked()
        if transitions:
            self._publish(transitions)

    def on_failure(self, token: Token, error: BaseException, seconds: float = 0.0, retry_after: float | None = None) -> None:
        """Record that a call of this token failed after `seconds`.

        `retry_after`: the server's Retry-After in seconds.
        """
        error_copy = strip_traceback(error)
        with self._lock:
            now = self.now()
            self._failures_total += 1
            if self._is_current(token, now):
                self._last_failure, self._last_failure_time = error_copy, now
                self._apply_failure_locked(token, seconds, now, retry_after)
            transitions = self._drain_transitions_locked()
        if transitions:
            self._publish(transitions)
        if isinstance(token, TrialPermit) and (observer := trial_observer.get()) is not None:
            observer.trial_failed(error, self._remaining(self.snapshot))

    def release(self, token: Token | None) -> None:
        """Return the permit of a call whose end says nothing about the service.

        Takes no lock, so that a garbage collection may call it at any moment.
        """
        if isinstance(token, TrialPermit):
            token.release()

    def add_external_counters(self, *, successes: Callable[[], int], rejections: Callable[[], int]) -> None:
        """Add these counts to the totals of `metrics`, for a driver that keeps its own."""
        self._external_counters = (successes, rejections)

    def record_success(self, token: Token, started: float) -> None:
        """Count and record a success of a call that started at `started` by `now()`."""
        self._successes.add()
        if token.tracks_success:
            self.on_success(token, self.now() - started)

    def record_error(self, token: Token, error: BaseException, started: float, retry_after: float | None = None) -> None:
        """Record an error as failure, ignored or cancelled, by the expected and excluded exceptions.

        If a predicate of the user raises, the permit is released and its error propagates.
        """
        counted = False
        try:
            counted = self.counts_as_failure(error)
        finally:
            if not counted:
                self.release(token)
        if counted:
            self.on_failure(token, error, self.now() - started, retry_after)

    def counts_as_failure(self, error: BaseException) -> bool:
        """Return whether an error is a failure, by expected and excluded exceptions alone.

        A rejection by a guard or another breaker says nothing about a service, unless the expected exceptions name its
        class.
        """
        if not isinstance(error, Exception) or self.excludes(error):
            return False
        return bool(self.is_failure(type(error), error)) and (self._expects_rejections or not is_rejection(error))

    def excludes(self, error: BaseException) -> bool:
        """Return whether an error is an instance of an excluded exception."""
        return isinstance(error, self._options.excluded_exceptions)

    def observe_successes(self, observer: SuccessObserver) -> None:
        """Report every success from now on while `observer.below_capacity`."""
        with self._lock:
            self._success_observer, self.snapshot.tracks_success = observer, True

    @property
    def forced_open(self) -> bool:
        """Return whether the circuit was forced open, so that waiting for its reopening is useless."""
        return self.snapshot.state is CircuitState.FORCED_OPEN

    # --- outside the lock ------------------------------------------------------------------------------------------------

    def _trials_exhausted(self, snapshot: StateSnapshot, now: float) -> bool:
        """Return whether every trial is taken. Needs no lock, so that rejected callers do not contend for it."""
        return isinstance(snapshot, HalfOpenSnapshot) and len(snapshot.active_trials(now)) >= self._options.half_open_max_calls

    def _rejection(self, snapshot: StateSnapshot, remaining: float) -> CircuitBreakerOpenError:
        reason = snapshot.rejection_reason
        error: CircuitBreakerOpenError  # for mypy: half of its bases have no types
        if reason is None:
            error = CircuitBreakerOpenError(self._name or _UNNAMED, remaining)
        else:
            error = CircuitBreakerOpenError(self._name or _UNNAMED, None, reason)
        return error

    def _publish(self, transitions: tuple[Transition, ...]) -> None:
        self._persistence.save_soon(self)
        events = self._own_stream or self._events or default_stream()
        if events.has_listener(StateChanged):
            for old, new, reason, at, number in transitions:
                events.enqueue(StateChanged(operation=str(self), old=old, new=new, reason=reason, at=at, sequence=number))
            events.flush()

    def _remaining(self, snapshot: StateSnapshot) -> float:
        """Return the seconds of open time left; 0.0 for a state that is not open."""
        return max(0.0, snapshot.until - self.now()) if snapshot.state.opened else 0.0

    # --- over a restart; see `persistence` --------------------------------------------------------------------------------

    def restore(self) -> None:
        """Load the state saved under this breaker's name, if any. A half-open state is restored as open.

        A thread that runs an event loop does not wait for the store: the state is applied a little later.
        """
        loading = self._persistence.start_restore(self)
        if loading is not None:
            loading.finish()

    def attach_store(self, store: BreakerStore | None) -> PendingRestore | None:
        """Keep the state in a store from now on and start loading the stored one.

        `finish()` of the return value applies it; None if there is nothing to load.
        """
        self._persistence.store = store
        return self._persistence.start_restore(self)

    def stored_state(self) -> StoredState:
        """Return the part of the current state that a store keeps."""
        snapshot = self.snapshot
        return StoredState(snapshot.state, snapshot.failures, self._remaining(snapshot))

    def apply_stored_state(self, stored: StoredState | None, before: StateSnapshot) -> None:
        """Apply a stored state, unless the breaker has left `before` while the store was read."""
        if stored is not None and stored.state is CircuitState.BUDGET_LIMITED:
            message = (
                "circuit breaker %r starts closed: its stored state %r is a cost breaker's; give one of the two another name"
            )
            _logger.error(message, str(self), stored.state.value)
        if stored is None or stored.state not in RESTORED_STATES:
            return
        with self._lock:
            if self.snapshot is before:
                now = self.now()
                until = math.inf if stored.state is CircuitState.FORCED_OPEN else now + max(0.0, stored.remaining)
                state, generation = RESTORED_STATES[stored.state], before.generation + 1
                self._transition_locked(StateSnapshot(state, generation, failures=stored.failures, until=until), "restored", now)
            transitions = self._drain_transitions_locked()
        if transitions:
            self._publish(transitions)

    # --- by hand ---------------------------------------------------------------------------------------------------------

    def force_open(self, reason: str) -> None:
        """Reject every call until `force_close` or `reset`."""
        self.set_state(CircuitState.FORCED_OPEN, reason)

    def force_close(self, reason: str) -> None:
        """Close the circuit, whatever its state, and count failures from zero."""
        self.set_state(CircuitState.CLOSED, reason)

    def reset(self) -> None:
        """Close the circuit as `force_close` does, with the reason "reset"."""
        self.force_close("reset")

    def set_state(self, state: CircuitState, reason: str) -> None:
        """Set the state at once; an open state lasts for a recovery_timeout from now.

        Raises `ConfigurationError` for anything but closed, open, half-open and forced open.
        """
        state = validate_state(state)
        with self._lock:
            self._force_state_locked(state, reason)
            transitions = self._drain_transitions_locked()
        self._publish(transitions)

    def set_opened_at(self, at: float | None) -> None:
        """Set the monotonic time of the last opening: the first trial is due a recovery_timeout later."""
        with self._lock:
            self._last_failure_time = at
            if at is not None and self.snapshot.state is CircuitState.OPEN:
                self.snapshot.until = at + self._options.recovery_timeout

    def reconfigure(self, config: CircuitBreakerConfig) -> None:
        """Apply other options from the next outcome on. The state, its open time and the failure count stay."""
        with self._lock:
            if config.window != self._options.window:
                self._window = None if config.window is None else make_window(config.window)
            self._options = config
            self.snapshot.tracks_success = self.snapshot.tracks_success or self._window is not None

    def matches_config(self, config: CircuitBreakerConfig) -> bool:
        """Return whether `config` equals the options in use; an expected_exception of None matches any."""
        if config.expected_exception is None:
            config = replace(config, expected_exception=self._options.expected_exception)
        return config == self._options

    def add_listener(self, listener: Listener, *types: type[Event]) -> Callable[[], None]:
        """Subscribe `listener` to this breaker's state changes. Returns a function that unsubscribes it."""
        with self._lock:
            if self._own_stream is None:
                parent = self._events
                self._own_stream = ChildStream(None if parent is None else lambda: parent)
        return self._own_stream.add_listener(listener, *types)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child, and drop the parent's trials and pending save."""
        self._lock = threading.RLock()
        self._persistence.save_pending = False
        if isinstance(self.snapshot, HalfOpenSnapshot):
            self.snapshot = HalfOpenSnapshot(self.snapshot.generation + 1, failures=self.snapshot.failures)
