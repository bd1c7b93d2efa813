"""A validator for untrusted configurations, with a rate limit per client."""

from __future__ import annotations

from resilience_kit.config.validator.client_rate_limiter import ClientRateLimits, RateLimitInfo
from resilience_kit.config.validator.result import ValidationResult
from resilience_kit.config.validator.validator import ResilienceConfigValidator

ConfigValidator = ResilienceConfigValidator

__all__ = ["ClientRateLimits", "ConfigValidator", "RateLimitInfo", "ResilienceConfigValidator", "ValidationResult"]
