"""`FakeClock`: time that passes when told, or when everybody waits."""

import asyncio
import contextvars
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilience_kit.clock import Clock
from resilience_kit.errors import ConfigurationError
from resilience_kit.testing import FakeClock


@pytest.fixture
def clock():
    """A clock that advances by itself."""
    return FakeClock()


@pytest.fixture
def manual():
    """A clock that only a test moves."""
    return FakeClock(auto_advance=False)


def test_it_is_a_clock(clock):
    """It can stand wherever a `Clock` or a function of seconds is wanted."""
    as_clock: Clock = clock
    assert 0.0 == as_clock.monotonic() == clock()
    assert 0 == clock.nanoseconds()
    assert 5.5 == FakeClock(5.5)()


def test_advance_is_exact_to_the_nanosecond(manual):
    """Tenths add up, and one nanosecond is seen, as boundaries need it (invariant 10)."""
    for _ in range(10):
        manual.advance(0.1)
    assert (1.0, 1_000_000_000) == (manual.monotonic(), manual.nanoseconds())
    manual.advance(1e-9)
    assert 1_000_000_001 == manual.nanoseconds()


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, True, "5"])
def test_time_does_not_go_back(manual, wrong):
    """Negative, NaN, infinite, bool and text are refused."""
    with pytest.raises(ConfigurationError, match=r"FakeClock\.advance: must be a finite number of seconds of at least 0"):
        manual.advance(wrong)
    with pytest.raises(ConfigurationError, match=r"FakeClock\.start"):
        FakeClock(wrong)


def test_a_plain_sleep_moves_the_time(clock):
    """No real time passes; what was slept is listed, zero and below included."""
    clock.sleep(3600)
    clock.sleep(0)
    clock.sleep(-1)
    assert (3600.0, [3600, 0, -1]) == (clock.monotonic(), clock.sleeps)


def test_threads_that_sleep_at_once_sleep_side_by_side():
    """Two sleeps of 5 s begun at the same time end at 5 s, not at 10 s."""
    clock = FakeClock(auto_advance=False)
    with ThreadPoolExecutor(3) as pool:
        sleepers = [pool.submit(clock.sleep, 5.0) for _ in range(3)]
        while len(clock.sleeps) < 3:
            pass
        clock.advance(4.0)
        assert not any(sleeper.done() for sleeper in sleepers)
        while not all(sleeper.done() for sleeper in sleepers):
            clock.advance(1.0)  # a thread may have listed its sleep without having begun it
    assert clock.monotonic() >= 5.0


def test_many_threads_never_see_time_go_back(clock):
    """Each thread's readings grow while all of them sleep."""
    wrong = []

    def work():
        for _ in range(200):
            before = clock.nanoseconds()
            clock.sleep(0.001)
            if clock.nanoseconds() < before + 1_000_000:
                wrong.append(before)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ([], 1600) == (wrong, len(clock.sleeps))


async def test_time_jumps_when_every_task_sleeps(clock):
    """Sleepers wake in the order of their times, each at its own."""
    woken = []

    async def sleeper(seconds):
        await clock.sleep_async(seconds)
        woken.append((seconds, clock.monotonic()))

    await asyncio.gather(sleeper(300), sleeper(1), sleeper(20))
    assert [(1, 1.0), (20, 20.0), (300, 300.0)] == woken
    assert [300, 1, 20] == clock.sleeps


async def test_time_stands_still_while_a_task_can_run(clock):
    """A task that goes on without waiting is not overtaken by a sleeper."""
    seen = []

    async def busy():
        for _ in range(50):
            await asyncio.sleep(0)
        seen.append(clock.monotonic())

    await asyncio.gather(clock.sleep_async(5), busy())
    assert ([0.0], 5.0) == (seen, clock.monotonic())


async def test_a_sleep_of_zero_lets_others_run_and_takes_no_time(clock):
    """Zero and below yield once."""
    seen = []
    asyncio.get_running_loop().call_soon(seen.append, 1)
    await clock.sleep_async(0)
    await clock.sleep_async(-1)
    assert ([1], 0.0) == (seen, clock.monotonic())


async def test_two_clocks_in_one_loop_do_not_wait_for_each_other(clock):
    """Each one's looking is no reason for the other to stand still."""
    other = FakeClock(100.0)
    await asyncio.gather(clock.sleep_async(5), other.sleep_async(7), clock.sleep_async(9))
    assert (9.0, 107.0) == (clock.monotonic(), other.monotonic())


async def test_a_timer_ends_a_wait_for_something_that_never_comes(clock):
    """A hung callee and a time-out on this clock: the time-out fires at its time."""
    hung = asyncio.get_running_loop().create_future()
    clock.call_later(30, lambda: hung.set_result(clock.monotonic()))
    assert 30.0 == await hung


async def test_a_cancelled_sleep_leaves_no_timer(clock):
    """Cancellation is passed on, and the time does not go on to where the sleep would have ended."""
    task = asyncio.create_task(clock.sleep_async(1000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.sleep_async(1)
    assert 1.0 == clock.monotonic()


async def test_a_sleep_cancelled_while_it_falls_due_is_cancelled(manual):
    """The timer finds its sleeper gone and does nothing."""
    task = asyncio.create_task(manual.sleep_async(5))
    await asyncio.sleep(0)
    task.cancel()
    manual.advance(5)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_timer_never_runs(manual):
    """Neither does cancelling one that has run do anything."""
    seen = []
    never = manual.call_later(1, lambda: seen.append("never"))
    once = manual.call_later(2, lambda: seen.append("once"))
    never.cancel()
    manual.advance(3)
    once.cancel()
    never.cancel()
    assert ["once"] == seen


async def test_advance_runs_timers_in_order_and_on_time(manual):
    """Ties in the order in which they were set; a timer set by a timer counts from that one's time."""
    seen = []
    manual.call_later(2, lambda: seen.append(("b", manual.monotonic())))
    manual.call_later(2, lambda: seen.append(("c", manual.monotonic())))
    manual.call_later(1, lambda: manual.call_later(0.5, lambda: seen.append(("a", manual.monotonic()))))
    manual.call_later(9, lambda: seen.append(("late", manual.monotonic())))
    manual.advance(5)
    assert ([("a", 1.5), ("b", 2.0), ("c", 2.0)], 5.0) == (seen, manual.monotonic())


async def test_a_timer_runs_in_the_context_in_which_it_was_set(manual):
    """As the loop's own timers do."""
    name = contextvars.ContextVar("name")
    name.set("then")
    seen = []
    manual.call_later(1, lambda: seen.append(name.get()))
    name.set("now")
    manual.advance(1)
    assert ["then"] == seen


async def test_a_timer_that_raises_harms_nobody(manual):
    """Its error goes to the loop's exception handler, and the next timer runs."""
    told, seen = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    manual.call_later(1, lambda: 1 // 0)
    manual.call_later(2, lambda: seen.append("next"))
    manual.advance(3)
    assert ([ZeroDivisionError], ["next"]) == ([type(error) for error in told], seen)


async def test_another_thread_may_advance(manual):
    """Timers run in their own loop's thread, and can be called off until they do."""
    ran_in = []
    hung = asyncio.get_running_loop().create_future()
    manual.call_later(1, lambda: ran_in.append(threading.get_ident()))
    off = manual.call_later(1, lambda: ran_in.append("never"))
    manual.call_later(2, lambda: hung.set_result(None))
    thread = threading.Thread(target=manual.advance, args=(5,))
    thread.start()
    thread.join()
    off.cancel()
    await hung
    assert [threading.get_ident()] == ran_in


def test_timers_of_a_loop_that_is_gone_are_dropped(clock):
    """A clock outlives a loop, and serves the next one."""

    async def leave_a_timer():
        clock.call_later(5, lambda: pytest.fail("its loop is gone"))

    asyncio.run(leave_a_timer())
    asyncio.run(clock.sleep_async(10))
    assert 10.0 == clock.monotonic()


async def test_advance_async_lets_tasks_run_on_time(manual):
    """A task that sleeps again and again sees each of its times, where `advance` would show it the last one only."""
    seen = []

    async def ticker():
        while True:
            await manual.sleep_async(1)
            seen.append(manual.monotonic())

    task = asyncio.create_task(ticker())
    await manual.advance_async(3.5)
    assert ([1.0, 2.0, 3.0], 3.5) == (seen, manual.monotonic())
    task.cancel()


async def test_advance_async_waits_for_those_who_can_still_run(manual):
    """A woken task runs until it waits again, however many steps that takes."""
    seen = []

    async def slow():
        await manual.sleep_async(1)
        for _ in range(20):
            await asyncio.sleep(0)
        seen.append(manual.monotonic())

    task = asyncio.create_task(slow())
    await manual.advance_async(10)
    assert [1.0] == seen
    await task


def test_a_foreign_loop_is_refused_with_a_remedy(clock, monkeypatch):
    """Without a queue to look into, nobody knows when a loop is idle."""

    class ForeignLoop:
        """A loop that hides its queue."""

    monkeypatch.setattr(asyncio, "get_running_loop", ForeignLoop)
    with pytest.raises(RuntimeError, match="use auto_advance=False"):
        clock.call_later(1, lambda: None)
