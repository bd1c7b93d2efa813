"""Turns a request and its fault into a response as plain data: what is sent and how it ends."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import Enum, auto

from resilience_kit.testing.provider import _anthropic, _lightrag, _openai, _perplexity
from resilience_kit.testing.provider._common import encode
from resilience_kit.testing.provider._dialect import Body, Dialect, ParsedRequest
from resilience_kit.testing.provider.faults import Fault, FaultKind, ReceivedRequest
from resilience_kit.testing.provider.limits import Quota

ROUTES: Mapping[str, tuple[str, Dialect]] = {
    _openai.CHAT: ("POST", _openai),
    _openai.EMBEDDINGS: ("POST", _openai),
    _anthropic.MESSAGES: ("POST", _anthropic),
    _perplexity.CHAT: ("POST", _perplexity),
    _lightrag.QUERY: ("POST", _lightrag),
    _lightrag.STREAM: ("POST", _lightrag),
    _lightrag.INSERT: ("POST", _lightrag),
    _lightrag.HEALTH: ("GET", _lightrag),
}


class ResponseEnding(Enum):
    """What follows the last piece of a response."""

    COMPLETE = auto()
    CUT = auto()
    RESET = auto()
    HANG = auto()


RESPONSE_ENDINGS: Mapping[FaultKind, ResponseEnding] = {
    FaultKind.TRUNCATED: ResponseEnding.CUT,
    FaultKind.RESET: ResponseEnding.RESET,
    FaultKind.HANG: ResponseEnding.HANG,
}


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """A response to send. Status 0 sends no head at all. Every piece is one write; a plain response has one."""

    status: int
    headers: Mapping[str, str]
    pieces: tuple[bytes, ...]
    ending: ResponseEnding = ResponseEnding.COMPLETE


@dataclass(frozen=True, slots=True)
class Responder:
    """Makes responses: their text by prompt, and the API key that is expected, None for any."""

    make_reply: Callable[[str], str]
    api_key: str | None = None

    def parse(self, request: ReceivedRequest) -> ParsedRequest:
        """Parse a request."""
        method, dialect = ROUTES.get(request.path, ("", _dialect_of(request.path)))
        wrong = self._wrong(request, method)
        if wrong is None and method == "POST":
            body = _json_object(request.body)
            return ParsedRequest(request, dialect, body or {}, self.make_reply, None if body is not None else (400, NO_JSON))
        return ParsedRequest(request, dialect, {}, self.make_reply, wrong)

    def _wrong(self, request: ReceivedRequest, method: str) -> tuple[int, str] | None:
        """Return status and message when the key, the path or the method is wrong."""
        if self.api_key is not None and request.path != _lightrag.HEALTH and not _is_key(key_of(request.headers), self.api_key):
            return 401, "Incorrect API key provided."
        if not method:
            return 404, f"Unknown request URL: {request.method} {request.path}."
        return None if request.method == method else (405, f"Not allowed to {request.method} on {request.path}.")


NO_JSON = "We could not parse the JSON body of your request."


def is_metered(parsed: ParsedRequest) -> bool:
    """Return whether limits and capacity apply to a request: not to an invalid one, nor to a health check."""
    return parsed.wrong is None and parsed.path != _lightrag.HEALTH


def respond_to(parsed: ParsedRequest, fault: Fault, quota: Quota | None) -> FakeResponse:
    """Return the response to a request, its fault included."""
    dialect = parsed.dialect
    headers = dialect.headers(parsed.request_id, fault, quota) | _retry_after_headers(fault) | {"date": formatdate(usegmt=True)}
    in_stream = fault.kind is FaultKind.ERROR_IN_BODY and dialect.streams(parsed)
    error = None if in_stream else dialect.error(fault.kind, parsed.request_id, quota.rejection if quota else None)
    if error is not None:
        return _complete_response(*error, headers)
    if parsed.wrong is not None:
        return _complete_response(*dialect.request_error(*parsed.wrong, parsed.request_id), headers)
    if dialect.streams(parsed):
        return _stream_response(fault, parsed, headers)
    return _with_fault(fault, _complete_response(200, dialect.completion(parsed), headers))


def key_of(headers: Mapping[str, str]) -> str:
    """Return the caller's API key, empty without one."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def _dialect_of(path: str) -> Dialect:
    return _anthropic if path.startswith(_anthropic.MESSAGES) else _openai


def _is_key(actual: str, expected: str) -> bool:
    return hmac.compare_digest(actual.encode(), expected.encode())


def _json_object(data: bytes) -> Body | None:
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _retry_after_headers(fault: Fault) -> dict[str, str]:
    if fault.retry_after is None:
        return {}
    headers = {"retry-after": str(math.ceil(fault.retry_after))}
    return (
        headers if float(fault.retry_after).is_integer() else headers | {"retry-after-ms": str(round(fault.retry_after * 1000))}
    )


def _complete_response(status: int, body: object, headers: Mapping[str, str]) -> FakeResponse:
    data = body.encode() if isinstance(body, str) else encode(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return FakeResponse(status, {**headers, "content-type": kind, "content-length": str(len(data))}, (data,))


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _with_fault(fault: Fault, response: FakeResponse) -> FakeResponse:
    """Apply the fault to a plain response."""
    half = _half(response.pieces[0])
    if fault.kind is FaultKind.MALFORMED:
        return replace(response, headers={**response.headers, "content-length": str(len(half))}, pieces=(half,))
    if fault.kind is FaultKind.TRUNCATED:
        return replace(response, pieces=(half,), ending=ResponseEnding.CUT)
    ending = RESPONSE_ENDINGS.get(fault.kind, ResponseEnding.COMPLETE)
    return response if ending is ResponseEnding.COMPLETE else FakeResponse(0, {}, (), ending)


def _stream_response(fault: Fault, parsed: ParsedRequest, headers: Mapping[str, str]) -> FakeResponse:
    """Return the streamed events with the fault applied."""
    events = parsed.dialect.stream_events(parsed)
    head = {**headers, "content-type": parsed.dialect.STREAM_TYPE, "cache-control": "no-cache"}
    sent_events = tuple(events[: fault.after])
    if fault.kind is FaultKind.OK:
        return FakeResponse(200, head, tuple(events))
    if fault.kind is FaultKind.MALFORMED:
        return FakeResponse(200, head, (_half(events[0]) + b"\n\n", *events[1:]))
    if fault.kind is FaultKind.ERROR_IN_BODY:
        return FakeResponse(200, head, (*sent_events, parsed.dialect.stream_error(parsed.request_id)))
    ending = RESPONSE_ENDINGS.get(fault.kind, ResponseEnding.COMPLETE)
    silent = not sent_events and ending in {ResponseEnding.RESET, ResponseEnding.HANG}
    return FakeResponse(0, {}, (), ending) if silent else FakeResponse(200, head, sent_events, ending)
