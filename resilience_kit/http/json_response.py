"""Judges responses with a good status to a request for JSON: a result, an error in the body, or no JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from resilience_kit.classification import response_error
from resilience_kit.classification.verdicts import SERVER_ERROR, TRANSIENT
from resilience_kit.http.methods import METHODS_WITH_BODY
from resilience_kit.outcome import Verdict

_OK = 200
_BLANK = b"\xef\xbb\xbf \t\r\n"


def response_verdict(method: str, status: int, body: bytes, headers: Callable[[], Mapping[str, str]]) -> Verdict | None:
    """Return the verdict on a response with a good status and a complete, decoded body: an error, or no JSON; None if it is good.

    Errors of JSON-RPC are good responses: its clients check for them. The headers are read for an error only.
    """
    found = _verdict(method, status, {}, body)
    return None if found is None else _verdict(method, status, headers(), body) or found


def non_stream_verdict(body: bytes, headers: Callable[[], Mapping[str, str]]) -> Verdict | None:
    """Return the verdict on a stream without events: its body is an error, as it is sent without a stream, or a page."""
    text = body.lstrip(_BLANK)
    if text[:1] == b"<":
        return SERVER_ERROR
    return response_verdict("POST", _OK, body, headers) if text[:1] in (b"{", b"[") else None


def _verdict(method: str, status: int, headers: Mapping[str, str], body: bytes) -> Verdict | None:
    text = body.strip()
    if not text and (status != _OK or method not in METHODS_WITH_BODY):
        return None
    if b'"jsonrpc"' in text[:200] and text[-1:] in b"}]":
        return None
    if text and text[:1] not in b'{["' and _is_json(body):  # such as a number, or another encoding
        return response_error(status, headers, json.loads(body))
    found = response_error(status, headers, text, expects_json=True)
    if found is None and text[:1] == b"{" and b'"error"' in text and not _is_json(text):
        return TRANSIENT  # parsing each response would cost more than everything else
    return found


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
