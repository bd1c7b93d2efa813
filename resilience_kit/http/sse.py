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
    """Gives events as their bytes come. What stands after the last empty line is no event. Used by one reader at a time.

    `largest`: characters of one event, its comments included. A larger one is a `ServerError`; with `shortens`, it is given with
    the beginning of its data instead, and `is_short` is true until the next one is asked for.
    """

    __slots__ = (
        "_data", "_decoder", "_event", "_id", "_largest", "_pending", "_rest", "_retry", "_shortens", "_size", "_skips", "_some",
        "is_short",
    )  # fmt: skip

    def __init__(self, largest: int = LARGEST_EVENT, *, shortens: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._largest, self._shortens = largest, shortens
        self._rest: list[str] = []
        self._skips = False
        self._id = ""
        self._pending = 0
        self._clear()

    def _clear(self) -> None:
        self._event, self._data, self._size, self._some = "", list[str](), 0, False
        self._retry: int | None = None
        self.is_short = False

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that are complete with these bytes. Raises `ServerError` for one that is too large to be kept."""
        *lines, rest = self._split(self._decoder.decode(chunk))
        for line in lines:
            if self._rest:
                line, self._rest, self._pending = "".join((*self._rest, line)), [], 0  # noqa: PLW2901 - its beginning came before
            if not line:
                yield from self._dispatched()
            else:
                self._take(line)
        if rest:
            self._keep(rest)

    def finish(self) -> Iterator[ServerSentEvent]:
        """The event that the body ended in, if it has data. To the standard it is none, to some consumers it is."""
        yield from self.feed(b"\n\n")

    def _split(self, text: str) -> list[str]:
        """Lines, the last of them unfinished; a line feed after a carriage return ends none, also at the start of a chunk."""
        if text:
            if self._skips:
                text = text.removeprefix("\n")
            self._skips = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def _keep(self, rest: str) -> None:
        rest = self._fitting(rest)
        if rest:
            self._rest.append(rest)
            self._pending += len(rest)

    def _take(self, line: str) -> None:
        line = self._fitting(line)
        self._size += len(line)
        name, _, value = line.partition(":")
        self._note(name, value.removeprefix(" "))

    def _fitting(self, text: str) -> str:
        """A text of the present event, as far as there is room for it. Raises `ServerError` where events are not shortened."""
        room = self._largest - self._size - self._pending
        if len(text) <= room:
            return text
        if not self._shortens:
            raise ServerError(f"the service sent an event of more than {self._largest} characters")
        self.is_short = True
        return text[:room]

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
