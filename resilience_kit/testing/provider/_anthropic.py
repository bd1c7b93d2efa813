"""The Anthropic side of the fake provider: bodies, streamed events, errors and rate-limit headers, all deterministic."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from resilience_kit.testing.provider._words import Reply, named_event, number, text_of
from resilience_kit.testing.provider.faults import Fault, FaultKind

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


def error(kind: FaultKind, request_id: str) -> tuple[int, dict[str, object]]:
    """Status and body of a fault."""
    status, type_, message = ERRORS[kind]
    return status, error_body(type_, message, request_id)


def error_body(type_: str, message: str, request_id: str) -> dict[str, object]:
    """The shape of every error."""
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": request_id}


def refusal(status: int, message: str, request_id: str) -> dict[str, object]:
    """The body for a request that is itself wrong."""
    return error_body(
        {401: "authentication_error", 404: "not_found_error"}.get(status, "invalid_request_error"), message, request_id
    )


def headers(request_id: str, fault: Fault) -> dict[str, str]:
    """Request id and the request bucket, used up when the fault is a rate limit."""
    limited = fault.kind is FaultKind.RATE_LIMITED
    now = datetime.now(UTC).replace(microsecond=0)
    reset = now + timedelta(seconds=-(-(fault.retry_after or 1.0) // 1))
    return {
        "request-id": request_id,
        "anthropic-organization-id": "org-fake",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0" if limited else "49",
        "anthropic-ratelimit-requests-reset": _rfc3339(reset),
        "anthropic-ratelimit-input-tokens-limit": "50000",
        "anthropic-ratelimit-input-tokens-remaining": "49000",
        "anthropic-ratelimit-input-tokens-reset": _rfc3339(now),
    }


def prompt(body: Mapping[str, object]) -> str:
    """All the text of a conversation, the last message last."""
    return " ".join(filter(None, (text_of(body.get("system")), text_of(body.get("messages")))))


def max_tokens(body: Mapping[str, object]) -> int | None:
    """The limit on the answer."""
    return number(body.get("max_tokens"))


def message(model: str, request_id: str, reply: Reply) -> dict[str, object]:
    """A plain message."""
    return _head(model, request_id) | {
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": _stop(reply),
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
    }


def events(model: str, request_id: str, reply: Reply) -> list[bytes]:
    """A streamed message, a word at a time, `message_stop` last."""
    start = _head(model, request_id) | {"content": [], "usage": {"input_tokens": reply.input_tokens, "output_tokens": 1}}
    deltas = [{"type": "text_delta", "text": word} for word in reply.words]
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
    """The event of a stream that fails after its 200."""
    return named_event("error", error(FaultKind.ERROR_IN_BODY, request_id)[1])


def _head(model: str, request_id: str) -> dict[str, object]:
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop(reply: Reply) -> str:
    return "max_tokens" if reply.cut else "end_turn"


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
