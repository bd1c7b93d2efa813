"""Follows a stream of server-sent events beside whoever consumes it: whether it fails, and ends as its protocol says.

Nothing is changed and nothing waits here. What is not known to be wrong is good: a stream without a rule may end anywhere, and
an encoding that cannot be undone bit by bit is not looked into.
"""

from __future__ import annotations

import re
import zlib
from collections import deque

from resilience_kit.http.sse import EventParser
from resilience_kit.http.stream_progress import (
    TERMINAL_EVENTS,
    StreamProgress,
    TruncatedStreamError,
    is_truncated_json,
    terminal_events_for,
)
from resilience_kit.outcome import Verdict

__all__ = ["TERMINAL_EVENTS", "SSEMonitor", "TruncatedStreamError", "is_decodable", "is_truncated_json", "terminal_events_for"]

#: Not the `"usage":null` of most chunks, nor the word within a text, whose quotes are escaped.
_USAGE = re.compile(r'"usage"\s*:\s*\{')
_KEPT_EVENTS = 1000
_LONGEST_KEPT = 64 * 1024
_ENCODINGS = ("gzip", "deflate")
_GZIP_OR_ZLIB = 47  # zlib's word for "gzip or zlib, see for yourself"


class SSEMonitor:
    """Reads events as their bytes pass. Used by one thread or task at a time.

    `count`: events with data so far; `last_events`: the data of at most the last 1000 of them; `usage_events`: the data of the
    first and the last event with a usage; `progress`: what they mean. Nothing is said of what comes after the end or a failure.
    """

    __slots__ = ("_decoder", "_is_delimited", "_parser", "count", "last_events", "progress", "usage_events")

    def __init__(self, terminal: tuple[str, ...], encoding: str = "") -> None:
        self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in _ENCODINGS else None
        self._parser = EventParser(truncates=True)
        self._is_delimited = True
        self.progress = StreamProgress(terminal)
        self.count = 0
        self.last_events: deque[str] = deque(maxlen=_KEPT_EVENTS)
        self.usage_events: tuple[str, ...] = ()

    @property
    def items(self) -> int:
        """Events with content so far: no comments, no pings."""
        return self.progress.items

    @property
    def done(self) -> bool:
        """Whether the terminal event has come."""
        return self.progress.done

    @property
    def complete(self) -> bool:
        """Whether the end is proved, by the terminal event or by finish reasons."""
        return self.progress.complete

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the event that told of a failure."""
        failure = self.progress.failure
        return None if failure is None else failure.verdict

    @property
    def settled(self) -> bool:
        """Whether what follows changes nothing."""
        return self.progress.settled

    @property
    def truncated(self) -> bool:
        """Whether whoever reads the last event will make nothing of it that anybody handles: it is no JSON, or has no end."""
        return bool(self.last_events) and (not self._is_delimited or is_truncated_json(self.last_events[-1]))

    def feed(self, chunk: bytes) -> None:
        """More bytes, as they came over the wire."""
        if self._decoder is not None:
            chunk = _decompress(self._decoder, chunk)
        for event in self._parser.feed(chunk):
            if self.progress.settled:
                return
            self._observe(event.event, event.data)

    def finish(self, choices: int = 1) -> None:
        """No more bytes come. Raises `TruncatedStreamError` where the stream had to end otherwise.

        `choices`: how many were asked for.
        """
        self.progress.choices = choices
        if not self.progress.settled:
            for event in self._parser.finish():
                self._is_delimited = False
                self._observe(event.event, event.data)
        self.progress.finish()

    def _observe(self, event: str, data: str) -> None:
        if data:
            self.count += 1
            self.last_events.append(data[:_LONGEST_KEPT])
            if '"usage"' in data and _USAGE.search(data):
                self.usage_events = (*self.usage_events[:1], data)
        self.progress.observe(event, data, is_truncated=self._parser.is_truncated, is_last=not self._is_delimited)


def _decompress(decoder: zlib._Decompress, chunk: bytes) -> bytes:
    try:
        return decoder.decompress(chunk)
    except zlib.error:  # whoever consumes the stream meets it too
        return b""


def is_decodable(encoding: str) -> bool:
    """Whether events in this content encoding can be followed as they come."""
    return encoding in ("", "identity", *_ENCODINGS)
