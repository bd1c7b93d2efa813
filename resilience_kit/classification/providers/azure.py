"""Azure OpenAI, Azure AI Foundry and API Management."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    AUTH,
    CONTENT_FILTER,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    TIMEOUT,
    TRANSIENT,
)

FIRM = {
    "DeploymentNotFound": NOT_FOUND,
    "ResourceNotFound": NOT_FOUND,
    "ModelNotFound": NOT_FOUND,
    "InvalidResourceID": NOT_FOUND,
    "ResponsibleAIPolicyViolation": CONTENT_FILTER,
    "ContentFilter": CONTENT_FILTER,
    "InvalidSubscriptionKey": AUTH,
    "invalid_access_token": AUTH,
    "invalid_client": AUTH,
    "invalid_grant": AUTH,
    "unauthorized_client": AUTH,
    "InvalidAuthenticationToken": AUTH,
    "ExpiredAuthenticationToken": AUTH,
    "AuthorizationFailed": PERMISSION,
    "AuthenticationTypeDisabled": PERMISSION,
    "SubscriptionIsOverQuotaForSku": QUOTA,
    "InsufficientQuota": QUOTA,
    "QuotaExceeded": QUOTA,
    "SpecialFeatureOrQuotaIdRequired": PERMISSION,
    "NoCapacity": OVERLOADED,
    "ServerBusy": OVERLOADED,
    "OperationNotSupported": INVALID_REQUEST,
    "InvalidApiVersionParameter": INVALID_REQUEST,
    "unsupported_api_version": INVALID_REQUEST,
}

SOFT = {
    "RateLimitReached": RATE_LIMIT,
    "TooManyRequests": RATE_LIMIT,
    "OperationTimeout": TIMEOUT,
    "RequestTimeout": TIMEOUT,
    "DeploymentNotReady": TRANSIENT,
}
