"""Follows a stream of server-sent events beside its consumer: whether it fails, and ends as its protocol demands.

The bytes are not changed, and there is no I/O. What is not known to be wrong is good: a stream without a rule may end anywhere,
and an encoding that cannot be decoded incrementally is not followed.
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
_GZIP_OR_ZLIB = 47  # wbits of zlib for "gzip or zlib, detected"


class SSEMonitor:
    """Reads events as their bytes pass. Used by one thread or task at a time.

    `count`: events with data so far; `last_events`: the data of at most the last 1000 of them; `usage_events`: the data of the
    first and the last event with a usage; `progress`: what they mean. What follows the end or a failure is ignored.
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
        """Whether the terminal event was received."""
        return self.progress.done

    @property
    def complete(self) -> bool:
        """Whether the end is proved, by the terminal event or by finish reasons."""
        return self.progress.complete

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the event that reported a failure."""
        failure = self.progress.failure
        return None if failure is None else failure.verdict

    @property
    def settled(self) -> bool:
        """Whether what follows changes nothing."""
        return self.progress.settled

    @property
    def truncated(self) -> bool:
        """Whether the last event is one that consumers cannot handle: it is cut JSON, or has no end."""
        return bool(self.last_events) and (not self._is_delimited or is_truncated_json(self.last_events[-1]))

    def feed(self, chunk: bytes) -> None:
        """Take more bytes as they were received, still encoded."""
        if self._decoder is not None:
            chunk = _decompress(self._decoder, chunk)
        for event in self._parser.feed(chunk):
            if self.progress.settled:
                return
            self._observe(event.event, event.data)

    def finish(self, choices: int = 1) -> None:
        """End the stream. Raises `TruncatedStreamError` if its protocol requires another event.

        `choices`: how many were requested.
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
    except zlib.error:  # the consumer of the stream meets it too
        return b""


def is_decodable(encoding: str) -> bool:
    """Return whether events in this content encoding can be decoded as they arrive."""
    return encoding in ("", "identity", *_ENCODINGS)
