"""Verdicts of this package's own errors."""

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

_REJECTED_RATE = REQUEST_EXCEEDS_LIMIT  # a rate limit that is not retried here: the owner of the limiter decides when

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
    """Return the verdict of the nearest of this package's classes in the MRO, None for others and for wrappers."""
    return next((VERDICTS[base] for base in cls.__mro__ if base in VERDICTS), None)


def with_own_hint(verdict: Verdict, exc: BaseException) -> Verdict:
    """Return `exc.verdict` if the error was built from a response, else `verdict` with `exc.retry_after`.

    Quota verdicts carry no `retry_after`.
    """
    own = attribute(exc, "verdict")
    if isinstance(own, Verdict):
        return own
    hint = None if verdict.kind is FailureKind.QUOTA else bounded(attribute(exc, "retry_after"))
    return verdict if hint is None else Verdict(verdict.kind, verdict.retryable, verdict.counts_against_breaker, hint)


def not_retryable(verdict: Verdict) -> Verdict:
    """Return the verdict as not retryable, for a broken stream or a fallback whose every level failed."""
    return Verdict(verdict.kind, retryable=False, counts_against_breaker=verdict.counts_against_breaker)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Combine the verdicts of concurrent errors: a non-retryable one decides, else the one with the longest wait."""
    found = list(verdicts)
    if not found:
        return UNKNOWN
    worst = next((each for each in found if not each.retryable), None)
    decisive = worst or max(found, key=lambda each: each.retry_after or 0.0)
    return Verdict(decisive.kind, decisive.retryable, any(each.counts_against_breaker for each in found), decisive.retry_after)
