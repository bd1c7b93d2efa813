"""Extracts the facts of a response body: codes, message, a status of its own, a delay.

Bodies are JSON objects of a dozen shapes, text that may contain JSON, server-sent events and HTML pages. Everything is
bounded: 64 KiB of text are parsed, 16 KiB of messages are kept, a few dozen objects are examined.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from resilience_kit.classification.envelope import GENERIC_ENVELOPE, error_envelope
from resilience_kit.classification.finish_reasons import choices
from resilience_kit.classification.http_status import BEYOND, CLIENT_ERROR, NO_CONTENT
from resilience_kit.classification.retry_after import bounded, span

LONGEST_BODY = 64 * 1024
LONGEST_TEXT = 16 * 1024
_LONGEST_CODE = 200
_MOST_OBJECTS, _MOST_ITEMS, _DEEPEST = 40, 8, 10

_CODE_KEYS = (
    "error_code",
    "code",
    "reason",
    "error_type",
    "limit_source",
    "type",
    "status",
    "__type",
    "Code",
    "errorCode",
    "name",
)
_STATUS_KEYS = (
    "code",
    "status",
    "status_code",
    "http_status_code",
    "http_status",
    "raw_status_code",
    "statusCode",
    "errorCode",
    "error_code",
    "originalStatusCode",
)
_MESSAGE_KEYS = (
    "message",
    "Message",
    "msg",
    "detail",
    "error",
    "Error",
    "error_message",
    "errorMessage",
    "error_description",
    "error_msg",
    "errmsg",
    "err_msg",
    "status_msg",
    "description",
    "title",
    "raw",
    "limit_name",
    "faultstring",
)
_NESTED_KEYS = (
    "error",
    "errors",
    "details",
    "detail",
    "metadata",
    "innererror",
    "extensions",
    "inner_error",
    "message",
    "response",
    "violations",
    "base_resp",
    "header",
    "delta",
    "Response",
    "ResponseMetadata",
    "fault",
    "Error",
)
_IDENTIFIER = re.compile(r"[A-Za-z]+(?:[_.-][A-Za-z]+)*", re.ASCII)
_QUOTA_KEYS = ("quotaId", "quota_limit", "quotaMetric", "quota_unit", "limit_source")

_PAGE = re.compile(r"<(title|h1|h2)[^>]{0,200}>(.{0,400}?)</\1", re.IGNORECASE | re.DOTALL)
_STREAM = ("data:", "event:", "id:", "retry:", ":")
_SCALAR = re.compile(r"(?:-?[0-9][0-9.eE+-]*|true|false|null)\s*", re.ASCII)
_DEEPEST_JSON = 200
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)
_LINE_END = re.compile(r"\r\n|\r|\n")
_MOST_LINES = 400
_CHUNKS = frozenset({"choices", "candidates", "delta"})
_ERROR_EVENTS = frozenset({"error", "exception", "response.error", "stream_error"})
_STATUS_COMMENT = ":HTTP_STATUS/"  # DashScope names the status of a failed event in a comment


@dataclass(slots=True)
class ErrorDetails:
    """The facts extracted from a body.

    `is_error`: it is an error object, whatever the status; `vendor`: the vendor that defines its numbers; `truncated`:
    incomplete JSON.
    """

    codes: list[str] = field(default_factory=list)
    text: str = ""
    status: int | None = None
    is_error: bool = False
    vendor: str | None = None
    truncated: bool = False
    quotas: str = ""
    retry_delay: float | None = None
    fallback_delay: float | None = None
    root: Mapping[object, object] = field(default_factory=dict)


def has_json_content_type(headers: Mapping[str, str]) -> bool:
    """Return whether the content type is JSON; `headers` have lower-case names."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def is_not_json(status: int, body: bytes | str) -> bool:
    """Return whether a body is empty, a page or other text instead of JSON. Events pass: some services mislabel them."""
    text = body[:_LONGEST_CODE].decode("utf-8", "replace") if isinstance(body, bytes) else body[:_LONGEST_CODE]
    text = text.lstrip("\ufeff \t\r\n")
    return status not in NO_CONTENT and not text.startswith(("{", "[", '"', *_STREAM)) and _SCALAR.fullmatch(text) is None


class _TruncatedJSON(str):
    """Text that begins as JSON and cannot be parsed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _ErrorEvent:
    """The content of an event that is named error."""

    content: object
    status: int | None


def parse_body(body: object) -> ErrorDetails:
    """Extract the facts of a body of any kind; an empty `ErrorDetails` for one without facts, or that raises when read."""
    try:
        return _details_of(_parse_content(body))
    except Exception:  # noqa: BLE001 - a mapping of the caller may do anything; status and headers remain
        return ErrorDetails()


def names_error(name: str) -> bool:
    """Return whether an event of that name reports a failure, whatever its data: `error`, `exception`, one of AWS."""
    return name.lower() in _ERROR_EVENTS or name.endswith("Exception")


def parse_event(name: str, data: str) -> ErrorDetails:
    """Extract the facts of one server-sent event; one that is named as an error is one, whatever its data."""
    found = _parse_text(data[:LONGEST_BODY])
    if isinstance(found, list):
        found = _error_item(found)
    if not names_error(name):
        return _details_of(found)
    details = _details_of(_ErrorEvent(found, None))
    if name.endswith("Exception"):
        details.codes.append(name)
    return details


def _details_of(content: object) -> ErrorDetails:
    if isinstance(content, _ErrorEvent):
        details = _details_of(content.content)
        details.is_error, details.truncated, details.status = True, False, content.status or details.status
        return details
    if isinstance(content, Mapping):
        return _details_of_object(content)
    if not isinstance(content, str):
        return ErrorDetails()
    return ErrorDetails(
        text=_normalize([_visible_text(content)]), truncated=isinstance(content, _TruncatedJSON) and len(content) < LONGEST_BODY
    )


def _parse_content(body: object) -> object:
    """Return the JSON object in the body, else its text, else None."""
    if isinstance(body, (bytes, bytearray)):
        body = bytes(body[:LONGEST_BODY]).decode("utf-8", "replace")
    is_list = isinstance(body, (list, tuple))
    if isinstance(body, str):
        text = body[:LONGEST_BODY].lstrip("\ufeff \t\r\n")
        body, is_list = _parse_text(text), text.startswith("[")
    if not isinstance(body, (list, tuple)):
        return body
    return (_delivered_item(body) if is_list else None) or _error_item(body)


def _delivered_item(items: list[object] | tuple[object, ...]) -> object:
    """Return the first item of a list that is a result by itself, whatever the others are; stream chunks are not."""
    found = (item for item in items[:_MOST_OBJECTS] if isinstance(item, Mapping) and _CHUNKS.isdisjoint(item))
    return next((item for item in found if _has_content(item) and error_envelope(item) is None), None)


def _has_content(item: Mapping[object, object]) -> bool:
    return "id" in item or any(value and isinstance(value, (str, list, Mapping)) for value in item.values())


def _parse_text(text: str) -> object:
    if text.startswith(_STREAM):
        return _error_item(list(_events(text))) or text
    return _parse_json(text) if text.startswith(("{", "[", '"')) else text


def _parse_json(text: str) -> object:
    """Return the JSON value of the text, a list of values for JSON lines, or the text itself if it is not JSON.

    None for JSON that is nested too deeply or contains a number too large for the interpreter. The depth is measured,
    since the limit of the parser differs between interpreters.
    """
    if _is_deep(text):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            return _TruncatedJSON(text)
    except (ValueError, RecursionError):
        return None
    return [_parse_json(line) for line in text.split("\n", _MOST_ITEMS)[:_MOST_ITEMS] if line.strip()]


def _is_deep(text: str) -> bool:
    if text.count("{") + text.count("[") <= _DEEPEST_JSON:
        return False
    depth = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in ("{", "[") else -1 if bracket in ("}", "]") else 0
        if depth > _DEEPEST_JSON:
            return True
    return False


def _events(text: str) -> Iterator[object]:
    """Yield the contents of the events of a stream, the last of which may be truncated."""
    name, data, status = "", "", None
    for line in (*_LINE_END.split(text, _MOST_LINES)[:_MOST_LINES], ""):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += f"\n{value}" if data else value
        elif line.startswith(_STATUS_COMMENT):
            status = _status(line.removeprefix(_STATUS_COMMENT).strip())
        elif not line:
            if names_error(name):
                yield _ErrorEvent(_parse_text(data), status)
            elif data.startswith("{"):
                yield _parse_json(data)
            name, data, status = "", "", None


def _error_item(items: list[object] | tuple[object, ...]) -> object:
    """Return the item that contains an error, else the first object, of a list of chunks."""
    found = [item for item in items[:_MOST_OBJECTS] if isinstance(item, (Mapping, _ErrorEvent))]
    return next((item for item in found if isinstance(item, _ErrorEvent) or error_envelope(item)), found[0] if found else None)


def _visible_text(text: str) -> str:
    """Return the title and headings of a page; other text unchanged."""
    if not text[:1000].lstrip().startswith("<"):
        return text
    return " ".join(found[1] for found in _PAGE.findall(text[:LONGEST_TEXT]))


def _details_of_object(top: Mapping[object, object]) -> ErrorDetails:
    top, stream_code = _unwrapped(top)
    envelope = error_envelope(top) if stream_code is None else GENERIC_ENVELOPE
    details = ErrorDetails(is_error=envelope is not None, root=top)
    texts: list[str] = [] if stream_code is None else [stream_code]
    details.codes.extend(texts)
    if envelope is not None:
        details.vendor = envelope.vendor
        details.codes.extend([] if envelope.number is None else [str(envelope.number)])
    for node in _nodes(top):
        _add_details(node, details, texts)
    details.text = _normalize(texts)
    details.fallback_delay = _fallback_delay(top)
    return details


def _unwrapped(top: Mapping[object, object]) -> tuple[Mapping[object, object], str | None]:
    """Return the object of a Bedrock stream event `{"throttlingException": {...}}` with its name, else `top`."""
    if len(top) == 1:
        name, inner = next(iter(top.items()))
        if isinstance(name, str) and name.endswith("Exception") and isinstance(inner, Mapping):
            return inner, name
    return top, None


def _nodes(top: Mapping[object, object]) -> list[Mapping[object, object]]:
    """Return the error object and its nested objects, inner ones before those that contain them."""
    found: list[Mapping[object, object]] = []
    for answer in choices(top):
        if answer.get("error"):
            _collect(answer, found, _DEEPEST)
    _collect(top, found, _DEEPEST)
    return found


def _collect(value: object, found: list[Mapping[object, object]], depth: int) -> None:
    if depth == 0 or len(found) >= _MOST_OBJECTS:
        return
    if isinstance(value, Mapping):
        for key in _NESTED_KEYS:
            inner = value.get(key)
            if isinstance(inner, (Mapping, list, tuple)):
                _collect(inner, found, depth - 1)
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value[:_MOST_ITEMS]:
            _collect({"message": item} if isinstance(item, str) else item, found, depth - 1)


def _add_details(node: Mapping[object, object], details: ErrorDetails, texts: list[str]) -> None:
    details.codes.extend(code for key in _CODE_KEYS if isinstance(code := node.get(key), str) and len(code) <= _LONGEST_CODE)
    if isinstance(text := node.get("error"), str) and _IDENTIFIER.fullmatch(text):  # OAuth, Slack
        details.codes.append(text)
    texts.extend(text[:LONGEST_TEXT] for key in _MESSAGE_KEYS if isinstance(text := node.get(key), str))
    details.quotas += "".join(f" {quota[:_LONGEST_CODE]}" for key in _QUOTA_KEYS if isinstance(quota := node.get(key), str))
    if details.status is None:
        details.status = next((status for key in _STATUS_KEYS if (status := _status(node.get(key))) is not None), None)
    if details.retry_delay is None:
        details.retry_delay = span(node.get("retryDelay"))


def _status(value: object) -> int | None:
    """Return an HTTP error status from a body, given as a number or in digits."""
    if isinstance(value, str) and len(value) == len("429") and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not CLIENT_ERROR <= value < BEYOND:
        return None
    return value


def _fallback_delay(top: Mapping[object, object]) -> float | None:
    error = top.get("error")
    for node in (top, error if isinstance(error, Mapping) else {}):
        for key in ("retry-after", "retry_after"):
            if (delay := bounded(node.get(key))) is not None:
                return delay
    return None


def _normalize(texts: list[str]) -> str:
    return " ".join(texts)[:LONGEST_TEXT].lower().replace("\u2019", "'")
