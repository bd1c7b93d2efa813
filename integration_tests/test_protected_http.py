"""Plain httpx and httpx2, protected, against a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import ModuleType

import httpx
import httpx2
import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    DeadlineExceededError,
    FailureRateWindow,
    ResilienceConfig,
    RetryConfig,
    remaining_time,
)
from resilience_kit.errors import StreamInterruptedError
from resilience_kit.testing.provider import OK, FakeAIProvider, Fault

CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
QUICK = RetryConfig(max_attempts=3, base_delay=0.01, max_delay=0.02)


@pytest.fixture
def provider() -> Iterator[FakeAIProvider]:
    """A provider for one test."""
    with FakeAIProvider() as running:
        yield running


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> ModuleType:
    """Either library; their interfaces are the same here."""
    return request.param


@pytest.mark.parametrize(
    "fault", [Fault.rate_limited(0.05), Fault.server_error(), Fault.unavailable(), Fault.reset(), Fault.truncated()]
)
async def test_sync_and_async_requests_are_retried(
    kit: AIServiceResilience, provider: FakeAIProvider, http: ModuleType, fault: Fault
) -> None:
    """Two faults, then the answer, for either client."""
    protect = kit.with_resilience("post", custom_config=ResilienceConfig(retry=QUICK))

    @protect
    def plain(client: httpx.Client) -> int:
        return client.post(f"{provider.openai_url}/chat/completions", json=CHAT).raise_for_status().status_code

    @protect
    async def asynchronous(client: httpx.AsyncClient) -> int:
        return (await client.post(f"{provider.openai_url}/chat/completions", json=CHAT)).raise_for_status().status_code

    with http.Client() as client:
        provider.faults = [fault, fault, OK]
        assert 200 == plain(client)
    async with http.AsyncClient() as client:
        provider.faults = [fault, fault, OK]
        assert 200 == await asynchronous(client)
    assert (6, 2, 4) == (
        provider.request_count,
        kit.get_metrics("post")["successful_calls"],
        kit.get_metrics("post")["retry_attempts"],
    )


async def test_refused_connections_open_the_circuit_and_their_return_closes_it(
    kit: AIServiceResilience, provider: FakeAIProvider, http: ModuleType
) -> None:
    """An outage with the port closed, met by calls that wait for the reopening inside their deadline: none of them fails."""
    config = ResilienceConfig(
        retry=RetryConfig(max_attempts=10, base_delay=0.01, max_delay=0.02),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=0.1),
        circuit_open="wait",
        deadline=5.0,
    )
    breaker_was_open = False

    async with http.AsyncClient() as client:

        @kit.with_resilience("get", custom_config=config)
        async def get() -> int:
            return (await client.get(provider.url, timeout=remaining_time())).status_code

        async def many() -> list[int]:
            return await asyncio.gather(*(get() for _ in range(20)))

        with provider.refusing():
            asked = asyncio.create_task(many())
            await asyncio.sleep(0.25)
            breaker_was_open = not kit.get_circuit_breaker("get").closed
        assert [404] * 20 == await asked
    assert breaker_was_open
    numbers = kit.get_metrics("get")
    assert (20, 0, 0) == tuple(numbers[name] for name in ("successful_calls", "failed_calls", "rejected_calls"))
    assert CircuitState.CLOSED is kit.get_circuit_breaker("get").state


async def test_a_pool_of_one_survives_attempts_that_are_cut_off(
    kit: AIServiceResilience, provider: FakeAIProvider, http: ModuleType
) -> None:
    """Each hung attempt gives its only connection back: the third attempt gets it."""
    provider.faults = [Fault.hang(), Fault.hang(), OK]
    config = ResilienceConfig(retry=QUICK, attempt_timeout=0.8)
    async with http.AsyncClient(limits=http.Limits(max_connections=1), timeout=None) as client:

        @kit.with_resilience("post", custom_config=config)
        async def post() -> int:
            return (await client.post(f"{provider.openai_url}/chat/completions", json=CHAT)).status_code

        assert 200 == await post()
        assert 200 == await post()
    assert 4 == provider.request_count


async def test_a_pool_timeout_is_not_the_services_fault(
    kit: AIServiceResilience, provider: FakeAIProvider, http: ModuleType
) -> None:
    """Waiting in vain for an own connection counts nothing against the circuit."""
    provider.faults = Fault.slow(0.5)
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))
    limits, timeout = http.Limits(max_connections=1), http.Timeout(5.0, pool=0.05)
    async with http.AsyncClient(limits=limits, timeout=timeout) as client:

        @kit.with_resilience("get", custom_config=config)
        async def get() -> int:
            return (await client.get(provider.url)).status_code

        ends = await asyncio.gather(get(), get(), return_exceptions=True)
    assert {int, http.PoolTimeout} == {type(end) for end in ends}
    assert CircuitState.CLOSED is kit.get_circuit_breaker("get").state


async def test_lines_of_a_broken_stream(kit: AIServiceResilience, provider: FakeAIProvider, http: ModuleType) -> None:
    """Lines already read are in the error, of plain and async streams alike."""
    provider.faults = Fault.truncated(after=4)

    @kit.with_resilience("lines")
    def lines() -> Iterator[str]:
        with http.stream("POST", f"{provider.openai_url}/chat/completions", json=CHAT | {"stream": True}) as response:
            yield from (line for line in response.iter_lines() if line)

    @kit.with_resilience("lines")
    async def lines_async() -> AsyncIterator[str]:
        async with (
            http.AsyncClient() as client,
            client.stream("POST", f"{provider.openai_url}/chat/completions", json=CHAT | {"stream": True}) as response,
        ):
            async for line in response.aiter_lines():
                if line:
                    yield line

    with pytest.raises(StreamInterruptedError) as plain:
        list(lines())
    with pytest.raises(StreamInterruptedError) as asynchronous:
        async for _ in lines_async():
            pass
    assert (4, http.RemoteProtocolError) == (plain.value.delivered, type(plain.value.__cause__))
    assert (4, http.RemoteProtocolError) == (asynchronous.value.delivered, type(asynchronous.value.__cause__))
    assert 2 == provider.request_count


async def test_slow_answers_open_a_window_that_minds_them(kit: AIServiceResilience, provider: FakeAIProvider) -> None:
    """A service that answers well but too late is taken off by its slow-call rate."""
    provider.faults = Fault.slow(0.1)
    window = FailureRateWindow(size=4, minimum_calls=4, slow_call_duration=0.05, slow_call_rate=1.0)
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(window=window, recovery_timeout=30.0))
    async with httpx.AsyncClient() as client:

        @kit.with_resilience("slow", custom_config=config)
        async def get() -> int:
            return (await client.get(provider.url)).status_code

        ends = [await asyncio.gather(get(), return_exceptions=True) for _ in range(6)]
    assert [[404]] * 4 == ends[:4]
    assert [CircuitBreakerOpenError] * 2 == [type(end) for (end,) in ends[4:]]


async def test_plain_code_in_a_thread_is_left_at_the_deadline(kit: AIServiceResilience, provider: FakeAIProvider) -> None:
    """`in_thread=True`: the call returns on time, the thread knows its remaining time and ends by itself."""
    provider.faults = Fault.hang()
    ended: list[float] = []

    def get() -> int:
        try:
            return httpx.post(f"{provider.openai_url}/chat/completions", json=CHAT, timeout=remaining_time()).status_code
        finally:
            ended.append(time.monotonic())

    config = ResilienceConfig(retry=None, deadline=0.3)
    begun = time.monotonic()
    with pytest.raises((DeadlineExceededError, httpx.TimeoutException)):
        await kit.execute_with_resilience(get, "threaded", custom_config=config, in_thread=True)
    assert 0.25 <= time.monotonic() - begun < 0.6
    while not ended:
        await asyncio.sleep(0.01)
    assert ended[0] - begun < 0.8
