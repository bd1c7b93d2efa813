"""The two ends that every driver shares: a refusal at the circuit's gate, and an answer by the fallback."""

from __future__ import annotations

from resilience_kit.classification import classify
from resilience_kit.errors import CircuitBreakerOpenError, Rejected
from resilience_kit.events import CallRejected, FallbackUsed
from resilience_kit.execution.plan import CallPlan, Fallback
from resilience_kit.outcome import FailureKind

#: Whether anybody wants to hear of refusals is asked anew at each 64th: refusals come in storms, and asking costs as
#: much as refusing.
LISTENER_CHECK_MASK = 64 - 1  # a mask


def emit_fast_rejection(plan: CallPlan, rejection: CircuitBreakerOpenError) -> None:
    """Tell of a refusal at the gate, if anybody wants to hear of it."""
    plan.emits_rejections = plan.operation.events.has_listener(CallRejected)
    if plan.emits_rejections:
        emit_rejection(plan, rejection)


def emit_rejection(plan: CallPlan, rejection: Rejected) -> None:
    """Tell of a call that was refused before its first attempt."""
    operation = plan.operation
    operation.events.emit(
        CallRejected(
            operation=operation.name, guard=rejection.guard, guard_kind=rejection.guard_kind, retry_after=rejection.retry_after
        )
    )


def select_fallback(plan: CallPlan, error: Exception) -> Fallback | None:
    """Select the fallback that answers instead of raising `error`, if there is one.

    Not for a request that is wrong in itself: that is the caller's mistake, and an answer would hide it.
    """
    if plan.fallback is None or classify(error).kind is FailureKind.INVALID_REQUEST:
        return None
    operation = plan.operation
    if operation.events.has_listener(FallbackUsed):
        operation.events.emit(FallbackUsed(operation=operation.name, error_type=type(error).__name__))
    return plan.fallback
