"""Every exception of httpx and httpx2 in this kit's words, and every status."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from resilience_kit import classify
from resilience_kit.classification import was_not_sent
from resilience_kit.errors import (
    AIServiceError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ResourceNotFoundError,
    ServerError,
    ServiceUnavailableError,
    TransientAIError,
)
from resilience_kit.http.errors import RequestInfo, error_from_response, map_exception
from resilience_kit.outcome import FailureKind

SENT = RequestInfo("GET", "api.example.com", lambda: iter(["canary"]))
EXPECTED: dict[str, type[AIServiceError]] = {
    "CloseError": APIConnectionError,
    "ConnectError": APIConnectionError,
    "ConnectTimeout": APITimeoutError,
    "CookieConflict": InvalidRequestError,
    "DecodingError": TransientAIError,
    "HTTPError": AIServiceError,
    "HTTPStatusError": InvalidRequestError,
    "InvalidURL": InvalidRequestError,
    "LocalProtocolError": InvalidRequestError,
    "NetworkError": APIConnectionError,
    "PoolTimeout": APITimeoutError,
    "ProtocolError": APIConnectionError,
    "ProxyError": APIConnectionError,
    "ReadError": APIConnectionError,
    "ReadTimeout": APITimeoutError,
    "RemoteProtocolError": APIConnectionError,
    "RequestError": APIConnectionError,
    "RequestNotRead": InvalidRequestError,
    "ResponseNotRead": InvalidRequestError,
    "SSEError": APIConnectionError,
    "StreamClosed": InvalidRequestError,
    "StreamConsumed": InvalidRequestError,
    "StreamError": InvalidRequestError,
    "TimeoutException": APITimeoutError,
    "TooManyRedirects": InvalidRequestError,
    "TransportError": APIConnectionError,
    "UnsupportedProtocol": InvalidRequestError,
    "WriteError": APIConnectionError,
    "WriteTimeout": APITimeoutError,
}


def kinds(library: ModuleType) -> list[type[Exception]]:
    """Every exception that the library exports."""
    found = (getattr(library, name) for name in sorted(dir(library)))
    return [each for each in found if isinstance(each, type) and issubclass(each, Exception)]


def made(kind: Any, words: str) -> Exception:
    """An instance, with the arguments that its class wants."""
    library = httpx2 if kind.__module__.startswith("httpx2") else httpx
    if kind.__name__ == "HTTPStatusError":
        request = library.Request("GET", "https://api.example.com/?key=canary")
        return kind(words, request=request, response=library.Response(400, request=request, text="canary"))
    if kind.__name__ in ("RequestNotRead", "ResponseNotRead", "StreamClosed", "StreamConsumed"):
        return kind()
    return kind(words)


CASES = [pytest.param(kind, id=f"{library.__name__}.{kind.__name__}") for library in (httpx, httpx2) for kind in kinds(library)]


@pytest.mark.table("kind", CASES)
def test_every_exception_of_the_library_is_mapped(kind: type[Exception]) -> None:
    """To the class in the table, with the verdict of the original, and without anything secret."""
    original = made(kind, "words with a canary in them")
    error = map_exception(original, SENT)
    assert EXPECTED[kind.__name__] is type(error)
    assert classify(original) == classify(error)
    assert "canary" not in repr(error)
    assert "api.example.com" in str(error)
    chained = error.__cause__
    assert chained is None or (chained is original and issubclass(type(error), (APIConnectionError, APITimeoutError)))


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_the_table_has_no_more_than_there_is(library: ModuleType) -> None:
    """Both libraries have the same exceptions, but for one."""
    assert set(EXPECTED) - {kind.__name__ for kind in kinds(library)} <= {"SSEError"}


@pytest.mark.parametrize(
    "kind", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ReadError, httpx.ReadTimeout]
)
def test_what_was_not_sent_stays_known(kind: type[Exception]) -> None:
    """The error beneath proves it (invariant 30)."""
    assert ("Read" not in kind.__name__) is was_not_sent(map_exception(kind("x"), SENT))


def test_other_exceptions_are_not_touched() -> None:
    """A bug stays the same object, and so do errors of this kit."""
    for error in (KeyError("x"), ServerError("x"), OSError("x")):
        assert error is map_exception(error, SENT)


def test_an_answer_of_any_shape_decides() -> None:
    """An error of another library that carries one, and one whose answer has no status."""

    class HTTPError(Exception):
        response: Any = None

    error = HTTPError("https://api.example.com/?key=canary")
    assert "The request failed (GET api.example.com)" == str(map_exception(error, SENT))
    error.response = httpx.Response(401, text="no")
    assert AuthenticationError is type(map_exception(error, SENT))


@pytest.mark.table(
    ("status", "body", "expected"),
    [
        (400, {}, InvalidRequestError),
        (400, {"error": {"code": "context_length_exceeded"}}, ContextLengthError),
        (400, {"error": {"code": "content_filter"}}, ContentFilterError),
        (400, {"error": {"message": "Your credit balance is too low to access the API"}}, QuotaExceededError),
        (401, {}, AuthenticationError),
        (402, {}, QuotaExceededError),
        (403, {}, PermissionDeniedError),
        (404, {}, ResourceNotFoundError),
        (408, {}, InvalidRequestError),
        (409, {}, InvalidRequestError),
        (422, {}, InvalidRequestError),
        (429, {}, RateLimitError),
        (429, {"error": {"code": "insufficient_quota"}}, QuotaExceededError),
        (500, {}, ServerError),
        (502, {}, ServerError),
        (503, {}, ServiceUnavailableError),
        (529, {}, ServiceUnavailableError),
        (599, {}, ServerError),
        (301, {}, InvalidRequestError),
        (100, {}, AIServiceError),
        (200, {"error": {"type": "rate_limit_error", "message": "slow down"}}, RateLimitError),
        (200, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, ServiceUnavailableError),
    ],
)
def test_every_status_has_a_class(status: int, body: object, expected: type[AIServiceError]) -> None:
    """The contract's by status; where that says little, what the body means."""
    error = error_from_response(status, {"X-Request-ID": "req_9"}, json.dumps(body).encode(), SENT)
    assert (expected, status, "req_9") == (type(error), error.status, error.request_id)
    assert str(error).startswith(str(status))
    assert str(error).endswith("(request req_9)")


@pytest.mark.table("status", range(400, 600))
def test_no_status_is_left_out(status: int) -> None:
    """4xx is a fault of the request, 429 and 5xx pass by themselves."""
    error = error_from_response(status, {}, b"", SENT)
    permanent = status < 500 and status != 429
    assert permanent is not isinstance(error, TransientAIError)


def test_a_rate_limit_that_came_with_a_good_status_proves_nothing() -> None:
    """What was answered with 200 was processed in part; a 429 was not (invariant 30)."""
    body = {"error": {"type": "rate_limit_error", "message": "slow down"}}
    assert not was_not_sent(error_from_response(200, {}, body, SENT))
    assert was_not_sent(error_from_response(429, {}, body, SENT))
    assert was_not_sent(RateLimitError("own"))


def test_headers_that_are_none_are_no_headers() -> None:
    """Whatever a client hands on."""
    error = error_from_response(429, object(), object(), SENT)
    assert (None, None, FailureKind.RATE_LIMIT) == (error.request_id, error.retry_after, error.verdict.kind)
