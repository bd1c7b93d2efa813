"""Parses server-sent events from bytes, by the rules of the HTML standard. Does no I/O.

Why not `httpx-sse`, which is kept: it imports httpx, so it cannot be had where httpx2 is the library installed; it keeps an
event of any size in memory; and once an event had an `id`, it takes each keep-alive comment for an event without data. httpx2
brings a parser of its own, which httpx's responses cannot use; the tests hold this one to it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resilience_kit.errors import ServerError

#: Characters of one event, as in httpx2.
MAX_EVENT_SIZE = 1024 * 1024
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. `retry` is in milliseconds, as the standard has it; None if the server does not send it."""

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """Return the data as JSON. Raises ValueError if it is none."""
        return json.loads(self.data)


class EventParser:
    """Yields events as their bytes arrive. What follows the last empty line is no event. Used by one reader at a time.

    `max_event_size`: characters of one event, its comments included. A larger one is a `ServerError`; with `truncates`, it is
    yielded with the beginning of its data instead, and `is_truncated` is true until the next one.
    """

    __slots__ = (
        "_data",
        "_decoder",
        "_event",
        "_has_data",
        "_id",
        "_max_event_size",
        "_partial",
        "_pending",
        "_retry",
        "_size",
        "_skip_newline",
        "_truncates",
        "is_truncated",
    )  # fmt: skip

    def __init__(self, max_event_size: int = MAX_EVENT_SIZE, *, truncates: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._max_event_size, self._truncates = max_event_size, truncates
        self._partial: list[str] = []
        self._skip_newline = False
        self._id = ""
        self._pending = 0
        self._clear()

    def _clear(self) -> None:
        self._event, self._data, self._size, self._has_data = "", list[str](), 0, False
        self._retry: int | None = None
        self.is_truncated = False

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that are complete with these bytes. Raises `ServerError` for one that is too large."""
        *lines, rest = self._split(self._decoder.decode(chunk))
        for line in lines:
            if self._partial:
                line, self._partial, self._pending = "".join((*self._partial, line)), [], 0  # noqa: PLW2901 - its beginning came before
            if not line:
                yield from self._dispatch()
            else:
                self._parse_field(line)
        if rest:
            self._keep_partial(rest)

    def finish(self) -> Iterator[ServerSentEvent]:
        """Yield the event that the body ended in, if it has data. By the standard it is none; some consumers accept it."""
        yield from self.feed(b"\n\n")

    def _split(self, text: str) -> list[str]:
        """Return lines, the last of them unfinished. A line feed after a carriage return ends none, even in the next chunk."""
        if text:
            if self._skip_newline:
                text = text.removeprefix("\n")
            self._skip_newline = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def _keep_partial(self, rest: str) -> None:
        rest = self._truncate(rest)
        if rest:
            self._partial.append(rest)
            self._pending += len(rest)

    def _parse_field(self, line: str) -> None:
        line = self._truncate(line)
        self._size += len(line)
        name, _, value = line.partition(":")
        self._set_field(name, value.removeprefix(" "))

    def _truncate(self, text: str) -> str:
        """Return the part of a text of the current event that fits. Raises `ServerError` unless events are truncated."""
        room = self._max_event_size - self._size - self._pending
        if len(text) <= room:
            return text
        if not self._truncates:
            raise ServerError(f"the service sent an event of more than {self._max_event_size} characters")
        self.is_truncated = True
        return text[:room]

    def _set_field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
            self._has_data = True
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self._retry = int(value[:18])

    def _dispatch(self) -> Iterator[ServerSentEvent]:
        """Yield the event that an empty line ends. By the standard it is one only if it has a line of data."""
        if self._has_data:
            yield ServerSentEvent(self._event or "message", "\n".join(self._data), self._id, self._retry)
        self._clear()
