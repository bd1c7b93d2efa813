"""Gateways in front of other providers: OpenRouter, LiteLLM's proxy, Portkey, Cloudflare, Kong and their like."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    HELD_MONEY,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    SERVER_ERROR,
    TRANSIENT,
)

FIRM = {
    "weight_exceeds_budget": QUOTA,
    "in_flight_budget_exhausted": HELD_MONEY,
    "openrouter_in_flight_budget": HELD_MONEY,
    "openrouter_credits": QUOTA,
    "openrouter_key_limit": QUOTA,
    "openrouter_guardrail_budget": QUOTA,
    "openrouter_workspace_budget": QUOTA,
    "openrouter_free_tier_daily": QUOTA,
    "payment_required": QUOTA,
    "token_limit_exceeded": QUOTA,
    "provider_overloaded": OVERLOADED,
    "string_too_long": CONTEXT_LENGTH,
    "max_tokens_exceeded": CONTEXT_LENGTH,
    "image_too_large": INVALID_REQUEST,
    "moderation": CONTENT_FILTER,
    "content_policy": CONTENT_FILTER,
    "hooks_failed": CONTENT_FILTER,
    "guardrail_failed": CONTENT_FILTER,
    "budget_exceeded": QUOTA,
    "blocked_by_policy": PERMISSION,
    "ContextWindowExceededError": CONTEXT_LENGTH,
    "ContentPolicyViolationError": CONTENT_FILTER,
    "no_healthy_deployment": TRANSIENT,
    "model_not_available": NOT_FOUND,
}

SOFT = {
    "provider_error": SERVER_ERROR,
    "provider_unavailable": TRANSIENT,
    "upstream_error": SERVER_ERROR,
}
