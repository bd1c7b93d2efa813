"""The circuit breaker: `core` holds the rules, `circuit` what users call, `states` why no lock is needed while it is closed."""

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
