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

from resilience_kit._drive.call import Call
from resilience_kit._drive.plan import Plan
from resilience_kit.classification import classify_response, register_classifier
from resilience_kit.classification.sending import ATTEMPTS_HEADER
from resilience_kit.classification.verdicts import SERVER_ERROR
from resilience_kit.context import current_call, remaining_time, request_key
from resilience_kit.errors import APITimeoutError, StreamInterruptedError
from resilience_kit.events import NestedRetry
from resilience_kit.http.credentials import HANDSHAKES
from resilience_kit.http.pace import PacePermit
from resilience_kit.http.promised_json import verdict_of, verdict_of_no_stream
from resilience_kit.http.stream_progress import TruncatedStreamError, choices_in, terminal_for
from resilience_kit.http.transport_answer import Answer
from resilience_kit.http.transport_events import EventWatch, is_readable
from resilience_kit.http.transport_options import Manner, TransportOptions
from resilience_kit.http.transport_shapes import Headers, Request, Response, headers_of, parts_of, replay, text_of
from resilience_kit.outcome import FailureKind, Verdict

#: Beside those of a rate limit, the headers that say when to come back, and by which clock.
_HINTS = frozenset({b"retry-after", b"retry-after-ms", b"date"})
_SDK_COUNT, _SHOULD_RETRY = b"x-stainless-retry-count", "x-should-retry"
_SDK, _HEARD = "the SDK's client", "an answer that an SDK might retry"
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
_SLOW = 0.25

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
_UNTOLD = frozenset({b"", b"text/plain"})
_BLANK = b"\xef\xbb\xbf \t\r\n"
_LONGEST_DECODED = 64 * 1024
_TIMEOUTS = ("connect", "read", "write", "pool")
_SHORTEST = 0.001
_KEY_BYTES = 16  # as random as a UUID, at a seventh of the cost


class ErrorAnswer(Exception):
    """A response that is an error, with the verdict on it. It leaves the transport as the response that it is.

    Slots, since a breaker keeps a copy of its last failure and must not keep the response with it.
    """

    __slots__ = ("response", "verdict")

    def __init__(self, response: Response, verdict: Verdict) -> None:
        super().__init__(response.status_code)
        self.response, self.verdict = response, verdict
        self.status_code = response.status_code


register_classifier(ErrorAnswer, lambda error: error.verdict)


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
        if exchange.flows:
            self.flows()
            exchange.follow()
        else:
            exchange.is_good = True
            super().succeeded(exchange.shown() if self._permits else None)

    def value_so_far(self) -> object:
        """See `Call`: what has been read of an answer that flows."""
        return self.exchange.shown() if self.is_flowing else None

    def _let_go(self) -> None:
        """See `Call`; the exchange holds its call, too."""
        super()._let_go()
        self.exchange.let_go(self.attempts)
        del self.exchange

    def heard(self, headers: Headers, *, is_error: bool) -> None:
        """Tell the pace, if there is one, what the service says of its limits."""
        for permit in self._permits or ():
            if isinstance(permit, PacePermit) and (is_error or permit.pace.listens):
                permit.heard(text_of({name: headers[name] for name in headers if b"ratelimit" in name or name in _HINTS}))

    def cut_at(self, timeout: float | None = None) -> int | None:
        """See `Call`; the first item of a stream comes with its answer."""
        return super().cut_at(timeout or self.plan.first_item_timeout)

    def timed_out(self, first_item_timeout: float | None = None) -> Exception:
        """See `Call`."""
        return super().timed_out(first_item_timeout or self.plan.first_item_timeout)


class Exchange:
    """One request and its answers. Used by one thread or task at a time.

    For the driver: `reads_on`: the answer has to be read further before it is judged; `whole`: it has been read to its end;
    `over`: the attempt has ended, well (`is_good`) or badly; `flows`: it goes on beyond the answer. `is_held`: an answer that is
    an error is still open, since there may be more of it. `attempts`: set when the call has ended.
    """

    __slots__ = (
        "_body", "_count", "_hand_on_at", "_head", "_headers", "_idle_left", "_is_error", "_is_json", "_is_page", "_is_plain",
        "_keyed", "_limit", "_may_be_json", "_options", "_pieces", "_read", "_replayable", "_timeout", "_waits_since", "attempts",
        "call", "chunks", "given", "is_good", "is_held", "manner", "over", "plan", "reads_on", "request", "response", "source",
        "watch", "whole",
    )  # fmt: skip

    call: TransportCall
    plan: Plan

    def __init__(self, request: Request, options: TransportOptions, *, replayable: bool) -> None:
        self.request, self._options, self._replayable = request, options, replayable
        self.given = headers_of(request)
        self._count = self.given.get(_SDK_COUNT)
        self._keyed = options.idempotency_header is not None and request.method not in SAFE
        repeatable = request.method in IDEMPOTENT or (self._keyed and options.trusts_key)
        self.manner = (
            Manner.ONCE if self.is_sdk_retry or not replayable else Manner.REPEATABLE if repeatable else Manner.IF_NOT_SENT
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
        return self._count not in {None, b"0"}

    @property
    def flows(self) -> bool:
        """Whether the attempt goes on while the answer is read."""
        return not (self.whole or self.over)

    def under(self, plan: Plan, attempt: Callable[[Exchange], Any]) -> TransportCall:
        """The call that carries this out; its one argument, which guards see, is the request."""
        if self._keyed:
            self._attach(str(self._options.idempotency_header))
        self.plan = plan
        call = self.call = TransportCall(plan, lambda _request: attempt(self), (self.request,), {})
        call.exchange = self
        if self.is_sdk_retry and self._replayable and plan.retry is not None:
            _tell(plan.operation)
        return call

    def let_go(self, attempts: int) -> None:
        """The call has ended after so many attempts; together they would be a circle."""
        self.attempts, self.over = attempts, True
        del self.call

    def _attach(self, header: str) -> None:
        """Give the request a key, the same for all attempts, unless it has one.

        Inside a call or a job it is derived from the key around it, so that a job that is run again sends the same keys.
        """
        if header.lower().encode() not in self.given:
            inside = current_call.get() is not None
            key = request_key(*parts_of(self.request, self.given), is_repetition=self.is_sdk_retry) if inside else None
            self.request.headers[header] = key or os.urandom(_KEY_BYTES).hex()

    def begin(self) -> None:
        """An attempt starts, inside its call's context."""
        left = remaining_time()
        if left is not None:
            self.request.extensions = {**self.request.extensions, "timeout": _bounded(self._timeout, left)}

    # --- an answer has come ----------------------------------------------------------------------------------------------

    def answered(self, response: Response) -> None:
        """Status and headers are there: how far the body is to be read now."""
        self.response, self.source = response, response.stream
        self._body = list[bytes]()
        self._read = self._pieces = 0
        self.over = self.whole = self._is_plain = False
        self._head = response.status_code, response.headers, type(response)
        self._headers = headers = headers_of(response)
        self._is_error = response.status_code >= _CLIENT_ERROR
        self.call.heard(headers, is_error=self._is_error)
        kind = headers.get(b"content-type", b"").partition(b";")[0].rstrip().lower()
        self._is_json = kind in _JSON or kind.endswith(b"+json")
        self._may_be_json = not self._is_json and kind in _UNTOLD and self._wants_json
        self._is_page = kind == b"text/html" and response.status_code == _OK and self._wants_json
        has_events = kind == b"text/event-stream" and response.status_code == _OK and self.request.method != "HEAD"
        self.watch = self._watch(headers) if has_events else None
        self._limit = self._most(headers)
        self.reads_on = self._limit > 0
        is_judged = self._is_error or self._is_json or self._is_page or self.watch is not None
        self._hand_on_at = None if is_judged or not self.reads_on else self.plan.now() + int(_SLOW * 1e9)
        self._idle_left = self._waits_since = 0

    @property
    def _wants_json(self) -> bool:
        """Whether the request accepts JSON and nothing else, as those of SDKs do."""
        accepted = self.given.get(b"accept", b"")
        return b"json" in accepted and b"*/*" not in accepted and b"html" not in accepted and self.request.method != "HEAD"

    def _watch(self, headers: Headers) -> EventWatch | None:
        encoding = headers.get(b"content-encoding", b"").decode("latin-1")
        if not is_readable(encoding):
            return None
        url = self.request.url
        return EventWatch(terminal_for(url.host, url.path, self._options.terminal_events), encoding)

    def _most(self, headers: Headers) -> int:
        """How many bytes are read before anything is handed on."""
        most = self._options.buffer_bytes
        if self._is_error or self._is_page:
            return max(_LONGEST_ERROR, most)
        if self._is_json or self._may_be_json or self.watch is not None:
            return most
        length = headers.get(b"content-length", b"")
        return most if length.isdigit() and int(length) <= most else 0

    def take(self, chunk: bytes | None) -> None:
        """The next bytes before the answer is judged; None at the end of the body."""
        if chunk is None:
            self.whole, self.reads_on = True, False
            return
        self._body.append(chunk)
        self._read += len(chunk)
        if self.watch is not None:
            self.watch.feed(chunk)
            self.reads_on = not (self.watch.items or self.watch.settled)
        is_slow = self._hand_on_at is not None and self.plan.now() >= self._hand_on_at
        self.reads_on = self.reads_on and self._read < self._limit and not is_slow

    def check_time(self) -> None:
        """For an attempt that cannot be cut off, between two pieces of an answer: raise when its time is over.

        An error is told as far as it has been read.
        """
        until = self.call.cut_at()
        if until is None or self.plan.now() < until:
            return
        if not self._is_error:
            raise self.call.timed_out()
        self.reads_on = False

    @property
    def keeps_connection(self) -> bool:
        """Whether there is more to read. An error that is longer than anybody reads ends here."""
        return not (self.whole or self._is_error or self._is_page)

    def judge(self) -> Exception | None:
        """What the answer is an error for, as far as it has been read; None where it is none."""
        if not self.keeps_connection:
            self.response.stream = replay(self.source, b"".join(self._body))
        return self._judge_body() if self.watch is None else self._judge_events(self.watch)

    def _judge_body(self) -> Exception | None:
        response = self.response
        if self._is_error and self._is_handshake:
            self.whole = True
            return None
        if self._is_error:
            return ErrorAnswer(response, classify_response(response.status_code, text_of(self._headers), self._text() or b""))
        if self._is_page:
            return ErrorAnswer(response, SERVER_ERROR)
        is_json = self._is_json or (self._may_be_json and b"".join(self._body).lstrip(_BLANK)[:1] == b"{")
        return self._judge_json() if self.whole and is_json else None

    def _judge_json(self) -> Exception | None:
        text = self._text()
        if text is None:
            return None
        verdict = verdict_of(self.request.method, self.response.status_code, text, lambda: text_of(self._headers))
        return None if verdict is None else ErrorAnswer(self.response, verdict)

    @property
    def _is_handshake(self) -> bool:
        """Whether a 401 is a step that the client goes on with: a first challenge, a stale nonce, an answer to its token."""
        scheme = self.given.get(b"authorization", b"").partition(b" ")[0].lower()
        if self.response.status_code != _UNAUTHORIZED or (scheme and scheme not in HANDSHAKES):
            return False
        offers = [value for name, value in self.response.headers.raw if name.lower() == b"www-authenticate"]
        found = [offer for offer in offers if offer.partition(b" ")[0].rstrip(b",").lower() in HANDSHAKES]
        return any(not scheme or _STALE.search(offer) or _HAS_TOKEN.search(offer) for offer in found)

    def _judge_events(self, watch: EventWatch) -> Exception | None:
        if self.whole and not watch.count and (text := self._text()):
            verdict = verdict_of_no_stream(text, lambda: text_of(self._headers))
            self._is_plain = verdict is not None
            if verdict is not None:
                return ErrorAnswer(self.response, verdict)
        if self.whole:
            try:
                watch.finish(self._choices())
            except TruncatedStreamError as error:
                return error.with_traceback(None)
        if watch.verdict is not None and not watch.items:
            self.is_held = not self.whole
            return ErrorAnswer(self.response, watch.verdict)
        self.over = watch.done
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

    def handed_on(self) -> Response:
        """The answer, which is its consumer's from now on, with the attempts that it took."""
        response, self.response = self.response, None
        attempts = self.attempts or self.call.attempts
        if attempts > 1:
            response.headers[ATTEMPTS_HEADER] = str(attempts)
        return response  # type: ignore[no-any-return]  # of either library

    def shown(self) -> Answer | None:
        """What guards see of a good answer; None of one that is not kept."""
        if self.watch is not None:
            return Answer(*self._head, (), self.watch.told)
        return Answer(*self._head, self._body) if self.whole else None

    def begun(self) -> list[bytes]:
        """What was read before the answer was handed on, once."""
        body, self._body = self._body, []
        return body

    def pass_on(self, chunk: bytes | None) -> None:
        """The next bytes for the consumer; None at the end of the body. Raises for a stream that ends too early."""
        watch = self.watch
        if chunk is None:
            if watch is not None:
                watch.finish(self._choices())
                if watch.verdict is not None:
                    raise _FailedEventError(watch.verdict)
            self._end()
            return
        self._pieces += 1
        if watch is None:
            self._idle_left = 0
            return
        items = watch.items
        watch.feed(chunk)
        if self._idle_left:
            self._idle_left = 0 if watch.items > items else max(1, self._idle_left - (self.plan.now() - self._waits_since))
        self.follow()

    def follow(self) -> None:
        """The attempt ends where the events so far say so; their consumer gets them as they are."""
        watch = self.watch
        if watch is None:
            return
        if watch.verdict is not None:
            self.call.interrupted(_FailedEventError(watch.verdict), watch.count, ())
        elif watch.done:
            self._end()

    def _end(self) -> None:
        self.over = True
        self.call.succeeded(None)

    def broken(self, error: Exception) -> Exception | None:
        """What the consumer gets when the body breaks; None where nothing of the answer can be missing.

        A stream of events tells what was delivered of it. Any other body breaks with its own error.
        """
        if self.watch is None:
            self.call.interrupted(error, self._pieces, ())
            return error
        if self._is_complete(self.watch):
            self._end()
            return None
        return self.call.interrupted(error, self.watch.count, tuple(self.watch.last))

    def _is_complete(self, watch: EventWatch) -> bool:
        watch.progress.choices = self._choices()
        return watch.complete

    def idle_until(self) -> int | None:
        """When the next item is overdue, in nanoseconds of the clock; None: never.

        What the consumer takes for itself between two pieces does not count, nor do pieces without an event.
        """
        plan = self.plan
        if plan.idle_timeout is None:
            return None
        self._waits_since = plan.now()
        self._idle_left = self._idle_left or int(plan.idle_timeout * 1e9)
        return self._waits_since + self._idle_left

    def idle(self) -> APITimeoutError:
        """The error of a piece that is overdue."""
        plan = self.plan
        return APITimeoutError(f"{plan.operation.name!r}: nothing came for {plan.idle_timeout:.3g} s")

    def leave(self) -> None:
        """The consumer wants no more: nothing is learnt, unless the answer was complete, or the attempt has ended before."""
        if self.attempts:
            return
        if self.watch is not None and self._is_complete(self.watch):
            self._end()
        else:
            self.call.abandon(GeneratorExit())

    # --- the last word ---------------------------------------------------------------------------------------------------

    def last_word(self, error: ErrorAnswer | TruncatedStreamError) -> Response:
        """The response that the caller gets, with what keeps whoever is above from repeating it all.

        Raises `StreamInterruptedError` for a stream that ended before it had begun.
        """
        if isinstance(error, TruncatedStreamError):
            raise StreamInterruptedError(self.plan.operation.name, 0) from error
        response = error.response
        if self.attempts > 1:
            response.headers[ATTEMPTS_HEADER] = str(self.attempts)
        if self._tells_sdk(error):
            response.headers[_SHOULD_RETRY] = "false"
        if self._count is not None and not self._is_error and (self.watch is None or self._is_plain or self.watch.unreadable):
            response.status_code = _STATUS.get(error.verdict.kind, _BAD_GATEWAY)
        return response

    def _tells_sdk(self, error: ErrorAnswer) -> bool:
        """Whether an SDK above is told not to retry.

        The first time it is not, if it means to and no harm is done: how else would anybody hear that it has retries of its own?
        """
        plan = self.plan
        if self._count is None or plan.retry is None or not self._replayable or not _retried_by_sdks(error):
            return False
        verdict, breaker = error.verdict, plan.breaker
        long = verdict.retry_after is not None and verdict.retry_after > plan.retry.max_retry_after
        known = self.is_sdk_retry or _HEARD in plan.operation.told
        if known or long or not verdict.retryable or (breaker is not None and breaker.opened):
            return True
        plan.operation.told[_HEARD] = None
        return False


def _retried_by_sdks(error: ErrorAnswer) -> bool:
    status = error.status_code
    return error.verdict.retryable or status in _RETRIED_BY_SDKS or status >= _SERVER_ERROR


def _tell(operation: Any) -> None:
    """Tell that an SDK retries what has been retried already, once an operation."""
    if _SDK not in operation.told:
        operation.told[_SDK] = None
        operation.events.emit(NestedRetry(operation=operation.name, inner=_SDK, remedy=_REMEDY))


def _bounded(timeout: Mapping[str, float | None], left: float) -> dict[str, float]:
    """An HTTP client's own time-outs, none of them longer than the seconds that are left."""
    left = max(left, _SHORTEST)
    given = {name: timeout.get(name) for name in _TIMEOUTS}
    return {name: left if seconds is None else min(seconds, left) for name, seconds in given.items()}
