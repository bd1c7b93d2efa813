"""Errors under a status of success: whole answers and single events of a stream."""

import json

import pytest

from resilience_kit.classification import FailureKind, classify_response, event_error, response_error

JSON = {"Content-Type": "application/json; charset=utf-8"}
PAGE = "<!doctype html><title>Welcome</title>"


def short(verdict):
    """A verdict in one line: kind, R for retryable, C for counted; an answer is None."""
    return verdict and f"{verdict.kind} {'R' if verdict.retryable else ''}{'C' if verdict.counts_against_breaker else ''}".strip()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("", '{"error" : {"message": "Rate limit exceeded"}}', "rate_limit R"),
        ("", '{"object": "error", "message": "Rate limit exceeded"}', "rate_limit R"),
        ("", '{"choices": [{"delta": {"cont', "transient RC"),
        ("", '{"choices": [{"delta": {}, "finish_reason": "error"}]}', "server_error RC"),
        ("", '{"choices": [{"delta": {}, "finish_reason": "content_filter"}], "error": null, "code": "x"}', None),
        ("", '{"choices": [{"delta": {"content": "{\\"error\\": \\"x\\"}"}}]}', None),
        ("", '{"type": "response.created", "response": {"id": "r", "status": "in_progress", "error": null}}', None),
        ("", '{"type": "response.failed", "response": {"id": "r", "error": {"code": "rate_limit_exceeded"}}}', "rate_limit R"),
        ("", '{"base_resp": {"status_code": 0, "status_msg": ""}}', None),
        ("", '{"throttlingException": {"message": "x"}}', "rate_limit R"),
        ("", '{"error": {broken}}', "transient RC"),
        ("message", "[DONE]", None),
        ("message", "", None),
        ("ping", "{}", None),
        ("error", "", "server_error RC"),
        ("error", "{}", "server_error RC"),
        ("error", '{"error": {"mess', "server_error RC"),
        ("error", "rate limit exceeded", "rate_limit R"),
        (
            "error",
            '{"request_id": "0", "code": "Throttling.AllocationQuota", "message": "Allocated quota exceeded."}',
            "rate_limit R",
        ),
    ],
)
def test_an_event_tells_whether_it_is_an_error(name, data, expected):
    """An event named error is one whatever it holds; any other is one when its data is an error object or stops short."""
    assert expected == short(event_error(name, data))


@pytest.mark.parametrize(
    ("headers", "body", "expected", "asked"),
    [
        (JSON, b"", "server_error RC", "server_error RC"),
        (JSON, PAGE, "server_error RC", "server_error RC"),
        (JSON, "no healthy upstream", "server_error RC", "server_error RC"),
        (JSON, "502 Bad Gateway", "server_error RC", "server_error RC"),
        (JSON, "-3.5e7 ", None, None),
        (JSON, "null", None, None),
        (JSON, b'\xef\xbb\xbf{"a": 1}', None, None),
        (JSON, b'{"a": ', "transient RC", "transient RC"),
        (JSON, None, None, None),
        (JSON, 'data: {"error": {"code": 429}}\n\n', "rate_limit R", "rate_limit R"),
        ({}, b"", None, "server_error RC"),
        ({}, '{"a": ', "transient RC", "transient RC"),
        ({"content-type": "text/html"}, PAGE.encode(), None, "server_error RC"),
        ({"content-type": "text/plain"}, "[INFO] started", None, "transient RC"),
        ({"content-type": "text/event-stream"}, b'{"error": {"code": "insufficient_quota"}}', "quota", "quota"),
        ({"content-type": "application/problem+json"}, b" ", "server_error RC", "server_error RC"),
    ],
)
def test_json_that_was_promised_is_missed(headers, body, expected, asked):
    """A content type of JSON, or a caller who can use nothing else, makes an empty body or a page an error of the service."""
    assert (expected, asked) == (
        short(response_error(200, headers, body)),
        short(response_error(200, headers, body, expects_json=True)),
    )


@pytest.mark.parametrize("body", ["", b"", PAGE, "upstream connect error"])
def test_the_classifier_misses_json_too(body):
    """`classify_response` agrees, for a content type of JSON."""
    assert FailureKind.SERVER_ERROR is classify_response(200, JSON, body).kind
    assert FailureKind.UNKNOWN is classify_response(200, {}, body).kind


@pytest.mark.parametrize("status", [204, 205])
def test_no_content_promises_none(status):
    """An answer without content has no body, whatever its headers say."""
    assert response_error(status, JSON, b"") is None


@pytest.mark.parametrize("status", [100, 302, 404, 500, None, "200"])
def test_only_a_status_of_success_is_looked_at(status):
    """What fails by its status is somebody else's matter, and what is no status raises nothing."""
    assert response_error(status, JSON, b'{"error": "x"}') is None


def test_a_parsed_body_will_do():
    """JSON clients have parsed the body already."""
    assert "rate_limit R" == short(response_error(200, {}, {"error": {"code": 429}}))
    assert response_error(200, JSON, {"id": "1", "choices": [{"finish_reason": "content_filter"}]}) is None


def test_json_that_this_interpreter_cannot_hold_is_an_answer():
    """Depth and size of numbers are bounded by the interpreter, and its bound says nothing of the service."""
    deep = '{"error_count": 0, "a": ' * 10_000 + "1" + "}" * 10_000
    large = json.dumps({"error_count": 1})[:-1] + ', "n": ' + "7" * 5000 + "}"
    assert [None, None] == [response_error(200, JSON, text) for text in (deep, large)]
    assert ["unknown"] * 2 == [short(classify_response(200, {}, text)) for text in (deep[:30_000] + "}" * 30, large)]


def test_json_line_by_line_is_an_answer_unless_a_line_is_an_error():
    """Ollama streams so; the first line that is an error decides."""
    fine = '{"response": "a", "done": false}\n{"response": "", "done": true}\n'
    assert [None, "server_error RC"] == [short(response_error(200, {}, text)) for text in (fine, fine + '{"error": "x"}')]
