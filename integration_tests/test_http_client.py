"""The JSON clients and endpoints against a real server: sync and async, with httpx and httpx2."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from resilience_kit import CircuitBreaker, CircuitBreakerOpenError, CircuitState, RetryConfig
from resilience_kit.errors import (
    AIServiceError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CredentialRefusedError,
    DeadlineExceededError,
    InvalidRequestError,
    QuotaExceededError,
    RateLimitError,
    RateLimitExceededError,
    ResourceNotFoundError,
    ServerError,
    ServiceUnavailableError,
    StreamInterruptedError,
    TransientAIError,
)
from resilience_kit.http import APIClient, AsyncAPIClient, Endpoint, EndpointConfig
from resilience_kit.http.pacing import Pacing
from resilience_kit.limits import TokenBucketRateLimiter
from resilience_kit.testing.provider import OK, FakeAIProvider, Fault, ProviderLimits

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
STREAM = {**CHAT, "stream": True}
QUICK = RetryConfig(max_attempts=3, base_delay=0.01, max_delay=0.02)
PATH = "/chat/completions"


class Face:
    """One of the two clients, used in the same words: `use` is given a client and what it gives may have to be awaited."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.is_async = kind is AsyncAPIClient

    def run(self, provider: FakeAIProvider, use: Callable[[Any], Any], **options: Any) -> Any:
        """What `use` makes of a client for this provider."""
        client = self.kind(options.pop("base_url", provider.openai_url), **options)
        if not self.is_async:
            with client:
                return use(client)

        async def main() -> Any:
            async with client:
                result = use(client)
                return await result if inspect.isawaitable(result) else result

        return asyncio.run(main())

    def beneath(self, library: ModuleType) -> Any:
        """A client of one of the libraries."""
        return library.AsyncClient() if self.is_async else library.Client()


@pytest.fixture(params=[AsyncAPIClient, APIClient], ids=["async", "sync"])
def face(request: pytest.FixtureRequest) -> Face:
    """Both clients."""
    return Face(request.param)


@pytest.fixture
def provider() -> Iterator[FakeAIProvider]:
    """A provider for one test."""
    with FakeAIProvider() as running:
        yield running


def ask(client: Any) -> Any:
    """A chat."""
    return client.post(PATH, json=CHAT)


def listen(client: Any, **given: Any) -> Any:
    """The events of a chat, all of them."""
    stream = client.stream("POST", PATH, json=STREAM, **given)

    async def collect() -> list[Any]:
        async with contextlib.aclosing(stream):
            return [event async for event in stream]

    return collect() if inspect.isasyncgen(stream) else list(stream)


def settled(provider: FakeAIProvider) -> int:
    """How many connections are open once the server has heard of what was closed."""
    deadline = time.monotonic() + 2.0
    while provider.open_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    return provider.open_connections


def test_requests_share_a_connection_that_is_closed_at_the_end(face: Face, provider: FakeAIProvider) -> None:
    """Ten requests, one connection, none afterwards."""

    def ten(client: Any) -> Any:
        if not face.is_async:
            return [ask(client) for _ in range(10)]

        async def main() -> list[Any]:
            return [await ask(client) for _ in range(10)]

        return main()

    answers = face.run(provider, ten)
    assert {"fake"} == {answer["model"] for answer in answers}
    assert (10, 1, 0) == (provider.request_count, provider.total_connections, settled(provider))


def test_an_error_in_the_block_closes_the_connection(face: Face, provider: FakeAIProvider) -> None:
    """The context manager closes what was opened, and the error passes."""

    def fail(client: Any) -> Any:
        async def main() -> None:
            await ask(client)
            raise LookupError

        if face.is_async:
            return main()
        ask(client)
        raise LookupError

    with pytest.raises(LookupError):
        face.run(provider, fail)
    assert 0 == settled(provider)


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_of_either_library_may_be_handed_over(face: Face, provider: FakeAIProvider, library: ModuleType) -> None:
    """JSON and streams, with our base and headers; it stays open."""
    beneath = face.beneath(library)
    provider.faults = [Fault.server_error(), OK, Fault.reset(), OK]

    def both(client: Any) -> Any:
        if not face.is_async:
            answers = [ask(client), listen(client)]
            beneath.close()
            return answers

        async def main() -> list[Any]:
            answers = [await ask(client), await listen(client)]
            assert not beneath.is_closed
            await beneath.aclose()
            return answers

        return main()

    answer, events = face.run(provider, both, client=beneath, retry_config=QUICK, headers={"X-Team": "a"})
    assert ("fake", 4) == (answer["model"], provider.request_count)
    assert events[0].json()["object"] == "chat.completion.chunk"
    assert {"a"} == {request.headers["x-team"] for request in provider.requests}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.rate_limited(2.0), RateLimitError),
        (Fault.insufficient_quota(), QuotaExceededError),
        (Fault.server_error(), ServerError),
        (Fault.unavailable(), ServiceUnavailableError),
        (Fault.overloaded(), ServiceUnavailableError),
        (Fault.reset(), APIConnectionError),
        (Fault.truncated(), APIConnectionError),
        (Fault.error_in_body(), ServerError),
        (Fault.malformed(), TransientAIError),
        (Fault.hang(), APITimeoutError),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else value.__name__,
)
def test_every_fault_has_a_type(face: Face, provider: FakeAIProvider, fault: Fault, error: type[AIServiceError]) -> None:
    """As an answer; what an answer tells is on the error, and nothing stays open."""
    provider.faults = fault
    with pytest.raises(error) as caught:
        face.run(provider, ask, timeout=0.3)
    assert (1, 0) == (provider.request_count, settled(provider))
    if caught.value.status is not None:
        assert "req_000001" == caught.value.request_id
    if isinstance(caught.value, RateLimitError):
        assert 2.0 == caught.value.retry_after


def test_mistakes_of_the_caller_have_types(face: Face) -> None:
    """A wrong key, a wrong path, a wrong body, a port where nobody listens."""
    key = "sk-canary-0123456789"
    with FakeAIProvider(api_key="right") as provider:
        with pytest.raises(AuthenticationError) as caught:
            face.run(provider, ask, headers={"Authorization": f"Bearer {key}"})
        assert "canary" not in repr(caught.value)
        right = {"Authorization": "Bearer right"}
        with pytest.raises(ResourceNotFoundError):
            face.run(provider, lambda client: client.get("/nowhere"), headers=right)
        with pytest.raises(InvalidRequestError):
            face.run(provider, lambda client: client.post(PATH, content=b"{"), headers=right)
        with provider.refusing(), pytest.raises(APIConnectionError, match=r"^Connection error: "):
            face.run(provider, ask)


def test_the_circuit_opens_refuses_and_closes_again(face: Face, provider: FakeAIProvider) -> None:
    """Two requests of two attempts open it; the next is not sent; after its time a trial closes it."""
    breaker = CircuitBreaker(2, 0.2, name="chat")
    parts: dict[str, Any] = {"circuit_breaker": breaker, "retry_config": RetryConfig(max_attempts=2, base_delay=0.0)}
    provider.faults = Fault.server_error()
    for _ in range(2):
        with pytest.raises(ServerError):
            face.run(provider, ask, **parts)
    with pytest.raises(CircuitBreakerOpenError):
        face.run(provider, ask, **parts)
    assert (4, CircuitState.OPEN) == (provider.request_count, breaker.state)
    provider.faults = OK
    time.sleep(0.25)
    assert "fake" == face.run(provider, ask, **parts)["model"]
    assert CircuitState.CLOSED is breaker.state


@pytest.mark.parametrize(
    ("fault", "error", "events"),
    [
        (Fault.unfinished(3), StreamInterruptedError, 3),
        (Fault.truncated(3), StreamInterruptedError, 3),
        (Fault.reset(3), StreamInterruptedError, 3),
        (Fault.error_in_body(2), StreamInterruptedError, 2),
        (Fault.hang(2), StreamInterruptedError, 2),
        (Fault.unfinished(0), APIConnectionError, 0),
    ],
    ids=str,
)
def test_streams_that_break(face: Face, provider: FakeAIProvider, fault: Fault, error: type[Exception], events: int) -> None:
    """Typed, with what has come, and closed; one that broke before its first event is begun again."""
    provider.faults = fault
    with pytest.raises(error) as caught:
        face.run(provider, listen, timeout=0.3)
    if isinstance(caught.value, StreamInterruptedError):
        assert events == caught.value.delivered
    assert 0 == settled(provider)
    provider.clear()
    provider.faults = [Fault.reset(), Fault.unfinished(0), OK]
    assert face.run(provider, listen, retry_config=QUICK)
    assert 3 == provider.request_count


def test_a_whole_stream_leaves_its_connection_to_the_next(face: Face, provider: FakeAIProvider) -> None:
    """It is read out, so that the connection can be used again."""

    def twice(client: Any) -> Any:
        if not face.is_async:
            return [listen(client), listen(client)]

        async def main() -> list[Any]:
            return [await listen(client), await listen(client)]

        return main()

    first, second = face.run(provider, twice)
    assert len(first) == len(second)
    assert 1 == provider.total_connections


def test_anthropic_streams_end_in_their_own_way(face: Face, provider: FakeAIProvider) -> None:
    """`message_stop` is known by the path."""
    body = {"model": "fake", "max_tokens": 20, "messages": CHAT["messages"], "stream": True}

    def use(client: Any) -> Any:
        stream = client.stream("POST", "/v1/messages", json=body)

        async def collect() -> list[Any]:
            return [event async for event in stream]

        return collect() if face.is_async else list(stream)

    events = face.run(provider, use, base_url=provider.anthropic_url)
    assert ("message_start", "message_stop") == (events[0].event, events[-1].event)
    provider.faults = Fault.unfinished(2)
    with pytest.raises(StreamInterruptedError):
        face.run(provider, use, base_url=provider.anthropic_url)


def test_all_parts_together(face: Face) -> None:
    """Breaker, retries, limiter, pacing and a deadline, thirty requests at once, one fault in four: all are answered.

    No POST is sent twice without the same key, and nothing is left open.
    """
    faults = [Fault.server_error(), OK, OK, OK, Fault.reset(), OK, Fault.rate_limited(0.05), OK] * 8
    with FakeAIProvider(faults) as provider:
        parts: dict[str, Any] = {
            "circuit_breaker": CircuitBreaker(10, 1.0),
            "retry_config": RetryConfig(max_attempts=8, base_delay=0.01, max_delay=0.05),
            "rate_limiter": TokenBucketRateLimiter(200, 1.0, 20),
            "pacing": Pacing(),
            "deadline": 20.0,
            "headers": {"Authorization": "Bearer any"},
        }

        def many(client: Any) -> Any:
            if not face.is_async:
                with ThreadPoolExecutor(8) as pool:
                    return list(pool.map(lambda _: ask(client), range(30)))

            async def main() -> list[Any]:
                return await asyncio.gather(*(ask(client) for _ in range(30)))

            return main()

        answers = face.run(provider, many, **parts)
        keys = [request.headers["idempotency-key"] for request in provider.requests]
        assert (30, 30) == (len(answers), len(set(keys)))
        assert 30 < len(keys) < 60
        assert CircuitState.CLOSED is parts["circuit_breaker"].state
        assert 0 == settled(provider)


def test_a_limited_provider_is_never_asked_too_often(face: Face) -> None:
    """Our own limiter keeps within the provider's: no 429."""
    with FakeAIProvider(limits=ProviderLimits(requests_per_minute=1200, burst_seconds=0.5)) as provider:
        limiter = TokenBucketRateLimiter(1200, 60.0, 8)

        def many(client: Any) -> Any:
            if not face.is_async:
                return [ask(client) for _ in range(20)]

            async def main() -> list[Any]:
                return await asyncio.gather(*(ask(client) for _ in range(20)))

            return main()

        begun = time.monotonic()
        assert 20 == len(face.run(provider, many, rate_limiter=limiter))
        assert (20, True) == (provider.request_count, time.monotonic() - begun >= 0.55)


def test_without_time_to_wait_the_limiter_refuses(face: Face, provider: FakeAIProvider) -> None:
    """The second request would have to wait for longer than its deadline."""
    limiter = TokenBucketRateLimiter(1, 60.0)
    face.run(provider, ask, rate_limiter=limiter, deadline=1.0)
    begun = time.monotonic()
    with pytest.raises(RateLimitExceededError):
        face.run(provider, ask, rate_limiter=limiter, deadline=1.0)
    assert (1, True) == (provider.request_count, time.monotonic() - begun < 0.5)


def test_a_wrong_key_is_tried_once(face: Face) -> None:
    """Five requests with it are one on the wire; the right key goes on at once."""
    pacing = Pacing()
    with FakeAIProvider(api_key="right") as provider:
        for number in range(5):
            with pytest.raises(AuthenticationError if number == 0 else CredentialRefusedError):
                face.run(provider, ask, pacing=pacing, headers={"Authorization": "Bearer wrong"})
        face.run(provider, ask, pacing=pacing, headers={"Authorization": "Bearer right"})
        assert 2 == provider.request_count


def test_a_deadline_ends_a_service_that_hangs(face: Face, provider: FakeAIProvider) -> None:
    """Async by cutting the request off, sync by the timeout that it is given."""
    provider.faults = Fault.hang()
    begun = time.monotonic()
    with pytest.raises((DeadlineExceededError, APITimeoutError)):
        face.run(provider, ask, deadline=0.3, retry_config=QUICK)
    assert 0.25 < time.monotonic() - begun < 1.0
    assert 0 == settled(provider)


async def test_a_cancelled_request_gives_its_connection_back(provider: FakeAIProvider) -> None:
    """A pool of one still works after ten requests and ten streams that were cancelled."""
    beneath = httpx.AsyncClient(limits=httpx.Limits(max_connections=1))
    async with beneath, AsyncAPIClient(provider.openai_url, client=beneath, retry_config=QUICK) as client:
        provider.faults = Fault.hang()
        for kind in (ask, listen):
            for _ in range(10):
                task = asyncio.create_task(kind(client))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        provider.faults = OK
        assert "fake" == (await ask(client))["model"]


async def test_a_client_that_is_forgotten_gives_its_connections_back(provider: FakeAIProvider) -> None:
    """With a warning that names it; the loop closes them."""
    client = AsyncAPIClient(provider.openai_url)
    await ask(client)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not provider.open_connections:
                break
    assert ["ResourceWarning"] == [each.category.__name__ for each in caught]
    assert f"unclosed <AsyncAPIClient '127.0.0.1:{provider.port}'>" in str(caught[0].message)
    assert 0 == provider.open_connections


def test_hundreds_of_faults_leave_nothing_behind(face: Face) -> None:
    """No task, no thread, no open file, however requests end."""
    faults = [Fault.server_error(), Fault.reset(), Fault.truncated(), Fault.malformed(), Fault.rate_limited(None), OK]
    files = Path("/proc/self/fd")
    with FakeAIProvider(lambda request: faults[request.number % len(faults)]) as provider:

        def open_files() -> int:
            return len(os.listdir(files)) if files.exists() else 0  # noqa: PTH208 - a number, of a folder that changes

        def many(client: Any) -> Any:
            def count(results: list[Any]) -> tuple[int, int]:
                return len(results), open_files()

            if not face.is_async:
                return count([_ended(client) for _ in range(300)])

            async def main() -> tuple[int, int]:
                results = [await asyncio.gather(*(ask(client) for _ in range(10)), return_exceptions=True) for _ in range(15)]
                streams = [await asyncio.gather(*(listen(client) for _ in range(10)), return_exceptions=True) for _ in range(15)]
                assert 1 == len(asyncio.all_tasks())
                return count([each for group in (*results, *streams) for each in group])

            return main()

        before = (open_files(), threading.active_count())
        face.run(provider, many)
        assert 0 == settled(provider)
        gc.collect()
        assert before == (open_files(), threading.active_count())


def _ended(client: Any) -> Any:
    try:
        return ask(client)
    except AIServiceError as error:
        return type(error)


async def test_an_endpoint_as_data(provider: FakeAIProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method, key and payload; retries; a stream; and LightRAG's health by another method."""
    monkeypatch.setenv("FAKE_KEY", "any")
    config = EndpointConfig(provider="fake", endpoint=PATH, base_url=provider.openai_url, api_key="env:FAKE_KEY")
    provider.faults = [Fault.server_error(), OK]
    async with Endpoint(config, retry_config=QUICK) as chat:
        assert "fake" == (await chat.call({"json": CHAT}))["model"]
        assert [event async for event in chat.stream({"json": STREAM})]
    assert {"Bearer any"} == {request.headers["authorization"] for request in provider.requests}
    async with Endpoint(EndpointConfig(provider="rag", endpoint="/health", base_url=provider.url, method="GET")) as health:
        assert "healthy" == (await health.call())["status"]
    async with Endpoint(EndpointConfig(provider="rag", endpoint="/health", base_url=provider.url)) as health:
        assert "healthy" == (await health.call({"method": "GET"}))["status"]


async def test_an_endpoints_circuit_opens_and_closes(provider: FakeAIProvider) -> None:
    """A refusal while it is open, an answer after its time."""
    config = EndpointConfig(provider="fake", endpoint=PATH, base_url=provider.openai_url)
    provider.faults = [Fault.server_error(), Fault.server_error()]
    async with Endpoint(config, circuit_breaker=CircuitBreaker(2, 0.1)) as chat:
        for error in (ServerError, ServerError, CircuitBreakerOpenError):
            with pytest.raises(error):
                await chat.call({"json": CHAT})
        await asyncio.sleep(0.15)
        assert "fake" == (await chat.call({"json": CHAT}))["model"]
    assert 3 == provider.request_count
