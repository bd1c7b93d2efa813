"""Bulkheads on a fake clock."""

from __future__ import annotations

from typing import Any

import pytest

from resilience_kit.context import priority
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.bulkhead import AdaptiveLimit, Bulkhead, BulkheadConfig
from resilience_kit.testing import FakeClock


class Lab:
    """Makes bulkheads and fills them."""

    DONE = Outcome(OutcomeKind.SUCCESS, 0.1)
    NOT_BEGUN = Outcome(OutcomeKind.CANCELLED, begun=False)

    def __init__(self) -> None:
        self.clock = FakeClock(100.0)

    def bulkhead(self, max_concurrent: int = 1, **options: Any) -> Bulkhead:
        """An empty one."""
        return Bulkhead(BulkheadConfig(max_concurrent=max_concurrent, **options), "lab", self.clock)

    def adaptive(self, most: int = 100, **options: Any) -> Bulkhead:
        """One that adapts."""
        return self.bulkhead(most, adaptive=AdaptiveLimit(**options))

    @staticmethod
    def come(bulkhead: Bulkhead, level: Any = "normal") -> Any:
        """Somebody's permit."""
        with priority(level):
            return bulkhead.admit()

    @staticmethod
    def failed(kind: FailureKind) -> Outcome:
        """A failure of some kind."""
        return Outcome(OutcomeKind.IGNORED, 0.1, Verdict(kind, retryable=True, counts_against_breaker=False))


@pytest.fixture
def lab() -> Lab:
    """Bulkheads on a fake clock."""
    return Lab()
