"""Classifies HTTP responses.

Precedence, highest first: the `x-should-retry` header, a code in the body, its message, the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice

from resilience_kit.classification import body as bodies
from resilience_kit.classification.finish_reasons import finish_reason_verdict
from resilience_kit.classification.http_status import (
    CLIENT_ERROR,
    FIRST_SERVER_ERROR,
    PAYLOAD_TOO_LARGE,
    PAYMENT_REQUIRED,
    REDIRECT,
    by_status,
)
from resilience_kit.classification.phrases import BUDGET_HELD_PHRASES
from resilience_kit.classification.providers import Strength, lookup_code, names_layer, normalize_code
from resilience_kit.classification.refine import exceeds_limit, is_rate_limit, refine
from resilience_kit.classification.retry_after import bounded, header_hint, reset_hint
from resilience_kit.classification.verdicts import (
    BUDGET_HELD,
    CONTEXT_LENGTH,
    QUOTA,
    RATE_LIMIT,
    REQUEST_EXCEEDS_LIMIT,
    SERVER_ERROR,
    TRANSIENT,
    UNKNOWN,
)
from resilience_kit.outcome import FailureKind, Verdict

_MOST_HEADERS, _LONGEST_HEADER = 256, 1024
_OK, _BAD_REQUEST = 200, 400
_CODE_HEADERS = ("x-amzn-errortype", "x-ms-error-code")
_RESET_HINT_KINDS = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.QUOTA, FailureKind.TRANSIENT})
_BY_DAY = ("perday", "per_day", "daily", "1/d/")
_BY_MINUTE = ("perminute", "per_minute", "persecond", "per_second", "1/min/", "1/s/")
_SHORT_WAIT = 300.0
_FAILED_DEPENDENCY = 424
_UPSTREAM_STATUS = re.compile(r"\b(?:http|status)(?:[ _]?(?:status|code)){0,2}[ :=]{1,3}([45][0-9]{2})\b", re.ASCII)


def classify_response(
    status: int, headers: Mapping[str, str], body: object, *, provider: str | None = None, now: object = None
) -> Verdict:
    """Return the verdict of an HTTP response. Never raises; thread-safe.

    `body` is bytes, text, or parsed JSON. `provider` (`"mistral"`, `"zhipu"`, ...) defines the meaning of numeric
    codes. `now` (datetime, seconds since the epoch or RFC 3339 text) is the reference for dates; without it the
    response's own `Date` is. A 2xx response whose body is an error object is an error, and so is one without JSON
    although its content type is JSON; any other is `unknown`.
    """
    try:
        who = provider.lower() if isinstance(provider, str) else None
        known = lowercase_headers(headers)
        if _lacks_promised_json(status, known, body):
            return SERVER_ERROR
        return classify_details(status, known, bodies.parse_body(body), provider=who, now=now)
    except Exception:  # noqa: BLE001 - a status that is no number, a clock that raises
        return by_status(status) if isinstance(status, int) else UNKNOWN


def _lacks_promised_json(status: int, headers: Mapping[str, str], body: object) -> bool:
    if not _OK <= status < REDIRECT or not isinstance(body, (bytes, str)) or not bodies.has_json_content_type(headers):
        return False
    return bodies.is_not_json(status, body)


def classify_details(  # noqa: PLR0913 - one argument a fact
    status: int | None,
    headers: Mapping[str, str],
    details: bodies.ErrorDetails,
    *,
    names: Sequence[str] = (),
    provider: str | None = None,
    now: object = None,
) -> Verdict:
    """Return the verdict of collected facts; `names` are codes of exception classes, with the lowest precedence."""
    codes = [*details.codes, *(headers[name] for name in _CODE_HEADERS if name in headers), *names]
    short_wait = _has_short_wait(headers, details, now)
    verdict = _check_size(
        _verdict_of_details(
            _effective_status(status, details, codes), codes, details, details.vendor or provider, short_wait=short_wait
        ),
        status,
    )
    return _with_server_hint(verdict, headers, details, now)


def lowercase_headers(headers: object) -> dict[str, str]:
    """Return the headers by lower-case name, without values that are not text; empty if reading them raises."""
    try:
        return {
            name.lower(): value[:_LONGEST_HEADER]
            for name, value in islice(headers.items() if isinstance(headers, Mapping) else (), _MOST_HEADERS)
            if isinstance(name, str) and isinstance(value, str)
        }
    except Exception:  # noqa: BLE001 - a mapping of the caller may do anything
        return {}


def _effective_status(status: int | None, details: bodies.ErrorDetails, codes: Sequence[str]) -> int | None:
    """Return the status nearest to the cause: one in the body, or one that a layer in between reports in its message."""
    if details.status is not None and (status is None or details.is_error or status >= CLIENT_ERROR):
        status = details.status
    if status is None or details.is_error or status >= FIRST_SERVER_ERROR or status == _FAILED_DEPENDENCY:
        found = _UPSTREAM_STATUS.search(details.text) if any(map(names_layer, codes)) else None
        return status if found is None else int(found[1])
    return status


def _verdict_of_details(
    status: int | None, codes: Sequence[str], details: bodies.ErrorDetails, provider: str | None, *, short_wait: bool
) -> Verdict:
    failed = status is None or status >= REDIRECT
    if status is not None and not failed and not details.is_error:
        return TRANSIENT if details.truncated else finish_reason_verdict(details.root) or by_status(status)
    if any(marker in details.quotas.casefold() for marker in _BY_DAY):
        return QUOTA
    code, strength, verdict = _strongest_code(codes, provider)
    if (
        verdict is QUOTA
        and status != PAYMENT_REQUIRED
        and is_rate_limit(normalize_code(code), details.text, short_wait=short_wait)
    ):
        return REQUEST_EXCEEDS_LIMIT if exceeds_limit(details.text) else RATE_LIMIT
    if strength is Strength.FIRM:
        return verdict
    verdict = _initial_verdict(status, strength, verdict, failed=failed)
    if verdict is RATE_LIMIT and _short_window(details):
        return RATE_LIMIT
    return refine(verdict, details.text, short_wait=short_wait)


def _strongest_code(codes: Sequence[str], provider: str | None) -> tuple[str, Strength | None, Verdict]:
    """Return the strongest meaning among the codes, the first of equals, with its code."""
    best: tuple[str, Strength | None, Verdict] = ("", None, UNKNOWN)
    for code in codes:
        found = lookup_code(code, provider)
        if found is not None and found[0] > (best[1] or 0):
            best = (code, *found)
    return best


def _has_short_wait(headers: Mapping[str, str], details: bodies.ErrorDetails, now: object) -> bool:
    """Return whether the response requests a wait that only a rate limit has.

    Windows of rates are a second or a minute; an exhausted quota resets after a day, a month or a payment. Five minutes
    leave room for services that lengthen the wait of callers who keep sending.
    """
    hint = header_hint(headers, now)
    if hint is None:
        hint = reset_hint(headers, now)
    if hint is None:
        hint = details.retry_delay if details.retry_delay is not None else details.fallback_delay
    return hint is not None and 0.0 < hint <= _SHORT_WAIT


def _initial_verdict(status: int | None, strength: Strength | None, verdict: Verdict, *, failed: bool) -> Verdict:
    if strength is Strength.SOFT and status != PAYMENT_REQUIRED:  # Gemini sends RESOURCE_EXHAUSTED with 402, too
        return verdict
    if status == _BAD_REQUEST and strength is Strength.GENERIC and verdict is CONTEXT_LENGTH:
        return verdict
    if status is not None and failed:
        return by_status(status)
    if strength is Strength.GENERIC:
        return verdict
    return UNKNOWN if status is None else SERVER_ERROR  # an error under a 200 is the server's by default


def _short_window(details: bodies.ErrorDetails) -> bool:
    """Return whether Google's details name a limit that refills within a minute; its message mentions billing either way."""
    if any(marker in details.quotas.casefold() for marker in _BY_MINUTE):
        return True
    return details.retry_delay is not None and "limit: 0" not in details.text


def _check_size(verdict: Verdict, status: int | None) -> Verdict:
    return REQUEST_EXCEEDS_LIMIT if status == PAYLOAD_TOO_LARGE and verdict is RATE_LIMIT else verdict


def _with_server_hint(verdict: Verdict, headers: Mapping[str, str], details: bodies.ErrorDetails, now: object) -> Verdict:
    """Return the verdict with the server's own instructions: whether to retry, and when."""
    if verdict is QUOTA and BUDGET_HELD_PHRASES.found_in(details.text) and header_hint(headers, now) is not None:
        verdict = BUDGET_HELD
    should_retry = headers.get("x-should-retry")
    retryable = should_retry == "true" if should_retry in {"true", "false"} else verdict.retryable
    hint = None if verdict.kind is FailureKind.QUOTA and not retryable else _hint(verdict, headers, details, now)
    if hint is None and retryable is verdict.retryable:
        return verdict
    return Verdict(verdict.kind, retryable, verdict.counts_against_breaker, hint)


def _hint(verdict: Verdict, headers: Mapping[str, str], details: bodies.ErrorDetails, now: object) -> float | None:
    hint = header_hint(headers, now)
    if hint is None and verdict.kind in _RESET_HINT_KINDS:
        hint = reset_hint(headers, now)
    if hint is None:
        hint = details.retry_delay if details.retry_delay is not None else details.fallback_delay
    return bounded(hint)
