"""Limits by the machine's own clock, in threads, tasks and several event loops, and against a server that truly limits."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.errors import BulkheadFullError, RateLimitExceededError
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.http.pacing import Pacing
from resilience_kit.limits import (
    AsyncExecutor,
    Bulkhead,
    BulkheadConfig,
    RateLimitConfig,
    RateLimiter,
    TokenBucketRateLimiter,
    priority,
)
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.testing.provider import FakeAIProvider, ProviderLimits

SECONDS = 10.0


def is_exact(starts: list[float], began: float, rate: float, burst: float) -> bool:
    """Whether as many started in ten seconds as burst and rate bring, to 1 %."""
    started, due = sum(start <= began + SECONDS for start in starts), burst + rate * SECONDS
    return abs(started - due) <= 0.01 * due


async def test_ten_seconds_of_tasks_and_threads_are_exact_to_one_percent(kit: AIServiceResilience) -> None:
    """More callers than the rate allows, all the time: tasks as guarded operations, by `execute`, and threads."""
    rate = 200.0
    guarded, by_hand = RateLimiter(RateLimitConfig(rate=rate, burst=20.0)), TokenBucketRateLimiter(rate, max_tokens=20.0)
    in_threads = RateLimiter(RateLimitConfig(rate=rate, burst=20.0))
    times: dict[str, list[float]] = {"guarded": [], "by hand": [], "threads": []}

    @kit.with_resilience("guarded", custom_config=ResilienceConfig(rate_limit=guarded))
    async def task() -> None:
        times["guarded"].append(time.monotonic())

    @kit.with_resilience("threads", custom_config=ResilienceConfig(rate_limit=in_threads))
    def plain() -> None:
        times["threads"].append(time.monotonic())

    def hand() -> None:
        times["by hand"].append(time.monotonic())

    began = time.monotonic()

    async def keep_on(call: object) -> None:
        while time.monotonic() < began + SECONDS:
            await call()  # type: ignore[operator]

    def keep_on_in_thread() -> None:
        while time.monotonic() < began + SECONDS:
            plain()

    threads = [threading.Thread(target=keep_on_in_thread) for _ in range(16)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(keep_on(each) for each in [task] * 50 + [lambda: by_hand.execute(hand)] * 50))
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert {"guarded": True, "by hand": True, "threads": True} == {
        name: is_exact(each, began, rate, 20.0) for name, each in times.items()
    }, {name: len(each) for name, each in times.items()}


async def test_128_threads_and_1000_tasks_of_two_loops_are_never_too_many(kit: AIServiceResilience) -> None:
    """And each of them is served."""
    room, lock = Bulkhead(BulkheadConfig(max_concurrent=12)), threading.Lock()
    inside = most = done = 0
    config = ResilienceConfig(bulkhead=room)

    def count(step: int) -> None:
        nonlocal inside, most, done
        with lock:
            inside += step
            most = max(most, inside)
            done += step < 0

    @kit.with_resilience("tasks", custom_config=config)
    async def task() -> None:
        count(1)
        await asyncio.sleep(0.0005)
        count(-1)

    @kit.with_resilience("threads", custom_config=config)
    def plain() -> None:
        count(1)
        time.sleep(0.0005)
        count(-1)

    async def many() -> None:
        await asyncio.gather(*(task() for _ in range(500)))

    threads = [threading.Thread(target=plain) for _ in range(128)] + [threading.Thread(target=asyncio.run, args=(many(),))]
    for thread in threads:
        thread.start()
    await many()
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert (1128, 12, 0, 0) == (done, most, room.in_use, room.waiting)


async def test_a_wait_ends_at_the_deadline(kit: AIServiceResilience) -> None:
    """In tasks and in threads."""
    room = Bulkhead(BulkheadConfig(max_concurrent=1))
    room.admit()
    config = ResilienceConfig(bulkhead=room, deadline=0.2)
    task = kit.with_resilience("tasks", custom_config=config)(asyncio.sleep)
    plain = kit.with_resilience("threads", custom_config=config)(time.sleep)
    for call in (lambda: task(0), lambda: asyncio.to_thread(plain, 0)):
        began = time.monotonic()
        with pytest.raises(BulkheadFullError):
            await call()
        assert 0.2 <= time.monotonic() - began < 2.0
    slow = kit.with_resilience("slow", custom_config=ResilienceConfig(rate_limit=RateLimitConfig(rate=0.1), deadline=5.0))(
        asyncio.sleep
    )
    await slow(0)
    began = time.monotonic()
    with pytest.raises(RateLimitExceededError):
        await slow(0)
    assert time.monotonic() - began < 2.0


async def test_ten_thousand_cancelled_tasks_leave_nothing(kit: AIServiceResilience) -> None:
    """No place, no timer, no task; the next caller starts on time."""
    limiter = RateLimiter(RateLimitConfig(rate=5.0, burst=1.0))
    call = kit.with_resilience("op", custom_config=ResilienceConfig(rate_limit=limiter, deadline=3600.0))(time.monotonic)
    call()
    began = time.monotonic()
    waiting = kit.with_resilience("op", custom_config=ResilienceConfig(rate_limit=limiter, deadline=3600.0))(asyncio.sleep)
    tasks = [asyncio.ensure_future(waiting(0)) for _ in range(10_000)]
    await asyncio.sleep(0)
    last = asyncio.ensure_future(waiting(0))
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    tasks[0].cancel()
    await asyncio.wait([*tasks, last])
    assert last.exception() is None
    assert time.monotonic() - began < 30.0  # in their order they would take half an hour
    assert 0 == limiter.waiting
    tasks.clear()
    gc.collect()
    assert 1 == len(asyncio.all_tasks())


async def test_a_loop_that_is_gone_holds_nobody_up(kit: AIServiceResilience) -> None:
    """Its tasks were never cancelled, and never will be."""
    room = Bulkhead(BulkheadConfig(max_concurrent=1))
    taken = room.admit()
    call = kit.with_resilience("op", custom_config=ResilienceConfig(bulkhead=room))(asyncio.sleep)
    abandoned, context = list[asyncio.Task[None]](), contextvars.copy_context()

    def leave_a_loop() -> None:
        loop = asyncio.new_event_loop()
        abandoned.append(loop.create_task(call(0), context=context))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    await asyncio.to_thread(leave_a_loop)
    mine = asyncio.ensure_future(call(0))
    await asyncio.sleep(0)
    taken.settle(Outcome(OutcomeKind.SUCCESS))
    await asyncio.wait_for(mine, 5.0)
    assert 0 == room.in_use
    abandoned[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # what asyncio looks at before it complains
    context.run(abandoned[0].get_coro().close)
    assert 0 == room.in_use


async def test_a_provider_that_limits_is_never_asked_too_often(kit: AIServiceResilience) -> None:
    """Requests and tokens a minute at once, with estimates that are corrected by what the answers say: no 429."""
    limits = ProviderLimits(requests_per_minute=3000, tokens_per_minute=60_000, burst_seconds=1.0)
    requests = RateLimitConfig(rate=3000.0, period=60.0, burst=25.0)
    tokens = RateLimitConfig(
        rate=60_000.0, period=60.0, burst=500.0, cost=lambda prompt: 60.0, usage=lambda answer: answer["usage"]["total_tokens"]
    )
    with FakeAIProvider(limits=limits) as provider:
        async with httpx.AsyncClient(base_url=provider.openai_url, headers={"authorization": "Bearer sk-one"}) as client:

            @kit.with_resilience("chat", custom_config=ResilienceConfig(retry=None, deadline=30.0, rate_limit=(requests, tokens)))
            async def chat(prompt: str) -> dict[str, dict[str, int]]:
                body = {"model": "gpt-fake", "messages": [{"role": "user", "content": prompt}], "max_tokens": 20}
                return (await client.post("/chat/completions", json=body)).raise_for_status().json()

            began = time.monotonic()
            answers = await asyncio.gather(*(chat("What is the answer to all of it?") for _ in range(150)))
    assert 150 == len(answers)
    assert time.monotonic() - began > 1.0


WORDS = {"model": "gpt-fake", "messages": [{"role": "user", "content": "Say ten words"}], "max_tokens": 40}


@pytest.fixture
def provider_of_tokens() -> Iterator[FakeAIProvider]:
    """Two hundred tokens a second, of which a request takes ten."""
    limits = ProviderLimits(tokens_per_minute=12_000, burst_seconds=1.0)
    with FakeAIProvider(limits=limits, latency=0.02, answer=lambda _: "one two three four five six seven") as running:
        yield running


async def test_calls_that_use_less_than_they_book_are_all_answered(kit: AIServiceResilience, provider_of_tokens: Any) -> None:
    """100 callers book 44 tokens each, 22 seconds' worth, and have ten seconds: what they use takes five, without a 429."""
    tokens = RateLimitConfig(
        rate=12_000.0, period=60.0, burst=100.0, cost=44.0, usage=lambda answer: answer["usage"]["total_tokens"]
    )
    unlimited = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=provider_of_tokens.openai_url, limits=unlimited, timeout=30.0) as client:

        @kit.with_resilience("chat", custom_config=ResilienceConfig(retry=None, deadline=10.0, rate_limit=tokens))
        async def chat() -> dict[str, Any]:
            return (await client.post("/chat/completions", json=WORDS)).raise_for_status().json()

        answers = await asyncio.gather(*(chat() for _ in range(100)))
    assert [10] * 100 == [answer["usage"]["total_tokens"] for answer in answers]


@pytest.mark.parametrize("way", ["tasks", "threads"])
async def test_no_call_of_a_transport_ends_in_a_429_that_it_could_wait_out(
    kit: AIServiceResilience, provider_of_tokens: Any, way: str
) -> None:
    """120 callers at once whom nobody has told of a limit, six seconds' worth: transports with their defaults answer them all."""
    url, unlimited, pacing = provider_of_tokens.openai_url, httpx.Limits(max_connections=None), Pacing()
    headers = {"authorization": "Bearer sk-one"}
    if way == "tasks":
        inner = httpx.AsyncHTTPTransport(limits=unlimited)
        transport = AsyncResilientTransport(inner, resilience=kit, pacing=pacing)
        async with httpx.AsyncClient(base_url=url, transport=transport, headers=headers, timeout=60.0) as client:
            answers = await asyncio.gather(*(client.post("/chat/completions", json=WORDS) for _ in range(120)))
    else:
        plain = ResilientTransport(httpx.HTTPTransport(limits=unlimited), resilience=kit, pacing=pacing)
        with (
            httpx.Client(base_url=url, transport=plain, headers=headers, timeout=60.0) as sync_client,
            ThreadPoolExecutor(120) as pool,
        ):
            asked = (pool.submit(sync_client.post, "/chat/completions", json=WORDS) for _ in range(120))
            answers = await asyncio.gather(*(asyncio.wrap_future(each) for each in asked))
    assert {200: 120} == Counter(answer.status_code for answer in answers)


async def test_priority_decides_who_waits(kit: AIServiceResilience) -> None:
    """High before normal before low, also from threads with a copied context."""
    executor, served = AsyncExecutor(1), []
    call = kit.with_resilience("op", bulkhead=executor)(served.append)
    taken = executor.admit()
    tasks = []
    for level in ("low", "normal", "high"):
        with priority(level):  # type: ignore[arg-type]
            tasks.append(asyncio.ensure_future(asyncio.to_thread(call, level)))
        while len(tasks) > executor._bulkhead.waiting:
            await asyncio.sleep(0.001)
    taken.settle(Outcome(OutcomeKind.SUCCESS))
    await asyncio.gather(*tasks)
    assert ["high", "normal", "low"] == served
