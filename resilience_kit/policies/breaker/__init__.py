"""The circuit breaker: `circuit` is the public class, `core` its API, `rules` its state machine.

`states` explains why the closed state needs no lock.
"""

from resilience_kit.policies.breaker.circuit import CircuitBreaker, EnhancedCircuitBreaker
from resilience_kit.policies.breaker.options import CircuitBreakerConfig
from resilience_kit.policies.breaker.states import CircuitState
from resilience_kit.policies.breaker.store import BreakerStore, SQLiteBreakerStore, StoredState, close_stores, flush_stores
from resilience_kit.policies.breaker.window import FailureRateWindow

__all__ = [
    "BreakerStore",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitState",
    "EnhancedCircuitBreaker",
    "FailureRateWindow",
    "SQLiteBreakerStore",
    "StoredState",
    "close_stores",
    "flush_stores",
]
