"""`ResilienceConfig`: the policies of one operation in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypedDict, Unpack

from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import keyword_hint, suggests_keywords_for_class
from resilience_kit.config.strategies import (
    STRATEGY_NUMBERS,
    ResilienceStrategy,
    StrategyNumbers,
    StrategyTimeout,
    strategy_named,
)
from resilience_kit.errors import REDACTED
from resilience_kit.guards import Guard
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.bulkhead import BulkheadConfig
from resilience_kit.policies.hedge import HedgeConfig
from resilience_kit.policies.rate_limit import RateLimitConfig
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig

_OWNER = "ResilienceConfig"

#: One limit or several on the same calls, or a limiter that several operations share.
RateLimit = RateLimitConfig | tuple[RateLimitConfig, ...] | Guard
#: A bulkhead's options, or one that several operations share.
BulkheadLimit = BulkheadConfig | Guard


class ConfigChanges(TypedDict, total=False):
    """The fields of `ResilienceConfig`, for `replace`."""

    retry: RetryConfig | None
    circuit_breaker: CircuitBreakerConfig | None
    deadline: float | None
    attempt_timeout: float | None
    retry_budget: RetryBudgetConfig | None
    guards: tuple[Guard, ...]
    rate_limit: RateLimit | None
    bulkhead: BulkheadLimit | None
    hedge: HedgeConfig | None
    idempotent: bool
    idempotency_key: bool | str | Callable[..., str | None]
    circuit_open: Literal["reject", "wait"]
    first_item_timeout: float | None
    idle_timeout: float | None


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class ResilienceConfig:
    """Which policies protect an operation. What is None is off; all times are seconds.

    `retry`: how often to retry and how long to wait; None: one attempt. `circuit_breaker`: when to reject calls; None: never.
    `deadline`: for the whole call, waits included; of a stream up to its first item. `attempt_timeout`: for one attempt; at
    most the deadline. `retry_budget`: how much load retries may add while the service is failing. `guards`: admit each attempt
    in this order, after the breaker. `rate_limit`: how much may start per period, checked after the guards; options of the
    operation's own limiter, or a shared one. `bulkhead`: how many attempts may run at once, checked last; options of the
    operation's own, or a shared one. `hedge`: when to send an attempt a second time, for async functions that may be repeated.
    `idempotent`: the call may be repeated although the service may have acted on it; False limits retries to attempts that were
    certainly not sent, or that carry a key. `idempotency_key`: give the callee one key per call, the same on each attempt; a
    text is the key itself, and a function computes it from the call's arguments, for calls whose order varies between runs.
    `circuit_open`: reject at once while the circuit is open, or wait for its half-open state within the deadline.
    `first_item_timeout`: for the first item of an async stream, in each attempt.
    `idle_timeout`: between two items of an async stream.

    Immutable, so it may be shared by threads and operations.
    """

    retry: RetryConfig | None = field(default_factory=RetryConfig)
    circuit_breaker: CircuitBreakerConfig | None = field(default_factory=CircuitBreakerConfig)
    deadline: float | None = None
    attempt_timeout: float | None = None
    retry_budget: RetryBudgetConfig | None = None
    guards: tuple[Guard, ...] = ()
    rate_limit: RateLimit | None = None
    bulkhead: BulkheadLimit | None = None
    hedge: HedgeConfig | None = None
    idempotent: bool = True
    idempotency_key: bool | str | Callable[..., str | None] = False
    circuit_open: Literal["reject", "wait"] = "reject"
    first_item_timeout: float | None = None
    idle_timeout: float | None = None

    def __post_init__(self) -> None:
        checks = Checks(_OWNER)
        _check_policies(checks, self)
        _check_times(checks, self)
        checks.flag("idempotent", self.idempotent)
        _check_key(checks, self.idempotency_key)
        checks.one_of("circuit_open", self.circuit_open, ("reject", "wait"))
        checks.raise_if_any()

    def replace(self, **changes: Unpack[ConfigChanges]) -> ResilienceConfig:
        """Return a copy with some fields changed; raise ConfigurationError with the nearest name for an unknown field.

        A new deadline switches off an attempt timeout that came from a strategy.
        """
        _check_names(changes)
        if "deadline" in changes and isinstance(self.attempt_timeout, StrategyTimeout):
            changes.setdefault("attempt_timeout", self.attempt_timeout_within(changes["deadline"]))
        return dataclasses.replace(self, **changes)

    def with_strategy(self, strategy: ResilienceStrategy | str) -> ResilienceConfig:
        """Return a copy with every number that a strategy decides; policies that were off are switched on by that.

        All other options are kept, such as guards, lists of exceptions and idempotency, and an attempt timeout that does not
        come from a strategy, shortened to the strategy's deadline.
        """
        numbers = STRATEGY_NUMBERS[strategy_named(strategy)]
        named = None if isinstance(self.attempt_timeout, StrategyTimeout) else self.attempt_timeout
        return dataclasses.replace(
            self,
            deadline=numbers.deadline,
            attempt_timeout=StrategyTimeout(numbers.attempt_timeout) if named is None else within(named, numbers.deadline),
            retry=_retry(self.retry or RetryConfig(), numbers),
            circuit_breaker=_breaker(self.circuit_breaker or CircuitBreakerConfig(), numbers),
            retry_budget=self.retry_budget or RetryBudgetConfig(),
        )

    def with_deadline(self, deadline: float | None) -> ResilienceConfig:
        """Return a copy with another deadline, without a strategy's attempt timeout; a longer timeout is shortened."""
        return dataclasses.replace(self, deadline=deadline, attempt_timeout=self.attempt_timeout_within(deadline))

    def attempt_timeout_within(self, deadline: object) -> float | None:
        """Return the attempt timeout that fits an explicit deadline."""
        timeout = self.attempt_timeout
        return None if isinstance(timeout, StrategyTimeout) else within(timeout, deadline)

    def with_useful_timeout(self) -> ResilienceConfig:
        """Return a copy without a strategy's attempt timeout if there are no retries that could use the remaining time."""
        repeats = self.retry is not None and self.retry.max_attempts > 1 and (self.idempotent or self.idempotency_key)
        if repeats or not isinstance(self.attempt_timeout, StrategyTimeout):
            return self
        return dataclasses.replace(self, attempt_timeout=None)

    def switched_off(self) -> ResilienceConfig:
        """Return a copy without any protection. The idempotency key is kept: the callee may depend on it."""
        return ResilienceConfig(
            retry=None, circuit_breaker=None, idempotent=self.idempotent, idempotency_key=self.idempotency_key
        )

    @classmethod
    def from_strategy(cls, strategy: ResilienceStrategy | str) -> ResilienceConfig:
        """Return the config of a strategy, with a retry budget."""
        return cls().with_strategy(strategy)


def _retry(base: RetryConfig, numbers: StrategyNumbers) -> RetryConfig:
    return dataclasses.replace(
        base,
        max_attempts=numbers.max_attempts,
        base_delay=numbers.base_delay,
        max_delay=numbers.max_delay,
        backoff_factor=numbers.backoff_factor,
        jitter="full",
    )


def _breaker(base: CircuitBreakerConfig, numbers: StrategyNumbers) -> CircuitBreakerConfig:
    longest = base.max_recovery_timeout
    return dataclasses.replace(
        base,
        failure_threshold=numbers.failure_threshold,
        recovery_timeout=numbers.recovery_timeout,
        max_recovery_timeout=None if longest is None else max(longest, numbers.recovery_timeout),
    )


def within(timeout: float | None, deadline: object) -> float | None:
    """Return `timeout`, or a shorter deadline. An invalid deadline is ignored here and rejected elsewhere."""
    return deadline if _exceeds(timeout, deadline) else timeout  # type: ignore[return-value]  # a number by then


def _check_policies(checks: Checks, config: ResilienceConfig) -> None:
    checks.instance("retry", config.retry, RetryConfig, type(None))
    checks.instance("circuit_breaker", config.circuit_breaker, CircuitBreakerConfig, type(None))
    checks.instance("retry_budget", config.retry_budget, RetryBudgetConfig, type(None))
    checks.instance("hedge", config.hedge, HedgeConfig, type(None))
    if isinstance(config.hedge, HedgeConfig) and config.idempotent is False:
        checks.add("hedge", "must be None where idempotent is False: it sends a request twice", REDACTED)
    if not isinstance(config.guards, tuple) or not all(isinstance(guard, Guard) for guard in config.guards):
        checks.add("guards", "must be a tuple of guards (objects with name, admit and fits)", config.guards)
    check_limits(checks, config.rate_limit, config.bulkhead)


def _check_key(checks: Checks, key: object) -> None:
    if not isinstance(key, bool) and not callable(key) and not (isinstance(key, str) and key and key.isprintable()):
        rule = "must be True, False, a text that is printable and not empty, or a function of the call's arguments"
        checks.add("idempotency_key", rule, key)


def check_limits(checks: Checks, rate_limit: object, bulkhead: object) -> None:
    """Add a violation for what is neither options of a limit, a limiter, nor None."""
    limits = rate_limit if isinstance(rate_limit, tuple) and rate_limit else (rate_limit,)
    alone = len(limits) == 1 and (rate_limit is None or isinstance(rate_limit, Guard))
    if not alone and not all(isinstance(each, RateLimitConfig) for each in limits):
        checks.add(
            "rate_limit", "must be a RateLimitConfig, a tuple of them, a limiter (with name, admit and fits) or None", rate_limit
        )
    if bulkhead is not None and not isinstance(bulkhead, BulkheadConfig | Guard):
        checks.add("bulkhead", "must be a BulkheadConfig, a limiter (with name, admit and fits) or None", bulkhead)


def _check_times(checks: Checks, config: ResilienceConfig) -> None:
    for name in ("deadline", "attempt_timeout", "first_item_timeout", "idle_timeout"):
        checks.optional_seconds(name, getattr(config, name))
    if _exceeds(config.attempt_timeout, config.deadline):
        checks.add("attempt_timeout", f"must not exceed deadline {config.deadline}", config.attempt_timeout)


def _exceeds(timeout: object, deadline: object) -> bool:
    """Compare two numbers above zero; return False for anything else, which is reported elsewhere."""
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (timeout, deadline))
    return numbers and 0 < deadline < timeout  # type: ignore[operator]  # two numbers by then


def _check_names(changes: Iterable[str]) -> None:
    known = [each.name for each in dataclasses.fields(ResilienceConfig)]
    checks = Checks(_OWNER)
    for name in changes:
        if name not in known:
            checks.add(name, f"is not a field; {keyword_hint(name, _OWNER, known)}", REDACTED)
    checks.raise_if_any()
