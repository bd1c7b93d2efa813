"""Requests that were surely not processed, and retries that an SDK has made."""

from types import SimpleNamespace

import pytest

from resilience_kit import errors
from resilience_kit.classification import sdk_retry_count, transport_retry_count, was_not_sent


def sdk_error(name, module="openai", cause=None, message="", **attributes):
    """An instance of a class that has an SDK's name and module."""
    exc = type(name, (Exception,), {"__module__": module})(message)
    exc.__cause__ = cause
    for key, value in attributes.items():
        setattr(exc, key, value)
    return exc


def beneath(name, **attributes):
    """What httpx raises."""
    return sdk_error(name, "httpx", **attributes)


SENT_NEVER = [
    errors.Rejected("x"),
    errors.CircuitBreakerOpenError("x"),
    errors.BudgetExceededError("x"),
    errors.RateLimitError(),
    ConnectionRefusedError(),
    beneath("ConnectError"),
    beneath("ConnectTimeout"),
    beneath("PoolTimeout"),
    beneath("ProxyError"),
    sdk_error("APIConnectionError", cause=beneath("ConnectError")),
    sdk_error("APITimeoutError", cause=beneath("ConnectTimeout")),
    sdk_error(
        "ConnectionError", "requests.exceptions", args=(sdk_error("MaxRetryError", "urllib3", reason=beneath("ConnectError")),)
    ),
    sdk_error("RateLimitError", status_code=429),
    sdk_error("ClientError", "botocore", response={"Error": {}, "ResponseMetadata": {"HTTPStatusCode": 429}}),
    sdk_error("_InactiveRpcError", "grpc", message="StatusCode.UNAVAILABLE failed to connect to all addresses"),
    sdk_error("Wrapped", "mine", cause=ConnectionRefusedError()),
    ExceptionGroup("g", [ConnectionRefusedError(), errors.Rejected("x")]),
]

MAYBE_SENT = [
    TimeoutError(),
    ValueError(),
    ConnectionResetError(),
    ConnectionError(),
    beneath("ReadTimeout"),
    beneath("WriteError"),
    beneath("RemoteProtocolError"),
    sdk_error("APIConnectionError"),
    sdk_error("APIConnectionError", cause=beneath("ReadError")),
    sdk_error("APITimeoutError", cause=beneath("ReadTimeout")),
    sdk_error("InternalServerError", status_code=503),
    sdk_error("APIError", body={"code": "rate_limit_exceeded"}),
    sdk_error("APIStatusError", status_code=200, body={"error": {"code": 429}}),
    ExceptionGroup("g", [ConnectionRefusedError(), TimeoutError()]),
    ExceptionGroup("g", [ConnectionRefusedError()] * 500),
    None,
]


@pytest.mark.table("exc", SENT_NEVER, ids=repr)
def test_surely_not_sent(exc):
    """No connection, a refusal for the rate, or a refusal of this kit (invariant 30)."""
    assert was_not_sent(exc)


@pytest.mark.table("exc", MAYBE_SENT, ids=repr)
def test_perhaps_sent(exc):
    """Without proof the answer is no (invariant 30)."""
    assert not was_not_sent(exc)


def test_a_read_timeout_after_an_earlier_refusal_was_sent():
    """The context of a second attempt is the first one's error, which proves nothing about the second."""
    exc = beneath("ReadTimeout")
    exc.__context__ = beneath("ConnectError")
    assert not was_not_sent(exc)


def requested(count):
    """A request as the SDKs build it."""
    return SimpleNamespace(headers={"X-Stainless-Retry-Count": count})


@pytest.mark.table(
    ("exc", "expected"),
    [
        (sdk_error("APIConnectionError", request=requested("2")), 2),
        (sdk_error("APIStatusError", response=SimpleNamespace(request=requested("1"))), 1),
        (sdk_error("Wrapped", "mine", cause=sdk_error("APIError", request=requested("3"))), 3),
        (sdk_error("ClientError", "botocore", response={"ResponseMetadata": {"RetryAttempts": 4}}), 4),
        (sdk_error("ClientError", "botocore", response={"ResponseMetadata": {"RetryAttempts": True}}), 0),
        (sdk_error("ClientError", "botocore", response={"ResponseMetadata": None}), 0),
        (sdk_error("APIError", request=requested("-1")), 0),
        (sdk_error("APIError", request=requested("9" * 400)), 0),
        (sdk_error("APIError", request=requested(2)), 0),
        (sdk_error("APIError", request=SimpleNamespace()), 0),
        (ValueError(), 0),
        (None, 0),
    ],
)
def test_the_retries_of_an_sdk(exc, expected):
    """The count stands in the request that failed, or in botocore's metadata; nonsense is 0."""
    assert expected == sdk_retry_count(exc)


@pytest.mark.table(("attempts", "expected"), [("3", 2), ("1", 0), ("0", 0), ("many", 0), (None, 0)])
def test_the_retries_of_a_transport_of_this_kit(attempts, expected):
    """The attempts stand in a header of the answer; whoever wraps the error may lie around it."""
    headers = {} if attempts is None else {"X-Resilience-Kit-Attempts": attempts}
    inner = sdk_error("InternalServerError", response=type("Response", (), {"headers": headers})())
    assert (expected, expected) == (transport_retry_count(inner), transport_retry_count(sdk_error("Wrapped", cause=inner)))


class Unset(Exception):
    """As httpx's errors without a request."""

    @property
    def request(self):
        raise RuntimeError

    @property
    def response(self):
        raise RuntimeError


def test_a_request_that_is_not_set_does_no_harm():
    """Httpx raises when nobody has set the request."""
    assert (0, False) == (sdk_retry_count(Unset()), was_not_sent(Unset()))


class Mute(Exception):
    """Whose cause cannot be read."""

    @property
    def __cause__(self):
        raise RuntimeError


def test_errors_that_cannot_be_looked_at_prove_nothing():
    """What raises inside is answered with no and nought."""
    assert (0, 0, False) == (sdk_retry_count(Mute()), transport_retry_count(Mute()), was_not_sent(Mute()))
