"""Ordinary answers of AI services and of APIs around them, as data: none of them is an error."""

import json
from pathlib import Path

import pytest

from resilience_kit.classification import FailureKind, classify_response, event_error, response_error

ROWS = [json.loads(line) for line in Path(__file__).with_name("ordinary_answers.jsonl").read_text(encoding="utf-8").splitlines()]
ANSWERS = [pytest.param(row["body"], id=row["id"]) for row in ROWS if "body" in row]
EVENTS = [pytest.param(row["event"], row["data"], id=row["id"]) for row in ROWS if "data" in row]
JSON = {"content-type": "application/json"}


def test_there_are_enough():
    """Both kinds are there in number, each under a name of its own."""
    assert len(ANSWERS) >= 200
    assert len(EVENTS) >= 60
    assert len(ROWS) == len({row["id"] for row in ROWS})


@pytest.mark.table("body", ANSWERS)
def test_an_ordinary_answer_is_no_error(body):
    """As an object, text and bytes, compact and spaced, whoever asks."""
    compact = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    for shape in (body, compact, json.dumps(body, indent=1).encode()):
        assert response_error(200, JSON, shape, expects_json=True) is None
        assert FailureKind.UNKNOWN is classify_response(200, JSON, shape).kind


@pytest.mark.table("body", ANSWERS)
def test_an_ordinary_answer_in_an_event_is_no_error(body):
    """Services send in events what they send as a whole."""
    assert event_error("", json.dumps(body)) is None


@pytest.mark.table(("name", "data"), EVENTS)
def test_an_ordinary_event_is_no_error(name, data):
    """Neither by itself nor as the first of a stream."""
    assert event_error(name, data) is None
    stream = f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n"
    assert FailureKind.UNKNOWN is classify_response(200, {"content-type": "text/event-stream"}, stream).kind
