"""Parts of unlisted codes: `project_budget_exceeded` is about money, whatever the provider. First match wins.

What names a layer, as `upstream_server_error` and `model_unavailable` do, counts only when the status is not
informative.
"""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    AUTH,
    BUDGET_HELD,
    CONFLICT,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    NOT_FOUND,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    SERVER_ERROR,
    TIMEOUT,
    TRANSIENT,
)
from resilience_kit.outcome import Verdict

LAYERS = ("upstream", "provider", "gateway", "badresponse", "relay", "proxy", "backend")

FAMILIES: tuple[tuple[tuple[str, ...], Verdict], ...] = (
    (("inflightbudget",), BUDGET_HELD),
    (("throttl", "ratelimit", "toomanyrequest", "concurrencylimit", "requestquota", "tokenquota", "ratequota"), RATE_LIMIT),
    (("billing", "spendlimit", "spendinglimit", "budget", "credit", "balance", "payment", "arrear", "quotaexceed"), QUOTA),
    (("insufficientquota", "exceededquota", "dailylimit", "monthlylimit", "usagelimit", "spendcap"), QUOTA),
    (("contextlength", "contextwindow", "contextsize", "prompttoolong", "inputtoolong", "tokenlimit"), CONTEXT_LENGTH),
    (("contentfilter", "contentpolicy", "moderation", "guardrail", "responsibleai", "safety", "sensitive"), CONTENT_FILTER),
    (("overload", "capacity", "serverbusy"), OVERLOADED),
    (("timeout", "timedout", "deadline"), TIMEOUT),
    (("apikey", "authenticat", "unauthorized", "credential", "invalidtoken", "expiredtoken"), AUTH),
    (("permission", "accessdenied", "forbidden", "unsupportedcountry", "unsupportedregion"), PERMISSION),
    (("notfound", "nosuchmodel", "doesnotexist", "unknownmodel", "deprecated", "decommission"), NOT_FOUND),
    (("unavailable", "notready"), TRANSIENT),
    (("conflict",), CONFLICT),
    (("internalserver", "servererror", "internalerror", *LAYERS), SERVER_ERROR),
)
