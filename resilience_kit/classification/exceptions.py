"""Classifies exceptions, by duck typing.

Precedence: registered classifiers, this package's own classes, groups, the class name of connection failures (which
carry no response), the response that the exception carries (status, headers, body, codes), the operating system's error
number, the message of a known SDK, and finally the cause.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resilience_kit.classification import body as bodies
from resilience_kit.classification import own_errors, safe_access
from resilience_kit.classification.exception_names import (
    CONNECTION_PHRASES,
    ERRNOS,
    LIBRARIES,
    PROVIDERS,
    UNAMBIGUOUS,
    code_of,
    connection_verdict,
)
from resilience_kit.classification.http_status import BEYOND
from resilience_kit.classification.registry import registered_verdict
from resilience_kit.classification.response import classify_details, lowercase_headers
from resilience_kit.classification.retry_after import bounded
from resilience_kit.classification.verdicts import CONNECTION, SERVER_ERROR, UNKNOWN
from resilience_kit.errors import FallbackExhaustedError, StreamInterruptedError
from resilience_kit.outcome import FailureKind, Verdict

_MOST_ERRORS = 64  # per group, however it is nested
_CONNECTION_KINDS = frozenset({FailureKind.CONNECTION, FailureKind.TIMEOUT})
_WRAPPERS = frozenset({Exception, RuntimeError, BaseException})  # raised to report a failure, not a bug
_FIRST_STATUS = 100
_CONTENT_TYPE_ERROR = "ContentTypeError"  # of aiohttp, with the status of a page instead of JSON

_STATUSES = ("status_code", "status", "http_status", "code")
_BODIES = ("body", "details", "response_json", "json_body", "http_body", "error", "detail")
_CODES = ("code", "type", "status", "reason", "error_code", "grpc_status_code")
_STATUS_IN_MESSAGE = re.compile(r"(?:^|error code:? |status[ _]code:? |status:? |http |error ')([45][0-9]{2})\b", re.ASCII)
_CODE_IN_MESSAGE = re.compile(r"an error occurred \(([a-z]{3,80})\)|statuscode\.([a-z_]{3,40})", re.ASCII)  # botocore, grpc
_ERRNO_IN_MESSAGE = re.compile(r"\[errno ([0-9]{1,5})\]", re.ASCII)


class _ClassInfo(NamedTuple):
    """What is known about a class, whatever its instances hold."""

    own_verdict: Verdict | None  # of this package's errors
    name_verdict: Verdict | None  # by name
    names: tuple[str, ...]  # that count as codes
    provider: str | None
    is_builtin: bool  # a builtin: carries no response
    follows_context: bool  # the context may be what really happened


_CLASS_INFO: dict[type, _ClassInfo] = {}
_MOST_CLASSES = 1024


def classify(exc: BaseException) -> Verdict:
    """Return the verdict of an exception.

    Knows this package's errors, httpx and httpx2, openai, anthropic, aiohttp, requests, urllib3, botocore, grpc, google
    and builtin ones without importing any of them, follows causes and looks into groups. Anything else is `unknown`:
    not retryable, not counted. Never raises, whatever the exception's attributes do; reads no socket; thread-safe.
    """
    try:
        return _classify(exc, [_MOST_ERRORS])
    except Exception:  # noqa: BLE001 - runs while another error is handled and must not replace it
        return UNKNOWN


def classify_ai_exception(exc: BaseException) -> bool:
    """Return whether another attempt may succeed: `classify(exc).retryable`."""
    return classify(exc).retryable


def own_verdict(exc: BaseException) -> Verdict | None:
    """Return the verdict of the error without its causes, None if only a cause may have one. May raise."""
    return _classify_one(exc, [_MOST_ERRORS])


def http_status(exc: BaseException) -> int | None:
    """Return the HTTP status that the error carries."""
    response = safe_access.attribute(exc, "response")
    return _botocore(response)[0] if isinstance(response, Mapping) else _status(exc, response)


def _classify(exc: BaseException, remaining: list[int]) -> Verdict:
    """Return the verdict of the first error in the chain of causes that has one."""
    for error in safe_access.chain(exc, context=True) if _may_have_cause(exc) else (exc,):
        remaining[0] -= 1
        found = _classify_one(error, remaining) if remaining[0] >= 0 else None
        if found is not None:
            return found
        if not _class_info(type(error)).follows_context and error.__cause__ is None:
            break
    return UNKNOWN


def _may_have_cause(exc: BaseException) -> bool:
    return exc.__cause__ is not None or exc.__context__ is not None or not _class_info(type(exc)).is_builtin


def _classify_one(exc: BaseException, remaining: list[int]) -> Verdict | None:
    """Return the verdict of this error without its causes, None if it has none."""
    found = registered_verdict(exc)
    if found is not None:
        return found
    if isinstance(exc, BaseExceptionGroup):
        return own_errors.combine(_classify(each, remaining) for each in exc.exceptions[:_MOST_ERRORS])
    info = _class_info(type(exc))
    if info.own_verdict is not None:
        return own_errors.with_own_hint(info.own_verdict, exc)
    if info.name_verdict is not None:
        return _localize_connection(info.name_verdict, exc) if info.name_verdict.kind in _CONNECTION_KINDS else info.name_verdict
    if isinstance(exc, (StreamInterruptedError, FallbackExhaustedError)):
        return _classify_ended(exc, remaining)
    return _classify_foreign(exc, info)


def _classify_ended(exc: StreamInterruptedError | FallbackExhaustedError, remaining: list[int]) -> Verdict:
    if isinstance(exc, FallbackExhaustedError):
        return own_errors.not_retryable(own_errors.combine(_classify(each, remaining) for each in exc.failures[-1:]))
    cause = exc.__cause__
    return own_errors.not_retryable(CONNECTION if cause is None else _classify(cause, remaining))


def _classify_foreign(exc: BaseException, info: _ClassInfo) -> Verdict | None:
    if isinstance(exc, OSError) and (found := _by_errno(exc)) is not None:
        return found
    return None if info.is_builtin else _by_response(exc, info)


def _localize_connection(rule: Verdict, exc: BaseException) -> Verdict:
    """Return the verdict of a connection failure, which its message or a cause may show to be local."""
    for error in safe_access.chain(exc):
        verdict = rule if error is exc else _class_info(type(error)).name_verdict or rule
        if verdict.kind in _CONNECTION_KINDS and not verdict.counts_against_breaker:
            return verdict
        text = safe_access.message(error)
        for phrases, found in CONNECTION_PHRASES if text and verdict.kind is FailureKind.CONNECTION else ():
            if phrases.found_in(text):
                return found
    return rule


def _by_errno(exc: OSError) -> Verdict | None:
    number = exc.errno
    if number is None and (match := _ERRNO_IN_MESSAGE.search(safe_access.message(exc))):
        number = int(match[1])
    return ERRNOS.get(number) if isinstance(number, int) else None


def _by_response(exc: BaseException, info: _ClassInfo) -> Verdict | None:
    """Return the verdict of the response inside, None when there is none."""
    response = safe_access.attribute(exc, "response")
    if isinstance(response, Mapping):
        status, headers, details = _botocore(response)
    else:
        status, headers, details = _status(exc, response), _headers(exc, response), bodies.parse_body(_body(exc, response))
        if not details.codes:
            details.codes.extend(_codes(exc))
    if not details.text:
        details.text = safe_access.message(exc)
    names = info.names if status is None else ()
    if names:
        status, names = _from_message(details.text, names)
    if status is None and not (details.codes or details.is_error or names):
        return None
    if details.fallback_delay is None:
        details.fallback_delay = bounded(safe_access.attribute(exc, "retry_after"))
    verdict = classify_details(status, headers, details, names=names, provider=info.provider)
    if verdict == UNKNOWN and type(exc).__name__ == _CONTENT_TYPE_ERROR:
        return SERVER_ERROR
    return None if verdict == UNKNOWN and status is None else verdict


def _from_message(text: str, names: tuple[str, ...]) -> tuple[int | None, tuple[str, ...]]:
    """Return the status or code in the message of an SDK's error."""
    if match := _STATUS_IN_MESSAGE.search(text):
        return int(match[1]), ()
    match = _CODE_IN_MESSAGE.search(text)
    return None, (match[1] or match[2], *names) if match else names


def _botocore(response: Mapping[object, object]) -> tuple[int | None, dict[str, str], bodies.ErrorDetails]:
    metadata = response.get("ResponseMetadata")
    about: Mapping[object, object] = metadata if isinstance(metadata, Mapping) else {}
    return (
        _valid(about.get("HTTPStatusCode")),
        lowercase_headers(about.get("HTTPHeaders")),
        bodies.parse_body({"error": response.get("Error")}),
    )


def _status(exc: BaseException, response: object) -> int | None:
    for owner in (exc, response):
        for name in _STATUSES:
            if (status := _valid(safe_access.attribute(owner, name))) is not None:
                return status
    return None


def _valid(status: object) -> int | None:
    return int(status) if isinstance(status, int) and _FIRST_STATUS <= status < BEYOND else None


def _headers(exc: BaseException, response: object) -> dict[str, str]:
    for owner in (response, exc):
        headers = safe_access.attribute(owner, "headers")
        if headers is not None:
            items = headers if isinstance(headers, Mapping) else safe_access.call_or_value(headers, "items")
            return lowercase_headers(items if isinstance(items, Mapping) else _pairs(items))
    return {}


def _pairs(items: object) -> dict[str, str]:
    return dict(items) if isinstance(items, (list, tuple)) else {}


def _body(exc: BaseException, response: object) -> object:
    """Return the most informative body: an object parsed by the SDK, else what the response holds, else text on the exception."""
    text: object = None
    for name in _BODIES:
        own = safe_access.call_or_value(exc, name)
        if isinstance(own, (dict, list, Mapping)) and own:
            return own
        text = text or (own if isinstance(own, (str, bytes)) else None)
    held = safe_access.buffered_content(response)
    return text if held is None else held


def _codes(exc: BaseException) -> list[str]:
    """Return the codes on the exception itself: `.code` of openai, `.code()` of grpc, an enum of google."""
    found = []
    for name in _CODES:
        value = safe_access.call_or_value(exc, name)
        text = value if isinstance(value, str) else safe_access.attribute(value, "name")
        if isinstance(text, str):
            found.append(text)
    return found


def _class_info(cls: type) -> _ClassInfo:
    known = _CLASS_INFO.get(cls)
    if known is None:
        if len(_CLASS_INFO) >= _MOST_CLASSES:  # an application that creates classes all the time
            _CLASS_INFO.clear()
        known = _CLASS_INFO[cls] = _inspect_class(cls)
    return known


def _inspect_class(cls: type) -> _ClassInfo:
    roots = [str(base.__module__).partition(".")[0] for base in cls.__mro__]
    bare = roots[0] == "builtins"
    return _ClassInfo(
        own_verdict=own_errors.verdict_for(cls),
        name_verdict=_rule(cls.__mro__, roots),
        names=() if bare else _names(cls.__mro__, roots),
        provider=PROVIDERS.get(roots[0], roots[0]),
        is_builtin=bare,
        follows_context=not bare or cls in _WRAPPERS,
    )


def _rule(bases: Sequence[type], roots: Sequence[str]) -> Verdict | None:
    for base, root in zip(bases, roots, strict=True):
        library = LIBRARIES.get(root, {})
        if base.__name__ in library:
            return library[base.__name__]
        if base.__name__ in UNAMBIGUOUS:
            return UNAMBIGUOUS[base.__name__]
        found = connection_verdict(base.__name__, root)
        if found is not None or code_of(base.__name__, root) not in (None, base.__name__):
            return found
    return None


def _names(bases: Sequence[type], roots: Sequence[str]) -> tuple[str, ...]:
    found = (code_of(base.__name__, root) for base, root in zip(bases, roots, strict=True))
    return tuple(name for name in found if name is not None)
