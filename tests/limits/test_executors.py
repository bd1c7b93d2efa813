"""`AsyncExecutor` and `RateLimitedExecutor`: so many at a time, and in a time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import BulkheadFullError, ConfigurationError, RateLimitExceededError, Rejected
from resilience_kit.guards import Guard, Permit
from resilience_kit.limits import AsyncExecutor, BulkheadConfig, RateLimitedExecutor
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.testing import FakeClock

DONE = Outcome(OutcomeKind.SUCCESS)


class Work:
    """Counts how many are inside."""

    def __init__(self, clock):
        self.clock, self.inside, self.most, self.started = clock, 0, 0, []

    async def __call__(self, number=0, seconds=1.0):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.started.append((number, self.clock.monotonic()))
        try:
            await self.clock.sleep_async(seconds)
        finally:
            self.inside -= 1
        return number * 2


@pytest.fixture
def clock():
    """Time that passes when told to."""
    return FakeClock(100.0)


@pytest.fixture
def work(clock):
    """Something that takes a second."""
    return Work(clock)


async def test_so_many_at_a_time(work):
    """The others in the order in which they came."""
    executor = AsyncExecutor(3)
    answers = await asyncio.gather(*(executor.execute(work, number) for number in range(9)))
    assert ([number * 2 for number in range(9)], 3) == (answers, work.most)
    assert [(number, 100.0 + number // 3) for number in range(9)] == work.started
    assert {} == executor._active_tasks


async def test_without_a_limit_all_at_once(work):
    """No semaphore at all."""
    executor = AsyncExecutor()
    await asyncio.gather(*(executor.execute(work) for _ in range(50)))
    assert (50, None) == (work.most, executor.semaphore)


async def test_plain_functions_are_executed_too():
    """With their arguments."""
    assert 7 == await AsyncExecutor(1).execute(max, 3, 7)
    assert 3 == await AsyncExecutor().execute(max, 3, 7, key=lambda number: -number)


async def test_the_semaphore_is_one_of_asyncio(work):
    """Its value is the room that is left."""
    executor = AsyncExecutor(2)
    semaphore = executor.semaphore
    assert isinstance(semaphore, asyncio.Semaphore)
    assert (2, False) == (semaphore._value, semaphore.locked())
    async with semaphore:
        await semaphore.acquire()
        assert (0, True, 2) == (semaphore._value, semaphore.locked(), executor._bulkhead.in_use)
        waiting = asyncio.ensure_future(executor.execute(work))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "0 of 2 free, 1 waiting" in repr(semaphore)
        semaphore.release()
        await waiting
    assert 2 == semaphore._value
    with pytest.raises(ValueError, match="released more often"):
        semaphore.release()


async def test_who_is_cancelled_leaves_no_hole(work):
    """In the line, and in the middle of it."""
    executor = AsyncExecutor(1)
    tasks = [asyncio.ensure_future(executor.execute(work, number)) for number in range(1000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks[:-1]:
        task.cancel()
    assert 1998 == await tasks[-1]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert ([0, 999], 1, {}) == ([number for number, _ in work.started], executor.semaphore._value, executor._active_tasks)


async def test_map_keeps_the_order_and_takes_what_it_needs(work):
    """From any iterable, however long."""
    executor, taken = AsyncExecutor(2), []

    def items():
        for number in range(6):
            taken.append((number, work.clock.monotonic()))
            yield number

    assert [0, 2, 4, 6, 8, 10] == await executor.map(work, items())
    assert [(number, 100.0 + number // 2) for number in range(6)] == taken
    assert [] == await executor.map(work, [])
    assert [1, 2, 3] == await AsyncExecutor().map(abs, [-1, 2, -3])


async def test_the_first_error_ends_a_map(work):
    """The others are cancelled, and have ended when it is raised."""

    async def step(number):
        if number == 2:
            raise ZeroDivisionError
        return await work(number, 100.0)

    executor = AsyncExecutor(3)
    with pytest.raises(ZeroDivisionError):
        await executor.map(step, range(10))
    assert (0, 3, {}) == (work.inside, executor.semaphore._value, executor._active_tasks)


async def test_a_cancelled_map_cancels_its_calls(work):
    """None goes on by itself."""
    task = asyncio.ensure_future(AsyncExecutor(3).map(work, range(10)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert 3 == work.inside
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 == work.inside


async def test_an_iterable_that_breaks_ends_a_map(work):
    """What was begun for it does not go on by itself."""

    def items():
        yield 1
        raise ZeroDivisionError

    for executor in (AsyncExecutor(), AsyncExecutor(2)):
        with pytest.raises(ZeroDivisionError):
            await executor.map(work, items())
        assert (0, {asyncio.current_task()}) == (work.inside, asyncio.all_tasks())


async def test_a_map_of_few_items_is_cheap_whatever_the_limit():
    """One task for each that is worked on."""
    tasks = await AsyncExecutor(10**9).map(lambda _: len(asyncio.all_tasks()), range(2))
    assert 5 >= max(tasks)


async def test_shutdown_from_within_a_call_does_not_wait_for_it():
    """Nobody can wait for himself."""
    executor = AsyncExecutor(2)

    async def last():
        await executor.shutdown()
        return "done"

    assert "done" == await executor.execute(last)
    with pytest.raises(Rejected):
        await executor.execute(last)


async def test_shutdown_waits_and_takes_no_more(work):
    """Those under way end well."""
    executor = AsyncExecutor(2)
    tasks = [asyncio.ensure_future(executor.execute(work, number)) for number in range(4)]
    await asyncio.sleep(0)
    await executor.shutdown()
    assert [0, 2, 4, 6] == await asyncio.gather(*tasks)
    with pytest.raises(Rejected, match="'executor' refused the call"):
        await executor.execute(work)
    await executor.shutdown(0.0)


async def test_shutdown_cancels_what_takes_too_long(work):
    """Their callers are refused; whoever was cancelled himself is cancelled."""
    executor = AsyncExecutor(2)
    tasks = [asyncio.ensure_future(executor.execute(work, number, 3600.0)) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(executor.shutdown(0.0))
    await asyncio.sleep(0)
    tasks[0].cancel()
    await closing
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [asyncio.CancelledError, Rejected, Rejected] == [type(end) for end in ends]
    assert (0, 2) == (work.inside, executor.semaphore._value)


async def test_as_a_context_manager_it_shuts_down(work):
    """At the end of the block."""
    async with AsyncExecutor(2) as executor:
        task = asyncio.ensure_future(executor.execute(work, 4))
        await asyncio.sleep(0)
    assert task.done()
    async with RateLimitedExecutor(10) as limited:
        assert 3 == await limited.execute(abs, -3)
    with pytest.raises(Rejected):
        await limited.execute(abs, -3)


async def test_both_share_their_room_with_operations(clock, work):
    """As guards of plain and async functions."""
    kit, executor = AIServiceResilience(ResilienceSettings(), clock=clock), AsyncExecutor(1)
    function = kit.with_resilience("op", bulkhead=executor)(work)
    tasks = [asyncio.ensure_future(each) for each in (executor.execute(work, 1), function(2), executor.execute(work, 3))]
    assert [2, 4, 6] == await asyncio.gather(*tasks)
    assert (1, True) == (work.most, executor.fits())
    assert isinstance(executor, Guard)


async def test_so_many_in_a_time_and_at_a_time(clock, work):
    """A token first, then room."""
    executor = RateLimitedExecutor(1.0, 0.5, 2, clock=clock)
    answers = await asyncio.gather(*(executor.execute(work, number, 1.5) for number in range(4)))
    assert [0, 2, 4, 6] == answers
    assert [(0, 100.0), (1, 100.5), (2, 101.5), (3, 102.0)] == work.started
    assert [2, 4] == await executor.map(work, [1, 2])


async def test_a_rate_limited_executor_guards_by_both(clock, work):
    """One turn after the other."""
    kit, executor = AIServiceResilience(ResilienceSettings(), clock=clock), RateLimitedExecutor(1.0, 0.5, 2, clock=clock)
    function = kit.with_resilience("op", rate_limit=executor)(work)
    assert [0, 2, 4, 6] == await asyncio.gather(*(function(number, 1.5) for number in range(4)))
    assert [(0, 100.0), (1, 100.5), (2, 101.5), (3, 102.0)] == work.started
    clock.advance(1.0)
    assert executor.fits()
    assert isinstance(executor, Guard)
    assert isinstance(executor.admit(), Permit)


def test_a_guard_of_both_speaks_for_the_one_that_is_waited_for(clock):
    """What is expected, how long it is patient, what it refuses with."""
    executor = RateLimitedExecutor(2.0, 1.0, 1, clock=clock)
    first = executor.admit()
    first.claim()
    first.wake_by(lambda: None)
    assert (0.0, None, Rejected) == (first.expected, first.patience, type(first.refusal()))
    assert 0.0 == first.look()
    room = executor.admit()
    assert (None, None, BulkheadFullError) == (room.look(), room.expected, type(room.refusal()))
    token = executor.admit()
    assert (0.5, 0.5, None, RateLimitExceededError) == (
        token.look(),
        token.expected,
        token.patience,
        type(token.refusal()),
    )
    token.claim()
    assert None is token.look()
    woken: list[int] = []
    token.wake_by(lambda: woken.append(1))
    first.settle(DONE)
    assert 0.0 == room.look()
    room.settle(DONE)
    assert [1] == woken
    token.settle(DONE)
    assert 1 == executor.executor.semaphore._value


async def test_threads_and_tasks_never_pass_the_limit():
    """128 threads as a guard, 1000 tasks by `execute`."""
    executor, kit, lock = AsyncExecutor(5), AIServiceResilience(ResilienceSettings()), threading.Lock()
    inside, most, done = 0, 0, 0

    def enter(step):
        nonlocal inside, most, done
        with lock:
            inside += step
            most = max(most, inside)
            done += step < 0

    async def task():
        enter(1)
        await asyncio.sleep(0)
        enter(-1)

    @kit.with_resilience("op", bulkhead=executor)
    def plain():
        enter(1)
        enter(-1)

    threads = [threading.Thread(target=plain) for _ in range(128)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(executor.execute(task) for _ in range(1000)))
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert (1128, 5) == (done, executor.semaphore._value)
    assert most <= 5


def test_wrong_options_are_sentences():
    """Zero concurrency, negative rates and time-outs."""
    for make, sentence in {
        lambda: AsyncExecutor(0): "AsyncExecutor.max_concurrency: must be a whole number of at least 1, got 0",
        lambda: RateLimitedExecutor(-2): "TokenBucketRateLimiter.rate: must be a finite number above 0, got -2",
        lambda: RateLimitedExecutor(1, 1.0, 0): "AsyncExecutor.max_concurrency: must be a whole number of at least 1, got 0",
        lambda: asyncio.run(AsyncExecutor().shutdown(-1)): "timeout: must be a finite number of seconds of at least 0, got -1",
        lambda: BulkheadConfig(max_concurrent=0): "BulkheadConfig.max_concurrent: must be a whole number of at least 1, got 0",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert sentence in str(caught.value)
