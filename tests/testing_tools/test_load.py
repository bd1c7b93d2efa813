"""The load generator, on a clock that is not real."""

import asyncio
import itertools
import threading

import pytest

from resilience_kit.errors import ConfigurationError
from resilience_kit.testing import FakeClock, every_nth, run_load, run_load_async


def report_of_slow_calls(clock, seconds=0.1, **options):
    """One thread whose calls take some seconds each."""
    return run_load(lambda: clock.sleep(seconds), threads=1, clock=clock, **options)


def test_without_a_rate_each_call_follows_the_last():
    """Ten calls of 0.1 s fit into a second."""
    report = report_of_slow_calls(FakeClock(), duration=1.0)
    assert (10, 1.0, {}, 1.0) == (report.count, report.success_rate, report.errors, report.duration)
    assert 10.0 == report.throughput
    assert {"mean": 100.0, "p50": 100.0, "p95": 100.0, "p99": 100.0, "max": 100.0} == {
        name: round(value, 6) for name, value in report.latency_ms.items()
    }


def test_a_rate_is_kept_while_the_workers_keep_up():
    """Five calls a second for two seconds, the first one at once."""
    starts = []
    clock = FakeClock(50.0)
    report = run_load(lambda: starts.append(clock.monotonic()), duration=2.0, rate=5.0, threads=1, clock=clock)
    assert (10, [50.0 + number / 5 for number in range(10)]) == (report.count, starts)


def test_a_stall_counts_against_every_call_that_was_due_meanwhile():
    """Latency begins when a call is due: one worker, calls due each 0.1 s that take 0.2 s, wait longer and longer."""
    report = report_of_slow_calls(FakeClock(), seconds=0.2, duration=1.0, rate=10.0)
    assert 10 == report.count
    assert [200.0, 600.0, 1100.0] == [
        round(value, 3) for value in (min(200.0, report.latency_ms["p50"]), report.latency_ms["p50"], report.latency_ms["max"])
    ]
    assert 2.0 == round(report.duration, 9)


def test_errors_are_counted_by_type():
    """Every fourth call fails, the others succeed; failed calls have latencies, too."""
    clock = FakeClock()
    report = run_load(every_nth(lambda: clock.sleep(0.01), 4, KeyError), duration=1.0, rate=20.0, threads=1, clock=clock)
    assert (20, 0.75, {"KeyError": 5}) == (report.count, report.success_rate, report.errors)


def test_what_is_no_exception_ends_the_load():
    """Ctrl-C in a worker reaches the caller."""

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_load(interrupted, duration=1.0, rate=1.0, threads=1, clock=FakeClock())


def test_threads_share_the_load():
    """All calls that are due are made, once each, by as many threads as are asked for."""
    clock, seen, met = FakeClock(), set(), threading.Barrier(4)

    def call():
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            met.wait(10)

    report = run_load(call, duration=1.0, rate=100.0, threads=4, clock=clock)
    assert (100, 4) == (report.count, len(seen))


async def test_tasks_overlap():
    """Twenty calls a second of a second each: all are under way at once, and none is late."""
    clock = FakeClock()
    report = await run_load_async(lambda: clock.sleep_async(1.0), duration=2.0, rate=20.0, tasks=30, clock=clock)
    assert (40, 1000.0) == (report.count, round(report.latency_ms["max"], 3))


async def test_async_errors_are_counted_and_cancellation_is_passed_on():
    """A load is cancelled like anything else."""
    clock = FakeClock()

    async def fail():
        await clock.sleep_async(0.1)
        raise ValueError

    report = await run_load_async(fail, duration=1.0, tasks=1, clock=clock)
    assert (10, 0.0, {"ValueError": 10}) == (report.count, report.success_rate, report.errors)
    load = asyncio.create_task(run_load_async(asyncio.Event().wait, duration=1.0, rate=1.0))
    await asyncio.sleep(0)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load


async def test_a_function_of_the_wrong_kind_never_succeeds():
    """A coroutine that is not awaited, and a result that cannot be awaited, are errors of each call."""
    clock, future = FakeClock(), asyncio.get_running_loop().create_future()
    for make in (asyncio.Event().wait, lambda: future):
        report = run_load(lambda make=make: make(), duration=1.0, rate=2.0, threads=1, clock=clock)
        assert (0.0, {"TypeError": 2}) == (report.success_rate, report.errors)
    report = await run_load_async(lambda: None, duration=1.0, rate=2.0, tasks=1, clock=clock)
    assert {"TypeError": 2} == report.errors


def arrivals(seed, rate=50.0):
    """The times of the calls of a seeded load."""
    clock, starts = FakeClock(), []
    run_load(lambda: starts.append(clock.monotonic()), duration=10.0, rate=rate, threads=1, seed=seed, clock=clock)
    return starts


def test_a_seed_spreads_the_calls_at_random_and_the_same_each_time():
    """Random gaps with the rate's mean, the first call at once."""
    first = arrivals(1)
    assert first == arrivals(1) != arrivals(2)
    gaps = [later - earlier for earlier, later in itertools.pairwise(first)]
    assert 0.0 == first[0]
    assert 400 < len(first) < 600
    assert max(gaps) > 3 * min(gaps)


def test_a_load_that_takes_no_time_has_no_rate():
    """One call at time zero: throughput is infinite rather than an error."""
    report = run_load(lambda: None, duration=1.0, rate=0.5, threads=1, clock=FakeClock())
    assert (1, float("inf")) == (report.count, report.throughput)


async def test_wrong_arguments_are_told_at_once():
    """Kind, duration, rate and workers."""

    async def coroutine():
        """Async."""

    with pytest.raises(ConfigurationError) as caught:
        run_load(coroutine, duration=0, rate=-1, threads=0)
    assert ["run_load.f", "run_load.duration", "run_load.rate", "run_load.threads"] == [each.path for each in caught.value.errors]

    async def generator():
        yield

    with pytest.raises(ConfigurationError, match=r"run_load_async\.f: must be a plain function for run_load, an async one for"):
        await run_load_async(generator, duration=1.0)
