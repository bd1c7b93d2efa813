"""Follows a stream of server-sent events beside whoever consumes it: whether it fails, and ends as its protocol says.

Nothing is changed and nothing waits here. What is not known to be wrong is good: a stream without a rule may end anywhere, and
an encoding that cannot be undone bit by bit is not looked into.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from resilience_kit.classification import classify_response
from resilience_kit.errors import APIConnectionError, ServerError
from resilience_kit.http.sse import DONE, EventParser
from resilience_kit.outcome import FailureKind, Verdict

#: By the end of host and path, the first that fits: the events, by name or by data, of which one has to come before a stream
#: may end. None of them: it may end anywhere.
TERMINAL_EVENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "api.perplexity.ai/chat/completions": (),  # ends after its last chunk
        "/completions": ("[DONE]",),  # OpenAI, and whoever speaks as it does; `/chat/completions` ends in the same
        "/messages": ("message_stop",),  # Anthropic
        "/responses": ("response.completed", "response.incomplete", "response.failed"),  # OpenAI
    }
)

#: Not the `"usage":null` of most chunks, nor the word within a text, whose quotes are escaped.
_USAGE = re.compile(r'"usage"\s*:\s*\{')
_KEPT_EVENTS = 1000
_LONGEST_KEPT = 64 * 1024
_ENDS = {"{": "}", "[": "]"}
_ENCODINGS = ("gzip", "deflate")
_EITHER_HEADER = 47  # zlib's word for "gzip or zlib, see for yourself"
_OK = 200
_ANSWERED = frozenset({FailureKind.UNKNOWN, FailureKind.CONTENT_FILTER, FailureKind.CONTEXT_LENGTH})


class TruncatedStreamError(APIConnectionError):
    """A stream of events ended in good order, but before the event that its protocol ends with."""


class EventWatch:
    """Reads events as their bytes pass. Used by one thread or task at a time.

    `count`: events so far; `last`: the data of at most the last 1000 of them; `done`: the terminal event has come; `verdict`: of
    the event that told of a failure; `told`: the data of the first and the last event with a usage. Nothing is said of what
    comes after an event that is too large for the parser.
    """

    __slots__ = ("_decoder", "_parser", "_terminal", "count", "done", "last", "told", "verdict")

    def __init__(self, terminal: tuple[str, ...], encoding: str = "") -> None:
        self._terminal = terminal
        self._decoder = zlib.decompressobj(_EITHER_HEADER) if encoding in _ENCODINGS else None
        self._parser = EventParser()
        self.count = 0
        self.done = False
        self.last: deque[str] = deque(maxlen=_KEPT_EVENTS)
        self.told: tuple[str, ...] = ()
        self.verdict: Verdict | None = None

    @property
    def settled(self) -> bool:
        """Whether what follows changes nothing."""
        return self.done or self.verdict is not None

    @property
    def unreadable(self) -> bool:
        """Whether the last event is no JSON, which whoever reads it will say in no words that anybody handles."""
        return bool(self.last) and is_cut(self.last[-1])

    def feed(self, chunk: bytes) -> None:
        """More bytes, as they came over the wire."""
        if self._decoder is not None:
            chunk = _undone(self._decoder, chunk)
        try:
            for event in self._parser.feed(chunk):
                self._note(event.event, event.data)
        except ServerError:
            self.done = True

    def finish(self) -> None:
        """No more bytes come. Raises `TruncatedStreamError` where the stream had to end otherwise."""
        self.feed(b"\n\n")  # SDKs take an event without its empty line
        if self._terminal and not self.settled:
            raise TruncatedStreamError(f"the stream ended after {self.count} events without {' or '.join(self._terminal)}")

    def _note(self, event: str, data: str) -> None:
        self.count += 1
        self.last.append(data[:_LONGEST_KEPT])
        if '"usage"' in data and _USAGE.search(data):
            self.told = (*self.told[:1], data)
        if self.verdict is None:
            self.verdict = _failure(event, data)
        self.done = self.done or data in self._terminal or event in self._terminal or _type_of(data) in self._terminal


def _undone(decoder: zlib._Decompress, chunk: bytes) -> bytes:
    try:
        return decoder.decompress(chunk)
    except zlib.error:  # whoever consumes the stream meets it too
        return b""


def _type_of(data: str) -> str:
    """The event's type where it stands first in its data, as some gateways leave the name line out."""
    return data[9 : data.find('"', 9)] if data.startswith('{"type":"') else ""


def _failure(event: str, data: str) -> Verdict | None:
    """The verdict of an event that tells of a failure, None for all others."""
    if event != "error" and '"error":' not in data and not is_cut(data):
        return None
    return failing(classify_response(_OK, {}, data)) if data else None


def is_cut(text: str) -> bool:
    """Whether JSON begins that does not end. Looks at both ends only."""
    return text[:1] in _ENDS and text != DONE and not text.endswith(_ENDS[text[:1]])


def failing(verdict: Verdict) -> Verdict | None:
    """The verdict on a 200, None when it says that an answer was given, of whatever worth."""
    return None if verdict.kind in _ANSWERED else verdict


def terminal_for(host: str, path: str, rules: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The terminal events of a host's path, empty where there is no rule."""
    return next((names for end, names in rules.items() if (host + path).endswith(end)), ())


def is_readable(encoding: str) -> bool:
    """Whether events in this content encoding can be followed as they come."""
    return encoding in ("", "identity", *_ENCODINGS)
