"""Two hundred callers at once, before a provider of 12 000 tokens a minute: how many are answered, and how many end in a 429.

A part of `limits.py`, which writes its table. What it counts depends little on the machine; the seconds are those of one run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import httpx
import openai

from resilience_kit import AIServiceResilience
from resilience_kit.errors import Rejected
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.http.pacing import Pacing
from resilience_kit.limits import RateLimitConfig
from resilience_kit.testing import FakeAIProvider, ProviderLimits
from resilience_kit.testing.provider import FaultKind

CALLERS = 200
TOKENS, SECOND = 12_000, 1.0
#: Tokens of a request: what it may take, by an estimate, and what it does.
ESTIMATE, WORDS = 44.0, 8
BODY = {"model": "any", "messages": [{"role": "user", "content": f"say {WORDS}"}], "max_tokens": 42}
PATH = "/chat/completions"
THROTTLED = 429
UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)


@dataclass(frozen=True, slots=True)
class Burst:
    """What became of one contender's callers. `refused`: 429s on the way."""

    name: str
    asked: int
    answered: int
    ended: int
    refused: int
    seconds: float

    @property
    def good(self) -> bool:
        """Every caller has an answer."""
        return self.answered == self.asked

    def row(self) -> tuple[str, ...]:
        """Return a row of the table."""
        return (self.name, str(self.asked), str(self.answered), str(self.ended), str(self.refused), f"{self.seconds:.0f}")


HEADS = ("contender", "callers", "answered", "ended by a 429", "429s on the way", "seconds")
Run = Callable[[str, int], list[int]]


def limited() -> Any:
    """Return the kit's own limit, with estimates of four times the usage: nine seconds' worth instead of two."""
    config = RateLimitConfig(
        rate=TOKENS,
        period=60.0,
        burst=TOKENS / 60.0 * SECOND / 2,
        cost=ESTIMATE,
        usage=lambda response: response.json()["usage"]["total_tokens"],
    )
    return AIServiceResilience().with_resilience("limited", strategy="balanced", rate_limit=config)


def _protected_status(send: Callable[[], httpx.Response]) -> int:
    try:
        return send().status_code
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    except Rejected:
        return 0


def limit_in_threads(url: str, callers: int) -> list[int]:
    """Run each caller in a thread."""
    with httpx.Client(base_url=url, timeout=60.0, limits=UNLIMITED) as client, ThreadPoolExecutor(callers) as pool:
        send = limited()(lambda: client.post(PATH, json=BODY).raise_for_status())
        return list(pool.map(lambda _: _protected_status(send), range(callers)))


def limit_in_tasks(url: str, callers: int) -> list[int]:
    """Run each caller in a task."""

    async def run() -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=60.0, limits=UNLIMITED) as client:

            async def send() -> httpx.Response:
                return (await client.post(PATH, json=BODY)).raise_for_status()

            protected = limited()(send)

            async def one() -> int:
                try:
                    response: httpx.Response = await protected()
                except httpx.HTTPStatusError as error:
                    return error.response.status_code
                except Rejected:
                    return 0
                return response.status_code

            return await asyncio.gather(*(one() for _ in range(callers)))

    return asyncio.run(run())


def transport_in_threads(url: str, callers: int) -> list[int]:
    """Run threads with a transport with its defaults and no configured limit."""
    inner = httpx.HTTPTransport(limits=UNLIMITED)
    transport = ResilientTransport(inner, resilience=AIServiceResilience(), pacing=Pacing())
    with httpx.Client(base_url=url, timeout=60.0, transport=transport) as client, ThreadPoolExecutor(callers) as pool:
        return list(pool.map(lambda _: _protected_status(lambda: client.post(PATH, json=BODY)), range(callers)))


def transport_in_tasks(url: str, callers: int) -> list[int]:
    """Run tasks with the same transport."""

    async def run() -> list[int]:
        inner = httpx.AsyncHTTPTransport(limits=UNLIMITED)
        transport = AsyncResilientTransport(inner, resilience=AIServiceResilience(), pacing=Pacing())
        async with httpx.AsyncClient(base_url=url, timeout=60.0, transport=transport) as client:
            answers = await asyncio.gather(*(client.post(PATH, json=BODY) for _ in range(callers)))
        return [answer.status_code for answer in answers]

    return asyncio.run(run())


def sdk_in_tasks(url: str, callers: int) -> list[int]:
    """Run the OpenAI SDK with its defaults, which retry twice."""

    async def run() -> list[int]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", timeout=60.0) as client:

            async def one() -> int:
                try:
                    await client.chat.completions.create(**BODY)  # type: ignore[call-overload]  # a mapping of its arguments
                except openai.APIStatusError as error:
                    return error.status_code
                return 200

            return await asyncio.gather(*(one() for _ in range(callers)))

    return asyncio.run(run())


CONTENDERS: dict[str, Run] = {
    "kit, its own limit by estimates, tasks": limit_in_tasks,
    "kit, its own limit by estimates, threads": limit_in_threads,
    "kit, a transport, no limit given, tasks": transport_in_tasks,
    "kit, a transport, no limit given, threads": transport_in_threads,
    "openai SDK, its own retries": sdk_in_tasks,
}
#: What the promise is made of.
PROMISED = tuple(CONTENDERS)[:4]


def burst(name: str, callers: int = CALLERS) -> Burst:
    """One contender against a provider of its own."""
    limits = ProviderLimits(tokens_per_minute=TOKENS, burst_seconds=SECOND)
    with FakeAIProvider(limits=limits, latency=0.05, answer=lambda _: " ".join(["word"] * WORDS)) as provider:
        began = perf_counter()
        statuses = CONTENDERS[name](provider.openai_url, callers)
        seconds = perf_counter() - began
        refused = sum(request.fault.kind is FaultKind.RATE_LIMITED for request in provider.requests)
    answered, ended = (sum(status == each for status in statuses) for each in (200, THROTTLED))
    return Burst(name, callers, answered, ended, refused, seconds)


def bursts(scale: float = 1.0) -> Iterator[Burst]:
    """All of them, with fewer callers where it has to be quick."""
    return (burst(name, max(2, int(CALLERS * scale))) for name in CONTENDERS)
