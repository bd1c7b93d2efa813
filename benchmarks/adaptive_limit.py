"""How an adaptive bulkhead finds what a server can take, of which it knows nothing, and follows when that changes.

Two kinds of server: a real one on loopback that refuses what is too much, and a simulated one that lets it wait. The second is on
a clock that jumps, since its only sign is latency, to which a busy machine adds its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Protocol, Self

import httpx

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.limits import AdaptiveLimit, Bulkhead, BulkheadConfig
from resilience_kit.testing import Capacity, FakeAIProvider, FakeClock

CHAT = {"model": "any", "messages": [{"role": "user", "content": "What is the answer?"}]}
#: Seconds: what an answer takes when the server has room, what counts as slow, between two looks, and what is called a while.
LATENCY, SLOW, LOOK, A_WHILE = 0.3, 0.345, 0.05, 1.0
CALLERS = 60
NEAR, SOON = 0.2, 5.0
#: From when on the server has how many places.
CHANGES = ((0.0, 20), (12.0, 8), (24.0, 30))
LENGTH = 36.0


@dataclass(frozen=True, slots=True)
class Look:
    """The limit at a moment, and the answers and refusals since the beginning."""

    at: float
    limit: int
    answered: int
    refused: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What became of one capacity.

    `mean`: of the limit in its last half. `soon`: seconds until the mean of a while was near the capacity, None for never.
    `answered`: the share of what the server could have answered. `refused`: the share of the requests.
    """

    capacity: int
    mean: float
    soon: float | None
    answered: float
    refused: float

    @property
    def good(self) -> bool:
        """Whether the limit was near enough, and soon enough."""
        return abs(self.mean / self.capacity - 1.0) <= NEAR and self.soon is not None and self.soon <= SOON


@dataclass(frozen=True, slots=True)
class Course:
    """A whole run: the capacity by time, and the looks."""

    name: str
    changes: Sequence[tuple[float, int]]
    length: float
    looks: list[Look] = field(default_factory=list)

    def phases(self) -> Iterator[Phase]:
        """One for each capacity."""
        ends = [*(start for start, _ in self.changes[1:]), self.length]
        for (start, capacity), end in zip(self.changes, ends, strict=True):
            yield self._phase(start, end, capacity)

    def to_json(self) -> dict[str, Any]:
        """Return what plot.py draws."""
        return asdict(self)

    def _phase(self, start: float, end: float, capacity: int) -> Phase:
        looks = self._between(start, end)
        answered = looks[-1].answered - looks[0].answered
        refused = looks[-1].refused - looks[0].refused
        return Phase(
            capacity,
            fmean(look.limit for look in self._between((start + end) / 2, end)),
            next((look.at - start for look in looks if self._stays_near(look.at, end, capacity)), None),
            answered / (capacity / LATENCY * (end - start)),
            refused / max(1, answered + refused),
        )

    def _stays_near(self, at: float, end: float, capacity: int) -> bool:
        looks = self._between(at, at + A_WHILE)
        return at + A_WHILE <= end and abs(fmean(look.limit for look in looks) / capacity - 1.0) <= NEAR

    def _between(self, start: float, end: float) -> list[Look]:
        return [look for look in self.looks if start <= look.at < end]


class Server(Protocol):
    """Something with a capacity, which may change."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...
    async def have(self, capacity: int) -> None:
        """Another number of places from now on."""

    async def answer(self) -> None:
        """One request. Raises `HTTPStatusError` when it is refused."""


class Refusing:
    """The fake provider, that answers 529 to whoever finds no place; through a real client and real sockets."""

    def __init__(self) -> None:
        self._provider, self._exits = FakeAIProvider(latency=LATENCY), AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self._provider)
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        client = httpx.AsyncClient(base_url=self._provider.openai_url, limits=unlimited, timeout=30.0)
        self._client = await self._exits.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def have(self, capacity: int) -> None:
        """As told, without a line."""
        self._provider.capacity = Capacity(capacity, max_queue=0)

    async def answer(self) -> None:
        """Send a chat completion."""
        response = await self._client.post("/chat/completions", json=CHAT)
        response.raise_for_status()


class Patient:
    """A simulated server before which there is a line without end."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._capacity, self._busy, self._line = clock, 1, 0, asyncio.Condition()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def have(self, capacity: int) -> None:
        """Whoever finds a place now takes it."""
        async with self._line:
            self._capacity = capacity
            self._line.notify_all()

    async def answer(self) -> None:
        """Wait in the line, and then for the answer."""
        async with self._line:
            await self._line.wait_for(lambda: self._busy < self._capacity)
            self._busy += 1
        await self._clock.sleep_async(LATENCY)
        async with self._line:
            self._busy -= 1
            self._line.notify()


class Run:
    """Callers who want one answer after the other, before an adaptive bulkhead and a server."""

    def __init__(self, course: Course, adaptive: AdaptiveLimit, clock: Clock = SYSTEM_CLOCK) -> None:
        self._course, self._clock = course, clock
        self._bulkhead = Bulkhead(BulkheadConfig(max_concurrent=CALLERS, adaptive=adaptive), clock=clock)
        self._answered = self._refused = 0

    async def go(self, server: Server) -> Course:
        """All of it."""
        config = ResilienceConfig(retry=None, circuit_breaker=None, bulkhead=self._bulkhead)
        protect = AIServiceResilience(clock=self._clock).with_resilience("adaptive", custom_config=config)
        async with server:
            callers = [asyncio.create_task(self._call(protect(server.answer))) for _ in range(CALLERS)]
            await self._watch(server)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        return self._course

    async def _call(self, ask: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await ask()
                self._answered += 1
            except httpx.HTTPStatusError:
                self._refused += 1

    async def _watch(self, server: Server) -> None:
        began, changes = self._clock.monotonic(), list(self._course.changes)
        while (now := self._clock.monotonic() - began) < self._course.length:
            if changes and now >= changes[0][0]:
                await server.have(changes.pop(0)[1])
            self._course.looks.append(Look(now, self._bulkhead.limit, self._answered, self._refused))
            await self._clock.sleep_async(LOOK)


def courses(scale: float = 1.0) -> Iterator[Course]:
    """Both kinds of server; `scale` shortens what takes real time."""
    changes = [(at * scale, capacity) for at, capacity in CHANGES]
    refusing = Course("refuses with 529", changes, LENGTH * scale)
    yield asyncio.run(Run(refusing, AdaptiveLimit(initial=4)).go(Refusing()))
    clock, minding = FakeClock(), AdaptiveLimit(initial=4, slow_call_duration=SLOW, backoff=0.8)
    waiting = Course("lets wait (simulated)", CHANGES, LENGTH)
    yield asyncio.run(Run(waiting, minding, clock).go(Patient(clock)))
