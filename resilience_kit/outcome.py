"""How an attempt ended: what kind of failure, what it means for the next attempt, what guards learn of it. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """What kind of trouble an error is."""

    TRANSIENT = "transient"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    AUTH = "auth"
    PERMISSION = "permission"
    INVALID_REQUEST = "invalid_request"
    NOT_FOUND = "not_found"
    CONTENT_FILTER = "content_filter"
    CONTEXT_LENGTH = "context_length"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the next attempt.

    `retryable`: another attempt may succeed. `counts_against_breaker`: the service, not the caller, is at fault.
    `retry_after`: seconds that the service asked to wait, None without a usable hint.
    """

    kind: FailureKind
    retryable: bool
    counts_against_breaker: bool
    retry_after: float | None = None


class OutcomeKind(StrEnum):
    """How an attempt ended, as a guard sees it."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    `duration` is in seconds, 0.0 where it has not begun. `verdict` and `error` are set for failure and ignored only.
    An ignored attempt ended in an error that says nothing about the service's health; a cancelled one says nothing at all.
    `value` is what a successful one gave, of a stream its `Streamed` items: of one that broke, was cut off, cancelled or left,
    too, those that were delivered. `begun` is False where the function was not called: what was taken for it was not used.
    `not_sent`: the request has surely not reached the service, since it was not begun or could not connect.
    """

    kind: OutcomeKind
    duration: float = 0.0
    verdict: Verdict | None = None
    error: BaseException | None = None
    value: object = None
    begun: bool = True
    not_sent: bool = False


#: Of a permit that was given for an attempt that was not made.
NOT_BEGUN = Outcome(OutcomeKind.CANCELLED, begun=False, not_sent=True)


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a stream has delivered: the latest of its items, the last one last."""

    items: Sequence[object]
