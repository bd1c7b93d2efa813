"""Breakers with the races that a lock-free design invites, for the schedules to find."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from resilience_kit.policies.breaker import CircuitBreaker, CircuitState
from resilience_kit.policies.breaker.states import HalfOpenSnapshot, StateSnapshot, Token, TrialPermit
from tests.simulation.schedules import NeutralError

_TOO_LATE = StateSnapshot(CircuitState.CLOSED, -1)


class GenerationBesideState(CircuitBreaker):
    """A call's token is a number, which is read beside the state and not with it: the number may be new, and the state old."""

    number = 0

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number = self.number
        if self.snapshot.needs_admission:
            with self._lock:
                self.acquire()
                number = self.number
        try:
            result = func(*args, **kwargs)
        except NeutralError:
            self.release(self._trial())
            raise
        except Exception as error:
            self._end(number, functools.partial(self.on_failure, error=error))
            raise
        self._end(number, self._succeeded_somehow)
        return result

    def _trial(self) -> TrialPermit | None:
        snapshot = self.snapshot
        return snapshot.trials[-1] if isinstance(snapshot, HalfOpenSnapshot) and snapshot.trials else None

    def _end(self, number: int, end: Callable[[Any], object]) -> None:
        with self._lock:
            end((self._trial() or self.snapshot) if number == self.number else _TOO_LATE)

    def _succeeded_somehow(self, token: Token) -> None:
        if token is _TOO_LATE:
            return
        self._successes.add()
        if self.snapshot.state.opened:
            self._close_locked("a call succeeded", self.now())
            self._publish(self._drain_transitions_locked())
        else:
            self.on_success(token)

    def _transition_locked(self, new: StateSnapshot, reason: str, now: float) -> StateSnapshot:
        self.number += 1
        return super()._transition_locked(new, reason, now)


class AskedBeforeTheLock(CircuitBreaker):
    """Whether a token is current is asked first, and the lock taken then."""

    def on_success(self, token: Token, seconds: float = 0.0) -> None:
        now = self.now()
        if self._is_current(token, now):
            with self._lock:
                self._apply_success_locked(token, seconds, now)
            self._publish(self._drain_transitions_locked())

    def on_failure(self, token: Token, error: BaseException, seconds: float = 0.0, retry_after: float | None = None) -> None:
        now = self.now()
        is_current = self._is_current(token, now)
        with self._lock:
            self._failures_total += 1
            if is_current:
                self._apply_failure_locked(token, seconds, now, retry_after)
        self._publish(self._drain_transitions_locked())


class LentWithoutLock(CircuitBreaker):
    """Trials are lent by whoever finds a slot free."""

    def try_acquire(self, snapshot: StateSnapshot) -> Any:
        now = self.now()
        token = self._admit_locked(now)
        if self._transitions:
            self._publish(self._drain_transitions_locked())
        return self._rejection(self.snapshot, self.snapshot.until - now) if token is None else token


class CountedWithoutLock(CircuitBreaker):
    """Failures are counted without the lock: two may become one."""

    def on_failure(self, token: Token, error: BaseException, seconds: float = 0.0, retry_after: float | None = None) -> None:
        now = self.now()
        self._failures_total += 1
        if self._is_current(token, now):
            self._apply_failure_locked(token, seconds, now, retry_after)
        self._publish(self._drain_transitions_locked())


RACY = (GenerationBesideState, AskedBeforeTheLock, LentWithoutLock, CountedWithoutLock)
