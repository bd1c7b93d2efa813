"""The rules of one request on its way through a transport, and of the answer on its way back. Nothing is sent or read here.

An answer is read inside its attempt as far as is needed to judge it, so that it can still be repeated: errors and JSON whole, a
stream of events up to its first event with content. From there on its consumer sets the pace, and the attempt ends with the
terminal event, with an event that tells of a failure, with the end of the body, or when the consumer leaves.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from resilience_kit.classification import classify_response, register_classifier
from resilience_kit.classification.delivery import ATTEMPTS_HEADER
from resilience_kit.classification.verdicts import SERVER_ERROR
from resilience_kit.context import current_call, remaining_time, request_key
from resilience_kit.errors import APITimeoutError, StreamInterruptedError
from resilience_kit.events import NestedRetry
from resilience_kit.execution.call import Call
from resilience_kit.execution.plan import CallPlan
from resilience_kit.http.credentials import HANDSHAKES
from resilience_kit.http.host_pacer import PacerPermit
from resilience_kit.http.httpx_compat import (
    Headers,
    HTTPRequest,
    HTTPResponse,
    decode_headers,
    headers_of,
    idempotency_parts,
    replay,
)
from resilience_kit.http.json_response import non_stream_verdict, response_verdict
from resilience_kit.http.response_summary import ResponseSummary
from resilience_kit.http.sse_monitor import SSEMonitor, is_decodable
from resilience_kit.http.stream_progress import TruncatedStreamError, choices_in, terminal_events_for
from resilience_kit.http.transport_options import RetrySafety, TransportOptions
from resilience_kit.outcome import FailureKind, Verdict

#: Beside those of a rate limit, the headers that say when to come back, and by which clock.
_HINTS = frozenset({b"retry-after", b"retry-after-ms", b"date"})
_SDK_COUNT, _SHOULD_RETRY = b"x-stainless-retry-count", "x-should-retry"
_SDK_CLIENT, _SDK_RETRYABLE = "the SDK's client", "an answer that an SDK might retry"
_REMEDY = "build the client with max_retries=0 and leave retrying to the transport"

#: RFC 9110, 9.2: methods that change nothing, and those that may be repeated.
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
IDEMPOTENT = SAFE | {"PUT", "DELETE"}

_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_RETRIED_BY_SDKS = frozenset({408, 409, 429})
_LONGEST_ERROR = 1 << 20
_OK, _UNAUTHORIZED, _BAD_GATEWAY = 200, 401, 502
_STALE = re.compile(rb"\bstale\s*=\s*\"?true", re.IGNORECASE)
_HAS_TOKEN = re.compile(rb"^(?:kerberos|negotiate|ntlm|scram-sha-[0-9]+)\s+\S", re.IGNORECASE)
#: Seconds after which a body that is neither JSON nor an error is handed on with its next piece, though it is short.
_RELEASE_AFTER = 0.25

#: An SDK takes every 200 for an answer, also one whose body is an error; with these it raises its own error.
_STATUS: Mapping[FailureKind, int] = {
    FailureKind.RATE_LIMIT: 429,
    FailureKind.QUOTA: 429,
    FailureKind.AUTH: 401,
    FailureKind.PERMISSION: 403,
    FailureKind.INVALID_REQUEST: 400,
    FailureKind.NOT_FOUND: 404,
    FailureKind.OVERLOADED: 503,
    FailureKind.TIMEOUT: 504,
}
_JSON = frozenset({b"application/json", b"text/json"})
#: Content types of services that send JSON without saying so; what accepts nothing else takes it for JSON.
_AMBIGUOUS_TYPES = frozenset({b"", b"text/plain"})
_BLANK = b"\xef\xbb\xbf \t\r\n"
_LONGEST_DECODED = 64 * 1024
_TIMEOUTS = ("connect", "read", "write", "pool")
_MIN_TIMEOUT = 0.001
_KEY_BYTES = 16  # as random as a UUID, at a seventh of the cost


class ErrorResponse(Exception):
    """A response that is an error, with the verdict on it. It leaves the transport as the response that it is.

    Slots, since a breaker keeps a copy of its last failure and must not keep the response with it.
    """

    __slots__ = ("response", "verdict")

    def __init__(self, response: HTTPResponse, verdict: Verdict) -> None:
        super().__init__(response.status_code)
        self.response, self.verdict = response, verdict
        self.status_code = response.status_code


register_classifier(ErrorResponse, lambda error: error.verdict)


class _FailedEventError(Exception):
    """An event of a stream told of a failure; the event itself is what the caller gets."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.kind.value)
        self.verdict = verdict


register_classifier(_FailedEventError, lambda error: error.verdict)


class TransportCall(Call):
    """A call whose success may come later than its answer: with the end of a stream that the answer begins."""

    __slots__ = ("exchange",)

    exchange: Exchange

    def succeeded(self, value: Any) -> None:  # noqa: ARG002 - guards see of the response what has been read of it
        """The attempt has an answer, which may have to be read on by its consumer."""
        exchange = self.exchange
        if exchange.continues:
            self.first_item_received()
            exchange.settle_by_events()
        else:
            exchange.is_good = True
            super().succeeded(exchange.summary() if self._permits else None)

    def value_so_far(self) -> object:
        """See `Call`: what has been read of an answer that flows."""
        return self.exchange.summary() if self.is_streaming else None

    def _break_cycles(self) -> None:
        """See `Call`; the exchange holds its call, too."""
        super()._break_cycles()
        self.exchange.detach(self.attempts)
        del self.exchange

    def observe(self, headers: Headers, *, is_error: bool) -> None:
        """Tell the pace, if there is one, what the service says of its limits."""
        for permit in self._permits or ():
            if isinstance(permit, PacerPermit) and (is_error or permit.pacer.wants_headers):
                permit.observe(
                    decode_headers({name: headers[name] for name in headers if b"ratelimit" in name or name in _HINTS})
                )

    def attempt_deadline_ns(self, timeout: float | None = None) -> int | None:
        """See `Call`; the first item of a stream comes with its answer."""
        return super().attempt_deadline_ns(timeout or self.plan.first_item_timeout)

    def timed_out(self, first_item_timeout: float | None = None) -> Exception:
        """See `Call`."""
        return super().timed_out(first_item_timeout or self.plan.first_item_timeout)


class Exchange:
    """One request and its answers. Used by one thread or task at a time.

    For the driver: `needs_more`: the answer has to be read further before it is judged; `body_complete`: it has been read to its
    end;
    `finished`: the attempt has ended, well (`is_good`) or badly; `continues`: it goes on beyond the answer. `is_held`: an answer
    that is an error is still open, since there may be more of it. `attempts`: set when the call has ended.
    """

    __slots__ = (
        "_body",
        "_head",
        "_headers",
        "_idle_remaining",
        "_is_error",
        "_is_error_body",
        "_is_json",
        "_is_page",
        "_limit",
        "_may_be_json",
        "_options",
        "_pieces",
        "_read",
        "_release_at",
        "_replayable",
        "_sdk_retry_count",
        "_timeout",
        "_uses_idempotency_key",
        "_waits_since",
        "attempts",
        "body_complete",
        "call",
        "chunks",
        "finished",
        "is_good",
        "is_held",
        "monitor",
        "needs_more",
        "plan",
        "request",
        "request_headers",
        "response",
        "retry_safety",
        "source",
    )  # fmt: skip

    call: TransportCall
    plan: CallPlan

    def __init__(self, request: HTTPRequest, options: TransportOptions, *, replayable: bool) -> None:
        self.request, self._options, self._replayable = request, options, replayable
        self.request_headers = headers_of(request)
        self._sdk_retry_count = self.request_headers.get(_SDK_COUNT)
        self._uses_idempotency_key = options.idempotency_header is not None and request.method not in SAFE
        repeatable = request.method in IDEMPOTENT or (self._uses_idempotency_key and options.key_makes_idempotent)
        self.retry_safety = (
            RetrySafety.NEVER
            if self.is_sdk_retry or not replayable
            else RetrySafety.ALWAYS
            if repeatable
            else RetrySafety.IF_NOT_SENT
        )
        self._timeout: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        self.attempts = 0
        self.is_good = self.is_held = False
        self.response: Any = None
        self.source: Any = None
        self.chunks: Any = None

    @property
    def is_sdk_retry(self) -> bool:
        """Whether an SDK sends this a second time by itself."""
        return self._sdk_retry_count not in {None, b"0"}

    @property
    def continues(self) -> bool:
        """Whether the attempt goes on while the answer is read."""
        return not (self.body_complete or self.finished)

    def bind(self, plan: CallPlan, attempt: Callable[[Exchange], Any]) -> TransportCall:
        """The call that carries this out; its one argument, which guards see, is the request."""
        if self._uses_idempotency_key:
            self._attach_idempotency_key(str(self._options.idempotency_header))
        self.plan = plan
        call = self.call = TransportCall(plan, lambda _request: attempt(self), (self.request,), {})
        call.exchange = self
        if self.is_sdk_retry and self._replayable and plan.retry is not None:
            _emit_nested_retry(plan.operation)
        return call

    def detach(self, attempts: int) -> None:
        """The call has ended after so many attempts; together they would be a circle."""
        self.attempts, self.finished = attempts, True
        del self.call

    def _attach_idempotency_key(self, header: str) -> None:
        """Give the request a key, the same for all attempts, unless it has one.

        Inside a call or a job it is derived from the key around it, so that a job that is run again sends the same keys.
        """
        if header.lower().encode() not in self.request_headers:
            inside = current_call.get() is not None
            key = (
                request_key(*idempotency_parts(self.request, self.request_headers), is_repetition=self.is_sdk_retry)
                if inside
                else None
            )
            self.request.headers[header] = key or os.urandom(_KEY_BYTES).hex()

    def start_attempt(self) -> None:
        """An attempt starts, inside its call's context."""
        remaining = remaining_time()
        if remaining is not None:
            self.request.extensions = {**self.request.extensions, "timeout": _limit_timeouts(self._timeout, remaining)}

    # --- an answer has come ----------------------------------------------------------------------------------------------

    def on_response(self, response: HTTPResponse) -> None:
        """Status and headers are there: how far the body is to be read now."""
        self.response, self.source = response, response.stream
        self._body = list[bytes]()
        self._read = self._pieces = 0
        self.finished = self.body_complete = self._is_error_body = False
        self._head = response.status_code, response.headers, type(response)
        self._headers = headers = headers_of(response)
        self._is_error = response.status_code >= _CLIENT_ERROR
        self.call.observe(headers, is_error=self._is_error)
        kind = headers.get(b"content-type", b"").partition(b";")[0].rstrip().lower()
        self._is_json = kind in _JSON or kind.endswith(b"+json")
        self._may_be_json = not self._is_json and kind in _AMBIGUOUS_TYPES and self._wants_json
        self._is_page = kind == b"text/html" and response.status_code == _OK and self._wants_json
        has_events = kind == b"text/event-stream" and response.status_code == _OK and self.request.method != "HEAD"
        self.monitor = self._create_monitor(headers) if has_events else None
        self._limit = self._buffer_limit(headers)
        self.needs_more = self._limit > 0
        has_verdict = self._is_error or self._is_json or self._is_page or self.monitor is not None
        self._release_at = None if has_verdict or not self.needs_more else self.plan.now() + int(_RELEASE_AFTER * 1e9)
        self._idle_remaining = self._waits_since = 0

    @property
    def _wants_json(self) -> bool:
        """Whether the request accepts JSON and nothing else, as those of SDKs do."""
        accepted = self.request_headers.get(b"accept", b"")
        return b"json" in accepted and b"*/*" not in accepted and b"html" not in accepted and self.request.method != "HEAD"

    def _create_monitor(self, headers: Headers) -> SSEMonitor | None:
        encoding = headers.get(b"content-encoding", b"").decode("latin-1")
        if not is_decodable(encoding):
            return None
        url = self.request.url
        return SSEMonitor(terminal_events_for(url.host, url.path, self._options.terminal_events), encoding)

    def _buffer_limit(self, headers: Headers) -> int:
        """How many bytes are read before anything is handed on."""
        limit = self._options.buffer_bytes
        if self._is_error or self._is_page:
            return max(_LONGEST_ERROR, limit)
        if self._is_json or self._may_be_json or self.monitor is not None:
            return limit
        length = headers.get(b"content-length", b"")
        return limit if length.isdigit() and int(length) <= limit else 0

    def buffer_chunk(self, chunk: bytes | None) -> None:
        """The next bytes before the answer is judged; None at the end of the body."""
        if chunk is None:
            self.body_complete, self.needs_more = True, False
            return
        self._body.append(chunk)
        self._read += len(chunk)
        if self.monitor is not None:
            self.monitor.feed(chunk)
            self.needs_more = not (self.monitor.items or self.monitor.settled)
        is_slow = self._release_at is not None and self.plan.now() >= self._release_at
        self.needs_more = self.needs_more and self._read < self._limit and not is_slow

    def check_deadline(self) -> None:
        """For an attempt that cannot be cut off, between two pieces of an answer: raise when its time is over.

        An error is told as far as it has been read.
        """
        until = self.call.attempt_deadline_ns()
        if until is None or self.plan.now() < until:
            return
        if not self._is_error:
            raise self.call.timed_out()
        self.needs_more = False

    @property
    def keep_open(self) -> bool:
        """Whether there is more to read. An error that is longer than anybody reads ends here."""
        return not (self.body_complete or self._is_error or self._is_page)

    def find_error(self) -> Exception | None:
        """What the answer is an error for, as far as it has been read; None where it is none."""
        if not self.keep_open:
            self.response.stream = replay(self.source, b"".join(self._body))
        return self._error_in_body() if self.monitor is None else self._error_in_events(self.monitor)

    def _error_in_body(self) -> Exception | None:
        response = self.response
        if self._is_error and self._is_handshake:
            self.body_complete = True
            return None
        if self._is_error:
            return ErrorResponse(
                response, classify_response(response.status_code, decode_headers(self._headers), self._text() or b"")
            )
        if self._is_page:
            return ErrorResponse(response, SERVER_ERROR)
        is_json = self._is_json or (self._may_be_json and b"".join(self._body).lstrip(_BLANK)[:1] == b"{")
        return self._error_in_json() if self.body_complete and is_json else None

    def _error_in_json(self) -> Exception | None:
        text = self._text()
        if text is None:
            return None
        verdict = response_verdict(self.request.method, self.response.status_code, text, lambda: decode_headers(self._headers))
        return None if verdict is None else ErrorResponse(self.response, verdict)

    @property
    def _is_handshake(self) -> bool:
        """Whether a 401 is a step that the client goes on with: a first challenge, a stale nonce, an answer to its token."""
        scheme = self.request_headers.get(b"authorization", b"").partition(b" ")[0].lower()
        if self.response.status_code != _UNAUTHORIZED or (scheme and scheme not in HANDSHAKES):
            return False
        offers = [value for name, value in self.response.headers.raw if name.lower() == b"www-authenticate"]
        found = [offer for offer in offers if offer.partition(b" ")[0].rstrip(b",").lower() in HANDSHAKES]
        return any(not scheme or _STALE.search(offer) or _HAS_TOKEN.search(offer) for offer in found)

    def _error_in_events(self, monitor: SSEMonitor) -> Exception | None:
        if self.body_complete and not monitor.count and (text := self._text()):
            verdict = non_stream_verdict(text, lambda: decode_headers(self._headers))
            self._is_error_body = verdict is not None
            if verdict is not None:
                return ErrorResponse(self.response, verdict)
        if self.body_complete:
            try:
                monitor.finish(self._choices())
            except TruncatedStreamError as error:
                return error.with_traceback(None)
        if monitor.verdict is not None and not monitor.items:
            self.is_held = not self.body_complete
            return ErrorResponse(self.response, monitor.verdict)
        self.finished = monitor.done
        return None

    def _choices(self) -> int:
        """How many choices the request asks for."""
        try:
            return choices_in(json.loads(self.request.content))  # type: ignore[attr-defined]  # of both libraries
        except Exception:  # noqa: BLE001 - no JSON, or not in memory
            return 1

    def _text(self) -> bytes | None:
        """The body that has been read, without its encoding; None where it is long, cut JSON where it cannot be undone."""
        body, encoding = b"".join(self._body), self._headers.get(b"content-encoding")
        if not encoding or not body:
            return body
        if len(body) > _LONGEST_DECODED:
            return None
        try:
            return bytes(
                type(self.response)(self.response.status_code, headers={b"content-encoding": encoding}, content=body).content
            )
        except Exception:  # noqa: BLE001 - of either library; the answer is as useless as one that was cut
            return b"{"

    # --- the answer is handed on -----------------------------------------------------------------------------------------

    def release(self) -> HTTPResponse:
        """The answer, which is its consumer's from now on, with the attempts that it took."""
        response, self.response = self.response, None
        attempts = self.attempts or self.call.attempts
        if attempts > 1:
            response.headers[ATTEMPTS_HEADER] = str(attempts)
        return response  # type: ignore[no-any-return]  # of either library

    def summary(self) -> ResponseSummary | None:
        """What guards see of a good answer; None of one that is not kept."""
        if self.monitor is not None:
            return ResponseSummary(*self._head, (), self.monitor.usage_events)
        return ResponseSummary(*self._head, self._body) if self.body_complete else None

    def buffered(self) -> list[bytes]:
        """What was read before the answer was handed on, once."""
        body, self._body = self._body, []
        return body

    def on_chunk(self, chunk: bytes | None) -> None:
        """The next bytes for the consumer; None at the end of the body. Raises for a stream that ends too early."""
        monitor = self.monitor
        if chunk is None:
            if monitor is not None:
                monitor.finish(self._choices())
                if monitor.verdict is not None:
                    raise _FailedEventError(monitor.verdict)
            self._finish()
            return
        self._pieces += 1
        if monitor is None:
            self._idle_remaining = 0
            return
        items = monitor.items
        monitor.feed(chunk)
        if self._idle_remaining:
            self._idle_remaining = (
                0 if monitor.items > items else max(1, self._idle_remaining - (self.plan.now() - self._waits_since))
            )
        self.settle_by_events()

    def settle_by_events(self) -> None:
        """The attempt ends where the events so far say so; their consumer gets them as they are."""
        monitor = self.monitor
        if monitor is None:
            return
        if monitor.verdict is not None:
            self.call.stream_interrupted(_FailedEventError(monitor.verdict), monitor.count, ())
        elif monitor.done:
            self._finish()

    def _finish(self) -> None:
        self.finished = True
        self.call.succeeded(None)

    def on_error(self, error: Exception) -> Exception | None:
        """What the consumer gets when the body breaks; None where nothing of the answer can be missing.

        A stream of events tells what was delivered of it. Any other body breaks with its own error.
        """
        if self.monitor is None:
            self.call.stream_interrupted(error, self._pieces, ())
            return error
        if self._is_complete(self.monitor):
            self._finish()
            return None
        return self.call.stream_interrupted(error, self.monitor.count, tuple(self.monitor.last_events))

    def _is_complete(self, monitor: SSEMonitor) -> bool:
        monitor.progress.choices = self._choices()
        return monitor.complete

    def idle_deadline_ns(self) -> int | None:
        """When the next item is overdue, in nanoseconds of the clock; None: never.

        What the consumer takes for itself between two pieces does not count, nor do pieces without an event.
        """
        plan = self.plan
        if plan.idle_timeout is None:
            return None
        self._waits_since = plan.now()
        self._idle_remaining = self._idle_remaining or int(plan.idle_timeout * 1e9)
        return self._waits_since + self._idle_remaining

    def idle_error(self) -> APITimeoutError:
        """The error of a piece that is overdue."""
        plan = self.plan
        return APITimeoutError(f"{plan.operation.name!r}: nothing came for {plan.idle_timeout:.3g} s")

    def on_close(self) -> None:
        """The consumer wants no more: nothing is learnt, unless the answer was complete, or the attempt has ended before."""
        if self.attempts:
            return
        if self.monitor is not None and self._is_complete(self.monitor):
            self._finish()
        else:
            self.call.abandon(GeneratorExit())

    # --- the last word ---------------------------------------------------------------------------------------------------

    def final_response(self, error: ErrorResponse | TruncatedStreamError) -> HTTPResponse:
        """The response that the caller gets, with what keeps whoever is above from repeating it all.

        Raises `StreamInterruptedError` for a stream that ended before it had begun.
        """
        if isinstance(error, TruncatedStreamError):
            raise StreamInterruptedError(self.plan.operation.name, 0) from error
        response = error.response
        if self.attempts > 1:
            response.headers[ATTEMPTS_HEADER] = str(self.attempts)
        if self._stops_sdk_retries(error):
            response.headers[_SHOULD_RETRY] = "false"
        if (
            self._sdk_retry_count is not None
            and not self._is_error
            and (self.monitor is None or self._is_error_body or self.monitor.truncated)
        ):
            response.status_code = _STATUS.get(error.verdict.kind, _BAD_GATEWAY)
        return response

    def _stops_sdk_retries(self, error: ErrorResponse) -> bool:
        """Whether an SDK above is told not to retry.

        The first time it is not, if it means to and no harm is done: how else would anybody hear that it has retries of its own?
        """
        plan = self.plan
        if self._sdk_retry_count is None or plan.retry is None or not self._replayable or not _retried_by_sdks(error):
            return False
        verdict, breaker = error.verdict, plan.breaker
        long = verdict.retry_after is not None and verdict.retry_after > plan.retry.max_retry_after
        known = self.is_sdk_retry or _SDK_RETRYABLE in plan.operation.reported
        if known or long or not verdict.retryable or (breaker is not None and breaker.opened):
            return True
        plan.operation.reported[_SDK_RETRYABLE] = None
        return False


def _retried_by_sdks(error: ErrorResponse) -> bool:
    status = error.status_code
    return error.verdict.retryable or status in _RETRIED_BY_SDKS or status >= _SERVER_ERROR


def _emit_nested_retry(operation: Any) -> None:
    """Tell that an SDK retries what has been retried already, once an operation."""
    if _SDK_CLIENT not in operation.reported:
        operation.reported[_SDK_CLIENT] = None
        operation.events.emit(NestedRetry(operation=operation.name, inner=_SDK_CLIENT, remedy=_REMEDY))


def _limit_timeouts(timeout: Mapping[str, float | None], remaining: float) -> dict[str, float]:
    """An HTTP client's own time-outs, none of them longer than the seconds that are left."""
    remaining = max(remaining, _MIN_TIMEOUT)
    timeouts = {name: timeout.get(name) for name in _TIMEOUTS}
    return {name: remaining if seconds is None else min(seconds, remaining) for name, seconds in timeouts.items()}
