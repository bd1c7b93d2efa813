"""Exceptions of the kit, of Python and of things that look like a library's."""

import errno
import json
import socket
from email import message_from_string
from enum import Enum, IntEnum
from http import HTTPStatus
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest

from resilience_kit import errors
from resilience_kit.classification import classify
from resilience_kit.classification import exceptions as room
from resilience_kit.outcome import FailureKind, Verdict


def short(verdict):
    """A verdict in one line: kind, R for retryable, C for counted, and the hint."""
    flags = ("R" if verdict.retryable else "") + ("C" if verdict.counts_against_breaker else "")
    return f"{verdict.kind} {flags}".strip() if verdict.retry_after is None else f"{verdict.kind} {flags} {verdict.retry_after:g}"


def sdk_error(name="APIStatusError", module="openai", bases=(Exception,), message="", **attributes):
    """An instance of a class that has an SDK's name and module."""
    exc = type(name, bases, {"__module__": module})(message)
    for key, value in attributes.items():
        setattr(exc, key, value)
    return exc


@pytest.mark.table(
    ("exc", "expected"),
    [
        (errors.CircuitBreakerOpenError("x", 12.0), "overloaded  12"),
        (errors.CircuitBreakerOpenError("x", None, "forced open"), "overloaded"),
        (errors.Rejected("x"), "unknown"),
        (errors.RateLimitExceededError("x", 2.0), "rate_limit  2"),
        (errors.BulkheadFullError("x"), "overloaded"),
        (errors.BudgetExceededError("x", 60.0), "quota"),
        (errors.DeadlineExceededError(), "timeout C"),
        (errors.ConfigurationError([]), "unknown"),
        (errors.LedgerError(), "unknown"),
        (errors.RateLimitError("x", 7), "rate_limit R 7"),
        (errors.RateLimitError("x", float("nan")), "rate_limit R"),
        (errors.RateLimitError("x", 10**9), "rate_limit R"),
        (errors.ServiceUnavailableError(), "overloaded RC"),
        (errors.ServerError(), "server_error RC"),
        (errors.APIConnectionError(), "connection RC"),
        (errors.APITimeoutError(), "timeout RC"),
        (errors.TransientAIError(), "transient RC"),
        (errors.AuthenticationError(), "auth"),
        (errors.PermissionDeniedError(), "permission"),
        (errors.ResourceNotFoundError(), "not_found"),
        (errors.QuotaExceededError(), "quota"),
        (errors.ContextLengthError(), "context_length"),
        (errors.ContentFilterError(), "content_filter"),
        (errors.InvalidRequestError(), "invalid_request"),
        (errors.PermanentAIError(), "unknown"),
        (errors.AIServiceError(), "unknown"),
        (errors.ResilienceError(), "unknown"),
        (errors.StreamInterruptedError("x", 3), "connection C"),
        (errors.FallbackExhaustedError("x"), "unknown"),
        (errors.FallbackExhaustedError("x", [ValueError(), TimeoutError()]), "timeout C"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_the_kits_own_errors_say_what_they_are(exc, expected):
    """The kit's errors are mapped; none of its refusals is retried or counted."""
    assert expected == short(classify(exc))


def test_a_subclass_of_a_kit_error_means_the_same():
    """Users may derive from the kit's errors."""
    assert "rate_limit R 3" == short(classify(type("Mine", (errors.RateLimitError,), {})("x", 3)))


def test_a_broken_stream_is_as_bad_as_its_cause_but_cannot_be_repeated():
    """The cause tells the kind; retryable is gone."""
    exc = errors.StreamInterruptedError("x", 3)
    exc.__cause__ = TimeoutError()
    assert "timeout C" == short(classify(exc))


@pytest.mark.table(
    ("exc", "expected"),
    [
        (TimeoutError(), "timeout RC"),
        (ConnectionError(), "connection RC"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "connection RC"),
        (BrokenPipeError(), "connection RC"),
        (OSError(errno.EMFILE, "Too many open files"), "connection R"),
        (OSError(errno.ENETUNREACH, "x"), "connection R"),
        (OSError("[Errno 113] No route to host"), "connection RC"),
        (OSError(errno.ENOENT, "x"), "unknown"),
        (OSError("x"), "unknown"),
        (FileNotFoundError(errno.ENOENT, "x"), "unknown"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), "connection RC"),
        (socket.gaierror(-2, "Name or service not known"), "connection"),
        (MemoryError(), "overloaded R"),
        (KeyboardInterrupt(), "unknown"),
        (SystemExit(1), "unknown"),
        (GeneratorExit(), "unknown"),
        (ValueError("rate limit"), "unknown"),
        (AssertionError(), "unknown"),
        (EOFError(), "unknown"),
        (URLError(ConnectionRefusedError()), "connection RC"),
        (URLError(OSError(errno.EMFILE, "too many open files")), "connection R"),
        (HTTPError("u", 429, "x", message_from_string("Retry-After: 9\n\n"), None), "rate_limit R 9"),
    ],
    ids=repr,
)
def test_pythons_own_errors(exc, expected):
    """Timeouts and broken connections may pass; bugs and cancellation are not retried and not counted."""
    assert expected == short(classify(exc))


def test_an_errno_that_is_no_number_is_none():
    """Some libraries put text where the number belongs."""
    exc = OSError("x")
    exc.errno = "soon"
    assert "unknown" == short(classify(exc))


class Code(Enum):
    RESOURCE_EXHAUSTED = (8, "resource exhausted")


class Status(IntEnum):
    TEAPOT = 418


def response(status=429, headers=None, **content):
    """What an HTTP library hands back."""
    return SimpleNamespace(status_code=status, headers=headers or {}, **content)


@pytest.mark.table(
    ("exc", "expected"),
    [
        (sdk_error(status_code=429, response=response(headers={"Retry-After": "3"})), "rate_limit R 3"),
        (sdk_error(status_code=400, body={"code": "insufficient_quota"}), "quota"),
        (sdk_error(status_code=400, body="x", response=response(400, text='{"error": {"code": "insufficient_quota"}}')), "quota"),
        (sdk_error(response=response(_content=b'{"error": {"code": "insufficient_quota"}}')), "quota"),
        (sdk_error(status_code=429, body="credit balance is too low"), "quota"),
        (sdk_error(status=HTTPStatus.SERVICE_UNAVAILABLE), "transient RC"),
        (sdk_error(status_code=Status.TEAPOT), "invalid_request"),
        (sdk_error(status_code="429", code=None, message="429 x"), "rate_limit R"),
        (sdk_error(status_code=True, http_status=99, message="x"), "unknown"),
        (sdk_error(code="context_length_exceeded"), "context_length"),
        (sdk_error(code=lambda: Code.RESOURCE_EXHAUSTED, details=lambda: "slow"), "rate_limit R"),
        (sdk_error(code=lambda: 1 / 0, message="slow"), "unknown"),
        (sdk_error(module="mine", status_code=503), "transient RC"),
        (sdk_error(module="mine", name="RateLimitError"), "rate_limit R"),
        (sdk_error(module="mine", name="Boom", message="Error code: 429"), "unknown"),
        (sdk_error(module="mine", name="Boom", code=17), "unknown"),
        (sdk_error(module="mine", name="Boom", code="e3q8"), "unknown"),
        (sdk_error(module="mistralai", status_code=400, body={"code": "1300"}), "rate_limit R"),
        (sdk_error(module="litellm", status_code=429, retry_after=8), "rate_limit R 8"),
        (sdk_error(status_code=200, body={"type": "error", "error": {"type": "overloaded_error"}}), "overloaded RC"),
        (sdk_error(status_code=429, body={"retry_after": 5}), "rate_limit R 5"),
        (sdk_error(status_code=200, body={"fine": True}), "unknown"),
        (sdk_error(name="APIError", message="cut"), "server_error RC"),
        (sdk_error(name="APIError", body={"code": "rate_limit_exceeded"}), "rate_limit R"),
        (sdk_error(status_code=429, headers=SimpleNamespace(items=lambda: [("retry-after", "6")])), "rate_limit R 6"),
        (sdk_error(status_code=429, headers=SimpleNamespace(items=lambda: {"retry-after": "6"})), "rate_limit R 6"),
        (sdk_error(status_code=429, headers=SimpleNamespace(items=lambda: 5)), "rate_limit R"),
        (sdk_error(status_code=429, headers=7), "rate_limit R"),
        (sdk_error(module="urllib3.exceptions", name="HTTPError"), "unknown"),
        (sdk_error(name="HTTPError", module="requests", bases=(OSError,), response=response(502)), "server_error RC"),
        (sdk_error(module="httpx", name="ConnectError", message="network is unreachable"), "connection R"),
    ],
)
def test_exceptions_are_judged_by_what_they_carry(exc, expected):
    """Status, headers, body and codes are found wherever SDKs put them; unknown classes stay unknown."""
    assert expected == short(classify(exc))


def botocore(code="ThrottlingException", message="slow", **metadata):
    """A botocore ClientError."""
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return sdk_error("ClientError", "botocore.exceptions", response=answer)


@pytest.mark.table(
    ("exc", "expected"),
    [
        (botocore(HTTPStatusCode=429, HTTPHeaders={"retry-after": "2"}), "rate_limit R 2"),
        (botocore("throttlingException"), "rate_limit R"),
        (botocore("ValidationException", "Input is too long for requested model.", HTTPStatusCode=400), "context_length"),
        (botocore("Odd", HTTPStatusCode="no"), "unknown"),
        (sdk_error("ClientError", "botocore.exceptions", response={"ResponseMetadata": None}), "unknown"),
    ],
)
def test_botocore_errors_hold_a_mapping(exc, expected):
    """The code in the parsed answer decides."""
    assert expected == short(classify(exc))


def caused(exc, cause):
    """`exc` raised from `cause`."""
    exc.__cause__ = cause
    return exc


def during(exc, context):
    """`exc` raised while `context` was handled."""
    exc.__context__ = context
    return exc


def looped():
    """Two errors that are each other's cause."""
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    return first


def long_chain():
    """A timeout beneath more wrappers than anybody looks through."""
    exc = TimeoutError()
    for _ in range(100):
        exc = caused(RuntimeError(), exc)
    return exc


def suppressed():
    """An error raised `from None`."""
    exc = during(RuntimeError(), TimeoutError())
    exc.__suppress_context__ = True
    return exc


@pytest.mark.table(
    ("exc", "expected"),
    [
        (caused(RuntimeError(), TimeoutError()), "timeout RC"),
        (caused(ValueError(), TimeoutError()), "timeout RC"),
        (caused(sdk_error(module="mine", name="Boom"), caused(RuntimeError(), ConnectionError())), "connection RC"),
        (caused(errors.AuthenticationError(), TimeoutError()), "auth"),
        (caused(errors.AIServiceError(), TimeoutError()), "timeout RC"),
        (during(RuntimeError(), TimeoutError()), "timeout RC"),
        (during(sdk_error(module="mine", name="Boom"), TimeoutError()), "timeout RC"),
        (during(KeyError(), TimeoutError()), "unknown"),
        (suppressed(), "unknown"),
        (looped(), "unknown"),
        (long_chain(), "unknown"),
        (
            caused(sdk_error("APIConnectionError"), sdk_error("ConnectError", "httpx", message="certificate verify failed")),
            "connection",
        ),
        (caused(sdk_error("APITimeoutError"), sdk_error("PoolTimeout", "httpx")), "timeout R"),
        (caused(sdk_error("APIConnectionError"), ValueError()), "connection RC"),
        (RuntimeError(TimeoutError()), "unknown"),
        (caused(RuntimeError(), RuntimeError(TimeoutError())), "timeout RC"),
        (
            sdk_error("MaxRetryError", "urllib3", reason=sdk_error("NewConnectionError", "urllib3", message="[Errno 11001]")),
            "connection",
        ),
        (sdk_error("RetryError", "tenacity", last_attempt=SimpleNamespace(exception=TimeoutError)), "timeout RC"),
    ],
)
def test_causes_are_followed_with_sense(exc, expected):
    """What says nothing by itself is judged by the error beneath; a bug in a handler is a bug, and loops end."""
    assert expected == short(classify(exc))


@pytest.mark.table(
    ("exc", "expected"),
    [
        (ExceptionGroup("g", [TimeoutError(), ConnectionError()]), "timeout RC"),
        (ExceptionGroup("g", [errors.RateLimitError("x", 3), errors.RateLimitError("x", 9)]), "rate_limit R 9"),
        (ExceptionGroup("g", [errors.RateLimitError("x", 3), TimeoutError()]), "rate_limit RC 3"),
        (ExceptionGroup("g", [TimeoutError(), ValueError()]), "unknown C"),
        (ExceptionGroup("g", [ExceptionGroup("h", [errors.AuthenticationError()])]), "auth"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), TimeoutError()]), "unknown C"),
        (caused(RuntimeError(), ExceptionGroup("g", [TimeoutError()])), "timeout RC"),
        (ExceptionGroup("g", [ValueError()] * 500), "unknown"),
    ],
)
def test_a_group_is_as_good_as_its_worst_member(exc, expected):
    """One error that cannot be retried decides; else the longest wait; any member may count."""
    assert expected == short(classify(exc))


def test_a_group_of_groups_ends():
    """Breadth and depth together are bounded."""
    exc = ExceptionGroup("g", [TimeoutError()])
    for _ in range(6):
        exc = ExceptionGroup("g", [exc] * 40)
    assert classify(exc).kind == FailureKind.TIMEOUT or not classify(exc).retryable


class Hostile(Exception):
    """Whose every attribute raises."""

    def __getattribute__(self, name):
        if name in {"__class__", "__cause__", "__context__", "__suppress_context__", "__dict__"}:
            return super().__getattribute__(name)
        raise RuntimeError(name)

    def __str__(self):
        raise RuntimeError


class NotEvenACause(Exception):
    """Whose cause cannot be read."""

    @property
    def __cause__(self):
        raise RuntimeError


def test_hostile_exceptions_are_unknown():
    """Attributes that raise are absent; what cannot be looked at is unknown."""
    assert ["unknown"] * 4 == [short(classify(exc)) for exc in (Hostile(), NotEvenACause(), None, object())]


def test_a_hostile_exception_with_a_cause_is_judged_by_it():
    """What says nothing is looked through."""
    assert "timeout RC" == short(classify(caused(Hostile(), TimeoutError())))


def test_a_response_is_never_read_from_the_network():
    """Properties of a response are left alone, since some of them read a socket."""

    class Unread:
        status_code = 429
        headers = {}  # noqa: RUF012 - as on real ones
        read = 0

        @property
        def content(self):
            self.read += 1
            raise AssertionError

    unread = Unread()
    assert ("rate_limit R", 0) == (short(classify(sdk_error(response=unread))), unread.read)


def test_a_body_set_on_the_class_is_seen():
    """Small stand-ins often keep the text on the class."""
    stub = type("Stub", (), {"status_code": 429, "text": json.dumps({"error": {"code": "insufficient_quota"}})})
    assert "quota" == short(classify(sdk_error(response=stub())))


def test_the_table_of_classes_does_not_grow_without_end():
    """Classes made at run time are forgotten."""
    for number in range(room._MOST_CLASSES + 10):
        classify(sdk_error(f"Boom{number}", "mine"))
    assert len(room._CLASS_INFO) <= room._MOST_CLASSES


def test_verdicts_are_equal_by_value():
    """The verdict of a timeout can be compared with one made by hand."""
    assert Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True) == classify(TimeoutError())
