"""The states of a circuit breaker, as snapshots that are replaced and never rewritten.

A call carries the snapshot under which it was let in, and that snapshot is its token. When the breaker has moved on in the
meantime, the token is no longer the breaker's current one, and the call's end changes nothing: a late success cannot close a
circuit, a late failure cannot open one again. An integer generation beside a state field cannot give that without a lock,
because the two are read one after the other; here there is only one thing to read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextvars import ContextVar
from enum import StrEnum


class CircuitState(StrEnum):
    """The state of a circuit. Also found by name: `CircuitState("OPEN")`."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    BUDGET_LIMITED = "budget_limited"

    @classmethod
    def _missing_(cls, value: object) -> CircuitState | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    @property
    def opened(self) -> bool:
        """Whether every call is refused."""
        return self in {CircuitState.OPEN, CircuitState.FORCED_OPEN}


class StateSnapshot:
    """One stay of a breaker in one state.

    `needs_admission`: callers have to ask for admission. `tracks_success`: successes have to be reported too. `failures`:
    consecutive ones; written under the breaker's lock only. `until`: monotonic seconds before which a gate refuses without
    looking further.
    `rejection_reason`: what a refusal says instead of a time, worded once and not for each of them.
    """

    __slots__ = ("failures", "generation", "needs_admission", "rejection_reason", "state", "tracks_success", "until")

    def __init__(
        self, state: CircuitState, generation: int, *, failures: int = 0, until: float = 0.0, tracks_success: bool = False
    ) -> None:
        self.state = state
        self.needs_admission = state is not CircuitState.CLOSED
        self.generation = generation
        self.failures = failures
        self.until = until
        self.tracks_success = tracks_success
        self.rejection_reason: str | None = None


class HalfOpenSnapshot(StateSnapshot):
    """A half-open stay: the trials lent out, and how many went well."""

    __slots__ = ("successes", "trials")

    def __init__(self, generation: int, *, failures: int) -> None:
        super().__init__(CircuitState.HALF_OPEN, generation, failures=failures)
        self.rejection_reason = "its trial call is still under way"
        self.trials: tuple[TrialPermit, ...] = ()
        self.successes = 0

    def active_trials(self, now: float) -> tuple[TrialPermit, ...]:
        """The trials that have not come back and whose leases run still."""
        return tuple(trial for trial in self.trials if trial.until > now)

    def acquire(self, now: float, lease: float, max_trials: int) -> TrialPermit | None:
        """A trial for one caller, or None when all slots are taken."""
        active = self.active_trials(now)
        if len(active) >= max_trials:
            return None
        trial = TrialPermit(self, now + lease)
        self.trials = (*active, trial)
        return trial


class TrialPermit:
    """The token of one half-open call. Its lease runs until monotonic `until`; one that has come back has none."""

    __slots__ = ("snapshot", "until")

    needs_admission = True
    tracks_success = True

    def __init__(self, snapshot: HalfOpenSnapshot, until: float) -> None:
        self.snapshot = snapshot
        self.until = until

    def release(self) -> None:
        """Free the slot. One assignment and no lock: a garbage collection may come here while its thread holds the lock."""
        self.until = -math.inf


class NestedTrialPermit(TrialPermit):
    """The token of a call within a half-open call of the same breaker: it runs under the trial of the call around it.

    The outer call's end decides, so a success is not reported and no slot is given back. A failure is one of the trial, whatever
    the outer call makes of it.
    """

    __slots__ = ()

    tracks_success = False

    def release(self) -> None:
        """Leave the slot to the call around."""


#: The half-open calls that the present code runs in, outermost first; a task or a thread with a copied context inherits them.
#: One that has ended stays harmless: its lease is over, or its stay.
running_trials: ContextVar[tuple[TrialPermit, ...]] = ContextVar("resilience_kit_trials", default=())


def enclosing_trial(snapshot: HalfOpenSnapshot, now: float) -> TrialPermit | None:
    """Find the trial of this stay that the present code runs under, if its lease runs still."""
    return next((trial for trial in running_trials.get() if trial.snapshot is snapshot and trial.until > now), None)


def running_trials_with(tokens: Iterable[Token | None]) -> tuple[TrialPermit, ...]:
    """Give the value of `running_trials` for code that runs under `tokens`, too."""
    return (*running_trials.get(), *(token for token in tokens if type(token) is TrialPermit))


Token = StateSnapshot | TrialPermit
