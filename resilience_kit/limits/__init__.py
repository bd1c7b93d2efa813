"""Limits as objects to hold: how much may be started in a time, how many calls at once, and who goes first."""

from resilience_kit.context import Priority, priority
from resilience_kit.limits.executor import AsyncExecutor
from resilience_kit.limits.rate_limited import RateLimitedExecutor
from resilience_kit.limits.token_bucket import TokenBucketRateLimiter
from resilience_kit.policies.bulkhead import AdaptiveLimit, Bulkhead, BulkheadConfig
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter

__all__ = [
    "AdaptiveLimit",
    "AsyncExecutor",
    "Bulkhead",
    "BulkheadConfig",
    "Priority",
    "RateLimitConfig",
    "RateLimitedExecutor",
    "RateLimiter",
    "TokenBucketRateLimiter",
    "priority",
]
