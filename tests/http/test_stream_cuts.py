"""A stream that is cut, at every byte: an answer is complete when its protocol has proved that, and else the call has failed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import StreamInterruptedError
from resilience_kit.http import APIClient, AsyncAPIClient, AsyncResilientTransport, ResilientTransport
from resilience_kit.http.sse_monitor import SSEMonitor
from resilience_kit.http.stream_progress import TERMINAL_EVENTS, TruncatedStreamError, terminal_events_for
from resilience_kit.testing import FakeClock

HOST = "https://api.example.com"
EVENTS = {"content-type": "text/event-stream"}


def events(*data: Any, named: bool = False) -> str:
    """Events of these data, in the form that the SDKs' services have."""
    name = "event: {type}\n" if named else ""
    return "".join(name.format_map(each if named else {}) + f"data: {json.dumps(each)}\n\n" for each in data)


def choice(text: str = "", finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """A chunk of a chat completion."""
    return {"choices": [{"index": index, "delta": {"content": text} if text else {}, "finish_reason": finish}]}


@dataclass(frozen=True, slots=True)
class Stream:
    """A complete stream, the path it is for, and the last event that its end needs."""

    path: str
    text: str
    proof: str

    def is_complete(self, length: int, line_end: str = "\n") -> bool:
        """Whether the end is proved by so many bytes: those of the proof have come, perhaps without its empty line."""
        before, proof, _ = self.text.partition(self.proof)
        return length >= len((before + proof.rstrip("\n")).replace("\n", line_end))

    def bytes(self, line_end: str = "\n") -> bytes:
        """The stream with other line ends."""
        return self.text.replace("\n", line_end).encode()


CHAT = "/v1/chat/completions"
FINISH, DONE = events(choice(finish="stop")), "data: [DONE]\n\n"
STOP = {"n": 1, "type": "message_stop"}
STREAMS = {
    "chat": Stream(CHAT, events(choice("Hi"), choice(" {")) + FINISH + DONE, FINISH),
    "chat without finish": Stream(CHAT, events(choice("Hi")) + DONE, DONE),
    "two choices": Stream(
        CHAT,
        events(choice("a"), choice("b", index=1), choice(finish="stop"), choice("c", index=1), choice(finish="length", index=1)),
        events(choice(finish="length", index=1)),
    ),
    "usage last": Stream(CHAT, events(choice("Hi")) + FINISH + events({"choices": [], "usage": {}}), FINISH),
    "messages": Stream(
        "/v1/messages",
        events({"type": "message_start"}, {"type": "ping"}, {"type": "message_stop", "x": {}}, named=True),
        events({"type": "message_stop", "x": {}}, named=True),
    ),
    "messages without names": Stream(
        "/v1/messages", events({"type": "message_start"}, STOP), events(STOP)
    ),
    "responses": Stream(
        "/v1/responses",
        events({"type": "response.created", "response": {"error": None}}, {"n": 9, "type": "response.completed", "response": {}}),
        events({"n": 9, "type": "response.completed", "response": {}}),
    ),
    "gemini": Stream(
        "/v1beta/models/gemini:streamGenerateContent",
        events({"candidates": [{"content": {"parts": ["Hi"]}}]}, {"candidates": [{"content": {}, "finishReason": "STOP"}]}),
        events({"candidates": [{"content": {}, "finishReason": "STOP"}]}),
    ),
}  # fmt: skip


@pytest.fixture(params=STREAMS.values(), ids=STREAMS)
def stream(request: pytest.FixtureRequest) -> Stream:
    """Each protocol."""
    return request.param


def pieces(data: bytes, size: int) -> list[bytes]:
    """The data in pieces of a size."""
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, pytest.param(7, marks=pytest.mark.slow), 10_000])
def test_every_cut_is_known_as_one(stream: Stream, line_end: str, size: int) -> None:
    """Whatever the line ends and the pieces, a stream is complete from the proof of its end on, and nowhere before."""
    terminal = terminal_events_for("api.example.com", stream.path, TERMINAL_EVENTS)
    data, found = stream.bytes(line_end), []
    for length in range(len(data) + 1):
        watch = SSEMonitor(terminal)
        for piece in pieces(data[:length], size):
            watch.feed(piece)
        try:
            watch.finish()
        except TruncatedStreamError:
            found.append(False)
        else:
            found.append(watch.verdict is None)
    assert [stream.is_complete(length, line_end) for length in range(len(data) + 1)] == found


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, for either client."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part


class Room:
    """One of the four ways to read a stream; what comes of it is told in the same words."""

    def __init__(self, kind: str, *, asynchronous: bool) -> None:
        self.kind, self.asynchronous = kind, asynchronous
        self.parts: list[bytes] = []
        self.requests = 0
        self.resilience = AIServiceResilience(ResilienceSettings(), clock=FakeClock())

    def _answer(self, _request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return httpx.Response(200, headers=EVENTS, stream=Body(*self.parts))

    def client(self) -> Any:
        """A client that reads from this room."""
        inner = httpx.MockTransport(self._answer)
        if self.kind == "JSON client":
            return (AsyncAPIClient if self.asynchronous else APIClient)(HOST, client=self._plain(inner))
        config = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=10**6))
        kind = AsyncResilientTransport if self.asynchronous else ResilientTransport
        return self._plain(kind(inner, config=config, resilience=self.resilience, pacing=None))

    def _plain(self, transport: Any) -> Any:
        return (httpx.AsyncClient if self.asynchronous else httpx.Client)(transport=transport)

    async def outcome(self, client: Any, path: str, *parts: bytes) -> tuple[str, list[Any], int]:
        """How it ended, what was delivered, and in how many requests."""
        self.parts, self.requests, got = [*parts], 0, list[Any]()
        try:
            await self._read(client, HOST + path, got)
        except Exception as error:
            return type(error).__name__, got, self.requests
        return "complete", got, self.requests

    async def _read(self, client: Any, url: str, got: list[Any]) -> None:
        if self.kind == "JSON client":
            source = client.stream("POST", url, json={"stream": True})
            if self.asynchronous:
                async with contextlib.aclosing(source):
                    async for event in source:
                        got.append(event)  # noqa: PERF401 - what came before an error counts
            else:
                got.extend(source)
        elif self.asynchronous:
            async with client.stream("POST", url, json={}) as response:
                async for piece in response.aiter_raw():
                    got.append(piece)  # noqa: PERF401 - as above
        else:
            with client.stream("POST", url, json={}) as response:
                got.extend(response.iter_raw())


@pytest.fixture(params=["transport", "JSON client"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which kit."""
    return request.param


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def room(kind: str, request: pytest.FixtureRequest) -> Room:
    """One of the four."""
    return Room(kind, asynchronous=request.param)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chat", "messages", "responses"])
async def test_every_cut_reaches_the_caller(room: Room, name: str) -> None:
    """Sync, async, through a transport and by a JSON client: an error before the proof, and the whole answer from there on."""
    stream = STREAMS[name]
    client, data = room.client(), stream.bytes()
    for length in range(len(data) + 1):
        ended, got, _ = await room.outcome(client, stream.path, data[:length])
        assert stream.is_complete(length) is (ended == "complete"), (length, data[:length])
        assert ended in {"complete", "StreamInterruptedError", "TruncatedStreamError"}
        if room.kind == "transport" and (got or ended == "complete"):
            assert data[:length] == b"".join(got)
    if room.kind == "transport":
        counted = room.resilience.get_metrics("api.example.com")
        complete = sum(stream.is_complete(length) for length in range(len(data) + 1))
        assert (complete, len(data) + 1 - complete) == (counted["successful_calls"], counted["failed_calls"])


ERROR = 'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n'
FAILED = "event: error\ndata: gone\n\n"
TEXTS = {
    "complete": STREAMS["chat"].text,
    "the first event is an error": ERROR + STREAMS["chat"].text,
    "an error after a ping": ": hello\n\ndata:\n\nevent: ping\ndata: {}\n\n" + ERROR + "data: [DONE]\n\n",
    "a later event is an error": events(choice("Hi")) + ERROR + "data: [DONE]\n\n",
    "an error after the end": STREAMS["chat"].text + ERROR,
    "named an error": events(choice("Hi")) + FAILED + events(choice("more")),
    "without an end": events(choice("Hi"), choice("more")),
    "one error for all": '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}',
    "cut": STREAMS["chat"].text[:-60],
}  # fmt: skip


@given(
    name=st.sampled_from(sorted(TEXTS)),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    places=st.lists(st.integers(0, 10**4), max_size=8),
    kind=st.sampled_from(["transport", "JSON client"]),
    asynchronous=st.booleans(),
)
def test_every_chunking_gives_the_same(name: str, line_end: str, places: list[int], kind: str, asynchronous: bool) -> None:
    """However a stream's bytes are cut into pieces, the caller gets the same of it and the operation learns the same."""
    data = TEXTS[name].replace("\n", line_end).encode()
    marks = sorted({place % (len(data) + 1) for place in places})
    parts = [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]
    assert _learnt(name, line_end, (data,), kind, asynchronous) == _learnt(name, line_end, tuple(parts), kind, asynchronous)


@functools.lru_cache(maxsize=200)
def _learnt(name: str, _line_end: str, parts: tuple[bytes, ...], kind: str, asynchronous: bool) -> Any:
    room = Room(kind, asynchronous=asynchronous)
    ended, got, requests = asyncio.run(_once(room, parts))
    numbers = room.resilience.get_metrics("api.example.com") if kind == "transport" else {}
    counted = {name: value for name, value in numbers.items() if type(value) is int}
    delivered = b"".join(got) if kind == "transport" else tuple(got)
    if kind == "transport" and "error" not in name:
        assert ended != "complete" or delivered == b"".join(parts)
    return ended, delivered, requests, counted


async def _once(room: Room, parts: tuple[bytes, ...]) -> Any:
    return await room.outcome(room.client(), "/v1/chat/completions", *parts)


def test_what_each_of_them_comes_to() -> None:
    """The errors that come first are asked for again, and then reach the caller with all that follows them."""
    found = {name: _learnt(name, "\n", (text.encode(),), "transport", False) for name, text in TEXTS.items()}
    assert {
        "complete": ("complete", 1, 1),
        "the first event is an error": ("complete", 3, 0),
        "an error after a ping": ("complete", 3, 0),
        "a later event is an error": ("complete", 1, 0),
        "an error after the end": ("complete", 1, 1),
        "named an error": ("complete", 1, 0),
        "without an end": ("StreamInterruptedError", 1, 0),
        "one error for all": ("complete", 1, 0),
        "cut": ("StreamInterruptedError", 1, 0),
    } == {name: (ended, requests, counted["successful_calls"]) for name, (ended, _, requests, counted) in found.items()}
    assert all(TEXTS[name].encode() == delivered for name, (_, delivered, _, _) in found.items())


def test_what_a_cut_tells() -> None:
    """How many events came before it, and which proof is missing."""
    room = Room("transport", asynchronous=False)
    with pytest.raises(StreamInterruptedError) as caught:
        room.parts = [events(choice("Hi")).encode()]
        room.client().post(HOST + "/v1/chat/completions", json={})
    assert "The stream ended after 1 event without [DONE]" == str(caught.value.__cause__)
