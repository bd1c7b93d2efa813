"""An HTTP response -> Verdict.

Authority, highest first: the `x-should-retry` header, a code in the body, its wording, the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice

from resilience_kit.classification import body as bodies
from resilience_kit.classification.http_status import (
    CLIENT_ERROR,
    FIRST_SERVER_ERROR,
    PAYLOAD_TOO_LARGE,
    PAYMENT_REQUIRED,
    REDIRECT,
    by_status,
)
from resilience_kit.classification.providers import Strength, meaning, names_layer, plain
from resilience_kit.classification.retry_after import bounded, header_hint, reset_hint
from resilience_kit.classification.verdicts import (
    CONTEXT_LENGTH,
    HELD_MONEY,
    QUOTA,
    RATE_LIMIT,
    REQUEST_OVER_LIMIT,
    SERVER_ERROR,
    TRANSIENT,
    UNKNOWN,
)
from resilience_kit.classification.wording import HELD, is_over_limit, is_rate, refine
from resilience_kit.outcome import FailureKind, Verdict

_MOST_HEADERS, _LONGEST_HEADER = 256, 1024
_OK, _BAD_REQUEST = 200, 400
_CODE_HEADERS = ("x-amzn-errortype", "x-ms-error-code")
_PACED = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.QUOTA, FailureKind.TRANSIENT})
_BY_DAY = ("perday", "per_day", "daily", "1/d/")
_BY_MINUTE = ("perminute", "per_minute", "persecond", "per_second", "1/min/", "1/s/")
_SHORT_WAIT = 300.0
_FAILED_DEPENDENCY = 424
_PASSED_ON = re.compile(r"\b(?:http|status)(?:[ _]?(?:status|code)){0,2}[ :=]{1,3}([45][0-9]{2})\b", re.ASCII)


def classify_response(
    status: int, headers: Mapping[str, str], body: object, *, provider: str | None = None, now: object = None
) -> Verdict:
    """What an HTTP response means for the next attempt. Never raises; thread-safe.

    `body` is bytes, text, or parsed JSON. `provider` (`"mistral"`, `"zhipu"`, ...) gives a sense to codes that are mere
    numbers. `now` (datetime, seconds since the epoch or RFC 3339 text) is what dates count against; without it the response's
    own `Date` does. A 2xx answer whose body is an error object is an error, and so is one without JSON where its content type
    promises some; one that is none is `unknown`.
    """
    try:
        who = provider.lower() if isinstance(provider, str) else None
        known = lowered(headers)
        if _breaks_promise(status, known, body):
            return SERVER_ERROR
        return judge(status, known, bodies.read(body), provider=who, now=now)
    except Exception:  # noqa: BLE001 - a status that is no number, a clock that raises
        return by_status(status) if isinstance(status, int) else UNKNOWN


def _breaks_promise(status: int, headers: Mapping[str, str], body: object) -> bool:
    if not _OK <= status < REDIRECT or not isinstance(body, (bytes, str)) or not bodies.promises_json(headers):
        return False
    return bodies.is_no_json(status, body)


def judge(  # noqa: PLR0913 - one argument a fact
    status: int | None,
    headers: Mapping[str, str],
    facts: bodies.Facts,
    *,
    names: Sequence[str] = (),
    provider: str | None = None,
    now: object = None,
) -> Verdict:
    """The verdict of collected facts; `names` are codes from elsewhere (exception classes), heard last."""
    codes = [*facts.codes, *(headers[name] for name in _CODE_HEADERS if name in headers), *names]
    soon = _comes_back_soon(headers, facts, now)
    verdict = _sized(_of_facts(_effective(status, facts, codes), codes, facts, facts.vendor or provider, soon=soon), status)
    return _told(verdict, headers, facts, now)


def lowered(headers: object) -> dict[str, str]:
    """Headers by lower-case name; what is not text is absent, and so are headers that raise when they are looked at."""
    try:
        return {
            name.lower(): value[:_LONGEST_HEADER]
            for name, value in islice(headers.items() if isinstance(headers, Mapping) else (), _MOST_HEADERS)
            if isinstance(name, str) and isinstance(value, str)
        }
    except Exception:  # noqa: BLE001 - a mapping of the caller's may do anything
        return {}


def _effective(status: int | None, facts: bodies.Facts, codes: Sequence[str]) -> int | None:
    """The status in the body, when there is one, is the nearer to the cause; so is one that a layer in between tells in words."""
    if facts.status is not None and (status is None or facts.failed or status >= CLIENT_ERROR):
        status = facts.status
    if status is None or facts.failed or status >= FIRST_SERVER_ERROR or status == _FAILED_DEPENDENCY:
        found = _PASSED_ON.search(facts.text) if any(map(names_layer, codes)) else None
        return status if found is None else int(found[1])
    return status


def _of_facts(status: int | None, codes: Sequence[str], facts: bodies.Facts, provider: str | None, *, soon: bool) -> Verdict:
    failed = status is None or status >= REDIRECT
    if status is not None and not failed and not facts.failed:
        return TRANSIENT if facts.broken else bodies.ending(facts) or by_status(status)
    if any(word in facts.quotas.casefold() for word in _BY_DAY):
        return QUOTA
    code, strength, verdict = _of_codes(codes, provider)
    if verdict is QUOTA and status != PAYMENT_REQUIRED and is_rate(plain(code), facts.text, soon=soon):
        return REQUEST_OVER_LIMIT if is_over_limit(facts.text) else RATE_LIMIT
    if strength is Strength.FIRM:
        return verdict
    verdict = _first_impression(status, strength, verdict, failed=failed)
    if verdict is RATE_LIMIT and _short_window(facts):
        return RATE_LIMIT
    return refine(verdict, facts.text, soon=soon)


def _of_codes(codes: Sequence[str], provider: str | None) -> tuple[str, Strength | None, Verdict]:
    """The strongest meaning among the codes, the first of equals, with its code."""
    best: tuple[str, Strength | None, Verdict] = ("", None, UNKNOWN)
    for code in codes:
        found = meaning(code, provider)
        if found is not None and found[0] > (best[1] or 0):
            best = (code, *found)
    return best


def _comes_back_soon(headers: Mapping[str, str], facts: bodies.Facts, now: object) -> bool:
    """Whether the answer asks for a wait that only a rate has.

    Windows of rates are a second or a minute; an exhausted quota comes back with a day, a month or a payment. Five minutes leave
    room for services that lengthen the wait of those who go on asking.
    """
    hint = header_hint(headers, now)
    if hint is None:
        hint = reset_hint(headers, now)
    if hint is None:
        hint = facts.delay if facts.delay is not None else facts.late_delay
    return hint is not None and 0.0 < hint <= _SHORT_WAIT


def _first_impression(status: int | None, strength: Strength | None, verdict: Verdict, *, failed: bool) -> Verdict:
    if strength is Strength.SOFT and status != PAYMENT_REQUIRED:  # Gemini says RESOURCE_EXHAUSTED beside 402 too
        return verdict
    if status == _BAD_REQUEST and strength is Strength.GENERIC and verdict is CONTEXT_LENGTH:
        return verdict
    if status is not None and failed:
        return by_status(status)
    if strength is Strength.GENERIC:
        return verdict
    return UNKNOWN if status is None else SERVER_ERROR  # an error after a 200 is the server's, unless it says otherwise


def _short_window(facts: bodies.Facts) -> bool:
    """Google's own words for a limit that refills within a minute; its message talks of billing either way."""
    if any(word in facts.quotas.casefold() for word in _BY_MINUTE):
        return True
    return facts.delay is not None and "limit: 0" not in facts.text


def _sized(verdict: Verdict, status: int | None) -> Verdict:
    return REQUEST_OVER_LIMIT if status == PAYLOAD_TOO_LARGE and verdict is RATE_LIMIT else verdict


def _told(verdict: Verdict, headers: Mapping[str, str], facts: bodies.Facts, now: object) -> Verdict:
    """The verdict with what the server itself asks for: to retry or not, and when."""
    if verdict is QUOTA and HELD.said_in(facts.text) and header_hint(headers, now) is not None:
        verdict = HELD_MONEY
    wish = headers.get("x-should-retry")
    retryable = wish == "true" if wish in {"true", "false"} else verdict.retryable
    hint = None if verdict.kind is FailureKind.QUOTA and not retryable else _hint(verdict, headers, facts, now)
    if hint is None and retryable is verdict.retryable:
        return verdict
    return Verdict(verdict.kind, retryable, verdict.counts_against_breaker, hint)


def _hint(verdict: Verdict, headers: Mapping[str, str], facts: bodies.Facts, now: object) -> float | None:
    hint = header_hint(headers, now)
    if hint is None and verdict.kind in _PACED:
        hint = reset_hint(headers, now)
    if hint is None:
        hint = facts.delay if facts.delay is not None else facts.late_delay
    return bounded(hint)
