"""Turns a request and its fault into an answer, which is plain data: what is sent and how it ends."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import Enum, auto
from types import ModuleType

from resilience_kit.testing.provider import _anthropic, _openai
from resilience_kit.testing.provider._words import Reply, encode
from resilience_kit.testing.provider.faults import Fault, FaultKind, ReceivedRequest

CHAT, EMBEDDINGS, MESSAGES = "/v1/chat/completions", "/v1/embeddings", "/v1/messages"
EVENT_STREAM = "text/event-stream; charset=utf-8"


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

    def answer(self, request: ReceivedRequest) -> Answer:
        """The answer to a request, its fault included."""
        dialect = _anthropic if request.path.startswith(MESSAGES) else _openai
        request_id = f"req_{request.number:06d}"
        headers = dialect.headers(request_id, request.fault) | _hint(request.fault) | {"date": formatdate(usegmt=True)}
        body, refused = self._read(request)
        if request.fault.kind in dialect.ERRORS and not (request.fault.kind is FaultKind.ERROR_IN_BODY and body.get("stream")):
            status, error = dialect.error(request.fault.kind, request_id)
            return _plain(status, error, headers)
        if refused:
            return _plain(refused[0], dialect.refusal(*refused, request_id), headers)
        if body.get("stream") and request.path != EMBEDDINGS:
            return _streamed(request.fault, self._events(dialect, request_id, body), dialect.stream_error(request_id), headers)
        return _broken(request.fault, _plain(200, self._whole(request.path, request_id, body), headers))

    def _read(self, request: ReceivedRequest) -> tuple[Mapping[str, object], tuple[int, str] | None]:
        """The body, and the status and message of a refusal when the request itself is wrong."""
        if self.api_key is not None and not _has_key(request.headers, self.api_key):
            return {}, (401, "Incorrect API key provided.")
        if request.path not in {CHAT, EMBEDDINGS, MESSAGES}:
            return {}, (404, f"Unknown request URL: {request.method} {request.path}.")
        if request.method != "POST":
            return {}, (405, f"Not allowed to {request.method} on {request.path}.")
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        return (body, None) if isinstance(body, dict) else ({}, (400, "We could not parse the JSON body of your request."))

    def _reply(self, dialect: ModuleType, body: Mapping[str, object]) -> Reply:
        prompt: str = dialect.prompt(body)
        return Reply.to(prompt, self.says(prompt), dialect.max_tokens(body))

    def _events(self, dialect: ModuleType, request_id: str, body: Mapping[str, object]) -> list[bytes]:
        reply = self._reply(dialect, body)
        if dialect is _anthropic:
            return _anthropic.events(_model(body), request_id, reply)
        return _openai.events(_model(body), request_id, reply, body)

    def _whole(self, path: str, request_id: str, body: Mapping[str, object]) -> object:
        if path == EMBEDDINGS:
            return _openai.embeddings(_model(body), body)
        if path == MESSAGES:
            return _anthropic.message(_model(body), request_id, self._reply(_anthropic, body))
        return _openai.completion(_model(body), request_id, self._reply(_openai, body))


def _model(body: Mapping[str, object]) -> str:
    return str(body.get("model", "fake-model"))


def _has_key(headers: Mapping[str, str], key: str) -> bool:
    given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(given.encode(), key.encode())


def _hint(fault: Fault) -> dict[str, str]:
    if fault.retry_after is None:
        return {}
    whole = {"retry-after": str(math.ceil(fault.retry_after))}
    return whole if float(fault.retry_after).is_integer() else whole | {"retry-after-ms": str(round(fault.retry_after * 1000))}


def _plain(status: int, body: object, headers: Mapping[str, str]) -> Answer:
    data = encode(body)
    return Answer(status, {**headers, "content-type": "application/json", "content-length": str(len(data))}, (data,))


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


def _streamed(fault: Fault, events: list[bytes], error: bytes, headers: Mapping[str, str]) -> Answer:
    """The events, with the fault done to them."""
    head = {**headers, "content-type": EVENT_STREAM, "cache-control": "no-cache"}
    begun = tuple(events[: fault.after])
    if fault.kind is FaultKind.OK:
        return Answer(200, head, tuple(events))
    if fault.kind is FaultKind.MALFORMED:
        return Answer(200, head, (_half(events[0]) + b"\n\n", *events[1:]))
    if fault.kind is FaultKind.ERROR_IN_BODY:
        return Answer(200, head, (*begun, error))
    ending = ENDINGS.get(fault.kind, Ending.WHOLE)
    silent = not begun and ending in {Ending.RESET, Ending.HANG}
    return Answer(0, {}, (), ending) if silent else Answer(200, head, begun, ending)
