"""How much extra load retries may cause, so that a total outage is not made worse by everybody's second tries."""

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
    """A bucket of tokens that retries take from and successes put back into.

    `capacity`: tokens at the start and at most. `transient_cost`: tokens for a retry of a transient error. `throttling_cost`:
    tokens for a retry of a rate limit or overload, which the service has answered cheaply. `success_refund`: tokens that a
    success at the first attempt gives back; one after retries gives back what its last retry cost.

    A retry at the time that the service itself named adds no load that it did not ask for: it costs nothing after a rate limit,
    and 1 token after an overload, which may be an outage. One after a rate limit costs nothing either where a pacing decides when
    it starts.

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
    """One operation's bucket. `below_capacity` tells cheaply whether there is anything to give back. Thread-safe."""

    __slots__ = ("__weakref__", "_config", "_lock", "_tokens", "below_capacity")

    def __init__(self, config: RetryBudgetConfig) -> None:
        self._config, self._tokens, self._lock = config, config.capacity, threading.Lock()
        self.below_capacity = False
        register_fork_aware(self)

    @property
    def available_tokens(self) -> int:
        """Tokens in the bucket."""
        return self._tokens

    def cost_of(self, kind: FailureKind, *, retry_after: float | None = None, is_paced: bool = False) -> int:
        """Tokens that a retry after an error of this kind costs.

        `retry_after`: when the service named its time. `is_paced`: a pacing decides when it may start.
        """
        if kind not in _THROTTLING:
            return self._config.transient_cost
        if kind is FailureKind.RATE_LIMIT and (retry_after or is_paced):
            return 0
        return min(1, self._config.throttling_cost) if retry_after else self._config.throttling_cost

    def withdraw(self, tokens: int) -> bool:
        """Take `tokens`, or nothing and answer False when there are fewer."""
        with self._lock:
            if self._tokens < tokens:
                return False
            self._tokens -= tokens
            self.below_capacity = self._tokens < self._config.capacity
        return True

    def refund(self, tokens: int = 0) -> None:
        """Put back what a success's last retry cost, or the success_refund for one that needed none."""
        with self._lock:
            self._tokens = min(self._config.capacity, self._tokens + (tokens or self._config.success_refund))
            self.below_capacity = self._tokens < self._config.capacity

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self._lock = threading.Lock()
