"""Perplexity's API of the fake provider: OpenAI's chat with search results, its own errors, and no rate-limit headers.

A stream has no `[DONE]` and ends with the chunk that has a `finish_reason` (perplexityai/api-discussion#209;
`sonar-deep-research` alone sends one), and each chunk repeats sources, usage and the message so far. Its edge rejects a wrong key
with HTML, an exhausted quota is a 401, and a 429 has no `Retry-After`.
"""

from __future__ import annotations

from collections.abc import Mapping

from resilience_kit.testing.provider import _openai
from resilience_kit.testing.provider._common import Reply, data_event
from resilience_kit.testing.provider._dialect import ParsedRequest
from resilience_kit.testing.provider.faults import Fault, FaultKind
from resilience_kit.testing.provider.limits import LimitRejection, Quota

CHAT = "/chat/completions"
STREAM_TYPE = _openai.STREAM_TYPE
WITH_DONE = "sonar-deep-research"
SEARCHED = "https://example.com/forty-two"
ERRORS: Mapping[FaultKind, tuple[int, str, str]] = {
    FaultKind.RATE_LIMITED: (429, "Request rate limit exceeded, please try again later.", "request_rate_limit_exceeded"),
    FaultKind.INSUFFICIENT_QUOTA: (
        401,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
    ),
    FaultKind.SERVER_ERROR: (500, "Internal server error", "internal_server_error"),
    FaultKind.UNAVAILABLE: (503, "Service temporarily unavailable", "service_unavailable"),
    FaultKind.OVERLOADED: (529, "The service is overloaded, please try again later.", "overloaded"),
    FaultKind.ERROR_IN_BODY: (200, "Internal server error", "internal_server_error"),
}
UNAUTHORIZED = (
    "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n"
    "<body>\r\n<center><h1>401 Authorization Required</h1></center>\r\n<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n"
)
#: USD: a million tokens either way, and a request with little search context, of the model `sonar`.
_A_MILLION, _A_SEARCH = 1.0, 0.005

prompt = _openai.prompt
max_tokens = _openai.max_tokens
tokens = _openai.tokens
streams = _openai.streams


def headers(request_id: str, _fault: Fault, _quota: Quota | None) -> dict[str, str]:
    """Return a request id; the service does not send its limits."""
    return {"x-request-id": request_id}


def hint(_wait: float) -> None:
    """Return None: the service sends no wait."""


def error(kind: FaultKind, _request_id: str, _rejection: LimitRejection | None) -> tuple[int, object] | None:
    """Return status and body of a fault."""
    if kind not in ERRORS:
        return None
    status, message, type_ = ERRORS[kind]
    return status, error_body(message, type_, status if status != 200 else 500)  # noqa: PLR2004 - an error inside a 200


def error_body(message: str, type_: str, code: int) -> dict[str, object]:
    """Return the body of every error; its code is the status."""
    return {"error": {"message": message, "type": type_, "code": code}}


def request_error(status: int, message: str, _request_id: str) -> tuple[int, object]:
    """Return status and body for an invalid request."""
    return status, UNAUTHORIZED if status == 401 else error_body(message, "bad_request", status)  # noqa: PLR2004 - named there


def completion(parsed: ParsedRequest) -> object:
    """Return a plain chat completion with its sources."""
    return _completion_chunk(parsed, "chat.completion", parsed.reply.text, "", _openai.finish_reason(parsed.reply))


def stream_events(parsed: ParsedRequest) -> list[bytes]:
    """Return a streamed chat completion, a word at a time; the last chunk has the finish reason."""
    kind, so_far, chunks = "chat.completion.chunk", "", []
    for chunk in parsed.reply.chunks:
        so_far += chunk
        chunks.append(_completion_chunk(parsed, kind, so_far, chunk, None))
    chunks.append(_completion_chunk(parsed, kind, so_far, "", _openai.finish_reason(parsed.reply)))
    return [*map(data_event, chunks), *([_openai.DONE] if parsed.model == WITH_DONE else [])]


def stream_error(request_id: str) -> bytes:
    """Return the event of a stream that fails after its 200."""
    _, message, type_ = ERRORS[FaultKind.ERROR_IN_BODY]
    return data_event(error_body(message, type_, 500) | {"id": request_id})


def _completion_chunk(parsed: ParsedRequest, kind: str, content: str, delta: str, finish_reason: str | None) -> dict[str, object]:
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content},
        "delta": {"role": "assistant", "content": delta},
    }
    return {
        "id": parsed.request_id,
        "model": parsed.model,
        "created": _openai.CREATED,
        "usage": _usage(parsed.reply, len(content.split())),
        "citations": [SEARCHED],
        "search_results": [_result()],
        "object": kind,
        "choices": [choice],
    }


def _result() -> dict[str, object]:
    return {
        "title": "The answer",
        "url": SEARCHED,
        "date": "2025-06-15",
        "last_updated": "2025-06-15",
        "snippet": "Forty-two, as far as anybody knows.",
        "source": "web",
    }


def _usage(reply: Reply, output: int) -> dict[str, object]:
    input_cost, output_cost = (count * _A_MILLION / 1e6 for count in (reply.input_tokens, output))
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": output,
        "total_tokens": reply.input_tokens + output,
        "search_context_size": "low",
        "cost": {
            "input_tokens_cost": round(input_cost, 6),
            "output_tokens_cost": round(output_cost, 6),
            "request_cost": _A_SEARCH,
            "total_cost": round(input_cost + output_cost + _A_SEARCH, 6),
        },
    }
