"""A token bucket."""

from __future__ import annotations

from resilience_kit._turns import TINY


class Bucket:
    """Units at hand at `stamp`: `level`, below zero for a debt. Not thread-safe: its owner's lock is held."""

    __slots__ = ("burst", "level", "speed", "stamp", "tiny")

    def __init__(self, speed: float, burst: float, now: float) -> None:
        self.speed, self.burst, self.level, self.stamp = speed, burst, burst, now
        self.tiny = TINY * speed

    def fill(self, now: float, slack: float) -> None:
        """Add what the time has brought, up to the burst and what `slack` seconds bring on top."""
        self.level = min(self.burst + slack * self.speed, self.level + (now - self.stamp) * self.speed)
        self.stamp = now

    def take_if_there(self, now: float, cost: float) -> bool:
        """`fill` without slack, and take `cost` if there is as much. In one step, since nearly every call passes here."""
        level = self.level + (now - self.stamp) * self.speed
        self.stamp = now
        if level > self.burst:  # noqa: PLR1730 - `min` costs as much as all the rest
            level = self.burst
        if level + self.tiny < cost:
            self.level = level
            return False
        self.level = level - cost
        return True

    def lack(self, cost: float, ahead: float = 0.0) -> float:
        """Seconds until it holds `cost`, when `ahead` is taken before; a cost above the burst needs a full bucket."""
        return max(0.0, (min(cost, self.burst) + ahead - self.level) / self.speed)
