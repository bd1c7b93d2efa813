"""Latencies like those of real services: most responses about equally fast, a few many times slower."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from resilience_kit._checks import Checks

if TYPE_CHECKING:
    from resilience_kit.testing.provider.faults import ReceivedRequest


class SeededLatency:
    """A latency for `FakeAIProvider(latency=)`: `median` seconds, and `factor` times as many for the share `tail` of requests.

    `spread` is the standard deviation of the latency's natural logarithm, 0 for always the same; `median` is then its median.
    The same seed gives the n-th request the same latency.
    """

    def __init__(self, median: float, *, tail: float = 0.02, factor: float = 20.0, spread: float = 0.0, seed: int = 0) -> None:
        checks = Checks("SeededLatency")
        checks.seconds("median", median, zero=True)
        checks.number("tail", tail, 0.0, 1.0)
        checks.number("factor", factor, 1.0)
        checks.number("spread", spread, 0.0)
        checks.raise_if_any()
        self._median, self._tail, self._factor, self._spread, self._seed = median, tail, factor, spread, seed
        self._number = 0

    def __call__(self, _request: ReceivedRequest) -> float:
        """Draw the seconds of this request."""
        self._number += 1
        return self.draw(self._number)

    def draw(self, number: int) -> float:
        """Return the seconds of request number `number`, from 1."""
        drawn = random.Random(f"{self._seed}/{number}")  # noqa: S311 - repeatable by intent, keeps no secret
        factor = self._factor if drawn.random() < self._tail else 1.0
        return self._median * factor * math.exp(self._spread * drawn.gauss(0.0, 1.0))
