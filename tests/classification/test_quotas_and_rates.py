"""A quota that refills within minutes is a rate: it is retried, and no account is latched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.classification import FailureKind, Verdict, classify_response

CODES = ("request_quota_exceeded", "token_quota_exceeded", "quota_exceeded", "QuotaExceeded", "RESOURCE_EXHAUSTED",
         "ServiceQuotaExceededException", "api_quota_exceeded", "usage_limit_exceeded", "insufficient_quota",
         "Throttling.AllocationQuota", "Throttling.RateQuota", "rpm_quota_exceeded")  # fmt: skip
WINDOWS = (
    "Requests per minute limit exceeded - too many requests sent.",
    "Tokens per minute limit exceeded.",
    "Quota exceeded for quota metric 'Generate requests' and limit 'Generate requests per minute'.",
    "You have exceeded 10 requests per second.",
    "RPM limit reached",
    "limit: 40000 TPM",
    "Limited to 40 API calls / minute",
    "20 QPS exceeded",
    "每分钟请求数超过限制",
)
PERIODS = (
    "Requests per day limit exceeded",
    "Daily quota exceeded",
    "You have used up your monthly quota",
    "Limited to 1000 API calls / month",
)
MONEY = ("billing_hard_limit_reached", "insufficient_balance", "credit_balance_exhausted", "daily_quota_exceeded",
         "monthly_quota_exceeded", "project_spend_limit_exceeded", "AllocationQuota.FreeTierOnly", "insufficient_user_quota",
         "Arrearage", "billing_quota_exceeded", "pre_consume_token_quota_failed")  # fmt: skip


def kind(status, code, message, headers=None):
    """The kind of an error with this code and message."""
    return classify_response(status, headers or {}, {"message": message, "type": "x", "param": "quota", "code": code}).kind.value


@pytest.mark.table("message", WINDOWS)
@pytest.mark.table("code", CODES)
def test_a_quota_beside_a_window_of_minutes_is_a_rate(code, message):
    """Whatever the code calls it, what comes back within a minute is retried."""
    assert ["rate_limit"] * 3 == [kind(status, code, message) for status in (429, 403, 400)]


@pytest.mark.table("message", PERIODS)
@pytest.mark.table("code", CODES)
def test_a_quota_of_a_day_or_a_month_stays_one(code, message):
    """The wait is longer than any call lasts, also where a header asks for a few seconds."""
    assert ["quota"] * 2 == [kind(429, code, message, headers) for headers in ({}, {"retry-after": "20"})]


@pytest.mark.table("code", ["quota_exceeded", "QuotaExceeded", "api_quota_exceeded", "usage_limit_exceeded"])
@pytest.mark.table(
    ("headers", "expected"),
    [
        ({"Retry-After": "1"}, "rate_limit"),
        ({"retry-after-ms": "250"}, "rate_limit"),
        ({"retry-after": "300"}, "rate_limit"),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"}, "rate_limit"),
        ({"retry-after": "301"}, "quota"),
        ({"retry-after": "86400"}, "quota"),
        ({"retry-after": "0"}, "quota"),
        ({}, "quota"),
    ],
)
def test_a_short_wait_tells_a_rate_from_a_quota(code, headers, expected):
    """Up to five minutes: rates refill by the second or the minute, quotas by the day, the month or the payment."""
    assert expected == kind(429, code, "Quota exceeded", headers)


@pytest.mark.table("code", MONEY)
@pytest.mark.table("message", ["it failed", *WINDOWS])
def test_money_is_no_rate(code, message):
    """Neither a window nor a short wait pays a bill."""
    assert ["quota"] * 2 == [kind(429, code, message, headers) for headers in ({}, {"retry-after": "2"})]


@pytest.mark.table("code", ["insufficient_quota", "exceeded_current_quota_error"])
def test_the_accounts_own_quota_has_no_short_wait(code):
    """These codes mean the account's money; only a window named in words makes them a rate."""
    assert ["quota", "rate_limit"] == [kind(429, code, text, {"retry-after": "2"}) for text in ("it failed", "RPM exceeded")]


@given(st.sampled_from(CODES), st.sampled_from(WINDOWS))
def test_payment_required_is_a_quota_in_any_words(code, message):
    """A 402 asks for money."""
    assert "quota" == kind(402, code, message)


def test_a_rate_keeps_its_hint():
    """The wait that proves the rate is the wait that is kept."""
    body = {"error": {"code": "quota_exceeded", "message": "Quota exceeded"}}
    verdict = classify_response(429, {"retry-after": "7"}, body)
    assert Verdict(FailureKind.RATE_LIMIT, retryable=True, counts_against_breaker=False, retry_after=7.0) == verdict


def test_a_request_above_the_limit_of_a_minute_is_not_repeated():
    """It would not fit an empty bucket either."""
    body = {"error": {"code": "quota_exceeded", "message": "Tokens per minute: Limit 100, Requested 200"}}
    verdict = classify_response(429, {}, body)
    assert (FailureKind.RATE_LIMIT, False) == (verdict.kind, verdict.retryable)


@pytest.mark.table(
    ("detail", "expected"),
    [
        ({"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}, "rate_limit"),
        ({"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}, "quota"),
        ({"metadata": {"quota_limit": "RequestsPerMinutePerProject", "quota_unit": "1/min/{project}"}}, "rate_limit"),
        ({"metadata": {"quota_unit": "1/d/{project}"}}, "quota"),
    ],
)
def test_google_names_the_window_of_its_quota(detail, expected):
    """The details tell what the message, which speaks of plan and billing either way, does not."""
    message = "You exceeded your current quota, please check your plan and billing details."
    error = {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": [detail]}
    assert expected == classify_response(429, {}, {"error": error}).kind


@pytest.mark.table(
    ("message", "expected"),
    [
        ("Out of call volume quota. Quota will be replenished in 00:00:45.", "rate_limit"),
        ("Out of call volume quota. Quota will be replenished in 2.12:34:56.", "quota"),
        ("You have reached your usage limit of 20 requests per minute.", "rate_limit"),
        ("You have reached your usage limit.", "quota"),
    ],
)
def test_words_name_the_window(message, expected):
    """Without a code the words have to do."""
    assert expected == classify_response(403, {}, {"statusCode": 403, "message": message}).kind


@pytest.mark.table("status", [200, 400, 403, 429, 500, 503])
@pytest.mark.table("words", ["quota exceeded", "Resource exhausted", "Resource has been exhausted (e.g. check quota)."])
def test_words_without_a_code_leave_the_breaker_alone(status, words):
    """A quota that nobody explains is a rate: a bill would stop the whole account."""
    verdict = classify_response(status, {}, {"error": {"message": words}})
    assert (FailureKind.RATE_LIMIT, True, False) == (verdict.kind, verdict.retryable, verdict.counts_against_breaker)


@pytest.mark.table("window", ["per 60 seconds", "every 10s", "each 5 minutes", "100/60s"])
def test_a_quota_of_some_seconds_is_a_rate(window):
    """A window may be told as a number of seconds or minutes."""
    body = {"error": {"message": f"Quota exceeded for requests {window}", "code": "quotaExceeded"}}
    assert FailureKind.RATE_LIMIT == classify_response(403, {}, body).kind
