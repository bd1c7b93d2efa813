"""The OpenAI side of the fake provider: bodies, streamed events, errors and rate-limit headers, all deterministic."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Mapping

from resilience_kit.testing.provider._words import Reply, data_event, number, text_of
from resilience_kit.testing.provider.faults import Fault, FaultKind

CREATED = 1_750_000_000
DONE = b"data: [DONE]\n\n"
ERRORS: Mapping[FaultKind, tuple[int, str, str, str | None]] = {
    FaultKind.RATE_LIMITED: (
        429,
        "Rate limit reached for the model in organization org-fake on requests per min (RPM): Limit 500, Used 500, Requested 1.",
        "requests",
        "rate_limit_exceeded",
    ),
    FaultKind.INSUFFICIENT_QUOTA: (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    FaultKind.SERVER_ERROR: (
        500,
        "The server had an error while processing your request. Sorry about that!",
        "server_error",
        None,
    ),
    FaultKind.UNAVAILABLE: (503, "The engine is currently overloaded, please try again later.", "server_error", None),
    FaultKind.OVERLOADED: (529, "The engine is currently overloaded, please try again later.", "overloaded_error", None),
    FaultKind.ERROR_IN_BODY: (200, "The server had an error while processing your request", "server_error", "server_error"),
}


def error(kind: FaultKind, _request_id: str) -> tuple[int, dict[str, object]]:
    """Status and body of a fault."""
    status, message, type_, code = ERRORS[kind]
    return status, error_body(message, type_, code)


def error_body(message: str, type_: str, code: str | None = None) -> dict[str, object]:
    """The shape of every error."""
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def refusal(status: int, message: str, _request_id: str) -> dict[str, object]:
    """The body for a request that is itself wrong."""
    return error_body(message, "invalid_request_error", {401: "invalid_api_key", 404: "not_found"}.get(status))


def headers(request_id: str, fault: Fault) -> dict[str, str]:
    """Request id and the request bucket, used up when the fault is a rate limit."""
    limited = fault.kind is FaultKind.RATE_LIMITED
    return {
        "x-request-id": request_id,
        "openai-version": "2020-10-01",
        "openai-organization": "org-fake",
        "openai-processing-ms": "1",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "0" if limited else "499",
        "x-ratelimit-reset-requests": f"{fault.retry_after or 0.12:g}s",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "199900",
        "x-ratelimit-reset-tokens": "30ms",
    }


def prompt(body: Mapping[str, object]) -> str:
    """All the text of a chat, the last message last."""
    return text_of(body.get("messages"))


def max_tokens(body: Mapping[str, object]) -> int | None:
    """The limit on the answer, under its new name or its old one."""
    return number(body.get("max_completion_tokens") or body.get("max_tokens"))


def completion(model: str, request_id: str, reply: Reply) -> dict[str, object]:
    """A plain chat completion."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length" if reply.cut else "stop"}
    return _head(model, request_id, "chat.completion") | {"choices": [choice], "usage": _usage(reply)}


def events(model: str, request_id: str, reply: Reply, body: Mapping[str, object]) -> list[bytes]:
    """A streamed chat completion, a word at a time, `[DONE]` last."""
    head = _head(model, request_id, "chat.completion.chunk")
    deltas: list[dict[str, object]] = [
        {"role": "assistant", "content": ""},
        *[dict[str, object](content=word) for word in reply.words],
    ]
    chunks = [head | {"choices": [_choice(delta, None)]} for delta in deltas]
    chunks.append(head | {"choices": [_choice({}, "length" if reply.cut else "stop")]})
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        chunks.append(head | {"choices": [], "usage": _usage(reply)})
    return [*map(data_event, chunks), DONE]


def stream_error(request_id: str) -> bytes:
    """The event of a stream that fails after its 200."""
    return data_event(error(FaultKind.ERROR_IN_BODY, request_id)[1])


def embeddings(model: str, body: Mapping[str, object]) -> dict[str, object]:
    """One unit vector a text, the same for the same text, as floats or as base64."""
    given = body.get("input")
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = number(body.get("dimensions")) or 8
    coded = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size, coded=coded)} for index, text in enumerate(texts)
    ]
    tokens = sum(len(text) if isinstance(text, list) else len(str(text).split()) for text in texts)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def _vector(text: object, size: int, *, coded: bool) -> list[float] | str:
    stream = hashlib.shake_128(str(text).encode()).digest(size)
    raw = [byte - 127.5 for byte in stream]
    length = math.sqrt(sum(value * value for value in raw))
    vector = [value / length for value in raw]
    return base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if coded else vector


def _head(model: str, request_id: str, kind: str) -> dict[str, object]:
    return {"id": f"chatcmpl-{request_id}", "object": kind, "created": CREATED, "model": model, "system_fingerprint": "fp_fake"}


def _choice(delta: dict[str, object], finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(reply: Reply) -> dict[str, object]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
