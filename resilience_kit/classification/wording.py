"""What an error says in words, for the many that have no code.

Each family is a list of lower-case phrases. Which families may
overrule which first impression is written in `REFINEMENTS`, most specific first, because the same words mean different
things under different statuses: `too many tokens` is a long prompt under 400 and a rate under 429.
"""

from __future__ import annotations

import re

from resilience_kit.classification.verdicts import (
    AUTH,
    BROKEN_SERVER,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    NOT_FOUND,
    OVERLOADED,
    PENDING,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    REQUEST_OVER_LIMIT,
    SERVER_ERROR,
    TIMEOUT,
    TRANSIENT,
)
from resilience_kit.outcome import FailureKind, Verdict


class Phrases:
    """A family of phrases; a tuple among them is a set of words that must all be there."""

    __slots__ = ("_together", "_whole")

    def __init__(self, *phrases: str | tuple[str, ...]) -> None:
        self._whole = tuple(phrase for phrase in phrases if isinstance(phrase, str))
        self._together = tuple(phrase for phrase in phrases if not isinstance(phrase, str))

    def said_in(self, text: str) -> bool:
        """Whether lower-case `text` holds any of them."""
        has = text.__contains__
        return any(map(has, self._whole)) or any(all(map(has, words)) for words in self._together)


MONEY = Phrases(
    "credit balance",
    "insufficient credit",
    "insufficient balance",
    "insufficient fund",
    "insufficient account balance",
    "insufficient quota",
    "insufficient_quota",
    "not enough credit",
    "not enough balance",
    "out of credit",
    "no credits",
    "no prepaid credits",
    "more credits",
    "remaining credits",
    "available credits",
    "included credits",
    "credits are depleted",
    "credits have been exhausted",
    "purchase credits",
    "purchase more",
    "add credits",
    "buy credits",
    "negative balance",
    "account balance",
    "plan and billing",
    "billing details",
    "billing hard limit",
    "billing limit",
    "billing to be enabled",
    "billing is not",
    "billing account",
    "billing has been disabled",
    "enable billing",
    "spend limit",
    "spending limit",
    "spend cap",
    "spending cap",
    "usage threshold",
    "usage limit",
    "call volume quota",
    "payment required",
    "payment method",
    "payment instrument",
    "unpaid invoice",
    "past invoices",
    "arrears",
    "overdue",
    "top up",
    "recharge",
    "free quota",
    "free tier is not available",
    "free allocation",
    "余额不足",
    "欠费",
    ("budget", "exceed"),
    ("budget", "exhaust"),
    ("budget", "limit"),
    ("trial", "expired"),
    ("subscription", "expired"),
    ("credit", "exhaust"),
)

PERIOD = Phrases(
    "per day",
    "per-day",
    "per_day",
    "perday",
    "/day",
    "/ day",
    "a day",
    "per month",
    "per-month",
    "/month",
    "/ month",
    "a month",
    ("daily", "limit"),
    ("daily", "quota"),
    ("daily", "free"),
    ("monthly", "limit"),
    ("monthly", "quota"),
    ("monthly", "usage"),
    ("monthly", "cap"),
    ("weekly", "limit"),
)

HELD = Phrases(("in-flight", "budget"), ("in flight", "budget"), "reserved by requests in")

OVER_LIMIT = Phrases(
    "request too large",
    "request is too large",
    "reduce your message size",
    "larger than the limit",
    ("single request", "exceed"),
)

CONTEXT = Phrases(
    "context length",
    "context window",
    "context_length",
    "context_window",
    "context size",
    "context limit",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "input too long",
    "too many tokens",
    "too many input tokens",
    "maximum number of tokens",
    "maximum number of input tokens",
    "maximum prompt length",
    "maximum input length",
    "max input length",
    "max input tokens",
    "input token count",
    "input length should be",
    "token limit",
    "tokens limit",
    "`max_new_tokens` must be",
    "`inputs` must have less than",
    "reduce the length of",
    "reduce your prompt",
    "length limit was reached",
    "string too long",
    ("exceed", "maximum token"),
    ("tokens", "exceed", "maximum"),
    ("current length is", "while limit is"),
    ("prompt", "tokens", "too large"),
)

FILTERED = Phrases(
    "content filter",
    "content_filter",
    "content management policy",
    "content policy",
    "content policies",
    "content moderation",
    "safety system",
    "safety filter",
    "safety settings",
    "safety reasons",
    "safety policy",
    "blocked by safety",
    "responsible ai",
    "responsibleai",
    "usage policies",
    "usage policy",
    "usage guidelines",
    "flagged",
    "guardrail",
    "prohibited content",
    "prohibited_content",
    "inappropriate content",
    "harmful content",
    "sensitive content",
    "sensitive information",
    "nsfw",
    "requires moderation",
    ("violat", "polic"),
    ("violat", "guideline"),
)

CREDENTIAL = Phrases(
    "invalid api key",
    "invalid_api_key",
    "invalid x-api-key",
    "invalid api token",
    "invalid token",
    "invalid authentication",
    "invalid credential",
    "incorrect api key",
    "api key not valid",
    "api key not found",
    "api key expired",
    "api key is invalid",
    "api key is missing",
    "api key required",
    "api key provided",
    "api key was reported",
    "api key has been",
    "api_key client option",
    "missing api key",
    "no api key",
    "no api-key",
    "not authenticated",
    "authentication failed",
    "authentication error",
    "authentication required",
    "could not validate credentials",
    "credentials were not provided",
    "no credentials",
    "missing credentials",
    "unable to locate credentials",
    "unauthenticated",
    "unauthorized",
    "security token",
    "request signature",
    "token expired",
    "token has expired",
    "token is expired",
    "expired token",
    "subscription key",
    "not logged in",
    "please login",
    "please log in",
)

DENIED = Phrases(
    "permission",
    "not authorized",
    "not have access",
    "no access to",
    "access denied",
    "access is denied",
    "access to this model",
    "request access",
    "country, region, or territory",
    "country or region",
    "location is not supported",
    "not available in your",
    "not available in this region",
    "must be verified",
    "organization has been",
    "terms acceptance",
    "accept the terms",
    "has not been used in project",
    "use case details",
    "not in your plan",
    "firewall rules",
    "ip address",
)

NEEDS_AGREEMENT = Phrases("use case details", "not have access", "must be verified", "terms acceptance", "accept the terms")

MISSING = Phrases(
    "model not found",
    "model_not_found",
    "no such model",
    "unknown model",
    "invalid model name",
    "invalid model:",
    "invalid model id",
    "not a valid model",
    "model identifier is invalid",
    "model has been deprecated",
    "decommissioned",
    "end of its life",
    "try pulling it",
    ("model", "does not exist"),
    ("model", "not exist"),
    ("model", "no longer"),
    ("model", "has been retired"),
    ("deployment", "does not exist"),
    ("model", "' not found"),
    ("model", "` not found"),
    ("models/", "not found"),
)

CROWDED = Phrases(
    "overloaded",
    "over capacity",
    "at capacity",
    "no capacity",
    "capacity exceeded",
    "capacity constraint",
    "insufficient capacity",
    "not enough capacity",
    "capacity for this model",
    "capacity available",
    "available capacity",
    "high demand",
    "high traffic",
    "high load",
    "heavy load",
    "under load",
    "too busy",
    "server busy",
    "server is busy",
    "servers are busy",
    "system is busy",
    "queue is full",
    "queue full",
    "pending requests exceeded",
    "no instances available",
    "no available channel",
    "out of resources",
)

FAST = Phrases(
    "rate limit",
    "rate-limit",
    "rate_limit",
    "ratelimit",
    "too many requests",
    "too many concurrent",
    "too quickly",
    "slow down",
    "throttl",
    "requests per minute",
    "tokens per minute",
    "concurrency limit",
    "concurrent request",
)

LATE = Phrases("timed out", "timeout", "time-out", "time out", "deadline exceeded", "deadline_exceeded", "took too long")

NOT_YET = Phrases("still being processed", "agreement is being", "agreement pending")

BLOCKED = Phrases("temporarily blocked", ("account", "has been blocked"))

WARMING = Phrases(
    "is loading",
    "currently loading",
    "loading model",
    "model is not ready",
    "not ready to serve",
    "warming up",
    "cold start",
    "starting up",
)

NO_MEMORY = Phrases(
    "requires more system memory",
    "requires more memory",
    "failed to load model",
    "unable to load model",
    "cudamalloc failed",
)

_INVALID = (
    (MONEY, QUOTA),
    (PERIOD, QUOTA),
    (FILTERED, CONTENT_FILTER),
    (CONTEXT, CONTEXT_LENGTH),
    (CREDENTIAL, AUTH),
    (MISSING, NOT_FOUND),
    (DENIED, PERMISSION),
    (FAST, RATE_LIMIT),
    (CROWDED, OVERLOADED),
)
_DENIED = (
    (MONEY, QUOTA),
    (NOT_YET, PENDING),
    (BLOCKED, PERMISSION),
    (FILTERED, CONTENT_FILTER),
    (CONTEXT, CONTEXT_LENGTH),
    (CREDENTIAL, AUTH),
    (FAST, RATE_LIMIT),
)
_SERVER = (
    (MONEY, QUOTA),
    (CROWDED, OVERLOADED),
    (NO_MEMORY, BROKEN_SERVER),
    (CONTEXT, CONTEXT_LENGTH),
    (FAST, RATE_LIMIT),
    (LATE, TIMEOUT),
    (CREDENTIAL, AUTH),
    (FILTERED, CONTENT_FILTER),
    (MISSING, NOT_FOUND),
    (WARMING, TRANSIENT),
)

REFINEMENTS: dict[FailureKind, tuple[tuple[Phrases, Verdict], ...]] = {
    FailureKind.INVALID_REQUEST: _INVALID,
    FailureKind.RATE_LIMIT: (
        (OVER_LIMIT, REQUEST_OVER_LIMIT),
        (MONEY, QUOTA),
        (PERIOD, QUOTA),
        (CROWDED, OVERLOADED),
        (WARMING, TRANSIENT),
    ),
    FailureKind.AUTH: ((Phrases("ip not", "ip address", "country, region, or territory"), PERMISSION), (MONEY, QUOTA)),
    FailureKind.PERMISSION: _DENIED,
    FailureKind.NOT_FOUND: ((NEEDS_AGREEMENT, PERMISSION),),
    FailureKind.SERVER_ERROR: _SERVER,
    FailureKind.TRANSIENT: ((CROWDED, OVERLOADED), (MONEY, QUOTA), (FAST, RATE_LIMIT)),
    FailureKind.UNKNOWN: (*_INVALID, (LATE, TIMEOUT), (WARMING, TRANSIENT), (Phrases("internal server error"), SERVER_ERROR)),
}

_LIMIT_AND_REQUEST = re.compile(r"limit:? ([0-9]{1,18}).{0,60}?requested:? ([0-9]{1,18})", re.ASCII | re.DOTALL)
_SHORT_WINDOW = Phrases(
    "try again in",
    "retry in",
    "retry after",
    "per second",
    "per min",
    "per-min",
    "/min",
    "/ min",
    "hourly",
    "per hour",
)
_SALES_TALK = frozenset({MONEY, PERIOD})  # beside a short window these only praise a dearer plan


def refine(verdict: Verdict, text: str) -> Verdict:
    """The more precise verdict that the wording gives, else `verdict` itself."""
    if not text:
        return verdict
    rated = verdict.kind is FailureKind.RATE_LIMIT
    if rated and _asks_too_much(text):
        return REQUEST_OVER_LIMIT
    soon = rated and _SHORT_WINDOW.said_in(text)
    for phrases, better in REFINEMENTS.get(verdict.kind, ()):
        if not (soon and phrases in _SALES_TALK) and phrases.said_in(text):
            return better
    return verdict


def _asks_too_much(text: str) -> bool:
    match = _LIMIT_AND_REQUEST.search(text)
    return match is not None and int(match[2]) > int(match[1])
