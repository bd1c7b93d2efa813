"""Server-sent events out of bytes, by the rules of the HTML standard. Nothing is read from anywhere here.

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
LARGEST_EVENT = 1024 * 1024
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. `retry` is in milliseconds, as the standard has it; None where the server does not speak of it."""

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """The data as JSON. Raises ValueError for what is none."""
        return json.loads(self.data)


class EventParser:
    """Gives events as their bytes come. What stands after the last empty line is no event. Used by one reader at a time."""

    __slots__ = ("_data", "_decoder", "_event", "_id", "_largest", "_pending", "_rest", "_retry", "_size", "_skips", "_some")

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._largest = largest
        self._rest: list[str] = []
        self._skips = False
        self._id = ""
        self._pending = 0
        self._clear()

    def _clear(self) -> None:
        self._event, self._data, self._size, self._some = "", list[str](), 0, False
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that are complete with these bytes. Raises `ServerError` for one that is too large to be kept."""
        for line in self._lines(self._decoder.decode(chunk)):
            if not line:
                yield from self._dispatched()
            else:
                self._take(line)
        self._check()

    def _lines(self, text: str) -> list[str]:
        """Whole lines; a line feed after a carriage return ends none, also where a chunk ends between them."""
        if self._skips and text:
            text = text.removeprefix("\n")
        self._skips = text.endswith("\r") or (self._skips and not text)
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if lines:
            lines[0] = "".join((*self._rest, lines[0]))
            self._rest, self._pending = [], 0
        self._rest.append(rest)
        self._pending += len(rest)
        return lines

    def _check(self) -> None:
        if self._size + self._pending > self._largest:
            raise ServerError(f"the service sent an event of more than {self._largest} characters")

    def _take(self, line: str) -> None:
        self._size += len(line)
        name, _, value = line.partition(":")
        self._note(name, value.removeprefix(" "))

    def _note(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
            self._some = True
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self._retry = int(value[:18])

    def _dispatched(self) -> Iterator[ServerSentEvent]:
        """An empty line has come. The standard makes an event only of what has a line of data."""
        if self._some:
            yield ServerSentEvent(self._event or "message", "\n".join(self._data), self._id, self._retry)
        self._clear()
