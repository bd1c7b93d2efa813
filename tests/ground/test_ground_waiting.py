"""How clocks wait for somebody or for a time, whichever comes first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from resilience_kit.clock import SystemClock
from resilience_kit.context import Priority, current_priority, priority
from resilience_kit.errors import ConfigurationError
from resilience_kit.testing import FakeClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_a_thread_is_woken(clock):
    """Before the time, or where there is none."""
    woken = threading.Event()
    woken.set()
    assert [True] * 3 == [clock.wait(woken, *limits) for limits in ((3600.0, None), (None, 3600.0), (None, None))]


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_a_threads_time_comes(clock):
    """Whatever it is called."""
    never = threading.Event()
    assert [False, False] == [clock.wait(never, *limits) for limits in ((1e-6, None), (None, 1e-6))]


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
async def test_a_task_is_woken_or_its_time_comes(clock):
    """The same for tasks."""
    loop = asyncio.get_running_loop()
    for limits, wakes in (((3600.0, None), True), ((None, 3600.0), True), ((None, None), True), ((1e-6, None), False)):
        woken = loop.create_future()
        if wakes:
            loop.call_soon(woken.set_result, True)
        assert wakes is await clock.wait_async(woken, *limits)


async def test_without_waiting_a_sleep_is_over_and_patience_is_not():
    """What takes as long as it takes cannot be skipped."""
    clock, loop = SystemClock(), asyncio.get_running_loop()
    clock.sleep_enabled = False
    assert not clock.wait(threading.Event(), 3600.0, None)
    assert not await clock.wait_async(loop.create_future(), 3600.0, None)
    woken = loop.create_future()
    loop.call_soon(woken.set_result, True)
    assert await clock.wait_async(woken, None, 3600.0)
    assert not clock.wait(threading.Event(), None, 1e-6)


async def test_waking_one_whose_time_has_come_is_harmless():
    """And the other way round."""
    clock, woken = FakeClock(), asyncio.get_running_loop().create_future()
    assert not await clock.wait_async(woken, 1.0, None)
    assert [1.0] == clock.sleeps
    woken = asyncio.get_running_loop().create_future()
    timers = [clock.call_later(0.5, lambda: woken.set_result(True)), clock.call_later(1.0, lambda: None)]
    assert await clock.wait_async(woken, None, 1.0)
    assert (1.5, 2) == (clock.monotonic(), len(timers))


async def test_a_timer_that_wakes_a_blocking_thread_stops_the_clock():
    """No later than it falls due."""
    clock, woken = FakeClock(), threading.Event()
    clock.call_later(0.5, woken.set)
    assert clock.wait(woken, 9.0, None)
    assert 0.5 == clock.monotonic()


def test_a_clock_that_is_moved_by_hand_holds_a_thread_until_then():
    """Or until somebody wakes it."""
    for seconds, wakes in ((5.0, False), (1.0, True)):
        clock, woken, ends = FakeClock(auto_advance=False), threading.Event(), []
        thread = threading.Thread(target=lambda: ends.append(clock.wait(woken, 5.0, None)))  # noqa: B023 - joined below
        thread.start()
        clock.advance(seconds)
        if wakes:
            woken.set()
        thread.join()
        assert [wakes] == ends


def test_a_priority_holds_within_its_block():
    """Named, or as it is; nested ones too."""
    levels = []
    with priority("low") as outer:
        levels.append(current_priority.get())
        with priority(Priority.HIGH):
            levels.append(current_priority.get())
        levels.append(current_priority.get())
    assert [Priority.LOW, Priority.HIGH, Priority.LOW] == levels
    assert (Priority.LOW, Priority.NORMAL) == (outer, current_priority.get())


@pytest.mark.parametrize("wrong", ["urgent", "", 1, None, True])
def test_other_priorities_are_refused(wrong):
    """With the names that there are."""
    with pytest.raises(ConfigurationError, match=r"priority\.level: must be one of 'low', 'normal', 'high'"):
        priority(wrong)
