"""The kit's circuit breaker in the place of circuitbreaker's."""

from __future__ import annotations

import circuitbreaker

from resilience_kit import CircuitBreaker

original, circuitbreaker.CircuitBreaker = circuitbreaker.CircuitBreaker, CircuitBreaker
circuitbreaker.circuit.__defaults__ = tuple(
    CircuitBreaker if default is original else default for default in circuitbreaker.circuit.__defaults__ or ()
)
