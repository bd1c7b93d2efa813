"""Gateways in front of other providers: OpenRouter, LiteLLM's proxy, one-api and its forks, Portkey, Cloudflare, Kong."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    BUDGET_HELD,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    SERVER_ERROR,
    TIMEOUT,
    TRANSIENT,
)

FIRM = {
    "weight_exceeds_budget": QUOTA,
    "in_flight_budget_exhausted": BUDGET_HELD,
    "openrouter_in_flight_budget": BUDGET_HELD,
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
    "insufficient_user_quota": QUOTA,
    "no_healthy_deployment": TRANSIENT,
    "model_not_available": NOT_FOUND,
}

SOFT = {"pre_consume_user_quota_failed": QUOTA, "pre_consume_token_quota_failed": QUOTA}

# These name the layer that failed, and accompany any status that it passes on.
GENERIC = {
    "provider_error": SERVER_ERROR,
    "provider_unavailable": TRANSIENT,
    "provider_timeout": TIMEOUT,
    "upstream_error": SERVER_ERROR,
    "upstream_unavailable": TRANSIENT,
    "upstream_timeout": TIMEOUT,
    "bad_response": SERVER_ERROR,
    "bad_response_body": SERVER_ERROR,
    "bad_response_status_code": SERVER_ERROR,
    "do_request_failed": SERVER_ERROR,
    "read_response_body_failed": SERVER_ERROR,
    "unmarshal_response_body_failed": SERVER_ERROR,
    "copy_response_body_failed": SERVER_ERROR,
    "empty_response": SERVER_ERROR,
    "get_channel_failed": TRANSIENT,
    "aws_invoke_error": SERVER_ERROR,
    "new_api_error": SERVER_ERROR,
    "one_api_error": SERVER_ERROR,
    "channel_error": SERVER_ERROR,
    "gateway_error": SERVER_ERROR,
    "proxy_error": SERVER_ERROR,
    "relay_error": SERVER_ERROR,
    "backend_error": SERVER_ERROR,
    "origin_error": SERVER_ERROR,
}
