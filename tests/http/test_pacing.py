"""One pace for all callers of a host with a key: parked together, latched together, clean with another key."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from types import SimpleNamespace

import httpx2
import pytest

from resilience_kit._fork import _reset_all
from resilience_kit.classification import classify_response
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.context import priority
from resilience_kit.errors import (
    AuthenticationError,
    BillingStoppedError,
    ConfigurationError,
    CredentialRefusedError,
    RateLimitError,
    RateLimitExceededError,
    Rejected,
)
from resilience_kit.events import AccessLatched, AccessRestored, CallersParked, EventStream
from resilience_kit.guards import Guard, Permit, guard_kind_of
from resilience_kit.http.credentials import model_of
from resilience_kit.http.pacing import Pacing, PacingConfig, shared_pacing
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing import FakeClock

HOST, KEY = "api.example.com", "Bearer sk-canary-7"
GOOD = Outcome(OutcomeKind.SUCCESS)
LEFT_EARLY = Outcome(OutcomeKind.CANCELLED)


def bad(kind, *, retryable=False, retry_after=None, counts=False):
    """An outcome with a verdict."""
    return Outcome(OutcomeKind.FAILURE, verdict=Verdict(FailureKind(kind), retryable, counts, retry_after))


TOO_MANY = bad("rate_limit", retryable=True, retry_after=20.0)


class World:
    """A pacing on a fake clock, and what it told."""

    def __init__(self, **options):
        self.clock, self.events = FakeClock(1000.0), []
        stream = EventStream()
        stream.add_listener(self.events.append)
        self.pacing = Pacing(PacingConfig(**options), clock=self.clock, events=stream)
        self.pace = self.pacing.for_host(HOST, KEY)

    def send(self, outcome, headers=None, pace=None):
        """A request that need not wait, its head and its end."""
        permit = (pace or self.pace).admit()
        assert permit.turn is None
        if headers is not None:
            permit.observe(headers)
        permit.settle(outcome)
        return permit

    def refused(self, pace=None):
        """Who refuses, and for how long; None when nobody does. Takes nothing."""
        try:
            (pace or self.pace)._access_state.raise_if_suspended(self.clock.monotonic(), HOST)
        except Rejected as error:
            return type(error), error.retry_after
        return None


@pytest.fixture
def world():
    """The defaults."""
    return World()


def test_a_pace_is_a_guard(world):
    """And its permits are permits."""
    assert isinstance(world.pace, Guard)
    assert isinstance(world.pace.admit(), Permit)
    assert world.pace.fits()


# --- parking -----------------------------------------------------------------------------------------------------------------


def test_one_429_parks_everybody(world):
    """Until its hint, with a turn to wait for; told once."""
    world.send(TOO_MANY)
    world.send_again = world.pace.admit()
    assert (20.0, False) == (world.send_again.turn.look(), world.pace.fits())
    world.send_again.settle(TOO_MANY)
    assert [CallersParked(operation=HOST, seconds=20.0)] == world.events
    world.clock.advance(20.0)
    assert world.pace.admit().turn is None


def test_a_longer_hint_extends_and_a_shorter_one_does_not_shorten(world):
    """Of several 429s to requests that were under way together."""
    permits = [world.pace.admit() for _ in range(3)]
    for permit, seconds in zip(permits, (5.0, 30.0, 1.0), strict=True):
        permit.settle(bad("rate_limit", retryable=True, retry_after=seconds))
    assert 30.0 == world.pace.admit().turn.look()


@pytest.mark.parametrize(
    "outcome",
    [
        bad("rate_limit", retryable=False, retry_after=20.0),  # one request is too large: others are not
        bad("rate_limit", retryable=True),
        bad("overloaded", retryable=True, retry_after=20.0, counts=True),  # the breaker's business
        bad("server_error", retryable=True, retry_after=20.0, counts=True),
        GOOD,
        LEFT_EARLY,
    ],
)
def test_what_does_not_park(world, outcome):
    """Only a rate limit with a hint does, and what is local trouble with one."""
    world.send(outcome)
    assert world.pace.admit().turn is None


def test_a_wait_beyond_the_longest_is_a_refusal(world):
    """Nobody sleeps for an hour; the refusal says when to come back (invariant 29)."""
    world.send(bad("rate_limit", retryable=True, retry_after=3600.0))
    with pytest.raises(RateLimitExceededError, match=f"'{HOST}' is used up; try again in 3600.0 s"):
        world.pace.admit()


def test_whoever_waits_and_is_parked_for_longer_is_refused(world):
    """When it looks again; until then its place is kept."""
    first, second = world.pace.admit(), world.pace.admit()
    first.settle(TOO_MANY)
    waiting = world.pace.admit()
    assert 20.0 == waiting.turn.look()
    second.settle(bad("rate_limit", retryable=True, retry_after=3600.0))
    with pytest.raises(RateLimitExceededError):
        waiting.turn.look()
    waiting.settle(Outcome(OutcomeKind.CANCELLED, begun=False))
    assert 0 == world.pace.waiting


# --- latches -----------------------------------------------------------------------------------------------------------------


def test_a_refused_credential_is_tried_once_a_minute(world):
    """By whoever comes first; the others are refused, with the time of the next trial."""
    world.send(bad("auth"))
    assert [AccessLatched(operation=HOST, why="credential", retry_after=60.0)] == world.events
    with pytest.raises(CredentialRefusedError, match=f"credential for '{HOST}' was refused; replace it; next trial in 60.0 s"):
        world.pace.admit()
    world.clock.advance(60.0)
    trial = world.pace.admit()
    assert (True, (CredentialRefusedError, 60.0)) == (trial.is_trial, world.refused())
    trial.settle(bad("auth"))
    assert (CredentialRefusedError, 60.0) == world.refused()
    assert 1 == len(world.events)


def test_a_trial_that_works_lifts_the_latch(world):
    """And is told."""
    world.send(bad("auth"))
    world.clock.advance(60.0)
    world.send(GOOD)
    assert (None, AccessRestored(operation=HOST, why="credential")) == (world.refused(), world.events[-1])
    assert not world.pace.admit().is_trial


@pytest.mark.parametrize(
    ("kind", "lifted"), [("not_found", True), ("rate_limit", True), ("server_error", False), ("timeout", False)]
)
def test_a_trial_that_got_past_the_credential_lifts_it_too(world, kind, lifted):
    """A 404 says that the key is good; a 500 says nothing of it."""
    world.send(bad("auth"))
    world.clock.advance(60.0)
    world.send(bad(kind))
    assert lifted == (world.refused() is None)


def test_a_trial_that_was_cancelled_goes_to_the_next(world):
    """Nothing was learnt (invariant 3)."""
    world.send(bad("auth"))
    world.clock.advance(60.0)
    world.send(LEFT_EARLY)
    assert world.pace.admit().is_trial


def test_a_trial_that_hangs_is_followed_by_another(world):
    """A minute later."""
    world.send(bad("auth"))
    world.clock.advance(60.0)
    world.pace.admit()
    world.clock.advance(60.0)
    assert world.pace.admit().is_trial


def test_only_a_trial_lifts_a_latch(world):
    """A request that was under way before may have been let in before the key was revoked."""
    before = world.pace.admit()
    world.send(bad("auth"))
    before.settle(GOOD)
    assert (CredentialRefusedError, 60.0) == world.refused()


def test_late_news_of_before_a_latch_was_lifted_shut_it_not_again(world):
    """The 401 of a request that was sent with the key as it was."""
    before = world.pace.admit()
    world.send(bad("auth"))
    world.clock.advance(60.0)
    world.send(GOOD)
    before.settle(bad("auth"))
    assert world.refused() is None


def test_without_a_credential_none_is_refused():
    """A 401 to a request that showed none says nothing of others to that host."""
    world = World()
    public = world.pacing.for_host(HOST)
    world.send(bad("auth"), pace=public)
    assert world.refused(public) is None


def test_a_used_up_account_is_tried_now_and_then(world):
    """A quota verdict latches; its own interval, its own error."""
    world.send(bad("quota"))
    assert (BillingStoppedError, 60.0) == world.refused()
    with pytest.raises(BillingStoppedError, match=f"account at '{HOST}' has no credit or quota left; next trial in 60.0 s"):
        world.pace.admit()
    world.clock.advance(60.0)
    world.send(GOOD)
    assert (None, AccessRestored(operation=HOST, why="billing")) == (world.refused(), world.events[-1])


def test_an_account_that_says_when_it_is_renewed_is_left_alone_until_then(world):
    """A daily limit with a hint, which a quota verdict does not carry."""
    headers = {"Retry-After": "7200"}
    permit = world.pace.admit()
    permit.observe(headers)
    verdict = classify_response(429, headers, {"error": {"code": "insufficient_quota"}})
    permit.settle(Outcome(OutcomeKind.IGNORED, verdict=verdict))
    assert (BillingStoppedError, 7200.0) == world.refused()


def test_money_that_is_only_held_latches_nothing(world):
    """It comes back with the requests in flight."""
    world.send(bad("quota", retryable=True, retry_after=5.0))
    assert world.refused() is None


def test_another_key_starts_clean(world):
    """The latch is one of host and key; so is the parking."""
    world.send(bad("auth"))
    world.send(TOO_MANY, pace=world.pacing.for_host("other.example.com", KEY))
    assert world.pacing.for_host(HOST, "Bearer sk-rotated").admit().turn is None
    assert world.pacing.for_host("other.example.com", "Bearer sk-rotated").admit().turn is None


def test_an_operator_may_have_a_pair_start_clean(world):
    """For whoever has paid; those who hold the pace go on with it."""
    world.send(bad("quota"))
    world.pacing.reset(HOST, KEY)
    world.pacing.reset("unknown.example.com")
    assert (None, True) == (world.refused(), world.pacing.for_host(HOST, KEY) is world.pace)


def test_starting_clean_wakes_who_waits(world):
    """The pause is over."""
    world.send(TOO_MANY)
    permit, woken = world.pace.admit(), []
    permit.turn.wake_by(lambda: woken.append(True))
    world.pacing.reset(HOST, KEY)
    assert ([True], 0.0) == (woken, permit.turn.look())


def signed(key, signature):
    """AWS's header, which is another one for each request."""
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/{signature}/us/bedrock, Signature={signature}"}


# --- keys --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"Authorization": "Bearer a"}, {"Authorization": "Bearer a"}, True),
        ({"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}, False),
        ({"x-api-key": "a"}, {"x-api-key": "b"}, False),
        ({"api-key": "a"}, {"x-goog-api-key": "a"}, True),
        ({}, {"x-api-key": "a"}, False),
        (signed("AKIA", "1"), signed("AKIA", "2"), True),
        (signed("AKIA", "1"), signed("AKIB", "1"), False),
        ({"Authorization": 'Digest username="ann", nonce="1"'}, {"Authorization": 'Digest username="ann", nonce="2"'}, True),
    ],
)  # fmt: skip
def test_whose_requests_they_are(world, one, other, same):
    """By the header that providers use, and by what lasts of one that is made anew for each request."""
    paces = [
        world.pacing.for_request(httpx2.Request("POST", "https://api.example.com/v1", headers=each)) for each in (one, other)
    ]
    assert same == (paces[0] is paces[1])


def test_a_key_in_the_query_counts(world):
    """As Gemini has it; other parameters do not."""
    urls = ("https://g.com/v1?key=a&alt=sse", "https://g.com/v2?key=a", "https://g.com/v1?key=b", "https://g.com/v1?alt=sse")
    first, same, other, none = (world.pacing.for_request(httpx2.Request("GET", url)) for url in urls)
    assert (True, False, False) == (first is same, first is other, first is none)


def test_a_port_is_part_of_the_host(world):
    """Unless it is the scheme's own."""
    urls = ("https://a.com/", "https://a.com:443/", "https://a.com:8443/")
    assert ["a.com", "a.com", "a.com:8443"] == [world.pacing.for_request(httpx2.Request("GET", url)).name for url in urls]


def test_no_key_is_kept(world):
    """Neither the key nor a hash that could be guessed from it (invariant 78)."""
    import gc

    world.send(bad("auth"))
    reachable = [world.pacing]
    seen = set()
    while reachable:
        each = reachable.pop()
        if id(each) in seen or isinstance(each, type) or callable(each):
            continue
        seen.add(id(each))
        assert not (isinstance(each, (str, bytes)) and "canary" in str(each))
        reachable += gc.get_referents(each)
    assert "canary" not in repr(world.events)


def test_memory_is_bounded():
    """The pair that was not used for longest is forgotten first."""
    world = World(max_keys=3)
    world.send(bad("auth"))
    for number in range(2):
        world.pacing.for_host("h", str(number))
    assert world.pacing.for_host(HOST, KEY) is world.pace
    world.pacing.for_host("h", "new")
    assert (3, True) == (len(world.pacing), world.pacing.for_host(HOST, KEY) is world.pace)
    for number in range(5):
        world.pacing.for_host("h", str(number))
    assert (3, False) == (len(world.pacing), world.pacing.for_host(HOST, KEY) is world.pace)


def test_wrong_options_are_sentences():
    """All of them at once."""
    with pytest.raises(ConfigurationError) as caught:
        PacingConfig(max_wait=-1.0, headroom=2.0, credential_retry_interval=0, billing_retry_interval=0, max_keys=0)
    assert 5 == len(caught.value.errors)


def test_the_process_has_one_pacing():
    """Made when it is first asked for, and told to the log."""
    assert shared_pacing() is shared_pacing()
    assert shared_pacing().events.may_have_listener(AccessLatched)


# --- through the drivers -----------------------------------------------------------------------------------------------------


def kit_of(world, attempt, **options):
    """An operation that is guarded by the pace of its argument."""
    guard = world.pacing.guard(lambda request: request)
    config = ResilienceConfig(guards=(guard,), circuit_breaker=None, **options)
    kit = AIServiceResilience(ResilienceSettings(), clock=world.clock)
    return kit.with_resilience("op", custom_config=config)(attempt)


REQUEST = SimpleNamespace(url=httpx2.URL("https://api.example.com/"), headers={"authorization": KEY})


def test_a_retry_waits_for_the_hint_and_everybody_else_does(world):
    """The first caller's retry is the first at the end of the pause, and the others follow, faster and faster."""
    times, answers = [], iter([RateLimitError("slow down", 20.0)])

    async def attempt(request):
        times.append(world.clock.monotonic() - 1000.0)
        for error in answers:
            raise error
        return "done"

    async def main():
        call = kit_of(world, attempt, retry=RetryConfig(base_delay=1.0, jitter=None))
        first = asyncio.ensure_future(call(REQUEST))
        await world.clock.sleep_async(1.0)
        return await asyncio.gather(first, *(call(REQUEST) for _ in range(5)))

    assert ["done"] * 6 == asyncio.run(main())
    assert [0.0, *(20.0 + 0.25 * math.log2(number) for number in range(1, 7))] == pytest.approx(times)


def test_a_plain_call_waits_too(world):
    """The sync driver, by the same rules."""
    world.send(TOO_MANY)
    assert 1020.0 == kit_of(world, lambda request: world.clock.monotonic(), retry=None)(REQUEST)


def test_the_deadline_bounds_the_wait(world):
    """What cannot fit is refused at once (invariant 26)."""
    world.send(TOO_MANY)
    with pytest.raises(RateLimitExceededError):
        kit_of(world, lambda request: "done", retry=None, deadline=5.0)(REQUEST)
    assert ([], 0) == (world.clock.sleeps, world.pace.waiting)


def test_a_latched_key_ends_calls_before_they_are_sent(world):
    """The first one's error is the service's, the others' is a refusal."""
    calls = []

    def attempt(request):
        calls.append(request)
        raise AuthenticationError("401")

    call = kit_of(world, attempt)
    with pytest.raises(AuthenticationError):
        call(REQUEST)
    with pytest.raises(CredentialRefusedError):
        call(REQUEST)
    assert 1 == len(calls)


def test_what_is_heard_belongs_to_the_request_of_this_task(world):
    """Without a permit at hand: that of the latest admission in this context."""
    headers = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}

    async def attempt(request):
        world.pacing.observe(headers)

    contextvars.Context().run(world.pacing.observe, headers)  # nobody has asked: nothing happens
    assert world.pace.fits()

    async def main():
        await kit_of(world, attempt)(REQUEST)
        assert not world.pace.fits()

    asyncio.run(main())
    other = world.pacing.for_host("other.example.com")
    world.pacing.for_host(HOST, "x").admit()
    other.observe(headers)
    assert other.fits()


def test_a_guard_of_many_hosts_needs_the_request(world):
    """Whoever asks without one has not understood it."""
    guard = world.pacing.guard(lambda request: request)
    assert (True, True) == (isinstance(guard, Guard), guard.fits())
    with pytest.raises(TypeError, match="admit_call"):
        guard.admit()


# --- the line ----------------------------------------------------------------------------------------------------------------


def parked(world, number):
    """A world that waits, and so many who wait in it."""
    world.send(TOO_MANY)
    return [world.pace.admit() for _ in range(number)]


def test_those_behind_move_up_when_the_head_leaves(world):
    """No hole stays: the next one is woken and has the time to sleep."""
    first, second, third = parked(world, 3)
    assert (20.0, None, None) == tuple(each.turn.look() for each in (first, second, third))
    woken = []
    second.turn.wake_by(lambda: woken.append(2))
    third.turn.wake_by(lambda: woken.append(3))
    first.settle(LEFT_EARLY)
    third.settle(LEFT_EARLY)
    assert ([2], 20.0, 1) == (woken, second.turn.look(), world.pace.waiting)


def test_ten_thousand_who_leave_leave_no_hole(world):
    """In any order."""
    import random

    waiting = parked(world, 10_000)
    random.Random(1).shuffle(waiting)
    for permit in waiting:
        permit.settle(LEFT_EARLY)
    assert 0 == world.pace.waiting
    world.clock.advance(20.0)
    assert world.pace.admit().turn is None


def test_a_higher_priority_goes_first(world):
    """Then by arrival."""
    world.send(TOO_MANY)
    normal = world.pace.admit()
    with priority("high"):
        high = world.pace.admit()
    assert (None, 20.0) == (normal.turn.look(), high.turn.look())


def test_patience_ends(world):
    """At `max_wait` from the time when it joined."""
    first, second = parked(world, 2)
    assert 60.0 == second.turn.patience
    world.clock.advance(60.0)
    assert 0.0 == second.turn.patience
    with pytest.raises(RateLimitExceededError):
        second.turn.look()
    assert isinstance(first.turn.refusal(), RateLimitExceededError)


def test_a_sleep_that_was_slept_is_believed(world):
    """Whatever the clock says: a test's clock may not move. For the head alone, and once."""
    first, second = parked(world, 2)
    second.turn.claim()
    assert second.turn.look() is None
    first.turn.claim()
    first.turn.claim()
    assert 0.0 == first.turn.look()
    first.settle(GOOD)


def test_a_forked_child_has_an_empty_line(world):
    """And locks that nobody holds (invariant 22)."""
    parked(world, 2)
    with world.pace._lock, world.pacing._lock:
        _reset_all()
        assert (0, 1) == (world.pace.waiting, len([world.pacing.for_host(HOST, KEY)]))


def test_threads_wait_and_go_in_turn():
    """Through a pause, all of them; none is lost."""
    world = World()
    call = kit_of(world, lambda request: "done", retry=None)
    world.send(bad("rate_limit", retryable=True, retry_after=0.5))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(call(REQUEST))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert ["done"] * 16 == answers


# --- after a pause, and between two answers ---------------------------------------------------------------------------------


async def test_a_pause_ends_with_a_few_and_soon_with_all(world):
    """A second 429 meets a handful; two and a half seconds later nobody is held back."""
    world.send(TOO_MANY)

    async def attempt(request):
        return world.clock.monotonic() - 1020.0

    send = kit_of(world, attempt)

    times = sorted(await asyncio.gather(*(send(REQUEST) for _ in range(300))))
    assert (0.0, 0.25, 3) == (times[0], times[1], sum(time < 0.5 for time in times))
    assert times[-1] == pytest.approx(0.25 * math.log2(300))
    world.clock.advance(1.0)
    assert all(world.pace.admit().turn is None for _ in range(1000))


def test_an_answer_that_says_that_there_is_plenty_is_enough_for_a_moment(world):
    """Others are not read meanwhile; one that says that little is left is followed closely."""
    assert world.pace.wants_headers
    plenty = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "90", "x-ratelimit-reset-requests": "6s"}
    world.send(GOOD, plenty)
    assert not world.pace.wants_headers
    world.clock.advance(0.02)
    assert world.pace.wants_headers
    world.send(GOOD, {**plenty, "x-ratelimit-remaining-requests": "40", "x-ratelimit-reset-requests": "36s"})
    assert world.pace.wants_headers


# --- models ----------------------------------------------------------------------------------------------------------------


def test_models_have_limits_of_their_own(world):
    """Under the same key, and one that is parked holds the others back by nothing."""
    big, small = world.pacing.for_host(HOST, KEY, "big"), world.pacing.for_host(HOST, KEY, "small")
    world.send(TOO_MANY, pace=big)
    assert (None, f"{HOST} (big)") == (small.admit().turn, big.name)
    assert big.admit().turn is not None


def test_a_refused_credential_is_refused_for_every_model(world):
    """It is one credential; and starting clean is for all of them."""
    big, small = world.pacing.for_host(HOST, KEY, "big"), world.pacing.for_host(HOST, KEY, "small")
    world.send(bad("auth"), pace=big)
    assert (CredentialRefusedError, 60.0) == world.refused(small) == world.refused(world.pacing.for_host(HOST, KEY, "new"))
    world.send(TOO_MANY, pace=world.pacing.for_host(HOST, "another", "big"))
    world.pacing.reset(HOST, KEY)
    assert (None, None) == (world.refused(small), world.refused(big))


@pytest.mark.parametrize(
    ("url", "body", "model"),
    [
        ("https://api.openai.com/v1/chat/completions", b'{"messages": [], "model": "gpt-9"}', "gpt-9"),
        ("https://api.openai.com/v1/embeddings", b'{"model":"e-5"}', "e-5"),
        ("https://me.openai.azure.com/openai/deployments/mine/chat/completions?api-version=1", b'{"model":"gpt-9"}', "mine"),
        ("https://generativelanguage.googleapis.com/v1/models/gemini-9:generateContent", b"{}", "gemini-9"),
        ("https://api.openai.com/v1/chat/completions", b'{"messages": "say \\"model\\": \\"x\\""}', ""),
        ("https://api.openai.com/v1/files", None, ""),
        ("https://api.openai.com/v1/completions", b'{"model": "\xff"}', "\ufffd"),
    ],
)
def test_the_model_is_found_in_path_or_body(url, body, model):
    """Not in a text, nor in a body that is yet to be read."""
    content = iter([b"{}"]) if body is None else body
    assert model == model_of(httpx2.Request("POST", url, content=content))


def test_refusals_of_a_pace_say_that_it_is_pacing(world):
    """The pace of a host and model is named, and its kind is pacing whichever error it refuses by."""
    world.send(bad("rate_limit", retryable=True, retry_after=3600.0))
    with pytest.raises(RateLimitExceededError) as caught:
        world.pace.admit()
    assert (HOST, "pacing") == (caught.value.guard, caught.value.guard_kind)
    world.pacing.for_host(HOST, KEY).reset()
    world.send(bad("auth"))
    with pytest.raises(CredentialRefusedError) as caught:
        world.pacing.for_host(HOST, KEY, "big").admit()
    assert (HOST, f"{HOST} (big)", "pacing") == (caught.value.name, caught.value.guard, caught.value.guard_kind)
    assert ["pacing", "pacing"] == [guard_kind_of(each) for each in (world.pace, world.pacing.guard(lambda: None))]
