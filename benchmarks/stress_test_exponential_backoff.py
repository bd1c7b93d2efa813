"""Seven stress tests of the backoff strategy, which `make stress` runs, too.

    python benchmarks/stress_test_exponential_backoff.py [--tasks N] [--quick] [--json FILE]

Delay pattern, cap, filtering, limits, concurrency, base delays and the time of a calculation, each `--tasks` calculations. No
database and no waiting. Exit code 1 when one fails.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter, thread_time

import stress
from procrastinate.jobs import Job
from stress import Bar, Figures, expect

from resilience_kit.jobs import ExponentialBackoffStrategy

TASKS, QUICK = 100_000, 5_000
PATTERN = (2.0, 4.0, 8.0, 16.0, 32.0)
BASES = (0.001, 0.1, 0.5, 1.0, 2.0, 3.0, 10.0, 60.0, 300.0)
THREADS = 16
LONGEST_CALCULATION = 10.0  # microseconds
STEP, BATCHES = 1000, 50


def job(attempts: int) -> Job:
    return Job(id=1, queue="default", lock=None, queueing_lock=None, task_name="t", attempts=attempts)


def seconds(strategy: ExponentialBackoffStrategy, attempts: int, error: BaseException | None = None) -> float | None:
    """Return the delay, None for no further run."""
    answer = strategy.get_schedule_in(error, attempts)
    return None if answer is None else answer["seconds"]


def delay_pattern(tasks: int, bar: Bar) -> Figures:
    """2, 4, 8, 16, 32, and the same as a date."""
    bar.more(tasks)
    strategy, off = ExponentialBackoffStrategy(), 0.0
    for n in range(tasks):
        wanted = PATTERN[n % len(PATTERN)]
        found = seconds(strategy, n % len(PATTERN))
        expect(found == wanted, f"after {n % len(PATTERN)} attempts {found}, not {wanted}")
        if n % STEP == 0:
            off = max(off, _off_by(strategy, n % len(PATTERN), wanted))
            bar.done(min(STEP, tasks - n))
    return {"delays": " ".join(f"{each:g}" for each in PATTERN), "dates off by at most, ms": off * 1e3}


def _off_by(strategy: ExponentialBackoffStrategy, attempts: int, wanted: float) -> float:
    now = datetime.now(UTC)
    decision = strategy.get_retry_decision(exception=OSError(), job=job(attempts))
    expect(decision is not None and decision.retry_at is not None, "no decision")
    assert decision is not None
    assert decision.retry_at is not None
    off = (decision.retry_at - now).total_seconds() - wanted
    expect(0.0 <= off < 1.0, f"a date {off:g} s after the delay")
    return off


def cap(tasks: int, bar: Bar) -> Figures:
    """No delay is longer, with or without jitter, after however many attempts."""
    bar.more(tasks)
    plain = ExponentialBackoffStrategy(max_attempts=tasks + 1)
    spread = ExponentialBackoffStrategy(max_attempts=tasks + 1, jitter=True)
    longest = 0.0
    for n in range(tasks):
        found, jittered = seconds(plain, n), seconds(spread, n)
        assert found is not None
        assert jittered is not None
        longest = max(longest, found, jittered)
        expect(found == min(2.0 * 2.0 ** min(n, 1000), 300.0), f"after {n} attempts {found}")
        if n % STEP == 0:
            bar.done(min(STEP, tasks - n))
    expect(longest == plain.max_delay, f"the longest is {longest}")
    return {"longest": longest, "attempts": tasks}


def filtering(tasks: int, bar: Bar) -> Figures:
    """Only what is asked for is retried; a cancelled run always is."""
    bar.more(tasks)
    strategy = ExponentialBackoffStrategy(retry_exceptions=(ConnectionError, TimeoutError))
    none = ExponentialBackoffStrategy(retry_exceptions=())
    errors = (ConnectionResetError(), TimeoutError(), BrokenPipeError(), ValueError(), KeyError(), OSError(), KeyboardInterrupt())
    kept = 0
    for n in range(tasks):
        error = errors[n % len(errors)]
        retried = seconds(strategy, 0, error) is not None
        kept += retried
        expect(retried == isinstance(error, (ConnectionError, TimeoutError)), f"{type(error).__name__}: {retried}")
        expect(seconds(none, 0, error) is None, f"{type(error).__name__} is retried by a strategy for nothing")
        expect(seconds(strategy, 99, asyncio.CancelledError()) == 0.0, "a cancelled run is not retried")
        if n % STEP == 0:
            bar.done(min(STEP, tasks - n))
    return {"retried": kept, "not retried": tasks - kept}


def limits(tasks: int, bar: Bar) -> Figures:
    """Check that a strategy of n attempts allows n runs after the first."""
    most = min(100, max(1, int((2 * tasks) ** 0.5)))
    bar.more(most)
    for limit in range(most):
        strategy, retries = ExponentialBackoffStrategy(max_attempts=limit), 0
        while strategy.get_retry_decision(exception=OSError(), job=job(retries)) is not None:
            retries += 1
            expect(retries <= limit, f"a limit of {limit} allows more")
        expect(retries == limit, f"a limit of {limit} allows {retries}")
        bar.done()
    return {"limits": f"0 to {most - 1}"}


def concurrency(tasks: int, bar: Bar) -> Figures:
    """Threads that share a strategy get the same answers."""
    bar.more(THREADS)
    strategy = ExponentialBackoffStrategy()
    each = max(1, tasks // THREADS)

    def ask(_: int) -> bool:
        right = all(seconds(strategy, n % 5) == PATTERN[n % 5] and seconds(strategy, 5) is None for n in range(each))
        bar.done()
        return right

    begun = perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        expect(all(pool.map(ask, range(THREADS))), "another answer")
    return {"threads": THREADS, "calculations a second": THREADS * each * 2 / (perf_counter() - begun)}


def base_delays(tasks: int, bar: Bar) -> Figures:
    """min(base * 2**n, max) for each base; a base over the cap is refused."""
    bar.more(len(BASES))
    for base in BASES:
        strategy = ExponentialBackoffStrategy(max_attempts=50, base_delay=base)
        for n in range(max(1, tasks // len(BASES))):
            found, wanted = seconds(strategy, n % 50), min(base * 2.0 ** (n % 50), 300.0)
            expect(found == wanted, f"base {base:g}: after {n % 50} attempts {found}, not {wanted}")
        bar.done()
    try:
        ExponentialBackoffStrategy(base_delay=301.0)
    except ValueError:
        return {"bases": len(BASES)}
    raise stress.StressError("a base over the cap is not refused")


def calculation_speed(tasks: int, bar: Bar) -> Figures:
    """Of this thread's own time, and the median of batches, so that what else the machine does is left out."""
    error, one, strategy = ConnectionResetError(), job(3), ExponentialBackoffStrategy()
    heeding = ExponentialBackoffStrategy(use_classifier=True, respect_retry_after=True, jitter=True)
    found = {
        "us a delay": lambda: strategy.get_schedule_in(error, 3),
        "us a decision": lambda: strategy.get_retry_decision(exception=error, job=one),
        "us a decision with classifier and jitter": lambda: heeding.get_retry_decision(exception=error, job=one),
    }
    bar.more(len(found))
    figures = {name: _microseconds(calculate, tasks, bar) for name, calculate in found.items()}
    for name in ("us a delay", "us a decision"):
        expect(figures[name] < LONGEST_CALCULATION, f"{name}: {figures[name]:.1f}")
    return dict(figures)


def _microseconds(calculate: Callable[[], object], tasks: int, bar: Bar) -> float:
    batches, each = [], max(1, tasks // BATCHES)
    for _ in range(BATCHES):
        begun = thread_time()
        for _ in range(each):
            calculate()
        batches.append((thread_time() - begun) / each * 1e6)
    bar.done()
    return statistics.median(batches)


TESTS = {
    "delay pattern": delay_pattern,
    "cap": cap,
    "filtering": filtering,
    "limits": limits,
    "concurrency": concurrency,
    "base delays": base_delays,
    "calculation speed": calculation_speed,
}


def main(given: Sequence[str] | None = None) -> int:
    asked = stress.arguments(__doc__, tasks=TASKS, quick=QUICK, file="stress-exponential-backoff.json", given=given)
    tests = {name: partial(test, asked.tasks) for name, test in TESTS.items() if asked.only in name}
    return stress.run(Path(__file__).name, "exponential backoff", tests, asked)


if __name__ == "__main__":
    sys.exit(main())
