"""The breaker as a guard of an attempt, for `guards=(breaker,)`.

For speed, the drivers call an operation's own breaker directly.
"""

from __future__ import annotations

from resilience_kit.errors import GuardKind
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.breaker.core import BreakerCore
from resilience_kit.policies.breaker.states import HalfOpenSnapshot, Token, enclosing_trial


class BreakerPermit:
    """A breaker's permit for one attempt. `token`: the state that admitted it, or its trial."""

    __slots__ = ("_core", "_started", "token")

    wait = 0.0

    def __init__(self, core: BreakerCore, token: Token) -> None:
        self._core, self.token, self._started = core, token, core.now()

    def settle(self, outcome: Outcome) -> None:
        """Record the outcome; see `Permit.settle`."""
        if outcome.kind is OutcomeKind.SUCCESS:
            self._core.record_success(self.token, self._started)
        elif outcome.kind is OutcomeKind.FAILURE and outcome.error is not None:
            hint = None if outcome.verdict is None else outcome.verdict.retry_after
            self._core.record_error(self.token, outcome.error, self._started, hint)
        else:
            self._core.release(self.token)


class BreakerGuard(BreakerCore):
    """A breaker that can be used as a `Guard`. Thread-safe."""

    #: See `Guard`.
    kind = GuardKind.CIRCUIT_BREAKER

    def admit(self, cost: float = 1.0) -> BreakerPermit:  # noqa: ARG002 - every call costs one
        """Admit an attempt; see `Guard.admit`. Raises `CircuitBreakerOpenError`."""
        return BreakerPermit(self, self.acquire())

    def fits(self, cost: float = 1.0) -> bool:  # noqa: ARG002 - every call costs one
        """Return whether a call would be admitted now."""
        snapshot = self.snapshot
        if not snapshot.needs_admission:
            return True
        now = self.now()
        if self._trials_exhausted(snapshot, now):
            return type(snapshot) is HalfOpenSnapshot and enclosing_trial(snapshot, now) is not None
        return snapshot.until <= now
