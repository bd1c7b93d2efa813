"""When a call that takes unusually long is sent a second time, and whether it may be: the first answer counts.

After Dean and Barroso, "The Tail at Scale" (2013): a second request once the first has been out for longer than 95 % of all
cuts the tail at the price of a few per cent more requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resilience_kit._checks import Checks
from resilience_kit._fork import register_fork_aware
from resilience_kit._keyword_hints import suggests_keywords_for_class

#: Calls between two looks at the histogram, which cost about as much as all the rest of a hedged call.
_REFRESH_EVERY: Final = 32
#: Hedges that may come at once after a quiet time.
_BURST: Final = 10.0


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """A second request for a call that takes unusually long. For async operations that may be repeated, and no others.

    `delay`: seconds after which the second one is sent; None: what most calls of the operation have not taken longer than.
    `quantile`: how many of them that is, as a share. `minimum_calls`: calls that have to go well before anybody knows; until
    then none is hedged. `max_hedges`: requests beyond the first one of an attempt, `delay` apart. `max_share`: hedges by
    attempts, over time; at most ten at once.
    """

    delay: float | None = None
    max_hedges: int = 1
    quantile: float = 0.95
    minimum_calls: int = 50
    max_share: float = 0.05

    def __post_init__(self) -> None:
        checks = Checks("HedgeConfig")
        checks.optional_seconds("delay", self.delay, zero=True)
        checks.integer("max_hedges", self.max_hedges, 1)
        checks.number("quantile", self.quantile, 0.5, 0.999)
        checks.integer("minimum_calls", self.minimum_calls, 1)
        checks.number("max_share", self.max_share, 0.001, 1.0)
        checks.raise_if_any()


class Hedging:
    """The hedges of one operation. Thread-safe.

    `observed(share, least)` gives the seconds that this share of the calls so far has not exceeded; None for fewer than `least`.
    """

    __slots__ = ("__weakref__", "_attempts", "_credit", "_latency_quantile", "_learned_delay", "_lock", "config")

    def __init__(self, config: HedgeConfig, latency_quantile: Callable[[float, int], float | None]) -> None:
        self.config, self._latency_quantile = config, latency_quantile
        self._learned_delay: float | None = config.delay
        self._attempts, self._credit = 0, _BURST
        self._lock = threading.Lock()
        register_fork_aware(self)

    def delay(self) -> float | None:
        """Seconds after which an attempt that starts now may be hedged; None while nobody knows what is unusual."""
        config = self.config
        with self._lock:
            self._credit = min(_BURST, self._credit + config.max_share)
            self._attempts += 1
            refresh = config.delay is None and (self._learned_delay is None or self._attempts % _REFRESH_EVERY == 0)
        if refresh:
            self._learned_delay = self._latency_quantile(config.quantile, config.minimum_calls)
        return self._learned_delay

    def try_acquire(self) -> bool:
        """One hedge, if the share allows it."""
        with self._lock:
            allowed = self._credit >= 1.0
            self._credit -= allowed
        return allowed

    def refund(self) -> None:
        """It was not sent."""
        with self._lock:
            self._credit = min(_BURST, self._credit + 1.0)

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self._lock = threading.Lock()
