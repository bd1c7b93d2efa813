"""The rules of a circuit breaker: when it opens, whom it lets in, what closes it. No function is called here.

The lock guards a handful of assignments. It is never held during the user's function, an await, I/O or a listener, so threads
and event loops can share a breaker.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple, Protocol

from resilience_kit._counter import Counter
from resilience_kit._fork import renew_after_fork
from resilience_kit.context import trial_observer
from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError, is_refusal
from resilience_kit.events import ChildStream, Event, EventStream, Listener, StateChanged, default_stream
from resilience_kit.policies.breaker.last_failure import without_frames
from resilience_kit.policies.breaker.options import CircuitBreakerConfig
from resilience_kit.policies.breaker.states import CircuitState, NestedTrial, Snapshot, Token, Trial, Trials, enclosing_trial
from resilience_kit.policies.breaker.store import BreakerStore, StoredState, store_thread
from resilience_kit.policies.breaker.window import judge, tally

_logger = logging.getLogger("resilience_kit")
_KEPT_CHANGES = 100
_JITTER = 0.1
#: Seconds of open time that a server's Retry-After may ask for where no max_recovery_timeout bounds it.
_LONGEST_HINT = 300.0
_UNNAMED = "unnamed circuit breaker"
#: What a stored state becomes after a restart.
_RESTORED = {
    CircuitState.OPEN: CircuitState.OPEN,
    CircuitState.HALF_OPEN: CircuitState.OPEN,
    CircuitState.FORCED_OPEN: CircuitState.FORCED_OPEN,
}
_OPEN = CircuitState.OPEN  # an enum's members are slow to look up


#: What users may set; budgets are the cost breaker's own business.
_SETTABLE = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN)


def _settable(value: object) -> CircuitState:
    with contextlib.suppress(ValueError):
        state = CircuitState(value)  # type: ignore[arg-type]  # whatever it is
        if state in _SETTABLE:
            return state
    names = ", ".join(repr(state.value) for state in _SETTABLE)
    raise ConfigurationError([("CircuitBreaker.state", f"must be one of {names}", value)])


#: Old and new state, reason, time and number of a transition.
_Transition = tuple[str, str, str, float, int]


class Hearer(Protocol):
    """Who may want to hear of successes that the rules need not know: a retry budget, while tokens are missing."""

    short: bool


class _Nobody:
    short = False


_NOBODY = _Nobody()


class BreakerCore:
    """The state of one breaker and the rules that change it. Thread-safe."""

    #: Whether an error is one of the expected ones.
    is_failure: Callable[[type[BaseException], BaseException], bool]
    #: The listeners of this breaker alone, once there are any.
    _own_stream: ChildStream | None = None
    #: Whether its state will be saved, as it is by then.
    _is_queued = False
    #: Whether refusals are among them by name.
    _expects_refusals: bool

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
        self._clock, self._store, self._events, self._random = clock, store, events, random
        self._tally = None if options.window is None else tally(options.window)
        self._lock = threading.RLock()  # reentrant: a collection or a signal may run code that comes back here amid a rule
        self._reopenings = self._times_opened = self._failures_total = 0
        self._successes, self._rejections = Counter(), Counter()
        self._others: tuple[Callable[[], int], Callable[[], int]] | None = None
        self._changes: deque[tuple[str, str, float, str]] | None = None
        self._last_failure: BaseException | None = None
        self._last_failure_time: float | None = None
        self._transitions: tuple[_Transition, ...] = ()
        self._hearer: Hearer = _NOBODY
        self.snapshot = Snapshot(CircuitState.CLOSED, 0, reports=self._tally is not None)
        renew_after_fork(self)

    def __str__(self) -> str:
        return self._name or _UNNAMED

    # --- what the drivers call -------------------------------------------------------------------------------------------

    def ask(self, snapshot: Snapshot) -> Token | CircuitBreakerOpenError:
        """Admission behind a gate: a token, or the refusal as a value, since each frame that an error passes costs.

        Call it only when `snapshot.gate`. Whoever asks this way counts the refusals; see `count_of_others`.
        """
        clock = self._clock
        now = float(time.monotonic() if clock is None else clock())
        left = snapshot.until - now
        if left > 0.0:
            if snapshot.refusal is None:
                return CircuitBreakerOpenError(self._name or _UNNAMED, left)
            return CircuitBreakerOpenError(self._name or _UNNAMED, None, snapshot.refusal)
        if type(snapshot) is Trials:
            outer = enclosing_trial(snapshot, now)
            if outer is not None:
                return NestedTrial(snapshot, outer.until)
            if self._is_full(snapshot, now):
                return self._refusal(snapshot, left)
        with self._lock:
            token, snapshot = self._admit(self.now()), self.snapshot  # a trial's lease runs from when it is lent
            transitions = self._take_transitions()
        if transitions:
            self._announce_admission(token, transitions)
        return self._refusal(snapshot, snapshot.until - now) if token is None else token

    def enter(self) -> Token:
        """Admission: gives a token, or raises `CircuitBreakerOpenError`."""
        snapshot = self.snapshot
        if not snapshot.gate:
            return snapshot
        answer = self.ask(snapshot)
        if not isinstance(answer, CircuitBreakerOpenError):
            return answer
        try:
            self._rejections.add()
            raise answer
        finally:
            del answer  # a frame that holds the error that holds the frame would wait for the collector

    def still_admits(self, token: Token) -> bool:
        """Whether a call that was let in may still start, after it had to wait for something else."""
        return self._current(token, self.now()) or not self.snapshot.gate

    def succeeded(self, token: Token, seconds: float = 0.0) -> None:
        """A call of this token ended well after `seconds`. Only needed when `token.reports`."""
        with self._lock:
            now = self.now()
            if self._current(token, now):
                self._take_success(token, seconds, now)
            transitions = self._take_transitions()
        if transitions:
            self._announce(transitions)

    def failed(self, token: Token, error: BaseException, seconds: float = 0.0, retry_after: float | None = None) -> None:
        """A call of this token ended in a failure of the service; `retry_after` is the server's own hint in seconds."""
        kept = without_frames(error)
        with self._lock:
            now = self.now()
            self._failures_total += 1
            if self._current(token, now):
                self._last_failure, self._last_failure_time = kept, now
                self._take_failure(token, seconds, now, retry_after)
            transitions = self._take_transitions()
        if transitions:
            self._announce(transitions)
        if isinstance(token, Trial) and (observer := trial_observer.get()) is not None:
            observer.trial_failed(error, self._remaining(self.snapshot))

    def released(self, token: Token | None) -> None:
        """A call of this token ended in a way that says nothing about the service: its permit goes back, no more.

        Takes no lock, so that a garbage collection may call it at any moment.
        """
        if isinstance(token, Trial):
            token.give_back()

    def count_of_others(self, *, successes: Callable[[], int], rejections: Callable[[], int]) -> None:
        """Have these added to the totals of `metrics`, for a driver that counts its own."""
        self._others = (successes, rejections)

    def ended_well(self, token: Token, started: float) -> None:
        """Count a success that no other source counts, of a call that began at `started` by `now()`."""
        self._successes.add()
        if token.reports:
            self.succeeded(token, self.now() - started)

    def ended_badly(self, token: Token, error: BaseException, started: float, retry_after: float | None = None) -> None:
        """Tell failure, ignored and cancelled apart by expected and excluded exceptions, and note it.

        A predicate of the user's that raises has its error raised here, with the permit given back.
        """
        counted = False
        try:
            counted = self.counts(error)
        finally:
            if not counted:
                self.released(token)
        if counted:
            self.failed(token, error, self.now() - started, retry_after)

    def counts(self, error: BaseException) -> bool:
        """Whether an error is a failure, by expected and excluded exceptions alone.

        A refusal of a guard or another breaker says nothing about a service, unless its class is among the expected ones by name.
        """
        if not isinstance(error, Exception) or self.excludes(error):
            return False
        return bool(self.is_failure(type(error), error)) and (self._expects_refusals or not is_refusal(error))

    def excludes(self, error: BaseException) -> bool:
        """Whether an error is one that never counts."""
        return isinstance(error, self._options.excluded_exceptions)

    def report_successes_to(self, hearer: Hearer) -> None:
        """Have every success reported while the hearer is short, from now on."""
        with self._lock:
            self._hearer, self.snapshot.reports = hearer, True

    @property
    def forced_open(self) -> bool:
        """Whether the circuit is open by somebody's will, and waiting is no use."""
        return self.snapshot.state is CircuitState.FORCED_OPEN

    # --- the rules; the lock is held in all of them ----------------------------------------------------------------------

    def _admit(self, now: float) -> Token | None:
        current = self.snapshot
        if current.state is CircuitState.OPEN and current.until <= now:
            current = self._move(Trials(current.generation + 1, failures=current.failures), "the open time is over", now)
        if isinstance(current, Trials):
            return current.lend(now, self._options.trial_lease, self._options.half_open_max_calls)
        return None if current.gate else current

    def _current(self, token: Token, now: float) -> bool:
        """Whether a token belongs to the present state; a trial's, only while its lease runs."""
        return token.stay is self.snapshot and token.until > now if isinstance(token, Trial) else token is self.snapshot

    @property
    def _reports(self) -> bool:
        """Whether successes that follow no failure are wanted, too."""
        return self._tally is not None or self._hearer.short

    def _take_success(self, token: Token, seconds: float, now: float) -> None:
        if isinstance(token, Trial):
            token.give_back()
            self._trial_succeeded(token.stay, seconds, now)
            return
        token.failures = 0
        token.reports = self._reports
        self._last_failure = None
        self._judge(token, seconds, now, failed=False)

    def _trial_succeeded(self, stay: Trials, seconds: float, now: float) -> None:
        window = self._options.window
        if window is not None and window.is_slow(seconds):
            self._open("the trial was slow", now, failures=stay.failures)
            return
        stay.failures = 0
        stay.successes += 1
        if stay.successes >= self._options.success_threshold:
            self._close("the trial succeeded", now)

    def _take_failure(self, token: Token, seconds: float, now: float, retry_after: float | None) -> None:
        if isinstance(token, Trial):
            self._open("the trial failed", now, failures=token.stay.failures + 1, retry_after=retry_after)
            return
        token.failures += 1
        token.reports = True
        self._judge(token, seconds, now, failed=True, retry_after=retry_after)

    def _judge(self, snapshot: Snapshot, seconds: float, now: float, *, failed: bool, retry_after: float | None = None) -> None:
        reason = self._why_open(snapshot, seconds, now, failed=failed)
        if reason is not None:
            self._open(reason, now, failures=snapshot.failures, retry_after=retry_after)

    def _why_open(self, snapshot: Snapshot, seconds: float, now: float, *, failed: bool) -> str | None:
        window = self._options.window
        if window is None or self._tally is None:
            reached = snapshot.failures >= self._options.failure_threshold
            return f"{snapshot.failures} failure{'s' * (snapshot.failures != 1)} in a row" if reached else None
        self._tally.add(now, failed=failed, slow=window.is_slow(seconds))
        return judge(window, self._tally)

    def _open(self, reason: str, now: float, *, failures: int, retry_after: float | None = None) -> None:
        seconds = self._open_seconds(retry_after)
        self._reopenings += 1
        self._open_for(seconds, reason, now, failures=failures)

    def _open_for(self, seconds: float, reason: str, now: float, *, failures: int) -> None:
        self._last_failure_time = now
        self._times_opened += 1
        opened = Snapshot(CircuitState.OPEN, self.snapshot.generation + 1, failures=failures, until=now + seconds)
        self._move(opened, reason, now)

    def _open_seconds(self, retry_after: float | None) -> float:
        seconds, longest = self._options.recovery_timeout, self._options.max_recovery_timeout
        if longest is not None:
            spread = 1.0 + _JITTER * (2.0 * self._random() - 1.0)
            seconds = min(longest, seconds * 2.0 ** min(self._reopenings, 64)) * spread
            # What lies above the limit is mirrored at it: cut off there, half of all circuits would reopen at the same moment.
            seconds = min(seconds, 2.0 * longest - seconds)
        if retry_after is not None:
            seconds = max(seconds, min(retry_after, _LONGEST_HINT if longest is None else longest))
        return seconds

    def _close(self, reason: str, now: float) -> None:
        self._reopenings = 0
        self._last_failure = None
        self._tally = None if self._options.window is None else tally(self._options.window)
        self._move(Snapshot(CircuitState.CLOSED, self.snapshot.generation + 1), reason, now)

    def _move(self, new: Snapshot, reason: str, now: float) -> Snapshot:
        new.reports = self._reports
        if new.state is CircuitState.FORCED_OPEN:
            new.refusal = f"forced open: {reason}"
        old, self.snapshot = self.snapshot, new
        old.reports = True  # for calls under way, whose ends a retry budget may want to hear of
        if isinstance(old, Trials):
            old.trials = ()  # they know their stay: together they would be a circle
        if old.state is not new.state:
            if self._changes is None:
                self._changes = deque(maxlen=_KEPT_CHANGES)
            self._changes.append((old.state.value, new.state.value, now, reason))
            self._transitions = (*self._transitions, (old.state.value, new.state.value, reason, now, new.generation))
        return new

    def _take_transitions(self) -> tuple[_Transition, ...]:
        """What this thread has changed since it took the lock, and announces when it has given the lock back."""
        transitions, self._transitions = self._transitions, ()
        return transitions

    # --- outside the lock ------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds by this breaker's clock."""
        clock = self._clock
        return float(time.monotonic() if clock is None else clock())

    def _is_full(self, snapshot: Snapshot, now: float) -> bool:
        """Whether every trial is lent out: asked without the lock, so that a crowd does not queue for its refusals."""
        return isinstance(snapshot, Trials) and len(snapshot.running(now)) >= self._options.half_open_max_calls

    def _refusal(self, snapshot: Snapshot, left: float) -> CircuitBreakerOpenError:
        refusal = snapshot.refusal
        error: CircuitBreakerOpenError  # for mypy: half of its bases have no types
        if refusal is None:
            error = CircuitBreakerOpenError(self._name or _UNNAMED, left)
        else:
            error = CircuitBreakerOpenError(self._name or _UNNAMED, None, refusal)
        return error

    def _announce(self, transitions: tuple[_Transition, ...]) -> None:
        if self._store is not None and not self._is_queued:
            self._is_queued = True
            store_thread.submit(self.save_state)
        events = self._own_stream or self._events or default_stream()
        if events.wants(StateChanged):
            for old, new, reason, at, number in transitions:
                events.put(StateChanged(operation=str(self), old=old, new=new, reason=reason, at=at, sequence=number))
            events.deliver()

    def _announce_admission(self, token: Token | None, transitions: tuple[_Transition, ...]) -> None:
        try:
            self._announce(transitions)
        except BaseException:  # Ctrl-C in a listener: this call will not be made
            self.released(token)
            raise

    def _remaining(self, snapshot: Snapshot) -> float:
        """Seconds of open time left; 0.0 for a state that is not open."""
        return max(0.0, snapshot.until - self.now()) if snapshot.state.opened else 0.0

    # --- over a restart; the store's own thread calls the store -----------------------------------------------------------

    def restore(self) -> None:
        """Take over the state that the store has under this breaker's name, if any. A trial that was under way is due again.

        A thread with an event loop does not wait for the store: there the state arrives a little later.
        """
        loading = self.begin_restoring()
        if loading is not None:
            loading.finish()

    def begin_restoring(self) -> Loading | None:
        """Have the store read; `finish()` of what is returned takes the state over. None where there is nothing to read."""
        if self._store is None or self._name is None:
            return None
        return Loading(self, self.snapshot, store_thread.load(self._store, self._name))

    def attach_store(self, store: BreakerStore | None) -> Loading | None:
        """Keep the state in a store from now on, and `begin_restoring`."""
        self._store = store
        return self.begin_restoring()

    def adopt(self, kept: StoredState | None, before: Snapshot) -> None:
        """Go to a stored state, unless the breaker has moved on from `before` while the store was read."""
        if kept is not None and kept.state is CircuitState.BUDGET_LIMITED:
            words = "circuit breaker %r starts closed: its stored state %r is a cost breaker's; give one of the two another name"
            _logger.error(words, str(self), kept.state.value)
        if kept is None or kept.state not in _RESTORED:
            return
        with self._lock:
            if self.snapshot is before:
                now = self.now()
                until = math.inf if kept.state is CircuitState.FORCED_OPEN else now + max(0.0, kept.remaining)
                state, generation = _RESTORED[kept.state], before.generation + 1
                self._move(Snapshot(state, generation, failures=kept.failures, until=until), "restored", now)
            transitions = self._take_transitions()
        if transitions:
            self._announce(transitions)

    def save_state(self) -> None:
        """Write the present state. Called by the store's thread."""
        self._is_queued = False  # before the state is read: one that comes later is saved later
        store, snapshot = self._store, self.snapshot
        if store is None or self._name is None:
            return
        try:
            store.save(self._name, StoredState(snapshot.state, snapshot.failures, self._remaining(snapshot)))
        except Exception as error:  # noqa: BLE001 - a store is a hint; whatever it raises, the breaker goes on
            self.give_up_store(error)

    def give_up_store(self, error: Exception) -> None:
        """Go on without a store that failed; logged once."""
        store, self._store = self._store, None
        if store is not None:
            words = "the store of circuit breaker %r failed (%s); its state stays in this process"
            _logger.error(words, str(self), type(error).__name__)

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
        state = _settable(state)
        with self._lock:
            self._go_to(state, reason)
            transitions = self._take_transitions()
        self._announce(transitions)

    def _go_to(self, state: CircuitState, reason: str) -> None:
        now, generation, failures = self.now(), self.snapshot.generation + 1, self.snapshot.failures
        if state is CircuitState.CLOSED:
            self._close(reason, now)
        elif state is CircuitState.OPEN:
            self._open_for(self._options.recovery_timeout, reason, now, failures=failures)
        elif state is CircuitState.HALF_OPEN:
            self._move(Trials(generation, failures=failures), reason, now)
        else:
            self._move(Snapshot(CircuitState.FORCED_OPEN, generation, failures=failures, until=math.inf), reason, now)

    def move_opening(self, at: float | None) -> None:
        """Have the last opening be at monotonic `at`: an open circuit's trial is due a recovery_timeout later."""
        with self._lock:
            self._last_failure_time = at
            if at is not None and self.snapshot.state is CircuitState.OPEN:
                self.snapshot.until = at + self._options.recovery_timeout

    def reconfigure(self, config: CircuitBreakerConfig) -> None:
        """Obey other options from the next outcome on. The state, its open time and the failures so far stay."""
        with self._lock:
            if config.window != self._options.window:
                self._tally = None if config.window is None else tally(config.window)
            self._options = config
            self.snapshot.reports = self.snapshot.reports or self._tally is not None

    def has_options(self, config: CircuitBreakerConfig) -> bool:
        """Whether `config` says what this breaker does; an expected_exception of None says nothing."""
        if config.expected_exception is None:
            config = replace(config, expected_exception=self._options.expected_exception)
        return config == self._options

    def add_listener(self, listener: Listener, *types: type[Event]) -> Callable[[], None]:
        """Send this breaker's state changes to `listener`; the function returned ends that."""
        with self._lock:
            if self._own_stream is None:
                given = self._events
                self._own_stream = ChildStream(None if given is None else lambda: given)
        return self._own_stream.add_listener(listener, *types)

    def renew_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, and neither a trial nor a save of the parent's under way."""
        self._lock = threading.RLock()
        if self._is_queued:
            self._is_queued = False
        if isinstance(self.snapshot, Trials):
            self.snapshot = Trials(self.snapshot.generation + 1, failures=self.snapshot.failures)


class Loading(NamedTuple):
    """A state that the store's thread reads for a breaker."""

    breaker: BreakerCore
    before: Snapshot
    result: Future[StoredState | None]

    def finish(self) -> None:
        """Have the breaker take the state over: now, after waiting for it, or on an event loop when it is there."""
        if store_thread.may_wait() and store_thread.wait(self.result):
            self._take_over(self.result)
        else:
            self.result.add_done_callback(self._take_over)

    def _take_over(self, result: Future[StoredState | None]) -> None:
        try:
            kept = result.result()
        except Exception as error:  # noqa: BLE001 - a store is a hint; whatever it raises, the breaker goes on
            self.breaker.give_up_store(error)
        else:
            self.breaker.adopt(kept, self.before)
