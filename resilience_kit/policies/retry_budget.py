"""Retry budget: limits the additional load that retries may cause during an outage."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from resilience_kit._checks import Checks
from resilience_kit._fork import register_fork_aware
from resilience_kit._keyword_hints import suggests_keywords_for_class
from resilience_kit.outcome import FailureKind

_THROTTLING = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED})


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """Limit retries by a bucket of tokens: retries take tokens, successes refund them.

    `capacity`: tokens at the start and at most. `transient_cost`: tokens for a retry of a transient error. `throttling_cost`:
    tokens for a retry of a rate limit or overload, which are cheap for the service. `success_refund`: tokens that a success at
    the first attempt refunds; one after retries refunds the cost of its last retry.

    A retry at the time of the service's own Retry-After adds no unexpected load: it costs nothing after a rate limit, and 1 token
    after an overload, which may be an outage. A retry after a rate limit costs nothing either if pacing decides when it starts.

    The figures are those of the AWS SDKs' standard retry mode.
    """

    capacity: int = 500
    transient_cost: int = 14
    throttling_cost: int = 5
    success_refund: int = 1

    def __post_init__(self) -> None:
        checks = Checks("RetryBudgetConfig")
        checks.integer("capacity", self.capacity, 1)
        checks.integer("transient_cost", self.transient_cost, 0)
        checks.integer("throttling_cost", self.throttling_cost, 0)
        checks.integer("success_refund", self.success_refund, 0)
        checks.raise_if_any()


class RetryBudget:
    """The token bucket of one operation. `below_capacity`: whether a success has tokens to refund. Thread-safe."""

    __slots__ = ("__weakref__", "_config", "_lock", "_tokens", "below_capacity")

    def __init__(self, config: RetryBudgetConfig) -> None:
        self._config, self._tokens, self._lock = config, config.capacity, threading.Lock()
        self.below_capacity = False
        register_fork_aware(self)

    @property
    def available_tokens(self) -> int:
        """Return the tokens in the bucket."""
        return self._tokens

    def cost_of(self, kind: FailureKind, *, retry_after: float | None = None, is_paced: bool = False) -> int:
        """Return the tokens that a retry after an error of this kind costs.

        `retry_after`: seconds, if the service set a time. `is_paced`: pacing decides when the retry starts.
        """
        if kind not in _THROTTLING:
            return self._config.transient_cost
        if kind is FailureKind.RATE_LIMIT and (retry_after or is_paced):
            return 0
        return min(1, self._config.throttling_cost) if retry_after else self._config.throttling_cost

    def withdraw(self, tokens: int) -> bool:
        """Take `tokens`; return False and take nothing if there are fewer."""
        with self._lock:
            if self._tokens < tokens:
                return False
            self._tokens -= tokens
            self.below_capacity = self._tokens < self._config.capacity
        return True

    def refund(self, tokens: int = 0) -> None:
        """Put back the cost of a success's last retry, or the success_refund for a success at the first attempt."""
        with self._lock:
            self._tokens = min(self._config.capacity, self._tokens + (tokens or self._config.success_refund))
            self.below_capacity = self._tokens < self._config.capacity

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()
