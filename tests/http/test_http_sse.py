"""Events out of bytes, compared with httpx2's own parser and with the HTML standard."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import ServerError
from resilience_kit.http import ServerSentEvent
from resilience_kit.http.sse import EventParser

TEXT = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), max_size=8)
LINE = st.one_of(
    TEXT.map(lambda text: f"data: {text}"),
    TEXT.map(lambda text: f"data:{text}"),
    TEXT.map(lambda text: f"event: {text}"),
    TEXT.map(lambda text: f"id: {text}"),
    TEXT.map(lambda text: f": {text}"),
    TEXT.map(lambda text: f"unknown: {text}"),
    st.integers(0, 10**6).map(lambda number: f"retry: {number}"),
)
EVENT = st.tuples(st.lists(LINE, max_size=3), TEXT).map(lambda parts: [*parts[0], f"data: {parts[1]}", ""])


def parsed(*chunks: bytes) -> list[ServerSentEvent]:
    """The events of these chunks."""
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, some of them empty."""
    marks = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]


@given(st.lists(EVENT, max_size=4), st.lists(st.integers(0, 10**6), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_are_those_of_httpx2_however_they_are_cut(events: list[list[str]], places: list[int], end: str) -> None:
    """Any lines, any line ends, any chunks: the same events as httpx2's parser gives."""
    data = "".join(line + end for event in events for line in event).encode()
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    response = httpx2.Response(200, headers=headers, content=data, request=httpx2.Request("GET", "http://a"))
    expected = [(each.event, each.data, each.id, each.retry) for each in httpx2.EventSource(response)]
    assert expected == [(each.event, each.data, each.id, each.retry) for each in parsed(*cut(data, places))]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b"event: ping\n\n", []),
        (b"id: 1\ndata: a\n\n: keep-alive\n\n: keep-alive\n\n", ["a"]),
        (b"data: never ended\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", ["a", "b", "c"]),
    ],
)
def test_the_standards_own_cases(text: bytes, data: list[str]) -> None:
    """Lines join, a comment is no event, an unfinished one neither, a byte order mark is skipped; byte by byte too."""
    assert data == [event.data for event in parsed(text)]
    assert data == [event.data for event in parsed(*(text[place : place + 1] for place in range(len(text))))]


def test_an_event_has_the_last_id_and_its_own_name() -> None:
    """The id stays, the name and the time do not; what is no number of milliseconds is not there."""
    first, second = parsed(b"id: 7\nevent: x\nretry: 5\ndata: {}\n\nretry: -1\nid: a\0b\ndata: [1]\n\n")
    assert ServerSentEvent("x", "{}", "7", 5) == first
    assert ServerSentEvent("message", "[1]", "7", None) == second
    assert [1] == second.json()


@pytest.mark.parametrize("endless", [b"x" * 10, b"data: x\n"])
def test_an_event_that_is_too_large_is_refused(endless: bytes) -> None:
    """Neither one line nor many of them fill the memory."""
    parser = EventParser(max_event_size=100)
    assert 1 == len(list(parser.feed(b"data: " + b"y" * 90 + b"\n\n")))
    with pytest.raises(ServerError, match="more than 100 characters"):
        for _ in range(30):
            list(parser.feed(endless))


@pytest.mark.parametrize("text", [b"data: a\r\n\r\ndata: b\r\n\ndata: c\r\r\n", b"data: a\r\n\ndata: b\n\r\ndata: c\n\n"])
def test_a_line_feed_is_taken_from_one_carriage_return_only(text: bytes) -> None:
    """Cut at every byte, and at every two, mixed line ends give the same three events."""
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            assert ["a", "b", "c"] == [event.data for event in parsed(text[:first], text[first:second], text[second:])]


def sizes(size: int, largest: int, *, shortens: bool = False) -> list[str]:
    """What becomes of an event between two small ones, in pieces of a size."""
    parser, found = EventParser(largest, truncates=shortens), list[str]()
    text = b"data: a\n\n: a comment\ndata: " + b"x" * 40 + b"\ndata: y\n\ndata: b\n\n"
    try:
        for at in range(0, len(text), size):
            for event in parser.feed(text[at : at + size]):
                found.append(event.data + "..." * parser.is_truncated)
    except ServerError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("size", [1, 2, 5, 50, 1000])
def test_the_limit_of_an_event_does_not_depend_on_the_pieces(size: int) -> None:
    """Its lines count, comments included, whether they come at once or one by one; others in the same piece do not."""
    assert ["a", f"{'x' * 40}\ny", "b"] == sizes(size, 64)
    assert ["a", "the service sent an event of more than 63 characters"] == sizes(size, 63)


@pytest.mark.parametrize("size", [1, 2, 5, 50, 1000])
def test_what_is_too_large_can_be_shortened(size: int) -> None:
    """The beginning of its data is given, and the events after it are whole."""
    assert ["a", f"{'x' * 33}...", "b"] == sizes(size, 50, shortens=True)
