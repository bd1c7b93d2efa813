"""Cohere, Mistral, Groq, Together, Fireworks, DeepSeek, Perplexity, Hugging Face, Replicate, xAI, Moonshot, MiniMax."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    AUTH,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
)

FIRM = {
    "capacity_exceeded": OVERLOADED,
    "over_capacity": OVERLOADED,
    "model_decommissioned": NOT_FOUND,
    "model_terms_required": PERMISSION,
    "organization_restricted": PERMISSION,
    "tool_use_failed": INVALID_REQUEST,
    "json_validate_failed": INVALID_REQUEST,
    "invalid_model": NOT_FOUND,
    "unknown_model": NOT_FOUND,
    "exceeded_current_quota_error": QUOTA,
    "incorrect_api_key_error": AUTH,
    "invalid_authentication_error": AUTH,
    "engine_overloaded_error": OVERLOADED,
    "insufficient_balance": QUOTA,
    "insufficient_credits": QUOTA,
    "Arrearage": QUOTA,
    "AllocationQuota.FreeTierOnly": QUOTA,
    "DataInspectionFailed": CONTENT_FILTER,
    "InvalidApiKey": AUTH,
    "Model.AccessDenied": PERMISSION,
    "too_many_tokens": CONTEXT_LENGTH,
}

SOFT = {
    "rate_limited": RATE_LIMIT,
    "request_rate_limit_exceeded": RATE_LIMIT,
    "rate_limit_reached_error": RATE_LIMIT,
    "dynamic_request_limited": RATE_LIMIT,
    "concurrency_limit_exceeded": RATE_LIMIT,
    "Throttling.RateQuota": RATE_LIMIT,
    "Throttling.AllocationQuota": RATE_LIMIT,
}

# Numbers mean something only beside the name of who counts that way.
NUMBERS = {
    "mistral": {"1300": RATE_LIMIT, "1500": NOT_FOUND},
    "zhipu": {
        "1000": AUTH,
        "1001": AUTH,
        "1002": AUTH,
        "1003": AUTH,
        "1113": QUOTA,
        "1211": NOT_FOUND,
        "1261": CONTEXT_LENGTH,
        "1301": CONTENT_FILTER,
        "1302": RATE_LIMIT,
        "1303": RATE_LIMIT,
        "1304": QUOTA,
        "1305": OVERLOADED,
    },
    "minimax": {
        "1002": RATE_LIMIT,
        "1004": AUTH,
        "1008": QUOTA,
        "1026": CONTENT_FILTER,
        "1027": CONTENT_FILTER,
        "1039": RATE_LIMIT,
        "2013": INVALID_REQUEST,
    },
}
