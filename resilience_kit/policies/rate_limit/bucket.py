"""A token bucket."""

from __future__ import annotations

from resilience_kit._wait_queue import EPSILON


class TokenBucket:
    """Units at hand at `updated_at`: `level`, below zero for a debt. Not thread-safe: its owner's lock is held."""

    __slots__ = ("burst", "level", "rate", "tolerance", "updated_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst, self.level, self.updated_at = rate, burst, burst, now
        self.tolerance = EPSILON * rate

    def refill(self, now: float, slack: float) -> None:
        """Add what the time has brought, up to the burst and what `slack` seconds bring on top."""
        self.level = min(self.burst + slack * self.rate, self.level + (now - self.updated_at) * self.rate)
        self.updated_at = now

    def try_take(self, now: float, cost: float) -> bool:
        """`fill` without slack, and take `cost` if there is as much. In one step, since nearly every call passes here."""
        level = self.level + (now - self.updated_at) * self.rate
        self.updated_at = now
        if level > self.burst:  # noqa: PLR1730 - `min` costs as much as all the rest
            level = self.burst
        if level + self.tolerance < cost:
            self.level = level
            return False
        self.level = level - cost
        return True

    def seconds_until(self, cost: float, ahead: float = 0.0) -> float:
        """Seconds until it holds `cost`, when `ahead` is taken before; a cost above the burst needs a full bucket."""
        return max(0.0, (min(cost, self.burst) + ahead - self.level) / self.rate)
