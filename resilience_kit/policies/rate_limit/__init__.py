"""How much may be started in a time, and who comes next when it is more."""

from resilience_kit.policies.rate_limit.limiter import RateLimiter, RateLimitPermit
from resilience_kit.policies.rate_limit.options import RateLimitConfig

__all__ = ["RateLimitConfig", "RateLimitPermit", "RateLimiter"]
