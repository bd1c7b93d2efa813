"""Anthropic's API of the fake provider: bodies, streamed events, errors and rate-limit headers, all deterministic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from resilience_kit.testing.provider._common import Reply, named_event, number, text_of
from resilience_kit.testing.provider._dialect import Body, ParsedRequest
from resilience_kit.testing.provider.faults import Fault, FaultKind
from resilience_kit.testing.provider.limits import LimitReading, LimitRejection, Quota

MESSAGES = "/v1/messages"
STREAM_TYPE = "text/event-stream; charset=utf-8"
ERRORS: Mapping[FaultKind, tuple[int, str, str]] = {
    FaultKind.RATE_LIMITED: (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    FaultKind.INSUFFICIENT_QUOTA: (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to purchase credits.",
    ),
    FaultKind.SERVER_ERROR: (500, "api_error", "Internal server error"),
    FaultKind.UNAVAILABLE: (503, "api_error", "Service unavailable"),
    FaultKind.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    FaultKind.ERROR_IN_BODY: (200, "overloaded_error", "Overloaded"),
}


def error(kind: FaultKind, request_id: str, rejection: LimitRejection | None) -> tuple[int, object] | None:
    """Return status and body of a fault."""
    if kind not in ERRORS:
        return None
    status, type_, message = ERRORS[kind]
    text = _rate_limit_message(rejection) if kind is FaultKind.RATE_LIMITED and rejection else message
    return status, error_body(type_, text, request_id)


def error_body(type_: str, message: str, request_id: str) -> dict[str, object]:
    """Return the body of every error."""
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": request_id}


def request_error(status: int, message: str, request_id: str) -> tuple[int, object]:
    """Return status and body for an invalid request."""
    type_ = {401: "authentication_error", 404: "not_found_error"}.get(status, "invalid_request_error")
    return status, error_body(type_, message, request_id)


def headers(request_id: str, fault: Fault, quota: Quota | None) -> dict[str, str]:
    """Return request id and buckets; without limits the request bucket is empty when the fault is a rate limit."""
    head = {"request-id": request_id, "anthropic-organization-id": "org-fake"}
    now = datetime.now(UTC)
    return head | (_unlimited(fault, now) if quota is None else _limited(quota.readings, now))


def hint(wait: float) -> float:
    """Return the wait in whole seconds."""
    return float(math.ceil(wait))


def _unlimited(fault: Fault, now: datetime) -> dict[str, str]:
    limited = fault.kind is FaultKind.RATE_LIMITED
    now = now.replace(microsecond=0)
    return {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0" if limited else "49",
        "anthropic-ratelimit-requests-reset": _rfc3339(now, math.ceil(fault.retry_after or 1.0)),
        "anthropic-ratelimit-input-tokens-limit": "50000",
        "anthropic-ratelimit-input-tokens-remaining": "49000",
        "anthropic-ratelimit-input-tokens-reset": _rfc3339(now, 0.0),
    }


def _limited(readings: tuple[LimitReading, ...], now: datetime) -> dict[str, str]:
    """Return the bucket headers. `tokens` are those of prompt and response; the real service rounds the rest to thousands."""
    head: dict[str, str] = {}
    for reading in readings:
        head[f"anthropic-ratelimit-{reading.unit}-limit"] = str(reading.limit)
        head[f"anthropic-ratelimit-{reading.unit}-remaining"] = str(reading.remaining)
        head[f"anthropic-ratelimit-{reading.unit}-reset"] = _rfc3339(now, reading.seconds_to_full)
    return head


def _rate_limit_message(rejection: LimitRejection) -> str:
    return (
        f"This request would exceed the rate limit for your organization of {rejection.limit:,} {rejection.unit} per minute. "
        "You can see the response headers for current usage. "
        "Please reduce the prompt length or the maximum tokens requested, or try again later."
    )


def prompt(body: Body) -> str:
    """Return all the text of a conversation, the last message last."""
    return " ".join(filter(None, (text_of(body.get("system")), text_of(body.get("messages")))))


def max_tokens(body: Body) -> int | None:
    """Return the limit on the response."""
    return number(body.get("max_tokens"))


def tokens(parsed: ParsedRequest) -> int:
    """Return the tokens of the usage."""
    return parsed.reply.tokens


def streams(parsed: ParsedRequest) -> bool:
    """Return whether the request asks for a stream."""
    return bool(parsed.body.get("stream"))


def completion(parsed: ParsedRequest) -> object:
    """Return a plain message."""
    return _head(parsed) | {
        "content": [{"type": "text", "text": parsed.reply.text}],
        "stop_reason": _stop(parsed.reply),
        "usage": {"input_tokens": parsed.reply.input_tokens, "output_tokens": parsed.reply.output_tokens},
    }


def stream_events(parsed: ParsedRequest) -> list[bytes]:
    """Return a streamed message, a word at a time, `message_stop` last."""
    reply = parsed.reply
    start = _head(parsed) | {"content": [], "usage": {"input_tokens": reply.input_tokens, "output_tokens": 1}}
    deltas = [{"type": "text_delta", "text": chunk} for chunk in reply.chunks]
    end = {"delta": {"stop_reason": _stop(reply), "stop_sequence": None}, "usage": {"output_tokens": reply.output_tokens}}
    return [
        named_event("message_start", {"message": start}),
        named_event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        named_event("ping", {}),
        *(named_event("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas),
        named_event("content_block_stop", {"index": 0}),
        named_event("message_delta", end),
        named_event("message_stop", {}),
    ]


def stream_error(request_id: str) -> bytes:
    """Return the event of a stream that fails after its 200."""
    _, type_, message = ERRORS[FaultKind.ERROR_IN_BODY]
    return named_event("error", error_body(type_, message, request_id))


def _head(parsed: ParsedRequest) -> dict[str, object]:
    return {
        "id": f"msg_{parsed.request_id}",
        "type": "message",
        "role": "assistant",
        "model": parsed.model,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop(reply: Reply) -> str:
    return "max_tokens" if reply.is_truncated else "end_turn"


def _rfc3339(now: datetime, seconds: float) -> str:
    """Return the time so many seconds from now, rounded up to a whole second."""
    instant = (now + timedelta(seconds=seconds)).timestamp()
    return datetime.fromtimestamp(math.ceil(instant), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
