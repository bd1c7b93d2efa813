"""The options of a rate limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class
from resilience_kit.errors import ConfigurationError

OWNER: Final = "RateLimitConfig"

Cost = float | Callable[..., float]
Usage = Callable[[Any], float | None]


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """How much may be started in a time.

    `rate`: units that each period brings; requests, tokens, whatever `cost` counts. `period`: seconds. `burst`: units that may be
    started at once after a quiet time; None: what one second brings, at least 1. `max_wait`: seconds for which a call waits its
    turn, beyond which it is refused at once; None: as long as its deadline allows. `cost`: units of a call, a number or a
    function of its arguments, which may be an estimate. `usage`: a function of the answer: units that the call did cost; None
    from it, or for it: as estimated. Of a stream it is asked with each item, the last one first, until one tells.

    A cost above the burst waits for a full bucket, and leaves it in debt.
    """

    rate: float
    period: float = 1.0
    burst: float | None = None
    max_wait: float | None = None
    cost: Cost = 1.0
    usage: Usage | None = None

    def __post_init__(self) -> None:
        checks = Checks(OWNER)
        checks.positive("rate", self.rate)
        checks.seconds("period", self.period)
        if self.burst is not None:
            checks.positive("burst", self.burst)
        checks.optional_seconds("max_wait", self.max_wait, zero=True)
        if not callable(self.cost):
            checks.positive("cost", self.cost, ", or a function of the call's arguments")
        checks.optional_callable("usage", self.usage, "the answer")
        checks.raise_if_any()

    @property
    def capacity(self) -> float:
        """Units that the bucket holds."""
        return max(1.0, self.rate / self.period) if self.burst is None else self.burst

    @property
    def shared_part(self) -> RateLimitConfig:
        """The same without what is said of single calls."""
        return replace(self, cost=1.0, usage=None)


def checked_cost(value: object, what: str = "cost") -> float:
    """A number of units that somebody's function has given; raises `ConfigurationError` for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigurationError([(f"{OWNER}.{what}", "must give a finite number of at least 0", value)])
    return value
