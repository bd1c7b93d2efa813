"""Bodies of odd shapes, and what outranks what."""

import json
from collections.abc import Mapping
from datetime import datetime, tzinfo

import pytest

from resilience_kit.classification import FailureKind, Verdict, classify_response
from resilience_kit.classification.body import LONGEST_BODY, parse_body
from resilience_kit.classification.providers import Strength, lookup_code, normalize_code
from resilience_kit.classification.verdicts import QUOTA, RATE_LIMIT


def short(status, body=None, headers=None, **more):
    """A verdict in one line: kind, R for retryable, C for counted."""
    verdict = classify_response(status, {} if headers is None else headers, body, **more)
    return f"{verdict.kind} {'R' if verdict.retryable else ''}{'C' if verdict.counts_against_breaker else ''}".strip()


@pytest.mark.table(
    ("status", "body", "expected"),
    [
        (200, None, "unknown"),
        (200, "", "unknown"),
        (200, "fine", "unknown"),
        (200, b"\xff\xfe", "unknown"),
        (200, '{"choices": [', "transient RC"),
        (200, '{"a": "' + "x" * LONGEST_BODY, "unknown"),
        (200, '"text"', "unknown"),
        (200, "[]", "unknown"),
        (200, [1, {"ok": 1}, {"error": {"code": 429}}], "rate_limit R"),
        (200, ({"error": {"code": 429}},), "rate_limit R"),
        (200, {"error": None, "status": "completed"}, "unknown"),
        (200, {"errors": [{"message": "x"}]}, "server_error RC"),
        (200, {"error": {"type": "invalid_request_error"}}, "invalid_request"),
        (200, {"error_code": "1", "error_msg": "x"}, "server_error RC"),
        (200, {"status": "failed", "error": "Prediction timed out"}, "timeout RC"),
        (200, {"status": {}, "type": []}, "unknown"),
        (200, {"event_type": "error", "error": {"code": "not_found"}}, "not_found"),
        (200, {"response": {"error": {"code": "rate_limit_exceeded"}}}, "rate_limit R"),
        (200, {"choices": [{"error": {"code": 502, "message": "x"}}], "error": {}}, "unknown"),
        (200, {"choices": [1, {"finish_reason": "error"}]}, "server_error RC"),
        (200, {"choices": {}, "finish_reason": 5}, "unknown"),
        (200, {"prompt_feedback": {"block_reason": 1}}, "content_filter"),
        (200, {"promptFeedback": {}}, "unknown"),
        (200, {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        (200, {"incomplete_details": {"reason": "max_output_tokens"}}, "unknown"),
        (200, {"output": [{"message": {"refusal": None}}]}, "unknown"),
        (200, {"fooException": {"message": "x"}}, "server_error RC"),
        (200, {"fooException": "x"}, "unknown"),
        (200, {7: {"message": "x"}}, "unknown"),
        (200, "data: [DONE]\n\n", "unknown"),
        (200, ": ping\n\ndata: {broken}\n\n", "unknown"),
        (400, {"errors": ["x", 5, "insufficient credits"]}, "quota"),
        (302, None, "invalid_request"),
        (100, None, "unknown"),
        (0, None, "unknown"),
        (-5, None, "unknown"),
        (10**30, None, "unknown"),
        (418, None, "invalid_request"),
        (500, {"error": {"code": 429}}, "rate_limit R"),
        (500, {"error": {"code": "429"}}, "rate_limit R"),
        (500, {"error": {"code": "٤٢٩"}}, "server_error RC"),
        (500, {"error": {"code": True}}, "server_error RC"),
        (500, {"error": {"code": 999}}, "server_error RC"),
        (400, {"type": "too_many_tokens_error", "message": "x"}, "context_length"),
        (429, {"type": "too_many_tokens_error", "message": "x"}, "rate_limit R"),
        (402, {"error": {"status": "RESOURCE_EXHAUSTED"}}, "quota"),
        (429, {"error": {"details": [{"quotaId": "RequestsPerDay"}]}}, "quota"),
        (
            429,
            {"error": {"message": "see billing details", "details": [{"violations": [{"quotaId": "PerMinute"}]}]}},
            "rate_limit R",
        ),
        (429, {"error": {"message": "limit: 0, billing details", "details": [{"retryDelay": "1s"}]}}, "quota"),
        (429, {"error": {"message": "see billing details", "details": [{"retryDelay": "1s"}]}}, "rate_limit R"),
        (429, {"error": {"message": "Limit 10, Requested 11"}}, "rate_limit"),
        (429, {"error": {"message": "Limit 10, Requested 9"}}, "rate_limit R"),
        (402, {"error": {"message": "in-flight budget is full"}}, "quota"),
        (400, {"error": {"code": "x" * 500, "message": {"detail": [{"msg": "x"}]}}}, "invalid_request"),
    ],
)
def test_odd_bodies(status, body, expected):
    """Bodies of every shape are read, and what says nothing leaves the status its say."""
    assert expected == short(status, body)


def test_held_money_comes_back_when_the_server_says_when():
    """Money in flight is a quota that can be retried after the hint."""
    body = {"error": {"message": "in-flight budget is full"}}
    verdict = classify_response(402, {"retry-after": "3"}, body)
    assert Verdict(FailureKind.QUOTA, retryable=True, counts_against_breaker=False, retry_after=3.0) == verdict


@pytest.mark.table(("wish", "expected"), [("true", "auth R"), ("false", "auth"), ("TRUE", "auth"), ("1", "auth")])
def test_the_server_has_the_last_word_on_retrying(wish, expected):
    """`x-should-retry` outranks everything, but only in its two exact spellings."""
    assert expected == short(401, headers={"X-Should-Retry": wish})


def test_a_number_means_something_only_beside_its_provider():
    """`1302` is Zhipu's rate limit and nobody else's."""
    body = {"error": {"code": "1302"}}
    assert ["rate_limit R", "invalid_request", "invalid_request"] == [short(400, body, provider=p) for p in ("Zhipu", None, 7)]


def test_spelling_does_not_matter():
    """Case, separators, namespaces and endings are ignored."""
    spellings = ["ThrottlingException", "throttling_error", "THROTTLING", "com.amazon#ThrottlingException:http://x"]
    assert {"throttling"} == {normalize_code(code) for code in spellings}
    assert "exception" == normalize_code("Exception")


def test_codes_that_nobody_listed_are_read_by_their_parts():
    """Families judge unknown codes; what has no known part means nothing."""
    assert (Strength.SOFT, QUOTA) == lookup_code("tenant_budget_depleted")
    assert (Strength.SOFT, RATE_LIMIT) == lookup_code("org_rate_limit_v2")
    assert lookup_code("e3q8") is None


def test_a_deep_or_wide_body_is_cut():
    """Neither depth nor breadth makes it slow or wrong."""
    deep = {"message": "x"}
    for _ in range(500):
        deep = {"error": deep}
    wide = {"errors": [{"details": [{"message": "insufficient credits"}] * 1000}] * 1000}
    assert ["server_error RC", "quota"] == [short(500, deep), short(400, wide)]
    assert "server_error RC" == short(500, "[" * LONGEST_BODY)


def test_a_huge_text_is_cut():
    """Only the beginning of a megabyte is looked at."""
    assert ["quota", "invalid_request"] == [
        short(400, text) for text in ("insufficient credits" + "x" * 10**6, "x" * 10**6 + "insufficient credits")
    ]


class Hostile(Mapping):
    """A mapping that raises whatever one does."""

    def __getitem__(self, key):
        raise RuntimeError

    def __iter__(self):
        raise RuntimeError

    def __len__(self):
        raise RuntimeError


def test_hostile_mappings_leave_the_status():
    """A body or headers that raise do not hide the error that they describe."""
    assert ["rate_limit R", "rate_limit R"] == [short(429, Hostile()), short(429, headers=Hostile())]
    assert 3.0 == classify_response(429, {"retry-after": "3"}, Hostile()).retry_after


class BrokenZone(tzinfo):
    """A time zone that raises."""

    def utcoffset(self, dt):
        raise RuntimeError


def test_arguments_of_the_wrong_kind_give_a_verdict():
    """A status that is no number is unknown; a clock that raises leaves the status."""
    assert "unknown" == short("429", {"error": "x"})
    headers = {"retry-after": "Sat, 21 Nov 2026 00:01:00 GMT"}
    assert "rate_limit R" == short(429, headers=headers, now=datetime(2026, 11, 21, tzinfo=BrokenZone()))


def test_the_page_of_a_proxy_is_read_by_its_headings():
    """The fine print of an HTML page decides nothing."""
    page = "<!doctype html><title>Server busy</title><p>insufficient credits</p>"
    assert "overloaded RC" == short(503, page)


def test_an_event_stream_gives_its_error():
    """The first event that holds an error is the answer."""
    text = "event: x\ndata: " + json.dumps({"ok": 1}) + "\n\ndata: " + json.dumps({"error": {"code": 503}}) + "\n\n"
    assert "transient RC" == short(200, text)


def test_reading_is_kept_apart_from_judging():
    """A body's facts can be looked at by themselves."""
    facts = parse_body({"error": {"code": "x", "message": "It\u2019s slow", "status": 503}})
    assert (["x"], "it's slow", 503, True) == (facts.codes, facts.text.strip(), facts.status, facts.is_error)
