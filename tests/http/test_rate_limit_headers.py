"""What headers say is left, and what follows for the next request."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import RateLimitExceededError, Rejected
from resilience_kit.execution.waiting import wait_for_ticket_async
from resilience_kit.http.pacing import Pacing, PacingConfig
from resilience_kit.http.rate_limit_headers import BucketReading, RemoteBucket, SendLog, SendPosition, parse_rate_limit_headers
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.testing import FakeClock

OPENAI = {
    "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "30", "x-ratelimit-reset-requests": "30s",
    "x-ratelimit-limit-tokens": "150000", "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6ms",
}  # fmt: skip
ANTHROPIC = {
    "date": "Fri, 21 Nov 2025 12:00:00 GMT",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "10000",
    "anthropic-ratelimit-input-tokens-reset": "2025-11-21T12:00:45Z",
}
WINDOW = {"ratelimit-limit": "100", "ratelimit-remaining": "40", "ratelimit-reset": "50"}


def test_buckets_of_openai():
    """Spans are the time until they are full, which tells that they refill by the minute; they count from the request."""
    assert {
        "x-ratelimit-remaining-requests": BucketReading(60.0, 30.0, 100.0, 130.0, 1.0),
        "x-ratelimit-remaining-tokens": BucketReading(150000.0, 149984.0, 100.0, 100.006, 2500.0),
    } == parse_rate_limit_headers(OPENAI, 100.0, 104.0)


def test_buckets_of_anthropic():
    """Dates count from the answer."""
    assert {
        "anthropic-ratelimit-input-tokens-remaining": BucketReading(40000.0, 10000.0, 100.0, 149.0, 40000 / 60)
    } == parse_rate_limit_headers(ANTHROPIC, 100.0, 104.0)


def test_a_window_does_not_refill():
    """60 of 100 were used and 50 s are left: no usual period refills so."""
    assert {"ratelimit-remaining": BucketReading(100.0, 40.0, 0.0, 50.0, 0.0)} == parse_rate_limit_headers(WINDOW, 0.0, 1.0)


def test_a_daily_limit_refills_by_the_day():
    """Some give the requests of a day."""
    headers = {"x-ratelimit-limit": "10000", "x-ratelimit-remaining": "9999", "x-ratelimit-reset": "8.64s"}
    assert [10000 / 86400] == [each.refill_rate for each in parse_rate_limit_headers(headers, 0.0, 0.0).values()]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-tokens": "100"},  # of Azure: nobody knows until when
        {"x-ratelimit-remaining": "many", "x-ratelimit-reset": "1s"},
        {"x-ratelimit-remaining": "-1", "x-ratelimit-reset": "1s"},
        {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "soon"},
        {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "999d"},
        {"x-ratelimit-reset": "1s", "not-ratelimit-remaining": "1"},
    ],
)
def test_what_says_nothing(headers):
    """Malformed, incomplete, or for longer than seven days."""
    assert {} == parse_rate_limit_headers(headers, 0.0, 0.0)


def test_many_buckets_are_a_few():
    """Memory is bounded, whatever a server sends."""
    names = [chr(97 + number) for number in range(20)]
    headers = {f"x-ratelimit-{what}-{name}": "5" for name in names for what in ("remaining", "reset")}
    assert 8 == len(parse_rate_limit_headers(headers, 0.0, 0.0))
    clock = FakeClock()
    pacing = Pacing(clock=clock)
    for some in (names, names[::-1]):
        permit = pacing.for_host("h").admit()
        permit.observe({f"x-ratelimit-{what}-{name}": "5" for name in some for what in ("remaining", "reset")})
        clock.advance(1.0)
    assert 8 == len(permit.pacer._buckets)


def test_requests_at_about_the_same_time():
    """How many started just before one, just after it, and after it in all."""
    starts = SendLog()
    for second in (0.0, 9.8, 10.0, 10.1, 10.4, 12.0):
        starts.record(second)
    assert SendPosition(before=1, after=2, later=3, sent_at=10.0, number=3) == starts.position_of(3, 10.0)
    assert SendPosition(before=0, after=0, later=0, sent_at=12.0, number=6) == starts.position_of(6, 12.0)


def test_old_starts_are_forgotten():
    """Of a request from before, it is known how many came later."""
    starts = SendLog()
    for number in range(10_000):
        starts.record(float(number))
    assert len(starts._times) <= 4096
    assert 9_999 == starts.position_of(1, 0.0).later


ALONE = SendPosition(0, 0, 0, 0.0, 1)


def due(bucket, now=0.0, *, units=1.0, queued_cost=0.0, reserve=0.1, last=0.0):
    """Seconds from now."""
    return bucket.due_at(now, units, queued_cost, reserve, last) - now


def test_a_window_is_free_while_much_is_left():
    """Down to the reserve."""
    assert 0.0 == due(RemoteBucket(BucketReading(100.0, 11.0, 0.0, 50.0, 0.0), ALONE, 0.0, learns_cost=False))


def test_a_window_that_runs_low_is_spread_over_its_rest():
    """Ten left for fifty seconds: one each five seconds; those who wait come after one another."""
    bucket = RemoteBucket(BucketReading(100.0, 10.0, 0.0, 50.0, 0.0), ALONE, 0.0, learns_cost=False)
    assert [5.0, 10.0, 50.0] == [due(bucket, queued_cost=ahead) for ahead in (0.0, 1.0, 10.0)]
    assert 50.0 == due(RemoteBucket(BucketReading(100.0, 0.0, 0.0, 50.0, 0.0), ALONE, 0.0, learns_cost=False))


def test_a_window_without_a_limit_is_spread_from_its_start():
    """Nobody knows whether much is left. After its end, nobody knows anything."""
    bucket = RemoteBucket(BucketReading(None, 10.0, 0.0, 50.0, 0.0), ALONE, 0.0, learns_cost=False)
    assert (5.0, 0.0) == (due(bucket), due(bucket, 50.0))
    bucket.take(1.0, 50.0)
    assert math.inf == bucket.level


def test_a_window_that_is_over_is_full_again():
    """As long as the longest before it, until something is heard of the next."""
    bucket = RemoteBucket(BucketReading(10.0, 0.0, 0.0, 50.0, 0.0), ALONE, 0.0, learns_cost=False)
    assert (10.0, 0.0) == (due(bucket, 40.0), due(bucket, 50.0))
    for _ in range(10):
        bucket.take(1.0, 60.0)
    assert 50.0 == due(bucket, 60.0)


def test_news_of_a_window_that_is_over_are_none():
    """A slow answer."""
    bucket = RemoteBucket(BucketReading(10.0, 9.0, 0.0, 50.0, 0.0), ALONE, 0.0, learns_cost=False)
    bucket.update(BucketReading(10.0, 0.0, 1.0, 20.0, 0.0), SendPosition(0, 0, 5, 1.0, 2), 30.0)
    assert 0.0 == due(bucket, 30.0)


def test_a_refilling_bucket_is_used_as_it_refills():
    """Above the reserve: 60 a minute, 6 kept."""
    bucket = RemoteBucket(BucketReading(60.0, 6.0, 0.0, 54.0, 1.0), ALONE, 0.0, learns_cost=False)
    assert [1.0, 3.0] == [due(bucket, queued_cost=ahead) for ahead in (0.0, 2.0)]
    assert 0.0 == due(bucket, 1.0)


def test_a_reserve_never_makes_a_request_impossible():
    """One that takes more than the limit less the reserve needs a full bucket."""
    bucket = RemoteBucket(BucketReading(10.0, 0.0, 0.0, 60.0, 1 / 6), ALONE, 0.0, learns_cost=False)
    assert 60.0 == pytest.approx(due(bucket, units=10.0))


def test_answers_of_a_burst_bound_what_is_left():
    """Fifty requests that came in another order than they started: by our own count ten are left, and no answer changes that."""
    for order in (range(50), range(49, -1, -1), random.Random(1).sample(range(50), 50)):
        bucket, starts = RemoteBucket(BucketReading(60.0, 59.0, 0.0, 60.0, 0.0), ALONE, 0.0, learns_cost=False), SendLog()
        bucket.level = 60.0
        for _ in range(50):
            starts.record(10.0)
            bucket.take(1.0, 10.0)
        for place, number in enumerate(order):
            sent = starts.position_of(number + 1, 10.0)
            bucket.update(BucketReading(60.0, 59.0 - place, 10.0, 60.0, 0.0), sent, 11.0)
            assert 10.0 == bucket.level


def test_others_with_the_same_key_are_noticed():
    """An answer may say that less is left than our own requests explain."""
    bucket = RemoteBucket(BucketReading(60.0, 59.0, 0.0, 60.0, 0.0), ALONE, 0.0, learns_cost=False)
    bucket.update(BucketReading(60.0, 20.0, 10.0, 60.0, 0.0), SendPosition(0, 0, 0, 10.0, 2), 11.0)
    assert 20.0 == bucket.level


def test_an_answer_of_before_does_not_say_that_more_is_left():
    """It does not know what was used since."""
    bucket = RemoteBucket(BucketReading(60.0, 20.0, 10.0, 60.0, 0.0), SendPosition(0, 0, 0, 10.0, 2), 11.0, learns_cost=False)
    bucket.update(BucketReading(60.0, 59.0, 0.0, 60.0, 0.0), SendPosition(0, 0, 1, 0.0, 1), 12.0)
    assert 20.0 == bucket.level


def test_what_a_request_takes_of_a_bucket_of_tokens_is_learnt():
    """The mean, from one answer to the next; a bucket of requests knows that it is one."""
    tokens, requests = (
        RemoteBucket(BucketReading(1e5, 9e4, 0.0, 60.0, 0.0), ALONE, 0.0, learns_cost=learns) for learns in (True, False)
    )
    for bucket in (tokens, requests):
        bucket.update(BucketReading(1e5, 8e4, 5.0, 60.0, 0.0), SendPosition(0, 0, 0, 5.0, 11), 6.0)
        bucket.update(BucketReading(1e5, 7e4, 20.0, 60.0, 0.0), SendPosition(0, 0, 0, 20.0, 16), 21.0)
        bucket.update(BucketReading(1e5, 9e4, 61.0, 120.0, 0.0), SendPosition(0, 0, 0, 61.0, 17), 61.0)
    assert (pytest.approx((0.8 * 1e4 + 1e4) / (0.8 * 10 + 5)), 1.0) == (tokens.cost, requests.cost)


names = st.sampled_from(["x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-limit", "anthropic-ratelimit-tokens-reset"])


@given(st.dictionaries(names | st.text(), st.text() | st.floats().map(str) | st.integers().map(str)))
def test_any_headers_are_heard_without_harm(headers):
    """Whatever a server sends, the next request is admitted or refused (invariant 29)."""
    pace = Pacing(clock=FakeClock()).for_host("h", "k")
    pace.admit().observe(headers)
    with contextlib.suppress(RateLimitExceededError):
        pace.admit()
    assert 0.0 < pace._due_at(0.0, 1.0, 0.0) + 1e-9 < math.inf


# --- against services that limit ---------------------------------------------------------------------------------------------


class Refilling:
    """60 s to fill a bucket of requests, and one of tokens if there is one."""

    def __init__(self, clock, limit, tokens=0):
        self.clock, self.limit, self.tokens = clock, limit, tokens
        self.requests_left, self.tokens_left, self.at = float(limit), float(tokens), clock.monotonic()
        self.served = self.refused = 0

    def pass_time(self):
        now = self.clock.monotonic()
        share, self.at = (now - self.at) / 60, now
        self.requests_left = min(self.limit, self.requests_left + share * self.limit)
        self.tokens_left = min(self.tokens, self.tokens_left + share * self.tokens)

    def ask(self, tokens):
        """Whether it is served, the headers, and the hint."""
        self.pass_time()
        good = self.requests_left >= 1 and (not self.tokens or self.tokens_left >= tokens)
        if good:
            self.requests_left, self.tokens_left = self.requests_left - 1, self.tokens_left - tokens
        self.served, self.refused = self.served + good, self.refused + (not good)
        return good, dict(self.headers()), max((1 - self.requests_left) * 60 / self.limit, 0.1)

    def headers(self):
        for name, limit, left in (("requests", self.limit, self.requests_left), ("tokens", self.tokens, self.tokens_left)):
            if limit:
                yield f"x-ratelimit-limit-{name}", str(limit)
                yield f"x-ratelimit-remaining-{name}", str(int(left))
                yield f"x-ratelimit-reset-{name}", f"{(limit - left) * 60 / limit:.3f}s"


class Window(Refilling):
    """All is given back at the full minute."""

    def pass_time(self):
        minute = self.clock.monotonic() // 60
        if minute != self.at:
            self.at, self.requests_left = minute, self.limit

    def headers(self):
        yield "x-ratelimit-limit", str(self.limit)
        yield "x-ratelimit-remaining", str(int(self.requests_left))
        yield "x-ratelimit-reset", str(60 - self.clock.monotonic() % 60)

    def ask(self, tokens):
        good, headers, _ = super().ask(tokens)
        return good, headers, 60 - self.clock.monotonic() % 60


async def load(service, clock, callers, latency, minutes=5, processes=1):
    """So many callers who come again and again, in processes that know nothing of each other; the times of the refusals."""
    paces = [Pacing(PacingConfig(), clock=clock).for_host("h", "k") for _ in range(processes)]
    chance, refused, end = random.Random(1), [], clock.monotonic() + 60 * minutes

    async def request(pace):
        permit = pace.admit()
        outcome = Outcome(OutcomeKind.CANCELLED, begun=False)
        try:
            while permit.turn is not None and (pause := permit.turn.look()) != 0.0:
                await wait_for_ticket_async(permit.turn, clock, math.inf if pause is None else pause, permit.turn.patience)
            if clock.monotonic() >= end:
                return
            good, headers, hint = service.ask(chance.randint(200, 1800))
            if not good:
                refused.append(clock.monotonic())
            await clock.sleep_async(latency * chance.uniform(0.5, 1.5))
            permit.observe(headers)
            verdict = None if good else Verdict(FailureKind.RATE_LIMIT, True, False, hint)
            outcome = Outcome(OutcomeKind.SUCCESS if good else OutcomeKind.FAILURE, verdict=verdict)
        finally:
            permit.settle(outcome)

    async def caller(pace):
        while clock.monotonic() < end:
            try:
                await request(pace)
            except Rejected as error:
                await clock.sleep_async(min(5.0, error.retry_after))

    await asyncio.gather(*(caller(paces[number % processes]) for number in range(callers)))
    return refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Refilling, Window])
@pytest.mark.parametrize(("limit", "callers", "latency"), [(60, 50, 2.0), (600, 50, 1.0), (600, 300, 10.0)])
async def test_a_limit_is_used_up_without_a_429(kind, limit, callers, latency):
    """By at least 95 % once headers are known, and not once is it exceeded."""
    clock = FakeClock(1200.0)
    service = kind(clock, limit)
    assert [] == await load(service, clock, callers, latency)
    assert service.served >= 0.95 * 5 * limit


async def test_a_limit_of_tokens_is_used_up_without_a_429():
    """Requests of 200 to 1800 tokens each, of which nobody knows beforehand."""
    clock = FakeClock(1200.0)
    service = Refilling(clock, 600, tokens=200_000)
    assert [] == await load(service, clock, 50, 2.0)
    assert 1000 * service.served >= 0.95 * 5 * 200_000


@pytest.mark.slow
async def test_processes_that_know_nothing_of_each_other_share_a_limit():
    """Each sees by the headers what the others take. Only at the start, when nobody knows anything, is it exceeded."""
    clock = FakeClock(1200.0)
    service = Refilling(clock, 600)
    refused = await load(service, clock, 60, 2.0, processes=3)
    assert [] == [at for at in refused if at > 1230.0]
    assert service.served >= 0.95 * 5 * 600
