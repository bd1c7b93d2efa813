"""The scenario of the demo: the times of calls, the faults of the service, and the configuration of the kit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from resilience_kit.config.resilience_config import ResilienceConfig
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.rate_limit import RateLimitConfig
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing.provider import REFUSE, FakeAIProvider, Fault, Outage, ReceivedRequest, SeededFaults

CALL_HEADER = "x-demo-call"
RETRY_AFTER = 0.1
FAULT_RATES = {Fault.rate_limited(RETRY_AFTER): 0.05, Fault.server_error(): 0.02}
LATENCY = (0.01, 0.03)
#: The protected client sends at most this multiple of the normal rate, which spreads waiting calls after an outage.
MAX_RATE_FACTOR = 1.6


class Phase(StrEnum):
    """A period of the demo."""

    BEFORE = "before"
    FAILING = "outage: 503"
    REFUSING = "outage: refused"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run: `duration` seconds of traffic, `rate` calls per second and client, an outage in the second quarter."""

    seed: int = 1
    duration: float = 26.4
    rate: float = 110.0

    @classmethod
    def quick(cls, seed: int = 1) -> Scenario:
        """Return a run of less than 8 seconds."""
        return cls(seed=seed, duration=7.0)

    @property
    def strategy(self) -> ResilienceConfig:
        """The configuration of the kit: calls wait while the circuit is open, behind a rate limit."""
        return ResilienceConfig(
            retry=RetryConfig(max_attempts=4, base_delay=0.1, max_delay=1.0),
            circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=1.0),
            rate_limit=RateLimitConfig(rate=MAX_RATE_FACTOR * self.rate, burst=self.rate / 50),
            deadline=30.0,
            circuit_open="wait",
        )

    @property
    def outage(self) -> tuple[float, float, float]:
        """Start of the outage, its change from 503 to refused connections, and its end."""
        quarter = self.duration / 4
        return quarter, 1.5 * quarter, 2 * quarter

    def phase(self, at: float) -> Phase:
        """Return the phase at a time."""
        start, refused_from, end = self.outage
        if at < start:
            return Phase.BEFORE
        if at < refused_from:
            return Phase.FAILING
        return Phase.REFUSING if at < end else Phase.AFTER

    def arrivals(self) -> Iterator[float]:
        """Return the times of calls: a Poisson process, the same for the same seed."""
        draw = random.Random(f"{self.seed}/arrivals")  # noqa: S311 - repeatable by intent
        at = draw.expovariate(self.rate)
        while at < self.duration:
            yield at
            at += draw.expovariate(self.rate)

    def provider(self) -> FakeAIProvider:
        """Return a service with this scenario's faults. A call's first attempt meets the same fault and latency everywhere."""
        start, refused_from, end = self.outage
        return FakeAIProvider(
            SeededFaults(FAULT_RATES, self.seed, key=_call_id),
            outages=(Outage(start, refused_from, Fault.unavailable()), Outage(refused_from, end, REFUSE)),
            latency=self._latency,
        )

    def _latency(self, request: ReceivedRequest) -> float:
        if self.phase(request.at) is Phase.FAILING:
            return 0.0  # a 503 of this kind comes from the door, not from the model
        return random.Random(f"{self.seed}/latency/{_call_id(request)}").uniform(*LATENCY)  # noqa: S311 - repeatable by intent


def _call_id(request: ReceivedRequest) -> str:
    return request.headers.get(CALL_HEADER, "")
