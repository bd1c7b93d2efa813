"""A small load generator: calls a function for a while, at a rate or as fast as it returns, and reports the results.

With a rate the load is open: calls are due at their times whether or not earlier ones have returned, and a latency counts from
the time at which the call was due. A service that stalls therefore shows in the figures, however few workers there are.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from resilience_kit._callable_kinds import CallableKind, is_awaitable, kind_of
from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock

_QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Results of a load.

    `success_rate`: 0 to 1. `errors`: class name -> count. `latency_ms`: mean, p50, p95, p99 and max in milliseconds, failed
    calls included, by nearest rank. `throughput`: calls a second. `duration`: seconds until the last call returned.
    """

    count: int
    success_rate: float
    errors: Mapping[str, int]
    latency_ms: Mapping[str, float]
    throughput: float
    duration: float


def run_load(  # noqa: PLR0913 - keywords
    f: Callable[[], object],
    *,
    duration: float,
    rate: float | None = None,
    threads: int = 8,
    seed: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> LoadReport:
    """Call `f` from `threads` threads for `duration` seconds.

    `rate` calls a second in even steps, or with a `seed` at random times that are the same for the same seed; without a rate
    each thread calls again as soon as its last call has returned. Errors are counted; other `BaseException`s end the load.
    """
    load = _Load(f, (CallableKind.SYNC,), duration, rate, seed, clock, threads=threads)

    def work() -> None:
        while (due := load.next_due()) is not None:
            clock.sleep(max(0.0, due - clock.monotonic()))
            with load.call(due):
                _reject_awaitable(f())

    with ThreadPoolExecutor(threads, thread_name_prefix="load") as pool:
        for worker in [pool.submit(work) for _ in range(threads)]:
            worker.result()
    return load.report()


async def run_load_async(  # noqa: PLR0913 - keywords
    f: Callable[[], Awaitable[object]],
    *,
    duration: float,
    rate: float | None = None,
    tasks: int = 100,
    seed: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> LoadReport:
    """Call an async function (or one that returns an awaitable) from `tasks` tasks of the running loop, as `run_load`."""
    load = _Load(f, (CallableKind.ASYNC, CallableKind.SYNC), duration, rate, seed, clock, tasks=tasks)

    async def work() -> None:
        while (due := load.next_due()) is not None:
            await clock.sleep_async(max(0.0, due - clock.monotonic()))
            with load.call(due):
                await f()

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
    return load.report()


class _Load:
    """The schedule and the results of calls. Thread-safe."""

    def __init__(  # noqa: PLR0913 - the arguments of run_load
        self,
        f: Callable[[], object],
        kinds: tuple[CallableKind, ...],
        duration: float,
        rate: float | None,
        seed: int | None,
        clock: Clock,
        **workers: int,
    ) -> None:
        _check(f, kinds, duration, rate, workers)
        self._clock, self._lock = clock, threading.Lock()
        self._start = clock.monotonic()
        self._end = self._start + duration
        self._due = iter(clock.monotonic, None) if rate is None else _arrivals(self._start, rate, seed)
        self._latencies: list[float] = []
        self._errors: Counter[str] = Counter()

    def next_due(self) -> float | None:
        """Return when the next call is due (monotonic seconds); None when the load is over."""
        with self._lock:
            due = next(self._due)
        return due if due < self._end else None

    def call(self, due: float) -> _TimedCall:
        """Time one call and record its error."""
        return _TimedCall(self, self._clock, due)

    def record(self, latency: float, error: type[BaseException] | None) -> None:
        """Record the result of a call."""
        with self._lock:
            self._latencies.append(latency)
            if error is not None:
                self._errors[error.__name__] += 1

    def report(self) -> LoadReport:
        """Return the report; call it when all calls have returned."""
        latencies, count = sorted(self._latencies), len(self._latencies)
        duration = self._clock.monotonic() - self._start
        return LoadReport(
            count=count,
            success_rate=1.0 - self._errors.total() / count,
            errors=dict(self._errors),
            latency_ms={
                "mean": 1000 * math.fsum(latencies) / count,
                **{name: 1000 * latencies[math.ceil(q * count) - 1] for name, q in _QUANTILES.items()},
            },
            throughput=count / duration if duration else math.inf,
            duration=duration,
        )


class _TimedCall:
    """One call of a load."""

    __slots__ = ("_clock", "_late", "_load", "_started_at")

    def __init__(self, load: _Load, clock: Clock, due: float) -> None:
        self._load, self._clock = load, clock
        self._late = max(0.0, clock.monotonic() - due)
        self._started_at = clock.nanoseconds()

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._load.record(self._late + (self._clock.nanoseconds() - self._started_at) / 1e9, kind)
        return kind is not None and issubclass(kind, Exception)


def _arrivals(start: float, rate: float, seed: int | None) -> Iterator[float]:
    if seed is None:
        return (start + number / rate for number in itertools.count())
    draw = random.Random(seed)  # noqa: S311 - arrivals need no cryptography
    return itertools.accumulate((draw.expovariate(rate) for _ in itertools.count()), initial=start)


def _reject_awaitable(result: object) -> None:
    """Raise TypeError for an awaitable result of a plain call: it would count as a success without having run."""
    if is_awaitable(result):
        if isinstance(result, Coroutine):
            result.close()
        raise TypeError("the function returned something to await: use run_load_async")


def _check(
    f: Callable[[], object], kinds: tuple[CallableKind, ...], duration: float, rate: float | None, workers: Mapping[str, int]
) -> None:
    checks = Checks("run_load_async" if CallableKind.ASYNC in kinds else "run_load")
    if kind_of(f) not in kinds:
        checks.add("f", "must be a plain function for run_load, an async one for run_load_async", f)
    checks.seconds("duration", duration)
    if rate is not None:
        checks.seconds("rate", rate)
    for name, value in workers.items():
        checks.integer(name, value, 1)
    checks.raise_if_any()
