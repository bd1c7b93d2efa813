"""A request that is accepted and never answered, through transports and JSON clients, under each strategy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.config import STRATEGY_NUMBERS, ResilienceSettings, ResilienceStrategy
from resilience_kit.http import APIClient, AsyncAPIClient, AsyncResilientTransport, ResilientTransport
from resilience_kit.testing import FakeClock

STRATEGIES = list(ResilienceStrategy)


class Hanging(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers every request but the first; a plain client gives that one up after the time-out that it was given."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.timeouts = clock, list[float | None]()

    def _answer(self) -> httpx.Response:
        return httpx.Response(200, json={"id": "1", "object": "chat.completion"})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.timeouts.append(request.extensions["timeout"]["read"])
        if len(self.timeouts) == 1:
            self.clock.sleep(self.timeouts[0] or 1e6)
            raise httpx.ReadTimeout("no answer", request=request)
        return self._answer()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.timeouts.append(request.extensions["timeout"]["read"])
        if len(self.timeouts) == 1:
            await self.clock.sleep_async(1e6)
        return self._answer()


@pytest.fixture
def clock() -> FakeClock:
    """Time that moves where somebody waits for it."""
    return FakeClock()


@pytest.fixture
def kit(clock: FakeClock) -> AIServiceResilience:
    """An orchestrator on that clock."""
    return AIServiceResilience(ResilienceSettings(), clock=clock)


def ends_in_time(clock: FakeClock, strategy: ResilienceStrategy) -> bool:
    """After the attempt timeout and one wait."""
    numbers = STRATEGY_NUMBERS[strategy]
    return numbers.attempt_timeout <= clock.monotonic() <= numbers.attempt_timeout + numbers.base_delay + 0.1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_hang_beneath_an_async_transport_is_asked_again(kit: Any, clock: Any, strategy: Any, method: str) -> None:
    """Also where the client itself would wait for ever."""
    inner = Hanging(clock)
    transport = AsyncResilientTransport(inner, config=ResilienceConfig.from_strategy(strategy), resilience=kit, pacing=None)
    async with httpx.AsyncClient(transport=transport, timeout=None) as client:
        assert 200 == (await client.request(method, "https://api.example.com/v1/x")).status_code
    assert 2 == len(inner.timeouts)
    assert ends_in_time(clock, strategy)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_hang_beneath_a_plain_transport_is_asked_again(kit: Any, clock: Any, strategy: Any, method: str) -> None:
    """The transport hands the attempt timeout on as the client's own."""
    inner = Hanging(clock)
    transport = ResilientTransport(inner, config=ResilienceConfig.from_strategy(strategy), resilience=kit, pacing=None)
    with httpx.Client(transport=transport, timeout=None) as client:
        assert 200 == client.request(method, "https://api.example.com/v1/x").status_code
    assert STRATEGY_NUMBERS[strategy].attempt_timeout == inner.timeouts[0]
    assert 2 == len(inner.timeouts)
    assert ends_in_time(clock, strategy)


def test_a_request_that_is_not_repeated_has_all_of_its_deadline(kit: Any, clock: Any) -> None:
    """Without a key a POST that may have been carried out is not sent again, so nothing cuts its first attempt short."""
    inner = Hanging(clock)
    config = ResilienceConfig.from_strategy("balanced")
    transport = ResilientTransport(inner, config=config, resilience=kit, pacing=None, idempotency_header=None)
    with httpx.Client(transport=transport, timeout=None) as client, pytest.raises(httpx.ReadTimeout):
        client.post("https://api.example.com/v1/x")
    assert [30.0] == inner.timeouts


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_hang_beneath_a_json_client_in_an_operation_is_asked_again(kit: Any, clock: Any, strategy: Any) -> None:
    """The operation's attempt timeout bounds the client's, async and plain."""
    inner = Hanging(clock)
    async with httpx.AsyncClient(transport=inner, timeout=None) as beneath:
        client = AsyncAPIClient("https://api.example.com", client=beneath, timeout=None, clock=clock)
        answer = await kit.with_resilience("op", strategy)(client.get)("/x")
        await client.close()
    assert ("1", 2) == (answer["id"], len(inner.timeouts))
    assert ends_in_time(clock, strategy)
    inner = Hanging(clock)
    begun = clock.monotonic()
    with httpx.Client(transport=inner, timeout=None) as plain:
        sync_client = APIClient("https://api.example.com", client=plain, timeout=None, clock=clock)
        answer = kit.with_resilience("op", strategy)(sync_client.get)("/x")
        sync_client.close()
    assert ("1", 2) == (answer["id"], len(inner.timeouts))
    assert clock.monotonic() - begun <= STRATEGY_NUMBERS[strategy].deadline
