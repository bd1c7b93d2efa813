"""The official Anthropic SDK against the fake provider: how each fault looks to its user, and to the classifier."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import anthropic
import pytest

from resilience_kit.classification import classify
from resilience_kit.outcome import FailureKind
from resilience_kit.testing.provider import OK, FakeAIProvider, Fault

ANSWER = "The answer is forty-two, as far as anybody knows."
ASKED = {
    "model": "claude-fake",
    "max_tokens": 50,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "What is the answer?"}],
}

Ask = Callable[[FakeAIProvider, float], str]


def settings(provider: FakeAIProvider, timeout: float) -> dict[str, object]:
    """A client without retries of its own."""
    return {"base_url": provider.anthropic_url, "api_key": "any", "max_retries": 0, "timeout": timeout}


def ask_plain(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A plain message, synchronous."""
    with anthropic.Anthropic(**settings(provider, timeout)) as client:
        return client.messages.create(**ASKED).content[0].text


def ask_stream(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A streamed message through the SDK's helper, synchronous."""
    with anthropic.Anthropic(**settings(provider, timeout)) as client, client.messages.stream(**ASKED) as stream:
        return "".join(stream.text_stream)


def ask_plain_async(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A plain message, asynchronous."""

    async def ask() -> str:
        async with anthropic.AsyncAnthropic(**settings(provider, timeout)) as client:
            return (await client.messages.create(**ASKED)).content[0].text

    return asyncio.run(ask())


def ask_stream_async(provider: FakeAIProvider, timeout: float = 5.0) -> str:
    """A streamed message through the SDK's helper, asynchronous."""

    async def ask() -> str:
        async with anthropic.AsyncAnthropic(**settings(provider, timeout)) as client, client.messages.stream(**ASKED) as stream:
            return "".join([text async for text in stream.text_stream])

    return asyncio.run(ask())


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


def test_usage_counts_words_plain_and_streamed(provider: FakeAIProvider) -> None:
    """The words of system prompt and messages, and those of the answer."""
    with anthropic.Anthropic(**settings(provider, 5.0)) as client:
        plain = client.messages.create(**ASKED).usage
        with client.messages.stream(**ASKED) as stream:
            streamed = stream.get_final_message().usage
    assert (6, 9) == (plain.input_tokens, plain.output_tokens) == (streamed.input_tokens, streamed.output_tokens)


def test_max_tokens_cuts_the_answer(provider: FakeAIProvider) -> None:
    """Three tokens are three words, and the stop reason says that it was cut."""
    with anthropic.Anthropic(**settings(provider, 5.0)) as client:
        message = client.messages.create(**ASKED | {"max_tokens": 3})
    assert ("The answer is", "max_tokens") == (message.content[0].text, message.stop_reason)


def test_the_sdk_finds_request_id_and_rate_limits(provider: FakeAIProvider) -> None:
    """Request ids count up, and the limits are there in Anthropic's own spelling."""
    with anthropic.Anthropic(**settings(provider, 5.0)) as client:
        raw = client.messages.with_raw_response.create(**ASKED)
    assert "req_000001" == raw.headers["request-id"]
    assert ("50", "49") == tuple(raw.headers[f"anthropic-ratelimit-requests-{name}"] for name in ("limit", "remaining"))


REFUSALS = [
    (Fault.rate_limited(2), anthropic.RateLimitError, FailureKind.RATE_LIMIT, True, 2.0),
    (Fault.rate_limited(0.25), anthropic.RateLimitError, FailureKind.RATE_LIMIT, True, 0.25),
    (Fault.insufficient_quota(), anthropic.BadRequestError, FailureKind.QUOTA, False, None),
    (Fault.server_error(), anthropic.InternalServerError, FailureKind.SERVER_ERROR, True, None),
    (Fault.unavailable(), anthropic.InternalServerError, FailureKind.TRANSIENT, True, None),
    (Fault.overloaded(2), anthropic.InternalServerError, FailureKind.OVERLOADED, True, 2.0),
]


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
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


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
def test_a_hung_request_is_a_timeout(provider: FakeAIProvider, ask: Ask) -> None:
    """Silence becomes APITimeoutError when the client's own timeout is over."""
    provider.faults = Fault.hang()
    with pytest.raises(anthropic.APITimeoutError) as caught:
        ask(provider, 0.15)
    assert FailureKind.TIMEOUT == classify(caught.value).kind


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
def test_a_reset_is_a_connection_error(provider: FakeAIProvider, ask: Ask) -> None:
    """A reset before the first byte becomes APIConnectionError."""
    provider.faults = Fault.reset()
    with pytest.raises(anthropic.APIConnectionError) as caught:
        ask(provider, 5.0)
    assert FailureKind.CONNECTION == classify(caught.value).kind


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
def test_a_refused_connection_is_a_connection_error(provider: FakeAIProvider, ask: Ask) -> None:
    """While the port is closed the SDK cannot connect; afterwards the same address answers again."""
    with provider.refusing(), pytest.raises(anthropic.APIConnectionError) as caught:
        ask(provider, 5.0)
    assert FailureKind.CONNECTION == classify(caught.value).kind
    assert ask(provider, 5.0) == ANSWER


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
@pytest.mark.parametrize("fault", [Fault.truncated(after=4), Fault.reset(after=4)])
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
    provider.faults = Fault.hang(after=4)
    with pytest.raises(Exception) as caught:  # SDK versions differ: APITimeoutError or the transport's own
        ask(provider, 0.15)
    assert FailureKind.TIMEOUT == classify(caught.value).kind


@pytest.mark.parametrize("ask", STREAMED)
def test_a_clean_end_without_message_stop_goes_unnoticed(provider: FakeAIProvider, ask: Ask) -> None:
    """The SDK raises nothing: who needs to know must look at the stop reason or the transport."""
    provider.faults = Fault.unfinished(after=5)
    assert ask(provider, 5.0) == "The answer"


@pytest.mark.parametrize("ask", STREAMED)
def test_an_error_in_a_stream_is_classified_by_its_body(provider: FakeAIProvider, ask: Ask) -> None:
    """The status was 200; the error event in the stream decides."""
    provider.faults = Fault.error_in_body(after=4)
    with pytest.raises(anthropic.APIError) as caught:
        ask(provider, 5.0)
    assert FailureKind.OVERLOADED == classify(caught.value).kind


@pytest.mark.parametrize("ask", PLAIN + STREAMED)
def test_a_malformed_body_is_a_bare_decode_error(provider: FakeAIProvider, ask: Ask) -> None:
    """The SDK does not wrap it."""
    provider.faults = Fault.malformed()
    with pytest.raises(json.JSONDecodeError):
        ask(provider, 5.0)


def test_the_sdks_own_retries_are_on_record(provider: FakeAIProvider) -> None:
    """With retries on, the SDK's retry count is seen with each request."""
    provider.faults = [Fault.rate_limited(0.01), OK]
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="any", max_retries=2) as client:
        client.messages.create(**ASKED)
    assert [0, 1] == [request.retry_count for request in provider.requests]


def test_a_wrong_key_is_refused() -> None:
    """With `api_key` given, another key is an authentication error, not retryable."""
    with FakeAIProvider(api_key="right") as strict, pytest.raises(anthropic.AuthenticationError) as caught:
        ask_plain(strict)
    assert FailureKind.AUTH == classify(caught.value).kind
