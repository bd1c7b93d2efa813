"""Streams of events: retried before the first one, typed when they break, closed when they are left."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from resilience_kit import CircuitBreaker, CircuitBreakerOpenError, CircuitState, RetryConfig
from resilience_kit.errors import (
    APIConnectionError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from resilience_kit.http import APIClient, AsyncAPIClient, ServerSentEvent
from resilience_kit.http.stream_progress import TruncatedStreamError
from resilience_kit.testing import FakeClock

BASE = "https://api.example.com/v1"
CHAT = "/chat/completions"
RETRY = RetryConfig(max_attempts=3, base_delay=1.0, jitter=None)
EVENTS = {"content-type": "text/event-stream"}


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in chunks, for either client; an exception among them is raised. Knows whether it was closed."""

    def __init__(self, *chunks: Any) -> None:
        self.chunks, self.closed = chunks, False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Service:
    """Answers request after request with a body or a response."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        return httpx.Response(200, headers=EVENTS, stream=answer) if isinstance(answer, Body) else answer


class Face:
    """One of the two clients, and how its streams are read."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def read(self, service: Service, *, path: str = CHAT, most: int = 1000, **options: Any) -> list[ServerSentEvent]:
        """At most so many events; then the stream is left."""
        given = {"terminal": options.pop("terminal")} if "terminal" in options else {}
        transport = httpx.MockTransport(service)
        if self.kind is APIClient:
            client = APIClient(BASE, client=httpx.Client(transport=transport), **options)
            with contextlib.closing(client.stream("POST", path, json={"stream": True}, **given)) as stream:
                return [event for event, _ in zip(stream, range(most), strict=False)]

        async def main() -> list[ServerSentEvent]:
            found: list[ServerSentEvent] = []
            client = AsyncAPIClient(BASE, client=httpx.AsyncClient(transport=transport), **options)
            async with contextlib.aclosing(client.stream("POST", path, json={"stream": True}, **given)) as stream:
                async for event in stream:
                    found.append(event)
                    if len(found) == most:
                        break
            return found

        return asyncio.run(main())


@pytest.fixture(params=[AsyncAPIClient, APIClient], ids=["async", "sync"])
def face(request: pytest.FixtureRequest) -> Face:
    """Both clients, one after the other."""
    return Face(request.param)


@pytest.fixture
def clock() -> FakeClock:
    """Time that jumps."""
    return FakeClock()


def piece(text: str) -> bytes:
    """An event as OpenAI streams it."""
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "text": text, "error": None}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def texts(events: list[ServerSentEvent]) -> list[str]:
    """What they say."""
    return [event.json()["text"] for event in events]


def test_events_come_one_by_one_and_the_last_word_is_kept_back(face: Face) -> None:
    """`[DONE]` is no event for the caller; what follows it is read out, and the body is closed."""
    body = Body(piece("a"), piece("b")[:10], piece("b")[10:], DONE + b"data: later\n\n", b"data: later still\n\n")
    service = Service(body)
    assert ["a", "b"] == texts(face.read(service))
    assert body.closed
    (request,) = service.requests
    assert ("text/event-stream", None) == (request.headers["accept"], request.headers.get("idempotency-key"))


def test_what_breaks_after_the_last_word_breaks_nothing(face: Face) -> None:
    """All of it has come."""
    assert ["a"] == texts(face.read(Service(Body(piece("a"), DONE, httpx.ReadError("reset")))))


def test_a_stream_is_begun_again_until_its_first_event(face: Face, clock: FakeClock) -> None:
    """A refused connection, a 500, a break before the first event; then it flows, with one key (invariant 30)."""
    broken = Body(b": hello\n\n", httpx.ReadError("reset"))
    service = Service(httpx.Response(500, json={}), broken, Body(piece("a"), DONE))
    assert ["a"] == texts(face.read(service, retry_config=RETRY, clock=clock))
    assert ([1.0, 2.0], True) == (clock.sleeps, broken.closed)
    assert 1 == len({request.headers["idempotency-key"] for request in service.requests})


def test_a_break_in_the_middle_is_told_with_what_has_come(face: Face, clock: FakeClock) -> None:
    """It is not begun again."""
    body = Body(piece("a"), piece("b"), httpx.ReadError("reset"))
    with pytest.raises(StreamInterruptedError) as caught:
        face.read(Service(body), retry_config=RETRY, clock=clock)
    assert (2, ["a", "b"], APIConnectionError) == (
        caught.value.delivered, texts(list(caught.value.partial)), type(caught.value.__cause__),
    )  # fmt: skip
    assert body.closed


@pytest.mark.parametrize(
    ("path", "terminal", "chunks"),
    [
        (CHAT, None, [piece("a")]),
        ("/messages?beta=true", None, [b"event: message_start\ndata: {}\n\n"]),
        ("/own", ("bye",), [piece("a")]),
    ],
)
def test_an_end_without_the_last_event_is_a_break(face: Face, path: str, terminal: Any, chunks: list[bytes]) -> None:
    """Whether the provider's protocol wants it, or the caller."""
    options = {} if terminal is None else {"terminal": terminal}
    with pytest.raises(StreamInterruptedError) as caught:
        face.read(Service(Body(*chunks)), path=path, **options)
    assert TruncatedStreamError is type(caught.value.__cause__)


def test_a_stream_without_a_last_event_ends_anywhere(face: Face) -> None:
    """Where no protocol is known, and where the caller says so."""
    assert ["a"] == texts(face.read(Service(Body(piece("a"))), path="/own"))
    assert ["a"] == texts(face.read(Service(Body(piece("a"))), terminal=()))
    assert ["x"] == [event.event for event in face.read(Service(Body(b"event: x\ndata: 1\n\n")), path="/own", terminal=("x",))]


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error": {"message": "oh", "type": "server_error"}}\n\n',
        b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "oh"}}\n\n',
    ],
)
def test_an_error_that_comes_as_an_event_is_raised(face: Face, error: bytes) -> None:
    """In OpenAI's form and in Anthropic's; as the first event it is an ordinary error."""
    with pytest.raises(ServerError, match="oh"):
        face.read(Service(Body(error)))
    with pytest.raises(StreamInterruptedError) as caught:
        face.read(Service(Body(piece("a"), error)))
    assert ServerError is type(caught.value.__cause__)


def test_an_error_event_of_plain_words_is_one_too(face: Face) -> None:
    """Not all of them hold JSON; one that merely speaks of errors is none."""
    with pytest.raises(ServerError, match="gone"):
        face.read(Service(Body(b"event: error\ndata: gone\n\n")))
    assert 1 == len(face.read(Service(Body(b'data: say "error"\n\n')), path="/own"))


def test_answers_that_are_no_streams(face: Face) -> None:
    """A refusal is typed by its body, a JSON answer tells what to do; their bodies are read to a limit and closed."""
    endless = Body(*[b"x" * 65536] * 100)
    with pytest.raises(AuthenticationError) as caught:
        face.read(Service(httpx.Response(401, stream=endless, headers={"x-request-id": "req_1"})))
    assert ("req_1", True) == (caught.value.request_id, endless.closed)
    with pytest.raises(RateLimitError, match="slow"):
        face.read(Service(httpx.Response(200, json={"error": {"type": "rate_limit_error", "message": "slow"}})))
    with pytest.raises(InvalidRequestError, match="no stream of events; ask for one"):
        face.read(Service(httpx.Response(200, json={"choices": []})))


def test_a_body_that_is_one_error_is_told_as_one(face: Face, clock: FakeClock) -> None:
    """Under the content type of a stream; an empty account is asked for once."""
    error = (
        b'{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}'
    )
    for path in (CHAT, "/own"):
        service = Service(Body(error[:50], error[50:]))
        with pytest.raises(QuotaExceededError, match="exceeded your current quota"):
            face.read(service, path=path, retry_config=RETRY, clock=clock)
        assert 1 == len(service.requests)


def test_a_page_instead_of_a_stream_is_the_services_fault(face: Face, clock: FakeClock) -> None:
    """It is asked for again; a long answer of JSON is the caller's."""
    page = {"content": b"<html><title>502 Bad Gateway</title></html>", "headers": {"content-type": "text/html"}}
    assert ["a"] == texts(
        face.read(Service(httpx.Response(200, **page), Body(piece("a"), DONE)), retry_config=RETRY, clock=clock)
    )
    with pytest.raises(ServerError, match="502 Bad Gateway"):
        face.read(Service(httpx.Response(200, **page)))
    with pytest.raises(InvalidRequestError, match="ask for one"):
        face.read(Service(httpx.Response(200, json={"text": "x" * 100_000})))


@pytest.mark.parametrize("begun", [b"data:\n\n", b": hello\n\nevent: ping\ndata: {}\n\n", b'data: {"type": "ping"}\n\n'])
def test_what_has_no_content_does_not_begin_a_stream(face: Face, clock: FakeClock, begun: bytes) -> None:
    """An error or the end after it is asked for again; with the first content it is given, too."""
    overloaded = b'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n'
    service = Service(Body(begun, overloaded), Body(begun), Body(begun, piece("a"), DONE))
    events = face.read(service, retry_config=RETRY, clock=clock)
    assert ("a", 3, [1.0, 2.0]) == (events[-1].json()["text"], len(service.requests), clock.sleeps)
    assert 1 == len(face.read(Service(Body(b"data: hello\n\n")), path="/own"))
    assert 1 + begun.count(b"data") == len(events)


def test_an_event_that_is_named_an_error_is_one(face: Face, clock: FakeClock) -> None:
    """Whatever its data: DashScope's have neither an object `error` nor a status."""
    data = (
        '{"request_id":"0","code":"Throttling.AllocationQuota","message":"Allocated quota exceeded, please increase your limit."}'
    )
    event = f"id:1\nevent:error\n:HTTP_STATUS/429\ndata:{data}\n\n".encode()
    service = Service(Body(event), Body(piece("a"), DONE))
    assert ["a"] == texts(face.read(service, retry_config=RETRY, clock=clock))
    with pytest.raises(StreamInterruptedError) as caught:
        face.read(Service(Body(piece("a"), event)))
    assert RateLimitError is type(caught.value.__cause__)


def test_a_break_after_a_finish_reason_breaks_nothing(face: Face) -> None:
    """It proves the end as well as the last word; with two choices both need one, also where the second has not begun."""
    chunk = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    assert 2 == len(face.read(Service(Body(piece("a"), chunk, httpx.ReadError("reset")))))
    assert 2 == len(face.read(Service(Body(piece("a"), chunk))))
    for more in ((), (b'data: {"choices": [{"index": 0, "delta": {"content": "more"}}]}\n\n',)):
        client = APIClient(BASE, client=httpx.Client(transport=httpx.MockTransport(Service(Body(chunk, *more)))))
        with pytest.raises(StreamInterruptedError):
            list(client.stream("POST", CHAT, json={"n": 1 if more else 2}))


def test_an_event_has_a_limit(face: Face) -> None:
    """Of 1 MiB, or what is said; what is larger ends the stream, before its first event with an ordinary error."""
    large = b"data: " + b"x" * 2_000_000 + b"\n\n"
    with pytest.raises(ServerError, match="more than 1048576 characters"):
        face.read(Service(Body(large)), path="/own")
    assert 2_000_000 == len(face.read(Service(Body(large)), path="/own", max_event_size=2**21)[0].data)
    with pytest.raises(ServerError, match="more than 10 characters"):
        face.read(Service(Body(b"data: 1234567890\n\n")), path="/own", max_event_size=10)
    with pytest.raises(ConfigurationError, match="max_event_size"):
        face.kind(BASE, max_event_size=0)


def test_a_stream_that_is_left_is_closed_and_says_nothing(face: Face) -> None:
    """The breaker learns neither good nor bad."""
    body, breaker = Body(piece("a"), piece("b"), DONE), CircuitBreaker(1)
    assert ["a"] == texts(face.read(Service(body), most=1, circuit_breaker=breaker))
    assert (True, 0, 0) == (body.closed, breaker.failure_count, breaker.metrics["success_count"])


def test_the_breaker_hears_of_the_whole_stream(face: Face, clock: FakeClock) -> None:
    """A break in the middle is a failure; the next stream is refused; a good one closes it."""
    breaker = CircuitBreaker(1, 30.0, clock=clock)
    with pytest.raises(StreamInterruptedError):
        face.read(Service(Body(piece("a"), httpx.ReadError("reset"))), circuit_breaker=breaker)
    with pytest.raises(CircuitBreakerOpenError):
        face.read(Service(), circuit_breaker=breaker)
    clock.advance(30.0)
    face.read(Service(Body(piece("a"), DONE)), circuit_breaker=breaker)
    assert CircuitState.CLOSED is breaker.state


def test_the_callers_own_accept_header_stays(face: Face) -> None:
    """Some services want both kinds named."""
    service = Service(Body(DONE))
    client = face.kind(BASE, client=_beneath(face, service), headers={"Authorization": "Bearer a"})
    stream = client.stream("POST", CHAT, headers={"accept": "text/event-stream, application/json"})

    async def drain() -> None:
        assert [] == [event async for event in stream]

    asyncio.run(drain()) if inspect.isasyncgen(stream) else list(stream)
    assert "text/event-stream, application/json" == service.requests[0].headers["accept"]
    assert "Bearer a" == service.requests[0].headers["authorization"]


def _beneath(face: Face, service: Service) -> Any:
    return (httpx.Client if face.kind is APIClient else httpx.AsyncClient)(transport=httpx.MockTransport(service))


async def test_a_limiter_that_is_no_guard_paces_streams_too(clock: FakeClock) -> None:
    """It is asked before each."""

    class Limiter:
        async def acquire(self, tokens: float) -> float:
            return 3.0 * tokens

    beneath = httpx.AsyncClient(transport=httpx.MockTransport(Service(Body(DONE))))
    client = AsyncAPIClient(BASE, client=beneath, rate_limiter=Limiter(), clock=clock)
    assert [] == [event async for event in client.stream("POST", CHAT)]
    assert [3.0] == clock.sleeps


async def test_a_cancelled_stream_closes_its_response(clock: FakeClock) -> None:
    """The connection goes back, and the breaker learns nothing (invariant 28)."""

    class Silent(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield piece("a")
            await asyncio.Event().wait()

    body, breaker = Silent(), CircuitBreaker(1)
    beneath = httpx.AsyncClient(transport=httpx.MockTransport(Service(body)))
    client = AsyncAPIClient(BASE, client=beneath, circuit_breaker=breaker, clock=clock)

    async def read() -> None:
        async for _ in client.stream("POST", CHAT):
            pass

    task = asyncio.create_task(read())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (True, 0) == (body.closed, breaker.failure_count)
