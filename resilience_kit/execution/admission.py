"""Admission of a call's attempts: the breaker's token, the permits of its guards, the wait for a ticket, and their settlement."""

from __future__ import annotations

import math
from contextvars import Token as ContextToken
from typing import Any

from resilience_kit.context import reset_context
from resilience_kit.errors import CircuitBreakerOpenError, Rejected
from resilience_kit.events import CallDelayed
from resilience_kit.execution.deadlines import TimeLimits
from resilience_kit.execution.delivered_items import DeliveredItems
from resilience_kit.guards import Permit, Turn, guard_kind_of
from resilience_kit.outcome import NOT_BEGUN, Outcome, OutcomeKind, Streamed
from resilience_kit.policies.breaker.states import TrialPermit, running_trials, running_trials_with

#: Seconds between two looks at a circuit whose trial is under way, for callers who wait for it to close.
_TRIAL_POLL_SECONDS = 0.05


class Admission(TimeLimits):
    """What a call has taken from breaker and guards for the attempt that is to start or under way.

    `Call` sets the attributes, decides when the rules are applied, and ends. Used by one thread or task at a time.
    """

    __slots__ = (
        "_admission_started",
        "_attempt_running",
        "_permit_delay",
        "_permits",
        "_permits_since",
        "_ticket_wait_started",
        "_trials_token",
        "args",
        "delivered",
        "kwargs",
        "token",
        "turn",
    )  # fmt: skip

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    token: Any
    #: The ticket of a guard's queue that this call waits for.
    turn: Turn | None
    #: What of a stream has reached the caller, from its first item on.
    delivered: DeliveredItems | None
    _permits: tuple[Permit, ...] | None
    #: When the request began whose permits these are, where it is not the attempt's first one.
    _permits_since: int | None
    _permit_delay: float
    _admission_started: int
    _ticket_wait_started: int
    _attempt_running: bool
    _trials_token: ContextToken[tuple[TrialPermit, ...]] | None

    @property
    def earlier_attempts(self) -> int:
        """Attempts before the one that is under way, or that the guards are asked about."""
        return max(0, self.attempts - self._attempt_running)

    def _admit_attempt(self) -> float:
        breaker = self.plan.breaker
        if self.token is not None and not self.plan.guards:
            return 0.0  # let in beforehand
        if self._permits is not None and (breaker is None or breaker.still_valid(self.token)):
            return self._admit_guards()  # those that were not reached
        self._release()
        if breaker is not None:
            self.token = breaker.acquire()
        if not self.plan.guards:
            return 0.0
        self._permits, self._attempt_running = (), False
        self._permit_delay, self._admission_started = 0.0, self.plan.now()
        return self._admit_guards()

    def _admit_guards(self) -> float:
        """Ask one after the other, and wait for each one's turn before the next. Fixed waits pass together, at the end."""
        permits = self._permits or ()
        while not (pause := self._ticket_wait()) and len(permits) < len(self.plan.guards):
            guard, admit = self.plan.admitters[len(permits)]
            permit = admit(self.args, self.kwargs)
            self._permits = permits = (*permits, permit)
            self.turn = getattr(permit, "turn", None)
            self._permit_delay = max(self._permit_delay, permit.wait)
            if not self.fits(self._permit_delay):
                raise Rejected(guard.name, self._permit_delay).attribute_to(guard.name, guard_kind_of(guard))
        return pause or self._remaining_delay()

    def _ticket_wait(self) -> float:
        """Seconds to sleep until the present guard's turn comes: infinite where nobody knows, 0.0 when it has come."""
        ticket = self.turn
        if ticket is None:
            return 0.0
        pause = ticket.look()
        if pause == 0.0:
            self.turn = None
            self._emit_call_delayed()
            return 0.0
        self._ticket_wait_started = self._ticket_wait_started or self.plan.now()
        if pause is not None and self.fits(pause):
            return pause
        expected = ticket.expected if pause is None else min(pause, math.inf if ticket.expected is None else ticket.expected)
        if expected is not None and not self.fits(expected):
            raise ticket.refusal()
        return math.inf  # it comes when others leave, or give back what they do not use

    def _emit_call_delayed(self) -> None:
        operation, began, self._ticket_wait_started = self.plan.operation, self._ticket_wait_started, 0
        if began and operation.events.has_listener(CallDelayed):
            permits = self._permits or ()
            guard, _ = self.plan.admitters[len(permits) - 1]
            name = getattr(permits[-1], "guard", guard.name)
            seconds = (self.plan.now() - began) * 1e-9
            operation.events.emit(
                CallDelayed(operation=operation.name, guard=name, guard_kind=guard_kind_of(guard), seconds=seconds)
            )

    def _remaining_delay(self) -> float:
        wait, self._permit_delay = self._permit_delay, 0.0
        return max(0.0, wait - (self.plan.now() - self._admission_started) * 1e-9) if wait else 0.0

    def max_wait(self) -> float | None:
        """Seconds for which this call may wait for its turn; None: as long as it takes."""
        own = None if self.deadline_ns is None else max(0.0, (self.deadline_ns - self.plan.now()) * 1e-9)
        others = None if self.turn is None else self.turn.patience
        return min((each for each in (own, others) if each is not None), default=None)

    def _wait_for_reopening(self, rejection: Rejected) -> float | None:
        """Seconds to wait for the circuit, None when this call does not wait for it."""
        breaker = self.plan.breaker
        if (
            breaker is None
            or not self.plan.waits_when_open
            or not isinstance(rejection, CircuitBreakerOpenError)
            or breaker.forced_open
        ):
            return None
        pause = max(rejection.retry_after or _TRIAL_POLL_SECONDS, 1e-3)
        return pause if self.fits(pause) else None

    def _attribute(self, rejection: Rejected) -> None:
        """Name the guard that refused, and its kind, where the guard has not done so; the breaker names itself."""
        if self._permits is not None:
            last = len(self._permits) - (self.turn is not None)  # it has given a permit whose turn has not come, or none
            guard, _ = self.plan.admitters[min(last, len(self.plan.admitters) - 1)]
            rejection.attribute_to(guard.name, guard_kind_of(guard))

    def enter_trials(self) -> None:
        """Run what the attempt calls in the present context under its trials, until `leave_trials`."""
        trials = self.trials()
        if trials is not None:
            context_token = running_trials.set(trials)
            self._trials_token = self._trials_token or context_token

    def leave_trials(self) -> None:
        """Restore the context after the attempts."""
        context_token, self._trials_token = self._trials_token, None
        if context_token is not None:
            reset_context(running_trials, context_token)

    def trials(self) -> tuple[TrialPermit, ...] | None:
        """Return the value of `running_trials` for the present attempt; None if it runs under no trial of its own."""
        if (self.token is None or not self.token.needs_admission) and not self._permits:
            return None
        tokens = (self.token, *(getattr(permit, "token", None) for permit in self._permits or ()))
        return running_trials_with(tokens) if any(type(token) is TrialPermit for token in tokens) else None

    def value_so_far(self) -> object:
        """Return the items that an unfinished stream has delivered."""
        return None if self.delivered is None else Streamed(self.delivered.last)

    def _settle(self, outcome: Outcome) -> None:
        permits, self._permits, self._permits_since, self.turn = self._permits or (), None, None, None
        for permit in reversed(permits):
            permit.settle(outcome)

    def adopt_permits(self, permits: tuple[Permit, ...], since: int, outcome: Outcome) -> None:
        """Another request, sent at `since`, gives the attempt's answer: its permits stand for those of the first, settled now."""
        self._settle(outcome)
        self._permits, self._permits_since = permits, since

    def _release(self) -> None:
        """Give back what was taken for an attempt that was not made, or says nothing."""
        token, self.token = self.token, None
        if token is not None and self.plan.breaker is not None:
            self.plan.breaker.release(token)
        if not self._permits:
            self._permits = self.turn = None
        elif self._attempt_running:
            seconds = (self.plan.now() - self.attempt_started) * 1e-9
            self._settle(Outcome(OutcomeKind.CANCELLED, seconds, value=self.value_so_far()))
        else:
            self._settle(NOT_BEGUN)
