"""Reads a stream of events for a JSON client: the items for the caller, the end, and error events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from resilience_kit.classification.body import LONGEST_BODY
from resilience_kit.errors import AIServiceError, InvalidRequestError
from resilience_kit.http.errors import RequestInfo, error_from_response
from resilience_kit.http.json_response import non_stream_verdict, response_verdict
from resilience_kit.http.sse import MAX_EVENT_SIZE, EventParser, ServerSentEvent
from resilience_kit.http.stream_progress import TERMINAL_EVENTS, StreamProgress, is_done, terminal_events_for
from resilience_kit.outcome import Verdict

EVENT_STREAM: Final = "text/event-stream"
_OK: Final = 200


class EventReader:
    """Reader of one stream. What follows the terminal event is ignored.

    Events without content are held until the first event with content: until then the stream can be retried.
    """

    def __init__(
        self,
        url: str,
        info: RequestInfo,
        terminal: tuple[str, ...] | None,
        *,
        choices: int = 1,
        max_event_size: int = MAX_EVENT_SIZE,
    ) -> None:
        self._info, self._parser = info, EventParser(max_event_size)
        self._progress = StreamProgress(
            terminal_events_for(info.host, urlsplit(url).path, TERMINAL_EVENTS) if terminal is None else terminal
        )
        self._progress.choices = choices
        self._held: list[ServerSentEvent] = []
        self._head = b""  # until an event has come: it may be no stream at all

    @property
    def done(self) -> bool:
        """Whether the terminal event was received."""
        return self._progress.done

    @property
    def complete(self) -> bool:
        """Whether nothing of the response can be missing, even if the connection breaks now."""
        return self._progress.complete

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that these bytes complete. Raises for an error event."""
        if not self._progress.items and len(self._head) < LONGEST_BODY:
            self._head += chunk
        for event in self._parser.feed(chunk):
            if self.done:
                return
            yield from self._process_event(event)

    def finish(self) -> Iterator[ServerSentEvent]:
        """End the stream. Raises `TruncatedStreamError` if its protocol requires another event."""
        if not self.done:
            for event in self._parser.finish():
                yield from self._process_event(event, is_last=True)
            if not self._progress.items:
                self._raise_for_error_body()
            self._progress.finish()
        yield from self._held

    def _process_event(self, event: ServerSentEvent, *, is_last: bool = False) -> Iterator[ServerSentEvent]:
        progress = self._progress
        progress.observe(event.event, event.data, is_last=is_last)
        if progress.failure is not None:
            raise error_from_response(_OK, {}, progress.failure.body, self._info, progress.failure.verdict)
        if not progress.is_truncated and not is_done(event.data):
            self._held.append(event)
        if progress.items:
            held, self._held = self._held, []
            yield from held

    def _raise_for_error_body(self) -> None:
        """Raise for a body that is no stream but one error, as it is sent without a stream."""
        head = self._head
        verdict = non_stream_verdict(head, dict) if len(head) < LONGEST_BODY else None
        if verdict is not None:
            raise error_from_response(_OK, {}, head, self._info, verdict)


def is_event_stream(response: Any) -> bool:
    """Return whether a response is a stream of events."""
    return response.status_code == _OK and str(response.headers.get("content-type", "")).lower().startswith(EVENT_STREAM)


def body_head(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield as much of a body as is parsed for an error."""
    remaining = LONGEST_BODY
    for chunk in chunks:
        yield chunk
        remaining -= len(chunk)
        if remaining <= 0:
            return


def _body_verdict(body: bytes) -> Verdict | None:
    """Return the verdict on a body, if it is short enough to be known completely."""
    return response_verdict("POST", _OK, body, dict) if len(body) < LONGEST_BODY else None


def not_a_stream(status: int, headers: object, body: bytes, info: RequestInfo) -> AIServiceError:
    """Return the error for a response that is no stream of events."""
    verdict = _body_verdict(body) if status == _OK else None
    if status != _OK or verdict is not None:
        return error_from_response(status, headers, body, info, verdict)
    return InvalidRequestError(f"The answer is no stream of events; ask for one, as with stream=True in the body ({info})")
