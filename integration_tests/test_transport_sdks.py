"""The official openai and anthropic clients with our transport and nothing else changed.

What each of the 27 scripts of faults comes to stands as a table in docs/reference/transports.md, and is measured here for the
four clients: what the caller saw, how many requests arrived, how long it took.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig, RetryConfig
from resilience_kit.errors import StreamInterruptedError
from resilience_kit.events import NestedRetry
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.http.pacing import Pacing
from resilience_kit.testing.provider import OK, FakeAIProvider, Fault, ReceivedRequest

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "transports.md"
CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
LATE = 0.6  # seconds by which a busy machine may be late
RETRY = RetryConfig(max_attempts=3, base_delay=0.02, max_delay=0.04, jitter=None)
PAUSES = 0.06  # both of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One script: what the service does, and what comes of it.

    `saw` is the type of error, or the answer, by SDK; where sync and async differ, there are two. `wait` is in seconds, without
    the time that the service takes; `most`: how much longer it may be.
    """

    name: str
    faults: Any
    saw: tuple[str, str]
    requests: int
    wait: float = 0.0
    most: float = 0.0
    stream: bool = False
    max_retries: int = 0
    timeout: float = 5.0
    config: dict[str, Any] = field(default_factory=dict)
    api_key: str | None = None
    refused: bool = False
    calls: int = 1


ANSWER = ("the answer", "the answer")
DOWN = ("InternalServerError", "ServiceUnavailableError")
LIMITED = ("RateLimitError", "RateLimitError")
CONNECTION = ("APIConnectionError", "APIConnectionError")
BROKEN = ("StreamInterruptedError", "StreamInterruptedError")

SCRIPTS = (
    Script(name="nothing is wrong", faults=OK, saw=ANSWER, requests=1),
    Script(name="nothing is wrong, streamed", faults=OK, saw=ANSWER, requests=1, stream=True),
    Script(name="500, 500, good", faults=[Fault.server_error()] * 2, saw=ANSWER, requests=3, wait=PAUSES),
    Script(name="500, 500, good, streamed", faults=[Fault.server_error()] * 2, saw=ANSWER, requests=3, wait=PAUSES, stream=True),
    Script(
        name="503 for ever", faults=Fault.unavailable(), saw=DOWN, requests=3, wait=PAUSES
    ),
    Script(name="529, good", faults=[Fault.overloaded()], saw=ANSWER, requests=2, wait=0.02),
    Script(name="429 with Retry-After 0.3 s, good", faults=[Fault.rate_limited(0.3)], saw=ANSWER, requests=2, wait=0.3),
    Script(name="429 with Retry-After 90 s", faults=Fault.rate_limited(90), saw=LIMITED, requests=1),
    Script(name="an empty account", faults=Fault.insufficient_quota(), saw=("RateLimitError", "BadRequestError"), requests=1),
    Script(name="a wrong key", faults=OK, api_key="right", saw=("AuthenticationError",) * 2, requests=1),
    Script(name="reset, reset, good", faults=[Fault.reset()] * 2, saw=ANSWER, requests=3, wait=PAUSES),
    Script(name="reset for ever", faults=Fault.reset(), saw=CONNECTION, requests=3, wait=PAUSES),
    Script(name="connections refused", faults=OK, refused=True, saw=CONNECTION, requests=0, wait=PAUSES),
    Script(name="the answer is cut, good", faults=[Fault.truncated()], saw=ANSWER, requests=2, wait=0.02),
    Script(name="JSON that is none, good", faults=[Fault.malformed()], saw=ANSWER, requests=2, wait=0.02),
    Script(
        name="an error in a 200, for ever",
        faults=Fault.error_in_body(),
        saw=DOWN,
        requests=3,
        wait=PAUSES,
    ),
    Script(name="no answer within 0.3 s, good", faults=[Fault.hang()], saw=ANSWER, requests=2, wait=0.32, timeout=0.3),
    Script(
        name="no answer within the deadline of 0.4 s",
        faults=Fault.hang(),
        saw=("APITimeoutError, DeadlineExceededError", "APITimeoutError, APIConnectionError < DeadlineExceededError"),
        requests=1,
        wait=0.4,
        config={"deadline": 0.4},
    ),
    Script(
        name="the first event is an error, good",
        faults=[Fault.error_in_body(0)],
        saw=ANSWER,
        requests=2,
        wait=0.02,
        stream=True,
    ),
    Script(name="a stream ends without its last event", faults=Fault.unfinished(), saw=BROKEN, requests=1, stream=True),
    Script(name="a stream is reset after two events", faults=Fault.reset(after=2), saw=BROKEN, requests=1, stream=True),
    Script(name="a stream is cut after two events", faults=Fault.truncated(after=2), saw=BROKEN, requests=1, stream=True),
    Script(
        name="an error event in a stream",
        faults=Fault.error_in_body(3),
        saw=("APIError", "APIStatusError"),
        requests=1,
        stream=True,
    ),
    Script(
        name="500 for ever, and a circuit that opens at 3",
        faults=Fault.server_error(),
        saw=("CircuitBreakerOpenError", "APIConnectionError < CircuitBreakerOpenError"),
        requests=3,
        wait=PAUSES,
        config={"circuit_breaker": CircuitBreakerConfig(failure_threshold=3)},
        calls=2,
    ),
    Script(
        name="503 for ever, SDK with max_retries=2",
        faults=Fault.unavailable(),
        saw=DOWN,
        requests=4,
        wait=PAUSES,
        most=0.5,
        max_retries=2,
    ),
    Script(
        name="429 with Retry-After 90 s, SDK with max_retries=2",
        faults=Fault.rate_limited(90),
        saw=LIMITED,
        requests=1,
        max_retries=2,
    ),
    Script(
        name="reset for ever, SDK with max_retries=2",
        faults=Fault.reset(),
        saw=CONNECTION,
        requests=5,
        wait=PAUSES,
        most=1.5,
        max_retries=2,
    ),
)  # fmt: skip


class OpenAI:
    """Chat completions."""

    module, index = openai, 0
    clients = (openai.OpenAI, openai.AsyncOpenAI)

    def url(self, provider: FakeAIProvider) -> str:
        return provider.openai_url

    def create(self, client: Any, *, stream: bool) -> Any:
        return client.chat.completions.create(**CHAT, stream=stream)

    def text(self, answer: Any) -> str:
        return answer.choices[0].message.content

    def piece(self, event: Any) -> str:
        return event.choices[0].delta.content or "" if event.choices else ""


class Anthropic:
    """Messages."""

    module, index = anthropic, 1
    clients = (anthropic.Anthropic, anthropic.AsyncAnthropic)

    def url(self, provider: FakeAIProvider) -> str:
        return provider.anthropic_url

    def create(self, client: Any, *, stream: bool) -> Any:
        return client.messages.create(**CHAT, max_tokens=50, stream=stream)

    def text(self, answer: Any) -> str:
        return answer.content[0].text

    def piece(self, event: Any) -> str:
        return event.delta.text if event.type == "content_block_delta" else ""


Sdk = OpenAI | Anthropic
SDKS: tuple[Sdk, Sdk] = (OpenAI(), Anthropic())


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a script."""

    saw: str
    requests: int
    seconds: float


class Bench:
    """One of the four clients."""

    def __init__(self, sdk: Sdk, *, asynchronous: bool) -> None:
        self.sdk, self.asynchronous = sdk, asynchronous
        self.kit = AIServiceResilience()

    def client(self, script: Script, provider: FakeAIProvider) -> Any:
        """The client, with a transport of ours. Certificates, which take time to load, are not needed here."""
        options = {"retry": RETRY, "circuit_breaker": CircuitBreakerConfig(failure_threshold=50), **script.config}
        given: Any = {"config": ResilienceConfig(**options), "resilience": self.kit, "pacing": Pacing()}
        module = self.sdk.module
        if self.asynchronous:
            transport: Any = AsyncResilientTransport(httpx2.AsyncHTTPTransport(verify=False), **given)
            http_client = module.DefaultAsyncHttpxClient(transport=transport)
        else:
            transport = ResilientTransport(httpx2.HTTPTransport(verify=False), **given)
            http_client = module.DefaultHttpxClient(transport=transport)
        return self.sdk.clients[self.asynchronous](
            base_url=self.sdk.url(provider),
            api_key="any",
            max_retries=script.max_retries,
            timeout=script.timeout,
            http_client=http_client,
        )

    async def run(self, script: Script) -> Seen:
        """Ask as often as the script wants, and tell of the last time."""
        with FakeAIProvider(script.faults, api_key=script.api_key) as provider, ExitStack() as stack:
            client = self.client(script, provider)
            if script.refused:
                stack.enter_context(provider.refusing())
            begun, saw = time.monotonic(), ""
            for _ in range(script.calls):
                saw = await self._ask(client, stream=script.stream)
            seconds = time.monotonic() - begun
            await client.close() if self.asynchronous else client.close()
            await _until(lambda: not provider.open_connections)
            return Seen(saw, provider.request_count, seconds)

    async def _ask(self, client: Any, *, stream: bool) -> str:
        try:
            text = await (
                self._async(client, stream=stream) if self.asynchronous else asyncio.to_thread(self._sync, client, stream=stream)
            )
        except Exception as error:
            return _words(error)
        assert "The answer is forty-two, as far as anybody knows." == text
        return "the answer"

    def _sync(self, client: Any, *, stream: bool) -> str:
        answer = self.sdk.create(client, stream=stream)
        return "".join(map(self.sdk.piece, answer)) if stream else self.sdk.text(answer)

    async def _async(self, client: Any, *, stream: bool) -> str:
        answer = await self.sdk.create(client, stream=stream)
        return "".join([self.sdk.piece(event) async for event in answer]) if stream else self.sdk.text(answer)


def _words(error: Exception) -> str:
    """The type of error, with ours where an SDK has wrapped it."""
    name, cause = type(error).__name__, error.__cause__
    ours = cause is not None and type(cause).__module__.startswith("resilience_kit") and not name.startswith("Stream")
    return f"{name} < {type(cause).__name__}" if ours else name


async def _until(done: Callable[[], bool]) -> None:
    for _ in range(300):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def open_files() -> int:
    """How many file descriptors this process has."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.fixture(params=SDKS, ids=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Either SDK."""
    return request.param


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def bench(sdk: Sdk, request: pytest.FixtureRequest) -> Bench:
    """One of the four clients."""
    return Bench(sdk, asynchronous=request.param)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The provider's own server complains of clients that leave."""
    with caplog.at_level(logging.CRITICAL, "asyncio"):
        yield


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
async def test_what_comes_of_each_script(bench: Bench, script: Script) -> None:
    """As the table says; no connection, task or file descriptor is left, and nobody sleeps beyond what was asked for."""
    await asyncio.to_thread(time.sleep, 0)  # the loop's own threads stay
    tasks, files = asyncio.all_tasks(), open_files()
    seen = await bench.run(script)
    expected = script.saw[bench.sdk.index].split(", ")[-1 if bench.asynchronous else 0]
    assert (expected, script.requests) == (seen.saw, seen.requests)
    assert script.wait <= seen.seconds < script.wait + script.most + LATE + 0.1 * script.requests
    gc.collect()
    await _until(lambda: tasks == asyncio.all_tasks() and open_files() <= files)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_page_tells_the_same(script: Script) -> None:
    """The table of docs/reference/transports.md has this row."""
    assert row(script) in PAGE.read_text(encoding="utf-8").splitlines()


def row(script: Script) -> str:
    """A script's line of the table."""
    wait = f"{script.wait:g} s" + (f", and up to {script.most:g} s of the SDK's" if script.most else "")
    openai_saw, anthropic_saw = (
        " / ".join(f"`{each}`" if each != "the answer" else each for each in saw.split(", ")) for saw in script.saw
    )
    return f"| {script.name} | {openai_saw} | {anthropic_saw} | {script.requests} | {wait if script.wait else '0'} |"


async def test_the_sdks_own_retries_are_told_once(bench: Bench) -> None:
    """With the sentence that says what to do; after that the SDK is told not to retry, and does not."""
    heard: list[NestedRetry] = []
    bench.kit.add_listener(heard.append, NestedRetry)
    script = Script(name="", faults=Fault.unavailable(), saw=DOWN, requests=0, max_retries=2, calls=3)
    seen = await bench.run(script)
    assert 3 + 1 + 3 + 3 == seen.requests
    assert ["build the client with max_retries=0 and leave retrying to the transport"] == [each.remedy for each in heard]


async def test_three_lines_are_enough(sdk: Sdk) -> None:
    """As the how-to has them: default options, the transport's own connections, the default orchestrator."""
    with FakeAIProvider([Fault.rate_limited(0.05)]) as provider:
        http_client = sdk.module.DefaultHttpxClient(transport=ResilientTransport())
        with sdk.clients[0](base_url=sdk.url(provider), api_key="any", http_client=http_client, max_retries=0) as client:
            answer = await asyncio.to_thread(sdk.create, client, stream=False)
    assert ("The answer is forty-two, as far as anybody knows.", 2) == (sdk.text(answer), provider.request_count)


async def test_attempts_share_a_key(bench: Bench) -> None:
    """The official SDKs send none of their own; ours is the same at each attempt, and another for each request."""
    with FakeAIProvider([Fault.server_error(), Fault.reset(), OK, Fault.server_error()]) as provider:
        client = bench.client(Script(name="", faults=OK, saw=ANSWER, requests=0), provider)
        for _ in range(2):
            assert "the answer" == await bench._ask(client, stream=False)
        await client.close() if bench.asynchronous else client.close()
        keys = [request.idempotency_key for request in provider.requests]
    assert ([keys[0]] * 3 + [keys[3]] * 2, 2) == (keys, len({*keys} - {None}))


# --- ten thousand faults ---------------------------------------------------------------------------------------------------

FAULTS = (
    Fault.server_error(),
    Fault.rate_limited(0.001),
    Fault.reset(),
    Fault.truncated(),
    Fault.unfinished(),
    Fault.error_in_body(),
    Fault.malformed(),
    Fault.reset(after=2),
)
BROKEN_BODIES = (StreamInterruptedError, httpx.TransportError, httpx2.TransportError)
QUARTER = 2_500
AT_ONCE = 16


def _faulty(request: ReceivedRequest) -> Fault:
    return FAULTS[request.number % len(FAULTS)]


def _plain_config() -> Any:
    """Each request meets one fault: nothing is retried, refused or parked."""
    config = ResilienceConfig(retry=None, circuit_breaker=None)
    return {"config": config, "resilience": AIServiceResilience(), "pacing": None}


@pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_the_pool_is_well_after_thousands_of_faults(http: ModuleType) -> None:
    """Async, half of them streams, some left half-way: 2500 for each library and kind. Afterwards none is lent out."""
    gc.collect()
    files = open_files()
    with FakeAIProvider(_faulty) as provider:
        inner = http.AsyncHTTPTransport(verify=False, limits=http.Limits(max_connections=AT_ONCE))
        async with http.AsyncClient(transport=AsyncResilientTransport(inner, **_plain_config()), timeout=10.0) as client:
            url = f"{provider.openai_url}/chat/completions"

            async def worker(number: int) -> None:
                for turn in range(number, QUARTER, AT_ONCE):
                    await _swallow(_one(client, url, turn))

            await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))
            provider.faults = OK
            assert QUARTER == provider.request_count
            assert all(connection.is_idle() or connection.is_closed() for connection in inner._pool.connections)
            good = await asyncio.gather(*(client.post(url, json=CHAT) for _ in range(AT_ONCE)))
            assert {200} == {response.status_code for response in good}
            assert len(inner._pool.connections) <= AT_ONCE
        await _until(lambda: not provider.open_connections)
    gc.collect()
    assert {asyncio.current_task()} == asyncio.all_tasks()
    assert open_files() <= files


async def _one(client: Any, url: str, turn: int) -> None:
    if turn % 2:
        await client.post(url, json=CHAT)
        return
    async with client.stream("POST", url, json=CHAT | {"stream": True}) as response:
        async for _ in response.aiter_bytes():
            if turn % 10 == 0:
                break


async def _swallow(request: Awaitable[None]) -> None:
    with suppress(*BROKEN_BODIES):
        await request


async def test_streams_that_are_dropped_end_quietly() -> None:
    """The SDK's stream is a circle: the collector closes its generators, and none finds another one at it (invariant 15)."""
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    with FakeAIProvider() as provider:
        transport = AsyncResilientTransport(**_plain_config())
        http = openai.DefaultAsyncHttpxClient(transport=transport)
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, http_client=http, max_retries=0) as client:

            async def drop() -> None:
                async for _ in await client.chat.completions.create(**CHAT, stream=True):
                    return

            await asyncio.gather(*(drop() for _ in range(30)))
            await _until(lambda: gc.collect() >= 0 and not transport._inner._pool.connections)
            await _until(lambda: {asyncio.current_task()} == asyncio.all_tasks())
    assert [] == noise


@pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_the_pool_of_a_sync_client_is_well_too(http: ModuleType) -> None:
    """Threads instead of tasks."""
    gc.collect()
    files = open_files()
    with FakeAIProvider(_faulty) as provider:
        inner = http.HTTPTransport(verify=False, limits=http.Limits(max_connections=AT_ONCE))
        with http.Client(transport=ResilientTransport(inner, **_plain_config()), timeout=10.0) as client:
            url = f"{provider.openai_url}/chat/completions"

            def worker(number: int) -> None:
                for turn in range(number, QUARTER, 4):
                    with suppress(*BROKEN_BODIES):
                        _one_sync(client, url, turn)

            with ThreadPoolExecutor(4) as pool:
                await asyncio.to_thread(lambda: list(pool.map(worker, range(4))))
            provider.faults = OK
            assert QUARTER == provider.request_count
            assert all(connection.is_idle() or connection.is_closed() for connection in inner._pool.connections)
            assert 200 == (await asyncio.to_thread(client.post, url, json=CHAT)).status_code
        await _until(lambda: not provider.open_connections)
    gc.collect()
    assert open_files() <= files + 1  # the loop's own thread


def _one_sync(client: Any, url: str, turn: int) -> None:
    if turn % 2:
        client.post(url, json=CHAT)
        return
    with client.stream("POST", url, json=CHAT | {"stream": True}) as response:
        for _ in response.iter_bytes():
            if turn % 10 == 0:
                break
