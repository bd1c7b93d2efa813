"""Hedging: when a slow call is sent a second time, and whether it may be. The first response counts.

After Dean and Barroso, "The Tail at Scale" (2013): a second request once the first has been in flight for longer than
95 % of all cuts the tail at the price of a few per cent more requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from resilience_kit._checks import Checks
from resilience_kit._fork import register_fork_aware
from resilience_kit._keyword_hints import suggests_keywords_for_class

#: Calls between two reads of the histogram, which cost about as much as all the rest of a hedged call.
_REFRESH_EVERY: Final = 32
#: Hedges that may be sent in a burst after a time without any.
_BURST: Final = 10.0


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """Send a second request for a slow call. Only for async operations that are idempotent.

    `delay`: seconds after which the second request is sent; None: the latency quantile of the operation. `quantile`: the share of
    calls that are faster than that. `minimum_calls`: successful calls before the quantile is used; until then no call is hedged.
    `max_hedges`: requests beyond the first one of an attempt, `delay` apart. `max_share`: hedges per attempt, over time, with a
    burst of at most ten.
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

    `latency_quantile(q, min_samples)` returns the seconds that this share of the calls so far has not exceeded; None
    for fewer samples.
    """

    __slots__ = ("__weakref__", "_attempts", "_credit", "_latency_quantile", "_learned_delay", "_lock", "config")

    def __init__(self, config: HedgeConfig, latency_quantile: Callable[[float, int], float | None]) -> None:
        self.config, self._latency_quantile = config, latency_quantile
        self._learned_delay: float | None = config.delay
        self._attempts, self._credit = 0, _BURST
        self._lock = threading.Lock()
        register_fork_aware(self)

    def delay(self) -> float | None:
        """Return the seconds after which an attempt that starts now may be hedged; None while the quantile is unknown."""
        config = self.config
        with self._lock:
            self._credit = min(_BURST, self._credit + config.max_share)
            self._attempts += 1
            refresh = config.delay is None and (self._learned_delay is None or self._attempts % _REFRESH_EVERY == 0)
        if refresh:
            self._learned_delay = self._latency_quantile(config.quantile, config.minimum_calls)
        return self._learned_delay

    def try_acquire(self) -> bool:
        """Take one hedge, if the share allows it; return whether it does."""
        with self._lock:
            allowed = self._credit >= 1.0
            self._credit -= allowed
        return allowed

    def refund(self) -> None:
        """Return a hedge that was not sent."""
        with self._lock:
            self._credit = min(_BURST, self._credit + 1.0)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()
