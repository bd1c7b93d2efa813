"""LightRAG's API of the fake provider: query, streamed query, insertion and health of its server.

Its errors are FastAPI's `{"detail": ...}`. Errors of its language model's provider reach its callers as a 500 whose detail is
the text of that error (HKUDS/LightRAG, `query_routes.py`): so does an exhausted quota here. A stream is a JSON object a line and
has no end mark. It has no limits itself; a 429 is that of a gateway in front of it, without a `Retry-After`.
"""

from __future__ import annotations

from collections.abc import Mapping

from resilience_kit.testing.provider._common import encode, text_of
from resilience_kit.testing.provider._dialect import Body, ParsedRequest
from resilience_kit.testing.provider.faults import Fault, FaultKind
from resilience_kit.testing.provider.limits import LimitRejection, Quota

QUERY, STREAM, INSERT, HEALTH = "/query", "/query/stream", "/documents/text", "/health"
NO_MONEY = (
    "Error code: 429 - {'error': {'message': 'You exceeded your current quota, please check your plan and billing details.', "
    "'type': 'insufficient_quota', 'param': None, 'code': 'insufficient_quota'}}"
)
STREAM_TYPE = "application/x-ndjson"
ERRORS: Mapping[FaultKind, tuple[int, str]] = {
    FaultKind.RATE_LIMITED: (429, "Too Many Requests"),
    FaultKind.INSUFFICIENT_QUOTA: (500, NO_MONEY),
    FaultKind.SERVER_ERROR: (500, "Query failed"),
    FaultKind.UNAVAILABLE: (503, "Service Unavailable"),
    FaultKind.OVERLOADED: (529, "Overloaded"),
}
FAILED = {"error": "LLM service temporarily unavailable"}
ACCEPTED = "Text successfully received. Processing will continue in background."
FILE = "fake.txt"


def prompt(body: Body) -> str:
    """Return the question."""
    return text_of(body.get("query"))


def max_tokens(_body: Body) -> None:
    """Return None: responses have no limit."""


def tokens(parsed: ParsedRequest) -> int:
    """Return the words of the question and its response, or of the text that is inserted."""
    return parsed.reply.tokens if parsed.path != INSERT else len(text_of(parsed.body.get("text")).split())


def streams(parsed: ParsedRequest) -> bool:
    """Return whether it is the streaming path, on which a single line may still be requested."""
    return parsed.path == STREAM


def headers(request_id: str, _fault: Fault, _quota: Quota | None) -> dict[str, str]:
    """Return a request id, as a proxy's; the server itself sends no headers."""
    return {"x-request-id": request_id}


def hint(_wait: float) -> None:
    """Return None: the service sends no wait."""


def error(kind: FaultKind, _request_id: str, _rejection: LimitRejection | None) -> tuple[int, object] | None:
    """Return status and body of a fault."""
    if kind is FaultKind.ERROR_IN_BODY:
        return 200, FAILED
    if kind not in ERRORS:
        return None
    status, detail = ERRORS[kind]
    return status, {"detail": detail}


def request_error(status: int, message: str, _request_id: str) -> tuple[int, object]:
    """Return status and body for an invalid request: 403 for the key, 422 for the body."""
    if status == 400:  # noqa: PLR2004 - no JSON
        return 422, {"detail": [{"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error", "input": {}}]}
    return (403, {"detail": "Invalid API Key"}) if status == 401 else (status, {"detail": message})  # noqa: PLR2004 - the key


def completion(parsed: ParsedRequest) -> object:
    """Return the health, the receipt of an insertion, or the response to a question."""
    if parsed.path == HEALTH:
        return _health()
    if parsed.path == INSERT:
        return {"status": "success", "message": ACCEPTED, "track_id": f"insert_{parsed.request_id}"}
    return {"response": parsed.reply.text, "references": _references(parsed.body)}


def stream_events(parsed: ParsedRequest) -> list[bytes]:
    """Return the references, then a word a line; one line for all of it with `"stream": false`."""
    references = _references(parsed.body)
    first: list[object] = [] if references is None else [{"references": references}]
    if parsed.body.get("stream") is False:
        return [_ndjson({"response": parsed.reply.text} | ({} if references is None else {"references": references}))]
    return [_ndjson(part) for part in (*first, *({"response": chunk} for chunk in parsed.reply.chunks))]


def stream_error(_request_id: str) -> bytes:
    """Return the line of a stream that fails after its 200."""
    return _ndjson(FAILED)


def _ndjson(value: object) -> bytes:
    return encode(value) + b"\n"


def _references(body: Body) -> list[dict[str, object]] | None:
    if body.get("include_references") is False:
        return None
    content = {"content": ["Forty-two."]} if body.get("include_chunk_content") else {}
    return [{"reference_id": "1", "file_path": FILE, **content}]


def _health() -> dict[str, object]:
    return {
        "status": "healthy",
        "working_directory": "rag_storage",
        "input_directory": "inputs",
        "configuration": {
            "llm_binding": "openai",
            "llm_model": "fake-model",
            "embedding_binding": "openai",
            "embedding_model": "fake-embedding",
            "kv_storage": "JsonKVStorage",
            "graph_storage": "NetworkXStorage",
            "vector_storage": "NanoVectorDBStorage",
        },
        "auth_mode": "disabled",
        "pipeline_busy": False,
        "core_version": "1.4.9",
        "api_version": "0233",
    }
