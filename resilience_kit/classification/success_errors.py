"""Detects errors under a success status: in a whole response, and in one event of a stream.

Both functions run for every response. They first search for the few marks that all error envelopes share, and parse
JSON only where one is found; `envelope` decides whether it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from resilience_kit.classification import body as bodies
from resilience_kit.classification.http_status import REDIRECT
from resilience_kit.classification.response import classify_details, lowercase_headers
from resilience_kit.classification.verdicts import SERVER_ERROR, TRANSIENT
from resilience_kit.outcome import FailureKind, Verdict

_OK = 200
_ANSWERED_KINDS = frozenset({FailureKind.UNKNOWN, FailureKind.CONTENT_FILTER, FailureKind.CONTEXT_LENGTH})
_CLOSING = {"{": "}", "[": "]"}

#: A key that identifies an error envelope, with a value that is neither empty nor a success.
_ERROR_MARKS = re.compile(
    r'"(?:(?:[Ee]rrors?|err(?:or)?_?(?:[Cc]ode|[Mm]sg|no|Message))"\s*:\s*(?!null|""|\[\s*\]|\{\s*\}|false|0\s*[,}])'
    r'|(?:object|type|event|event_type|status|result|finish_?[Rr]eason|stop_?[Rr]eason)"\s*:\s*"(?:[A-Za-z_]*[Ee]rror|ERROR|[Ff]ail|FAIL|exception)'
    r'|(?:ok|[Ii]s_?[Ss]uccess|[Ss]uccess|successful|succeeded)"\s*:\s*"?false'
    r'|(?:is|has)_?[Ee]rror"\s*:\s*true'
    r'|(?:[Cc]ode|status_code)"\s*:\s*(?!null|""|"?0"?\s*[,}]|"?2[0-9]{2}"?\s*[,}])'
    r'|(?:status(?:Code)?|http_status)"\s*:\s*[45][0-9]{2}|fault"\s*:\s*\{'
    r'|[A-Za-z]+Exception"\s*:\s*\{)'
)


def event_error(name: str, data: str) -> Verdict | None:
    """Return the verdict of a server-sent event that reports a failure, None for any other event.

    `name` is the event's name, empty or `message` if it has none; `data` its data, joined. An event named `error` or
    `exception` is a failure whatever its data, even without any. An event of any other name is one when its data is an
    error object in any of the known shapes, or truncated JSON. Ordinary events are not parsed. Never raises;
    thread-safe.
    """
    named = bodies.names_error(name)
    if not named and not _may_be_error(data) and not looks_truncated(data):
        return None
    details = bodies.parse_event(name, data)
    verdict = classify_details(_OK, {}, details)
    return verdict if details.is_error else _failed_answer(verdict)


def response_error(status: int, headers: object, body: object, *, expects_json: bool = False) -> Verdict | None:
    """Return the verdict of a response that reports success but is an error, None for any other.

    `body` is bytes, text or parsed JSON, None if it is not known. Errors are: an error object in any of the known
    shapes; truncated JSON; and, where JSON is expected, an empty body or a page. JSON is expected by a JSON content
    type, or by `expects_json` for a caller that requested JSON and can use nothing else. A response to HEAD has no
    body: pass None. Never raises; thread-safe.
    """
    try:
        return _response_error(status, lowercase_headers(headers), body, expects_json=expects_json)
    except Exception:  # noqa: BLE001 - a status that is no number, a mapping that raises
        return None


def _response_error(status: int, headers: Mapping[str, str], body: object, *, expects_json: bool) -> Verdict | None:
    if not _OK <= status < REDIRECT:
        return None
    if isinstance(body, (bytes, bytearray, str)):
        text = bytes(body).strip() if isinstance(body, (bytes, bytearray)) else body.strip()
        promised = expects_json or bodies.has_json_content_type(headers)
        if promised and bodies.is_not_json(status, text):
            return SERVER_ERROR
        if looks_truncated(text) and (promised or "content-type" not in headers):
            return TRANSIENT
        if not _may_be_error(text):
            return None
    details = bodies.parse_body(body)
    verdict = classify_details(status, headers, details)
    return verdict if details.is_error else _failed_answer(verdict)


def looks_truncated(text: str | bytes) -> bool:
    """Return whether JSON begins that does not end, by both ends of the text."""
    if isinstance(text, bytes):
        text = (text[:1] + text[-1:]).decode("latin-1")
    end = _CLOSING.get(text[:1])
    return end is not None and text[-1] != end and text.rstrip()[-1] != end


def _may_be_error(text: str | bytes) -> bool:
    """Return whether a mark is found. Fixed parts of them come first: that is ten times as fast as the pattern."""
    if isinstance(text, bytes):
        text = text[: bodies.LONGEST_BODY].decode("latin-1")  # marks are ASCII, and a chain of searches is half a loop of them
    return (
        "rror" in text
        or '"err' in text
        or '"code"' in text
        or '"Code"' in text
        or "uccess" in text
        or '"ok"' in text
        or '"fail' in text
        or '"FAIL' in text
        or "Exception" in text
        or "base_resp" in text
        or "status" in text
        or '"fault"' in text
    ) and _ERROR_MARKS.search(text, 0, bodies.LONGEST_BODY) is not None


def _failed_answer(verdict: Verdict) -> Verdict | None:
    """Return the verdict of a response whose model failed; None where the model responded, whatever the quality."""
    return None if verdict.kind in _ANSWERED_KINDS else verdict
