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
    """Limit how much may start per period.

    `rate`: units per period; requests, tokens, whatever `cost` counts. `period`: seconds. `burst`: units that may start at once
    after an idle time; None: the units of one second, at least 1. `max_wait`: seconds that a call may wait in the queue; one that
    would wait longer is rejected at once; None: until its deadline. `cost`: units of a call, a number or a function of its
    arguments, which may be an estimate. `usage`: a function of the response that returns the units used; None, as its result or
    instead of it: as estimated. For a stream it is called with each item, the last one first, until it returns a number.

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
        """Return the units that the bucket holds."""
        return max(1.0, self.rate / self.period) if self.burst is None else self.burst

    @property
    def shared_part(self) -> RateLimitConfig:
        """Return the config without `cost` and `usage`, which may differ between calls of one limiter."""
        return replace(self, cost=1.0, usage=None)


def checked_cost(value: object, what: str = "cost") -> float:
    """Return the units that a user function returned. Raises `ConfigurationError` for anything but a number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigurationError([(f"{OWNER}.{what}", "must give a finite number of at least 0", value)])
    return value
