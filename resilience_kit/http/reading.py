"""What a stream of events means while it is read: the items for the caller, its end, and errors that come as events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from resilience_kit.classification.body import LONGEST_BODY
from resilience_kit.errors import AIServiceError, InvalidRequestError
from resilience_kit.http.errors import Sent, error_of
from resilience_kit.http.sse import EventParser, ServerSentEvent
from resilience_kit.http.transport_events import TERMINAL_EVENTS, TruncatedStreamError, terminal_for

EVENT_STREAM: Final = "text/event-stream"
_DONE: Final = "[DONE]"
_OK: Final = 200


def is_error(body: object) -> bool:
    """Whether the JSON of an answer is an error object, whatever the status says."""
    if not isinstance(body, Mapping):
        return False
    error = body.get("error")
    return (isinstance(error, Mapping | str) and bool(error)) or body.get("type") == "error" or body.get("object") == "error"


class EventReader:
    """One stream. `done`: the event has come that its protocol ends with; what follows is not looked at."""

    def __init__(self, url: str, sent: Sent, terminal: tuple[str, ...] | None) -> None:
        self._sent, self._parser = sent, EventParser()
        self._terminal = terminal_for(sent.host, urlsplit(url).path, TERMINAL_EVENTS) if terminal is None else terminal
        self._count = 0
        self.done = False

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that these bytes complete. Raises for one that is an error."""
        for event in self._parser.feed(chunk):
            if self.done:
                return
            self._refuse(event)
            self.done = event.data in self._terminal or event.event in self._terminal
            self._count += 1
            if event.data != _DONE:
                yield event

    def finish(self) -> None:
        """No more bytes come. Raises `TruncatedStreamError` where the protocol would have had another event."""
        if self._terminal and not self.done:
            raise TruncatedStreamError(
                f"The stream ended after {self._count} event{'s'[: self._count != 1]} without {' or '.join(self._terminal)}"
            )

    def _refuse(self, event: ServerSentEvent) -> None:
        if event.event == "error" or '"error"' in event.data:
            body = _parsed(event.data)
            if event.event == "error" or is_error(body):
                told = body if isinstance(body, Mapping) else {"error": {"message": event.data}}
                raise error_of(_OK, {}, told, self._sent)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def is_stream(response: Any) -> bool:
    """Whether an answer is a stream of events."""
    return response.status_code == _OK and str(response.headers.get("content-type", "")).lower().startswith(EVENT_STREAM)


def beginning(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """As much of a body as its meaning may stand in."""
    left = LONGEST_BODY
    for chunk in chunks:
        yield chunk
        left -= len(chunk)
        if left <= 0:
            return


def no_stream(status: int, headers: object, body: bytes, sent: Sent) -> AIServiceError:
    """The error for an answer that is no stream of events."""
    if status != _OK or is_error(_parsed(body.decode("utf-8", "replace"))):
        return error_of(status, headers, body, sent)
    return InvalidRequestError(f"The answer is no stream of events; ask for one, as with stream=True in the body ({sent})")
