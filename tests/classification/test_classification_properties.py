"""Whatever comes in, a valid verdict comes out."""

import math

from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.classification import FailureKind, Verdict, classify, classify_response, sdk_retry_count, was_not_sent
from resilience_kit.classification.retry_after import MAX_RETRY_AFTER

KEYS = st.one_of(
    st.sampled_from([
        "error", "errors", "code", "type", "message", "status", "detail", "details", "metadata", "choices", "finish_reason",
        "retryDelay", "quotaId", "retry_after", "response", "promptFeedback", "incomplete_details", "throttlingException",
    ]),
    st.text(max_size=8),
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=400, max_value=600),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=10),
    st.sampled_from(["insufficient_quota", "rate_limit_exceeded", "RESOURCE_EXHAUSTED", "429", "34s", "per day", "overloaded"]),
)
JSON = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)), max_leaves=12
)
HEADERS = st.one_of(
    st.none(),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(
        st.one_of(
            st.sampled_from(["retry-after", "Retry-After-Ms", "x-should-retry", "x-amzn-errortype", "date"]),
            st.text(max_size=8),
            LEAVES,
        ),
        st.one_of(LEAVES, st.text(max_size=20)),
        max_size=5,
    ),
)


def assert_valid(verdict):
    """A verdict of plain, usable parts."""
    assert type(verdict) is Verdict
    assert isinstance(verdict.kind, FailureKind)
    assert {bool} == {type(verdict.retryable), type(verdict.counts_against_breaker)}
    assert verdict.retry_after is None or (math.isfinite(verdict.retry_after) and 0.0 <= verdict.retry_after <= MAX_RETRY_AFTER)
    assert verdict.retry_after is None or verdict.retryable or verdict.kind is not FailureKind.QUOTA


@given(
    st.one_of(st.integers(), st.integers(min_value=200, max_value=600), LEAVES),
    HEADERS,
    st.one_of(JSON, st.text(), st.binary()),
    st.one_of(st.none(), st.sampled_from(["mistral", "zhipu"]), LEAVES),
    st.one_of(st.none(), LEAVES, st.datetimes()),
)
def test_any_response_gives_a_valid_verdict(status, headers, body, provider, now):
    """No status, headers, body, provider or clock makes it raise (invariant 29 for the hint)."""
    assert_valid(classify_response(status, headers, body, provider=provider, now=now))


NAMES = st.sampled_from([
    "status_code", "status", "code", "response", "headers", "body", "details", "detail", "error", "reason", "retry_after",
    "request", "type", "errno", "last_attempt", "os_error", "grpc_status_code", "args",
])  # fmt: skip
CLASSES = st.sampled_from(
    ["RateLimitError", "APIConnectionError", "ConnectError", "ClientError", "Odd", "RetryError", "URLError"]
)
MODULES = st.sampled_from(["openai", "httpx", "botocore.exceptions", "builtins", "mine", "urllib", ""])


class Raising:
    """A descriptor that raises."""

    def __get__(self, instance, owner=None):
        raise RuntimeError("no")


class Answer:
    """Anything with attributes."""

    def __init__(self, attributes):
        self.__dict__.update(attributes)


VALUES = st.one_of(
    JSON,
    st.dictionaries(NAMES, JSON, max_size=3).map(Answer),
    st.builds(lambda value: lambda: value, JSON),
    st.just(TimeoutError()),
    st.just(ConnectionRefusedError()),
    st.just(Raising()),
)


@st.composite
def exceptions(draw):
    """Exceptions with arbitrary attributes, causes and company."""
    name, module, base = draw(CLASSES), draw(MODULES), draw(st.sampled_from([Exception, OSError, ValueError, RuntimeError]))
    attributes = draw(st.dictionaries(NAMES, VALUES, max_size=5))
    exc = type(name, (base,), {"__module__": module, **attributes})(draw(st.text(max_size=20)))
    if draw(st.booleans()):
        exc.__cause__ = draw(st.one_of(st.just(exc), st.just(TimeoutError()), exceptions()))
    if draw(st.booleans()):
        exc.__context__ = draw(st.one_of(st.none(), st.just(ValueError()), exceptions()))
    return ExceptionGroup("g", [exc]) if draw(st.integers(min_value=0, max_value=9)) == 9 else exc


@given(exceptions())
def test_any_exception_gives_a_valid_verdict(exc):
    """No attribute, cause or group makes it raise."""
    assert_valid(classify(exc))
    assert type(was_not_sent(exc)) is bool
    assert 0 <= sdk_retry_count(exc) < 1000
