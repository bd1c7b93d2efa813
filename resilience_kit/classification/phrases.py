"""What an error says in words, for the many that have no code.

Each family is a list of lower-case phrases. Which families may
overrule which first impression is written in `REFINEMENTS`, most specific first, because the same words mean different
things under different statuses: `too many tokens` is a long prompt under 400 and a rate under 429.
"""

from __future__ import annotations

import re

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


class Phrases:
    """A family of phrases; a tuple among them is a set of words that must all be there."""

    __slots__ = ("_all_of", "_any_of")

    def __init__(self, *phrases: str | tuple[str, ...]) -> None:
        self._any_of = tuple(phrase for phrase in phrases if isinstance(phrase, str))
        self._all_of = tuple(phrase for phrase in phrases if not isinstance(phrase, str))

    def found_in(self, text: str) -> bool:
        """Whether lower-case `text` holds any of them."""
        has = text.__contains__
        return any(map(has, self._any_of)) or any(all(map(has, parts)) for parts in self._all_of)


BILLING_PHRASES = Phrases(
    "credit balance",
    "insufficient credit",
    "insufficient balance",
    "insufficient fund",
    "insufficient account balance",
    "insufficient quota",
    "insufficient_quota",
    "your current quota",
    "quota is not enough",
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
    "额度不足",
    "额度已用",
    "充值",
    ("budget", "exceed"),
    ("budget", "exhaust"),
    ("budget", "limit"),
    ("trial", "expired"),
    ("subscription", "expired"),
    ("credit", "exhaust"),
)

USAGE_LIMIT_PHRASES = Phrases("usage threshold", "usage limit", "call volume quota")

QUOTA_PHRASES = Phrases(
    ("quota", "exceed"),
    ("quota", "exhaust"),
    ("quota", "reached"),
    ("quota", "used up"),
    "out of quota",
    "over quota",
    "quota limit",
    ("resource", "has been exhausted"),
    "resource exhausted",
    "resources exhausted",
    "resource_exhausted",
    "配额",
)
"""A quota of which nothing tells when it comes back: a rate, since calling it a bill would stop a whole account."""

LONG_WINDOW_PHRASES = Phrases(
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

_LONG_WINDOWS, _LIMITS = ("per day", "daily", "per month", "monthly", "weekly"), ("limit", "quota", "exceed")
_LONG_WINDOW_LIMIT_PHRASES = Phrases(*((period, limit) for period in _LONG_WINDOWS for limit in _LIMITS))

BUDGET_HELD_PHRASES = Phrases(("in-flight", "budget"), ("in flight", "budget"), "reserved by requests in")

REQUEST_EXCEEDS_LIMIT_PHRASES = Phrases(
    "request too large",
    "request is too large",
    "reduce your message size",
    "larger than the limit",
    ("single request", "exceed"),
)

CONTEXT_LENGTH_PHRASES = Phrases(
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

CONTENT_FILTER_PHRASES = Phrases(
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
    "敏感",
    ("violat", "polic"),
    ("violat", "guideline"),
)

AUTH_PHRASES = Phrases(
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
    "authentication is invalid",
    "access token invalid",
    "invalid access token",
    "鉴权失败",
    "身份验证",
    "令牌无效",
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

PERMISSION_PHRASES = Phrases(
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

AGREEMENT_PHRASES = Phrases("use case details", "not have access", "must be verified", "terms acceptance", "accept the terms")

NOT_FOUND_PHRASES = Phrases(
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

OVERLOAD_PHRASES = Phrases(
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
    "繁忙",
    "过载",
)

RATE_PHRASES = Phrases(
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
    "too frequent",
    "qps request limit",
    "request limit reached",
    "limit exceeded(rpm)",
    "limit exceeded(tpm)",
    ("limit", "per minute"),
    ("limit", "per second"),
    ("exceed", "per minute"),
    ("exceed", "per second"),
    "速率限制",
    "频率",
    "频繁",
    "限流",
    "并发",
)

TIMEOUT_PHRASES = Phrases(
    "timed out", "timeout", "time-out", "time out", "deadline exceeded", "deadline_exceeded", "took too long"
)

PENDING_PHRASES = Phrases("still being processed", "agreement is being", "agreement pending")

BLOCKED_PHRASES = Phrases("temporarily blocked", ("account", "has been blocked"))

LOADING_PHRASES = Phrases(
    "is loading",
    "currently loading",
    "loading model",
    "model is not ready",
    "not ready to serve",
    "warming up",
    "cold start",
    "starting up",
)

MEMORY_PHRASES = Phrases(
    "requires more system memory",
    "requires more memory",
    "failed to load model",
    "unable to load model",
    "cudamalloc failed",
)

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
    (_LONG_WINDOW_LIMIT_PHRASES, QUOTA),
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
_SHORT_WINDOW_PHRASES = Phrases(
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
_UPSELL_PHRASES = frozenset(
    {BILLING_PHRASES, USAGE_LIMIT_PHRASES, LONG_WINDOW_PHRASES}
)  # beside a short window these only praise a dearer plan

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
    """The more precise verdict that the wording gives, else `verdict` itself. `short_wait`: the service asks for a short wait."""
    if not text:
        return verdict
    rated = verdict.kind is FailureKind.RATE_LIMIT
    if rated and exceeds_limit(text):
        return REQUEST_EXCEEDS_LIMIT
    windowed = rated and _SHORT_WINDOW_PHRASES.found_in(text)
    for phrases, better in REFINEMENTS.get(verdict.kind, ()):
        if windowed and phrases in _UPSELL_PHRASES:
            continue
        if phrases.found_in(text):
            return RATE_LIMIT if phrases is USAGE_LIMIT_PHRASES and (short_wait or _is_short_usage(text)) else better
    return verdict


def is_rate_limit(code: str, text: str, *, short_wait: bool) -> bool:
    """Return whether a code that speaks of a quota means a rate: beside a window of seconds or minutes, or a short wait.

    `code` is the code, plain. A code that speaks of money, or a text of a day or a month, stays a quota. So does a short wait
    beside a code that means the account's own quota, or a text that speaks of money.
    """
    if _BILLING_IN_CODE.search(code) or LONG_WINDOW_PHRASES.found_in(text):
        return False
    if _WINDOW.search(text) or _WINDOW_IN_CODE.search(code):
        return True
    return (
        not any(own in code for own in _ACCOUNT_QUOTA)
        and not BILLING_PHRASES.found_in(text)
        and (short_wait or _SHORT_WINDOW_PHRASES.found_in(text))
    )


def _is_short_usage(text: str) -> bool:
    return _WINDOW.search(text) is not None or _REPLENISHED.search(text) is not None


def exceeds_limit(text: str) -> bool:
    """Return whether one request is larger than the limit itself, by its numbers or in words."""
    match = _LIMIT_AND_REQUEST.search(text)
    return (match is not None and int(match[2]) > int(match[1])) or REQUEST_EXCEEDS_LIMIT_PHRASES.found_in(text)
