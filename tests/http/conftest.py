"""A laboratory for transports: either library, either kind of client, a service that follows a script, and a fake clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig, RetryConfig
from resilience_kit.config import ResilienceSettings
from resilience_kit.events import Event
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.testing import FakeClock

HOST = "https://api.example.com"
CHAT = f"{HOST}/v1/chat/completions"
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


@dataclass(slots=True)
class Answer:
    """A response: the pieces of its body, and what the body breaks with."""

    status: int = 200
    pieces: tuple[bytes, ...] = (b'{"id":"1","object":"chat.completion"}',)
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    breaks: BaseException | None = None


@dataclass(slots=True)
class Sent:
    """A request as it arrived."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    timeout: Any


class Service:
    """Answers as its script says; the last word stays. What is an exception is raised, what can be called is called."""

    def __init__(self, http: ModuleType) -> None:
        self.http = http
        self.script: list[Any] = [Answer()]
        self.sent: list[Sent] = []
        self.opened = self.closed = 0

    def _next(self, request: Any, body: bytes) -> Any:
        self.sent.append(Sent(request.method, str(request.url), dict(request.headers), body, request.extensions.get("timeout")))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        step = step() if callable(step) and not isinstance(step, type) else step
        if isinstance(step, BaseException):
            try:
                raise step
            finally:
                del step  # else its frame would hold the error that holds the frame
        self.opened += 1
        return self.http.Response(step.status, headers=step.headers, stream=self._stream(step))

    def _stream(self, answer: Answer) -> Any:
        service = self

        class Stream(self.http.SyncByteStream, self.http.AsyncByteStream):  # type: ignore[misc, name-defined]
            is_open = True

            def __iter__(self) -> Iterator[bytes]:
                yield from answer.pieces
                if answer.breaks is not None:
                    raise answer.breaks

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for piece in self:
                    yield piece

            def close(self) -> None:
                service.closed += self.is_open
                self.is_open = False

            async def aclose(self) -> None:
                self.close()

        return Stream()

    def handle_request(self, request: Any) -> Any:
        return self._next(request, b"".join(request.stream))

    async def handle_async_request(self, request: Any) -> Any:
        return self._next(request, b"".join([piece async for piece in request.stream]))

    def close(self) -> None:
        self.closed += 1000

    async def aclose(self) -> None:
        self.close()


@cache
def settings() -> ResilienceSettings:
    """Those without a variable, made once: reading the environment takes longer than most tests."""
    return ResilienceSettings()


class Lab:
    """One transport, its service and its operations."""

    Answer = Answer

    def __init__(self, http: ModuleType, *, asynchronous: bool) -> None:
        self.http, self.asynchronous = http, asynchronous
        self.clock = FakeClock(100.0)
        self.kit = AIServiceResilience(settings(), clock=self.clock)
        self.events: list[Event] = []
        self.service = Service(http)
        self.transport: Any = self.build()
        self.got: list[bytes] = []

    def build(self, inner: Any = ..., **options: Any) -> Any:
        """A transport; without pacing, as that has a clock of its own."""
        kind = AsyncResilientTransport if self.asynchronous else ResilientTransport
        options = {"config": self.config(), "resilience": self.kit, "pacing": None, **options}
        self.transport = kind(self.service if inner is ... else inner, **options)
        return self.transport

    def config(self, **options: Any) -> ResilienceConfig:
        """Three attempts, 1 s and 2 s apart, and a breaker that is not in the way."""
        given = {"retry": RetryConfig(jitter=None), "circuit_breaker": CircuitBreakerConfig(failure_threshold=1000), **options}
        return ResilienceConfig(**given)

    def script(self, *steps: Any) -> None:
        """What the service says to the next requests."""
        self.service.script = list(steps)
        self.service.sent.clear()

    def client(self) -> Any:
        """A client of the library with the transport."""
        return (self.http.AsyncClient if self.asynchronous else self.http.Client)(transport=self.transport, timeout=5.0)

    async def send(self, method: str = "POST", url: str = CHAT, **given: Any) -> Any:
        """One request; its response, read."""
        if method == "POST" and not {"content", "json", "files"} & given.keys():
            given["json"] = {"model": "m"}
        response = self.client().request(method, url, **given)
        return await response if self.asynchronous else response

    async def read(self, url: str = CHAT, *, most: int = 10**9, method: str = "POST", **given: Any) -> list[bytes]:
        """One request whose body is read piece by piece into `got`, at most so many pieces."""
        self.got, client = [], self.client()
        if self.asynchronous:
            async with client.stream(method, url, **given) as response:
                async for piece in response.aiter_raw():
                    self.got.append(piece)
                    if len(self.got) >= most:
                        break
        else:
            with client.stream(method, url, **given) as response:
                for piece in response.iter_raw():
                    self.got.append(piece)
                    if len(self.got) >= most:
                        break
        return self.got

    def listen(self, *types: type[Event]) -> None:
        """Collect events."""
        self.kit.add_listener(self.events.append, *types)

    def counted(self, operation: str = "api.example.com") -> dict[str, int]:
        """The counters that are not zero."""
        numbers = self.kit.get_metrics(operation)
        return {name: value for name, value in numbers.items() if type(value) is int and value}

    @property
    def requests(self) -> int:
        """How many requests arrived."""
        return len(self.service.sent)

    @property
    def keys(self) -> list[str | None]:
        """The idempotency keys that arrived."""
        return [sent.headers.get("idempotency-key") for sent in self.service.sent]

    @property
    def left_open(self) -> int:
        """Responses of the service that nobody has closed."""
        return self.service.opened - self.service.closed


@pytest.fixture(params=["httpx", pytest.param("httpx2", marks=pytest.mark.slow)])
def http(request: pytest.FixtureRequest) -> ModuleType:
    """Either library."""
    return httpx if request.param == "httpx" else httpx2


@pytest.fixture(params=["sync", "async"])
def transport_lab(http: ModuleType, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A laboratory in which no response may be left open."""
    lab = Lab(http, asynchronous=request.param == "async")
    yield lab
    assert 0 == lab.left_open


@pytest.fixture
def make_lab() -> Callable[..., Lab]:
    """Makes laboratories."""
    return Lab
