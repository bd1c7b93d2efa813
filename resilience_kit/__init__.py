"""Keeps calls to AI services, and any other remote service, working when the service is slow, rate-limited, overloaded or down.

    from resilience_kit import with_resilience

    @with_resilience("summarize", strategy="balanced")
    async def summarize(text: str) -> str: ...

Everything that is not here is reached through its room: `resilience_kit.events`, `resilience_kit.config`,
`resilience_kit.testing` and so on.
"""

from resilience_kit.classification import FailureKind, Verdict, classify, classify_ai_exception
from resilience_kit.config import ResilienceConfig, ResilienceStrategy
from resilience_kit.context import idempotency_key, remaining_time
from resilience_kit.errors import (
    AIServiceError,
    CircuitBreakerOpenError,
    ConfigurationError,
    DeadlineExceededError,
    PermanentAIError,
    RateLimitError,
    Rejected,
    ResilienceError,
    TransientAIError,
)
from resilience_kit.orchestrator import AIServiceResilience, get_orchestrator, set_orchestrator, with_resilience
from resilience_kit.policies.breaker import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitState,
    EnhancedCircuitBreaker,
    FailureRateWindow,
)
from resilience_kit.policies.retry import RetryConfig, retry_with_backoff

__all__ = [
    "AIServiceError",
    "AIServiceResilience",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitBreakerOpenError",
    "CircuitState",
    "ConfigurationError",
    "DeadlineExceededError",
    "EnhancedCircuitBreaker",
    "FailureKind",
    "FailureRateWindow",
    "PermanentAIError",
    "RateLimitError",
    "Rejected",
    "ResilienceConfig",
    "ResilienceError",
    "ResilienceStrategy",
    "RetryConfig",
    "TransientAIError",
    "Verdict",
    "classify",
    "classify_ai_exception",
    "get_orchestrator",
    "idempotency_key",
    "remaining_time",
    "retry_with_backoff",
    "set_orchestrator",
    "with_resilience",
]

__version__: str


def __getattr__(name: str) -> object:
    if name == "__version__":
        from resilience_kit._version import version  # noqa: PLC0415 - reading metadata is slow

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
