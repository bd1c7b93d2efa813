"""JSON clients in the numbers and events of the default orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from resilience_kit import CircuitBreaker, RetryConfig, get_orchestrator, set_orchestrator
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError, ServerError
from resilience_kit.events import CallCancelled, CallFailed, CallRejected, CallSucceeded, Event, RetryScheduled, StateChanged
from resilience_kit.http import APIClient, AsyncAPIClient, Endpoint, EndpointConfig
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.testing import FakeClock

HOST = "api.example.com"
BASE = f"https://{HOST}/v1"
RETRY = RetryConfig(max_attempts=3, base_delay=1.0, jitter=None)
EVENTS = {"content-type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _no_default() -> Iterator[None]:
    set_orchestrator(None)
    yield
    set_orchestrator(None)


class Service:
    """Answers with statuses in turn, or raises; the last one stays. A good answer is JSON, or a stream where one is wanted."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if request.headers.get("accept") == EVENTS["content-type"]:
            return httpx.Response(answer, headers=EVENTS, content=b"data: 1\n\ndata: [DONE]\n\n")
        return httpx.Response(answer, json={})


class Face:
    """One of the two clients."""

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.kind: Any = AsyncAPIClient if asynchronous else APIClient

    def make(self, *answers: Any, base: str | None = BASE, **options: Any) -> Any:
        """A client of a service that answers so."""
        library: Any = httpx.AsyncClient if self.asynchronous else httpx.Client
        return self.kind(base, client=library(transport=httpx.MockTransport(Service(*answers))), clock=FakeClock(), **options)

    def get(self, client: Any) -> Any:
        """One request."""
        return asyncio.run(client.get("/things")) if self.asynchronous else client.get("/things")

    def stream(self, client: Any) -> list[Any]:
        """The events of one stream."""

        async def read() -> list[Any]:
            return [event async for event in client.stream("POST", "/things", terminal=())]

        return asyncio.run(read()) if self.asynchronous else [*client.stream("POST", "/things", terminal=())]


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def face(request: pytest.FixtureRequest) -> Face:
    """Both clients, one after the other."""
    return Face(asynchronous=request.param)


def counted(name: str = HOST) -> dict[str, int]:
    """The counters of the default orchestrator that are not zero."""
    numbers = get_orchestrator().get_metrics(name)
    return {name: value for name, value in numbers.items() if type(value) is int and value}


@pytest.mark.parametrize("options", [{}, {"retry_config": RETRY}, {"deadline": 30.0}], ids=["bare", "retries", "deadline"])
def test_requests_of_a_client_are_counted_by_host(face: Face, options: dict[str, Any]) -> None:
    """Successes and failures, whichever parts the client has; as for transports, the operation has the host's name."""
    client = face.make(200, 200, 400, **options)
    face.get(client)
    face.get(client)
    with pytest.raises(Exception, match="400"):
        face.get(client)
    assert {"total_calls": 3, "successful_calls": 2, "failed_calls": 1} == counted()
    everything = get_orchestrator().get_metrics()
    assert ([HOST], {}) == ([*everything["operations"]], everything["circuit_breaker"])
    assert [HOST] == get_orchestrator().operations
    numbers = everything["operations"][HOST]
    assert numbers["last_success"] is not None
    assert numbers["last_failure"] is not None


def test_retries_streams_and_named_clients_are_counted(face: Face) -> None:
    """Under the name that the client has, which `reset_metrics` takes, too."""
    client = face.make(500, 200, name="things", retry_config=RETRY)
    face.get(client)
    assert 1 == len(face.stream(client))
    assert {"total_calls": 2, "successful_calls": 2, "retry_attempts": 1} == counted("things")
    get_orchestrator().reset_metrics()
    assert {} == counted("things")
    with pytest.raises(ConfigurationError, match="known: things"):
        counted("other")


def test_an_endpoint_is_counted_under_its_provider_and_path() -> None:
    """It is a client with a name of its own."""
    library = httpx.AsyncClient(transport=httpx.MockTransport(Service(200)), base_url=BASE)
    endpoint = Endpoint(EndpointConfig(provider="example", endpoint="/chat", base_url=BASE), client=library)
    asyncio.run(endpoint.call({"json": {}}))
    assert {"total_calls": 1, "successful_calls": 1} == counted("example /chat")


def test_a_cancelled_request_is_counted_as_one() -> None:
    """It says nothing about the service (invariant 4)."""
    heard: list[Event] = []
    get_orchestrator().add_listener(heard.append, CallCancelled)
    client = Face(asynchronous=True).make(asyncio.CancelledError())

    async def main() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await client.get("/things")

    asyncio.run(main())
    assert {"total_calls": 1, "cancelled_calls": 1} == counted()
    assert [CallCancelled(operation=HOST, attempts=1)] == heard


# --- its breaker ---------------------------------------------------------------------------------------------------------


def test_the_breaker_of_a_client_is_shown_and_its_rejections_are_counted(face: Face) -> None:
    """It wraps whole requests, retries included; get_health_status and get_circuit_breaker know it."""
    heard: list[Event] = []
    get_orchestrator().add_listener(heard.append, CallRejected)
    breaker = CircuitBreaker(1, 60.0, name="own")
    client = face.make(500, circuit_breaker=breaker, retry_config=RETRY)
    with pytest.raises(ServerError):
        face.get(client)
    kit = get_orchestrator()
    assert (1, "OPEN") == (breaker.failure_count, kit.get_metrics()["circuit_breaker"][HOST]["state"])
    for ask in (face.get, face.stream):
        with pytest.raises(CircuitBreakerOpenError):
            ask(client)
    assert {"total_calls": 3, "failed_calls": 1, "rejected_calls": 2, "retry_attempts": 2} == counted()
    assert [("own", "circuit_breaker")] * 2 == [(event.guard, event.guard_kind) for event in heard]  # type: ignore[attr-defined]
    assert (False, [HOST], 1) == (
        kit.is_healthy(), kit.get_health_status()["open_circuit_breakers"], kit.get_health_status()["total_circuit_breakers"],
    )  # fmt: skip
    assert breaker is kit.get_circuit_breaker(HOST)
    summary = kit.get_metrics()["summary"]
    assert (1, 0, 1) == tuple(summary[name] for name in ("total_operations", "healthy_circuit_breakers", "open_circuit_breakers"))


def test_a_rejection_that_nobody_listens_to_is_counted(face: Face) -> None:
    """The event is not built."""
    breaker = CircuitBreaker(1, 60.0, name="own")
    breaker.force_open("by hand")
    with pytest.raises(CircuitBreakerOpenError):
        face.get(face.make(200, circuit_breaker=breaker))
    assert {"total_calls": 1, "rejected_calls": 1} == counted()


def test_a_breaker_that_is_called_in_its_own_way_is_called_so(face: Face) -> None:
    """Of a subclass that overrides `call` or `call_async`, or of another library: nothing of it is by-passed."""
    called: list[str] = []

    class Own(CircuitBreaker):
        def call(self, func: Any, *args: Any, **kwargs: Any) -> Any:
            called.append("call")
            return super().call(func, *args, **kwargs)

        async def call_async(self, func: Any, *args: Any, **kwargs: Any) -> Any:
            called.append("call_async")
            return await super().call_async(func, *args, **kwargs)

    client = face.make(200, circuit_breaker=Own(name="own"))
    face.get(client)
    face.stream(client)
    assert ["call_async" if face.asynchronous else "call"] == called
    assert {"total_calls": 2, "successful_calls": 2} == counted()


def test_many_short_lived_clients_of_one_host_share_one_operation(face: Face) -> None:
    """A hundred of them leave one set of numbers, and nothing of their breakers once these are gone."""
    for _ in range(100):
        face.get(face.make(200, circuit_breaker=CircuitBreaker(name="own")))
    gc.collect()
    kit = get_orchestrator()
    assert {"total_calls": 100, "successful_calls": 100} == counted()
    assert ({}, 1) == (kit.get_metrics()["circuit_breaker"], kit.get_health_status()["total_operations"])
    client = kit.clients.get(HOST)
    assert client is not None
    face.get(face.make(200, circuit_breaker=CircuitBreaker(name="own")))
    assert len(client._breakers) <= 1
    assert "CLOSED" == kit.get_circuit_breaker(HOST).state.name


def test_the_breaker_that_rejects_most_speaks_for_its_operation(face: Face) -> None:
    """Of several clients of one host, and of the orchestrator's own operation of that name."""
    kit = get_orchestrator()
    breakers = [CircuitBreaker(1, 60.0, name=name) for name in ("closed", "half-open", "open")]
    clients = [face.make(200, circuit_breaker=breaker) for breaker in breakers]
    for client in clients:
        face.get(client)
    breakers[1].state = "half_open"
    assert breakers[1] is kit.get_circuit_breaker(HOST)
    breakers[2].state = "open"
    assert breakers[2] is kit.get_circuit_breaker(HOST)
    kit.call_with_resilience(int, HOST)
    assert ("OPEN", False) == (kit.get_metrics()["circuit_breaker"][HOST]["state"], kit.is_healthy())
    breakers[2].reset()
    breakers[1].reset()
    own = kit.get_circuit_breaker(HOST)
    assert own not in breakers
    own.force_open("by hand")
    assert "FORCED_OPEN" == kit.get_metrics()["circuit_breaker"][HOST]["state"]


def test_clients_of_very_many_hosts_share_the_rest(face: Face) -> None:
    """Beyond 256 names there is one for all others, as for transports: nothing grows without bound."""
    for number in range(257):
        face.make(200, name=str(number))._rules.operation()
    face.get(face.make(200, name="one more"))
    kit = get_orchestrator()
    assert (257, {"total_calls": 1, "successful_calls": 1}) == (len(kit.operations), counted("other hosts"))
    face.get(face.make(200, name="0"))
    assert {"total_calls": 1, "successful_calls": 1} == counted("0")


# --- whose numbers -------------------------------------------------------------------------------------------------------


def test_a_client_of_an_operation_s_name_adds_to_its_numbers(face: Face) -> None:
    """Whichever came first: one name is one operation."""
    face.get(face.make(200, name="first"))
    kit = get_orchestrator()
    kit.call_with_resilience(int, "first")
    kit.call_with_resilience(int, "second")
    for _ in range(2):
        face.get(face.make(200, name="second"))
    face.get(face.make(200, name="first"))
    assert [{"total_calls": 3, "successful_calls": 3}] * 2 == [counted("first"), counted("second")]
    assert ["first", "second"] == [*kit.get_metrics()["operations"]]


def test_stamps_are_by_the_clock_of_the_last_client(face: Face) -> None:
    """A stamp by another clock would be nonsense, so it is dropped."""
    face.get(face.make(200))
    clients = get_orchestrator().clients
    operation = clients.get(HOST)
    assert operation is not None
    assert operation.metrics.last_success is not None
    clients.get_or_create(HOST, FakeClock())
    assert operation.metrics.last_success is None


def test_a_client_used_before_there_is_an_orchestrator_is_counted(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, no orchestrator is made for it, and a wrong environment is no business of its."""
    monkeypatch.setenv("RESILIENCE_PRESET", "nonsense")
    client = face.make(200)
    face.get(client)
    monkeypatch.delenv("RESILIENCE_PRESET")
    face.get(client)
    assert {"total_calls": 2, "successful_calls": 2} == counted()


def test_a_client_follows_the_default_orchestrator(face: Face) -> None:
    """From the next request on, in numbers, events and listeners."""
    heard: dict[str, list[Event]] = {"first": [], "second": [], "client": []}
    first, second = AIServiceResilience(ResilienceSettings()), AIServiceResilience(ResilienceSettings())
    client = face.make(200, retry_config=RETRY)
    client.add_listener(heard["client"].append, CallSucceeded)
    face.get(client)
    for name, kit in (("first", first), ("second", second)):
        set_orchestrator(kit)
        face.get(client)
        kit.add_listener(heard[name].append, CallSucceeded)
        face.get(client)
        assert 2 == kit.get_metrics(HOST)["total_calls"]
    assert [1, 1, 5] == [len(events) for events in heard.values()]


@pytest.mark.parametrize("options", [{}, {"retry_config": RETRY}], ids=["bare", "retries"])
def test_listeners_of_the_default_orchestrator_hear_of_clients(
    face: Face, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Also those who come after the first request; each event once, and each line once."""
    caplog.set_level(logging.INFO, "resilience_kit")
    heard: list[Event] = []
    breaker = CircuitBreaker(1, 60.0, name="own")
    client = face.make(200, 200, 500, circuit_breaker=breaker, **options)
    face.get(client)
    get_orchestrator().add_listener(heard.append)
    face.get(client)
    with pytest.raises(ServerError):
        face.get(client)
    kinds: list[Callable[..., Event]] = [type(event) for event in heard]
    retries = [RetryScheduled, RetryScheduled] if options else []
    assert [CallSucceeded, *retries, CallFailed, StateChanged] == kinds
    assert len(kinds) - 1 == len(caplog.records)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [True, True] == ["'api.example.com': failed after" in warnings[0], warnings[1].startswith("circuit 'own': ")]
