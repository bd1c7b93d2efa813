"""Refines a verdict by the text of the error message.

`REFINEMENTS` lists, for each kind of verdict, which phrases may replace it, most specific first: the same words mean
different things under different statuses. `too many tokens` is a long prompt under 400 and a rate under 429.
"""

from __future__ import annotations

import re

from resilience_kit.classification.phrases import (
    AGREEMENT_PHRASES,
    AUTH_PHRASES,
    BILLING_PHRASES,
    BLOCKED_PHRASES,
    CONTENT_FILTER_PHRASES,
    CONTEXT_LENGTH_PHRASES,
    LOADING_PHRASES,
    LONG_WINDOW_LIMIT_PHRASES,
    LONG_WINDOW_PHRASES,
    MEMORY_PHRASES,
    NOT_FOUND_PHRASES,
    OVERLOAD_PHRASES,
    PENDING_PHRASES,
    PERMISSION_PHRASES,
    QUOTA_PHRASES,
    RATE_PHRASES,
    REQUEST_EXCEEDS_LIMIT_PHRASES,
    SHORT_WINDOW_PHRASES,
    TIMEOUT_PHRASES,
    USAGE_LIMIT_PHRASES,
    Phrases,
)
from resilience_kit.classification.verdicts import (
    AUTH,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    NOT_FOUND,
    OVERLOADED,
    PENDING,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    REQUEST_EXCEEDS_LIMIT,
    SERVER_ERROR,
    SERVER_FAULT_PERMANENT,
    TIMEOUT,
    TRANSIENT,
)
from resilience_kit.outcome import FailureKind, Verdict

_INVALID_REQUEST_RULES = (
    (BILLING_PHRASES, QUOTA),
    (USAGE_LIMIT_PHRASES, QUOTA),
    (LONG_WINDOW_PHRASES, QUOTA),
    (CONTENT_FILTER_PHRASES, CONTENT_FILTER),
    (CONTEXT_LENGTH_PHRASES, CONTEXT_LENGTH),
    (AUTH_PHRASES, AUTH),
    (NOT_FOUND_PHRASES, NOT_FOUND),
    (PERMISSION_PHRASES, PERMISSION),
    (RATE_PHRASES, RATE_LIMIT),
    (OVERLOAD_PHRASES, OVERLOADED),
    (QUOTA_PHRASES, RATE_LIMIT),
)
_PERMISSION_RULES = (
    (BILLING_PHRASES, QUOTA),
    (USAGE_LIMIT_PHRASES, QUOTA),
    (PENDING_PHRASES, PENDING),
    (BLOCKED_PHRASES, PERMISSION),
    (CONTENT_FILTER_PHRASES, CONTENT_FILTER),
    (CONTEXT_LENGTH_PHRASES, CONTEXT_LENGTH),
    (AUTH_PHRASES, AUTH),
    (RATE_PHRASES, RATE_LIMIT),
    (QUOTA_PHRASES, RATE_LIMIT),
)
_SERVER_ERROR_RULES = (
    (BILLING_PHRASES, QUOTA),
    (USAGE_LIMIT_PHRASES, QUOTA),
    (OVERLOAD_PHRASES, OVERLOADED),
    (MEMORY_PHRASES, SERVER_FAULT_PERMANENT),
    (CONTEXT_LENGTH_PHRASES, CONTEXT_LENGTH),
    (LONG_WINDOW_LIMIT_PHRASES, QUOTA),
    (RATE_PHRASES, RATE_LIMIT),
    (TIMEOUT_PHRASES, TIMEOUT),
    (AUTH_PHRASES, AUTH),
    (CONTENT_FILTER_PHRASES, CONTENT_FILTER),
    (NOT_FOUND_PHRASES, NOT_FOUND),
    (LOADING_PHRASES, TRANSIENT),
    (QUOTA_PHRASES, RATE_LIMIT),
)

REFINEMENTS: dict[FailureKind, tuple[tuple[Phrases, Verdict], ...]] = {
    FailureKind.INVALID_REQUEST: _INVALID_REQUEST_RULES,
    FailureKind.RATE_LIMIT: (
        (BILLING_PHRASES, QUOTA),
        (USAGE_LIMIT_PHRASES, QUOTA),
        (LONG_WINDOW_PHRASES, QUOTA),
        (OVERLOAD_PHRASES, OVERLOADED),
        (LOADING_PHRASES, TRANSIENT),
    ),
    FailureKind.AUTH: ((Phrases("ip not", "ip address", "country, region, or territory"), PERMISSION), (BILLING_PHRASES, QUOTA)),
    FailureKind.PERMISSION: _PERMISSION_RULES,
    FailureKind.NOT_FOUND: ((AGREEMENT_PHRASES, PERMISSION),),
    FailureKind.SERVER_ERROR: _SERVER_ERROR_RULES,
    FailureKind.TRANSIENT: (
        (OVERLOAD_PHRASES, OVERLOADED),
        (BILLING_PHRASES, QUOTA),
        (RATE_PHRASES, RATE_LIMIT),
        (QUOTA_PHRASES, RATE_LIMIT),
    ),
    FailureKind.UNKNOWN: (
        *_INVALID_REQUEST_RULES,
        (TIMEOUT_PHRASES, TIMEOUT),
        (LOADING_PHRASES, TRANSIENT),
        (Phrases("internal server error"), SERVER_ERROR),
    ),
}

_LIMIT_AND_REQUEST = re.compile(r"limit:? ([0-9]{1,18}).{0,60}?requested:? ([0-9]{1,18})", re.ASCII | re.DOTALL)
_UPSELL_PHRASES = frozenset(
    {BILLING_PHRASES, USAGE_LIMIT_PHRASES, LONG_WINDOW_PHRASES}
)  # with a short window these only advertise a larger plan

_WINDOW = re.compile(
    r"(?:\b(?:per|each|every)[ -]?|/ ?)[0-9]{1,3}[ -]?(?:s|secs?|seconds?|mins?|minutes?)\b"
    r"|\b(?:per|a|each|every)[ -]?(?:second|sec|minute|min)\b|/ ?(?:sec|second|min|minute)\b|\b(?:i|o)?[rt]pm\b|\b[rq]ps\b"
    r"|(?:requests?|tokens?)[_ ]per[_ ](?:second|minute)|每分钟|每秒|error-code#token-limit",
    re.ASCII,
)
_WINDOW_IN_CODE = re.compile(r"perminute|persecond|permin|perhour|rpm|tpm|qps|requestquota|tokenquota|ratequota|concurren")
_BILLING_IN_CODE = re.compile(r"bill|spend|budget|credit|balance|pay|arrear|freetier|daily|perday|month|week|userquota|consume")
_ACCOUNT_QUOTA = ("insufficientquota", "currentquota")
_REPLENISHED = re.compile(r"replenished in 00:0[0-4]:[0-9]{2}\b", re.ASCII)


def refine(verdict: Verdict, text: str, *, short_wait: bool = False) -> Verdict:
    """Return the more precise verdict that the message gives, else `verdict`.

    `short_wait`: the service requests a wait that only a rate limit has.
    """
    if not text:
        return verdict
    rated = verdict.kind is FailureKind.RATE_LIMIT
    if rated and exceeds_limit(text):
        return REQUEST_EXCEEDS_LIMIT
    windowed = rated and SHORT_WINDOW_PHRASES.found_in(text)
    for phrases, better in REFINEMENTS.get(verdict.kind, ()):
        if windowed and phrases in _UPSELL_PHRASES:
            continue
        if phrases.found_in(text):
            return RATE_LIMIT if phrases is USAGE_LIMIT_PHRASES and (short_wait or _is_short_usage(text)) else better
    return verdict


def is_rate_limit(code: str, text: str, *, short_wait: bool) -> bool:
    """Return whether a quota code means a rate: it comes with a window of seconds or minutes, or with a short wait.

    `code` is normalized. A code about money, or a text about a day or a month, remains a quota. So does a short wait
    with a code of the account's own quota, or with a text about money.
    """
    if _BILLING_IN_CODE.search(code) or LONG_WINDOW_PHRASES.found_in(text):
        return False
    if _WINDOW.search(text) or _WINDOW_IN_CODE.search(code):
        return True
    return (
        not any(own in code for own in _ACCOUNT_QUOTA)
        and not BILLING_PHRASES.found_in(text)
        and (short_wait or SHORT_WINDOW_PHRASES.found_in(text))
    )


def _is_short_usage(text: str) -> bool:
    return _WINDOW.search(text) is not None or _REPLENISHED.search(text) is not None


def exceeds_limit(text: str) -> bool:
    """Return whether one request is larger than the limit itself, by its numbers or by phrases."""
    match = _LIMIT_AND_REQUEST.search(text)
    return (match is not None and int(match[2]) > int(match[1])) or REQUEST_EXCEEDS_LIMIT_PHRASES.found_in(text)
