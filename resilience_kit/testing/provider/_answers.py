"""Turns a request and its fault into an answer, which is plain data: what is sent and how it ends."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import Enum, auto

from resilience_kit.testing.provider import _anthropic, _lightrag, _openai, _perplexity
from resilience_kit.testing.provider._dialect import Ask, Body, Dialect
from resilience_kit.testing.provider._words import encode
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


class Ending(Enum):
    """What follows the last piece of an answer."""

    WHOLE = auto()
    CUT = auto()
    RESET = auto()
    HANG = auto()


ENDINGS: Mapping[FaultKind, Ending] = {
    FaultKind.TRUNCATED: Ending.CUT,
    FaultKind.RESET: Ending.RESET,
    FaultKind.HANG: Ending.HANG,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status 0 sends no head at all. Every piece is one write; a plain answer has one."""

    status: int
    headers: Mapping[str, str]
    pieces: tuple[bytes, ...]
    ending: Ending = Ending.WHOLE


@dataclass(frozen=True, slots=True)
class Voice:
    """What the model says and who may ask it: the answer's text by prompt, and the key that is expected, None for any."""

    says: Callable[[str], str]
    api_key: str | None = None

    def hear(self, request: ReceivedRequest) -> Ask:
        """Read a request."""
        method, dialect = ROUTES.get(request.path, ("", _dialect_of(request.path)))
        wrong = self._wrong(request, method)
        if wrong is None and method == "POST":
            body = _json_object(request.body)
            return Ask(request, dialect, body or {}, self.says, None if body is not None else (400, NO_JSON))
        return Ask(request, dialect, {}, self.says, wrong)

    def _wrong(self, request: ReceivedRequest, method: str) -> tuple[int, str] | None:
        """Status and message when the key, the path or the method is wrong."""
        if self.api_key is not None and request.path != _lightrag.HEALTH and not _is_key(key_of(request.headers), self.api_key):
            return 401, "Incorrect API key provided."
        if not method:
            return 404, f"Unknown request URL: {request.method} {request.path}."
        return None if request.method == method else (405, f"Not allowed to {request.method} on {request.path}.")


NO_JSON = "We could not parse the JSON body of your request."


def metered(ask: Ask) -> bool:
    """Whether limits and capacity concern a request: not one that is itself wrong, nor a look at the health."""
    return ask.wrong is None and ask.path != _lightrag.HEALTH


def answer_to(ask: Ask, fault: Fault, quota: Quota | None) -> Answer:
    """The answer to a request, its fault included."""
    dialect = ask.dialect
    headers = dialect.headers(ask.request_id, fault, quota) | _hint(fault) | {"date": formatdate(usegmt=True)}
    in_stream = fault.kind is FaultKind.ERROR_IN_BODY and dialect.streams(ask)
    error = None if in_stream else dialect.error(fault.kind, ask.request_id, quota.refusal if quota else None)
    if error is not None:
        return _plain(*error, headers)
    if ask.wrong is not None:
        return _plain(*dialect.refusal(*ask.wrong, ask.request_id), headers)
    if dialect.streams(ask):
        return _streamed(fault, ask, headers)
    return _broken(fault, _plain(200, dialect.whole(ask), headers))


def key_of(headers: Mapping[str, str]) -> str:
    """The caller's API key, empty without one."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def _dialect_of(path: str) -> Dialect:
    return _anthropic if path.startswith(_anthropic.MESSAGES) else _openai


def _is_key(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _json_object(data: bytes) -> Body | None:
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _hint(fault: Fault) -> dict[str, str]:
    if fault.retry_after is None:
        return {}
    whole = {"retry-after": str(math.ceil(fault.retry_after))}
    return whole if float(fault.retry_after).is_integer() else whole | {"retry-after-ms": str(round(fault.retry_after * 1000))}


def _plain(status: int, body: object, headers: Mapping[str, str]) -> Answer:
    data = body.encode() if isinstance(body, str) else encode(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return Answer(status, {**headers, "content-type": kind, "content-length": str(len(data))}, (data,))


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _broken(fault: Fault, good: Answer) -> Answer:
    """The fault done to a plain answer."""
    half = _half(good.pieces[0])
    if fault.kind is FaultKind.MALFORMED:
        return replace(good, headers={**good.headers, "content-length": str(len(half))}, pieces=(half,))
    if fault.kind is FaultKind.TRUNCATED:
        return replace(good, pieces=(half,), ending=Ending.CUT)
    ending = ENDINGS.get(fault.kind, Ending.WHOLE)
    return good if ending is Ending.WHOLE else Answer(0, {}, (), ending)


def _streamed(fault: Fault, ask: Ask, headers: Mapping[str, str]) -> Answer:
    """The events, with the fault done to them."""
    events = ask.dialect.events(ask)
    head = {**headers, "content-type": ask.dialect.STREAM_TYPE, "cache-control": "no-cache"}
    begun = tuple(events[: fault.after])
    if fault.kind is FaultKind.OK:
        return Answer(200, head, tuple(events))
    if fault.kind is FaultKind.MALFORMED:
        return Answer(200, head, (_half(events[0]) + b"\n\n", *events[1:]))
    if fault.kind is FaultKind.ERROR_IN_BODY:
        return Answer(200, head, (*begun, ask.dialect.stream_error(ask.request_id)))
    ending = ENDINGS.get(fault.kind, Ending.WHOLE)
    silent = not begun and ending in {Ending.RESET, Ending.HANG}
    return Answer(0, {}, (), ending) if silent else Answer(200, head, begun, ending)
