"""State of one request and its attempts in a transport, until its consumer has read the response. Does no I/O.

The consumer sets the pace of a stream. Its attempt ends with the terminal event, with an event that reports a failure, with the
end of the body, or when the consumer closes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from resilience_kit.classification import register_classifier
from resilience_kit.classification.delivery import ATTEMPTS_HEADER
from resilience_kit.context import current_call, remaining_time, request_key
from resilience_kit.errors import APITimeoutError, StreamInterruptedError
from resilience_kit.execution.call import Call
from resilience_kit.execution.plan import CallPlan
from resilience_kit.http.host_pacer import PacerPermit
from resilience_kit.http.httpx_compat import Headers, HTTPRequest, HTTPResponse, decode_headers, headers_of, idempotency_parts
from resilience_kit.http.methods import IDEMPOTENT_METHODS, SAFE_METHODS
from resilience_kit.http.response_reader import ErrorResponse, ResponseReader
from resilience_kit.http.sdk_retries import (
    RETRY_COUNT_HEADER,
    SHOULD_RETRY_HEADER,
    emit_nested_retry,
    should_stop_sdk,
    status_for,
)
from resilience_kit.http.sse_monitor import SSEMonitor
from resilience_kit.http.stream_progress import TruncatedStreamError
from resilience_kit.http.timeouts import limit_timeout
from resilience_kit.http.transport_options import RetrySafety, TransportOptions
from resilience_kit.outcome import Verdict

#: Headers with the time to wait, and the clock of the service, beside those of rate limits.
_HINTS = frozenset({b"retry-after", b"retry-after-ms", b"date"})


_TIMEOUTS = ("connect", "read", "write", "pool")
_KEY_BYTES = 16  # as random as a UUID, at a seventh of the cost


class _FailedEventError(Exception):
    """An event of a stream reported a failure; the caller receives the event itself."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.kind.value)
        self.verdict = verdict


register_classifier(_FailedEventError, lambda error: error.verdict)


class TransportCall(Call):
    """A call whose success may come after its response: with the end of the stream in it."""

    __slots__ = ("exchange",)

    exchange: Exchange

    def succeeded(self, value: Any) -> None:  # noqa: ARG002 - guards see the part of the response that was read
        """Complete the attempt, or continue it while its consumer reads the response."""
        exchange = self.exchange
        if exchange.continues:
            self.first_item_received()
            exchange.settle_by_events()
        else:
            exchange.is_good = True
            super().succeeded(exchange.reader.summary() if self._permits else None)

    def value_so_far(self) -> object:
        """See `Call`: what was read so far of a stream."""
        return self.exchange.reader.summary() if self.is_streaming else None

    def _break_cycles(self) -> None:
        """See `Call`; the exchange holds its call, too."""
        super()._break_cycles()
        self.exchange.detach(self.attempts)
        del self.exchange

    def observe(self, headers: Headers, *, is_error: bool) -> None:
        """Pass the rate limit headers of a response to the host pacer, if there is one."""
        for permit in self._permits or ():
            if isinstance(permit, PacerPermit) and (is_error or permit.pacer.wants_headers):
                permit.observe(
                    decode_headers({name: headers[name] for name in headers if b"ratelimit" in name or name in _HINTS})
                )

    def attempt_deadline_ns(self, timeout: float | None = None) -> int | None:
        """See `Call`; the first item of a stream comes with its response."""
        return super().attempt_deadline_ns(timeout or self.plan.first_item_timeout)

    def timed_out(self, first_item_timeout: float | None = None) -> Exception:
        """See `Call`."""
        return super().timed_out(first_item_timeout or self.plan.first_item_timeout)


class Exchange:
    """One request and its responses. Used by one thread or task at a time.

    `finished`: the attempt has ended, well (`is_good`) or badly. `is_held`: the latest response is an error and still open,
    since its caller may read more of it. `attempts`: set when the call has ended.
    """

    __slots__ = (
        "_idle_remaining",
        "_options",
        "_pieces",
        "_replayable",
        "_sdk_retry_count",
        "_timeout",
        "_uses_idempotency_key",
        "_waits_since",
        "attempts",
        "call",
        "finished",
        "is_good",
        "is_held",
        "plan",
        "reader",
        "request",
        "request_headers",
        "retry_safety",
    )  # fmt: skip

    call: TransportCall
    plan: CallPlan
    reader: ResponseReader  #: of the latest response

    def __init__(self, request: HTTPRequest, options: TransportOptions, *, replayable: bool) -> None:
        self.request, self._options, self._replayable = request, options, replayable
        self.request_headers = headers_of(request)
        self._sdk_retry_count = self.request_headers.get(RETRY_COUNT_HEADER)
        self._uses_idempotency_key = options.idempotency_header is not None and request.method not in SAFE_METHODS
        repeatable = request.method in IDEMPOTENT_METHODS or (self._uses_idempotency_key and options.key_makes_idempotent)
        self.retry_safety = (
            RetrySafety.NEVER
            if self.is_sdk_retry or not replayable
            else RetrySafety.ALWAYS
            if repeatable
            else RetrySafety.IF_NOT_SENT
        )
        self._timeout: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        self.attempts = 0
        self.is_good = self.is_held = self.finished = False

    @property
    def is_sdk_retry(self) -> bool:
        """Whether this request is a retry by an SDK."""
        return self._sdk_retry_count not in {None, b"0"}

    @property
    def continues(self) -> bool:
        """Whether the attempt continues while the consumer reads the response."""
        return not (self.finished or self.reader.is_complete)

    def bind(self, plan: CallPlan, attempt: Callable[[Exchange], Any]) -> TransportCall:
        """Create the call for this request, which is the argument that guards see."""
        if self._uses_idempotency_key:
            self._attach_idempotency_key(str(self._options.idempotency_header))
        self.plan = plan
        call = self.call = TransportCall(plan, lambda _request: attempt(self), (self.request,), {})
        call.exchange = self
        if self.is_sdk_retry and self._replayable and plan.retry is not None:
            emit_nested_retry(plan.operation)
        return call

    def detach(self, attempts: int) -> None:
        """End the exchange with its call after so many attempts; removes the reference cycle between them."""
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
        """Start an attempt, inside the context of its call."""
        remaining = remaining_time()
        if remaining is not None:
            limits = {name: limit_timeout(self._timeout.get(name), remaining) for name in _TIMEOUTS}
            self.request.extensions = {**self.request.extensions, "timeout": limits}

    # --- a response ------------------------------------------------------------------------------------------------------

    def on_response(self, response: HTTPResponse) -> ResponseReader:
        """Take the status and headers of a response; its reader decides how far the body is read now."""
        self.finished = False
        self._pieces = self._idle_remaining = self._waits_since = 0
        reader = self.reader = ResponseReader(response, self.request, self.request_headers, self._options, self.plan)
        self.call.observe(reader.headers, is_error=reader.is_error)
        return reader

    def check_deadline(self) -> None:
        """Raise if the time of a sync attempt is over; called between two chunks of a response.

        An error response is judged by what was read of it.
        """
        until = self.call.attempt_deadline_ns()
        if until is None or self.plan.now() < until:
            return
        if not self.reader.is_error:
            raise self.call.timed_out()
        self.reader.needs_more = False

    # --- its consumer reads on -------------------------------------------------------------------------------------------

    def release(self) -> HTTPResponse:
        """Return the response, which belongs to its consumer from now on, with the number of attempts."""
        response, attempts = self.reader.detach_response(), self.attempts or self.call.attempts
        if attempts > 1:
            response.headers[ATTEMPTS_HEADER] = str(attempts)
        return response  # type: ignore[no-any-return]  # of either library

    def on_chunk(self, chunk: bytes | None) -> None:
        """Take the next bytes for the consumer; None at the end of the body. Raises for a stream that ends too early."""
        monitor = self.reader.monitor
        if chunk is None:
            if monitor is not None:
                monitor.finish(self.reader.choices())
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
        """End the attempt if the events so far prove success or failure; they reach the consumer unchanged."""
        monitor = self.reader.monitor
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
        """Return the error for the consumer when the body breaks; None if nothing of the response can be missing.

        For a stream of events it holds the delivered events. Any other body breaks with its own error.
        """
        monitor = self.reader.monitor
        if monitor is None:
            self.call.stream_interrupted(error, self._pieces, ())
            return error
        if self._is_complete(monitor):
            self._finish()
            return None
        return self.call.stream_interrupted(error, monitor.count, tuple(monitor.last_events))

    def _is_complete(self, monitor: SSEMonitor) -> bool:
        monitor.progress.choices = self.reader.choices()
        return monitor.complete

    def idle_deadline_ns(self) -> int | None:
        """Return when the next item is overdue, in nanoseconds of the clock; None: never.

        The time that the consumer takes between two chunks does not count; chunks without an event do not reset it.
        """
        plan = self.plan
        if plan.idle_timeout is None:
            return None
        self._waits_since = plan.now()
        self._idle_remaining = self._idle_remaining or int(plan.idle_timeout * 1e9)
        return self._waits_since + self._idle_remaining

    def idle_error(self) -> APITimeoutError:
        """Return the error for a chunk that is overdue."""
        plan = self.plan
        return APITimeoutError(f"{plan.operation.name!r}: nothing came for {plan.idle_timeout:.3g} s")

    def on_close(self) -> None:
        """End the attempt when the consumer closes the body: neutral, unless the response was complete or it ended before."""
        if self.attempts:
            return
        monitor = self.reader.monitor
        if monitor is not None and self._is_complete(monitor):
            self._finish()
        else:
            self.call.abandon(GeneratorExit())

    # --- the final response ----------------------------------------------------------------------------------------------

    def final_response(self, error: ErrorResponse | TruncatedStreamError) -> HTTPResponse:
        """Return the response for the caller, with a header that stops further retries by an SDK.

        Raises `StreamInterruptedError` for a stream that ended before it had begun.
        """
        if isinstance(error, TruncatedStreamError):
            raise StreamInterruptedError(self.plan.operation.name, 0) from error
        response = error.response
        if self.attempts > 1:
            response.headers[ATTEMPTS_HEADER] = str(self.attempts)
        if self._sdk_retry_count is not None:
            if self._replayable and should_stop_sdk(error, self.plan, is_sdk_retry=self.is_sdk_retry):
                response.headers[SHOULD_RETRY_HEADER] = "false"
            if self.reader.is_opaque_to_sdk:
                response.status_code = status_for(error.verdict.kind)
        return response
