"""The machine's clock."""

from __future__ import annotations

import asyncio
import time

from resilience_kit.clock import SYSTEM_CLOCK, SystemClock


def test_the_clock_reads_through_the_module(monkeypatch):
    """Whoever patches `time` is obeyed."""
    slept = []
    monkeypatch.setattr(time, "monotonic", lambda: 12.5)
    monkeypatch.setattr(time, "sleep", slept.append)
    assert 12.5 == SYSTEM_CLOCK.monotonic()
    for seconds in (0.0, -1.0, 0.25):
        SYSTEM_CLOCK.sleep(seconds)
    assert [0.25] == slept


def test_nanoseconds_do_not_go_back():
    """A finer reading for latencies."""
    readings = [SYSTEM_CLOCK.nanoseconds() for _ in range(100)]
    assert sorted(readings) == readings
    assert isinstance(readings[0], int)


async def test_the_clock_sleeps_on_the_loop(monkeypatch):
    """With asyncio's own sleep; zero lets other tasks run."""
    slept, ran = [], []
    sleep = asyncio.sleep

    async def note(seconds):
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    task = asyncio.ensure_future(SYSTEM_CLOCK.sleep_async(0.0))
    task.add_done_callback(ran.append)
    await SYSTEM_CLOCK.sleep_async(5.0)
    while not ran:
        await sleep(0)
    assert ([5.0, 0.0], [task]) == (slept, ran)


async def test_a_clock_that_does_not_wait(monkeypatch):
    """The switch for tests: every sleep returns at once."""
    clock, slept = SystemClock(), []
    clock.sleep_enabled = False
    monkeypatch.setattr(time, "sleep", slept.append)
    clock.sleep(60.0)
    await clock.sleep_async(60.0)
    assert [] == slept


async def test_callbacks_come_later_or_not_at_all():
    """The loop's own timers."""
    called = []
    SYSTEM_CLOCK.call_later(0.0, lambda: called.append("kept"))
    SYSTEM_CLOCK.call_later(0.0, lambda: called.append("cancelled")).cancel()
    while not called:
        await asyncio.sleep(0)
    assert ["kept"] == called
