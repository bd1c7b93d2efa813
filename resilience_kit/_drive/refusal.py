"""The two ends that every driver shares: a refusal at the circuit's gate, and an answer by the fallback."""

from __future__ import annotations

from resilience_kit._drive.plan import Fallback, Plan
from resilience_kit.classification import classify
from resilience_kit.errors import CircuitBreakerOpenError, Rejected
from resilience_kit.events import CallRejected, FallbackUsed
from resilience_kit.outcome import FailureKind

#: Whether anybody wants to hear of refusals is asked anew at each 64th: refusals come in storms, and asking costs as
#: much as refusing.
ASKED_EVERY = 64 - 1  # a mask


def tell_at_gate(plan: Plan, refusal: CircuitBreakerOpenError) -> None:
    """Tell of a refusal at the gate, if anybody wants to hear of it."""
    plan.tells_refusals = plan.operation.events.wants(CallRejected)
    if plan.tells_refusals:
        tell_refusal(plan, refusal)


def tell_refusal(plan: Plan, refusal: Rejected) -> None:
    """Tell of a call that was refused before its first attempt."""
    operation = plan.operation
    operation.events.emit(
        CallRejected(
            operation=operation.name, guard=refusal.guard, guard_kind=refusal.guard_kind, retry_after=refusal.retry_after
        )
    )


def fallback_for(plan: Plan, error: Exception) -> Fallback | None:
    """What answers instead of raising `error`, if anything does.

    Not for a request that is wrong in itself: that is the caller's mistake, and an answer would hide it.
    """
    if plan.fallback is None or classify(error).kind is FailureKind.INVALID_REQUEST:
        return None
    operation = plan.operation
    if operation.events.wants(FallbackUsed):
        operation.events.emit(FallbackUsed(operation=operation.name, error_type=type(error).__name__))
    return plan.fallback
