"""Retries of an official SDK above a transport: how they are recognised, reported and stopped.

An SDK counts its own attempts in `x-stainless-retry-count` and obeys `x-should-retry: false` in a response.
"""

from __future__ import annotations

from collections.abc import Mapping

from resilience_kit.events import NestedRetry
from resilience_kit.execution.plan import CallPlan, Operation
from resilience_kit.http.response_reader import ErrorResponse
from resilience_kit.outcome import FailureKind

RETRY_COUNT_HEADER = b"x-stainless-retry-count"
SHOULD_RETRY_HEADER = "x-should-retry"

_CLIENT, _RETRYABLE = "the SDK's client", "an answer that an SDK might retry"
_REMEDY = "build the client with max_retries=0 and leave retrying to the transport"
_RETRIED_STATUSES = frozenset({408, 409, 429})
_SERVER_ERROR, _BAD_GATEWAY = 500, 502
#: Statuses by which an SDK raises its own error for an error that the service sent with status 200.
_STATUS: Mapping[FailureKind, int] = {
    FailureKind.RATE_LIMIT: 429,
    FailureKind.QUOTA: 429,
    FailureKind.AUTH: 401,
    FailureKind.PERMISSION: 403,
    FailureKind.INVALID_REQUEST: 400,
    FailureKind.NOT_FOUND: 404,
    FailureKind.OVERLOADED: 503,
    FailureKind.TIMEOUT: 504,
}


def emit_nested_retry(operation: Operation) -> None:
    """Emit `NestedRetry` once per operation: an SDK repeats requests that the transport has already retried."""
    if _CLIENT not in operation.reported:
        operation.reported[_CLIENT] = None
        operation.events.emit(NestedRetry(operation=operation.name, inner=_CLIENT, remedy=_REMEDY))


def should_stop_sdk(error: ErrorResponse, plan: CallPlan, *, is_sdk_retry: bool) -> bool:
    """Return whether the SDK is to be stopped from retrying this error response.

    The first retryable error of an operation does not stop it: only its second request shows that the SDK retries at all, so
    that this can be reported.
    """
    verdict, breaker, retry = error.verdict, plan.breaker, plan.retry
    is_retried = verdict.retryable or error.status_code in _RETRIED_STATUSES or error.status_code >= _SERVER_ERROR
    if retry is None or not is_retried:
        return False
    is_long = verdict.retry_after is not None and verdict.retry_after > retry.max_retry_after
    known = is_sdk_retry or _RETRYABLE in plan.operation.reported
    if known or is_long or not verdict.retryable or (breaker is not None and breaker.opened):
        return True
    plan.operation.reported[_RETRYABLE] = None
    return False


def status_for(kind: FailureKind) -> int:
    """Return the status that makes an SDK raise its error for a failure of this kind."""
    return _STATUS.get(kind, _BAD_GATEWAY)
