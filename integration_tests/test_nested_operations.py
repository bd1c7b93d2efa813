"""Operations inside operations, in real time: whose deadline it is, whose failure, and who retries."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    DeadlineExceededError,
    ResilienceConfig,
    RetryConfig,
    idempotency_key,
    remaining_time,
)
from resilience_kit.errors import APITimeoutError
from resilience_kit.events import NestedRetry

LATE = 1.0  # seconds by which a busy machine may be late


def limits(deadline: float | None = None, **more: object) -> ResilienceConfig:
    """A config with a deadline, and no retries unless given."""
    return ResilienceConfig(**{"retry": None, "deadline": deadline, **more})


@pytest.mark.parametrize(
    "inner",
    [limits(10.0), limits(10.0, attempt_timeout=5.0), limits(None), limits(10.0, retry=RetryConfig(base_delay=0.0))],
    ids=["deadline", "attempt timeout", "none", "retries"],
)
async def test_an_outer_deadline_beats_the_inner_one(kit: AIServiceResilience, inner: ResilienceConfig) -> None:
    """The outer operation ends on time and fails; the inner one was cut by somebody else, which tells nothing of its service."""

    @kit.with_resilience("inner", custom_config=inner)
    async def call() -> None:
        left.append(remaining_time())
        await asyncio.sleep(10)

    @kit.with_resilience("outer", custom_config=limits(0.15))
    async def outer() -> None:
        await call()

    left: list[float] = []
    begun = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="'outer' went past its deadline"):
        await outer()
    assert 0.15 <= time.monotonic() - begun < 0.15 + LATE
    assert 0.0 < left[0] <= 0.15
    numbers = {name: kit.get_metrics(name) for name in ("inner", "outer")}
    assert (1, 0) == (numbers["inner"]["cancelled_calls"], kit.get_circuit_breaker("inner").failure_count)
    assert (1, 1) == (numbers["outer"]["failed_calls"], kit.get_circuit_breaker("outer").failure_count)


async def test_an_inner_deadline_is_the_inner_ones_failure(kit: AIServiceResilience) -> None:
    """When the inner limit is first, the inner circuit counts it, and the outer operation may still try again."""

    @kit.with_resilience("inner", custom_config=limits(None, attempt_timeout=0.05))
    async def call() -> str:
        calls.append(time.monotonic())
        await asyncio.sleep(10 if len(calls) == 1 else 0)
        return "well"

    @kit.with_resilience("outer", custom_config=limits(5.0, retry=RetryConfig(base_delay=0.01)))
    async def outer() -> str:
        return await call()

    calls: list[float] = []
    assert "well" == await outer()
    numbers = {name: kit.get_metrics(name) for name in ("inner", "outer")}
    assert (1, 1) == (numbers["inner"]["failed_calls"], numbers["inner"]["successful_calls"])
    assert (1, 1) == (numbers["outer"]["successful_calls"], numbers["outer"]["retry_attempts"])


async def test_an_outer_deadline_forbids_an_inner_pause(kit: AIServiceResilience) -> None:
    """A pause that would outlast the outer deadline is not begun: the inner error comes at once (invariant 26)."""

    @kit.with_resilience("inner", custom_config=limits(60.0, retry=RetryConfig(base_delay=5.0, jitter=None)))
    async def call() -> None:
        raise ConnectionError

    @kit.with_resilience("outer", custom_config=limits(1.0))
    async def outer() -> None:
        await call()

    begun = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        await outer()
    assert time.monotonic() - begun < LATE
    assert any("the next attempt would begin after the deadline" in note for note in caught.value.__notes__)


def test_plain_code_obeys_an_outer_deadline_between_attempts(kit: AIServiceResilience) -> None:
    """Inside a plain outer operation the inner one begins no attempt after the outer deadline (invariant 26)."""

    @kit.with_resilience(
        "inner", custom_config=limits(60.0, retry=RetryConfig(max_attempts=50, base_delay=0.02, jitter=None, max_delay=0.02))
    )
    def call() -> None:
        began.append(time.monotonic())
        raise ConnectionError

    @kit.with_resilience("outer", custom_config=limits(0.2))
    def outer() -> None:
        call()

    began: list[float] = []
    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        outer()
    assert time.monotonic() - begun < 0.2 + LATE
    assert 3 < len(began) < 12
    assert began[-1] - begun < 0.2


async def test_three_levels_do_not_multiply_attempts(kit: AIServiceResilience) -> None:
    """Three attempts at each of three levels are three requests, not 27; each doubling is told once (invariant 31)."""
    heard: list[NestedRetry] = []
    kit.add_listener(heard.append, NestedRetry)
    config = limits(
        None, retry=RetryConfig(max_attempts=3, base_delay=0.0), circuit_breaker=CircuitBreakerConfig(failure_threshold=100)
    )
    requests = 0

    @kit.with_resilience("innermost", custom_config=config)
    async def innermost() -> None:
        nonlocal requests
        requests += 1
        raise ConnectionError

    @kit.with_resilience("middle", custom_config=config)
    async def middle() -> None:
        await innermost()

    @kit.with_resilience("outermost", custom_config=config)
    async def outermost() -> None:
        await middle()

    for _ in range(3):
        with pytest.raises(ConnectionError):
            await outermost()
    assert (9, 2) == (requests, len(heard))
    assert {("middle", "operation 'innermost'"), ("outermost", "operation 'innermost'")} == {
        (each.operation, each.inner) for each in heard
    }


async def test_an_inner_operation_that_has_not_retried_leaves_it_to_the_outer_one(kit: AIServiceResilience) -> None:
    """One attempt only is no retry: the outer operation makes its own."""
    requests = 0

    @kit.with_resilience("once", custom_config=limits(None, retry=RetryConfig(max_attempts=1)))
    async def once() -> None:
        nonlocal requests
        requests += 1
        raise ConnectionError

    @kit.with_resilience("thrice", custom_config=limits(None, retry=RetryConfig(max_attempts=3, base_delay=0.0)))
    async def thrice() -> None:
        await once()

    with pytest.raises(ConnectionError):
        await thrice()
    assert 3 == requests


async def test_context_reaches_threads_and_tasks_of_the_call(kit: AIServiceResilience) -> None:
    """`remaining_time()` and `idempotency_key()` hold in `asyncio.to_thread`, in child tasks and with `in_thread=True`."""
    config = limits(5.0, idempotency_key=True)

    @kit.with_resilience("parent", custom_config=config)
    async def parent() -> list[tuple[bool, str | None]]:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(_told())
        return [_say(), await asyncio.to_thread(_say), child.result()]

    told = await parent()
    assert 1 == len(set(told))
    assert (True, True) == (told[0][0], told[0][1] is not None)
    threaded = await kit.execute_with_resilience(_say, "threaded", custom_config=config, in_thread=True)
    assert (True, True) == (threaded[0], threaded[1] is not None)
    assert (False, None) == _say()


def _say() -> tuple[bool, str | None]:
    left = remaining_time()
    return left is not None and 4.0 < left <= 5.0, idempotency_key()


async def _told() -> tuple[bool, str | None]:
    return _say()


@pytest.mark.parametrize("config", [limits(0.1), limits(0.1, idempotency_key=True)], ids=["light", "full"])
async def test_a_task_that_outlives_its_call_is_not_bound_by_it(kit: AIServiceResilience, config: ResilienceConfig) -> None:
    """A background task started inside a call goes on after it; the operations that it calls then have their own deadlines."""
    job = kit.with_resilience("job", custom_config=limits(5.0))(asyncio.sleep)
    started: list[asyncio.Task[float | None]] = []

    async def background() -> float | None:
        await asyncio.sleep(0.2)
        await job(0)
        return remaining_time()

    @kit.with_resilience("start", custom_config=config)
    async def start() -> None:
        started.append(asyncio.create_task(background()))

    await start()
    assert await started[0] is None


async def test_a_stream_inside_a_call_and_a_call_inside_a_stream(kit: AIServiceResilience) -> None:
    """The outer deadline cuts a stream off in the midst, and the stream's own context holds inside it only."""

    @kit.with_resilience("stream", custom_config=limits(5.0))
    async def stream() -> AsyncIterator[float]:
        while True:
            yield remaining_time()
            await asyncio.sleep(0.02)

    @kit.with_resilience("reader", custom_config=limits(0.15))
    async def reader() -> None:
        async for left in stream():
            inside.append(left)
            outside.append(remaining_time())

    inside: list[float] = []
    outside: list[float] = []
    with pytest.raises(DeadlineExceededError):
        await reader()
    assert all(left <= 0.15 for left in inside + outside)
    assert 2 < len(inside) < 9
    items = stream()
    assert 4.0 < await anext(items) <= 5.0
    assert remaining_time() is None
    await items.aclose()


async def test_deadlines_of_many_calls_fire_each_on_time(kit: AIServiceResilience) -> None:
    """One timer serves all calls of a loop; 300 different deadlines at once are kept, also those that come in later."""

    async def one(seconds: float) -> float:
        begun = time.monotonic()
        with pytest.raises((DeadlineExceededError, APITimeoutError)):
            await kit.execute_with_resilience(asyncio.Event().wait, "hung", custom_config=configs[seconds])
        return time.monotonic() - begun - seconds

    configs = {n / 1000: limits(n / 1000, circuit_breaker=None) for n in range(400, 100, -1)}
    late = await asyncio.gather(*(one(seconds) for seconds in configs))
    assert -0.001 < min(late)
    assert max(late) < LATE


def test_deadlines_hold_in_loops_of_many_threads(kit: AIServiceResilience) -> None:
    """Each loop has its own timer: eight threads, two loops one after the other in each."""
    late: list[float] = []

    async def one() -> None:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await hung(60)
        late.append(time.monotonic() - begun - 0.1)

    async def several() -> None:
        await asyncio.gather(*(one() for _ in range(5)))

    hung = kit.with_resilience("hung", custom_config=limits(0.1, circuit_breaker=None))(asyncio.sleep)
    threads = [threading.Thread(target=lambda: [asyncio.run(several()) for _ in range(2)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 80 == len(late)
    assert 0.0 <= min(late) <= max(late) < 2 * LATE
