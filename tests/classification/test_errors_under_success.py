"""Errors under a status of success: whole answers and single events of a stream."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.classification import FailureKind, classify_response, event_error, response_error

JSON = {"Content-Type": "application/json; charset=utf-8"}
PAGE = "<!doctype html><title>Welcome</title>"


def short(verdict):
    """A verdict in one line: kind, R for retryable, C for counted; an answer is None."""
    return verdict and f"{verdict.kind} {'R' if verdict.retryable else ''}{'C' if verdict.counts_against_breaker else ''}".strip()


@pytest.mark.table(
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
        ("Error", "oops", "server_error RC"),
        ("exception", '{"message": "x"}', "server_error RC"),
        ("response.error", "", "server_error RC"),
        ("throttlingException", '{"message": "x"}', "rate_limit R"),
        ("tool_error", '{"message": "x"}', None),
        ("", '[{"error": {"message": "Overloaded", "type": "overloaded_error"}}]', "overloaded RC"),
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


@pytest.mark.table(
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


@pytest.mark.table("body", ["", b"", PAGE, "upstream connect error"])
def test_the_classifier_misses_json_too(body):
    """`classify_response` agrees, for a content type of JSON."""
    assert FailureKind.SERVER_ERROR is classify_response(200, JSON, body).kind
    assert FailureKind.UNKNOWN is classify_response(200, {}, body).kind


@pytest.mark.table("status", [204, 205])
def test_no_content_promises_none(status):
    """An answer without content has no body, whatever its headers say."""
    assert response_error(status, JSON, b"") is None


@pytest.mark.table("status", [100, 302, 404, 500, None, "200"])
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


@pytest.mark.table(("depth", "expected"), [(199, "server_error RC"), (200, None), (5000, None)])
def test_depth_is_measured_and_not_left_to_the_interpreter(depth, expected):
    """The same depth on every version, whatever its parser takes; brackets within texts are none."""
    texts = [
        '{"error": ' * depth + '{"message": "x"}' + "}" * depth,
        '{"error": ' * depth + '{"message": "\\"[[{{"}' + "}" * depth,
    ]
    assert [expected] * 2 == [short(response_error(200, JSON, text)) for text in texts]
    assert "server_error RC" == short(
        response_error(200, JSON, json.dumps({"error": {"message": "[{" * 500, "details": [[]] * 300}}))
    )


def test_json_line_by_line_is_an_answer_unless_a_line_is_an_error():
    """Ollama streams so; the first line that is an error decides."""
    fine = '{"response": "a", "done": false}\n{"response": "", "done": true}\n'
    assert [None, "server_error RC"] == [short(response_error(200, {}, text)) for text in (fine, fine + '{"error": "x"}')]


@pytest.mark.table(
    ("body", "expected"),
    [
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded(RPM)"}}, "rate_limit R"),
        ({"base_resp": {"status_code": 1002}, "choices": [{"message": {"content": "x"}}]}, "rate_limit R"),
        ({"base_resp": {"status_code": 1001, "status_msg": "x"}}, "timeout RC"),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "quota"),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params, context window exceeds limit"}}, "context_length"),
        ({"base_resp": {"status_code": 2049, "status_msg": "invalid api key"}}, "auth"),
        ({"base_resp": {"status_code": 7777, "status_msg": "x"}}, "server_error RC"),
        ({"error_code": 4, "error_msg": "Open api request limit reached"}, "rate_limit R"),
        ({"error_code": 17, "error_msg": "Open api daily request limit reached"}, "quota"),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, "rate_limit R"),
        ({"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, "auth"),
        ({"error_code": 336100, "error_msg": "Service busy"}, "overloaded RC"),
        ({"error": {"code": "1113", "message": "x"}}, "quota"),
        ({"error": {"code": "1302", "message": "x"}}, "rate_limit R"),
        ({"error": {"code": "1305", "message": "x"}}, "overloaded RC"),
        ({"error": {"code": 5, "message": "x"}}, "server_error RC"),
        ({"object": "error", "message": "x", "code": "1300", "raw_status_code": 429}, "rate_limit R"),
        ({"object": "error", "message": "x", "code": 40303}, "server_error RC"),
        ({"success": False, "message": "rate limit exceeded"}, "rate_limit R"),
        ({"success": False, "error": {"code": "RATE_LIMITED", "message": "x"}}, "rate_limit R"),
        ({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}], "result": None}, "auth"),
        ({"ok": False, "error": "rate_limited"}, "rate_limit R"),
        ({"status": "error", "message": "Too many requests"}, "rate_limit R"),
        ({"status": "FAILED", "message": "x"}, "server_error RC"),
        ({"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "0"}, "auth"),
        ({"code": "Throttling", "message": "x"}, "rate_limit R"),
        ({"code": "SomethingNew", "message": "x", "request_id": "0"}, "server_error RC"),
        ({"code": 429, "message": "x"}, "rate_limit R"),
        ({"code": "429", "msg": "x", "data": None}, "rate_limit R"),
        ({"code": 1001, "msg": "system error", "data": None}, "server_error RC"),
        ({"code": -1, "msg": "系统繁忙"}, "overloaded RC"),
        ({"code": 4100, "msg": "authentication is invalid"}, "auth"),
        ({"errcode": 40001, "errmsg": "invalid credential"}, "auth"),
        ({"errorCode": "429", "errorMessage": "x"}, "rate_limit R"),
        ({"errorMessage": "Task timed out after 3.00 seconds"}, "timeout RC"),
        ({"error": True, "message": "Unauthorized"}, "auth"),
        ({"error": 1, "msg": "x"}, "server_error RC"),
        ({"error": "invalid_client", "error_description": "unknown client id"}, "auth"),
        ({"errors": [{"message": "x", "extensions": {"code": "RATE_LIMITED"}}], "data": None}, "rate_limit R"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "x"}}, "server_error RC"),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "x"}}, "invalid_request"),
        ({"jsonrpc": "2.0", "id": 1, "error": "x"}, "server_error RC"),
        ({"event": "error", "task_id": "t", "status": 429, "code": "x", "message": "x"}, "rate_limit R"),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "x", "param": None, "sequence_number": 1}, "rate_limit R"),
        ({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "overloaded"}}, "overloaded RC"),
        ({"Response": {"Error": {"Code": "RequestLimitExceeded", "Message": "x"}, "RequestId": "0"}}, "rate_limit R"),
        ({"ResponseMetadata": {"Error": {"Code": "Throttling", "Message": "x"}}}, "rate_limit R"),
        ({"header": {"code": 11202, "message": "x", "sid": "0", "status": 2}}, "rate_limit R"),
        ({"id": "1", "object": "chat.completion.chunk", "choices": [], "error": {"code": 429, "message": "x"}}, "rate_limit R"),
        ({"id": "chatcmpl-0", "error": {"code": "limit_requests", "message": "x"}, "request_id": "0"}, "rate_limit R"),
        ({"success": False, "errors": ["Rate limit exceeded"]}, "rate_limit R"),
        ({"success": "false", "message": "Rate limit exceeded"}, "rate_limit R"),
        ({"result": "error", "message": "Rate limit exceeded"}, "rate_limit R"),
        ({"error": [{"message": "Rate limit exceeded"}]}, "rate_limit R"),
        ({"error": ["x"], "message": "Rate limit exceeded"}, "rate_limit R"),
        ({"error": ["Rate limit exceeded"]}, "rate_limit R"),
        ({"error": [0.25, 0.5]}, None),
        ({"statusCode": 429, "message": "x"}, "rate_limit R"),
        ({"type": "https://example.com/slow", "title": "Too Many Requests", "status": 429}, "rate_limit R"),
        ({"fault": {"faultstring": "Rate limit quota violation", "detail": {"errorcode": "x"}}}, "rate_limit R"),
        ({"type": "error"}, "server_error RC"),
        ({"errors": ["a comma is missing"]}, None),
        ({"errors": ["a comma is missing"], "message": "checked"}, None),
        ({"code": 42, "message": "x"}, None),
        ({"code": True, "message": "x"}, None),
        ({"code": 1001, "message": "done", "data": None}, None),
        ({"code": [], "message": "x"}, None),
        ({"code": "images", "message": "x"}, None),
        ({"success": False}, None),
        ({"status": "failed"}, None),
        ({"error": 0.5, "message": "x"}, None),
        ({"header": {"code": 3}}, None),
        ({"error": {"code": "1302", "message": "x", "type": "y"}}, "server_error RC"),
    ],
)
def test_every_room_agrees_on_an_envelope(body, expected):
    """Parsed, as text, as bytes, as an event: what the classifier calls an error every function does."""
    text = json.dumps(body, ensure_ascii=False)
    spaced = json.dumps(body, indent=2, separators=(",", " : "))
    found = [short(response_error(200, JSON, shape)) for shape in (body, text, text.encode(), spaced)]
    found += [short(event_error("", text)), short(event_error("message", spaced))]
    assert [expected] * 6 == found
    assert (expected or "unknown") == short(classify_response(200, JSON, body))


@pytest.mark.table(
    ("stream", "expected"),
    [
        ('id:1\nevent:error\n:HTTP_STATUS/429\ndata:{"request_id":"0","message":"x"}\n\n', "rate_limit R"),
        ("event: error\r\ndata: overloaded\r\n\r\n", "overloaded RC"),
        ("event: error\n\n", "server_error RC"),
        ('data: {"choices": []}\n\ndata: {"error":\ndata:  {"code": 429}}', "rate_limit R"),
        ("retry: 5\nevent: ping\ndata: error\n\n", "unknown"),
    ],
)
def test_a_stream_given_as_a_body_is_read_as_events(stream, expected):
    """Names, comments and data over several lines count, also where the last event has no end."""
    assert expected == short(classify_response(200, {"content-type": "text/event-stream"}, stream))


@given(st.text(max_size=20), st.text())
def test_any_event_is_looked_at_without_harm(name, data):
    """Nothing that a service sends raises."""
    assert name == "error" or event_error(name, data) is None or data[:1] in {"{", "["} or data.startswith(("data", ":"))


class Hostile(dict):
    """A mapping that raises."""

    def get(self, key, default=None):
        raise RuntimeError


def test_a_hostile_body_is_no_error():
    """What cannot be looked at is left to whoever asked for it."""
    assert response_error(200, {}, Hostile(error="x")) is None


@pytest.mark.table(
    ("body", "expected"),
    [
        ({"base_resp": {"status_code": "1002", "status_msg": "x"}}, "rate_limit R"),
        ({"base_resp": {"status_code": "0", "status_msg": ""}}, None),
        ({"error_code": "18", "error_msg": "Open api qps request limit reached"}, "rate_limit R"),
        ({"error_code": 336007, "error_msg": "the max input characters is 11200"}, "context_length"),
        ({"Error": {"Code": "Throttling", "Message": "x"}}, "rate_limit R"),
        ({"Error": "Service is overloaded"}, "overloaded RC"),
        ({"Success": False, "Code": "Throttling", "Message": "x"}, "rate_limit R"),
        ({"Code": "Throttling", "Message": "x", "RequestId": "0"}, "rate_limit R"),
        ({"IsSuccess": False, "Message": "it failed"}, "server_error RC"),
        ({"is_error": True, "message": "Rate limit exceeded"}, "rate_limit R"),
        ({"isError": False, "message": "Rate limit exceeded"}, None),
        ({"isError": True, "message": "it failed", "content": [{"type": "text", "text": "x"}]}, None),
        ({"code": -1, "message": "system error"}, "server_error RC"),
        ({"code": "-1", "message": "system error"}, "server_error RC"),
        ({"error": {"rate": 0.05}, "value": 3}, None),
        ({"error": {"mean": 0.1, "std": 0.2, "unit": "percent"}, "scores": [1, 2]}, None),
        ({"error": {"reason_text": "it is broken"}}, "server_error RC"),
        ({"valid": False, "errors": [{"field": "name", "message": "is missing"}]}, None),
        ([{"error": {"message": "Overloaded"}}], "overloaded RC"),
        ([{"candidates": []}, {"error": {"message": "Overloaded"}}], "overloaded RC"),
        ([{"id": 1, "score": 2}, {"error": {"message": "not found"}}], None),
    ],
)
@pytest.mark.table("form", [json.dumps, lambda body: json.dumps(body).encode(), lambda body: body])
def test_an_envelope_is_known_in_every_form(body, expected, form):
    """Spellings of one envelope mean the same; measures, checks and lists in which one item failed are answers."""
    assert expected == short(response_error(200, JSON, form(body)))
