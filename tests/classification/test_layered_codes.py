"""Codes that only name the layer that failed, beside every status: what the status says is more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.classification import FailureKind, classify, classify_response

LAYERS = (
    "upstream_error", "provider_error", "bad_gateway", "service_unavailable", "service_unavailable_error", "ModelErrorException",
    "ModelStreamErrorException", "InternalServerException", "InternalServerError", "ServiceUnavailableException",
    "ServiceUnavailable", "InternalFailure", "InternalError", "bad_response_status_code", "bad_response", "bad_response_body",
    "do_request_failed", "read_response_body_failed", "get_channel_failed", "api_error", "internal_error", "server_error",
    "internal_server_error", "provider_unavailable", "upstream_unavailable", "upstream_server_error", "upstream_timeout",
    "gateway_timeout", "GatewayTimeout", "gateway_timeout_error", "gateway_error", "proxy_error", "relay_error", "new_api_error",
    "one_api_error", "backend_error", "backendError", "UNAVAILABLE", "INTERNAL", "UNKNOWN", "unavailable_error", "generation",
    "aws_invoke_error", "channel_error", "model_unavailable", "upstream_provider_error", "APIError", "BadGatewayError",
)  # fmt: skip
TELLING = (400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 429, 451)


def body(code, kind=None, message="it failed"):
    """An error object as relays send it."""
    return {"error": {"message": message, "type": kind or code, "param": "400", "code": code}}


@pytest.mark.table("status", TELLING)
@pytest.mark.table("layer", LAYERS)
def test_a_layer_does_not_outrank_a_status_that_says_more(layer, status):
    """Whatever layer is blamed, the caller's mistake stays the caller's, and a rate limit a rate limit."""
    expected = classify_response(status, {}, {"error": {"message": "it failed"}})
    shapes = (body(layer), body(None, layer), {"code": layer, "message": "it failed"}, {"__type": layer, "message": "it failed"})
    assert [expected] * 4 == [classify_response(status, {}, shape) for shape in shapes]
    assert expected == classify_response(status, {"x-amzn-errortype": f"{layer}:http://x"}, b"")


@pytest.mark.table("layer", LAYERS)
@pytest.mark.table("status", [500, 502, 503, 504, 520, 529])
def test_a_layer_beside_a_server_error_is_retried_and_counted(layer, status):
    """Where the status blames the service too, they agree."""
    verdict = classify_response(status, {}, body(layer))
    assert (True, True) == (verdict.retryable, verdict.counts_against_breaker)


@pytest.mark.table("layer", LAYERS)
def test_a_layer_without_a_status_is_the_services_fault(layer):
    """In a stream there is nothing else to go by."""
    verdict = classify_response(200, {}, body(layer))
    assert (True, True) == (verdict.retryable, verdict.counts_against_breaker)


@given(st.sampled_from(LAYERS), st.sampled_from(TELLING), st.sampled_from(["insufficient_quota", "rate_limit_exceeded"]))
def test_a_code_that_says_more_is_heard_beside_a_layer(layer, status, code):
    """A layer hides no code: the order of authority holds for those that tell something."""
    expected = FailureKind.QUOTA if code == "insufficient_quota" or status == 402 else FailureKind.RATE_LIMIT
    both = ({"error": {"type": layer, "code": code}}, {"error": {"type": code, "code": layer}})
    assert [expected] * 2 == [classify_response(status, {}, each).kind for each in both]


@pytest.mark.table(
    ("status", "message", "expected"),
    [
        (400, "bad response status code 400 (request id: 0)", "invalid_request"),
        (400, "This model's maximum context length is 8192 tokens.", "context_length"),
        (400, "Rate limit exceeded", "rate_limit"),
        (500, "bad response status code 429 (request id: 0)", "rate_limit"),
        (502, "upstream returned HTTP status 404", "not_found"),
        (503, "status_code=401, unauthorized", "auth"),
        (200, "bad response status code 400", "invalid_request"),
        (500, "bad response, 429 of them", "server_error"),
    ],
)
def test_the_words_of_a_layer_name_the_cause(status, message, expected):
    """A relay that blames itself tells what it was told; where its own status says more, that stands."""
    assert expected == classify_response(status, {}, body("bad_response_status_code", "upstream_error", message)).kind


@pytest.mark.table(("original", "expected"), [(400, "invalid_request"), (429, "rate_limit"), (500, "server_error")])
def test_bedrock_tells_the_status_that_its_model_gave(original, expected):
    """A 424 says only that the model failed."""
    answer = {"__type": "ModelErrorException", "message": "it failed", "originalStatusCode": original}
    assert expected == classify_response(424, {}, answer).kind


class RelayError(Exception):
    """What an SDK raises for the answer of a relay."""

    __module__ = "openai"
    status_code = 400

    def __init__(self):
        super().__init__("bad response status code 400")
        self.body = body("bad_response_status_code", "upstream_error")["error"]


def test_the_callers_mistake_through_a_relay_counts_for_no_circuit():
    """A bad request does not count, whatever layer the relay names."""
    verdict = classify(RelayError())
    assert ("invalid_request", False, False) == (verdict.kind, verdict.retryable, verdict.counts_against_breaker)
