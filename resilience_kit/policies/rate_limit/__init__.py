"""Rate limit: limits how much may start per period and queues the rest."""

from resilience_kit.policies.rate_limit.limiter import RateLimiter, RateLimitPermit
from resilience_kit.policies.rate_limit.options import RateLimitConfig

__all__ = ["RateLimitConfig", "RateLimitPermit", "RateLimiter"]
