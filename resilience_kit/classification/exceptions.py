"""An exception -> Verdict, by duck typing.

Asked in this order: what the user registered, this kit's own classes, groups, the class name where no answer of a service can
be inside, the answer that the exception carries (status, headers, body, codes), the operating system's number, the words of a
known SDK, and at last the error beneath.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from resilience_kit.classification import body as bodies
from resilience_kit.classification import kit, peek
from resilience_kit.classification.http_status import BEYOND
from resilience_kit.classification.registry import registered
from resilience_kit.classification.response import judge, lowered
from resilience_kit.classification.retry_after import bounded
from resilience_kit.classification.transport import (
    CONNECTION_WORDS,
    DISTINCT,
    ERRNOS,
    LIBRARIES,
    PROVIDERS,
    code_of,
    wire_rule,
)
from resilience_kit.classification.verdicts import CONNECTION, SERVER_ERROR, UNKNOWN
from resilience_kit.errors import FallbackExhaustedError, StreamInterruptedError
from resilience_kit.outcome import FailureKind, Verdict

_MOST_ERRORS = 64  # looked at in one group, however it is nested
_WIRE = frozenset({FailureKind.CONNECTION, FailureKind.TIMEOUT})
_WRAPPERS = frozenset({Exception, RuntimeError, BaseException})  # raised to say "that failed", not to report a bug
_FIRST_STATUS = 100
_NO_JSON = "ContentTypeError"  # aiohttp's, with the status of a page that came in place of JSON

_STATUSES = ("status_code", "status", "http_status", "code")
_BODIES = ("body", "details", "response_json", "json_body", "http_body", "error", "detail")
_CODES = ("code", "type", "status", "reason", "error_code", "grpc_status_code")
_STATUS_IN_WORDS = re.compile(r"(?:^|error code:? |status[ _]code:? |status:? |http |error ')([45][0-9]{2})\b", re.ASCII)
_CODE_IN_WORDS = re.compile(r"an error occurred \(([a-z]{3,80})\)|statuscode\.([a-z_]{3,40})", re.ASCII)  # botocore, grpc
_ERRNO_IN_WORDS = re.compile(r"\[errno ([0-9]{1,5})\]", re.ASCII)


class _Sort(NamedTuple):
    """What is known of a class, whatever its instance holds."""

    own: Verdict | None  # this kit's
    rule: Verdict | None  # by name
    names: tuple[str, ...]  # that count as codes
    provider: str | None
    bare: bool  # a builtin: carries no answer
    context: bool  # the context may be what really happened


_SORTS: dict[type, _Sort] = {}
_MOST_CLASSES = 1024


def classify(exc: BaseException) -> Verdict:
    """What an exception means for the next attempt.

    Knows this kit's errors, httpx and httpx2, openai, anthropic, aiohttp, requests, urllib3, botocore, grpc, google and the
    builtin ones without importing any of them, follows causes and looks into groups. What it does not know is `unknown`: not
    retryable, not counted. Never raises, whatever the exception's attributes do; reads no socket; thread-safe.
    """
    try:
        return _judge(exc, [_MOST_ERRORS])
    except Exception:  # noqa: BLE001 - runs while another error is handled and must not replace it
        return UNKNOWN


def classify_ai_exception(exc: BaseException) -> bool:
    """Whether another attempt may succeed: `classify(exc).retryable`."""
    return classify(exc).retryable


def own_verdict(exc: BaseException) -> Verdict | None:
    """What the error itself says, None when only an error beneath may know. May raise."""
    return _one(exc, [_MOST_ERRORS])


def http_status(exc: BaseException) -> int | None:
    """The HTTP status that the error carries."""
    response = peek.attribute(exc, "response")
    return _botocore(response)[0] if isinstance(response, Mapping) else _status(exc, response)


def _judge(exc: BaseException, left: list[int]) -> Verdict:
    """The verdict of the first error down the causes that has one."""
    for error in peek.chain(exc, context=True) if _deep(exc) else (exc,):
        left[0] -= 1
        found = _one(error, left) if left[0] >= 0 else None
        if found is not None:
            return found
        if not _sort(type(error)).context and error.__cause__ is None:
            break
    return UNKNOWN


def _deep(exc: BaseException) -> bool:
    return exc.__cause__ is not None or exc.__context__ is not None or not _sort(type(exc)).bare


def _one(exc: BaseException, left: list[int]) -> Verdict | None:
    """What this error says without those beneath, None when it says nothing."""
    found = registered(exc)
    if found is not None:
        return found
    if isinstance(exc, BaseExceptionGroup):
        return kit.together(_judge(each, left) for each in exc.exceptions[:_MOST_ERRORS])
    sort = _sort(type(exc))
    if sort.own is not None:
        return kit.hinted(sort.own, exc)
    if sort.rule is not None:
        return _placed(sort.rule, exc) if sort.rule.kind in _WIRE else sort.rule
    if isinstance(exc, (StreamInterruptedError, FallbackExhaustedError)):
        return _ended(exc, left)
    return _foreign(exc, sort)


def _ended(exc: StreamInterruptedError | FallbackExhaustedError, left: list[int]) -> Verdict:
    if isinstance(exc, FallbackExhaustedError):
        return kit.spent(kit.together(_judge(each, left) for each in exc.failures[-1:]))
    cause = exc.__cause__
    return kit.spent(CONNECTION if cause is None else _judge(cause, left))


def _foreign(exc: BaseException, sort: _Sort) -> Verdict | None:
    if isinstance(exc, OSError) and (found := _by_errno(exc)) is not None:
        return found
    return None if sort.bare else _by_answer(exc, sort)


def _placed(rule: Verdict, exc: BaseException) -> Verdict:
    """Whether a broken wire is this machine's own trouble, which the words or an error beneath may tell."""
    for error in peek.chain(exc):
        verdict = rule if error is exc else _sort(type(error)).rule or rule
        if verdict.kind in _WIRE and not verdict.counts_against_breaker:
            return verdict
        text = peek.words(error)
        for phrases, found in CONNECTION_WORDS if text and verdict.kind is FailureKind.CONNECTION else ():
            if phrases.said_in(text):
                return found
    return rule


def _by_errno(exc: OSError) -> Verdict | None:
    number = exc.errno
    if number is None and (match := _ERRNO_IN_WORDS.search(peek.words(exc))):
        number = int(match[1])
    return ERRNOS.get(number) if isinstance(number, int) else None


def _by_answer(exc: BaseException, sort: _Sort) -> Verdict | None:
    """The verdict of the answer inside, None when there is none."""
    response = peek.attribute(exc, "response")
    if isinstance(response, Mapping):
        status, headers, facts = _botocore(response)
    else:
        status, headers, facts = _status(exc, response), _headers(exc, response), bodies.read(_body(exc, response))
        if not facts.codes:
            facts.codes.extend(_codes(exc))
    if not facts.text:
        facts.text = peek.words(exc)
    names = sort.names if status is None else ()
    if names:
        status, names = _from_words(facts.text, names)
    if status is None and not (facts.codes or facts.failed or names):
        return None
    if facts.late_delay is None:
        facts.late_delay = bounded(peek.attribute(exc, "retry_after"))
    verdict = judge(status, headers, facts, names=names, provider=sort.provider)
    if verdict == UNKNOWN and type(exc).__name__ == _NO_JSON:
        return SERVER_ERROR
    return None if verdict == UNKNOWN and status is None else verdict


def _from_words(text: str, names: tuple[str, ...]) -> tuple[int | None, tuple[str, ...]]:
    """The status or code that the message of an SDK's error spells out."""
    if match := _STATUS_IN_WORDS.search(text):
        return int(match[1]), ()
    match = _CODE_IN_WORDS.search(text)
    return None, (match[1] or match[2], *names) if match else names


def _botocore(response: Mapping[object, object]) -> tuple[int | None, dict[str, str], bodies.Facts]:
    metadata = response.get("ResponseMetadata")
    about: Mapping[object, object] = metadata if isinstance(metadata, Mapping) else {}
    return _valid(about.get("HTTPStatusCode")), lowered(about.get("HTTPHeaders")), bodies.read({"error": response.get("Error")})


def _status(exc: BaseException, response: object) -> int | None:
    for owner in (exc, response):
        for name in _STATUSES:
            if (status := _valid(peek.attribute(owner, name))) is not None:
                return status
    return None


def _valid(status: object) -> int | None:
    return int(status) if isinstance(status, int) and _FIRST_STATUS <= status < BEYOND else None


def _headers(exc: BaseException, response: object) -> dict[str, str]:
    for owner in (response, exc):
        headers = peek.attribute(owner, "headers")
        if headers is not None:
            items = headers if isinstance(headers, Mapping) else peek.answer(headers, "items")
            return lowered(items if isinstance(items, Mapping) else _pairs(items))
    return {}


def _pairs(items: object) -> dict[str, str]:
    return dict(items) if isinstance(items, (list, tuple)) else {}


def _body(exc: BaseException, response: object) -> object:
    """The most telling body: an object that the SDK parsed, else what the response holds, else text on the exception."""
    text: object = None
    for name in _BODIES:
        own = peek.answer(exc, name)
        if isinstance(own, (dict, list, Mapping)) and own:
            return own
        text = text or (own if isinstance(own, (str, bytes)) else None)
    held = peek.content(response)
    return text if held is None else held


def _codes(exc: BaseException) -> list[str]:
    """Codes on the exception itself: `.code` of openai, `.code()` of grpc, an enum of google's."""
    found = []
    for name in _CODES:
        value = peek.answer(exc, name)
        text = value if isinstance(value, str) else peek.attribute(value, "name")
        if isinstance(text, str):
            found.append(text)
    return found


def _sort(cls: type) -> _Sort:
    known = _SORTS.get(cls)
    if known is None:
        if len(_SORTS) >= _MOST_CLASSES:  # somebody makes classes all the time
            _SORTS.clear()
        known = _SORTS[cls] = _sorted(cls)
    return known


def _sorted(cls: type) -> _Sort:
    roots = [str(base.__module__).partition(".")[0] for base in cls.__mro__]
    bare = roots[0] == "builtins"
    return _Sort(
        own=kit.meaning(cls),
        rule=_rule(cls.__mro__, roots),
        names=() if bare else _names(cls.__mro__, roots),
        provider=PROVIDERS.get(roots[0], roots[0]),
        bare=bare,
        context=not bare or cls in _WRAPPERS,
    )


def _rule(bases: Sequence[type], roots: Sequence[str]) -> Verdict | None:
    for base, root in zip(bases, roots, strict=True):
        library = LIBRARIES.get(root, {})
        if base.__name__ in library:
            return library[base.__name__]
        if base.__name__ in DISTINCT:
            return DISTINCT[base.__name__]
        found = wire_rule(base.__name__, root)
        if found is not None or code_of(base.__name__, root) not in (None, base.__name__):
            return found
    return None


def _names(bases: Sequence[type], roots: Sequence[str]) -> tuple[str, ...]:
    found = (code_of(base.__name__, root) for base, root in zip(bases, roots, strict=True))
    return tuple(name for name in found if name is not None)
