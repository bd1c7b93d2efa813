"""Determines whether a JSON body is an error envelope, whatever its status.

Services that respond 200 to everything put their failures into a dozen shapes, and ordinary responses use the same
keys: a file has a `status` of `error`, a batch has `errors`, a RAG response has a `code` or a `message`. Hence three
grades of evidence. An unambiguous envelope is conclusive (`base_resp`, `{"object": "error"}`, a non-empty `error`). A
flag (`success: false`, `status: "error"`, `errors`) counts when a message explains it and there is no payload beside
it. A bare `code` counts when in addition it is known to mean an error, or when the field of the result is present and
empty.

An object with an `id` and a `status` is a resource (a batch, a job, a background response): reading it succeeded,
whatever its status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

from resilience_kit.classification.providers import is_known_code
from resilience_kit.classification.refine import refine
from resilience_kit.classification.verdicts import UNKNOWN

Body = Mapping[object, object]


class Envelope(NamedTuple):
    """An error envelope: the vendor that defines its numbers, and its own number."""

    vendor: str | None = None
    number: int | None = None


GENERIC_ENVELOPE = Envelope()

_FAILED = frozenset({"error", "fail", "failed", "failure", "exception"})
_SUCCESS_FLAGS = ("success", "ok", "is_success", "isSuccess", "successful", "succeeded", "Success", "IsSuccess")
_MESSAGE_KEYS = (
    "message", "msg", "error_msg", "errmsg", "err_msg", "error_message", "errorMessage", "error_description", "detail", "Message",
    "reason", "error", "title",
)  # fmt: skip
_CODE_KEYS = ("error_code", "errorCode", "errcode", "err_code", "errno", "err_no")
_STATUS_KEYS = ("status", "statusCode", "status_code", "http_status")
#: The same the other way round.
_ERROR_FLAGS = ("isError", "is_error", "hasError", "has_error")
#: The result of a validation is whether something is valid, whatever its findings.
_VALIDITY_KEYS = ("valid", "is_valid", "isValid")
_NO: tuple[object, ...] = (False, "false")
_RESULTS = ("data", "result", "output", "results", "response")
#: Keys about a failure or about the exchange itself, which are no payload.
_METADATA_KEYS = frozenset(
    {
        *_SUCCESS_FLAGS, *_ERROR_FLAGS, *_MESSAGE_KEYS, "code", "Code", "errors", *_CODE_KEYS,
        "errorType", "error_type", "type", "__type",
        "object", "status", "status_code", "statusCode", "http_status", "event", "event_type", "param", "params",
        "parameters", "details",
        "stack", "stackTrace", "trace", "traceback", "exception", "path", "instance", "host", "hostname", "server", "service",
        "method", "level", "severity", "retry_after", "retryAfter", "help", "hint", "documentation", "docs", "version", "lang",
        "title", "name", "domain", "provider", "model", "messages", "meta", "metadata", "usage", "timestamp", "time", "date",
        "now", "logid", "sid", "innererror", "description", "status_msg", "metrics", "headers",
    }
)  # fmt: skip
_METADATA_SUFFIXES = ("id", "Id", "ID", "_at", "time", "timestamp", "Time", "Timestamp", "url", "link", "uri")

#: Keys of an `error` that describe it. An object without any of them is a metric, such as `{"rate": 0.05}`.
_DETAIL_KEYS = frozenset(
    {
        *_MESSAGE_KEYS, *_CODE_KEYS, *_STATUS_KEYS, "code", "Code", "type", "__type", "name", "details", "description",
        "error_type", "errors",
        "error_description", "cause", "text", "info", "exception", "innererror", "metadata",
    }
)  # fmt: skip

_LAMBDA = frozenset({"errorMessage", "errorType", "stackTrace", "trace", "requestId", "cause"})

_SUCCESS_TEXT = re.compile(
    r"\s*(?:ok|okay|succe\w*|successful\w*|done|completed?|created|accepted|sent|queued|pending|processing|running|normal|none|null"
    r"|nil|n/a|no[ _]?errors?|false|0+|2[0-9]{2}|成功|操作成功|请求成功|正常)\b",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{2,79}")
_DIGITS = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_ZHIPU = re.compile(r"1[0-3][0-9]{2}")
_COMPLETIONS = ("chat.completion", "text_completion")
_MULTIPLE_CHOICES = 300


def error_envelope(top: Body) -> Envelope | None:
    """Return the envelope when `top` is an error object, None when it is not."""
    found = _unambiguous(top)
    if found is not None or _is_resource(top) or _has_payload(top):
        return found
    message = _message(top)
    if not message:
        return GENERIC_ENVELOPE if top.get("type") == "error" else None
    return GENERIC_ENVELOPE if _is_flagged(top) else _by_code(top, message)


def _unambiguous(top: Body) -> Envelope | None:
    """Return an envelope that only errors have."""
    base = top.get("base_resp")
    if isinstance(base, Mapping) and (number := _as_integer(base.get("status_code"))):
        return Envelope("minimax", number)
    if top.get("object") == "error":
        return Envelope("mistral") if "raw_status_code" in top else GENERIC_ENVELOPE
    error = top.get("error") or top.get("Error")
    if _describes_error(error):
        if "jsonrpc" in top:
            return Envelope("jsonrpc", _number_of(error))
        return None if _is_resource(top) else Envelope("zhipu") if _is_of_zhipu(error) else GENERIC_ENVELOPE
    number = _as_integer(top.get("error_code"))
    if _describes_error(top.get("error_msg")) and number:
        return Envelope("baidu", number)
    return GENERIC_ENVELOPE if any(map(_describes_error, _nested_errors(top))) else _by_header(top)


def _nested_errors(top: Body) -> list[object]:
    """Yield errors one level deeper: OpenAI's `response.failed`, Cohere's last event, Tencent Cloud, Volcengine, Apigee."""
    paths = (
        ("response", "error"), ("delta", "error"), ("Response", "Error"), ("ResponseMetadata", "Error"), ("fault", "faultstring"),
    )  # fmt: skip
    holders = ((top.get(holder), name) for holder, name in paths)
    return [holder.get(name) for holder, name in holders if isinstance(holder, Mapping)]


def _by_header(top: Body) -> Envelope | None:
    """Return the envelope of iFlytek, whose every response has a header with a code."""
    header = top.get("header")
    if isinstance(header, Mapping) and _is_number(number := header.get("code")) and number and "message" in header:
        return Envelope("iflytek", number)
    return None


def _describes_error(error: object) -> bool:
    """Return whether the value of `error` describes one: not a success code, not all empty fields, not a metric."""
    if isinstance(error, str):
        return bool(error.strip()) and _SUCCESS_TEXT.match(error) is None
    if not isinstance(error, Mapping):
        return False
    code = error.get("code")
    fine = _is_number(code) and code in (0, 200) and not error.get("type")
    return not fine and any(_is_filled(value) and (key in _DETAIL_KEYS or _is_sentence(value)) for key, value in error.items())


def _is_filled(value: object) -> bool:
    return value not in (None, "", 0, False) and value not in ([], {})


def _is_sentence(value: object) -> bool:
    return isinstance(value, str) and " " in value.strip()


def _is_resource(top: Body) -> bool:
    kind = top.get("object")
    completion = isinstance(kind, str) and kind.startswith(_COMPLETIONS)
    return bool(top.get("id")) and isinstance(top.get("status"), str) and not completion and "jsonrpc" not in top


def _has_payload(top: Body) -> bool:
    """Return whether the object has content besides fields about a failure."""
    return any(isinstance(top.get(check), bool) for check in _VALIDITY_KEYS) or any(
        isinstance(value, (str, list, Mapping))
        and value
        and key not in _METADATA_KEYS
        and not str(key).endswith(_METADATA_SUFFIXES)
        for key, value in top.items()
        if not (key == "result" and isinstance(value, str) and value.lower() in _FAILED)
    )


def _message(top: Body) -> str:
    values = (top.get(name) for name in _MESSAGE_KEYS)
    found = next((text for text in values if isinstance(text, str) and text.strip()), "")
    if found:
        return found
    refused = any(top.get(flag) in _NO for flag in _SUCCESS_FLAGS) and bool(top.get("errors"))
    return "errors" if refused or _has_objects(top.get("errors")) or _lists_errors(top.get("error")) else ""


def _has_objects(errors: object) -> bool:
    """Return whether `errors` contains error objects; a list of texts may be the findings of a validation."""
    return any(isinstance(each, Mapping) for each in errors) if isinstance(errors, list) else bool(errors)


def _lists_errors(error: object) -> bool:
    """Return whether an `error` is a list of errors, rather than of metrics."""
    return isinstance(error, list) and any(isinstance(each, (str, Mapping)) for each in error)


def _is_flagged(top: Body) -> bool:
    errors, error = top.get("errors"), top.get("error")
    code = next((code for name in _CODE_KEYS if (code := top.get(name))), None)
    return (
        any(top.get(flag) in _NO for flag in _SUCCESS_FLAGS)
        or any(top.get(alarm) is True for alarm in _ERROR_FLAGS)
        or any(isinstance(status := top.get(name), str) and status.lower() in _FAILED for name in ("status", "result"))
        or any(_is_number(status := top.get(name)) and _is_http_error(status) for name in _STATUS_KEYS)
        or (isinstance(errors, (list, Mapping)) and _has_objects(errors))
        or _lists_errors(error)
        or "error" in (top.get("type"), top.get("event"), top.get("event_type"))
        or (_is_number(error) and error != 0)
        or error is True
        or (_is_number(code) and code != 0)
        or (isinstance(code, str) and bool(code) and _SUCCESS_TEXT.match(code) is None)
        or (isinstance(top.get("errorMessage"), str) and top.keys() <= _LAMBDA)
    )


def _by_code(top: Body, message: str) -> Envelope | None:
    """Return the envelope of `{"code": ..., "message": ...}` where the code is not a success."""
    code = top.get("code") or top.get("Code")
    if _SUCCESS_TEXT.match(message) is not None or isinstance(code, bool):
        return None
    if isinstance(code, str) and _SUCCESS_TEXT.match(code) is None and _IDENTIFIER.fullmatch(code):
        return GENERIC_ENVELOPE if "request_id" in top or ((not code.islower() or "_" in code) and is_known_code(code)) else None
    number = _as_integer(code)
    if number is None or 0 <= number < _MULTIPLE_CHOICES:
        return None
    empty = any(name in top and not top[name] for name in _RESULTS)
    return (
        GENERIC_ENVELOPE
        if empty or number < 0 or _is_http_error(number) or refine(UNKNOWN, message.lower()) is not UNKNOWN
        else None
    )


def _is_http_error(number: int) -> bool:
    return 400 <= number < 600  # noqa: PLR2004 - the range of HTTP's errors


def _is_of_zhipu(error: object) -> bool:
    """Return whether the envelope is from Zhipu: a string of four digits with nothing but a message."""
    if not isinstance(error, Mapping) or not error.keys() <= {"code", "message"} or "message" not in error:
        return False
    code = error.get("code")
    return isinstance(code, str) and _ZHIPU.fullmatch(code) is not None


def _number_of(error: object) -> int | None:
    number = error.get("code") if isinstance(error, Mapping) else None
    return number if _is_number(number) else None


def _as_integer(value: object) -> int | None:
    """Return a number, also from digits."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if _is_number(value) else None


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
