"""A token bucket."""

from __future__ import annotations

from resilience_kit._wait_queue import EPSILON


class TokenBucket:
    """The `level` of units at `updated_at`, below zero for a debt. Not thread-safe: requires its owner's lock."""

    __slots__ = ("burst", "level", "rate", "tolerance", "updated_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst, self.level, self.updated_at = rate, burst, burst, now
        self.tolerance = EPSILON * rate

    def refill(self, now: float, slack: float) -> None:
        """Add the units of the time since the last refill, up to the burst plus those of `slack` seconds."""
        self.level = min(self.burst + slack * self.rate, self.level + (now - self.updated_at) * self.rate)
        self.updated_at = now

    def try_take(self, now: float, cost: float) -> bool:
        """Refill without slack and take `cost` if there is enough; in one step, since nearly every call passes here."""
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
        """Return the seconds until `cost` can be taken after `ahead`. A cost above the burst needs a full bucket."""
        return max(0.0, (min(cost, self.burst) + ahead - self.level) / self.rate)
