"""OpenAI's API of the fake provider: bodies, streamed events, errors and rate-limit headers, all deterministic."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Mapping

from resilience_kit.testing.provider._common import Reply, ceil_milliseconds, data_event, go_duration, number, text_of
from resilience_kit.testing.provider._dialect import Body, ParsedRequest
from resilience_kit.testing.provider.faults import Fault, FaultKind
from resilience_kit.testing.provider.limits import LimitReading, LimitRejection, Quota

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
STREAM_TYPE = "text/event-stream; charset=utf-8"
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


_SHORT = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}
#: The limits in headers while the provider has none.
_UNLIMITED = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "0.12s",
    "x-ratelimit-limit-tokens": "200000",
    "x-ratelimit-remaining-tokens": "199900",
    "x-ratelimit-reset-tokens": "30ms",
}


def error(kind: FaultKind, _request_id: str, rejection: LimitRejection | None) -> tuple[int, object] | None:
    """Return status and body of a fault."""
    if kind is FaultKind.RATE_LIMITED and rejection is not None:
        return 429, error_body(_rate_limit_message(rejection), rejection.unit, "rate_limit_exceeded")
    if kind not in ERRORS:
        return None
    status, message, type_, code = ERRORS[kind]
    return status, error_body(message, type_, code)


def error_body(message: str, type_: str, code: str | None = None) -> dict[str, object]:
    """Return the body of every error."""
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def request_error(status: int, message: str, _request_id: str) -> tuple[int, object]:
    """Return status and body for an invalid request."""
    code = {401: "invalid_api_key", 404: "not_found"}.get(status)
    return status, error_body(message, "invalid_request_error", code)


def headers(request_id: str, fault: Fault, quota: Quota | None) -> dict[str, str]:
    """Return request id and buckets; without limits the request bucket is empty when the fault is a rate limit."""
    head = {
        "x-request-id": request_id,
        "openai-version": "2020-10-01",
        "openai-organization": "org-fake",
        "openai-processing-ms": "1",
    }
    return head | (_unlimited(fault) if quota is None else _limited(quota.readings))


def hint(wait: float) -> float:
    """Return the wait, to the millisecond."""
    return ceil_milliseconds(wait) / 1000


def _unlimited(fault: Fault) -> dict[str, str]:
    if fault.kind is not FaultKind.RATE_LIMITED:
        return _UNLIMITED
    reset = f"{fault.retry_after or 0.12:g}s"
    return _UNLIMITED | {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}


def _limited(readings: tuple[LimitReading, ...]) -> dict[str, str]:
    head: dict[str, str] = {}
    for reading in readings:
        head[f"x-ratelimit-limit-{reading.unit}"] = str(reading.limit)
        head[f"x-ratelimit-remaining-{reading.unit}"] = str(reading.remaining)
        head[f"x-ratelimit-reset-{reading.unit}"] = go_duration(reading.seconds_to_full)
    return head


def _rate_limit_message(rejection: LimitRejection) -> str:
    where = f"in organization org-fake on {_SHORT[rejection.unit]}: Limit {rejection.limit}"
    if rejection.wait is None:
        reduce = "The input or output tokens must be reduced in order to run successfully."
        return f"Request too large for the model {where}, Requested {rejection.requested}. {reduce}"
    used = f"Used {rejection.used}, Requested {rejection.requested}"
    return f"Rate limit reached for the model {where}, {used}. Please try again in {go_duration(rejection.wait)}."


def prompt(body: Body) -> str:
    """Return all the text of a chat, the last message last."""
    return text_of(body.get("messages"))


def max_tokens(body: Body) -> int | None:
    """Return the limit on the response, under its new name or its old one."""
    return number(body.get("max_completion_tokens") or body.get("max_tokens"))


def tokens(parsed: ParsedRequest) -> int:
    """Return the tokens of the usage."""
    return _embedded(parsed.body) if parsed.path == EMBEDDINGS else parsed.reply.tokens


def streams(parsed: ParsedRequest) -> bool:
    """Return whether a chat asks for a stream."""
    return parsed.path != EMBEDDINGS and bool(parsed.body.get("stream"))


def completion(parsed: ParsedRequest) -> object:
    """Return a plain chat completion, or embeddings."""
    if parsed.path == EMBEDDINGS:
        return _embeddings(parsed.model, parsed.body)
    message = {"role": "assistant", "content": parsed.reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(parsed.reply)}
    return _head(parsed, "chat.completion") | {"choices": [choice], "usage": _usage(parsed.reply)}


def stream_events(parsed: ParsedRequest) -> list[bytes]:
    """Return a streamed chat completion, a word at a time, `[DONE]` last."""
    head = _head(parsed, "chat.completion.chunk")
    deltas: list[dict[str, object]] = [
        {"role": "assistant", "content": ""},
        *[dict[str, object](content=chunk) for chunk in parsed.reply.chunks],
    ]
    chunks = [head | {"choices": [_choice(delta, None)]} for delta in deltas]
    chunks.append(head | {"choices": [_choice({}, finish_reason(parsed.reply))]})
    options = parsed.body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        chunks.append(head | {"choices": [], "usage": _usage(parsed.reply)})
    return [*map(data_event, chunks), DONE]


def stream_error(_request_id: str) -> bytes:
    """Return the event of a stream that fails after its 200."""
    _, message, type_, code = ERRORS[FaultKind.ERROR_IN_BODY]
    return data_event(error_body(message, type_, code))


def finish_reason(reply: Reply) -> str:
    """Return why the response ends."""
    return "length" if reply.is_truncated else "stop"


def _embeddings(model: str, body: Body) -> dict[str, object]:
    """Return one unit vector a text, the same for the same text, as floats or as base64."""
    size = number(body.get("dimensions")) or 8
    coded = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size, coded=coded)}
        for index, text in enumerate(_inputs(body))
    ]
    count = _embedded(body)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": count, "total_tokens": count}}


def _inputs(body: Body) -> list[object]:
    value = body.get("input")
    return value if isinstance(value, list) and value and not isinstance(value[0], int) else [value]


def _embedded(body: Body) -> int:
    return sum(len(text) if isinstance(text, list) else len(str(text).split()) for text in _inputs(body))


def _vector(text: object, size: int, *, coded: bool) -> list[float] | str:
    stream = hashlib.shake_128(str(text).encode()).digest(size)
    raw = [byte - 127.5 for byte in stream]
    length = math.sqrt(sum(value * value for value in raw))
    vector = [value / length for value in raw]
    return base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if coded else vector


def _head(parsed: ParsedRequest, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{parsed.request_id}",
        "object": kind,
        "created": CREATED,
        "model": parsed.model,
        "system_fingerprint": "fp_fake",
    }


def _choice(delta: dict[str, object], finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(reply: Reply) -> dict[str, object]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
