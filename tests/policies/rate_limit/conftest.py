"""Rate limiters on a fake clock, and callers who wait as a driver does."""

from __future__ import annotations

from typing import Any

import pytest

from resilience_kit.context import priority
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter
from resilience_kit.testing import FakeClock


class Lab:
    """Makes limiters and asks them."""

    SUCCESS = Outcome(OutcomeKind.SUCCESS)
    NOT_BEGUN = Outcome(OutcomeKind.CANCELLED, begun=False)

    def __init__(self) -> None:
        self.clock = FakeClock(100.0)

    def limiter(self, rate: float = 1.0, **options: Any) -> RateLimiter:
        """A limiter of one bucket, which is full."""
        return RateLimiter(RateLimitConfig(rate=rate, **options), name="lab", clock=self.clock)

    def emptied(self, rate: float = 1.0, **options: Any) -> RateLimiter:
        """One whose bucket is empty."""
        limiter = self.limiter(rate, **options)
        while limiter.fits():
            limiter.admit()
        return limiter

    @staticmethod
    def waiting(limiter: RateLimiter, level: str = "normal", cost: float = 1.0) -> Any:
        """The permit of somebody who has to wait."""
        with priority(level):
            permit = limiter.admit(cost)
        assert permit.turn is not None
        return permit

    def start(self, permit: Any) -> float:
        """Wait as the only driver there is; gives the time of the start."""
        while permit.turn is not None and (pause := permit.turn.look()) != 0.0:
            assert pause is not None
            self.clock.advance(pause)
            permit.turn.claim()
        return self.clock.monotonic()


@pytest.fixture
def lab() -> Lab:
    """Limiters on a fake clock."""
    return Lab()
