"""Anthropic: the type names the class, `details.error_code` distinguishes a spend limit from a rate limit."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    AUTH,
    CONFLICT,
    CONTEXT_LENGTH,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    TIMEOUT,
)

FIRM = {
    "billing_error": QUOTA,
    "enforced_spend_limit_reached": QUOTA,
    "spend_limit_reached": QUOTA,
    "overloaded_error": OVERLOADED,
    "request_too_large": INVALID_REQUEST,
    "model_context_window_exceeded": CONTEXT_LENGTH,
}

SOFT = {
    "authentication_error": AUTH,
    "permission_error": PERMISSION,
    "not_found_error": NOT_FOUND,
    "conflict_error": CONFLICT,
    "timeout_error": TIMEOUT,
}
