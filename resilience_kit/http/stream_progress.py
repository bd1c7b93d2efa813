"""What the events of one stream mean, by the same rules in transports and JSON clients: content, a failure, or proof of the end.

An answer is complete when its protocol has said so: by `[DONE]`, by a finish reason in the last choice of each index, by
`message_stop`, `response.completed`. JSON is parsed only where the letters of an event allow that it tells one of these.
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
        "/completions": (DONE,),  # OpenAI, and whoever speaks as it does; `/chat/completions` ends in the same
        "/messages": ("message_stop",),  # Anthropic
        "/responses": ("response.completed", "response.incomplete", "response.failed"),  # OpenAI
        ":streamGenerateContent": ("finishReason",),  # Gemini
    }
)

_OF_PROTOCOLS: Final = frozenset(name for names in TERMINAL_EVENTS.values() for name in names)
#: Terminal events that are proved by a finish reason, too.
_FINISHES: Final = frozenset({DONE, "finish_reason", "finishReason"})
_FINISH: Final = re.compile(r'"finish_?[rR]eason"\s*:\s*"')
_OTHER_CHOICE: Final = re.compile(r'"index"\s*:\s*[1-9]')
#: What some services have where others have null.
_UNFINISHED: Final = frozenset({"", "null", "none", "finish_reason_unspecified"})
_TYPES: Final = ("type", "event", "event_type")
#: As names of events, as types in their data, as the data itself: in any case.
_PING: Final = re.compile(r"ping|keep[-_ ]?alive|heart[-_ ]?beat", re.IGNORECASE)
_QUOTED_PING: Final = re.compile(rf'"(?:{_PING.pattern})"', re.IGNORECASE)
_LONGEST_PING: Final = 128
_ENDS: Final = {"{": "}", "[": "]"}


class TruncatedStreamError(APIConnectionError):
    """A stream of events ended in good order, but before the event that its protocol ends with."""


class Failure(NamedTuple):
    """What an event or a body told of a failure: the verdict on it, and its JSON or text."""

    verdict: Verdict
    body: object


class StreamProgress:
    """How far one stream has come. Used by one reader at a time; what comes after `settled` changes nothing.

    `terminal`: as a value of `TERMINAL_EVENTS`. `items`: events with content so far, the terminal one included; `done`: the
    terminal event has come; `failure`: of the event that told of one; `choices`: how many were asked for, where that is known;
    `is_cut`: the body ended inside the JSON of an event.
    """

    __slots__ = (
        "_by_choice", "_finished", "_has_first", "_is_lost", "_names", "_speaks_json", "choices", "done", "failure", "is_cut",
        "items",
    )  # fmt: skip

    def __init__(self, terminal: tuple[str, ...]) -> None:
        self._names = terminal
        self._by_choice = not _FINISHES.isdisjoint(terminal)
        self._speaks_json = not _OF_PROTOCOLS.isdisjoint(terminal)
        self._finished: dict[int, bool] = {}
        self._has_first = self.is_cut = self._is_lost = False
        self.items = 0
        self.choices = 1
        self.done = False
        self.failure: Failure | None = None

    @property
    def settled(self) -> bool:
        """Whether what follows changes nothing."""
        return self.done or self.failure is not None

    @property
    def complete(self) -> bool:
        """Whether the end is proved: nothing of the answer can be missing, even if the connection breaks now."""
        if self.done or self.failure is not None or not self._finished:
            return self.done
        is_all = len(self._finished) >= self.choices and (0 in self._finished or not self._has_first)
        return is_all and all(self._finished.values())

    def note(self, event: str, data: str, *, is_short: bool = False, is_last: bool = False) -> None:
        """One more event. `is_short`: only the beginning of its data is known.

        `is_last`: the body ended in it, without the empty line that ends an event, so that consumers may never see it.
        """
        if is_short:
            self._note_short(event, data)
            return
        if is_last and (not data or (data[:1] in _ENDS and data != DONE and _parsed(data) is None)):
            self.is_cut = bool(data)
            return
        self.failure = failure_of(event, data, speaks_json=self._speaks_json)
        if self.failure is not None:
            return
        self.done = self._is_terminal(event, data)
        if self._by_choice and not self.done:
            self._note_choices(data, is_last=is_last)
        self.items += is_item(event, data)

    def _note_short(self, event: str, data: str) -> None:
        """Larger than anybody keeps. Where it may have been the terminal one, nothing is said of the end."""
        self.items += 1
        self.done = event in self._names or any(f'"{name}"' in data[:_LONGEST_PING] for name in self._names)
        self._is_lost = True

    def finish(self) -> None:
        """No more comes. Raises `TruncatedStreamError` where the protocol would have had another event."""
        self.done = self.done or self._is_lost
        if self.settled or self.complete or not (self.is_cut or self._names):
            return
        events = f"{self.items} event{'s'[: self.items != 1]}"
        missing = f"without {' or '.join(self._names)}" if self._names else "inside another one"
        raise TruncatedStreamError(f"The stream ended after {events} {missing}")

    def _is_terminal(self, event: str, data: str) -> bool:
        names = self._names
        if not names:
            return is_done(data)  # said by whoever speaks as OpenAI does, wherever that is
        if data in names or event in names or (self._by_choice and is_done(data)):
            return True
        for name in names:
            if name in data and name not in _FINISHES:
                body = _parsed(data)
                return isinstance(body, Mapping) and any(body.get(key) in names for key in _TYPES)
        return False

    def _note_choices(self, data: str, *, is_last: bool) -> None:
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
    """Whether data is OpenAI's last word."""
    return data[:2] in ("[D", '"[', " [") and data.strip().strip('"') == DONE


def is_item(event: str, data: str) -> bool:
    """Whether an event has content. Those without data have none, nor have pings, by name or by type."""
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


def failure_of(event: str, data: str, *, speaks_json: bool) -> Failure | None:
    """The failure that an event tells of, None for all others. An event that is named so is one whatever its data.

    `speaks_json`: data that begins as JSON and stops short is a failure, too; elsewhere it may be a word of a text.
    """
    named = names_error(event)
    if not speaks_json and not named and is_cut(data):
        return None
    verdict = event_error(event, data)
    if verdict is None:
        return None
    body = _parsed(data)
    if isinstance(body, Mapping):
        return None if "jsonrpc" in body and not named else Failure(verdict, body)
    return Failure(verdict, {"error": {"message": data}})


def is_cut(text: str) -> bool:
    """Whether JSON begins that does not end. Looks at both ends only."""
    return text[:1] in _ENDS and text != DONE and not text.endswith(_ENDS[text[:1]])


def terminal_for(host: str, path: str, rules: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The terminal events of a host's path, empty where there is no rule."""
    address = (host + path).rstrip("/")
    return next((names for end, names in rules.items() if address.endswith(end)), ())


def choices_in(request: object) -> int:
    """How many choices a parsed request asks for."""
    number = request.get("n") if isinstance(request, Mapping) else None
    return number if type(number) is int and number > 0 else 1


def _choices(body: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The choices of OpenAI's, or the candidates of Gemini's, by index."""
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
