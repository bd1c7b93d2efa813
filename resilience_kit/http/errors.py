"""Maps errors of httpx and httpx2, and error responses, to errors of this package. By class name: neither library is imported.

They name the method and host of the request only. httpx puts the whole address, and h11 the invalid header, into their
errors, so these are not chained. The others are, since the original error proves whether the request was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from resilience_kit import errors as kit
from resilience_kit.classification import classify, classify_response
from resilience_kit.classification.http_status import CLIENT_ERROR, FIRST_SERVER_ERROR
from resilience_kit.classification.response import lowercase_headers
from resilience_kit.classification.safe_access import attribute, buffered_content
from resilience_kit.http.excerpts import excerpt, redacted, request_id
from resilience_kit.outcome import FailureKind, Verdict

_LONGEST_DETAIL: Final = 200
_OVERLOADED: Final = (503, 529)


class RequestInfo(NamedTuple):
    """The parts of a request that may appear in an error, and a function for the secrets that must not."""

    method: str
    host: str
    secrets: Callable[[], Iterator[str]]

    def __str__(self) -> str:
        return f"{self.method} {self.host}".strip()


class _Rule(NamedTuple):
    """The class of an error, the start of its message, and whether the message of the original error is appended."""

    error: type[kit.AIServiceError]
    message: str
    append_cause: bool = False


#: By class name; the nearest in the MRO decides. `HTTPStatusError` has a response, which decides instead.
RULES: Final[Mapping[str, _Rule]] = {
    "TimeoutException": _Rule(kit.APITimeoutError, "Request timed out", append_cause=True),
    "LocalProtocolError": _Rule(kit.InvalidRequestError, "The request breaks HTTP's rules; look at its headers and its body"),
    "UnsupportedProtocol": _Rule(kit.InvalidRequestError, "The URL must begin with http:// or https://"),
    "InvalidURL": _Rule(kit.InvalidRequestError, "The URL is none"),
    "TooManyRedirects": _Rule(kit.InvalidRequestError, "The service redirects in a circle; use the address that it leads to"),
    "CookieConflict": _Rule(kit.InvalidRequestError, "Two cookies have the same name; give their domain or path"),
    "StreamError": _Rule(kit.InvalidRequestError, "A body can be read once, and this one was; give bytes to send it again"),
    "DecodingError": _Rule(kit.TransientAIError, "The answer's body cannot be decoded"),
    "TransportError": _Rule(kit.APIConnectionError, "Connection error", append_cause=True),
    "RequestError": _Rule(kit.APIConnectionError, "Connection error", append_cause=True),
    "HTTPError": _Rule(kit.AIServiceError, "The request failed"),
}

_BY_STATUS: Final[Mapping[int, type[kit.AIServiceError]]] = {
    401: kit.AuthenticationError,
    402: kit.QuotaExceededError,
    403: kit.PermissionDeniedError,
    404: kit.ResourceNotFoundError,
}
#: By the failure in the body, for a 4xx without a class of its own.
_CLIENT_ERROR_BY_KIND: Final[Mapping[FailureKind, type[kit.AIServiceError]]] = {
    FailureKind.QUOTA: kit.QuotaExceededError,
    FailureKind.CONTEXT_LENGTH: kit.ContextLengthError,
    FailureKind.CONTENT_FILTER: kit.ContentFilterError,
}
#: For a response whose status is no failure.
_BY_KIND: Final[Mapping[FailureKind, type[kit.AIServiceError]]] = {
    **_CLIENT_ERROR_BY_KIND,
    FailureKind.TRANSIENT: kit.TransientAIError,
    FailureKind.RATE_LIMIT: kit.RateLimitError,
    FailureKind.AUTH: kit.AuthenticationError,
    FailureKind.PERMISSION: kit.PermissionDeniedError,
    FailureKind.INVALID_REQUEST: kit.InvalidRequestError,
    FailureKind.NOT_FOUND: kit.ResourceNotFoundError,
    FailureKind.CONFLICT: kit.InvalidRequestError,
    FailureKind.TIMEOUT: kit.APITimeoutError,
    FailureKind.CONNECTION: kit.APIConnectionError,
    FailureKind.OVERLOADED: kit.ServiceUnavailableError,
    FailureKind.SERVER_ERROR: kit.ServerError,
}


def map_exception(error: Exception, info: RequestInfo) -> Exception:
    """Return the error of this package for an error of a request; an unknown error is returned unchanged."""
    if isinstance(error, (kit.AIServiceError, kit.ResilienceError)):
        return error
    rule = next((RULES[base.__name__] for base in type(error).__mro__ if base.__name__ in RULES), None)
    if rule is None:
        return error
    response = attribute(error, "response")
    if type(status := attribute(response, "status_code")) is int or isinstance(status, HTTPStatus):
        return error_from_response(int(status), attribute(response, "headers"), buffered_content(response), info)
    return _error_from_rule(rule, error, info)


def _error_from_rule(rule: _Rule, error: Exception, info: RequestInfo) -> kit.AIServiceError:
    detail = redacted(str(error), info.secrets())[:_LONGEST_DETAIL] or type(error).__name__
    found = rule.error(f"{rule.message}: {detail} ({info})" if rule.append_cause else f"{rule.message} ({info})")
    found.verdict = classify(error)
    if rule.append_cause:
        found.__cause__ = error
    return found


def error_from_response(
    status: int, headers: object, body: object, info: RequestInfo, verdict: Verdict | None = None
) -> kit.AIServiceError:
    """Return the error for an error response, by its verdict if that is known."""
    known = lowercase_headers(headers)
    return _build_error(verdict or classify_response(status, known, body), status, known, body, info)


def _build_error(
    verdict: Verdict, status: int, headers: Mapping[str, str], body: object, info: RequestInfo
) -> kit.AIServiceError:
    request_name, message = request_id(headers), excerpt(body, info.secrets())
    text = (
        f"{_status(status)} from {info}"
        + (f": {message}" if message else "")
        + (f" (request {request_name})" if request_name else "")
    )
    kind = error_class_for(status, verdict.kind)
    error = kind(text, verdict.retry_after) if issubclass(kind, kit.RateLimitError) else kind(text)
    error.status, error.request_id, error.excerpt, error.verdict = status, request_name, message, verdict
    return error


def error_class_for(status: int, kind: FailureKind) -> type[kit.AIServiceError]:
    """Return the error class for a status; if that is ambiguous, for the kind of failure in the body."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return kit.QuotaExceededError if kind is FailureKind.QUOTA else kit.RateLimitError
    if status >= FIRST_SERVER_ERROR:
        overloaded = kind is FailureKind.OVERLOADED or status in _OVERLOADED
        return kit.ServiceUnavailableError if overloaded else kit.ServerError
    if status >= CLIENT_ERROR:
        return _CLIENT_ERROR_BY_KIND.get(kind, kit.InvalidRequestError)
    return _BY_KIND.get(kind, kit.AIServiceError)


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
