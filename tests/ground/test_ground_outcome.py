"""Plain data about attempts, and the machine's clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from resilience_kit.outcome import SYSTEM_CLOCK, FailureKind, Guard, Outcome, OutcomeKind, Permit, SystemClock, Verdict


def test_kinds_are_words():
    """Values that can be written to JSON, as the contract spells them."""
    assert [
        "transient", "rate_limit", "quota", "auth", "permission", "invalid_request", "not_found", "content_filter",
        "context_length", "timeout", "connection", "overloaded", "server_error", "conflict", "unknown",
    ] == list(FailureKind)  # fmt: skip
    assert ["success", "failure", "ignored", "cancelled"] == list(OutcomeKind)


def test_data_cannot_be_changed():
    """Verdicts and outcomes are values."""
    verdict = Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True)
    outcome = Outcome(OutcomeKind.FAILURE, 0.5, verdict)
    assert (None, 0.5, None) == (verdict.retry_after, outcome.duration, outcome.error)
    for value, name in ((verdict, "kind"), (outcome, "duration")):
        with pytest.raises(AttributeError):
            setattr(value, name, None)
    assert verdict == Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True)


def test_guards_and_permits_are_known_by_what_they_do():
    """No base class is needed."""

    class Given:
        wait = 0.0

        def settle(self, outcome):
            """Nothing."""

    class Doorman:
        name = "door"

        def admit(self, cost=1.0):
            return Given()

        def fits(self, cost=1.0):
            return True

    assert isinstance(Doorman(), Guard)
    assert isinstance(Doorman().admit(), Permit)
    assert not isinstance(Given(), Guard)


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
