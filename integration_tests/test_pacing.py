"""Pacing against a server that truly limits: the limit is used, and hardly a request is refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig, RetryConfig
from resilience_kit.errors import CredentialRefusedError
from resilience_kit.http.pacing import Pacing
from resilience_kit.testing.provider import FakeAIProvider, ProviderLimits

CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
LIMIT, CALLERS, SECONDS = 600, 20, 8.0


class Client:
    """Callers who ask again and again, with a pacing or without."""

    def __init__(self, kit: AIServiceResilience, client: httpx.AsyncClient, pacing: Pacing | None) -> None:
        self.client, self.pacing, self.served, self.refused = client, pacing, 0, 0
        guards = () if pacing is None else (pacing.guard(lambda request: request),)
        retry = RetryConfig(max_attempts=100, base_delay=0.1, max_delay=0.5)
        config = ResilienceConfig(retry=retry, circuit_breaker=None, guards=guards)
        self.send = kit.with_resilience("chat", custom_config=config)(self._send)

    async def _send(self, request: httpx.Request) -> None:
        response = await self.client.send(request)
        if self.pacing is not None:
            self.pacing.observe(response.headers)
        self.served += response.status_code == 200
        self.refused += response.status_code == 429
        response.raise_for_status()

    async def ask(self, until: float, key: str) -> None:
        """One caller."""
        while time.monotonic() < until:
            headers: dict[str, Any] = {"Authorization": f"Bearer {key}"}
            await self.send(self.client.build_request("POST", "/v1/chat/completions", json=CHAT, headers=headers))


@pytest.mark.parametrize("paced", [True, False])
async def test_a_limit_is_used_without_429s(kit: AIServiceResilience, paced: bool) -> None:
    """600 a minute, of which this key has used up most: from there on, ten a second. Without pacing, 429s by the dozen."""
    with FakeAIProvider(limits=ProviderLimits(requests_per_minute=LIMIT)) as provider:
        async with httpx.AsyncClient(base_url=provider.url, timeout=30.0) as plain:
            client = Client(kit, plain, Pacing() if paced else None)
            for _ in range(LIMIT * 9 // 10):
                await plain.post("/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer sk-made-up"})
            await client.ask(time.monotonic() + 0.001, "sk-made-up")
            began = time.monotonic()
            client.served = client.refused = 0
            tasks = [asyncio.ensure_future(client.ask(began + SECONDS, "sk-made-up")) for _ in range(CALLERS)]
            await asyncio.sleep(SECONDS)
            served, refused = client.served, client.refused
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if paced:
        assert refused == 0
        assert served >= 0.95 * SECONDS * LIMIT / 60 - 1
    else:
        assert refused > 20


async def test_a_revoked_key_is_asked_for_once(kit: AIServiceResilience) -> None:
    """By one caller instead of by all; another key is served at once."""
    with FakeAIProvider(api_key="sk-good") as provider:
        async with httpx.AsyncClient(base_url=provider.url, timeout=30.0) as plain:
            client = Client(kit, plain, Pacing())
            with pytest.raises(httpx.HTTPStatusError):
                await client.ask(time.monotonic() + 1.0, "sk-revoked")
            answers = await asyncio.gather(
                *(client.ask(time.monotonic() + 1.0, "sk-revoked") for _ in range(50)), return_exceptions=True
            )
            assert {CredentialRefusedError} == {type(answer) for answer in answers}
            assert 1 == provider.request_count
            await client.ask(time.monotonic() + 0.01, "sk-good")
            assert client.served >= 1
