"""The rules of a circuit breaker: when it opens, whom it lets in, what closes it. No function is called here.

The lock guards a handful of assignments. It is never held during the user's function, an await, I/O or a listener, so threads
and event loops can share a breaker.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from resilience_kit._counter import Counter
from resilience_kit._fork import register_fork_aware
from resilience_kit.context import trial_observer
from resilience_kit.errors import CircuitBreakerOpenError, is_rejection
from resilience_kit.events import ChildStream, Event, EventStream, Listener, StateChanged, default_stream
from resilience_kit.policies.breaker.last_failure import strip_traceback
from resilience_kit.policies.breaker.options import CircuitBreakerConfig, validate_state
from resilience_kit.policies.breaker.persistence import RESTORED_STATES, PendingRestore, StatePersistence
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
from resilience_kit.policies.breaker.window import make_window, open_reason

_logger = logging.getLogger("resilience_kit")
_MAX_HISTORY = 100
_JITTER = 0.1
#: Seconds of open time that a server's Retry-After may ask for where no max_recovery_timeout bounds it.
_DEFAULT_MAX_RETRY_AFTER = 300.0
_UNNAMED = "unnamed circuit breaker"
_OPEN = CircuitState.OPEN  # an enum's members are slow to look up


#: Old and new state, reason, time and number of a transition.
_Transition = tuple[str, str, str, float, int]


class SuccessObserver(Protocol):
    """Who may want to hear of successes that the rules need not know: a retry budget, while tokens are missing."""

    below_capacity: bool


class _NoObserver:
    below_capacity = False


_NO_OBSERVER = _NoObserver()


class BreakerCore:
    """The state of one breaker and the rules that change it. Thread-safe."""

    #: Whether an error is one of the expected ones.
    is_failure: Callable[[type[BaseException], BaseException], bool]
    #: The listeners of this breaker alone, once there are any.
    _own_stream: ChildStream | None = None
    #: Whether refusals are among them by name.
    _expects_rejections: bool

    def __init__(  # noqa: PLR0913 - what it consults
        self,
        options: CircuitBreakerConfig,
        name: str | None,
        *,
        clock: Callable[[], float] | None,
        store: BreakerStore | None,
        events: EventStream | None,
        random: Callable[[], float],
    ) -> None:
        self._options, self._name = options, name
        self._clock, self._events, self._random = clock, events, random
        self._persistence = StatePersistence(store)
        self._window = None if options.window is None else make_window(options.window)
        self._lock = threading.RLock()  # reentrant: a collection or a signal may run code that comes back here amid a rule
        self._reopenings = self._times_opened = self._failures_total = 0
        self._successes, self._rejections = Counter(), Counter()
        self._external_counters: tuple[Callable[[], int], Callable[[], int]] | None = None
        self._changes: deque[tuple[str, str, float, str]] | None = None
        self._last_failure: BaseException | None = None
        self._last_failure_time: float | None = None
        self._transitions: tuple[_Transition, ...] = ()
        self._success_observer: SuccessObserver = _NO_OBSERVER
        self.snapshot = StateSnapshot(CircuitState.CLOSED, 0, tracks_success=self._window is not None)
        register_fork_aware(self)

    def __str__(self) -> str:
        return self._name or _UNNAMED

    @property
    def name(self) -> str | None:
        """The breaker's name; of the function it decorates, when it was given none."""
        return self._name

    # --- what the drivers call -------------------------------------------------------------------------------------------

    def try_acquire(self, snapshot: StateSnapshot) -> Token | CircuitBreakerOpenError:
        """Admission behind a gate: a token, or the refusal as a value, since each frame that an error passes costs.

        Call it only when `snapshot.needs_admission`. Whoever asks this way counts the refusals; see `add_external_counters`.
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
            token, snapshot = self._admit(self.now()), self.snapshot  # a trial's lease runs from when it is lent
            transitions = self._drain_transitions()
        if transitions:
            self._publish_admission(token, transitions)
        return self._rejection(snapshot, snapshot.until - now) if token is None else token

    def acquire(self) -> Token:
        """Admission: gives a token, or raises `CircuitBreakerOpenError`."""
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
            del admission  # a frame that holds the error that holds the frame would wait for the collector

    def still_valid(self, token: Token) -> bool:
        """Whether a call that was let in may still start, after it had to wait for something else."""
        return self._is_current(token, self.now()) or not self.snapshot.needs_admission

    def on_success(self, token: Token, seconds: float = 0.0) -> None:
        """A call of this token ended well after `seconds`. Only needed when `token.tracks_success`."""
        with self._lock:
            now = self.now()
            if self._is_current(token, now):
                self._apply_success(token, seconds, now)
            transitions = self._drain_transitions()
        if transitions:
            self._publish(transitions)

    def on_failure(self, token: Token, error: BaseException, seconds: float = 0.0, retry_after: float | None = None) -> None:
        """A call of this token ended in a failure of the service; `retry_after` is the server's own hint in seconds."""
        error_copy = strip_traceback(error)
        with self._lock:
            now = self.now()
            self._failures_total += 1
            if self._is_current(token, now):
                self._last_failure, self._last_failure_time = error_copy, now
                self._apply_failure(token, seconds, now, retry_after)
            transitions = self._drain_transitions()
        if transitions:
            self._publish(transitions)
        if isinstance(token, TrialPermit) and (observer := trial_observer.get()) is not None:
            observer.trial_failed(error, self._remaining(self.snapshot))

    def release(self, token: Token | None) -> None:
        """A call of this token ended in a way that says nothing about the service: its permit goes back, no more.

        Takes no lock, so that a garbage collection may call it at any moment.
        """
        if isinstance(token, TrialPermit):
            token.release()

    def add_external_counters(self, *, successes: Callable[[], int], rejections: Callable[[], int]) -> None:
        """Have these added to the totals of `metrics`, for a driver that counts its own."""
        self._external_counters = (successes, rejections)

    def record_success(self, token: Token, started: float) -> None:
        """Count a success that no other source counts, of a call that began at `started` by `now()`."""
        self._successes.add()
        if token.tracks_success:
            self.on_success(token, self.now() - started)

    def record_error(self, token: Token, error: BaseException, started: float, retry_after: float | None = None) -> None:
        """Tell failure, ignored and cancelled apart by expected and excluded exceptions, and note it.

        A predicate of the user's that raises has its error raised here, with the permit given back.
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
        """Whether an error is a failure, by expected and excluded exceptions alone.

        A refusal of a guard or another breaker says nothing about a service, unless its class is among the expected ones by name.
        """
        if not isinstance(error, Exception) or self.excludes(error):
            return False
        return bool(self.is_failure(type(error), error)) and (self._expects_rejections or not is_rejection(error))

    def excludes(self, error: BaseException) -> bool:
        """Whether an error is one that never counts."""
        return isinstance(error, self._options.excluded_exceptions)

    def observe_successes(self, observer: SuccessObserver) -> None:
        """Have every success reported while the hearer is short, from now on."""
        with self._lock:
            self._success_observer, self.snapshot.tracks_success = observer, True

    @property
    def forced_open(self) -> bool:
        """Whether the circuit is open by somebody's will, and waiting is no use."""
        return self.snapshot.state is CircuitState.FORCED_OPEN

    # --- the rules; the lock is held in all of them ----------------------------------------------------------------------

    def _admit(self, now: float) -> Token | None:
        current = self.snapshot
        if current.state is CircuitState.OPEN and current.until <= now:
            current = self._transition(
                HalfOpenSnapshot(current.generation + 1, failures=current.failures), "the open time is over", now
            )
        if isinstance(current, HalfOpenSnapshot):
            return current.acquire(now, self._options.trial_lease, self._options.half_open_max_calls)
        return None if current.needs_admission else current

    def _is_current(self, token: Token, now: float) -> bool:
        """Whether a token belongs to the present state; a trial's, only while its lease runs."""
        return token.snapshot is self.snapshot and token.until > now if isinstance(token, TrialPermit) else token is self.snapshot

    @property
    def _tracks_success(self) -> bool:
        """Whether successes that follow no failure are wanted, too."""
        return self._window is not None or self._success_observer.below_capacity

    def _apply_success(self, token: Token, seconds: float, now: float) -> None:
        if isinstance(token, TrialPermit):
            token.release()
            self._on_trial_success(token.snapshot, seconds, now)
            return
        token.failures = 0
        token.tracks_success = self._tracks_success
        self._last_failure = None
        self._evaluate(token, seconds, now, failed=False)

    def _on_trial_success(self, snapshot: HalfOpenSnapshot, seconds: float, now: float) -> None:
        window = self._options.window
        if window is not None and window.is_slow(seconds):
            self._open("the trial was slow", now, failures=snapshot.failures)
            return
        snapshot.failures = 0
        snapshot.successes += 1
        if snapshot.successes >= self._options.success_threshold:
            self._close("the trial succeeded", now)

    def _apply_failure(self, token: Token, seconds: float, now: float, retry_after: float | None) -> None:
        if isinstance(token, TrialPermit):
            self._open("the trial failed", now, failures=token.snapshot.failures + 1, retry_after=retry_after)
            return
        token.failures += 1
        token.tracks_success = True
        self._evaluate(token, seconds, now, failed=True, retry_after=retry_after)

    def _evaluate(
        self, snapshot: StateSnapshot, seconds: float, now: float, *, failed: bool, retry_after: float | None = None
    ) -> None:
        reason = self._open_reason(snapshot, seconds, now, failed=failed)
        if reason is not None:
            self._open(reason, now, failures=snapshot.failures, retry_after=retry_after)

    def _open_reason(self, snapshot: StateSnapshot, seconds: float, now: float, *, failed: bool) -> str | None:
        window = self._options.window
        if window is None or self._window is None:
            reached = snapshot.failures >= self._options.failure_threshold
            return f"{snapshot.failures} failure{'s' * (snapshot.failures != 1)} in a row" if reached else None
        self._window.add(now, failed=failed, slow=window.is_slow(seconds))
        return open_reason(window, self._window)

    def _open(self, reason: str, now: float, *, failures: int, retry_after: float | None = None) -> None:
        seconds = self._open_seconds(retry_after)
        self._reopenings += 1
        self._open_for(seconds, reason, now, failures=failures)

    def _open_for(self, seconds: float, reason: str, now: float, *, failures: int) -> None:
        self._last_failure_time = now
        self._times_opened += 1
        opened = StateSnapshot(CircuitState.OPEN, self.snapshot.generation + 1, failures=failures, until=now + seconds)
        self._transition(opened, reason, now)

    def _open_seconds(self, retry_after: float | None) -> float:
        seconds, longest = self._options.recovery_timeout, self._options.max_recovery_timeout
        if longest is not None:
            spread = 1.0 + _JITTER * (2.0 * self._random() - 1.0)
            seconds = min(longest, seconds * 2.0 ** min(self._reopenings, 64)) * spread
            # What lies above the limit is mirrored at it: cut off there, half of all circuits would reopen at the same moment.
            seconds = min(seconds, 2.0 * longest - seconds)
        if retry_after is not None:
            seconds = max(seconds, min(retry_after, _DEFAULT_MAX_RETRY_AFTER if longest is None else longest))
        return seconds

    def _close(self, reason: str, now: float) -> None:
        self._reopenings = 0
        self._last_failure = None
        self._window = None if self._options.window is None else make_window(self._options.window)
        self._transition(StateSnapshot(CircuitState.CLOSED, self.snapshot.generation + 1), reason, now)

    def _transition(self, new: StateSnapshot, reason: str, now: float) -> StateSnapshot:
        new.tracks_success = self._tracks_success
        if new.state is CircuitState.FORCED_OPEN:
            new.rejection_reason = f"forced open: {reason}"
        old, self.snapshot = self.snapshot, new
        old.tracks_success = True  # for calls under way, whose ends a retry budget may want to hear of
        if isinstance(old, HalfOpenSnapshot):
            old.trials = ()  # they know their stay: together they would be a circle
        if old.state is not new.state:
            if self._changes is None:
                self._changes = deque(maxlen=_MAX_HISTORY)
            self._changes.append((old.state.value, new.state.value, now, reason))
            self._transitions = (*self._transitions, (old.state.value, new.state.value, reason, now, new.generation))
        return new

    def _drain_transitions(self) -> tuple[_Transition, ...]:
        """What this thread has changed since it took the lock, and announces when it has given the lock back."""
        transitions, self._transitions = self._transitions, ()
        return transitions

    # --- outside the lock ------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds by this breaker's clock."""
        clock = self._clock
        return float(time.monotonic() if clock is None else clock())

    def _trials_exhausted(self, snapshot: StateSnapshot, now: float) -> bool:
        """Whether every trial is lent out: asked without the lock, so that a crowd does not queue for its refusals."""
        return isinstance(snapshot, HalfOpenSnapshot) and len(snapshot.active_trials(now)) >= self._options.half_open_max_calls

    def _rejection(self, snapshot: StateSnapshot, remaining: float) -> CircuitBreakerOpenError:
        reason = snapshot.rejection_reason
        error: CircuitBreakerOpenError  # for mypy: half of its bases have no types
        if reason is None:
            error = CircuitBreakerOpenError(self._name or _UNNAMED, remaining)
        else:
            error = CircuitBreakerOpenError(self._name or _UNNAMED, None, reason)
        return error

    def _publish(self, transitions: tuple[_Transition, ...]) -> None:
        self._persistence.save_soon(self)
        events = self._own_stream or self._events or default_stream()
        if events.has_listener(StateChanged):
            for old, new, reason, at, number in transitions:
                events.enqueue(StateChanged(operation=str(self), old=old, new=new, reason=reason, at=at, sequence=number))
            events.flush()

    def _publish_admission(self, token: Token | None, transitions: tuple[_Transition, ...]) -> None:
        try:
            self._publish(transitions)
        except BaseException:  # Ctrl-C in a listener: this call will not be made
            self.release(token)
            raise

    def _remaining(self, snapshot: StateSnapshot) -> float:
        """Seconds of open time left; 0.0 for a state that is not open."""
        return max(0.0, snapshot.until - self.now()) if snapshot.state.opened else 0.0

    # --- over a restart; see `persistence` --------------------------------------------------------------------------------

    def restore(self) -> None:
        """Take over the state that the store has under this breaker's name, if any. A trial that was under way is due again.

        A thread with an event loop does not wait for the store: there the state arrives a little later.
        """
        loading = self._persistence.start_restore(self)
        if loading is not None:
            loading.finish()

    def attach_store(self, store: BreakerStore | None) -> PendingRestore | None:
        """Keep the state in a store from now on; `finish()` of what is returned takes the stored state over."""
        self._persistence.store = store
        return self._persistence.start_restore(self)

    def stored_state(self) -> StoredState:
        """Return what is worth keeping of the present state."""
        snapshot = self.snapshot
        return StoredState(snapshot.state, snapshot.failures, self._remaining(snapshot))

    def apply_stored_state(self, stored: StoredState | None, before: StateSnapshot) -> None:
        """Go to a stored state, unless the breaker has moved on from `before` while the store was read."""
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
                self._transition(StateSnapshot(state, generation, failures=stored.failures, until=until), "restored", now)
            transitions = self._drain_transitions()
        if transitions:
            self._publish(transitions)

    # --- by hand ---------------------------------------------------------------------------------------------------------

    def force_open(self, reason: str) -> None:
        """Refuse every call until `force_close` or `reset`."""
        self.set_state(CircuitState.FORCED_OPEN, reason)

    def force_close(self, reason: str) -> None:
        """Let calls through again, whatever the state; failures count from zero."""
        self.set_state(CircuitState.CLOSED, reason)

    def reset(self) -> None:
        """As `force_close`: closed, no failures, open time back to its first length."""
        self.force_close("reset")

    def set_state(self, state: CircuitState, reason: str) -> None:
        """Go to a state at once; open lasts for a recovery_timeout from now. Raises `ConfigurationError`."""
        state = validate_state(state)
        with self._lock:
            self._force_state(state, reason)
            transitions = self._drain_transitions()
        self._publish(transitions)

    def _force_state(self, state: CircuitState, reason: str) -> None:
        now, generation, failures = self.now(), self.snapshot.generation + 1, self.snapshot.failures
        if state is CircuitState.CLOSED:
            self._close(reason, now)
        elif state is CircuitState.OPEN:
            self._open_for(self._options.recovery_timeout, reason, now, failures=failures)
        elif state is CircuitState.HALF_OPEN:
            self._transition(HalfOpenSnapshot(generation, failures=failures), reason, now)
        else:
            self._transition(StateSnapshot(CircuitState.FORCED_OPEN, generation, failures=failures, until=math.inf), reason, now)

    def set_opened_at(self, at: float | None) -> None:
        """Have the last opening be at monotonic `at`: an open circuit's trial is due a recovery_timeout later."""
        with self._lock:
            self._last_failure_time = at
            if at is not None and self.snapshot.state is CircuitState.OPEN:
                self.snapshot.until = at + self._options.recovery_timeout

    def reconfigure(self, config: CircuitBreakerConfig) -> None:
        """Obey other options from the next outcome on. The state, its open time and the failures so far stay."""
        with self._lock:
            if config.window != self._options.window:
                self._window = None if config.window is None else make_window(config.window)
            self._options = config
            self.snapshot.tracks_success = self.snapshot.tracks_success or self._window is not None

    def matches_config(self, config: CircuitBreakerConfig) -> bool:
        """Whether `config` says what this breaker does; an expected_exception of None says nothing."""
        if config.expected_exception is None:
            config = replace(config, expected_exception=self._options.expected_exception)
        return config == self._options

    def add_listener(self, listener: Listener, *types: type[Event]) -> Callable[[], None]:
        """Send this breaker's state changes to `listener`; the function returned ends that."""
        with self._lock:
            if self._own_stream is None:
                parent = self._events
                self._own_stream = ChildStream(None if parent is None else lambda: parent)
        return self._own_stream.add_listener(listener, *types)

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, and neither a trial nor a save of the parent's under way."""
        self._lock = threading.RLock()
        self._persistence.save_pending = False
        if isinstance(self.snapshot, HalfOpenSnapshot):
            self.snapshot = HalfOpenSnapshot(self.snapshot.generation + 1, failures=self.snapshot.failures)
