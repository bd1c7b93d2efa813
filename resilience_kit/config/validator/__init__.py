"""A validator of configurations that may be put before strangers, with a limit on how often each of them may ask."""

from __future__ import annotations

from resilience_kit.config.validator.client_rate_limiter import ClientRateLimits, RateLimitInfo
from resilience_kit.config.validator.result import ValidationResult
from resilience_kit.config.validator.validator import ResilienceConfigValidator

ConfigValidator = ResilienceConfigValidator

__all__ = ["ClientRateLimits", "ConfigValidator", "RateLimitInfo", "ResilienceConfigValidator", "ValidationResult"]
