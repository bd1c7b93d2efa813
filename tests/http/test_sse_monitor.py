"""How a stream of events is followed: counted, judged, and known to be at its end."""

from __future__ import annotations

import gzip

import pytest

from resilience_kit.http.sse_monitor import SSEMonitor, is_decodable
from resilience_kit.http.stream_progress import TERMINAL_EVENTS, TruncatedStreamError, is_truncated_json, terminal_events_for
from resilience_kit.outcome import FailureKind

CHAT = b'data: {"id":"1","choices":[{"delta":{"content":"Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
MESSAGE = b'event: message_start\ndata: {"type":"message_start"}\n\nevent: ping\ndata: {}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


def watched(*pieces: bytes, terminal: tuple[str, ...] = ("[DONE]",), encoding: str = "") -> SSEMonitor:
    """A watch that has been fed."""
    watch = SSEMonitor(terminal, encoding)
    for piece in pieces:
        watch.feed(piece)
    return watch


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_may_be_cut_anywhere(size: int, line_end: bytes) -> None:
    """The same events are seen however the bytes come, with each of the line ends that the standard knows."""
    text = (b": a comment\n\n" + MESSAGE + CHAT + STOP).replace(b"\n", line_end)
    watch = watched(*(text[at : at + size] for at in range(0, len(text), size)), terminal=("message_stop",))
    assert (4, True, None) == (watch.count, watch.done, watch.verdict)
    assert ('{"type":"message_start"}', "{}") == tuple(watch.last_events)[:2]


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("/v1/chat/completions", DONE),
        ("/openai/deployments/x/chat/completions", b"data:[DONE]\n\n"),
        ("/v1/completions", b"data: [DONE]"),  # the last line end may be missing
        ("/v1/messages", STOP),
        ("/v1/messages", b'data: {"type":"message_stop"}\n\n'),  # as gateways send it, without the name
        ("/v1/responses", b'event: response.incomplete\ndata: {"type":"response.incomplete"}\n\n'),
    ],
)
def test_a_stream_has_to_end_as_its_protocol_says(path: str, end: bytes) -> None:
    """With the terminal event of its path it is whole, without it is truncated."""
    terminal = terminal_events_for("api.example.com", path, TERMINAL_EVENTS)
    whole = watched(CHAT, end, terminal=terminal)
    whole.finish()
    assert (2, True) == (whole.count, whole.settled)
    cut = watched(CHAT, CHAT, terminal=terminal)
    with pytest.raises(TruncatedStreamError, match=f"ended after 2 events without .*{terminal[0].strip('[]')}"):
        cut.finish()


def test_where_there_is_no_rule_a_stream_may_end_anywhere() -> None:
    """An unknown path, and rules that somebody switched off."""
    assert ((), ()) == (
        terminal_events_for("host", "/v1/events", TERMINAL_EVENTS),
        terminal_events_for("host", "/v1/messages", {}),
    )
    assert () == terminal_events_for("api.perplexity.ai", "/chat/completions", TERMINAL_EVENTS)
    watched(CHAT, terminal=()).finish()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (OVERLOADED, FailureKind.OVERLOADED),
        (b'data: {"error": {"message": "boom", "type": "server_error"}}\n\n', FailureKind.SERVER_ERROR),
        (b'data: {"id":"1","choices":[{"delta":{"content":"H\n\n', FailureKind.TRANSIENT),
        (b"event: error\ndata:\n\n", FailureKind.SERVER_ERROR),
        (b"event: error\ndata: gone\n\n", FailureKind.SERVER_ERROR),
        (b'event: response.failed\ndata: {"response":{"error":{"code":"server_error"}}}\n\n', FailureKind.SERVER_ERROR),
    ],
)
def test_an_event_may_tell_of_a_failure(event: bytes, kind: FailureKind) -> None:
    """An error, a response that failed, and data that is cut: what comes after changes nothing."""
    watch = watched(CHAT, event, DONE)
    assert watch.verdict is not None
    assert (kind, True) == (watch.verdict.kind, watch.settled)
    watch.finish()


@pytest.mark.parametrize(
    "event",
    [
        CHAT,
        b'data: {"response":{"error":null}}\n\n',
        b'data: {"delta":"say \\"error\\": no"}\n\n',
        b'data: {"choices":[{"finish_reason":"content_filter"}],"error": null}\n\n',
        b"event: named only\n\n",
        b"data: [1, 2]\n\n",
    ],
)
def test_most_events_tell_of_none(event: bytes) -> None:
    """Also those that speak of errors without being one."""
    assert watched(event).verdict is None


def test_what_is_kept_is_bounded() -> None:
    """The last 1000 events, 64 KiB of each; what is too large for the parser is not followed any further."""
    watch = watched(b"data: ", *([b"x" * 1000] * 200), b"\n\n")
    assert (1, 64 * 1024) == (watch.count, len(watch.last_events[0]))
    many = watched(*([CHAT] * 1500))
    assert (1500, 1000) == (many.count, len(many.last_events))
    huge = watched(b"data: ", b"x" * 2**21)
    huge.finish()
    assert huge.done


def test_an_encoding_is_undone_as_it_comes() -> None:
    """Gzip is followed; what is no gzip at all is its consumer's to complain of."""
    packed = gzip.compress(CHAT + DONE)
    assert watched(packed[:20], packed[20:], encoding="gzip").done
    assert 0 == watched(b"no gzip", encoding="gzip").count
    assert [True, True, True, True, False] == [is_decodable(each) for each in ("", "identity", "gzip", "deflate", "br")]


def test_the_last_event_may_be_unreadable() -> None:
    """No JSON where JSON begins."""
    assert (False, True, False) == (watched().truncated, watched(b'data: {"a\n\n').truncated, watched(CHAT).truncated)
    assert [True, True, False, False, False, False] == [
        is_truncated_json(each) for each in ('{"a"', "[1", "[1]", "[DONE]", "text", "")
    ]
