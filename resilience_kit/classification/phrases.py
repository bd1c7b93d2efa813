"""Phrases by which error messages without a code are recognized, as data: one phrase a line, grouped by meaning.

All are lower case. `refine` decides which group may replace which verdict.
"""

from __future__ import annotations


class Phrases:
    """A group of phrases; a tuple among them matches when all its parts do."""

    __slots__ = ("_all_of", "_any_of")

    def __init__(self, *phrases: str | tuple[str, ...]) -> None:
        self._any_of = tuple(phrase for phrase in phrases if isinstance(phrase, str))
        self._all_of = tuple(phrase for phrase in phrases if not isinstance(phrase, str))

    def found_in(self, text: str) -> bool:
        """Return whether lower-case `text` contains any of them."""
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
LONG_WINDOW_LIMIT_PHRASES = Phrases(*((period, limit) for period in _LONG_WINDOWS for limit in _LIMITS))

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

SHORT_WINDOW_PHRASES = Phrases(
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
