"""Tokens a minute: what a limit sees of requests and answers, and what its two helpers make of them."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from resilience_kit.http import AsyncAPIClient, max_tokens_estimate, tokens_used
from resilience_kit.limits import RateLimitConfig, RateLimiter

Lab = Any
HOST = "https://api.example.com"
USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
EVENTS = {"content-type": "text/event-stream"}
OPENAI = (
    b'data: {"choices":[{"delta":{"content":"a \\"usage\\": {"}}],"usage":null}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42}}\n\n',
    b"data: [DONE]\n\n",
)
ANTHROPIC = (
    (
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":20,"cache_read_input_tokens":10,'
        b'"cache_creation_input_tokens":null,"output_tokens":1}}}\n\n'
    ),
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"hello"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":null,"output_tokens":12}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
RESPONSES = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"1","usage":null}}\n\n',
    (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"1","usage":'
        b'{"input_tokens":30,"output_tokens":12,"total_tokens":42}}}\n\n'
    ),
)


def limited(lab: Lab, usage: Callable[[Any], Any]) -> RateLimiter:
    """A transport whose every request costs 100 of 1000 units, until `usage` says what it did cost; none come back."""
    limit = RateLimitConfig(rate=1000, period=1e9, burst=1000, cost=100, usage=usage)
    limiter = RateLimiter(limit, clock=lab.clock)
    lab.build(config=lab.config(rate_limit=limiter))
    return limiter


def spent(limiter: RateLimiter) -> int:
    """How much of the bucket is gone."""
    return round(1000 - limiter._token_buckets.buckets[0].level)


def chat(**fields: Any) -> Any:
    """An answer that tells its usage."""
    return json.dumps({"id": "1", "object": "chat.completion", "usage": USAGE, **fields}).encode()


# --- on a transport --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "usage",
    [
        lambda answer: answer.json()["usage"]["total_tokens"],
        lambda answer: json.loads(answer.content)["usage"]["total_tokens"],
        lambda answer: answer.usage["total_tokens"],
        lambda answer: int(answer.headers["X-Tokens"]) if answer.status_code == 200 else 0,
        tokens_used,
    ],
)
async def test_usage_sees_the_answer(transport_lab: Lab, usage: Callable[[Any], Any]) -> None:
    """Status, headers, body, JSON and usage, also of a body that is compressed."""
    lab = transport_lab
    limiter = limited(lab, usage)
    lab.script(
        lab.Answer(200, (chat()[:20], chat()[20:]), {"content-type": "application/json", "x-tokens": "42"}),
        lab.Answer(
            200, (gzip.compress(chat()),), {"content-type": "application/json", "x-tokens": "42", "content-encoding": "gzip"}
        ),
    )
    assert USAGE == (await lab.send()).json()["usage"]
    assert 42 == spent(limiter)
    assert USAGE == (await lab.send()).json()["usage"]
    assert 84 == spent(limiter)


@pytest.mark.parametrize("pieces", [OPENAI, ANTHROPIC, RESPONSES], ids=["openai", "anthropic", "responses"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_usage_sees_what_a_stream_tells(transport_lab: Lab, pieces: tuple[bytes, ...], *, at_once: bool) -> None:
    """At its end, or inside the attempt where all of it came at once; earlier numbers give way to later ones."""
    lab = transport_lab
    path = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages", RESPONSES: "/v1/responses"}[pieces]
    limiter = limited(lab, tokens_used)
    lab.script(lab.Answer(200, (b"".join(pieces),) if at_once else pieces, EVENTS))
    assert b"".join(pieces) == b"".join(await lab.read(HOST + path))
    assert 42 == spent(limiter)


async def test_what_is_not_told_stays_an_estimate(transport_lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Streams and answers without a usage, bodies that are not kept, and calls that fail."""
    lab = transport_lab
    limiter = limited(lab, tokens_used)
    lab.script(
        lab.Answer(200, (OPENAI[0], OPENAI[2]), EVENTS),
        lab.Answer(),
        lab.Answer(200, (b"\xff\xfe",), {"content-type": "audio/mpeg", "content-length": "2"}),
        lab.Answer(200, (b"x" * 2**20, b"x"), {"content-type": "audio/mpeg"}),
        lab.Answer(400),
    )
    for _ in range(5):
        await lab.read()
    assert 500 == spent(limiter)
    assert [] == [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_stream_is_no_json(transport_lab: Lab) -> None:
    """Its body is not kept, so there is nothing but the usage; what is shown cannot be changed."""
    lab = transport_lab
    seen: list[Any] = []
    limited(lab, seen.append)
    lab.script(lab.Answer(200, OPENAI, EVENTS))
    await lab.read()
    (answer,) = seen
    assert (200, b"", USAGE, "<ResponseSummary 200>") == (answer.status_code, answer.content, answer.usage, repr(answer))
    assert "text/event-stream" == answer.headers["Content-Type"]
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    with pytest.raises(TypeError):
        answer.headers["x"] = "y"


async def test_the_cost_of_a_request_is_estimated_from_its_body(transport_lab: Lab) -> None:
    """A transport's requests are the library's own."""
    lab = transport_lab
    limit = RateLimitConfig(rate=1000, period=1e9, burst=1000, cost=max_tokens_estimate)
    limiter = RateLimiter(limit, clock=lab.clock)
    lab.build(config=lab.config(rate_limit=limiter))
    await lab.send(json={"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100})
    texts = ["model", "m", "messages", "role", "user", "content", "hello", "max_tokens"]
    assert len("".join(texts)) + 1 + 100 == spent(limiter)
    await lab.send("GET")
    assert len("".join(texts)) + 101 == spent(limiter)


# --- the helpers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 0),
        ({"x": "äö€"}, 1 + 7),
        ({"x": "hello", "max_tokens": 10}, 1 + 5 + 10 + 1 + 10),
        ({"max_completion_tokens": 10}, 21 + 1 + 10),
        ({"max_output_tokens": 10.0}, 17 + 1 + 10),
        ({"max_tokens": 10, "n": 3}, 11 + 2 + 30),
        ({"input": [[1, 2, 3], [4]]}, 5 + 4),
        ({"url": "data:image/png;base64," + "A" * 1000}, 3),
        ({"type": "base64", "data": "A" * 1000}, 4 + 4 + 6),
        ({"data": {"a": "b"}}, 4 + 1 + 1),
        ({"max_tokens": None, "n": "many"}, 10 + 1 + 5),
        ({"max_tokens": True}, 11),
        ({"max_tokens": -5}, 11),
        ({"max_tokens": float("nan")}, 11),
    ],
)
def test_a_request_takes_at_most(body: dict[str, Any], tokens: int) -> None:
    """Bytes of its text, one for any other value, and the answer that it allows."""
    request = httpx.Request("POST", HOST, content=json.dumps(body))
    asked = SimpleNamespace(kwargs={"json": body}), SimpleNamespace(kwargs={"content": json.dumps(body)})
    assert [tokens] * 4 == [max_tokens_estimate(each) for each in (body, request, *asked)]


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b"[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
def test_a_body_that_is_no_json_costs_nothing(content: bytes) -> None:
    """Nor does one that has not been read; and nothing of what is sent can hurt."""
    assert 0.0 == max_tokens_estimate(httpx.Request("POST", HOST, content=content))
    assert 0.0 == max_tokens_estimate(httpx.Request("POST", HOST, content=iter([content])))
    assert 0.0 == max_tokens_estimate(None)
    assert 1e12 + 11 == max_tokens_estimate({"max_tokens": 10**400})


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (USAGE, 42),
        ({"input_tokens": 10, "output_tokens": 5}, 15),
        ({"prompt_tokens": 10, "completion_tokens": 5}, 15),
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_creation_input_tokens": 4,
                "cache_read_input_tokens": 8,
                "x": {"y": 1},
            },
            15,
        ),
        ({"input_tokens": 1, "cache_read_input_tokens": None}, 1),
        ({"prompt_tokens": 7, "total_tokens": 7}, 7),
        ({"output_tokens": 5}, None),
        ({"total_tokens": "42"}, None),
        ({}, None),
        (None, None),
        ("42", None),
    ],
)
def test_an_answer_took(usage: Any, tokens: float | None) -> None:
    """The total, or the sum of its parts, of JSON and of an SDK's objects."""
    as_object = SimpleNamespace(usage=SimpleNamespace(**usage) if isinstance(usage, dict) else usage)
    assert [tokens] * 2 == [tokens_used({"usage": usage}), tokens_used(as_object)]


@pytest.mark.parametrize("answer", [None, [], "text", 5, {"usage": []}, object()])
def test_an_answer_that_tells_nothing(answer: object) -> None:
    """Nothing is known then."""
    assert None is tokens_used(answer)


async def test_a_json_client_has_the_same_helpers() -> None:
    """Its limits see what is asked and the parsed answer."""
    limiter = RateLimiter(RateLimitConfig(rate=1, period=1e9, burst=1000, cost=max_tokens_estimate, usage=tokens_used))
    service = httpx.MockTransport(lambda _: httpx.Response(200, json={"usage": USAGE}))
    async with AsyncAPIClient(HOST, client=httpx.AsyncClient(transport=service), rate_limiter=limiter) as client:
        await client.post("/v1/chat/completions", json={"max_tokens": 500})
    assert 42 == spent(limiter)
