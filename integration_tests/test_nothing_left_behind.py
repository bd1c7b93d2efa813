"""After the calls nothing of them is there: no task, thread, timer, file descriptor, nor garbage for the collector."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    ResilienceConfig,
    RetryConfig,
    remaining_time,
)
from resilience_kit.errors import StreamInterruptedError
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from resilience_kit.testing.provider import FakeAIProvider, Fault, ReceivedRequest

CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "Hi"}]}


def open_files() -> int:
    """How many file descriptors this process has."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            return len(list(Path(folder).iterdir()))
    pytest.skip("nothing tells of file descriptors here")


def fault_of(request: ReceivedRequest) -> Fault:
    """The fault that a request asks for by its number."""
    faults = (None, Fault.unavailable(), Fault.rate_limited(0.01), Fault.hang(), Fault.reset(), Fault.truncated(after=2))
    return faults[request.number % len(faults)]


async def test_200_mixed_calls_leave_nothing(kit: AIServiceResilience) -> None:
    """Plain, async, streamed, threaded, nested, cut off, cancelled, left half-way, refused, answered by a fallback."""
    config = ResilienceConfig(
        retry=RetryConfig(max_attempts=3, base_delay=0.005, max_delay=0.01),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=8, recovery_timeout=0.05),
        attempt_timeout=0.1,
        deadline=0.5,
        idle_timeout=0.1,
        retry_budget=RetryBudgetConfig(),
    )
    loop = asyncio.get_running_loop()
    ends: Counter[str] = Counter()
    with FakeAIProvider(fault_of) as provider:
        await asyncio.to_thread(time.sleep, 0)  # the loop's own pool of threads stays
        gc.collect()
        threads, files = _threads_of_others(), open_files()
        await _make_calls(kit, config, provider, ends)
        await asyncio.sleep(0.4)  # the timer that all calls share ends by itself, and the provider sees its clients go
        gc.collect()
        assert {asyncio.current_task()} == asyncio.all_tasks()
        assert [] == [handle for handle in loop._scheduled if not handle.cancelled()]
        assert threads == _threads_of_others()
        assert (files, 0) == (open_files(), provider.open_connections)
    assert (200, True) == (sum(ends.values()), len(ends) >= 4)
    numbers = kit.get_metrics()["operations"]
    assert 200 == sum(each["total_calls"] for each in numbers.values()) - numbers["nested"]["total_calls"]
    assert all(kit.get_circuit_breaker(name).trials_in_flight == 0 for name in kit.operations)


def _threads_of_others() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


async def _make_calls(kit: AIServiceResilience, config: ResilienceConfig, provider: FakeAIProvider, ends: Counter[str]) -> None:
    url = f"{provider.openai_url}/chat/completions"
    streamed = {"json": CHAT | {"stream": True}}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=2.0))
        plain = stack.enter_context(httpx.Client(timeout=0.2))

        async def post() -> int:
            return (await client.post(url, json=CHAT)).raise_for_status().status_code

        def post_plain() -> int:
            return plain.post(url, json=CHAT, timeout=remaining_time()).raise_for_status().status_code

        async def lines() -> AsyncIterator[str]:
            async with client.stream("POST", url, **streamed) as response:
                async for line in response.raise_for_status().aiter_lines():
                    yield line

        def lines_plain() -> Iterator[str]:
            with plain.stream("POST", url, **streamed) as response:
                yield from response.raise_for_status().iter_lines()

        async def fallback(*_: object) -> int:
            return -1

        async def nested() -> int:
            return await kit.with_resilience("nested", custom_config=config)(post)()

        def protect(name: str, function: Callable, **more: object) -> Callable:
            return kit.with_resilience(name, custom_config=config, **more)(function)

        async def all_lines(stream: Callable[[], AsyncIterator[str]]) -> int:
            return len([line async for line in stream()])

        async def some_lines(stream: Callable[[], AsyncIterator[str]]) -> int:
            items = stream()
            try:
                return len(await anext(items))
            finally:
                await items.aclose()

        ways: list[Callable[[], Awaitable[object]]] = [
            protect("a", post),
            lambda: asyncio.to_thread(protect("b", post_plain)),
            lambda: all_lines(protect("c", lines)),
            lambda: some_lines(protect("d", lines)),
            lambda: asyncio.to_thread(lambda: list(protect("e", lines_plain)())),
            lambda: kit.execute_with_resilience(post_plain, "f", custom_config=config, in_thread=True),
            lambda: kit.execute_with_resilience(post, "g", custom_config=config),
            protect("h", post, fallback=fallback),
            protect("i", nested),
            lambda: _cancelled(protect("j", post)),
        ]
        for round_ in range(10):
            results = await asyncio.gather(*(way() for way in ways * 2), return_exceptions=True)
            ends.update("well" if not isinstance(each, BaseException) else type(each).__name__ for each in results)
            await asyncio.sleep(0.06 * (round_ % 2))


async def _cancelled(call: Callable[[], Awaitable[object]]) -> None:
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    task.cancel()
    await task


FAST = ResilienceConfig(
    retry=RetryConfig(max_attempts=3, base_delay=0.0), circuit_breaker=CircuitBreakerConfig(failure_threshold=6)
)
FULL = FAST.replace(deadline=5.0, attempt_timeout=1.0, retry_budget=RetryBudgetConfig(), idempotency_key=True)
CONFIGS = {"fast": FAST, "timed": FAST.replace(deadline=5.0), "full": FULL}


def ends_of(n: int) -> type[Exception] | None:
    """Good, retried and final ends in turn."""
    return (None, ConnectionError, KeyError, None, ConnectionError, ConnectionError)[n % 6]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", ["sync", "async", "generator", "async generator", "executed"])
async def test_no_garbage_is_left_to_the_collector(kit: AIServiceResilience, config: ResilienceConfig, kind: str) -> None:
    """After successes, retries, failures and refusals everything is gone by reference counting alone."""
    numbers, ends = itertools.count(), Counter()

    def plain() -> int:
        if error := ends_of(next(numbers)):
            raise error(kind)
        return 1

    async def asynchronous() -> int:
        return plain()

    def generator() -> Iterator[int]:
        yield plain()
        yield plain()

    async def async_generator() -> AsyncIterator[int]:
        yield plain()
        yield plain()

    protect = kit.with_resilience(kind, custom_config=config)
    protected = {
        "sync": protect(plain),
        "async": protect(asynchronous),
        "generator": protect(generator),
        "async generator": protect(async_generator),
    }
    breaker = kit.get_circuit_breaker(kind)

    async def call() -> None:
        try:
            match kind:
                case "sync":
                    protected[kind]()
                case "async":
                    await protected[kind]()
                case "executed":
                    await kit.execute_with_resilience(asynchronous, kind, custom_config=config)
                case "generator":
                    for _ in protected[kind]():
                        pass
                case _:
                    async for _ in protected[kind]():
                        pass
        except (ConnectionError, KeyError, StreamInterruptedError, CircuitBreakerOpenError) as error:
            ends[type(error).__name__] += 1

    async def calls() -> None:
        for number in range(60):
            await call()
            if number % 4 == 0:
                breaker.state = ("closed", "half_open", "open")[number % 3]

    await calls()
    assert {} == await _garbage_of(calls)
    assert ends["CircuitBreakerOpenError"] > 10


async def _garbage_of(calls: Callable[[], Awaitable[None]]) -> Counter[str]:
    """What the collector alone would have freed, by type."""
    gc.collect()
    gc.freeze()  # what was there before is not looked through again
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await calls()
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.unfreeze()


async def test_names_of_one_call_each_do_not_pile_up_call_sites(kit: AIServiceResilience) -> None:
    """Decorating inside a function, call by call, leaves one operation and no growing list of call sites."""
    for _ in range(500):
        kit.with_resilience("again")(len)("x")
        await kit.execute_with_resilience(len, "again", "x", custom_config={"retry_attempts": 2})
    assert (["again"], 1000) == (kit.operations, kit.get_metrics("again")["total_calls"])
    assert len(kit._registry.sites) < 5


def test_a_timer_does_not_hold_a_loop_back() -> None:
    """A loop whose last call had a long deadline ends at once, without a warning."""
    kit = AIServiceResilience()
    call = kit.with_resilience("quick", custom_config=ResilienceConfig(deadline=300.0))(asyncio.sleep)
    begun = time.monotonic()
    for _ in range(20):
        asyncio.run(call(0))
    assert time.monotonic() - begun < 2.0
