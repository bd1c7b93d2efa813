"""The state machine of a circuit breaker: when it opens, which calls it admits, what closes it.

Methods with the suffix `_locked` require `self._lock`, which `core` acquires. No rule calls a user function, a listener
or a store: transitions are collected, and `core` emits them after it has released the lock.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from resilience_kit.policies.breaker.options import CircuitBreakerConfig
from resilience_kit.policies.breaker.states import CircuitState, HalfOpenSnapshot, StateSnapshot, Token, TrialPermit
from resilience_kit.policies.breaker.window import make_window, open_reason

_MAX_HISTORY = 100
_JITTER = 0.1
#: Longest open time in seconds that a Retry-After may set if there is no max_recovery_timeout.
_DEFAULT_MAX_RETRY_AFTER = 300.0
#: Old and new state, reason, time and number of a transition.
Transition = tuple[str, str, str, float, int]


class SuccessObserver(Protocol):
    """Receives successes that the rules do not need: a retry budget, while tokens are missing."""

    below_capacity: bool


class _NoObserver:
    below_capacity = False


_NO_OBSERVER = _NoObserver()


class BreakerRules:
    """The state of one breaker and the rules that change it."""

    def __init__(self, options: CircuitBreakerConfig, *, clock: Callable[[], float] | None, random: Callable[[], float]) -> None:
        self._options, self._clock, self._random = options, clock, random
        self._window = None if options.window is None else make_window(options.window)
        self._lock = threading.RLock()  # reentrant: a garbage collection or a signal may call back in here
        self._reopenings = self._times_opened = 0
        self._changes: deque[tuple[str, str, float, str]] | None = None
        self._last_failure: BaseException | None = None
        self._last_failure_time: float | None = None
        self._transitions: tuple[Transition, ...] = ()
        self._success_observer: SuccessObserver = _NO_OBSERVER
        self.snapshot = StateSnapshot(CircuitState.CLOSED, 0, tracks_success=self._window is not None)

    def now(self) -> float:
        """Return the monotonic seconds of this breaker's clock."""
        clock = self._clock
        return float(time.monotonic() if clock is None else clock())

    def _admit_locked(self, now: float) -> Token | None:
        current = self.snapshot
        if current.state is CircuitState.OPEN and current.until <= now:
            current = self._transition_locked(
                HalfOpenSnapshot(current.generation + 1, failures=current.failures), "the open time is over", now
            )
        if isinstance(current, HalfOpenSnapshot):
            return current.acquire(now, self._options.trial_lease, self._options.half_open_max_calls)
        return None if current.needs_admission else current

    def _is_current(self, token: Token, now: float) -> bool:
        """Return whether a token belongs to the current state; a trial's, only while its lease runs. Needs no lock."""
        return token.snapshot is self.snapshot and token.until > now if isinstance(token, TrialPermit) else token is self.snapshot

    @property
    def _tracks_success(self) -> bool:
        """Return whether successes without a preceding failure are recorded, too."""
        return self._window is not None or self._success_observer.below_capacity

    def _apply_success_locked(self, token: Token, seconds: float, now: float) -> None:
        if isinstance(token, TrialPermit):
            token.release()
            self._on_trial_success_locked(token.snapshot, seconds, now)
            return
        token.failures = 0
        token.tracks_success = self._tracks_success
        self._last_failure = None
        self._evaluate_locked(token, seconds, now, failed=False)

    def _on_trial_success_locked(self, snapshot: HalfOpenSnapshot, seconds: float, now: float) -> None:
        window = self._options.window
        if window is not None and window.is_slow(seconds):
            self._open_locked("the trial was slow", now, failures=snapshot.failures)
            return
        snapshot.failures = 0
        snapshot.successes += 1
        if snapshot.successes >= self._options.success_threshold:
            self._close_locked("the trial succeeded", now)

    def _apply_failure_locked(self, token: Token, seconds: float, now: float, retry_after: float | None) -> None:
        if isinstance(token, TrialPermit):
            self._open_locked("the trial failed", now, failures=token.snapshot.failures + 1, retry_after=retry_after)
            return
        token.failures += 1
        token.tracks_success = True
        self._evaluate_locked(token, seconds, now, failed=True, retry_after=retry_after)

    def _evaluate_locked(
        self, snapshot: StateSnapshot, seconds: float, now: float, *, failed: bool, retry_after: float | None = None
    ) -> None:
        """Add a call to the window, if there is one, and open the circuit if the window or the failures in a row demand it."""
        window, failures, reason = self._options.window, snapshot.failures, None
        if window is not None and self._window is not None:
            self._window.add(now, failed=failed, slow=window.is_slow(seconds))
            reason = open_reason(window, self._window)
        elif failures >= self._options.failure_threshold:
            reason = f"{failures} failure{'s' * (failures != 1)} in a row"
        if reason is not None:
            self._open_locked(reason, now, failures=failures, retry_after=retry_after)

    def _open_locked(
        self, reason: str, now: float, *, failures: int, seconds: float | None = None, retry_after: float | None = None
    ) -> None:
        """Open for `seconds`, or for the open time of the options, which each further opening may double."""
        if seconds is None:
            seconds = self._open_seconds_locked(retry_after)
            self._reopenings += 1
        self._last_failure_time = now
        self._times_opened += 1
        opened = StateSnapshot(CircuitState.OPEN, self.snapshot.generation + 1, failures=failures, until=now + seconds)
        self._transition_locked(opened, reason, now)

    def _open_seconds_locked(self, retry_after: float | None) -> float:
        seconds, longest = self._options.recovery_timeout, self._options.max_recovery_timeout
        if longest is not None:
            spread = 1.0 + _JITTER * (2.0 * self._random() - 1.0)
            seconds = min(longest, seconds * 2.0 ** min(self._reopenings, 64)) * spread
            # Values above the limit are mirrored at it: clipped, half of all circuits would reopen at the same moment.
            seconds = min(seconds, 2.0 * longest - seconds)
        if retry_after is not None:
            seconds = max(seconds, min(retry_after, _DEFAULT_MAX_RETRY_AFTER if longest is None else longest))
        return seconds

    def _close_locked(self, reason: str, now: float) -> None:
        self._reopenings = 0
        self._last_failure = None
        self._window = None if self._options.window is None else make_window(self._options.window)
        self._transition_locked(StateSnapshot(CircuitState.CLOSED, self.snapshot.generation + 1), reason, now)

    def _transition_locked(self, new: StateSnapshot, reason: str, now: float) -> StateSnapshot:
        new.tracks_success = self._tracks_success
        if new.state is CircuitState.FORCED_OPEN:
            new.rejection_reason = f"forced open: {reason}"
        old, self.snapshot = self.snapshot, new
        old.tracks_success = True  # for calls in flight, whose successes a retry budget may observe
        if isinstance(old, HalfOpenSnapshot):
            old.trials = ()  # trials refer to their snapshot: breaks the reference cycle
        if old.state is not new.state:
            if self._changes is None:
                self._changes = deque(maxlen=_MAX_HISTORY)
            self._changes.append((old.state.value, new.state.value, now, reason))
            self._transitions = (*self._transitions, (old.state.value, new.state.value, reason, now, new.generation))
        return new

    def _drain_transitions_locked(self) -> tuple[Transition, ...]:
        """Return the transitions since the lock was acquired, to be emitted after its release."""
        transitions, self._transitions = self._transitions, ()
        return transitions

    def _force_state_locked(self, state: CircuitState, reason: str) -> None:
        now, generation, failures = self.now(), self.snapshot.generation + 1, self.snapshot.failures
        if state is CircuitState.CLOSED:
            self._close_locked(reason, now)
        elif state is CircuitState.OPEN:
            self._open_locked(reason, now, failures=failures, seconds=self._options.recovery_timeout)
        elif state is CircuitState.HALF_OPEN:
            self._transition_locked(HalfOpenSnapshot(generation, failures=failures), reason, now)
        else:
            self._transition_locked(
                StateSnapshot(CircuitState.FORCED_OPEN, generation, failures=failures, until=math.inf), reason, now
            )
