"""Every error that this kit raises.

    ResilienceError                      the kit's own words
    ├── Rejected                         refused to try
    │   ├── CircuitBreakerOpenError      also a circuitbreaker.CircuitBreakerError
    │   ├── RateLimitExceededError
    │   ├── BulkheadFullError
    │   ├── CredentialRefusedError
    │   ├── BillingStoppedError
    │   └── BudgetExceededError
    ├── DeadlineExceededError            also a TimeoutError
    ├── ConfigurationError               also a ValueError
    ├── StreamInterruptedError           a stream that broke after its first item
    ├── FallbackExhaustedError           every level of a fallback failed
    └── LedgerError                      the money store cannot be used

    AIServiceError                       what a service did
    ├── TransientAIError                 may pass by itself
    │   ├── RateLimitError
    │   ├── ServerError
    │   │   └── ServiceUnavailableError
    │   ├── APIConnectionError           also a ConnectionError
    │   └── APITimeoutError              also a TimeoutError
    └── PermanentAIError                 will not pass by waiting
        ├── AuthenticationError
        ├── PermissionDeniedError
        ├── ResourceNotFoundError
        ├── QuotaExceededError
        └── InvalidRequestError
            ├── ContextLengthError
            └── ContentFilterError

All of them survive `pickle` and `copy`. None of them repeats a request, a header or a configuration value that may hold a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Self

from circuitbreaker import CircuitBreakerError

from resilience_kit._redaction import redact_text

#: How far down the causes of an error is looked.
_MAX_CAUSE_DEPTH = 12


class ResilienceError(Exception):
    """The kit itself has something to say; a service's own errors are `AIServiceError`."""


class GuardKind(StrEnum):
    """What kind of guard refuses a call or makes it wait. A guard without a kind is `custom`."""

    CIRCUIT_BREAKER = "circuit_breaker"
    RATE_LIMIT = "rate_limit"
    BULKHEAD = "bulkhead"
    PACING = "pacing"
    BUDGET = "budget"
    THROTTLE = "throttle"
    CUSTOM = "custom"


class Rejected(ResilienceError):
    """A guard refused to start an attempt: nothing was sent, nothing was charged.

    Built as `Rejected(name, retry_after)`: `name` is the operation or guard that refused, `retry_after` the seconds after
    which a new try makes sense (None when nobody knows). The arguments are kept as they are and put into words only when
    printed, since a refusal has to cost less than the call that it saves.

    `guard` is the guard's own name, which differs from `name` where an operation's own limiter refused, and `guard_kind` says
    of which kind it is. A guard sets both by `attribute_to`; the driver that asks a guard does so for one that does not.
    """

    guard_kind: GuardKind = GuardKind.CUSTOM
    _guard: str | None = None

    @property
    def name(self) -> str:
        """The operation or guard that refused."""
        return str(self.args[0]) if self.args else ""

    @property
    def retry_after(self) -> float | None:
        """Seconds until a new try makes sense, None when unknown."""
        return self.args[1] if len(self.args) > 1 else None

    @property
    def guard(self) -> str:
        """The name of the guard that refused."""
        return self.name if self._guard is None else self._guard

    @property
    def rejected_by(self) -> str:
        """The kind and name of what refused, for messages."""
        if self.guard_kind is GuardKind.CUSTOM:
            return repr(self.name)
        return f"{self.guard_kind.replace('_', ' ')} of {self.name!r}"

    def attribute_to(self, guard: str, kind: GuardKind) -> Self:
        """Name the guard that refused and its kind, unless a guard has done so before. Gives this error."""
        if self._guard is None:
            self._guard, self.guard_kind = guard, kind
        return self

    def __str__(self) -> str:
        return f"{self.rejected_by} refused the call{self._hint()}"

    def _hint(self) -> str:
        return "" if self.retry_after is None else f"; try again in {self.retry_after:.1f} s"


class CircuitBreakerOpenError(Rejected, CircuitBreakerError):  # type: ignore[misc]  # the library is untyped
    """The circuit is open. Built as `CircuitBreakerOpenError(name, retry_after, reason)`.

    `reason` stands in for the time to the next trial when that is unknown: the circuit was forced open, or its trial call is
    still under way.
    """

    guard_kind = GuardKind.CIRCUIT_BREAKER

    @property
    def reason(self) -> str | None:
        """Why there is no time to name, None when there is one."""
        return self.args[2] if len(self.args) > 2 else None  # noqa: PLR2004

    def __str__(self) -> str:
        after = f"next trial in {self.retry_after:.1f} s" if self.retry_after is not None else self.reason
        return f"Circuit breaker is open: {self.name!r}" + (f"; {after}" if after else "")


# The library's would store a breaker, which neither pickles nor stays as it was. Set here, since a type checker that finds
# `__init__ = ...` in the class takes the whole class for Any.
CircuitBreakerOpenError.__init__ = Exception.__init__  # type: ignore[method-assign]


def is_rejection_class(kind: type) -> bool:
    """Whether errors of a class are refusals: a guard's of this kit, or a breaker's of the library `circuitbreaker`."""
    return issubclass(kind, (Rejected, CircuitBreakerError))


def is_rejection(error: BaseException) -> bool:
    """Whether an error is a refusal, or says by its cause that it comes of one: nothing was sent, so no service is at fault.

    Of several errors, all have to be refusals. An error that carries the status of an answer is none, and neither is a deadline.
    """
    for _ in range(_MAX_CAUSE_DEPTH):
        if is_rejection_class(type(error)):
            return True
        several = error.exceptions if isinstance(error, BaseExceptionGroup) else getattr(error, "failures", None)
        if isinstance(error, BaseExceptionGroup | FallbackExhaustedError) and several:
            return all(map(is_rejection, several))
        cause = error.__cause__
        has_response = isinstance(error, AIServiceError) and error.status is not None
        if cause is None or has_response or isinstance(error, DeadlineExceededError):
            return False
        error = cause
    return False


class RateLimitExceededError(Rejected):
    """Our own limiter has no permit in time; the service was not asked."""

    guard_kind = GuardKind.RATE_LIMIT

    def __str__(self) -> str:
        return f"rate limit of {self.name!r} is used up{self._hint()}"


class BulkheadFullError(Rejected):
    """Too many calls are under way at once; the service was not asked."""

    guard_kind = GuardKind.BULKHEAD

    def __str__(self) -> str:
        return f"bulkhead {self.name!r} is full{self._hint()}"


class CredentialRefusedError(Rejected):
    """The service has refused this credential, and each further request with it would be refused too; it was not asked."""

    guard_kind = GuardKind.PACING

    def __str__(self) -> str:
        return f"the credential for {self.name!r} was refused; replace it" + _next_trial(self)


class BillingStoppedError(Rejected):
    """The account at this service has no credit or quota left; it was not asked."""

    guard_kind = GuardKind.PACING

    def __str__(self) -> str:
        return f"the account at {self.name!r} has no credit or quota left" + _next_trial(self)


def _next_trial(rejection: Rejected) -> str:
    return "" if rejection.retry_after is None else f"; next trial in {rejection.retry_after:.1f} s"


class BudgetExceededError(Rejected):
    """The money is spent, or held by calls under way. All amounts are USD.

    `held` money may come back (`retry_after` says when to ask), `spent` money returns at `resets_at` only.
    """

    guard_kind = GuardKind.BUDGET

    def __init__(  # noqa: PLR0913 - one argument a fact
        self,
        name: str,
        retry_after: float | None = None,
        limit: Decimal | None = None,
        spent: Decimal | None = None,
        held: Decimal | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(name, retry_after, limit, spent, held, resets_at)
        self.limit, self.spent, self.held, self.resets_at = limit, spent, held, resets_at

    def __str__(self) -> str:
        amounts = f"limit {self.limit} USD, spent {self.spent}, held {self.held}"
        reset = "" if self.resets_at is None else f"; resets at {self.resets_at.isoformat()}"
        return f"budget {self.name!r} does not allow this call: {amounts}{reset}{self._hint()}"


class DeadlineExceededError(ResilienceError, TimeoutError):
    """The operation's total time is over; the last real error, if any, is chained as the cause."""


class Violation(NamedTuple):
    """One setting that breaks a rule: where it stands, the rule, and what was given."""

    path: str
    rule: str
    got: object

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}" + ("" if self.got is REDACTED else f", got {_redacted_repr(self.got)}")


def _redacted_repr(value: object) -> str:
    try:
        return redact_text(repr(value), keep_paths=True)
    except Exception:  # noqa: BLE001 - a wrong value may be wrong in this too; an int of 5000 digits is
        return f"a {type(value).__name__} that cannot be shown"


class _Redacted:
    """Stands for a value that is kept out of messages, because it is absent or may be a secret."""

    def __repr__(self) -> str:
        return "<not shown>"

    def __reduce__(self) -> str:
        return "REDACTED"


REDACTED = _Redacted()


class ConfigurationError(ResilienceError, ValueError):
    """A setting breaks a rule. `errors` lists every violation as (path, rule, got)."""

    def __init__(self, errors: Iterable[tuple[str, str, object]]) -> None:
        self.errors: Sequence[Violation] = tuple(Violation(*error) for error in errors)
        super().__init__("; ".join(str(error) for error in self.errors))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errors,), self.__dict__


class StreamInterruptedError(ResilienceError):
    """A stream broke after its first item, where it can no longer be repeated.

    `delivered` is the number of items that reached the caller, `partial` at most the last 1000 of them; the cause is chained.
    """

    def __init__(self, name: str, delivered: int, partial: Sequence[object] = ()) -> None:
        super().__init__(name, delivered)  # the items are not among the arguments, which `repr` would show
        self.name, self.delivered, self.partial = name, delivered, partial

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self.delivered, self.partial), self.__dict__

    def __str__(self) -> str:
        return f"stream of {self.name!r} broke after {self.delivered} items"


class FallbackExhaustedError(ResilienceError):
    """No level of a fallback gave an answer; `failures` holds one error per level tried."""

    def __init__(self, name: str, failures: Sequence[BaseException] = ()) -> None:
        super().__init__(name)  # as above, what the failures say
        self.name, self.failures = name, failures

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name, self.failures), self.__dict__

    def __str__(self) -> str:
        return f"every fallback of {self.name!r} failed: " + ", ".join(type(failure).__name__ for failure in self.failures)


class LedgerError(ResilienceError):
    """The money store is corrupt, full, locked for too long or of a newer schema."""


class AIServiceError(Exception):
    """A service answered with an error, or did not answer.

    What the HTTP rooms know of the answer, each None where it is unknown: `status`, `request_id`, `excerpt` (the service's words
    for what is wrong, at most 300 characters, without secrets) and `verdict`, the answer's own, which overrides the class's.
    """

    status: int | None = None
    request_id: str | None = None
    excerpt: str | None = None
    verdict: object = None


class TransientAIError(AIServiceError):
    """May pass by itself: worth another attempt."""


class RateLimitError(TransientAIError):
    """The service asks for a slower pace; `retry_after` is its hint in seconds, None without one."""

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.retry_after), self.__dict__


class ServerError(TransientAIError):
    """The service failed (5xx)."""


class ServiceUnavailableError(ServerError):
    """The service is overloaded or down for a while (503, 529)."""


class APIConnectionError(TransientAIError, ConnectionError):
    """The connection could not be made, or broke."""


class APITimeoutError(TransientAIError, TimeoutError):
    """The service did not answer in time."""


class PermanentAIError(AIServiceError):
    """Will not pass by waiting: another attempt is wasted."""


class AuthenticationError(PermanentAIError):
    """The credential is missing or refused (401)."""


class PermissionDeniedError(PermanentAIError):
    """The credential may not do this (403)."""


class ResourceNotFoundError(PermanentAIError):
    """The model, deployment or path does not exist (404)."""


class QuotaExceededError(PermanentAIError):
    """Credit, quota or a daily limit is used up (402 and some 429s)."""


class InvalidRequestError(PermanentAIError):
    """The request itself is wrong (other 4xx)."""


class ContextLengthError(InvalidRequestError):
    """The prompt is longer than the model takes."""


class ContentFilterError(InvalidRequestError):
    """A content filter refused the prompt or the answer."""
