"""The verdicts of the tables, by name."""

from __future__ import annotations

from resilience_kit.outcome import FailureKind, Verdict

TRANSIENT = Verdict(FailureKind.TRANSIENT, retryable=True, counts_against_breaker=True)
RATE_LIMIT = Verdict(FailureKind.RATE_LIMIT, retryable=True, counts_against_breaker=False)
QUOTA = Verdict(FailureKind.QUOTA, retryable=False, counts_against_breaker=False)
AUTH = Verdict(FailureKind.AUTH, retryable=False, counts_against_breaker=False)
PERMISSION = Verdict(FailureKind.PERMISSION, retryable=False, counts_against_breaker=False)
INVALID_REQUEST = Verdict(FailureKind.INVALID_REQUEST, retryable=False, counts_against_breaker=False)
NOT_FOUND = Verdict(FailureKind.NOT_FOUND, retryable=False, counts_against_breaker=False)
CONTENT_FILTER = Verdict(FailureKind.CONTENT_FILTER, retryable=False, counts_against_breaker=False)
CONTEXT_LENGTH = Verdict(FailureKind.CONTEXT_LENGTH, retryable=False, counts_against_breaker=False)
TIMEOUT = Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True)
CONNECTION = Verdict(FailureKind.CONNECTION, retryable=True, counts_against_breaker=True)
OVERLOADED = Verdict(FailureKind.OVERLOADED, retryable=True, counts_against_breaker=True)
SERVER_ERROR = Verdict(FailureKind.SERVER_ERROR, retryable=True, counts_against_breaker=True)
CONFLICT = Verdict(FailureKind.CONFLICT, retryable=True, counts_against_breaker=False)
UNKNOWN = Verdict(FailureKind.UNKNOWN, retryable=False, counts_against_breaker=False)

REQUEST_EXCEEDS_LIMIT = Verdict(FailureKind.RATE_LIMIT, retryable=False, counts_against_breaker=False)
"""One request is larger than the limit itself: waiting cannot help."""

BUDGET_HELD = Verdict(FailureKind.QUOTA, retryable=True, counts_against_breaker=False)
"""The budget is only held by requests in flight and will be refunded."""

PENDING = Verdict(FailureKind.TRANSIENT, retryable=True, counts_against_breaker=False)
"""Will be ready by itself; the service is healthy meanwhile."""

SERVER_FAULT_PERMANENT = Verdict(FailureKind.SERVER_ERROR, retryable=False, counts_against_breaker=True)
"""The service is at fault, and the same request will fail again."""

ALREADY_EXISTS = Verdict(FailureKind.CONFLICT, retryable=False, counts_against_breaker=False)
"""The resource that the request creates exists already."""

ENDLESS_REDIRECT = Verdict(FailureKind.INVALID_REQUEST, retryable=False, counts_against_breaker=True)
"""The redirects form a cycle, which may be either side's mistake."""

LOCAL_CONNECTION = Verdict(FailureKind.CONNECTION, retryable=True, counts_against_breaker=False)
"""This machine could not connect anywhere: network down, no file descriptor left."""

LOCAL_TIMEOUT = Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=False)
"""This process waited for its own connection pool."""

LOCAL_MEMORY = Verdict(FailureKind.OVERLOADED, retryable=True, counts_against_breaker=False)
"""This machine has no memory left."""

MISCONFIGURED_CONNECTION = Verdict(FailureKind.CONNECTION, retryable=False, counts_against_breaker=False)
"""A certificate, host name or scheme that is wrong until it is reconfigured."""

DEADLINE_EXCEEDED = Verdict(FailureKind.TIMEOUT, retryable=False, counts_against_breaker=True)
"""The deadline of the call has passed."""

LOCALLY_REJECTED = Verdict(FailureKind.OVERLOADED, retryable=False, counts_against_breaker=False)
"""A guard of this package rejected the call; no request was sent."""
