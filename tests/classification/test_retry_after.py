"""How long a service asks to wait."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.classification import classify_response
from resilience_kit.classification.retry_after import MAX_RETRY_AFTER, bounded, http_date, instant, rfc3339, span

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def hint(headers=None, body=None, now=NOW, status=429):
    """The wait in the verdict of a rate limit."""
    return classify_response(status, headers or {}, body, now=now).retry_after


@pytest.mark.table(
    ("value", "expected"),
    [
        ("30", 30.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("5.", 5.0),
        (".5", 0.5),
        ("604800", MAX_RETRY_AFTER),
        ("604801", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("1_0", None),
        ("0x1f", None),
        ("٣٠", None),
        ("9" * 400, None),
        ("20s", None),
        ("12:30", None),
        ("soon: " + "x" * 200, None),
        ("Sat, 21 Nov 2026 00:01:00 GMT", 60.0),
        ("Saturday, 21-Nov-26 00:01:00 GMT", 60.0),
        ("Sat Nov 21 00:01:00 2026", 60.0),
        ("Sat, 21 Nov 2026 01:01:00 +0100", 60.0),
        ("Fri, 20 Nov 2026 00:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2026 00:01:00 +9999", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Sat, 99 Nov 2026 00:01:00 GMT", None),
    ],
)
def test_the_retry_after_header(value, expected):
    """Numbers and all three forms of HTTP dates count; malformed, negative and absurd values are no hint (invariant 29)."""
    assert expected == hint({"Retry-After": value})


def test_milliseconds_come_first_and_a_bad_one_hides_nothing():
    """`retry-after-ms` outranks `retry-after` unless it is unusable."""
    assert [0.25, 30.0, 30.0] == [hint({"retry-after-ms": ms, "retry-after": "30"}) for ms in ("250", "abc", "9" * 12)]


def test_values_that_are_not_text_are_absent():
    """A number or bytes as a header value is no header."""
    assert [None, None] == [hint({"retry-after": 30}), hint({b"retry-after": b"30"})]


@pytest.mark.table("headers", [None, [("retry-after", "3")], "retry-after: 3", 7])
def test_headers_that_are_no_mapping_are_none(headers):
    """Only mappings are headers."""
    assert classify_response(429, headers, None).retry_after is None


def test_a_date_counts_against_now_then_the_answers_own_clock_then_ours():
    """`now` beats `Date`, which beats this machine's clock."""
    headers = {"retry-after": "Sat, 21 Nov 2026 00:01:00 GMT", "date": "Sat, 21 Nov 2026 00:00:30 GMT"}
    ours = {"retry-after": format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)}
    assert [60.0, 30.0] == [hint(headers), hint(headers, now=None)]
    assert 200 < hint(ours, now=None) <= 300


@pytest.mark.table("now", [NOW, NOW.replace(tzinfo=None), NOW.timestamp(), int(NOW.timestamp()), "2026-11-21T00:00:00Z"])
def test_now_may_be_a_datetime_a_number_or_text(now):
    """Each way to write an instant is understood."""
    assert 60.0 == hint({"retry-after": "Sat, 21 Nov 2026 00:01:00 GMT"}, now=now)


def test_what_is_no_instant():
    """Truth values, text without sense and numbers beyond every calendar are no instant."""
    assert [None] * 6 == [instant(value) for value in (True, "soon", "2026-99-99", 1e300, float("nan"), object())]
    assert instant("Sat, 21 Nov 2026 00:00:00 GMT") == NOW.timestamp()


@pytest.mark.table(
    ("headers", "expected"),
    [
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "often"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "17"}, 17.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW.timestamp()) + 9)}, 9.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW.timestamp() + 9) * 1000)}, 9.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "123456789"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "5"}, 5.0),
        ({"ratelimit-remaining-odd name": "0"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-21T00:00:02Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-11-21T00:00:09Z",
            },
            9.0,
        ),
        ({"retry-after": "4", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "17"}, 4.0),
    ],
)
def test_the_reset_of_an_exhausted_bucket(headers, expected):
    """Only buckets that have nothing left count, and the slowest of them decides."""
    assert expected == hint(headers)


def test_an_exhausted_bucket_says_nothing_about_an_unrelated_error():
    """A 400 is not cured by the reset of a bucket."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "17"}
    assert [None, 17.0] == [hint(headers, status=400), hint(headers, status=529)]


@pytest.mark.table(
    ("body", "expected"),
    [
        ({"error": {"details": [{"retryDelay": "34s"}, {"retryDelay": "9s"}]}}, 34.0),
        ({"error": {"details": [{"retryDelay": "-34s"}]}}, None),
        ({"error": {"details": [{"retryDelay": 34}]}}, None),
        ({"error": {"details": [{"retryDelay": "34s"}]}, "retry_after": 3}, 34.0),
        ({"retry_after": 3}, 3.0),
        ({"retry-after": 2.5}, 2.5),
        ({"error": {"retry_after": 4}}, 4.0),
        ({"error": {"retry_after": "4"}}, None),
        ({"error": {"retry_after": True}}, None),
        ({"error": {"deeper": {"retry_after": 4}}}, None),
        ({"retry_after": float("nan")}, None),
        ({"retry_after": 10**400}, None),
    ],
)
def test_the_hint_in_a_body(body, expected):
    """A RetryInfo counts after the headers, a bare number last."""
    assert expected == hint(body=body)


def test_headers_beat_the_body():
    """The header's word is the server's last one."""
    assert 1.0 == hint({"retry-after": "1"}, {"error": {"details": [{"retryDelay": "34s"}], "retry_after": 9}})


@pytest.mark.table(
    ("text", "expected"),
    [
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("8d", None),
        ("5m", 300.0),
        ("5ms", 0.005),
        ("0s", 0.0),
        ("1.2.3s", None),
        ("", None),
        ("  ", None),
        ("s", None),
        ("x" * 99, None),
        (None, None),
        (5, None),
    ],
)
def test_spans(text, expected):
    """Go and protobuf durations are read, other text is not."""
    assert expected == span(text)


def test_a_quota_that_is_final_has_no_hint():
    """Money does not come back by waiting, whatever the header says."""
    body = {"error": {"code": "insufficient_quota"}}
    assert [None, 9.0] == [hint({"retry-after": "9"} | extra, body) for extra in ({}, {"x-should-retry": "true"})]


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none()))
def test_a_bounded_value_is_a_usable_wait(value):
    """What passes is a finite number from zero to seven days (invariant 29)."""
    seconds = bounded(value)
    assert seconds is None or (type(seconds) is float and 0.0 <= seconds <= MAX_RETRY_AFTER and str(seconds)[0] != "-")


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "Retry-After-Ms", "x-ratelimit-remaining", "x-ratelimit-reset", "date"]),
        st.one_of(
            st.text(max_size=40),
            st.floats().map(str),
            st.integers().map(str),
            st.datetimes(timezones=st.just(UTC)).map(lambda moment: format_datetime(moment, usegmt=True)),
            st.datetimes(timezones=st.just(timezone(timedelta(hours=-23)))).map(datetime.isoformat),
        ),
    ),
    st.one_of(st.none(), st.datetimes(), st.floats(), st.text(max_size=30)),
)
def test_no_header_makes_a_wait_that_nobody_can_keep(headers, now):
    """Whatever the headers say, the hint is None or within bounds (invariant 29)."""
    seconds = hint(headers, now=now)
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER


def test_dates_at_the_edges_of_the_calendar():
    """Instants that no clock can hold are no instants."""
    assert [None, None] == [rfc3339("0001-01-01T00:00:00+99:00"), http_date("Mon, 01 Jan 99999 00:00:00 GMT")]
    assert rfc3339("0001-01-01T00:00:00+23:59") is not None
