"""How the fake provider words its answers, without a server: bodies, streams and headers of each service."""

from __future__ import annotations

import json

import pytest

from resilience_kit.classification import classify_response
from resilience_kit.classification.retry_after import rfc3339
from resilience_kit.outcome import FailureKind
from resilience_kit.testing.provider import OK, Fault, FaultKind, ProviderLimits, ReceivedRequest
from resilience_kit.testing.provider._responses import ROUTES, FakeResponse, Responder, is_metered, respond_to
from resilience_kit.testing.provider.limits import KeyLimiter, Quota

CHAT = {"model": "sonar", "messages": [{"role": "user", "content": "What is it?"}]}
VOICE = Responder(lambda _prompt: "Forty-two it is.", "secret")
PATHS = ["/v1/chat/completions", "/v1/messages", "/chat/completions", "/query", "/documents/text"]
BODY = CHAT | {"query": "What is it?", "text": "some words here"}


def ask(path: str, body: object = BODY, *, key: str = "secret", method: str = "POST"):
    """A request as the provider reads it."""
    data = b"" if method == "GET" else json.dumps(body).encode()
    request = ReceivedRequest(number=7, at=0.0, method=method, path=path, headers={"x-api-key": key}, body=data)
    return VOICE.parse(request)


def answer(path: str, body: object = BODY, fault: Fault = OK, quota: Quota | None = None, **more: str) -> FakeResponse:
    """What the provider sends."""
    return respond_to(ask(path, body, **more), fault, quota)


def told(given: FakeResponse) -> dict:
    """The JSON of a plain answer."""
    return json.loads(given.pieces[0])


def lines(given: FakeResponse) -> list[dict]:
    """The JSON of each streamed event, in either framing."""
    return [json.loads(piece.removeprefix(b"data: ")) for piece in given.pieces]


def test_perplexity_answers_with_its_sources():
    """OpenAI's shape, with citations, search results, and a usage that has a cost."""
    body = told(answer("/chat/completions"))
    assert ("Forty-two it is.", "stop") == (body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"])
    assert body["citations"] == [result["url"] for result in body["search_results"]]
    assert (3, 3, 6, "low") == tuple(
        body["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens", "search_context_size")
    )
    assert 0.005006 == body["usage"]["cost"]["total_cost"]


def test_a_perplexity_stream_has_no_done():
    """It is over with the chunk that says why; each one repeats the message so far, its sources and the usage."""
    chunks = lines(answer("/chat/completions", CHAT | {"stream": True}))
    assert ["Forty-two", " it", " is.", ""] == [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    assert [1, 2, 3, 3] == [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert [None, None, None, "stop"] == [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert "Forty-two it is." == chunks[-1]["choices"][0]["message"]["content"]
    deep = answer("/chat/completions", CHAT | {"stream": True, "model": "sonar-deep-research"})
    assert b"data: [DONE]\n\n" == deep.pieces[-1]


def test_lightrag_answers_with_references():
    """Which can be left out, or have their text."""
    assert {"response": "Forty-two it is.", "references": [{"reference_id": "1", "file_path": "fake.txt"}]} == told(
        answer("/query")
    )
    assert told(answer("/query", {"query": "it", "include_references": False}))["references"] is None
    assert ["Forty-two."] == told(answer("/query", {"query": "it", "include_chunk_content": True}))["references"][0]["content"]


def test_a_lightrag_stream_is_a_json_object_a_line():
    """References first, then words; one line for all of it when it is told not to stream."""
    streamed = answer("/query/stream", {"query": "it"})
    assert "application/x-ndjson" == streamed.headers["content-type"]
    assert [{"response": word} for word in ("Forty-two", " it", " is.")] == lines(streamed)[1:]
    assert ["references"] == list(lines(streamed)[0])
    whole = answer("/query/stream", {"query": "it", "stream": False, "include_references": False})
    assert [{"response": "Forty-two it is."}] == lines(whole)
    assert 4 == len(lines(answer("/query/stream", {"query": "it", "include_references": True})))


def test_lightrag_takes_texts_and_tells_its_health():
    """An insertion is acknowledged with its track id; the health wants no key."""
    assert ("success", "insert_req_000007") == tuple(told(answer("/documents/text"))[key] for key in ("status", "track_id"))
    assert "healthy" == told(answer("/health", key="wrong", method="GET"))["status"]
    assert 405 == answer("/health").status


KINDS = {
    FaultKind.RATE_LIMITED: FailureKind.RATE_LIMIT,
    FaultKind.INSUFFICIENT_QUOTA: FailureKind.QUOTA,
    FaultKind.SERVER_ERROR: FailureKind.SERVER_ERROR,
    FaultKind.OVERLOADED: FailureKind.OVERLOADED,
}


@pytest.mark.table("path", PATHS)
@pytest.mark.table("kind", KINDS)
def test_every_service_words_every_fault_so_that_it_is_known(path, kind):
    """The classifier tells it by status and body, without being told whose it is."""
    given = answer(path, fault=Fault(kind))
    assert KINDS[kind] == classify_response(given.status, given.headers, given.pieces[0]).kind


@pytest.mark.parametrize("path", PATHS)
def test_an_error_in_a_200_is_an_error_for_every_service(path):
    """Plain answers are error objects then."""
    given = answer(path, fault=Fault.error_in_body())
    assert (200, True) == (given.status, "error" in told(given))


@pytest.mark.parametrize(("path", "stream"), [(path, {"stream": True}) for path in PATHS[:3]] + [("/query/stream", {})])
def test_an_error_in_a_stream_is_its_last_event(path, stream):
    """After as many good ones as the fault says."""
    given = answer(path, BODY | stream, Fault.error_in_body(after=2))
    assert (3, True) == (len(given.pieces), b'"error"' in given.pieces[-1])
    assert 2 == len(answer(path, BODY | stream, Fault.unfinished(after=2)).pieces)


WRONG = [
    ("/v1/chat/completions", 401, 400),
    ("/v1/messages", 401, 400),
    ("/chat/completions", 401, 400),
    ("/query", 403, 422),
    ("/documents/text", 403, 422),
]


@pytest.mark.parametrize(("path", "key", "body"), WRONG)
def test_a_wrong_key_and_a_wrong_body_have_their_statuses(path, key, body):
    """And neither is metered."""
    assert (key, body) == (answer(path, key="other").status, answer(path, [1]).status)
    assert not is_metered(ask(path, key="other"))
    assert not is_metered(ask(path, [1]))
    assert is_metered(ask(path))


def test_perplexity_refuses_a_key_in_html():
    """Its edge does, before the API."""
    given = answer("/chat/completions", key="other")
    assert ("text/html", True) == (given.headers["content-type"], given.pieces[0].startswith(b"<html>"))
    assert FailureKind.AUTH == classify_response(given.status, given.headers, given.pieces[0]).kind


def quota(tokens: int, now: float = 0.0) -> Quota:
    """What a key has left of 2 requests and 60 tokens a minute."""
    meter = KeyLimiter(ProviderLimits(requests_per_minute=2, tokens_per_minute=60))
    meter.take("key", 50, 0.0)
    return meter.take("key", tokens, now)


def test_openai_tells_its_buckets():
    """Whole units and Go's durations."""
    headers = answer("/v1/chat/completions", quota=quota(4)).headers
    assert {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "60",
        "x-ratelimit-remaining-tokens": "6",
        "x-ratelimit-reset-tokens": "54s",
    } == {name: value for name, value in headers.items() if "ratelimit" in name}


def test_anthropic_tells_its_buckets():
    """With instants, each in whole seconds and not before the bucket is full."""
    headers = answer("/v1/messages", quota=quota(4)).headers
    found = {name.removeprefix("anthropic-ratelimit-"): value for name, value in headers.items() if "ratelimit" in name}
    assert {"requests-limit": "2", "requests-remaining": "0", "tokens-limit": "60", "tokens-remaining": "6"} == {
        name: value for name, value in found.items() if "reset" not in name
    }
    assert 6.0 == rfc3339(found["requests-reset"]) - rfc3339(found["tokens-reset"])


@pytest.mark.parametrize("path", ["/chat/completions", "/query", "/documents/text"])
def test_the_others_tell_nothing(path):
    """A 429 without a hint: its callers have to find their own pace."""
    headers = answer(path, fault=Fault.rate_limited(None), quota=quota(11)).headers
    assert [] == [name for name in headers if "ratelimit" in name or "retry" in name]


def test_openai_tells_used_and_requested_when_it_refuses():
    """Its own words, which say how long to wait as its headers do."""
    given = answer("/v1/chat/completions", fault=Fault.rate_limited(1.0), quota=quota(11))
    error = told(given)["error"]
    assert ("tokens", "rate_limit_exceeded") == (error["type"], error["code"])
    assert "(TPM): Limit 60, Used 50, Requested 11. Please try again in 1s." in error["message"]


@pytest.mark.parametrize("path", PATHS[:2])
def test_a_request_larger_than_the_limit_is_one_that_no_retry_can_help(path):
    """OpenAI says so; Anthropic words it as any other."""
    given = answer(path, fault=Fault.rate_limited(None), quota=quota(61))
    verdict = classify_response(given.status, given.headers, given.pieces[0])
    assert (429, FailureKind.RATE_LIMIT) == (given.status, verdict.kind)
    assert verdict.retryable == (path == "/v1/messages")


def test_usage_is_what_a_limit_on_tokens_counts():
    """Prompt and answer; of embeddings and insertions the text alone."""
    embeddings = ask("/v1/embeddings", {"input": ["one two", "three"]})
    assert [6, 6, 6, 6, 3, 3] == [each.dialect.tokens(each) for each in (*map(ask, PATHS), embeddings)]


def test_the_model_is_asked_once():
    """However often its answer's length is looked at."""
    asked = []
    heard = Responder(lambda prompt: asked.append(prompt) or "It is.").parse(ask(PATHS[0]).request)
    heard.dialect.tokens(heard)
    respond_to(heard, OK, None)
    assert ["What is it?"] == asked


def test_every_route_has_an_answer():
    """With the method that it takes."""
    assert {200} == {answer(path, method=method).status for path, (method, _) in ROUTES.items()}
