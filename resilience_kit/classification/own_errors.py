"""This kit's own errors, which say what they are."""

from __future__ import annotations

from collections.abc import Iterable

from resilience_kit import errors
from resilience_kit.classification.retry_after import bounded
from resilience_kit.classification.safe_access import attribute
from resilience_kit.classification.verdicts import (
    AUTH,
    CONNECTION,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    DEADLINE_EXCEEDED,
    INVALID_REQUEST,
    LOCALLY_REJECTED,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    REQUEST_EXCEEDS_LIMIT,
    SERVER_ERROR,
    TIMEOUT,
    TRANSIENT,
    UNKNOWN,
)
from resilience_kit.outcome import FailureKind, Verdict

_REJECTED_RATE = REQUEST_EXCEEDS_LIMIT  # a rate limit that is not retried here: whoever has the limiter knows when

VERDICTS: dict[type[BaseException], Verdict] = {
    errors.CircuitBreakerOpenError: LOCALLY_REJECTED,
    errors.BulkheadFullError: LOCALLY_REJECTED,
    errors.RateLimitExceededError: _REJECTED_RATE,
    errors.CredentialRefusedError: AUTH,
    errors.BillingStoppedError: QUOTA,
    errors.BudgetExceededError: QUOTA,
    errors.Rejected: UNKNOWN,
    errors.DeadlineExceededError: DEADLINE_EXCEEDED,
    errors.RateLimitError: RATE_LIMIT,
    errors.ServiceUnavailableError: OVERLOADED,
    errors.ServerError: SERVER_ERROR,
    errors.APIConnectionError: CONNECTION,
    errors.APITimeoutError: TIMEOUT,
    errors.TransientAIError: TRANSIENT,
    errors.AuthenticationError: AUTH,
    errors.PermissionDeniedError: PERMISSION,
    errors.ResourceNotFoundError: NOT_FOUND,
    errors.QuotaExceededError: QUOTA,
    errors.ContextLengthError: CONTEXT_LENGTH,
    errors.ContentFilterError: CONTENT_FILTER,
    errors.InvalidRequestError: INVALID_REQUEST,
    errors.PermanentAIError: UNKNOWN,
    errors.ConfigurationError: UNKNOWN,
    errors.LedgerError: UNKNOWN,
}


def verdict_for(cls: type) -> Verdict | None:
    """The verdict of the nearest of this kit's classes in the MRO, None for others and for those that only wrap."""
    return next((VERDICTS[base] for base in cls.__mro__ if base in VERDICTS), None)


def with_own_hint(verdict: Verdict, exc: BaseException) -> Verdict:
    """The verdict that the error brings of the answer it stands for, else `verdict` with its `retry_after`; a quota has none."""
    own = attribute(exc, "verdict")
    if isinstance(own, Verdict):
        return own
    hint = None if verdict.kind is FailureKind.QUOTA else bounded(attribute(exc, "retry_after"))
    return verdict if hint is None else Verdict(verdict.kind, verdict.retryable, verdict.counts_against_breaker, hint)


def not_retryable(verdict: Verdict) -> Verdict:
    """The same trouble where nothing can be repeated: a broken stream, a fallback whose every level failed."""
    return Verdict(verdict.kind, retryable=False, counts_against_breaker=verdict.counts_against_breaker)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """One verdict for errors that happened at once: what cannot be retried decides, else the longest wait."""
    found = list(verdicts)
    if not found:
        return UNKNOWN
    worst = next((each for each in found if not each.retryable), None)
    decisive = worst or max(found, key=lambda each: each.retry_after or 0.0)
    return Verdict(decisive.kind, decisive.retryable, any(each.counts_against_breaker for each in found), decisive.retry_after)
