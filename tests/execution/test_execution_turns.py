"""Calls that wait their turn for a limit: in order, within their deadline, and gone without a trace when they leave."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.context import priority
from resilience_kit.errors import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    GuardKind,
    RateLimitExceededError,
    ServerError,
    ServiceUnavailableError,
)
from resilience_kit.events import CallDelayed
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.bulkhead import AdaptiveLimit, Bulkhead, BulkheadConfig
from resilience_kit.policies.rate_limit import RateLimitConfig, RateLimiter
from resilience_kit.testing import FakeClock, no_waiting

ONE = RateLimitConfig(rate=1.0)
ASYNC = ("async", "async generator")


def limiter(lab, rate=1.0, **options):
    """A limiter that a test can look at."""
    return RateLimiter(RateLimitConfig(rate=rate, **options), name="limit", clock=lab.clock)


def bulkhead(lab, most=1, **options):
    """A bulkhead that a test can look at."""
    return Bulkhead(BulkheadConfig(max_concurrent=most, **options), "room", lab.clock)


# --- rate limits ---


async def test_calls_start_at_the_rate(lab, way, steps):
    """One a second, whichever way they are called; who only gives something to do takes nothing in the end."""
    config = lab.config(rate_limit=ONE)
    for second in (100.0, 101.0, 102.0):
        assert "done" == await lab.call(way, steps("done"), config=config)
        assert second == lab.clock.monotonic()
    assert [1.0, 1.0] == lab.clock.sleeps


async def test_a_wait_is_told_when_it_is_over(lab, direct, steps):
    """By which guard, and how long; who need not wait is no news."""
    delays = []
    lab.kit.add_listener(delays.append, CallDelayed)
    config = lab.config(rate_limit=RateLimitConfig(rate=0.5, burst=1.0), bulkhead=BulkheadConfig(max_concurrent=1))
    for _ in range(2):
        await lab.call(direct, steps("done"), config=config)
    assert [CallDelayed(operation="op", guard="op (rate limit)", guard_kind=GuardKind.RATE_LIMIT, seconds=2.0)] == delays


async def test_each_attempt_takes_its_own(lab, direct, steps):
    """A retry is a request, too: after its own pause it waits for what is still missing."""
    config = lab.config(rate_limit=RateLimitConfig(rate=0.5, burst=1.0))
    assert "done" == await lab.call(direct, steps(ServerError, "done"), config=config)
    assert [1.0, 1.0] == lab.clock.sleeps


@pytest.mark.parametrize("kind", ASYNC)
async def test_tasks_start_in_the_order_in_which_they_came(lab, kind, steps):
    """And each at its time."""
    config, started = lab.config(rate_limit=RateLimitConfig(rate=2.0, burst=1.0)), []

    def attempt(number):
        started.append((number, lab.clock.monotonic()))

    await asyncio.gather(*(lab.call(kind, attempt, number, config=config) for number in range(6)))
    assert [(number, 100.0 + number / 2) for number in range(6)] == started


async def test_the_higher_priority_goes_first(lab):
    """As the block around the call says."""
    config, started = lab.config(rate_limit=ONE), []

    async def call(level):
        with priority(level):
            await lab.call("async", started.append, level, config=config)

    await asyncio.gather(*(call(level) for level in ("normal", "low", "normal", "high")))
    assert ["normal", "high", "normal", "low"] == started


async def test_a_wait_beyond_the_deadline_is_not_begun(lab, way, steps):
    """The refusal at once, with the time to come back (invariant 26)."""
    shared, attempt = limiter(lab, 0.1), steps("done")
    shared.admit()
    with pytest.raises(RateLimitExceededError, match=r"rate limit of 'limit' is used up; try again in 10.0 s"):
        await lab.call(way, attempt, config=lab.config(rate_limit=shared, deadline=5.0))
    assert (0, [], 0) == (attempt.calls, lab.clock.sleeps, shared.waiting)
    assert {"total_calls": 1, "rejected_calls": 1} == lab.counted()


async def test_a_place_far_back_is_not_waited_for_either(lab):
    """What those before will take counts."""
    shared = limiter(lab)
    config = lab.config(rate_limit=shared, deadline=2.5)
    ends = await asyncio.gather(*(lab.call("async", lambda: "done", config=config) for _ in range(5)), return_exceptions=True)
    assert ["done"] * 3 == ends[:3]
    assert [3.0, 3.0] == [end.retry_after for end in ends[3:]]
    assert 102.0 == lab.clock.monotonic()


async def test_a_retry_that_cannot_wait_leaves_the_real_error(lab, direct, steps):
    """The caller learns what went wrong (invariant 32)."""
    config = lab.config(rate_limit=RateLimitConfig(rate=0.1), deadline=5.0)
    with pytest.raises(ServerError) as caught:
        await lab.call(direct, steps(ServerError), config=config)
    assert "'op' refused a further attempt" in caught.value.__notes__[0]


async def test_who_is_overtaken_waits_no_longer_than_its_deadline(lab):
    """It is refused when its time is over."""
    shared, started = limiter(lab), []
    shared.admit()

    async def call(level, number):
        with priority(level):
            await lab.call("async", started.append, number, config=lab.config(rate_limit=shared, deadline=2.5))

    low = [asyncio.ensure_future(call("low", number)) for number in (1, 2)]
    await asyncio.sleep(0)
    high = [asyncio.ensure_future(call("high", number)) for number in (3, 4)]
    await asyncio.gather(*high)
    ends = await asyncio.gather(*low, return_exceptions=True)
    assert [3, 4] == started
    assert [RateLimitExceededError] * 2 == [type(end) for end in ends]
    assert (0, True) == (shared.waiting, lab.clock.monotonic() <= 102.5)


@pytest.mark.slow
async def test_ten_thousand_cancelled_waiters_leave_no_hole(lab):
    """The one behind them starts when the first would have (invariants 5 and 28)."""
    shared = limiter(lab)
    config, started = lab.config(rate_limit=shared), []
    shared.admit()

    @lab.kit.with_resilience("op", custom_config=config)
    async def call(number):
        started.append((number, lab.clock.monotonic()))

    waiting = [asyncio.ensure_future(call(number)) for number in range(10_001)]
    await asyncio.sleep(0)
    assert 10_001 == shared.waiting
    for task in waiting[:-1]:
        task.cancel()
    await asyncio.wait(waiting)
    assert [(10_000, 101.0)] == started
    assert {"total_calls": 10_001, "cancelled_calls": 10_000, "successful_calls": 1} == lab.counted()


async def test_a_call_whose_circuit_opened_while_it_waited_is_refused(lab, direct, steps):
    """And its place is free."""
    breaker, shared, attempt = lab.kit.get_circuit_breaker("op"), limiter(lab), steps("done")
    shared.admit()
    lab.clock.sleeps = Opener(breaker)
    with pytest.raises(CircuitBreakerOpenError):
        await lab.call(direct, attempt, config=lab.config(rate_limit=shared))
    assert (0, 0, True) == (attempt.calls, shared.waiting, shared.fits())


class Opener(list):
    """Opens a circuit as soon as somebody sleeps."""

    def __init__(self, breaker):
        super().__init__()
        self.breaker = breaker

    def append(self, seconds):
        self.breaker.state = CircuitState.OPEN
        super().append(seconds)


async def test_a_fixed_wait_and_a_turn_pass_together(lab, direct, steps):
    """What a turn took is over for the others."""
    shared = limiter(lab)
    shared.admit()
    config = lab.config(guards=(lab.Guard("slow", 3.0),), rate_limit=shared)
    assert "done" == await lab.call(direct, steps("done"), config=config)
    assert [1.0, 2.0] == lab.clock.sleeps
    shared.admit()
    config = lab.config(guards=(lab.Guard("quick", 0.5),), rate_limit=shared)
    assert "done" == await lab.call(direct, steps("done"), config=config)


async def test_what_a_call_costs_is_asked_with_its_arguments(lab, direct):
    """Estimated before, corrected after: of a stream by the latest item that tells."""
    tokens = RateLimitConfig(rate=100.0, cost=lambda text: 2.0 * len(text), usage=len)
    config = lab.config(rate_limit=tokens)
    await lab.call(direct, lambda text: text, "x" * 40, config=config)
    (limits,) = (lab.kit._registry.operations["op"].limiters["rate limit"],)
    assert 60.0 == limits._token_buckets.buckets[0].level


async def test_an_overload_is_the_adaptive_limits_until_it_can_fall_no_more(lab, direct, steps):
    """Then it opens the circuit; other failures do so all along."""
    adaptive = AdaptiveLimit(initial=2, minimum=1, backoff=0.5)
    config = lab.config(1, bulkhead=BulkheadConfig(max_concurrent=8, adaptive=adaptive), retry=None)
    for state in (CircuitState.CLOSED, CircuitState.OPEN):
        with pytest.raises(ServiceUnavailableError):
            await lab.call(direct, steps(ServiceUnavailableError), config=config)
        assert state is lab.kit.get_circuit_breaker("op").snapshot.state


@pytest.mark.parametrize("adaptive", [AdaptiveLimit(), None])
async def test_other_failures_are_the_breakers(lab, direct, steps, adaptive):
    """However the bulkhead is sized."""
    bulkhead = BulkheadConfig(max_concurrent=10, adaptive=adaptive)
    config = lab.config(1, bulkhead=bulkhead, retry=None)
    with pytest.raises(ServerError):
        await lab.call(direct, steps(ServerError), config=config)
    assert CircuitState.OPEN is lab.kit.get_circuit_breaker("op").snapshot.state


async def test_a_cost_that_fails_ends_the_call(lab, way, steps):
    """With its own error; nothing is taken."""
    config = lab.config(rate_limit=RateLimitConfig(rate=1.0, cost=lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError) as caught:
        await lab.call(way, steps("done"), config=config)
    assert any("from RateLimitConfig.cost of 'op'" in note for note in caught.value.__notes__)
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


# --- bulkheads ---


@pytest.mark.parametrize("kind", ASYNC)
async def test_so_many_at_once_and_the_others_in_turn(lab, kind):
    """A stream has its room to its end."""
    config, inside, most, order = lab.config(bulkhead=BulkheadConfig(max_concurrent=2)), 0, 0, []

    async def work(number):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        order.append(number)
        await lab.clock.sleep_async(1.0)
        inside -= 1

    async def stream(number):
        yield number
        await work(number)

    function = lab.kit.with_resilience("op", custom_config=config)(work if kind == "async" else stream)
    await asyncio.gather(*(lab.finished(function(number)) for number in range(6)))
    assert (2, list(range(6)), 103.0) == (most, order, lab.clock.monotonic())


async def test_a_full_bulkhead_refuses(lab, way, steps):
    """No call, no failure of the service."""
    shared, attempt = bulkhead(lab, max_queue=0), steps("done")
    taken = shared.admit()
    with pytest.raises(BulkheadFullError):
        await lab.call(way, attempt, config=lab.config(bulkhead=shared))
    assert (0, {"total_calls": 1, "rejected_calls": 1}) == (attempt.calls, lab.counted())
    assert 1 == shared.in_use
    assert None is taken.turn


@pytest.mark.parametrize("limit", [{"deadline": 5.0}, {}])
async def test_room_is_waited_for_no_longer_than_allowed(lab, way, steps, limit):
    """Until the deadline, or as long as the bulkhead has patience (invariant 26)."""
    shared, attempt = bulkhead(lab, max_wait=None if limit else 5.0), steps("done")
    shared.admit()
    with pytest.raises(BulkheadFullError):
        await lab.call(way, attempt, config=lab.config(bulkhead=shared, **limit))
    assert (0, 105.0, 0, []) == (attempt.calls, lab.clock.monotonic(), shared.waiting, lab.clock.sleeps)
    assert {"total_calls": 1, "rejected_calls": 1} == lab.counted()


async def test_an_outer_deadline_bounds_the_wait_too(lab):
    """It is the nearest that counts."""
    shared = bulkhead(lab)
    shared.admit()

    @lab.kit.with_resilience("inner", custom_config=lab.config(bulkhead=shared, deadline=50.0))
    def inner():
        return "done"

    @lab.kit.with_resilience("outer", custom_config=lab.config(deadline=5.0, retry=None))
    def outer():
        return inner()

    with pytest.raises(BulkheadFullError):
        outer()
    assert 105.0 == lab.clock.monotonic()


async def test_room_comes_back_after_each_attempt(lab, way, steps):
    """Also when it fails, is refused by another guard, or is cancelled (invariant 5)."""
    shared = bulkhead(lab)
    config = lab.config(bulkhead=shared)
    await lab.call(way, steps(ServerError, "done"), config=config)
    assert 0 == shared.in_use


@pytest.mark.parametrize("kind", ASYNC)
async def test_a_caller_who_leaves_makes_room_for_the_next(lab, kind):
    """Before its turn and in its attempt (invariants 5 and 28)."""
    shared, started = bulkhead(lab), []
    config = lab.config(bulkhead=shared)

    async def work(number):
        started.append(number)
        await lab.clock.sleep_async(1000.0)

    function = lab.kit.with_resilience("op", custom_config=config)(work)
    tasks = [asyncio.ensure_future(function(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    tasks[0].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert ([0, 2], 1, 1) == (started, shared.in_use, shared.waiting)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (0, 0) == (shared.in_use, shared.waiting)


async def test_one_who_is_shed_is_refused_at_once(lab):
    """Low priority, when there is no place left for higher."""
    shared = bulkhead(lab, max_queue=1)
    permit = shared.admit()
    config = lab.config(bulkhead=shared)

    async def call(level):
        with priority(level):
            return await lab.call("async", lambda: level, config=config)

    low = asyncio.ensure_future(call("low"))
    await asyncio.sleep(0)
    high = asyncio.ensure_future(call("high"))
    with pytest.raises(BulkheadFullError):
        await low
    permit.settle(Outcome(OutcomeKind.SUCCESS))
    assert "high" == await high


async def test_the_rate_limit_is_asked_before_the_bulkhead(lab, direct, steps):
    """And its token comes back when there is no room."""
    shared, room = limiter(lab), bulkhead(lab, max_queue=0)
    room.admit()
    with pytest.raises(BulkheadFullError):
        await lab.call(direct, steps("done"), config=lab.config(rate_limit=shared, bulkhead=room))
    assert shared.fits()


# --- threads ---


def test_threads_wait_in_order_of_a_clock_that_is_moved(lab):
    """Each sleeps until its turn, by whatever clock there is."""
    clock = FakeClock(100.0, auto_advance=False)
    kit = AIServiceResilience(ResilienceSettings(), clock=clock)
    shared = RateLimiter(ONE, clock=clock)
    shared.admit()
    started: list[tuple[int, float]] = []

    @kit.with_resilience("op", custom_config=ResilienceConfig(rate_limit=shared))
    def call(number):
        started.append((number, clock.monotonic()))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for number, thread in enumerate(threads):
        thread.start()
        _until(lambda number=number: shared.waiting == number + 1)
    for number in range(3):
        clock.advance(1.0)
        _until(lambda number=number: len(started) == number + 1)
    for thread in threads:
        thread.join()
    assert [(0, 101.0), (1, 102.0), (2, 103.0)] == started


def _until(holds):
    """Let other threads run until something holds."""
    for _ in range(100_000):
        if holds():
            return
        time.sleep(0)
    raise AssertionError("it never held")


async def test_threads_and_tasks_share_a_bulkhead(lab):
    """128 threads and 1000 tasks: never more than the limit at once, and none is lost (invariant 21)."""
    kit = AIServiceResilience(ResilienceSettings())
    shared, lock = Bulkhead(BulkheadConfig(max_concurrent=9)), threading.Lock()
    inside = most = done = 0

    def enter():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)

    def leave():
        nonlocal inside, done
        with lock:
            inside -= 1
            done += 1

    @kit.with_resilience("threads", custom_config=ResilienceConfig(bulkhead=shared))
    def in_thread():
        enter()
        time.sleep(0)
        leave()

    @kit.with_resilience("tasks", custom_config=ResilienceConfig(bulkhead=shared))
    async def in_task():
        enter()
        await asyncio.sleep(0)
        leave()

    threads = [threading.Thread(target=lambda: [in_thread() for _ in range(5)]) for _ in range(128)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(in_task() for _ in range(1000)))
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert (1000 + 128 * 5, 0, 0) == (done, shared.in_use, shared.waiting)
    assert 1 < most <= 9


async def test_threads_and_tasks_take_exactly_what_a_bucket_holds(lab):
    """128 threads and 1000 tasks against a clock that stands: not one too many, not one too few."""
    shared = limiter(lab, 5000.0, max_wait=0.0)
    config = lab.config(rate_limit=shared, retry=None)
    sync, task = (
        lab.kit.with_resilience("op", custom_config=config)(each) for each in (lambda: 1, lab.shapes["async"](lambda: 1))
    )
    taken: list[int] = []

    def many():
        for _ in range(60):
            try:
                taken.append(sync())
            except RateLimitExceededError:
                return

    threads = [threading.Thread(target=many) for _ in range(128)]
    for thread in threads:
        thread.start()
    ends = await asyncio.gather(*(task() for _ in range(1000)), return_exceptions=True)
    for thread in threads:
        thread.join()
    assert 5000 == len(taken) + sum(end == 1 for end in ends)


# --- without waiting ---


async def test_no_waiting_goes_through_at_once():
    """Nobody sleeps for a rate; who has to be woken is waited for."""
    kit = AIServiceResilience(ResilienceSettings())
    slow = RateLimitConfig(rate=1.0, period=3600.0)

    @kit.with_resilience("sync", rate_limit=slow, deadline=None)
    def sync():
        return "done"

    @kit.with_resilience("async", deadline=None, rate_limit=slow, bulkhead=BulkheadConfig(max_concurrent=1, max_wait=30.0))
    async def task():
        await asyncio.sleep(0)
        return "done"

    with no_waiting():
        assert ["done"] * 3 == [sync() for _ in range(3)]
        assert ["done"] * 5 == await asyncio.gather(*(task() for _ in range(5)))


# --- several loops ---


def test_callers_of_several_loops_wake_each_other():
    """Room that a task of one loop leaves goes to one of another."""
    kit = AIServiceResilience(ResilienceSettings())
    shared, done = Bulkhead(BulkheadConfig(max_concurrent=1)), []

    @kit.with_resilience("op", custom_config=ResilienceConfig(bulkhead=shared))
    async def call(number):
        await asyncio.sleep(0)
        done.append(number)

    async def many():
        await asyncio.gather(*(call(number) for number in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (200, 0) == (len(done), shared.in_use)
