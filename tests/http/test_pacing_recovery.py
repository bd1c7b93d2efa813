"""How requests start again after a service has refused some: by a ramp, and no faster than it has shown to accept."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience_kit import AIServiceResilience, ResilienceConfig, RetryConfig
from resilience_kit.config import ResilienceSettings
from resilience_kit.context import Priority, current_call
from resilience_kit.errors import APIConnectionError, RateLimitError
from resilience_kit.events import CallFailed
from resilience_kit.http import AsyncResilientTransport
from resilience_kit.http.pacing import Pacing, PacingConfig
from resilience_kit.http.rate_limit_headers import SendLog
from resilience_kit.http.slow_start import SlowStart
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from resilience_kit.testing import FakeClock

CHAT = "https://api.example.com/v1/chat/completions"
HEADERS = {"Authorization": "Bearer sk-made-up"}


class Provider:
    """A bucket of tokens on a fake clock, as a transport that sends: 429 where there are too few, `hint` says how."""

    def __init__(self, clock: FakeClock, *, rate: float, burst: float, cost: float, hint: str, latency: float) -> None:
        self.clock, self.rate, self.burst, self.cost, self.hint, self.latency = clock, rate, burst, cost, hint, latency
        self.level, self.at = burst, clock.monotonic()
        self.answers: list[tuple[float, int]] = []

    async def handle_async_request(self, _request: Any) -> httpx2.Response:
        now = self.clock.monotonic()
        self.level, self.at = min(self.burst, self.level + (now - self.at) * self.rate), now
        lack = (self.cost - self.level) / self.rate
        if lack > 1e-9:
            self.answers.append((now, 429))
            body = {"error": {"message": "Rate limit reached", "type": "rate_limit_error"}}
            await self.clock.sleep_async(0.02)
            return httpx2.Response(429, headers=self._hint(lack), json=body)
        self.level -= self.cost
        self.answers.append((now, 200))
        await self.clock.sleep_async(self.latency)
        usage = {"total_tokens": self.cost}
        return httpx2.Response(200, headers=self._left(), json={"id": "1", "object": "chat.completion", "usage": usage})

    def _hint(self, lack: float) -> dict[str, str]:
        if self.hint == "milliseconds":
            return {"retry-after-ms": str(math.ceil(1000.0 * lack))}
        return {} if self.hint == "none" else {"retry-after": str(math.ceil(lack)), **self._left()}

    def _left(self) -> dict[str, str]:
        if self.hint != "headers":
            return {}
        lead, full = "x-ratelimit", (self.burst - self.level) / self.rate
        names = {"limit": f"{60 * self.rate:.0f}", "remaining": f"{self.level:.0f}", "reset": f"{full:.3f}s"}
        return {f"{lead}-{name}-tokens": value for name, value in names.items()}

    async def aclose(self) -> None:
        """Nothing is held."""


class World:
    """Tasks that ask a provider at once through a transport with its defaults."""

    def __init__(self, **provider: Any) -> None:
        self.clock, self.failed = FakeClock(1000.0), Counter[str]()
        given = {"rate": 200.0, "burst": 200.0, "cost": 10.0, "hint": "seconds", "latency": 0.05, **provider}
        self.provider = Provider(self.clock, **given)
        kit = AIServiceResilience(ResilienceSettings(), clock=self.clock)
        kit.add_listener(lambda event: self.failed.update([event.reason]), CallFailed)
        self.transport = AsyncResilientTransport(self.provider, resilience=kit, pacing=Pacing(clock=self.clock))

    def ask(self, number: int) -> Counter[int]:
        """So many at once: how often each status was the last word."""

        async def all_of_them() -> Counter[int]:
            async with httpx2.AsyncClient(transport=self.transport) as client:
                answers = (client.post(CHAT, json={"model": "m"}, headers=HEADERS) for _ in range(number))
                return Counter(answer.status_code for answer in await asyncio.gather(*answers))

        return asyncio.run(all_of_them())

    @property
    def last(self) -> float:
        """When the last request came, in seconds from the start."""
        return self.provider.answers[-1][0] - 1000.0


@pytest.mark.slow
@pytest.mark.parametrize("hint", ["seconds", "milliseconds", "headers", "none"])
@pytest.mark.parametrize("latency", [0.05, 2.0])
def test_a_burst_before_a_limit_of_tokens_is_answered_to_the_last(hint: str, latency: float) -> None:
    """200 tasks, 12 000 tokens a minute, transport defaults: no call ends in a 429, whatever the service tells of its limit."""
    world = World(hint=hint, latency=latency)
    assert ({200: 200}, {}) == (world.ask(200), world.failed)
    assert 40.0 > world.last


@pytest.mark.parametrize("hint", ["seconds", "milliseconds", "headers"])
def test_a_burst_that_is_granted_once_is_not_taken_for_the_rate(hint: str) -> None:
    """110 requests are let through at once, and then not two a second: the others wait for it, and are answered."""
    world = World(burst=12_000.0, cost=109.0, hint=hint)
    assert ({200: 160}, {}) == (world.ask(160), world.failed)
    assert 60.0 > world.last


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    cost=st.sampled_from([5.0, 10.0, 20.0]),
    hint=st.sampled_from(["seconds", "milliseconds"]),
    burst=st.sampled_from([60.0, 200.0, 600.0]),
    number=st.integers(10, 150),
)
def test_no_call_ends_in_a_429_whose_hint_fits(cost: float, hint: str, burst: float, number: int) -> None:
    """Whatever the size of requests, the burst and the number of callers."""
    world = World(cost=cost, hint=hint, burst=burst)
    assert ({200: number}, {}) == (world.ask(number), world.failed)


def test_after_a_pause_no_second_has_twice_what_the_service_took_before() -> None:
    """A service that has taken ten a second for a while and refuses one is not asked for all that has gathered at once."""
    clock, pacing = FakeClock(1000.0), None
    pacing = Pacing(clock=clock)
    pace, starts = pacing.for_host("api.example.com", "key"), list[float]()
    for _ in range(100):
        pace.admit().settle(Outcome(OutcomeKind.SUCCESS))
        clock.advance(0.1)
    refused = Verdict(FailureKind.RATE_LIMIT, retryable=True, counts_against_breaker=False, retry_after=5.0)
    pace.admit().settle(Outcome(OutcomeKind.IGNORED, verdict=refused))
    permits = [pace.admit() for _ in range(60)]
    for permit in permits:
        while pause := permit.turn.look():
            clock.advance(pause)
            permit.turn.claim()
        starts.append(clock.monotonic())
    assert 20 >= max(sum(begin <= at < begin + 1.0 for at in starts) for begin in starts)


def verdict(retry_after: float | None = None) -> Outcome:
    """A refusal."""
    kind = Verdict(FailureKind.RATE_LIMIT, retryable=True, counts_against_breaker=False, retry_after=retry_after)
    return Outcome(OutcomeKind.IGNORED, verdict=kind)


def test_a_refusal_without_a_hint_parks_nobody_and_has_the_others_follow_one_by_one() -> None:
    """Nobody knows when to come back; the next goes at once, and the others by the ramp."""
    pace = Pacing(clock=FakeClock(1000.0)).for_host("api.example.com")
    pace.admit().settle(verdict())
    assert [True, False] == [pace.admit().turn is None for _ in range(2)]


def test_a_retry_goes_before_those_who_have_not_asked_yet() -> None:
    """It has fewer attempts left; a higher priority still goes before it."""
    clock = FakeClock(1000.0)
    pace = Pacing(clock=clock).for_host("api.example.com")
    pace.admit().settle(verdict(1.0))
    first = pace.admit()

    class Retried:
        earlier_attempts = 1

    token = current_call.set(Retried())  # type: ignore[arg-type]  # as much of a call as is looked at
    retry = pace.admit()
    current_call.reset(token)
    assert (None, 1.0) == (first.turn.look(), retry.turn.look())


def test_a_retry_is_not_refused_because_the_queue_is_long() -> None:
    """Its call would end in the 429 before it; the queue's length is no hint that is too long. A pause that is too long is."""
    clock = FakeClock(1000.0)
    world = World(rate=1.0, burst=1.0, cost=1.0, hint="headers")
    del clock
    assert {200: 100} == world.ask(100)
    assert 90.0 < world.last


def test_a_hint_beyond_the_deadline_is_an_error_at_once() -> None:
    """Nobody sleeps for what cannot fit; the answer says when to come back."""
    world = World(rate=0.01, burst=1.0, cost=1.0)
    world.transport = AsyncResilientTransport(
        world.provider,
        config=ResilienceConfig(retry=RetryConfig(), deadline=5.0),
        resilience=AIServiceResilience(ResilienceSettings(), clock=world.clock),
        pacing=None,
    )
    assert {200: 1, 429: 1} == world.ask(2)
    assert 0.0 == world.last


def test_what_answers_say_that_they_took_is_learnt_for_buckets_of_tokens_alone() -> None:
    """Where the headers have not shown it yet, and after a refusal; an answer that says nothing changes nothing."""
    pace = Pacing(clock=FakeClock(1000.0)).for_host("api.example.com")
    headers = {
        "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "30", "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "600", "x-ratelimit-remaining-tokens": "300", "x-ratelimit-reset-tokens": "30s",
    }  # fmt: skip
    for answer in ({"id": "1"}, {"usage": {"total_tokens": 50}}, {"usage": {"total_tokens": 500}}):
        permit = pace.admit()
        permit.observe(headers)
        permit.settle(Outcome(OutcomeKind.SUCCESS, value=answer))
    requests, tokens = pace._buckets.values()
    assert (1.0, 50.0) == (requests.cost, tokens.cost)
    pace._clock.advance(60.0)
    pace.admit().settle(verdict(1.0))
    pace._clock.advance(1.5)
    pace.admit().settle(Outcome(OutcomeKind.SUCCESS, value={"usage": {"total_tokens": 100}}))
    assert (1.0, pytest.approx((0.8 * 50 + 100) / 1.8)) == (requests.cost, tokens.cost)


# --- the rule itself ---------------------------------------------------------------------------------------------------------


def started(*times: float) -> SendLog:
    """Requests at these times."""
    starts = SendLog()
    for time in times:
        starts.record(time)
    return starts


def test_a_few_requests_tell_no_rate() -> None:
    """Without any evidence the ramp alone holds the others back, and is over soon."""
    recovery = SlowStart.after_burst(10.0, started(9.0))
    recovery.record_rate_limited(1, 10.0, 1.0)
    assert (math.inf, 11.0, 11.25) == (recovery.rate, recovery.due_at(0.0), recovery.due_at(1.0))
    assert (False, True) == (recovery.is_finished(13.5), recovery.is_finished(13.6))
    assert 0 == SendLog().count_within(1.0)


def test_a_burst_tells_what_was_accepted_of_it() -> None:
    """Twenty of thirty in a second: sixteen a second are careful; a short hint tells of less, a long one of nothing."""
    rates = []
    for hint in (0.0, 0.5, 20.0):
        recovery = SlowStart.after_burst(10.0, started(*[9.5] * 30))
        for number in range(21, 31):
            recovery.record_rate_limited(number, 10.0, hint)
        rates.append(recovery.rate)
    assert [16.0, 1.6, 16.0] == pytest.approx(rates)


def test_a_rate_that_was_sustained_is_not_doubted_for_a_hint_in_whole_seconds() -> None:
    """Ten a second for nine seconds, and one refusal that says "1"."""
    recovery = SlowStart.after_burst(10.0, started(*[second / 10 for second in range(100)]))
    recovery.record_rate_limited(100, 10.0, 1.0)
    assert 7.0 < recovery.rate < 9.0
    assert recovery.is_finished(71.1)


def test_requests_that_were_held_back_tell_the_rate_of_a_bucket() -> None:
    """What was accepted between two pauses, by the time to the end of the second; late refusals count where they belong."""
    starts = started(*[9.5] * 30)
    first = SlowStart.after_burst(10.0, starts)
    first.record_rate_limited(30, 10.0, 1.0)
    for second in range(11, 31):
        starts.record(float(second))
    second_one = first.after_ramp(31.0, starts)
    second_one.record_rate_limited(50, 31.0, 0.0)
    second_one.record_rate_limited(12, 31.0, 1.0)
    assert (50, 32.0, pytest.approx(0.8 * 19 / 21)) == (second_one.last, second_one.resumes_at, second_one.rate)


def test_what_was_not_used_is_made_up_for_within_a_second() -> None:
    """A quiet time is no reason for a storm."""
    recovery = SlowStart.after_burst(10.0, started(*[9.5] * 30))
    for number in range(21, 31):
        recovery.record_rate_limited(number, 10.0, 0.0)
    recovery.record_start(10.0)
    recovery.record_start(30.0)
    late = [recovery.due_at(float(ahead)) - 30.0 for ahead in range(100)]
    assert late == sorted(late)
    assert 64 > sum(each <= 0.0 for each in late)


# --- plain functions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["aggressive", "balanced", "critical"])
def test_plain_functions_that_are_told_when_to_come_back_cost_the_retry_budget_nothing(strategy: str) -> None:
    """200 calls are throttled once, and come back at the time that the service named: none ends for want of budget."""
    clock = FakeClock()
    kit = AIServiceResilience(clock=clock)
    seen: set[int] = set()

    @kit.with_resilience("ask", strategy=strategy)
    async def ask(number: int) -> int:
        if number not in seen:
            seen.add(number)
            raise RateLimitError("slow down", 1.0)
        return number

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(ask(number) for number in range(200)))

    assert list(range(200)) == asyncio.run(all_of_them())
    assert 500 == kit._registry.operations["ask"].budget.available_tokens


def test_a_budget_that_ends_a_call_is_named_by_the_note_and_by_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Of a throttled call, too, whose service named no time."""
    kit = AIServiceResilience(clock=FakeClock())
    reasons: list[str] = []
    kit.add_listener(lambda event: reasons.append(event.reason), CallFailed)
    config = ResilienceConfig(retry=RetryConfig(), circuit_breaker=None, retry_budget=RetryBudgetConfig(capacity=4))

    @kit.with_resilience("ask", custom_config=config)
    def ask() -> None:
        raise RateLimitError("slow down")

    with pytest.raises(RateLimitError) as caught:
        ask()
    assert "the retry budget is used up" in caught.value.__notes__[0]
    assert ["the retry budget is used up"] == reasons


def parked(seconds: float = 1.0, **options: Any) -> tuple[FakeClock, Any]:
    """A pace that a refusal has parked."""
    clock = FakeClock(1000.0)
    pace = Pacing(PacingConfig(**options), clock=clock).for_host("api.example.com")
    pace.admit().settle(verdict(seconds))
    return clock, pace


def kit_with(function: Any, clock: FakeClock, **options: Any) -> Any:
    """A function under a kit of its own, with retries that do not wait."""
    config = ResilienceConfig(retry=RetryConfig(base_delay=0.0), circuit_breaker=None, **options)
    return AIServiceResilience(ResilienceSettings(), clock=clock).with_resilience("op", custom_config=config)(function)


def test_a_pace_asked_by_hand_in_a_first_attempt_does_not_see_a_retry() -> None:
    """The longest wait holds for it, and it has no place before others; in the call's second attempt it has."""
    clock, pace = parked(4.0, max_wait=5.0)
    waiting = [pace.admit() for _ in range(2)]
    levels: list[int] = []

    def work() -> None:
        levels.append(pace.admit().turn.priority)
        raise APIConnectionError

    with pytest.raises(APIConnectionError):
        kit_with(work, clock, deadline=100.0)()
    usual = waiting[0].turn.priority
    assert [usual, usual + 1, usual + 2] == levels


class LevelSeen:
    """A guard that notes which attempt of its call it is asked about."""

    name = "level"

    def __init__(self) -> None:
        self.levels: list[int] = []

    def fits(self, cost: float = 1.0) -> bool:
        return True

    def admit(self, cost: float = 1.0) -> Any:
        pace = Pacing(clock=FakeClock(1000.0)).for_host("api.example.com")
        pace.admit().settle(verdict(1.0))
        permit = pace.admit()
        self.levels.append(permit.turn.priority - int(Priority.NORMAL) * 4)
        permit.turn = None
        return permit


@pytest.mark.parametrize("kind", ["generator", "async generator"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_retried_stream_is_asked_about_as_a_retry(kind: str, inside: bool) -> None:
    """Its first request is none, whatever call it is made in; those after it are."""
    guard, failures = LevelSeen(), [APIConnectionError(), APIConnectionError()]

    def plain() -> Any:
        if failures:
            raise failures.pop()
        yield 1

    async def asynchronous() -> Any:
        if failures:
            raise failures.pop()
        yield 1

    clock = FakeClock(1000.0)
    call = kit_with(plain if kind == "generator" else asynchronous, clock, rate_limit=guard)

    async def items() -> list[int]:
        return list(call()) if kind == "generator" else [item async for item in call()]

    around = kit_with(items, clock, deadline=100.0) if inside else items
    assert [1] == asyncio.run(around())
    assert [0, 1, 2] == guard.levels


def test_a_refusal_after_the_turn_has_come_names_the_time_of_the_next_request() -> None:
    """Its deadline may be over in the moment in which its turn comes, and another refusal begins the ramp anew."""
    clock, pace = parked(1.0)
    late = pace.admit()
    clock.advance(1.0)
    assert 0.0 == late.turn.look()
    waiting = pace.admit()
    clock.advance(waiting.turn.look())
    assert 0.0 == waiting.turn.look()
    late.settle(verdict(4.0))
    assert pytest.approx(4.0) == waiting.turn.refusal().retry_after
