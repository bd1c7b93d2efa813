"""Determines whether a failed request was certainly not processed, and how often an SDK has already retried it."""

from __future__ import annotations

from collections.abc import Mapping

from resilience_kit.classification.exceptions import http_status, own_verdict
from resilience_kit.classification.http_status import CLIENT_ERROR
from resilience_kit.classification.response import lowercase_headers
from resilience_kit.classification.safe_access import attribute, chain, is_bare_builtin, message
from resilience_kit.errors import RateLimitError, Rejected
from resilience_kit.outcome import FailureKind

#: Header in which a transport of this package reports its number of attempts.
ATTEMPTS_HEADER = "x-resilience-kit-attempts"

_MOST_RETRIES = 1000
_MOST_ERRORS = 64

# Raised before a connection was established.
_NOT_CONNECTED = frozenset(
    {
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionRefusedError",
        "ConnectionTimeoutError",
        "EndpointConnectionError",
        "NameResolutionError",
        "NewConnectionError",
        "PoolTimeout",
        "ProxyConnectionError",
        "ProxyError",
        "ServiceRequestError",
        "UnsupportedProtocol",
        "gaierror",
    }
)
# Only as informative as their cause.
_WRAPPERS = frozenset({"APIConnectionError", "APITimeoutError", "ConnectionError", "MaxRetryError", "RetryError", "URLError"})
_NO_CONNECTION_MESSAGE = "failed to connect to all addresses"  # grpc has one class for everything


def was_not_sent(exc: BaseException) -> bool:
    """Return whether the service certainly did not process the request, so that even a non-idempotent one may be retried.

    True when no connection was made (refused, DNS, connect or pool timeout, proxy), when the service rejected it by a
    rate limit (429), or when this package rejected it. False for everything else, and for a group unless it holds for
    each error in it. Never raises; thread-safe.
    """
    try:
        return _not_sent(exc, [_MOST_ERRORS])
    except Exception:  # noqa: BLE001 - runs while another error is handled; without proof it is False
        return False


def sdk_retry_count(exc: BaseException) -> int:
    """Return how often an SDK (openai, anthropic, botocore) has retried the failed request; 0 if unknown. Never raises."""
    try:
        if is_bare_builtin(exc):
            return 0
        return next((count for error in chain(exc) if (count := _retries(error)) is not None), 0)
    except Exception:  # noqa: BLE001 - the same
        return 0


def transport_retry_count(exc: BaseException) -> int:
    """Return how often a transport of this package has retried the request; 0 if unknown. Never raises."""
    try:
        answers = (lowercase_headers(attribute(attribute(error, "response"), "headers")) for error in chain(exc))
        return next((count - 1 for answer in answers if (count := _count(answer.get(ATTEMPTS_HEADER)))), 0)
    except Exception:  # noqa: BLE001 - the same
        return 0


def _not_sent(exc: BaseException, remaining: list[int]) -> bool:
    remaining[0] -= 1
    if remaining[0] < 0:
        return False
    if isinstance(exc, BaseExceptionGroup):
        return all(_not_sent(each, remaining) for each in exc.exceptions)
    return next((proof for error in chain(exc) if (proof := _proof(error)) is not None), False)


def _proof(exc: BaseException) -> bool | None:
    """Return whether this error proves that nothing was processed; None leaves that to its cause."""
    if isinstance(exc, RateLimitError):
        return exc.status is None or exc.status >= CLIENT_ERROR  # as below
    if isinstance(exc, Rejected) or any(base.__name__ in _NOT_CONNECTED for base in type(exc).__mro__):
        return True
    if type(exc).__name__ in _WRAPPERS:
        return None
    verdict = own_verdict(exc)
    if verdict is None:
        return None
    if verdict.kind is FailureKind.RATE_LIMIT:
        return (http_status(exc) or 0) >= CLIENT_ERROR  # a stream that is cut for its rate was processed in part
    return _NO_CONNECTION_MESSAGE in message(exc)


def _retries(exc: BaseException) -> int | None:
    response = attribute(exc, "response")
    if isinstance(response, Mapping):
        metadata = response.get("ResponseMetadata")
        return _count(metadata.get("RetryAttempts")) if isinstance(metadata, Mapping) else None
    for request in (attribute(exc, "request"), attribute(response, "request")):
        count = _count(lowercase_headers(attribute(request, "headers")).get("x-stainless-retry-count"))
        if count is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < len(str(_MOST_RETRIES)):
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST_RETRIES else None
