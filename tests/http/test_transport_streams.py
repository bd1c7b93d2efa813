"""Streams through a transport: one outcome each, when it is known, and a typed failure where an SDK would see nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from resilience_kit import CircuitBreakerConfig, CircuitState, RetryConfig
from resilience_kit.errors import APITimeoutError, StreamInterruptedError
from resilience_kit.events import CallFailed
from resilience_kit.http.stream_progress import TruncatedStreamError
from resilience_kit.outcome import FailureKind

Lab = Any
FIRST, SECOND = b'data: {"n":1}\n\n', b'data: {"n":2}\n\n'
DONE = b"data: [DONE]\n\n"
FAILED = b'data: {"error":{"type":"server_error","message":"no"}}\n\n'
HOST = "https://api.example.com"
WELL, BADLY, LEFT = (
    {"total_calls": 1, "successful_calls": 1},
    {"total_calls": 1, "failed_calls": 1},
    {"total_calls": 1, "cancelled_calls": 1},
)


def stream(lab: Lab, *pieces: bytes, breaks: BaseException | None = None, **headers: str) -> Any:
    """A stream of events."""
    return lab.Answer(200, pieces, {"content-type": "text/event-stream; charset=utf-8", **headers}, breaks)


def download(lab: Lab, *pieces: bytes, breaks: BaseException | None = None) -> Any:
    """A body of unknown length that is no JSON."""
    return lab.Answer(200, pieces, {"content-type": "audio/mpeg"}, breaks)


@pytest.mark.parametrize("pieces", [(FIRST, SECOND, DONE), (FIRST + SECOND + DONE,), (FIRST, SECOND + DONE, b": bye\n\n")])
async def test_a_whole_stream_is_a_success(transport_lab: Lab, pieces: tuple[bytes, ...]) -> None:
    """However its events are spread over pieces; what follows the terminal event comes through, too."""
    lab = transport_lab
    lab.script(stream(lab, *pieces))
    assert b"".join(pieces) == b"".join(await lab.read())
    assert WELL == lab.counted()


async def test_the_terminal_event_is_the_end(transport_lab: Lab) -> None:
    """An SDK leaves after it, which is no leaving half-way."""
    lab = transport_lab
    lab.script(stream(lab, FIRST, DONE, b": more\n\n"))
    await lab.read(most=2)
    assert WELL == lab.counted()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_stream_without_its_end_is_a_failure(transport_lab: Lab, path: str) -> None:
    """Ended cleanly, which an SDK takes for the end: typed, with what was delivered, and counted."""
    lab = transport_lab
    lab.listen(CallFailed)
    lab.script(stream(lab, FIRST, SECOND))
    with pytest.raises(StreamInterruptedError) as caught:
        await lab.read(HOST + path)
    assert (2, ('{"n":1}', '{"n":2}')) == (caught.value.delivered, caught.value.partial)
    assert isinstance(caught.value.__cause__, TruncatedStreamError)
    assert ([FIRST, SECOND], BADLY, 1) == (lab.got, lab.counted(), lab.requests)
    assert [(FailureKind.CONNECTION, "a stream that has begun is not repeated")] == [(e.kind, e.reason) for e in lab.events]
    assert 1 == lab.kit.get_circuit_breaker("api.example.com").failure_count


async def test_other_rules_may_be_given(transport_lab: Lab) -> None:
    """None at all, or one's own; and a path without one may end anywhere."""
    lab = transport_lab
    lab.script(stream(lab, FIRST))
    assert [FIRST] == await lab.read(f"{HOST}/v1/other")
    lab.build(terminal_events={})
    assert [FIRST] == await lab.read()
    lab.build(terminal_events={"/mine": ("bye",)})
    with pytest.raises(StreamInterruptedError, match="broke after 1 items"):
        await lab.read(f"{HOST}/mine")


async def test_a_stream_that_breaks_tells_what_came(transport_lab: Lab) -> None:
    """The library's error is the cause; nothing is repeated."""
    lab = transport_lab
    broken = lab.http.ReadError("reset")
    lab.script(stream(lab, FIRST, SECOND, breaks=broken))
    with pytest.raises(StreamInterruptedError) as caught:
        await lab.read()
    assert (2, broken) == (caught.value.delivered, caught.value.__cause__)
    assert "'api.example.com' failed after 1 attempt " in caught.value.__notes__[0]
    assert (BADLY, 1) == (lab.counted(), lab.requests)


@pytest.mark.parametrize("kind", ["breaks", "ends", "fails", "is cut"])
async def test_before_its_first_event_a_stream_is_repeated(transport_lab: Lab, kind: str) -> None:
    """Nothing has reached the caller yet, so it is an attempt like any other."""
    lab = transport_lab
    faults = {
        "breaks": stream(lab, b": hello\n", breaks=lab.http.ReadError("reset")),
        "ends": stream(lab, b": hello\n\n"),
        "fails": stream(lab, FAILED),
        "is cut": stream(lab, b'data: {"n\n\n'),
    }
    lab.script(faults[kind], stream(lab, FIRST, DONE))
    assert [FIRST, DONE] == await lab.read()
    assert (2, {"total_calls": 1, "successful_calls": 1, "retry_attempts": 1}) == (lab.requests, lab.counted())


async def test_a_stream_that_never_begins(transport_lab: Lab) -> None:
    """After the last attempt: our error for one that ends without an event, the event itself where there was one."""
    lab = transport_lab
    lab.script(stream(lab))
    with pytest.raises(StreamInterruptedError) as caught:
        await lab.read()
    assert (0, 3) == (caught.value.delivered, lab.requests)
    lab.script(stream(lab, FAILED, b": what follows\n\n"))
    assert FAILED + b": what follows\n\n" == b"".join(await lab.read())
    assert 3 == lab.requests


async def test_an_sdk_is_told_of_a_first_event_that_nobody_can_read(transport_lab: Lab) -> None:
    """It would raise a bare JSONDecodeError; an event that it can read it gets with its 200."""
    lab = transport_lab
    sdk = {"x-stainless-retry-count": "0"}
    lab.script(stream(lab, b'data: {"n\n\n'))
    assert 502 == (await lab.send(headers=sdk)).status_code
    lab.script(stream(lab, FAILED))
    assert 200 == (await lab.send(headers=sdk)).status_code


@pytest.mark.parametrize("url", [f"{HOST}/v1/chat/completions", f"{HOST}/v1/other"])
async def test_a_body_that_is_one_error_is_one(transport_lab: Lab, url: str) -> None:
    """Under the content type of a stream: one request, nothing against the circuit, and an SDK gets the status of it."""
    lab = transport_lab
    error = (
        b'{"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}'
    )
    lab.script(stream(lab, error[:40], error[40:]))
    response = await lab.send(url=url, headers={"x-stainless-retry-count": "0"})
    assert (429, error, 1) == (response.status_code, response.content, lab.requests)
    assert (BADLY, 0) == (lab.counted(), lab.kit.get_circuit_breaker("api.example.com").failure_count)


@pytest.mark.parametrize("form", [gzip.compress, b"\xef\xbb\xbf".__add__, b"[%b]".__mod__, b"\n%b\n".__mod__])
@pytest.mark.parametrize("url", [f"{HOST}/v1/chat/completions", f"{HOST}/v1/other"])
async def test_a_body_that_is_one_error_is_one_in_any_form(transport_lab: Lab, url: str, form: Callable[[bytes], bytes]) -> None:
    """Encoded, after a byte order mark, in a list: it is the same error, which is asked for again."""
    lab = transport_lab
    body = form(b'{"error": {"message": "Overloaded", "type": "overloaded_error"}}')
    headers = {"content-encoding": "gzip"} if form is gzip.compress else {}
    lab.script(stream(lab, body, **headers), stream(lab, FIRST, DONE))
    assert [FIRST, DONE] == await lab.read(url=url)
    assert 2 == lab.requests


@pytest.mark.parametrize("url", [f"{HOST}/v1/chat/completions", f"{HOST}/v1/other"])
async def test_a_page_is_no_stream(transport_lab: Lab, url: str) -> None:
    """A proxy's page under the content type of a stream is an error of the server, wherever it is."""
    lab = transport_lab
    lab.script(stream(lab, b"\n<html><h1>502 Bad Gateway</h1></html>"), stream(lab, FIRST, DONE))
    assert [FIRST, DONE] == await lab.read(url=url)
    assert 2 == lab.requests


@pytest.mark.parametrize(
    "begun",
    [
        b"data:\n\n",
        b": hello\n\n",
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b"event: PING\ndata: {}\n\n",
        b"event: keep_alive\ndata: 1\n\n",
        b'data: {"type": "Keep-Alive"}\n\n',
        b"data: [heartbeat]\n\n",
    ],
)
@pytest.mark.parametrize("next_piece", [(FAILED,), ()])
async def test_what_has_no_content_does_not_begin_a_stream(
    transport_lab: Lab, begun: bytes, next_piece: tuple[bytes, ...]
) -> None:
    """An error or the end after a bare frame, a comment or a ping is asked for again."""
    lab = transport_lab
    lab.script(stream(lab, begun, *next_piece), stream(lab, begun, FIRST, DONE))
    assert begun + FIRST + DONE == b"".join(await lab.read())
    assert (2, {"total_calls": 1, "successful_calls": 1, "retry_attempts": 1}) == (lab.requests, lab.counted())


async def test_an_error_is_handed_on_with_what_follows_it(transport_lab: Lab) -> None:
    """Some services go on: all of it reaches the caller, also where the circuit refuses the next attempt, and is closed once."""
    lab = transport_lab
    lab.script(stream(lab, FAILED, FIRST, DONE))
    assert FAILED + FIRST + DONE == b"".join(await lab.read())
    lab.build(config=lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=1)))
    lab.script(stream(lab, FAILED, FIRST, DONE))
    lab.kit.get_circuit_breaker("api.example.com").reset()
    assert FAILED + FIRST + DONE == b"".join(await lab.read())


async def test_an_error_is_closed_when_it_is_not_handed_on(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """Before the next attempt, and when the call is cancelled in its pause."""
    lab = make_lab(http, asynchronous=True)
    lab.script(stream(lab, FAILED, FIRST))
    pause = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        assert 1 == lab.left_open
        pause.set()
        await asyncio.Event().wait()

    lab.clock.sleep_async = sleep  # type: ignore[method-assign]
    task = asyncio.create_task(lab.read())
    await pause.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (LEFT, 0) == (lab.counted(), lab.left_open)


async def test_a_finish_reason_proves_the_end(transport_lab: Lab) -> None:
    """Without a last word, at a clean end, at a break, and for a consumer who leaves."""
    lab = transport_lab
    finish = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    for breaks in (None, lab.http.ReadError("reset")):
        lab.script(stream(lab, FIRST, finish, breaks=breaks))
        assert [FIRST, finish] == await lab.read()
    lab.script(stream(lab, FIRST, finish, DONE))
    await lab.read(most=2)
    assert {"total_calls": 3, "successful_calls": 3} == lab.counted()
    lab.script(stream(lab, FIRST, finish))
    with pytest.raises(StreamInterruptedError, match="broke after 2 items"):
        await lab.read(json={"n": 2})
    lab.script(stream(lab, FIRST, DONE, breaks=lab.http.ReadError("reset")))
    assert [FIRST, DONE] == await lab.read()


async def test_an_error_without_its_empty_line_breaks_the_stream(transport_lab: Lab) -> None:
    """Consumers never see it, so it is told: as the first event by the status, later by the error of a break."""
    lab = transport_lab
    lab.script(stream(lab, FIRST, FAILED.rstrip()))
    with pytest.raises(StreamInterruptedError):
        await lab.read()
    lab.script(stream(lab, FAILED.rstrip()))
    assert 502 == (await lab.send(headers={"x-stainless-retry-count": "0"})).status_code


async def test_text_on_an_unknown_path_is_no_cut_json(transport_lab: Lab) -> None:
    """Somebody's own stream of words may hold a brace, an error as a word, and end anywhere between two events."""
    lab = transport_lab
    words = (b"data: {\n\n", b"data: [\n\n", b'data: {"n": 1}\n\n', b"data: error\n\n")
    lab.script(stream(lab, *words))
    assert [*words] == await lab.read(f"{HOST}/own")
    assert WELL == lab.counted()
    lab.script(stream(lab, b'data: {"n": 1}\n\ndata: {"n'))
    with pytest.raises(StreamInterruptedError) as caught:
        await lab.read(f"{HOST}/own")
    assert "The stream ended after 1 event inside another one" == str(caught.value.__cause__)


async def test_an_event_that_is_too_large_is_passed_over(transport_lab: Lab) -> None:
    """What follows it still counts; where it may have been the last one, nothing is said of the end."""
    lab = transport_lab
    large = b'data: {"type": "response.completed", "response": "' + b"x" * 2**20 + b'"}\n\n'
    image = large.replace(b"response.completed", b"response.image")
    lab.script(stream(lab, FIRST, large))
    await lab.read(f"{HOST}/v1/responses", most=2)
    assert WELL == lab.counted()
    lab.script(stream(lab, FIRST, image, FAILED))
    await lab.read(f"{HOST}/v1/responses")
    assert 1 == lab.counted()["failed_calls"]
    lab.script(stream(lab, FIRST, image))
    await lab.read(f"{HOST}/v1/responses")
    assert 2 == lab.counted()["successful_calls"]


async def test_an_error_event_counts_and_comes_through(transport_lab: Lab) -> None:
    """The caller gets the event, for an SDK to raise its own error; the operation has failed, whatever it does then."""
    lab = transport_lab
    lab.script(stream(lab, FIRST, FAILED, b": more\n\n"))
    assert [FIRST, FAILED] == await lab.read(most=2)
    assert (BADLY, 1) == (lab.counted(), lab.kit.get_circuit_breaker("api.example.com").failure_count)
    lab.script(stream(lab, FIRST, FAILED, b": more\n\n"))
    assert b": more\n\n" == (await lab.read())[-1]


async def test_a_stream_that_is_left_says_nothing(transport_lab: Lab) -> None:
    """Neither success nor failure (invariant 15)."""
    lab = transport_lab
    lab.script(stream(lab, FIRST, SECOND, DONE))
    await lab.read(most=1)
    assert (LEFT, 0) == (lab.counted(), lab.kit.get_circuit_breaker("api.example.com").failure_count)


async def test_a_stream_that_nobody_wants_says_nothing(transport_lab: Lab) -> None:
    """Dropped without a word, it gives its trial back (invariants 3 and 15)."""
    lab = transport_lab
    lab.build(config=lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=5.0), retry=None))
    breaker = lab.kit.get_circuit_breaker("api.example.com")
    lab.script(lab.Answer(500), stream(lab, FIRST, DONE))
    await lab.send()
    lab.clock.advance(6.0)
    request = lab.client().build_request("POST", f"{HOST}/v1/chat/completions")
    response = (
        lab.transport.handle_request(request) if not lab.asynchronous else await lab.transport.handle_async_request(request)
    )
    assert (CircuitState.HALF_OPEN, 1) == (breaker.state, breaker.trials_in_flight)
    del response
    gc.collect()
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)
    lab.service.closed += 1  # its transport closes it with the connection


async def test_a_trial_ends_with_its_stream(transport_lab: Lab) -> None:
    """The circuit closes at the terminal event, not at the first one."""
    lab = transport_lab
    lab.build(config=lab.config(circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=5.0), retry=None))
    breaker = lab.kit.get_circuit_breaker("api.example.com")
    lab.script(lab.Answer(500), stream(lab, FIRST, SECOND), stream(lab, FIRST, DONE))
    await lab.send()
    lab.clock.advance(6.0)
    with pytest.raises(StreamInterruptedError):
        await lab.read()
    assert CircuitState.OPEN is breaker.state
    lab.clock.advance(6.0)
    await lab.read()
    assert CircuitState.CLOSED is breaker.state


async def test_events_may_be_encoded(transport_lab: Lab) -> None:
    """A compressed stream is followed; one in an encoding that cannot be undone bit by bit may end anywhere."""
    lab = transport_lab
    lab.script(stream(lab, gzip.compress(FIRST + SECOND), **{"content-encoding": "gzip"}))
    with pytest.raises(StreamInterruptedError, match="broke after 2 items"):
        await lab.read()
    lab.script(stream(lab, b"whatever", **{"content-encoding": "br"}))
    assert [b"whatever"] == await lab.read()


async def test_any_other_body_breaks_with_its_own_error(transport_lab: Lab) -> None:
    """A download is no stream of events: its caller gets what the library raised, and the operation has failed."""
    lab = transport_lab
    lab.script(download(lab, b"one", b"two"))
    assert [b"one", b"two"] == await lab.read()
    assert WELL == lab.counted()
    broken = lab.http.ReadError("reset")
    lab.script(download(lab, b"one", breaks=broken))
    with pytest.raises(lab.http.ReadError) as caught:
        await lab.read()
    assert (True, [b"one"], 1) == (caught.value is broken, lab.got, lab.counted()["failed_calls"])


async def test_a_large_answer_is_handed_on_as_it_comes(transport_lab: Lab) -> None:
    """JSON beyond `buffer_bytes` is not held back any longer; a body of known, small length is read whole."""
    lab = transport_lab
    lab.build(buffer_bytes=10)
    lab.script(lab.Answer(200, (b'{"a":"', b"x" * 20, b'"}'), breaks=lab.http.ReadError("reset")))
    with pytest.raises(lab.http.ReadError):
        await lab.read()
    assert ([b'{"a":"', b"x" * 20, b'"}'], 1) == (lab.got, lab.requests)
    text = {"content-type": "text/plain", "content-length": "4"}
    lab.script(lab.Answer(200, (b"te",), text, lab.http.ReadError("reset")), lab.Answer(200, (b"text",), text))
    assert ([b"text"], 2) == (await lab.read(), lab.requests)


async def test_a_deadline_is_for_the_beginning(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """What has begun may take its time; `first_item_timeout` and `idle_timeout` are for the rest."""
    lab = make_lab(http, asynchronous=True)
    lab.service._stream = lambda answer: _slow(lab, answer)
    retry = RetryConfig(max_attempts=1)
    lab.build(config=lab.config(deadline=4.0, retry=retry))
    lab.script(stream(lab, FIRST, SECOND, DONE))
    assert 3 == len(await lab.read())
    lab.build(config=lab.config(first_item_timeout=1.0, retry=retry))
    with pytest.raises(APITimeoutError, match="no answer within 1 s"):
        await lab.read()
    lab.build(config=lab.config(idle_timeout=1.0, retry=retry))
    with pytest.raises(StreamInterruptedError) as caught:
        await lab.read()
    assert "'api.example.com': nothing came for 1 s" == str(caught.value.__cause__)
    lab.service.closed = lab.service.opened


async def test_pieces_without_an_event_do_not_keep_a_stream_alive(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """The idle time runs between items, while nobody but the service is waited for: 3 s a piece, so the third is too late."""
    lab = make_lab(http, asynchronous=True)
    lab.service._stream = lambda answer: _slow(lab, answer)
    lab.build(config=lab.config(idle_timeout=7.0, retry=RetryConfig(max_attempts=1)))
    lab.script(stream(lab, FIRST, *[b": keepalive\n\n"] * 9))
    began = lab.clock.monotonic()
    with pytest.raises(StreamInterruptedError) as caught:
        await lab.read()
    assert (10.0, 1) == (lab.clock.monotonic() - began, caught.value.delivered)
    lab.script(stream(lab, FIRST, b": one\n\n", SECOND, b"event: ping\ndata: {}\n\n", DONE))
    assert 5 == len(await lab.read())
    lab.build(config=lab.config(idle_timeout=7.0, first_item_timeout=5.0, retry=RetryConfig(max_attempts=1)))
    lab.script(stream(lab, b"data:\n\n", FIRST, DONE))
    with pytest.raises(APITimeoutError, match="no answer within 5 s"):
        await lab.read()
    lab.service.closed = lab.service.opened


async def test_what_the_consumer_takes_for_itself_is_not_idle(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """Ten seconds between two reads are its own affair; a download is idle between any two pieces."""
    lab = make_lab(http, asynchronous=True)
    lab.service._stream = lambda answer: _slow(lab, answer)
    lab.build(config=lab.config(idle_timeout=7.0))
    for answer in (stream(lab, FIRST, b": one\n\n", SECOND, DONE), download(lab, b"one", b"two", b"three", b"four")):
        lab.script(answer)
        async with lab.client().stream("POST", f"{HOST}/v1/chat/completions") as response:
            async for _ in response.aiter_raw():
                lab.clock.advance(10.0)
    assert {"total_calls": 2, "successful_calls": 2} == lab.counted()
    lab.service.closed = lab.service.opened


async def test_a_slow_body_is_handed_on(transport_lab: Lab) -> None:
    """Known to be short, and read inside its attempt, but not for long: after a quarter of a second with its next piece."""
    lab = transport_lab
    text = {"content-type": "text/plain", "content-length": "5"}

    class Pieces(tuple[bytes, ...]):
        __slots__ = ()

        def __iter__(self) -> Any:
            for piece in tuple.__iter__(self):
                lab.clock.advance(0.2)
                yield piece

    lab.script(lab.Answer(200, Pieces((b"1", b"2", b"3", b"4", b"5")), text))
    began = lab.clock.monotonic()
    client = lab.client()
    request = client.build_request("GET", f"{HOST}/file")
    response = await client.send(request, stream=True) if lab.asynchronous else client.send(request, stream=True)
    assert 0.4 == pytest.approx(lab.clock.monotonic() - began)
    assert b"12345" == (await response.aread() if lab.asynchronous else response.read())


@pytest.mark.parametrize(("first", "read_ahead"), [(b"event: unhandled", 1), (b"\xef\xbb\xbf \n", 2), (b' {"id"', 3)])
async def test_a_body_without_a_content_type_is_read_ahead_only_where_it_may_be_json(
    transport_lab: Lab, first: bytes, read_ahead: int
) -> None:
    """The first byte that is not blank decides: what cannot be an error object reaches the consumer piece by piece."""
    lab = transport_lab
    pulled: list[bytes] = []

    class Pieces(tuple[bytes, ...]):
        __slots__ = ()

        def __iter__(self) -> Any:
            for piece in tuple.__iter__(self):
                pulled.append(piece)
                yield piece

    lab.script(lab.Answer(200, Pieces((first, b"data: {}", b"data: {}")), {}))
    client = lab.client()
    request = client.build_request("GET", f"{HOST}/events", headers={"accept": "application/json"})
    response = await client.send(request, stream=True) if lab.asynchronous else client.send(request, stream=True)
    assert read_ahead == len(pulled)
    assert first + b"data: {}" * 2 == (await response.aread() if lab.asynchronous else response.read())


def _slow(lab: Lab, answer: Any) -> Any:
    class Slow(lab.http.AsyncByteStream):  # type: ignore[misc, name-defined]
        async def __aiter__(self) -> Any:
            for piece in answer.pieces:
                await lab.clock.sleep_async(3.0)
                yield piece

        async def aclose(self) -> None:
            """Nothing is open."""

    return Slow()


async def test_a_cancelled_reader_says_nothing(make_lab: Callable[..., Lab], http: ModuleType) -> None:
    """Cancelled between two pieces: re-raised, neutral, closed (invariant 28)."""
    lab = make_lab(http, asynchronous=True)
    lab.script(stream(lab, FIRST, breaks=asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await lab.read()
    assert (LEFT, 0) == (lab.counted(), lab.left_open)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_no_garbage_is_left_to_the_collector(make_lab: Callable[..., Lab], asynchronous: bool) -> None:
    """Requests that go well, are retried, fail, stream, break and are left: all gone by reference counting.

    httpx itself makes a circle of each response and its stream; httpx2 does not.
    """
    lab = make_lab(pytest.importorskip("httpx2"), asynchronous=asynchronous)

    async def requests() -> None:
        for step in (
            lab.Answer(),
            lab.Answer(404),
            lambda: lab.http.ConnectError("refused"),
            stream(lab, FIRST, DONE),
            stream(lab, FIRST),
            stream(lab, FIRST, FAILED),
            stream(lab),
            download(lab, b"one", b"two"),
        ):
            for most in (1, 100):
                lab.script(lab.Answer(503), lambda: lab.http.ReadError("reset"), step)
                with contextlib.suppress(lab.http.ConnectError, StreamInterruptedError):
                    await lab.read(most=most)

    client = lab.client()
    lab.client = lambda: client
    await requests()
    assert {} == await _kept(requests)


async def _kept(requests: Callable[[], Any]) -> dict[str, int]:
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await requests()
        gc.collect()
        return dict(Counter(type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("resilience_kit")))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
