"""The function for a single call: its formula and its limits are fixed."""

from __future__ import annotations

import asyncio
import random

import pytest

from resilience_kit import retry_with_backoff
from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError, Rejected


@pytest.fixture
def slept(monkeypatch):
    """The sleeps asked of asyncio, none of which lasts."""
    sleeps = []

    async def sleep(seconds):
        sleeps.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return sleeps


def failing(error, times):
    """A function that fails some times."""
    calls = []

    def work(*args, **kwargs):
        calls.append((args, kwargs))
        if len(calls) <= times:
            raise error
        return "done"

    return calls, work


async def test_it_runs_at_most_once_and_max_retries(slept):
    """With the waits of the formula, and the last error as it is (invariants 23 and 25)."""
    error = KeyError("x")
    calls, work = failing(error, 9)
    with pytest.raises(KeyError) as caught:
        await retry_with_backoff(work, 1, jitter=False, key=2)
    assert error is caught.value
    assert ([((1,), {"key": 2})] * 4, [1.0, 2.0, 4.0]) == (calls, slept)


async def test_both_kinds_of_functions(slept):
    """Plain, async, and plain ones that give an awaitable."""
    for shape in ("plain", "async", "giving"):
        calls, work = failing(KeyError(), 1)

        async def async_work(work=work):
            return work()

        f = {"plain": work, "async": async_work, "giving": lambda async_work=async_work: async_work()}[shape]
        assert ("done", 2) == (await retry_with_backoff(f), len(calls))


@pytest.mark.parametrize(("draw", "expected"), [("low", [0.8, 1.6, 3.0]), ("high", [1.2, 2.4, 3.0])])
async def test_jitter_comes_before_the_limit(slept, monkeypatch, draw, expected):
    """random.uniform(1 - factor, 1 + factor), and last of all max_delay (invariant 24)."""
    monkeypatch.setattr(random, "uniform", lambda low, high: low if draw == "low" else high)
    with pytest.raises(KeyError):
        await retry_with_backoff(failing(KeyError(), 9)[1], max_delay=3.0)
    assert expected == pytest.approx(slept)


async def test_a_hint_is_not_its_business(slept):
    """It knows exceptions only."""
    error = KeyError()
    error.retry_after = 500.0
    await retry_with_backoff(failing(error, 1)[1], jitter=False)
    assert [1.0] == slept


@pytest.mark.parametrize(
    ("error", "options", "expected"),
    [
        (KeyError(), {}, 4),
        (KeyError(), {"retry_exceptions": (ValueError,)}, 1),
        (KeyError(), {"retry_exceptions": KeyError}, 4),
        (KeyError(), {"retry_exceptions": [KeyError, ValueError]}, 4),
        (KeyError(), {"exclude_exceptions": KeyError}, 1),
        (KeyError(), {"max_retries": 0}, 1),
        (CircuitBreakerOpenError("op", 1.0), {}, 1),
        (CircuitBreakerOpenError("op", 1.0), {"retry_exceptions": (Rejected,)}, 4),
        (asyncio.CancelledError(), {"retry_exceptions": (BaseException,)}, 1),
        (KeyboardInterrupt(), {}, 1),
    ],
)
async def test_what_is_retried(slept, error, options, expected):
    """Named classes, and neither refusals nor cancellations unless named (invariants 27 and 28)."""
    calls, work = failing(error, 9)
    with pytest.raises(type(error)):
        await retry_with_backoff(work, **options)
    assert expected == len(calls)


async def test_wrong_settings_are_refused():
    """Before anything is called."""
    calls, work = failing(KeyError(), 0)
    for options in ({"max_retries": -1}, {"base_delay": float("nan")}, {"retry_exceptions": "KeyError"}):
        with pytest.raises(ConfigurationError):
            await retry_with_backoff(work, **options)
    assert [] == calls


async def test_cancelled_in_a_wait():
    """At once (invariant 28)."""
    calls, work = failing(KeyError(), 9)
    task = asyncio.ensure_future(retry_with_backoff(work, base_delay=1000.0, max_delay=1000.0))
    while not calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 == len(calls)
