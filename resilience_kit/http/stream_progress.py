"""Interprets the events of one stream, for transports and JSON clients: content, a failure, or proof of the end.

A response is complete when its protocol proves it: by `[DONE]`, by a finish reason in the last choice of each index, by
`message_stop`, `response.completed`. JSON is parsed only if the text of an event may hold one of these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from resilience_kit.classification import event_error
from resilience_kit.classification.body import names_error
from resilience_kit.errors import APIConnectionError
from resilience_kit.http.sse import DONE
from resilience_kit.outcome import Verdict

#: By the end of host and path, the first that fits: the events, by name, by data or by the type in their data, of which one has
#: to come before a stream may end; a finish reason in the last choice of each index stands for `[DONE]`. None of them: it may
#: end anywhere.
TERMINAL_EVENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "api.perplexity.ai/chat/completions": (),  # ends after its last chunk
        "/completions": (DONE,),  # OpenAI and compatible services; `/chat/completions` ends in the same
        "/messages": ("message_stop",),  # Anthropic
        "/responses": ("response.completed", "response.incomplete", "response.failed"),  # OpenAI
        ":streamGenerateContent": ("finishReason",),  # Gemini
    }
)

_KNOWN_TERMINALS: Final = frozenset(name for names in TERMINAL_EVENTS.values() for name in names)
#: Terminal events that are proved by a finish reason, too.
_FINISH_MARKERS: Final = frozenset({DONE, "finish_reason", "finishReason"})
_FINISH: Final = re.compile(r'"finish_?[rR]eason"\s*:\s*"')
_OTHER_CHOICE: Final = re.compile(r'"index"\s*:\s*[1-9]')
#: What some services have where others have null.
_UNFINISHED: Final = frozenset({"", "null", "none", "finish_reason_unspecified"})
_TYPES: Final = ("type", "event", "event_type")
#: As names of events, as types in their data, as the data itself: in any case.
_PING: Final = re.compile(r"ping|keep[-_ ]?alive|heart[-_ ]?beat", re.IGNORECASE)
_QUOTED_PING: Final = re.compile(rf'"(?:{_PING.pattern})"', re.IGNORECASE)
_LONGEST_PING: Final = 128
_CLOSING_BRACKETS: Final = {"{": "}", "[": "]"}


class TruncatedStreamError(APIConnectionError):
    """A stream of events ended without an error, but before the event that its protocol ends with."""


class StreamFailure(NamedTuple):
    """A failure in an event or a body: the verdict on it, and its JSON or text."""

    verdict: Verdict
    body: object


class StreamProgress:
    """Progress of one stream. Used by one reader at a time; what follows `settled` changes nothing.

    `terminal`: as a value of `TERMINAL_EVENTS`. `items`: events with content so far, the terminal one included; `done`: the
    terminal event was received; `failure`: of the event that reported one; `choices`: how many were requested, if known;
    `is_truncated`: the body ended inside the JSON of an event.
    """

    __slots__ = (
        "_ends_by_choice",
        "_expects_json",
        "_finished",
        "_has_first",
        "_has_unknown_end",
        "_names",
        "choices",
        "done",
        "failure",
        "is_truncated",
        "items",
    )  # fmt: skip

    def __init__(self, terminal: tuple[str, ...]) -> None:
        self._names = terminal
        self._ends_by_choice = not _FINISH_MARKERS.isdisjoint(terminal)
        self._expects_json = not _KNOWN_TERMINALS.isdisjoint(terminal)
        self._finished: dict[int, bool] = {}
        self._has_first = self.is_truncated = self._has_unknown_end = False
        self.items = 0
        self.choices = 1
        self.done = False
        self.failure: StreamFailure | None = None

    @property
    def settled(self) -> bool:
        """Whether what follows changes nothing."""
        return self.done or self.failure is not None

    @property
    def complete(self) -> bool:
        """Whether the end is proved: nothing of the response can be missing, even if the connection breaks now."""
        if self.done or self.failure is not None or not self._finished:
            return self.done
        is_all = len(self._finished) >= self.choices and (0 in self._finished or not self._has_first)
        return is_all and all(self._finished.values())

    def observe(self, event: str, data: str, *, is_truncated: bool = False, is_last: bool = False) -> None:
        """One more event. `is_truncated`: only the beginning of its data is known.

        `is_last`: the body ended in it, without the empty line that ends an event, so that consumers may never see it.
        """
        if is_truncated:
            self._observe_truncated(event, data)
            return
        if is_last and (not data or (data[:1] in _CLOSING_BRACKETS and data != DONE and _parsed(data) is None)):
            self.is_truncated = bool(data)
            return
        self.failure = failure_in(event, data, expects_json=self._expects_json)
        if self.failure is not None:
            return
        self.done = self._is_terminal(event, data)
        if self._ends_by_choice and not self.done:
            self._observe_choices(data, is_last=is_last)
        self.items += is_content_event(event, data)

    def _observe_truncated(self, event: str, data: str) -> None:
        """Take an event that is too large to keep. If it may have been the terminal one, the end is unknown."""
        self.items += 1
        self.done = event in self._names or any(f'"{name}"' in data[:_LONGEST_PING] for name in self._names)
        self._has_unknown_end = True

    def finish(self) -> None:
        """End the stream. Raises `TruncatedStreamError` if its protocol requires another event."""
        self.done = self.done or self._has_unknown_end
        if self.settled or self.complete or not (self.is_truncated or self._names):
            return
        events = f"{self.items} event{'s'[: self.items != 1]}"
        missing = f"without {' or '.join(self._names)}" if self._names else "inside another one"
        raise TruncatedStreamError(f"The stream ended after {events} {missing}")

    def _is_terminal(self, event: str, data: str) -> bool:
        names = self._names
        if not names:
            return is_done(data)  # sent by every service that is compatible with OpenAI
        if data in names or event in names or (self._ends_by_choice and is_done(data)):
            return True
        for name in names:
            if name in data and name not in _FINISH_MARKERS:
                body = _parsed(data)
                return isinstance(body, Mapping) and any(body.get(key) in names for key in _TYPES)
        return False

    def _observe_choices(self, data: str, *, is_last: bool) -> None:
        """Follow which choices have a finish reason. Until one has, only events that speak of one or of other choices matter."""
        if not (self._finished or _FINISH.search(data) or _OTHER_CHOICE.search(data)):
            self._has_first = True
            return
        for index, choice in _choices(_parsed(data)):
            if _is_reason(choice):
                self._finished[index] = not (is_last and _has_content(choice))
            elif index not in self._finished or _has_content(choice):
                self._finished[index] = False


def is_done(data: str) -> bool:
    """Return whether data is the `[DONE]` of OpenAI."""
    return data[:2] in ("[D", '"[', " [") and data.strip().strip('"') == DONE


def is_content_event(event: str, data: str) -> bool:
    """Return whether an event has content. Those without data have none, nor have pings, by name or by type."""
    if not data or data.isspace() or (event != "message" and _PING.fullmatch(event)):
        return False
    if len(data) > _LONGEST_PING:
        return True
    if _PING.fullmatch(data.strip(' []"')):
        return False
    if _QUOTED_PING.search(data) is None:
        return True
    body = _parsed(data)
    return not (isinstance(body, Mapping) and any(_PING.fullmatch(str(body.get(key))) for key in _TYPES))


def failure_in(event: str, data: str, *, expects_json: bool) -> StreamFailure | None:
    """Return the failure that an event reports; None for all others. An event with the name of an error is one whatever its data.

    `expects_json`: data that begins as JSON and stops short is a failure, too; elsewhere it may be a word of a text.
    """
    named = names_error(event)
    if not expects_json and not named and is_truncated_json(data):
        return None
    verdict = event_error(event, data)
    if verdict is None:
        return None
    body = _parsed(data)
    if isinstance(body, Mapping):
        return None if "jsonrpc" in body and not named else StreamFailure(verdict, body)
    return StreamFailure(verdict, {"error": {"message": data}})


def is_truncated_json(text: str) -> bool:
    """Return whether a text is JSON without its end. Looks at both ends only."""
    return text[:1] in _CLOSING_BRACKETS and text != DONE and not text.endswith(_CLOSING_BRACKETS[text[:1]])


def terminal_events_for(host: str, path: str, rules: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the terminal events of the path of a host; empty without a rule."""
    address = (host + path).rstrip("/")
    return next((names for end, names in rules.items() if address.endswith(end)), ())


def choices_in(request: object) -> int:
    """Return how many choices a parsed request asks for."""
    number = request.get("n") if isinstance(request, Mapping) else None
    return number if type(number) is int and number > 0 else 1


def _choices(body: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the choices of OpenAI, or the candidates of Gemini, by index."""
    if not isinstance(body, Mapping):
        return
    for name in ("choices", "candidates"):
        found = body.get(name)
        for position, choice in enumerate(found if isinstance(found, list) else ()):
            if isinstance(choice, Mapping):
                index = choice.get("index", position)
                yield index if type(index) is int else position, choice


def _is_reason(choice: Mapping[str, Any]) -> bool:
    reason = choice.get("finish_reason") or choice.get("finishReason")
    return isinstance(reason, str) and reason.strip().lower() not in _UNFINISHED


def _has_content(choice: Mapping[str, Any]) -> bool:
    for name in ("delta", "message", "content"):
        part = choice.get(name)
        if isinstance(part, Mapping) and any(value for key, value in part.items() if key != "role"):
            return True
    return bool(choice.get("text"))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
