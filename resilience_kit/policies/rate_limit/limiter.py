"""How much may be started in a time, and who comes next when it is more.

Token buckets: each fills by `rate` per `period` up to `burst`, a call takes its cost. A call that finds too little joins a
line: the head of it sleeps until its cost is there, the others are woken in turn. Who leaves the line leaves no hole, since
nothing is taken before the turn has come. Several buckets (requests and tokens a minute) are taken from at once or not at all.

What a call costs may be known only afterwards: an estimate is taken, and corrected by what the answer says. A bucket may so come
into debt, which the next calls wait for; over time the rate is exact. How long a wait will be is judged by what calls have used.
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
    """What a call of one bucket costs, before and after."""

    cost: Cost
    usage: Usage | None


class RateLimitPermit:
    """Leave to start once the turn has come; `turn` is None when it had at once. See `Permit`."""

    __slots__ = ("_limiter", "cost_class", "costs", "turn")

    wait = 0.0

    def __init__(self, limiter: RateLimiter, costs: Sequence[float], cost_class: CostClass, turn: RateLimitWaiter | None) -> None:
        self._limiter, self.costs, self.cost_class, self.turn = limiter, costs, cost_class, turn

    def settle(self, outcome: Outcome) -> None:
        """Give back what was not used, and correct what was estimated."""
        self._limiter.settle(self, outcome)


class RateLimiter:
    """Buckets with one line of waiting callers; a `Guard`. Thread-safe: threads and event loops share it.

    Several configs are several limits on the same calls, for instance requests and tokens. The shortest `max_wait` rules.
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
        """Callers in the line."""
        return self._token_buckets.queue.length

    def with_costs(self, *configs: RateLimitConfig) -> RateLimiter:
        """The same buckets and line, for calls whose `cost` and `usage` are those of other configs of the same limits."""
        if tuple(config.shared_part for config in configs) != self.configs:
            rule = "must have the same rate, period, burst and max_wait as the limiter"
            raise ConfigurationError([("RateLimiter.with_costs", rule, configs)])
        other = copy.copy(self)
        other._set_cost_rules(configs)  # noqa: SLF001 - its own class
        return other

    def _set_cost_rules(self, configs: Sequence[RateLimitConfig]) -> None:
        self._cost_rules = tuple(_CostRule(config.cost, config.usage) for config in configs)
        #: What every call costs; None where that depends on its arguments.
        self._fixed_costs = None if any(callable(config.cost) for config in configs) else self._costs(1.0)
        self._has_usage = tuple(config.usage is not None for config in configs)
        self._rule_key = _rule_key_of(self._cost_rules)
        #: What calls are alike in their use; None where that depends on their costs.
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
        """Leave to start, perhaps with a turn to wait for; raises `RateLimitExceededError`.

        `cost` stands for that of a config whose cost is a function, and multiplies the others.
        """
        is_fixed = self._fixed_costs is not None and cost == 1.0
        costs = self._fixed_costs if is_fixed and self._fixed_costs is not None else self._costs(checked_cost(cost))
        cost_class = self._fixed_class if is_fixed and self._fixed_class is not None else self._cost_class_of(costs)
        return RateLimitPermit(self, costs, cost_class, self._token_buckets.take_or_enqueue(costs, cost_class))

    def admit_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> RateLimitPermit:
        """`admit` for a call with these arguments."""
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
        """Whether a call of `cost` could start at once."""
        return self._token_buckets.fits(self._costs(checked_cost(cost)))

    def settle(self, permit: RateLimitPermit, outcome: Outcome) -> None:
        """See `RateLimitPermit.settle`."""
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
        """A good answer tells what its call used. What failed, or was cancelled on its way, has used its estimate."""
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
        except Exception as error:  # noqa: BLE001 - the call has gone well, whatever its usage cannot make of the answer
            self._log_usage_error_once(error)
            return estimate

    def _log_usage_error_once(self, error: Exception) -> None:
        """Once, and without the error's text, which may be the answer's."""
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
    """What tells the calls of one function of cost and usage from those of others."""
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
