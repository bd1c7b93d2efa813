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
from resilience_kit.errors import ConfigurationError, GuardKind
from resilience_kit.outcome import SYSTEM_CLOCK, Clock, Outcome, OutcomeKind, Streamed
from resilience_kit.policies.rate_limit.consumption import CostClass
from resilience_kit.policies.rate_limit.options import OWNER, Cost, RateLimitConfig, Usage, checked_cost
from resilience_kit.policies.rate_limit.pool import Pool, Waiter

_logger = logging.getLogger("resilience_kit")


class _Weight(NamedTuple):
    """What a call of one bucket costs, before and after."""

    cost: Cost
    usage: Usage | None


class RateLimitPermit:
    """Leave to start once the turn has come; `turn` is None when it had at once. See `Permit`."""

    __slots__ = ("_limiter", "cost_class", "costs", "turn")

    wait = 0.0

    def __init__(self, limiter: RateLimiter, costs: Sequence[float], cost_class: CostClass, turn: Waiter | None) -> None:
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
        self.configs = tuple(config.bucket for config in configs)
        self._complained = False
        self._pool = Pool(configs, name, clock)
        self._weigh(configs)

    @property
    def waiting(self) -> int:
        """Callers in the line."""
        return self._pool.line.length

    def weighing(self, *configs: RateLimitConfig) -> RateLimiter:
        """The same buckets and line, for calls whose `cost` and `usage` are those of other configs of the same limits."""
        if tuple(config.bucket for config in configs) != self.configs:
            rule = "must have the same rate, period, burst and max_wait as the limiter"
            raise ConfigurationError([("RateLimiter.weighing", rule, configs)])
        other = copy.copy(self)
        other._weigh(configs)  # noqa: SLF001 - its own class
        return other

    def _weigh(self, configs: Sequence[RateLimitConfig]) -> None:
        self._weights = tuple(_Weight(config.cost, config.usage) for config in configs)
        #: What every call costs; None where that depends on its arguments.
        self._same = None if any(callable(config.cost) for config in configs) else self._costs(1.0)
        self._learns = tuple(config.usage is not None for config in configs)
        self._family = _family_of(self._weights)
        #: What calls are alike in their use; None where that depends on their costs.
        self._one_class = None if any(self._learns) else self._pool.exact
        if self._same is not None:
            self._one_class = self._class_of(self._same)

    def _class_of(self, costs: Sequence[float]) -> CostClass:
        return self._pool.class_of(self._family, self._learns, costs) if any(self._learns) else self._pool.exact

    def _costs(self, cost: float) -> Sequence[float]:
        return tuple(cost if callable(each) else cost * each for each, _ in self._weights)

    def admit(self, cost: float = 1.0) -> RateLimitPermit:
        """Leave to start, perhaps with a turn to wait for; raises `RateLimitExceededError`.

        `cost` stands for that of a config whose cost is a function, and multiplies the others.
        """
        is_usual = self._same is not None and cost == 1.0
        costs = self._same if is_usual and self._same is not None else self._costs(checked_cost(cost))
        cost_class = self._one_class if is_usual and self._one_class is not None else self._class_of(costs)
        return RateLimitPermit(self, costs, cost_class, self._pool.take_or_join(costs, cost_class))

    def admit_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> RateLimitPermit:
        """`admit` for a call with these arguments."""
        costs = self._same
        if costs is None:
            costs = self._asked_costs(args, kwargs)
        cost_class = self._one_class or self._class_of(costs)
        return RateLimitPermit(self, costs, cost_class, self._pool.take_or_join(costs, cost_class))

    def _asked_costs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[float]:
        try:
            return tuple(checked_cost(each(*args, **kwargs)) if callable(each) else each for each, _ in self._weights)
        except Exception as error:
            error.add_note(f"resilience_kit: from {OWNER}.cost of {self._label!r}, which is given the call's own arguments")
            raise

    def fits(self, cost: float = 1.0) -> bool:
        """Whether a call of `cost` could start at once."""
        return self._pool.fits(self._costs(checked_cost(cost)))

    def settle(self, permit: RateLimitPermit, outcome: Outcome) -> None:
        """See `RateLimitPermit.settle`."""
        guarded, turn = self._pool.guarded, permit.turn
        if guarded.is_mine():
            guarded.put_off(functools.partial(self.settle, permit, outcome))
            return
        if turn is not None and self._pool.left(turn):
            return
        if permit.cost_class.reports_usage:
            self._settle_usage(permit, outcome)
        elif not outcome.begun:
            self._pool.give_back(permit.costs)

    def _settle_usage(self, permit: RateLimitPermit, outcome: Outcome) -> None:
        """A good answer tells what its call used. What failed, or was cancelled on its way, has used its estimate."""
        costs, used, seconds = permit.costs, permit.costs, None
        if not outcome.begun:
            used = (0.0,) * len(costs)
        elif outcome.kind is OutcomeKind.SUCCESS:
            seconds = outcome.duration
            if outcome.value is not None:
                pairs = zip(self._weights, costs, strict=True)
                used = tuple(self._used(weight.usage, cost, outcome.value) for weight, cost in pairs)
        self._pool.settle(costs, used, permit.cost_class, seconds)

    def _used(self, usage: Usage | None, estimate: float, value: object) -> float:
        if usage is None:
            return estimate
        try:
            used = _asked(usage, value)
            return estimate if used is None else checked_cost(used, "usage")
        except Exception as error:  # noqa: BLE001 - the call has gone well, whatever its usage cannot make of the answer
            self._complain(error)
            return estimate

    def _complain(self, error: Exception) -> None:
        """Once, and without the error's text, which may be the answer's."""
        if not self._complained:
            self._complained = True
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = "usage of %r failed, its estimate stands here and from now on wherever it fails: %s in %s, line %s"
            _logger.error(words, self._label, type(error).__name__, where.filename, where.lineno)


def _asked(usage: Usage, value: object) -> float | None:
    if not isinstance(value, Streamed):
        return usage(value)
    return next((used for item in reversed(value.items) if (used := usage(item)) is not None), None)


def _family_of(weights: Sequence[_Weight]) -> Hashable:
    """What tells the calls of one function of cost and usage from those of others."""
    try:
        hash(family := tuple(weights))
    except TypeError:
        return tuple((id(cost), id(usage)) for cost, usage in weights)
    return family


def _check(configs: Sequence[object], clock: object) -> None:
    checks = Checks("RateLimiter")
    if not configs:
        checks.fail("configs", "must be at least one RateLimitConfig", configs)
    for config in configs:
        checks.instance("configs", config, RateLimitConfig)
    checks.provides("clock", clock, "monotonic")
    checks.done()
