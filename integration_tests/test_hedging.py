"""Hedged calls against a real server: the tail is cut, and the loser's connection is given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import ModuleType

import httpx
import httpx2
import pytest
from openai import AsyncOpenAI

from resilience_kit import AIServiceResilience, ResilienceConfig, idempotency_key
from resilience_kit.errors import DeadlineExceededError
from resilience_kit.policies.hedge import HedgeConfig
from resilience_kit.testing.provider import FakeAIProvider, ReceivedRequest, SeededLatency

CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
HEDGED = ResilienceConfig(hedge=HedgeConfig(delay=0.1), retry=None)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> ModuleType:
    """Either library."""
    return request.param


def slow_at(*turns: int, seconds: float = 20.0) -> Callable[[ReceivedRequest], float]:
    """Requests that take long, by their turns from 1; the others are answered at once."""
    count = iter(range(1, 10_000))
    return lambda _request: seconds if next(count) in turns else 0.0


async def idle(provider: FakeAIProvider, connections: int) -> int:
    """How many connections the server has, once it has noticed those that were closed."""
    for _ in range(100):
        if provider.open_connections <= connections:
            break
        await asyncio.sleep(0.02)
    return provider.open_connections


async def test_the_second_request_answers_and_the_first_ones_connection_is_gone(
    kit: AIServiceResilience, http: ModuleType
) -> None:
    """Before the caller has the answer, not at some later time; the pool has room for the next call."""
    limits = http.Limits(max_connections=2)
    with FakeAIProvider(latency=slow_at(1, 3, 5)) as provider:
        async with http.AsyncClient(base_url=provider.url, limits=limits, timeout=30.0) as client:

            @kit.with_resilience("chat", custom_config=HEDGED)
            async def chat() -> str:
                headers = {"Idempotency-Key": str(idempotency_key())}
                return (await client.post("/v1/chat/completions", json=CHAT, headers=headers)).json()["object"]

            began = time.monotonic()
            for _ in range(3):
                assert "chat.completion" == await chat()
                pool = client._transport._pool
                assert [True] == [connection.is_idle() for connection in pool.connections]
            assert time.monotonic() - began < 5.0
            assert 1 == await idle(provider, 1)
        keys = [request.headers["idempotency-key"] for request in provider.requests]
        assert (6, 3) == (len(keys), len(set(keys)))
        assert 0 == await idle(provider, 0)
    assert 1 == len(asyncio.all_tasks())


async def test_a_cancelled_caller_and_a_deadline_leave_nothing(kit: AIServiceResilience) -> None:
    """Both requests are ended, and no task is left."""
    with FakeAIProvider(latency=20.0) as provider:
        async with httpx.AsyncClient(base_url=provider.url, timeout=30.0) as client:
            config = HEDGED.replace(deadline=0.5)

            @kit.with_resilience("chat", custom_config=config)
            async def chat() -> None:
                await client.post("/v1/chat/completions", json=CHAT)

            with pytest.raises(DeadlineExceededError):
                await chat()
            task = asyncio.ensure_future(chat())
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (4, 0) == (provider.request_count, await idle(provider, 0))
    assert 1 == len(asyncio.all_tasks())


async def test_an_sdks_calls_are_hedged(kit: AIServiceResilience) -> None:
    """The official client, unchanged; its own retries are off, as they should be under ours."""
    with FakeAIProvider(latency=slow_at(1)) as provider:
        async with AsyncOpenAI(api_key="sk-made-up", base_url=provider.openai_url, max_retries=0) as client:
            answer = await kit.execute_with_resilience(
                lambda: client.chat.completions.create(model="gpt-fake", messages=[{"role": "user", "content": "Hello"}]),
                "chat",
                custom_config=HEDGED,
            )
        assert answer.choices[0].message.content
        assert 2 == provider.request_count


async def test_the_tail_is_halved_for_a_few_per_cent_more_requests(kit: AIServiceResilience) -> None:
    """2 % of the answers take twenty times as long; the delay is what the operation itself has seen."""
    latency = SeededLatency(0.02, spread=0.1)
    turns = [latency.draw(turn) for turn in range(1, 901)]
    slow = sorted(turns)[round(0.99 * len(turns))]
    seconds = []
    with FakeAIProvider(latency=latency) as provider:
        async with httpx.AsyncClient(base_url=provider.url, timeout=30.0) as client:

            @kit.with_resilience("chat", custom_config=ResilienceConfig(hedge=HedgeConfig()))
            async def chat() -> None:
                await client.post("/v1/chat/completions", json=CHAT)

            async def caller() -> None:
                for _ in range(200):
                    began = time.monotonic()
                    await chat()
                    seconds.append(time.monotonic() - began)

            await asyncio.gather(*(caller() for _ in range(4)))
        assert provider.request_count < 1.05 * len(seconds) + 10
    assert sorted(seconds)[round(0.99 * len(seconds)) - 1] < slow / 2
