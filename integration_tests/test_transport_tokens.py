"""Tokens a minute on a transport, with the official clients and nothing else changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.http import AsyncResilientTransport, ResilientTransport, max_tokens_estimate, tokens_used
from resilience_kit.limits import RateLimitConfig, RateLimiter
from resilience_kit.testing.provider import FakeAIProvider, Fault

WORDS = [{"role": "user", "content": "What is the answer?"}]
USED = 4 + 6  # words of the question and of the answer, which are tokens of the provider


@pytest.fixture
def provider() -> Iterator[FakeAIProvider]:
    """One that answers in six words."""
    with FakeAIProvider(answer="It is forty two, I think.") as running:
        yield running


class Account:
    """A bucket that nothing comes back to, and the transports' options."""

    def __init__(self, kit: AIServiceResilience) -> None:
        limit = RateLimitConfig(rate=1.0, period=1e9, burst=10_000, cost=max_tokens_estimate, usage=tokens_used)
        self.limiter = RateLimiter(limit)
        self.options = {"config": ResilienceConfig(rate_limit=self.limiter), "resilience": kit, "pacing": None}

    @property
    def spent(self) -> int:
        """Tokens that are gone."""
        return round(10_000 - self.limiter._token_buckets.buckets[0].level)


@pytest.fixture
def account(kit: AIServiceResilience) -> Account:
    """One for each test."""
    return Account(kit)


@pytest.mark.parametrize("stream", [False, True])
def test_openai_takes_what_it_used(provider: FakeAIProvider, account: Account, *, stream: bool) -> None:
    """Of a stream, when it was asked to tell; a retry's estimate is corrected, too, once it has gone well."""
    given: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    http = openai.DefaultHttpxClient(transport=ResilientTransport(**account.options))
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0, http_client=http) as client:
        answer: Any = client.chat.completions.create(model="m", messages=WORDS, max_tokens=500, **given)
        if stream:
            assert account.spent > 500
            *_, last = answer
            assert USED == last.usage.total_tokens
        assert USED == account.spent
        client.embeddings.create(model="m", input="What is the answer?")
        assert USED + 4 == account.spent


async def test_openai_async_without_usage_takes_the_estimate(provider: FakeAIProvider, account: Account) -> None:
    """Nobody knows better: the text, which is some bytes, and the answer that was allowed."""
    http = openai.DefaultAsyncHttpxClient(transport=AsyncResilientTransport(**account.options))
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0, http_client=http) as client:
        async for _ in await client.chat.completions.create(model="m", messages=WORDS, max_tokens=500, stream=True):
            pass
        assert 500 + len("What is the answer?") < account.spent < 650


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_takes_what_it_used(provider: FakeAIProvider, account: Account, *, stream: bool) -> None:
    """Its streams tell without being asked: the input in the first event, the output in a later one."""
    provider.faults = [Fault.overloaded()]
    http = anthropic.DefaultAsyncHttpxClient(transport=AsyncResilientTransport(**account.options))
    async with anthropic.AsyncAnthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0, http_client=http) as client:
        answer: Any = await client.messages.create(model="m", messages=WORDS, max_tokens=500, stream=stream)
        if stream:
            async for _ in answer:
                pass
        assert 500 < account.spent - USED < 650  # of the attempt that failed nobody knows, so its estimate stands
