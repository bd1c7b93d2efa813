"""The measurements: calls as users saw them, attempts sent, requests received, and transitions of the breaker.

All times are seconds since the traffic began, on the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from resilience_kit.cli.demo.scenario import Scenario

UNPROTECTED, SDK, PROTECTED = "plain client", "SDK, 2 retries", "resilience_kit"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call: when it was issued, when it ended, and the name of its error, None if it succeeded."""

    issued: float
    ended: float
    error: str | None = None

    @property
    def latency(self) -> float:
        """Seconds that the user waited."""
        return self.ended - self.issued


@dataclass(frozen=True, slots=True)
class BreakerTransition:
    """A transition of the breaker to `state`."""

    at: float
    state: str


@dataclass(slots=True)
class Side:
    """One client's measurements. `sent`: the start of every attempt. `received`: the requests that arrived upstream."""

    name: str
    issued: int = 0
    calls: list[CallRecord] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    received: list[float] = field(default_factory=list)
    retries: int = 0
    transitions: list[BreakerTransition] = field(default_factory=list)

    def count_retry(self) -> None:
        """One more."""
        self.retries += 1

    @property
    def waiting(self) -> int:
        """The number of calls in progress."""
        return self.issued - len(self.calls)

    @property
    def state(self) -> str:
        """The breaker's current state."""
        return self.transitions[-1].state if self.transitions else "closed"


@dataclass(slots=True)
class Recording:
    """All sides of one run. `max_lag` is the worst delay of a call behind its planned time, in seconds."""

    scenario: Scenario
    unprotected: Side = field(default_factory=lambda: Side(UNPROTECTED))
    sdk: Side = field(default_factory=lambda: Side(SDK))
    protected: Side = field(default_factory=lambda: Side(PROTECTED))
    now: float = 0.0
    max_lag: float = 0.0

    @property
    def length(self) -> float:
        """Seconds to draw: the traffic, and the calls that end after it."""
        return max([self.scenario.duration, *(call.ended for side in self.sides for call in side.calls)])

    @property
    def sides(self) -> tuple[Side, Side, Side]:
        """All sides, the plain client first, the kit last."""
        return self.unprotected, self.sdk, self.protected
