"""The states of a circuit breaker, as snapshots that are replaced and never rewritten.

A call carries the snapshot that admitted it as its token. If the breaker has moved on in the meantime, the token is no
longer current, and the call's outcome changes nothing: a late success cannot close a circuit, a late failure cannot
open one again. A generation number beside a state field cannot give that without a lock, because the two are read one
after the other; here there is only one thing to read.
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
        """Return whether every call is rejected."""
        return self in {CircuitState.OPEN, CircuitState.FORCED_OPEN}


class StateSnapshot:
    """A period of a breaker in one state.

    `needs_admission`: callers have to acquire a token. `tracks_success`: successes have to be recorded, too.
    `failures`: consecutive ones; written under the breaker's lock only. `until`: monotonic seconds before which calls
    are rejected without a further check. `rejection_reason`: the text of a rejection that names no time, formatted
    once.
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
    """A half-open period: its trials, and how many of them succeeded."""

    __slots__ = ("successes", "trials")

    def __init__(self, generation: int, *, failures: int) -> None:
        super().__init__(CircuitState.HALF_OPEN, generation, failures=failures)
        self.rejection_reason = "its trial call is still under way"
        self.trials: tuple[TrialPermit, ...] = ()
        self.successes = 0

    def active_trials(self, now: float) -> tuple[TrialPermit, ...]:
        """Return the trials that have not ended and whose leases still run."""
        return tuple(trial for trial in self.trials if trial.until > now)

    def acquire(self, now: float, lease: float, max_trials: int) -> TrialPermit | None:
        """Return a trial for one caller, or None when all slots are taken."""
        active = self.active_trials(now)
        if len(active) >= max_trials:
            return None
        trial = TrialPermit(self, now + lease)
        self.trials = (*active, trial)
        return trial


class TrialPermit:
    """The token of one half-open call. Its lease ends at monotonic `until`; a released trial has none."""

    __slots__ = ("snapshot", "until")

    needs_admission = True
    tracks_success = True

    def __init__(self, snapshot: HalfOpenSnapshot, until: float) -> None:
        self.snapshot = snapshot
        self.until = until

    def release(self) -> None:
        """Free the slot by one assignment, without a lock: a garbage collection may run this while its thread holds it."""
        self.until = -math.inf


class NestedTrialPermit(TrialPermit):
    """The token of a call within a half-open call of the same breaker: it shares the trial of the enclosing call.

    The enclosing call's outcome decides, so a success is not recorded and no slot is freed. A failure counts as one of
    the trial, even if the enclosing call handles it.
    """

    __slots__ = ()

    tracks_success = False

    def release(self) -> None:
        """Leave the slot to the enclosing call."""


#: The half-open calls that enclose the current code, outermost first; a task or a thread with a copied context inherits them.
#: An ended one is harmless: its lease or its snapshot is over.
running_trials: ContextVar[tuple[TrialPermit, ...]] = ContextVar("resilience_kit_trials", default=())


def enclosing_trial(snapshot: HalfOpenSnapshot, now: float) -> TrialPermit | None:
    """Return the trial of this snapshot that the current code runs under, if its lease still runs."""
    return next((trial for trial in running_trials.get() if trial.snapshot is snapshot and trial.until > now), None)


def running_trials_with(tokens: Iterable[Token | None]) -> tuple[TrialPermit, ...]:
    """Return the value of `running_trials` for code that also runs under `tokens`."""
    return (*running_trials.get(), *(token for token in tokens if type(token) is TrialPermit))


Token = StateSnapshot | TrialPermit
