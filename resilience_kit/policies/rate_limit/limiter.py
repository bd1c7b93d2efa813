"""A rate limiter: token buckets with a queue.

Each bucket fills by `rate` per `period` up to `burst`; a call takes its cost. A call that finds too little joins a
queue: its head sleeps until its cost is available, the others are woken in order. A waiter that leaves frees nothing,
since nothing is taken before it is granted. Several buckets (requests and tokens a minute) are taken from together or
not at all.

The cost of a call may be known only afterwards: an estimate is taken and corrected by the response. That may put a
bucket into debt, which delays the next calls; over time the rate is exact. The wait is predicted from the usage of
earlier calls.
"""

from __future__ import annotations

import copy
import functools
import logging
import traceback
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.errors import ConfigurationError, GuardKind
from resilience_kit.outcome import Outcome, OutcomeKind, Streamed
from resilience_kit.policies.rate_limit.consumption import CostClass
from resilience_kit.policies.rate_limit.options import OWNER, Cost, RateLimitConfig, Usage, checked_cost
from resilience_kit.policies.rate_limit.token_buckets import RateLimitWaiter, TokenBuckets

_logger = logging.getLogger("resilience_kit")


class _CostRule(NamedTuple):
    """The cost of a call for one bucket, before and after it."""

    cost: Cost
    usage: Usage | None


class RateLimitPermit:
    """A permit for one call, granted or queued for; `turn` is None if it was granted at once. See `Permit`."""

    __slots__ = ("_limiter", "cost_class", "costs", "turn")

    wait = 0.0

    def __init__(self, limiter: RateLimiter, costs: Sequence[float], cost_class: CostClass, turn: RateLimitWaiter | None) -> None:
        self._limiter, self.costs, self.cost_class, self.turn = limiter, costs, cost_class, turn

    def settle(self, outcome: Outcome) -> None:
        """Refund what was not used, and correct the estimates."""
        self._limiter.settle(self, outcome)


class RateLimiter:
    """Token buckets with one queue; a `Guard`. Thread-safe: threads and event loops can share it.

    Several configs are several limits on the same calls, for instance requests and tokens. The shortest `max_wait`
    applies.
    """

    kind = GuardKind.RATE_LIMIT

    def __init__(self, *configs: RateLimitConfig, name: str = "rate limit", clock: Clock = SYSTEM_CLOCK) -> None:
        _check(configs, clock)
        self.name = self._label = name
        self.configs = tuple(config.shared_part for config in configs)
        self._usage_error_logged = False
        self._token_buckets = TokenBuckets(configs, name, clock)
        self._set_cost_rules(configs)

    @property
    def waiting(self) -> int:
        """Return the number of queued calls."""
        return self._token_buckets.queue.length

    def with_costs(self, *configs: RateLimitConfig) -> RateLimiter:
        """Return a limiter with the same buckets and queue, and the `cost` and `usage` of other configs of the same limits.

        Raises `ConfigurationError` if rate, period, burst or max_wait differ.
        """
        if tuple(config.shared_part for config in configs) != self.configs:
            rule = "must have the same rate, period, burst and max_wait as the limiter"
            raise ConfigurationError([("RateLimiter.with_costs", rule, configs)])
        other = copy.copy(self)
        other._set_cost_rules(configs)  # noqa: SLF001 - its own class
        return other

    def _set_cost_rules(self, configs: Sequence[RateLimitConfig]) -> None:
        self._cost_rules = tuple(_CostRule(config.cost, config.usage) for config in configs)
        #: The costs of every call; None if they depend on its arguments.
        self._fixed_costs = None if any(callable(config.cost) for config in configs) else self._costs(1.0)
        self._has_usage = tuple(config.usage is not None for config in configs)
        self._rule_key = _rule_key_of(self._cost_rules)
        #: The cost class of every call; None if it depends on its costs.
        self._fixed_class = None if any(self._has_usage) else self._token_buckets.exact_class
        if self._fixed_costs is not None:
            self._fixed_class = self._cost_class_of(self._fixed_costs)

    def _cost_class_of(self, costs: Sequence[float]) -> CostClass:
        return (
            self._token_buckets.cost_class_of(self._rule_key, self._has_usage, costs)
            if any(self._has_usage)
            else self._token_buckets.exact_class
        )

    def _costs(self, cost: float) -> Sequence[float]:
        return tuple(cost if callable(each) else cost * each for each, _ in self._cost_rules)

    def admit(self, cost: float = 1.0) -> RateLimitPermit:
        """Take the cost of a call or join the queue. Raises `RateLimitExceededError`.

        `cost` replaces that of a config whose cost is a function, and multiplies the others.
        """
        is_fixed = self._fixed_costs is not None and cost == 1.0
        costs = self._fixed_costs if is_fixed and self._fixed_costs is not None else self._costs(checked_cost(cost))
        cost_class = self._fixed_class if is_fixed and self._fixed_class is not None else self._cost_class_of(costs)
        return RateLimitPermit(self, costs, cost_class, self._token_buckets.take_or_enqueue(costs, cost_class))

    def admit_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> RateLimitPermit:
        """Admit a call with these arguments; see `admit`."""
        costs = self._fixed_costs
        if costs is None:
            costs = self._costs_of_call(args, kwargs)
        cost_class = self._fixed_class or self._cost_class_of(costs)
        return RateLimitPermit(self, costs, cost_class, self._token_buckets.take_or_enqueue(costs, cost_class))

    def _costs_of_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[float]:
        try:
            return tuple(checked_cost(each(*args, **kwargs)) if callable(each) else each for each, _ in self._cost_rules)
        except Exception as error:
            error.add_note(f"resilience_kit: from {OWNER}.cost of {self._label!r}, which is given the call's own arguments")
            raise

    def fits(self, cost: float = 1.0) -> bool:
        """Return whether a call of `cost` could start at once."""
        return self._token_buckets.fits(self._costs(checked_cost(cost)))

    def settle(self, permit: RateLimitPermit, outcome: Outcome) -> None:
        """Settle a permit; see `RateLimitPermit.settle`."""
        deferring_lock, ticket = self._token_buckets.deferring_lock, permit.turn
        if deferring_lock.held_by_current_thread():
            deferring_lock.defer(functools.partial(self.settle, permit, outcome))
            return
        if ticket is not None and self._token_buckets.cancel(ticket):
            return
        if permit.cost_class.reports_usage:
            self._settle_usage(permit, outcome)
        elif not outcome.begun:
            self._token_buckets.refund(permit.costs)

    def _settle_usage(self, permit: RateLimitPermit, outcome: Outcome) -> None:
        """Correct the estimates of a success by its usage. A failed or cancelled call has used its estimates."""
        costs, used, seconds = permit.costs, permit.costs, None
        if not outcome.begun:
            used = (0.0,) * len(costs)
        elif outcome.kind is OutcomeKind.SUCCESS:
            seconds = outcome.duration
            if outcome.value is not None:
                pairs = zip(self._cost_rules, costs, strict=True)
                used = tuple(self._used(rule.usage, cost, outcome.value) for rule, cost in pairs)
        self._token_buckets.settle(costs, used, permit.cost_class, seconds)

    def _used(self, usage: Usage | None, estimate: float, value: object) -> float:
        if usage is None:
            return estimate
        try:
            used = _reported_usage(usage, value)
            return estimate if used is None else checked_cost(used, "usage")
        except Exception as error:  # noqa: BLE001 - the call succeeded, whatever `usage` raises
            self._log_usage_error_once(error)
            return estimate

    def _log_usage_error_once(self, error: Exception) -> None:
        """Log once, and without the error's text, which may contain the response."""
        if not self._usage_error_logged:
            self._usage_error_logged = True
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = "usage of %r failed, its estimate stands here and from now on wherever it fails: %s in %s, line %s"
            _logger.error(message, self._label, type(error).__name__, where.filename, where.lineno)


def _reported_usage(usage: Usage, value: object) -> float | None:
    if not isinstance(value, Streamed):
        return usage(value)
    return next((used for item in reversed(value.items) if (used := usage(item)) is not None), None)


def _rule_key_of(rules: Sequence[_CostRule]) -> Hashable:
    """Return a key that identifies the cost and usage functions."""
    try:
        hash(family := tuple(rules))
    except TypeError:
        return tuple((id(cost), id(usage)) for cost, usage in rules)
    return family


def _check(configs: Sequence[object], clock: object) -> None:
    checks = Checks("RateLimiter")
    if not configs:
        checks.add("configs", "must be at least one RateLimitConfig", configs)
    for config in configs:
        checks.instance("configs", config, RateLimitConfig)
    checks.has_methods("clock", clock, "monotonic")
    checks.raise_if_any()
