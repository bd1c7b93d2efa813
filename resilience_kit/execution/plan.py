"""What a driver has to know: the operation that a call belongs to, and the options that rule it, resolved beforehand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import tenacity

from resilience_kit.clock import Clock
from resilience_kit.context import bounded_key
from resilience_kit.errors import REDACTED, ConfigurationError, GuardKind, is_rejection
from resilience_kit.events import CallRejected, CallSucceeded, EventStream
from resilience_kit.guards import Guard, Permit, guard_kind_of
from resilience_kit.outcome import FailureKind, Verdict
from resilience_kit.policies.breaker import CircuitBreaker
from resilience_kit.policies.breaker.states import CircuitState, StateSnapshot, Token
from resilience_kit.policies.hedge import Hedging
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudget

Fallback = Callable[..., Any]
#: The option `idempotency_key`: whether there is one, the key itself, or a function of the call's arguments.
IdempotencyKey = bool | str | Callable[..., str | None]
#: What the key of a call with these arguments is; None: one of its own.
KeyOf = Callable[[tuple[Any, ...], dict[str, Any]], str | None]
#: How a guard is asked about a call with these arguments.
Admit = Callable[[tuple[Any, ...], dict[str, Any]], Permit]


class Recorder(Protocol):
    """Where the ends of calls are counted. Stamps are nanoseconds of the clock, None for never."""

    latency: Any
    failed_calls: Any
    rejected_calls: Any
    fast_rejections: Any
    cancelled_calls: Any
    retry_attempts: Any
    fallback_calls: Any
    last_success: int | None
    last_failure: int | None

    def succeeded(self, nanoseconds: int) -> None:
        """Count a success that took so long."""
        ...


#: Without the GIL counting takes a lock, which the fast paths do not.
_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


@dataclass(slots=True)
class Operation:
    """What all call sites of one name share.

    `reported` holds what was reported once and need not be again, `limiters` what was made of the configs of limits, by option.
    """

    name: str
    breaker: CircuitBreaker
    metrics: Recorder
    events: EventStream
    clock: Clock
    budget: RetryBudget | None = None
    reported: dict[str, None] = field(default_factory=dict)  # empty, a third of a set
    limiters: dict[str, Any] = field(default_factory=dict)


class _NullBreaker:
    """Stands in for a breaker that a light call does not have: everybody is let in, and nothing is to be reported."""

    snapshot = StateSnapshot(CircuitState.CLOSED, 0)

    def release(self, token: Token) -> None:
        """Nothing was lent."""


_NULL_BREAKER = _NullBreaker()


@dataclass(slots=True, kw_only=True)
class CallPlan:
    """The options of one call site, ready for use.

    `fast_without_deadline`: nothing is asked for but breaker, retries and metrics, so that a first attempt needs no `Call`;
    `fast_with_deadline`: nothing but these, a deadline and an attempt timeout; `fast_path`: one of the two. `key_of`: what the
    key of a call with these arguments is; None of it, or for it: one of the call's own. `admission_breaker`: where a light call
    gets its token, the breaker if there is one.
    `breaker_classifies`: the breaker counts by expected exceptions that the user named, not by the classifier.
    """

    operation: Operation
    retry: RetryConfig | None
    breaker: CircuitBreaker | None
    deadline: float | None = None
    attempt_timeout: float | None = None
    guards: tuple[Guard, ...] = ()
    budget: RetryBudget | None = None
    idempotent: bool = True
    has_idempotency_key: bool = False
    key_of: KeyOf | None = None
    waits_when_open: bool = False
    first_item_timeout: float | None = None
    idle_timeout: float | None = None
    fallback: Fallback | None = None
    breaker_classifies: bool = False
    hedging: Hedging | None = None
    clock: Clock = field(init=False)
    metrics: Recorder = field(init=False)
    now: Callable[[], int] = field(init=False)
    count_fast_rejection: Callable[[], int] = field(init=False)
    latency_buckets: list[int] = field(init=False)
    admission_breaker: Any = field(init=False)
    admitters: tuple[tuple[Guard, Admit], ...] = field(init=False)
    absorbs: tuple[Callable[[Verdict], bool], ...] = field(init=False)
    controller: tenacity.Retrying | None = field(init=False)
    fast_without_deadline: bool = field(init=False)
    fast_with_deadline: bool = field(init=False)
    fast_path: bool = field(init=False)
    deadline_ns: int = field(init=False)
    first_attempt_ns: int = field(init=False)
    is_paced: bool = field(init=False)
    emits_success: bool = field(init=False)
    emits_rejections: bool = field(init=False)

    def __post_init__(self) -> None:
        events = self.operation.events
        self.clock, self.metrics = self.operation.clock, self.operation.metrics
        self.now, self.latency_buckets = self.clock.nanoseconds, self.metrics.latency.counts
        self.count_fast_rejection = self.metrics.fast_rejections.add
        self.emits_success, self.emits_rejections = events.may_have_listener(CallSucceeded), events.has_listener(CallRejected)
        self.admission_breaker = _NULL_BREAKER if self.breaker is None else self.breaker
        self.admitters = tuple((guard, _admit_of(guard)) for guard in self.guards)
        self.is_paced = any(guard_kind_of(guard) is GuardKind.PACING for guard in self.guards)
        self.absorbs = tuple(guard.absorbs for guard in self.guards if hasattr(guard, "absorbs"))
        self.fast_path = _GIL and not self.emits_success and not self._needs_full_call()
        first = min((limit for limit in (self.deadline, self.attempt_timeout) if limit is not None), default=None)
        self.fast_with_deadline = self.fast_path and first is not None
        self.fast_without_deadline = self.fast_path and not self.fast_with_deadline
        self.deadline_ns, self.first_attempt_ns = int((self.deadline or 0.0) * 1e9), int((first or 0.0) * 1e9)
        self.controller = None

    def _needs_full_call(self) -> bool:
        return (
            bool(self.guards)
            or (self.breaker is None and self.budget is not None)  # which hears of successes through the breaker's snapshot
            or self.has_idempotency_key
            or self.waits_when_open
            or self.fallback is not None
            or self.hedging is not None
            or (self.retry is not None and self.retry.retry_on_result is not None)
        )

    def report_success(self, token: Token, nanoseconds: int) -> None:
        """Tell the breaker of a first attempt that went well, and the retry budget, which is short only after failures."""
        self.refund_retry_tokens()
        self.operation.breaker.on_success(token, nanoseconds * 1e-9)

    def refund_retry_tokens(self, tokens: int = 0) -> None:
        """Put back into the retry budget what a success gives."""
        if self.budget is not None and self.budget.below_capacity:
            self.budget.refund(tokens)

    def take_retry_tokens(self, kind: FailureKind, retry_after: float | None = None) -> int | None:
        """Take a retry's tokens from the budget: how many, or None when there are too few. Successes put them back."""
        if self.budget is None:
            return 0
        tokens = self.budget.cost_of(kind, retry_after=retry_after, is_paced=self.is_paced)
        granted = self.budget.withdraw(tokens)
        self.operation.breaker.observe_successes(self.budget)
        return tokens if granted else None

    @property
    def retry_safe(self) -> bool:
        """Whether a request that may have reached the service can be sent again."""
        return self.idempotent or self.has_idempotency_key

    def counts_as_failure(self, error: Exception, verdict: Verdict) -> bool:
        """Whether the breaker takes an error for a failure of the service."""
        if self.breaker is None:
            return verdict.counts_against_breaker
        return (
            self.breaker.counts_as_failure(error)
            if self.breaker_classifies
            else verdict.counts_against_breaker and not self.breaker.excludes(error) and not is_rejection(error)
        )


def _admit_of(guard: Guard) -> Admit:
    by_arguments: Admit | None = getattr(guard, "admit_call", None)
    return by_arguments or (lambda _args, _kwargs: guard.admit())


def key_function(option: IdempotencyKey) -> KeyOf | None:
    """Make what gives a call's key out of the option `idempotency_key`: None where calls have keys of their own."""
    if isinstance(option, bool):
        return None
    if isinstance(option, str):
        fixed = bounded_key(option)
        return lambda _args, _kwargs: fixed

    def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        try:
            key = option(*args, **kwargs)
        except Exception as error:
            error.add_note("resilience_kit: from ResilienceConfig.idempotency_key, which is given the call's own arguments")
            raise
        if key is None:
            return None
        if not isinstance(key, str) or not key:
            raise ConfigurationError(
                [("ResilienceConfig.idempotency_key", "must give a text that is not empty, or None", REDACTED)]
            )
        return bounded_key(key)

    return key_of


class CallSite:
    """A place where an operation is called. Its plan is replaced as a whole, so a call sees the old one or the new one."""

    __slots__ = ("__weakref__", "_make_plan", "plan")

    def __init__(self, make_plan: Callable[[], CallPlan]) -> None:
        self._make_plan = make_plan
        self.plan: CallPlan | _NoPlan = NO_PLAN

    def current(self) -> CallPlan:
        """Return the plan, made now if there is none."""
        plan = self.plan
        return plan if isinstance(plan, CallPlan) else self.rebuild()

    def rebuild(self) -> CallPlan:
        """Make the plan anew."""
        plan = self.plan = self._make_plan()
        return plan

    def invalidate(self) -> None:
        """Have the next call make the plan."""
        self.plan = NO_PLAN


class _NoPlan:
    """Sends a call the long way round, where its plan is made."""

    fast_without_deadline = fast_with_deadline = fast_path = False


NO_PLAN = _NoPlan()
