"""The official OpenAI SDK against the fake provider: how each fault looks to its user, and to the classifier."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import openai
import pytest

from resilience_kit.classification import classify
from resilience_kit.outcome import FailureKind
from resilience_kit.testing.provider import OK, FakeAIProvider, Fault

ANSWER = "The answer is forty-two, as far as anybody knows."
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the answer?"}]
CHAT = {"model": "gpt-fake", "messages": MESSAGES}

Ask = Callable[[FakeAIProvider, float], str]


def settings(provider: FakeAIProvider, timeout: float) -> dict[str, object]:
    """A client without retries of its own."""
    return {"base_url": provider.openai_url, "api_key": "any", "max_retries": 0, "timeout": timeout}


def ask_plain(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A plain chat completion, synchronous."""
    with openai.OpenAI(**settings(provider, timeout)) as client:
        return client.chat.completions.create(**CHAT).choices[0].message.content


def ask_stream(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A streamed chat completion, synchronous."""
    with openai.OpenAI(**settings(provider, timeout)) as client:
        return "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**CHAT, stream=True))


def ask_plain_async(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A plain chat completion, asynchronous."""

    async def ask() -> str:
        async with openai.AsyncOpenAI(**settings(provider, timeout)) as client:
            return (await client.chat.completions.create(**CHAT)).choices[0].message.content

    return asyncio.run(ask())


def ask_stream_async(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A streamed chat completion, asynchronous."""

    async def ask() -> str:
        async with openai.AsyncOpenAI(**settings(provider, timeout)) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    return asyncio.run(ask())


def embed(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """Embeddings, synchronous; the SDK asks for base64 and unpacks it."""
    with openai.OpenAI(**settings(provider, timeout)) as client:
        return str(len(client.embeddings.create(model="embed-fake", input=["one", "two words"]).data))


PLAIN = [ask_plain, ask_plain_async]
STREAMED = [ask_stream, ask_stream_async]


@pytest.fixture
def provider() -> Iterator[FakeAIProvider]:
    """A provider for one test."""
    with FakeAIProvider() as running:
        yield running


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
def test_a_good_answer_reaches_the_sdk_whole(provider: FakeAIProvider, ask: Ask) -> None:
    """Plain and streamed, sync and async, the SDK reads the same text."""
    assert ask(provider, 5.0) == ANSWER


def test_usage_counts_words_and_is_the_same_every_time(provider: FakeAIProvider) -> None:
    """Two equal prompts have equal usage: the words of the prompt and of the answer."""
    with openai.OpenAI(**settings(provider, 5.0)) as client:
        first, second = (client.chat.completions.create(**CHAT).usage for _ in range(2))
    assert (6, 9, 15) == (first.prompt_tokens, first.completion_tokens, first.total_tokens)
    assert first == second


def test_a_stream_tells_its_usage_when_asked(provider: FakeAIProvider) -> None:
    """`include_usage` adds a last chunk with usage and without choices."""
    with openai.OpenAI(**settings(provider, 5.0)) as client:
        *_, last = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    assert ([], 15) == (last.choices, last.usage.total_tokens)


def test_max_tokens_cuts_the_answer(provider: FakeAIProvider) -> None:
    """Three tokens are three words, and the finish reason says that it was cut."""
    with openai.OpenAI(**settings(provider, 5.0)) as client:
        choice = client.chat.completions.create(**CHAT, max_completion_tokens=3).choices[0]
    assert ("The answer is", "length") == (choice.message.content, choice.finish_reason)


def test_embeddings_are_unit_vectors_and_repeatable(provider: FakeAIProvider) -> None:
    """The same text has the same vector of length one, in the dimensions asked for."""
    with openai.OpenAI(**settings(provider, 5.0)) as client:
        answer = client.embeddings.create(model="embed-fake", input=["one", "two words", "one"], dimensions=16)
        plain = client.embeddings.create(model="embed-fake", input="one", dimensions=16, encoding_format="float")
    first, second, third = (entry.embedding for entry in answer.data)
    assert first == third != second
    assert first == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert pytest.approx(1.0, abs=1e-6) == sum(value * value for value in first)
    assert 4 == answer.usage.total_tokens


def test_the_sdk_finds_request_id_and_rate_limits(provider: FakeAIProvider) -> None:
    """Request ids count up, and the limits are there in OpenAI's own spelling."""
    with openai.OpenAI(**settings(provider, 5.0)) as client:
        raw = client.chat.completions.with_raw_response.create(**CHAT)
    assert "req_000001" == raw.headers["x-request-id"]
    assert ("500", "499", "0.12s") == tuple(
        raw.headers[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")
    )


REFUSALS = [
    (Fault.rate_limited(0.25), openai.RateLimitError, FailureKind.RATE_LIMIT, True, 0.25),
    (Fault.rate_limited(3), openai.RateLimitError, FailureKind.RATE_LIMIT, True, 3.0),
    (Fault.insufficient_quota(), openai.RateLimitError, FailureKind.QUOTA, False, None),
    (Fault.server_error(), openai.InternalServerError, FailureKind.SERVER_ERROR, True, None),
    (Fault.unavailable(), openai.InternalServerError, FailureKind.OVERLOADED, True, None),
    (Fault.overloaded(2), openai.InternalServerError, FailureKind.OVERLOADED, True, 2.0),
]


@pytest.mark.parametrize("ask", [*PLAIN, *STREAMED, embed])
@pytest.mark.parametrize(("fault", "raised", "kind", "retryable", "hint"), REFUSALS)
def test_a_refusal_has_its_class_and_its_kind(
    provider: FakeAIProvider,
    ask: Ask,
    fault: Fault,
    raised: type[Exception],
    kind: FailureKind,
    retryable: bool,
    hint: float | None,
) -> None:
    """Every refusal becomes the SDK's own class, and the classifier reads kind, retryability and hint out of it."""
    provider.faults = fault
    with pytest.raises(raised) as caught:
        ask(provider, 5.0)
    verdict = classify(caught.value)
    assert (kind, retryable, hint) == (verdict.kind, verdict.retryable, verdict.retry_after)


@pytest.mark.parametrize("ask", [*PLAIN, *STREAMED, embed])
def test_a_hung_request_is_a_timeout(provider: FakeAIProvider, ask: Ask) -> None:
    """Silence becomes APITimeoutError when the client's own timeout is over."""
    provider.faults = Fault.hang()
    with pytest.raises(openai.APITimeoutError) as caught:
        ask(provider, 0.15)
    assert FailureKind.TIMEOUT == classify(caught.value).kind


def test_a_slow_answer_is_a_good_answer(provider: FakeAIProvider) -> None:
    """Latency alone is no error as long as the client has patience."""
    provider.faults = Fault.slow(0.1)
    assert ask_plain(provider) == ANSWER


@pytest.mark.parametrize("ask", [*PLAIN, *STREAMED, embed])
def test_a_reset_is_a_connection_error(provider: FakeAIProvider, ask: Ask) -> None:
    """A reset before the first byte becomes APIConnectionError."""
    provider.faults = Fault.reset()
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(provider, 5.0)
    assert FailureKind.CONNECTION == classify(caught.value).kind


@pytest.mark.parametrize("ask", [*PLAIN, *STREAMED, embed])
def test_a_refused_connection_is_a_connection_error(provider: FakeAIProvider, ask: Ask) -> None:
    """While the port is closed the SDK cannot connect; afterwards the same address answers again."""
    with provider.refusing(), pytest.raises(openai.APIConnectionError) as caught:
        ask(provider, 5.0)
    assert FailureKind.CONNECTION == classify(caught.value).kind
    assert ask(provider, 5.0)


@pytest.mark.parametrize("ask", [*PLAIN, *STREAMED])
@pytest.mark.parametrize("fault", [Fault.truncated(after=3), Fault.reset(after=3)])
def test_an_answer_cut_short_is_a_connection_error(provider: FakeAIProvider, ask: Ask, fault: Fault) -> None:
    """The HTTP framing shows the cut, whatever class the SDK lets through."""
    provider.faults = fault
    with pytest.raises(Exception) as caught:  # SDK versions differ: APIConnectionError or the transport's own
        ask(provider, 5.0)
    verdict = classify(caught.value)
    assert (FailureKind.CONNECTION, True) == (verdict.kind, verdict.retryable)


@pytest.mark.parametrize("ask", STREAMED)
def test_a_stream_that_hangs_midway_is_a_timeout(provider: FakeAIProvider, ask: Ask) -> None:
    """Silence between two events is seen as a timeout, too."""
    provider.faults = Fault.hang(after=3)
    with pytest.raises(Exception) as caught:  # SDK versions differ: APITimeoutError or the transport's own
        ask(provider, 0.15)
    assert FailureKind.TIMEOUT == classify(caught.value).kind


@pytest.mark.parametrize("ask", STREAMED)
def test_a_clean_end_without_done_goes_unnoticed(provider: FakeAIProvider, ask: Ask) -> None:
    """The SDK raises nothing: who needs to know must look at the finish reason or the transport."""
    provider.faults = Fault.unfinished(after=3)
    assert ask(provider, 5.0) == "The answer"


@pytest.mark.parametrize("ask", STREAMED)
def test_an_error_in_a_stream_is_classified_by_its_body(provider: FakeAIProvider, ask: Ask) -> None:
    """The status was 200; the error object in the stream decides."""
    provider.faults = Fault.error_in_body(after=3)
    with pytest.raises(openai.APIError) as caught:
        ask(provider, 5.0)
    assert FailureKind.SERVER_ERROR == classify(caught.value).kind


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
def test_a_malformed_body_is_a_bare_decode_error(provider: FakeAIProvider, ask: Ask) -> None:
    """The SDK does not wrap it."""
    provider.faults = Fault.malformed()
    with pytest.raises(json.JSONDecodeError):
        ask(provider, 5.0)


def test_the_sdks_own_retries_are_on_record(provider: FakeAIProvider) -> None:
    """With retries on, the SDK's retry count is seen with each request, and the scripted faults come in order."""
    provider.faults = [Fault.rate_limited(0.01), Fault.rate_limited(0.01), OK]
    with openai.OpenAI(base_url=provider.openai_url, api_key="any", max_retries=2) as client:
        client.chat.completions.create(**CHAT, extra_headers={"Idempotency-Key": "one-call"})
    assert [0, 1, 2] == [request.retry_count for request in provider.requests]
    assert ["one-call"] * 3 == [request.idempotency_key for request in provider.requests]
    assert [429, 429, 200] == [{"ok": 200, "rate_limited": 429}[request.fault.kind] for request in provider.requests]


def test_a_wrong_key_is_refused(provider: FakeAIProvider) -> None:
    """With `api_key` given, another key is an authentication error, not retryable."""
    with FakeAIProvider(api_key="right") as strict, pytest.raises(openai.AuthenticationError) as caught:
        ask_plain(strict)
    assert FailureKind.AUTH == classify(caught.value).kind
