"""Decides how far a response is read before it is judged, and judges it. Does no I/O.

Errors and JSON are read to their end inside the attempt, a stream of events up to its first event with content, so that the
attempt can still be repeated.
"""

from __future__ import annotations

import json
import re
from typing import Any

from resilience_kit.classification import classify_response, register_classifier
from resilience_kit.classification.verdicts import SERVER_ERROR
from resilience_kit.execution.plan import CallPlan
from resilience_kit.http.credentials import HANDSHAKES
from resilience_kit.http.httpx_compat import Headers, HTTPRequest, HTTPResponse, decode_headers, headers_of, replay
from resilience_kit.http.json_response import non_stream_verdict, response_verdict
from resilience_kit.http.response_summary import ResponseSummary
from resilience_kit.http.sse_monitor import SSEMonitor, is_decodable
from resilience_kit.http.stream_progress import TruncatedStreamError, choices_in, terminal_events_for
from resilience_kit.http.transport_options import TransportOptions
from resilience_kit.outcome import Verdict

_OK, _CLIENT_ERROR, _UNAUTHORIZED = 200, 400, 401
_LONGEST_ERROR = 1 << 20
_LONGEST_DECODED = 64 * 1024
_STALE = re.compile(rb"\bstale\s*=\s*\"?true", re.IGNORECASE)
_HAS_TOKEN = re.compile(rb"^(?:kerberos|negotiate|ntlm|scram-sha-[0-9]+)\s+\S", re.IGNORECASE)
#: Seconds after which a short body that is neither JSON nor an error is released with its next chunk.
_RELEASE_AFTER = 0.25
_JSON = frozenset({b"application/json", b"text/json"})
#: Content types of services that send JSON without declaring it; taken for JSON if the request accepts nothing else.
_AMBIGUOUS_TYPES = frozenset({b"", b"text/plain"})
_BLANK = b"\xef\xbb\xbf \t\r\n"


class ErrorResponse(Exception):
    """A response that is an error, with its verdict. It leaves the transport as the response that it is.

    Slots, since a breaker keeps a copy of its last failure and must not keep the response with it.
    """

    __slots__ = ("response", "verdict")

    def __init__(self, response: HTTPResponse, verdict: Verdict) -> None:
        super().__init__(response.status_code)
        self.response, self.verdict = response, verdict
        self.status_code = response.status_code


register_classifier(ErrorResponse, lambda error: error.verdict)


class ResponseReader:
    """One response while it is read and judged. Used by one thread or task at a time.

    For the driver: `needs_more`: the response has to be read further before it is judged; `body_complete`: it was read to its
    end; `source`: the body's stream as the service sent it; `chunks`: the driver's iterator over it. `is_error`: the status is
    that of an error.
    """

    __slots__ = (
        "_body",
        "_head",
        "_is_error_body",
        "_is_json",
        "_is_page",
        "_limit",
        "_may_be_json",
        "_options",
        "_plan",
        "_read",
        "_release_at",
        "_request",
        "_request_headers",
        "_sniffs_json",
        "body_complete",
        "chunks",
        "headers",
        "is_error",
        "monitor",
        "needs_more",
        "response",
        "source",
    )  # fmt: skip

    def __init__(
        self, response: Any, request: HTTPRequest, request_headers: Headers, options: TransportOptions, plan: CallPlan
    ) -> None:
        self.response, self.source = response, response.stream
        self.chunks: Any = None
        self._request, self._request_headers, self._options, self._plan = request, request_headers, options, plan
        self._body = list[bytes]()
        self._read = 0
        self.body_complete = self._is_error_body = False
        self._head = response.status_code, response.headers, type(response)
        self.headers = headers = headers_of(response)
        self.is_error = response.status_code >= _CLIENT_ERROR
        kind = headers.get(b"content-type", b"").partition(b";")[0].rstrip().lower()
        self._is_json = kind in _JSON or kind.endswith(b"+json")
        self._may_be_json = not self._is_json and kind in _AMBIGUOUS_TYPES and self._wants_json
        self._is_page = kind == b"text/html" and response.status_code == _OK and self._wants_json
        has_events = kind == b"text/event-stream" and response.status_code == _OK and request.method != "HEAD"
        self.monitor = self._create_monitor(headers) if has_events else None
        fits_buffer = self._fits_buffer(headers)
        self._sniffs_json = self._may_be_json and not fits_buffer
        self._limit = self._buffer_limit(fits_buffer=fits_buffer)
        self.needs_more = self._limit > 0
        has_verdict = self.is_error or self._is_json or self._is_page or self.monitor is not None
        self._release_at = None if has_verdict or not self.needs_more else plan.now() + int(_RELEASE_AFTER * 1e9)

    @property
    def _wants_json(self) -> bool:
        """Whether the request accepts JSON and nothing else, as those of SDKs do."""
        accepted = self._request_headers.get(b"accept", b"")
        return b"json" in accepted and b"*/*" not in accepted and b"html" not in accepted and self._request.method != "HEAD"

    def _create_monitor(self, headers: Headers) -> SSEMonitor | None:
        encoding = headers.get(b"content-encoding", b"").decode("latin-1")
        if not is_decodable(encoding):
            return None
        url = self._request.url
        return SSEMonitor(terminal_events_for(url.host, url.path, self._options.terminal_events), encoding)

    def _fits_buffer(self, headers: Headers) -> bool:
        """Return whether the service announces a body that the buffer holds."""
        length = headers.get(b"content-length", b"")
        return length.isdigit() and int(length) <= self._options.buffer_bytes

    def _buffer_limit(self, *, fits_buffer: bool) -> int:
        """Return how many bytes are read before the response is released."""
        limit = self._options.buffer_bytes
        if self.is_error or self._is_page:
            return max(_LONGEST_ERROR, limit)
        return limit if self._is_json or self._may_be_json or self.monitor is not None or fits_buffer else 0

    def buffer_chunk(self, chunk: bytes | None) -> None:
        """Take the next bytes before the response is judged; None at the end of the body."""
        if chunk is None:
            self.body_complete, self.needs_more = True, False
            return
        self._body.append(chunk)
        self._read += len(chunk)
        if self.monitor is not None:
            self.monitor.feed(chunk)
            self.needs_more = not (self.monitor.items or self.monitor.settled)
        elif self._sniffs_json and (start := b"".join(self._body).lstrip(_BLANK)[:1]):
            self._sniffs_json = False
            self.needs_more = start == b"{"  # what cannot be JSON is released as it comes
        is_slow = self._release_at is not None and self._plan.now() >= self._release_at
        self.needs_more = self.needs_more and self._read < self._limit and not is_slow

    @property
    def keep_open(self) -> bool:
        """Whether the rest of the body is read later. What an error has beyond the buffer is never read."""
        return not (self.body_complete or self.is_error or self._is_page)

    @property
    def is_complete(self) -> bool:
        """Whether the body was read to its end or to the terminal event of its stream."""
        return self.body_complete or (self.monitor is not None and self.monitor.done)

    @property
    def is_opaque_to_sdk(self) -> bool:
        """Whether an error came with a good status and in a form for which an SDK raises no error of its own."""
        return not self.is_error and (self.monitor is None or self._is_error_body or self.monitor.truncated)

    # --- the verdict -----------------------------------------------------------------------------------------------------

    def find_error(self) -> Exception | None:
        """Return the error that the response is, as far as it was read; None if it is none."""
        if not self.keep_open:
            self.response.stream = replay(self.source, b"".join(self._body))
        return self._error_in_body() if self.monitor is None else self._error_in_events(self.monitor)

    def _error_in_body(self) -> Exception | None:
        response = self.response
        if self.is_error and self._is_handshake:
            self.body_complete = True
            return None
        if self.is_error:
            return ErrorResponse(
                response, classify_response(response.status_code, decode_headers(self.headers), self._text() or b"")
            )
        if self._is_page:
            return ErrorResponse(response, SERVER_ERROR)
        is_json = self._is_json or (self._may_be_json and b"".join(self._body).lstrip(_BLANK)[:1] == b"{")
        return self._error_in_json() if self.body_complete and is_json else None

    def _error_in_json(self) -> Exception | None:
        text = self._text()
        if text is None:
            return None
        verdict = response_verdict(self._request.method, self.response.status_code, text, lambda: decode_headers(self.headers))
        return None if verdict is None else ErrorResponse(self.response, verdict)

    @property
    def _is_handshake(self) -> bool:
        """Whether a 401 is a step that the client continues: a first challenge, a stale nonce, a response to its token."""
        scheme = self._request_headers.get(b"authorization", b"").partition(b" ")[0].lower()
        if self.response.status_code != _UNAUTHORIZED or (scheme and scheme not in HANDSHAKES):
            return False
        offers = [value for name, value in self.response.headers.raw if name.lower() == b"www-authenticate"]
        found = [offer for offer in offers if offer.partition(b" ")[0].rstrip(b",").lower() in HANDSHAKES]
        return any(not scheme or _STALE.search(offer) or _HAS_TOKEN.search(offer) for offer in found)

    def _error_in_events(self, monitor: SSEMonitor) -> Exception | None:
        if self.body_complete and not monitor.count and (text := self._text()):
            verdict = non_stream_verdict(text, lambda: decode_headers(self.headers))
            self._is_error_body = verdict is not None
            if verdict is not None:
                return ErrorResponse(self.response, verdict)
        if self.body_complete:
            try:
                monitor.finish(self.choices())
            except TruncatedStreamError as error:
                return error.with_traceback(None)
        if monitor.verdict is not None and not monitor.items:
            return ErrorResponse(self.response, monitor.verdict)
        return None

    def choices(self) -> int:
        """Return how many choices the request asks for."""
        try:
            return choices_in(json.loads(self._request.content))  # type: ignore[attr-defined]  # of both libraries
        except Exception:  # noqa: BLE001 - no JSON, or not in memory
            return 1

    def _text(self) -> bytes | None:
        """Return the buffered body, decoded; None for one that is too long, cut JSON for one that cannot be decoded."""
        body, encoding = b"".join(self._body), self.headers.get(b"content-encoding")
        if not encoding or not body:
            return body
        if len(body) > _LONGEST_DECODED:
            return None
        try:
            return bytes(
                type(self.response)(self.response.status_code, headers={b"content-encoding": encoding}, content=body).content
            )
        except Exception:  # noqa: BLE001 - of either library; the response is as useless as one that was cut
            return b"{"

    # --- after the verdict -----------------------------------------------------------------------------------------------

    def detach_response(self) -> Any:
        """Return the response, which belongs to its consumer from now on."""
        response, self.response = self.response, None
        return response

    def summary(self) -> ResponseSummary | None:
        """Return what guards see of a good response; None if its body is not kept."""
        if self.monitor is not None:
            return ResponseSummary(*self._head, (), self.monitor.usage_events)
        return ResponseSummary(*self._head, self._body) if self.body_complete else None

    def take_buffered(self) -> list[bytes]:
        """Return the chunks that were read before the response was released, once."""
        body, self._body = self._body, []
        return body
