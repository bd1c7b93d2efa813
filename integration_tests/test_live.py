"""The real services, through a transport and through the JSON clients: one tiny completion and one tiny stream each.

Each costs a fraction of a cent, so they run only where a key is in the environment: `pytest -m live integration_tests`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import openai
import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig, RetryConfig
from resilience_kit.http import AsyncAPIClient, AsyncResilientTransport, tokens_used
from resilience_kit.http.pacing import Pacing

pytestmark = pytest.mark.live

ASKED: Mapping[str, Any] = {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 16}


class Service(NamedTuple):
    """A service that speaks as OpenAI does."""

    variable: str
    base_url: str
    model: str

    @property
    def key(self) -> str:
        """That of the environment; skips the test where there is none."""
        key = os.environ.get(self.variable, "").strip()
        return key or pytest.skip(f"needs {self.variable}")

    def transport(self, kit: AIServiceResilience) -> AsyncResilientTransport:
        """A transport of its own."""
        config = ResilienceConfig(retry=RetryConfig(max_attempts=3), deadline=40.0)
        return AsyncResilientTransport(config=config, resilience=kit, pacing=Pacing())

    def sdk(self, kit: AIServiceResilience, key: str) -> openai.AsyncOpenAI:
        """The official client on that transport."""
        http = openai.DefaultAsyncHttpxClient(transport=self.transport(kit))
        return openai.AsyncOpenAI(api_key=key, base_url=self.base_url, max_retries=0, http_client=http)

    def client(self, key: str) -> AsyncAPIClient:
        """The kit's own."""
        headers = {"Authorization": f"Bearer {key}"}
        return AsyncAPIClient(self.base_url, timeout=30.0, headers=headers, retry_config=RetryConfig(), deadline=40.0)


SERVICES = (
    Service("OPENAI_API_KEY", "https://api.openai.com/v1", "gpt-4o-mini"),
    Service("PERPLEXITY_API_KEY", "https://api.perplexity.ai", "sonar"),
)


@pytest.fixture(params=SERVICES, ids=["openai", "perplexity"])
def service(request: pytest.FixtureRequest) -> Service:
    """Each of them."""
    return request.param


async def test_a_completion_through_a_transport(service: Service, kit: AIServiceResilience) -> None:
    """One answer, counted under the service's host."""
    async with service.sdk(kit, service.key) as client:
        answer = await client.chat.completions.create(model=service.model, **ASKED)
    assert answer.choices[0].message.content
    assert (tokens_used(answer) or 0) > 0
    (host,) = kit.operations
    assert 1 == kit.get_metrics(host)["successful_calls"]


async def test_a_stream_through_a_transport(service: Service, kit: AIServiceResilience) -> None:
    """Observed to its end, which is a success."""
    async with service.sdk(kit, service.key) as client:
        stream = await client.chat.completions.create(model=service.model, stream=True, **ASKED)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text
    (host,) = kit.operations
    assert 1 == kit.get_metrics(host)["successful_calls"]


async def test_a_completion_through_the_client(service: Service) -> None:
    """JSON in, JSON out."""
    async with service.client(service.key) as client:
        answer = await client.post("/chat/completions", json={"model": service.model, **ASKED})
    assert answer["choices"][0]["message"]["content"]
    assert (tokens_used(answer) or 0) > 0


async def test_a_stream_through_the_client(service: Service) -> None:
    """Events with JSON."""
    asked = {"model": service.model, "stream": True, **ASKED}
    async with service.client(service.key) as client:
        events = [event.json() async for event in client.stream("POST", "/chat/completions", json=asked)]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
