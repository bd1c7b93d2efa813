"""`PerformanceBenchmarker`: the entry point of this package."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from resilience_kit._checks import Checks
from resilience_kit.bench.compare.history import History, read_suite
from resilience_kit.bench.compare.regressions import RegressionReport, compare
from resilience_kit.bench.compare.trends import TrendReport, trends_of
from resilience_kit.bench.measure import concurrency
from resilience_kit.bench.measure.concurrency import ConcurrencyResult
from resilience_kit.bench.measure.driving import MeasurementPlan, Timer, drive, drive_async, is_async
from resilience_kit.bench.measure.leaks import LeakReport, leak_plan
from resilience_kit.bench.measure.memory import MIB, MemoryAlert, MemoryUse, alert_above, memory_plan
from resilience_kit.bench.measure.options import BenchOptions, LeakOptions
from resilience_kit.bench.measure.timing import quality_warnings, timing_plan
from resilience_kit.bench.report import Report, write_report
from resilience_kit.bench.results import BenchmarkResult, BenchmarkSuite
from resilience_kit.bench.suite import NAME, comprehensive, environment

T = TypeVar("T")
_DEFAULT = BenchOptions()
_MOST_NAMES = 1000


class PerformanceBenchmarker:
    """Measures functions, keeps the newest result of each name (1000 names at most), and compares results.

    Every method that calls a function takes a plain or an async one. The plain methods run an async function in an event loop
    of their own; inside a running loop, await the method whose name ends in `_async`. What the function raises passes unchanged
    but for a note with the benchmark's name; tracemalloc and the garbage collector are then as they were before.

    Thread-safe, but what else runs in the process at the same time is in the figures.
    `timer` and `cpu_timer` return nanoseconds.
    """

    def __init__(
        self,
        options: BenchOptions = _DEFAULT,
        *,
        timer: Timer = time.perf_counter_ns,
        cpu_timer: Timer = time.process_time_ns,
    ) -> None:
        checks = Checks("PerformanceBenchmarker")
        checks.instance("options", options, BenchOptions)
        checks.raise_if_any()
        self._options, self._timer, self._cpu_timer = options, timer, cpu_timer
        self._results: dict[str, BenchmarkResult] = {}
        self._lock = threading.Lock()

    # --- one function ---

    def measure_performance(
        self, name: str, f: Callable[[], object], iterations: int = 1, *, target: float | None = None
    ) -> BenchmarkResult:
        """Time `f`, and measure its memory in a pass of its own.

        `iterations` samples follow the warm-up, each of `loops` calls, and after them a call more and at most `memory_calls`
        calls under tracemalloc. `target`: seconds for the 95th percentile. Raises ConfigurationError for wrong arguments,
        TypeError for what is no plain or async function, RuntimeError for an async one inside a running event loop.
        """
        return self._remember(self._run(name, f, self._plan(name, iterations, target, self._options)))

    async def measure_performance_async(
        self, name: str, f: Callable[[], object], iterations: int = 1, *, target: float | None = None
    ) -> BenchmarkResult:
        """Measure as `measure_performance`, in the running event loop."""
        return self._remember(await self._run_async(name, f, self._plan(name, iterations, target, self._options)))

    def detect_leak(self, name: str, f: Callable[[], object], options: LeakOptions | None = None) -> LeakReport:
        """Return whether memory grows with every call of `f`; see `LeakOptions` for how many calls that takes."""
        return self._run(name, f, leak_plan(name, _leak_options(options)))

    async def detect_leak_async(self, name: str, f: Callable[[], object], options: LeakOptions | None = None) -> LeakReport:
        """Measure as `detect_leak`, in the running event loop."""
        return await self._run_async(name, f, leak_plan(name, _leak_options(options)))

    def measure_concurrency(self, name: str, f: Callable[[], object], workers: int = 8, iterations: int = 1) -> ConcurrencyResult:
        """Make `workers * iterations` calls sequentially, then the same number by `workers` concurrent threads or tasks."""
        _check(name, workers=workers, iterations=iterations)
        if is_async(f):
            return _in_own_loop(lambda: self.measure_concurrency_async(name, f, workers, iterations))
        with _with_benchmark_note(name):
            sequential = concurrency.in_threads(f, 1, workers * iterations, self._timer)
            concurrent = concurrency.in_threads(f, workers, iterations, self._timer)
        return _concurrency_result(name, "threads", workers, iterations, sequential, concurrent)

    async def measure_concurrency_async(
        self, name: str, f: Callable[[], object], workers: int = 8, iterations: int = 1
    ) -> ConcurrencyResult:
        """Run `measure_concurrency` of an async function in the running event loop. Raises TypeError for a plain one."""
        _check(name, workers=workers, iterations=iterations)
        if not is_async(f):
            raise TypeError("tasks call an async function; give a plain one to measure_concurrency, which has threads")
        call = cast("Callable[[], Awaitable[object]]", f)
        with _with_benchmark_note(name):
            sequential = await concurrency.in_tasks(call, 1, workers * iterations, self._timer)
            concurrent = await concurrency.in_tasks(call, workers, iterations, self._timer)
        return _concurrency_result(name, "tasks", workers, iterations, sequential, concurrent)

    # --- the kit itself ---

    def run_comprehensive_benchmark(self, iterations: int = 100) -> BenchmarkSuite:
        """Measure the kit against its targets: loading, presets, validation, an orchestrator, protected calls, classification.

        Samples of quick operations are means over as many calls as the clock needs. Raises ConfigurationError when the
        environment of this process is wrong.
        """
        options = replace(self._options, loops=None)
        began = _SuiteTimer(self._timer)
        with comprehensive() as benchmarks:
            results = [self._run(b.name, b.f, self._plan(b.name, iterations, b.target, options)) for b in benchmarks]
        return began.suite(NAME, map(self._remember, results))

    async def run_comprehensive_benchmark_async(self, iterations: int = 100) -> BenchmarkSuite:
        """Run `run_comprehensive_benchmark` in the running event loop, which it blocks most of the time."""
        options = replace(self._options, loops=None)
        began = _SuiteTimer(self._timer)
        with comprehensive() as benchmarks:
            results = [await self._run_async(b.name, b.f, self._plan(b.name, iterations, b.target, options)) for b in benchmarks]
        return began.suite(NAME, map(self._remember, results))

    # --- reports ---

    def to_suite(self, name: str = "collected") -> BenchmarkSuite:
        """Return the newest result of every name as a suite."""
        with self._lock:
            results = tuple(self._results.values())
        return _SuiteTimer(self._timer).suite(name, results)

    def analyze_performance_trends(self, history: History | str | os.PathLike[str] | Iterable[BenchmarkSuite]) -> TrendReport:
        """Return what became slower or faster over a series of runs, oldest first: a `History`, its path, or suites."""
        if isinstance(history, (str, os.PathLike)):
            history = History(history)
        if isinstance(history, History):
            past = history.read()
            return trends_of(past.suites, self._options.significance, past.problems)
        return trends_of(tuple(history), self._options.significance)

    def detect_regressions(
        self, baseline: BenchmarkSuite | str | os.PathLike[str], current: BenchmarkSuite | None = None
    ) -> RegressionReport:
        """Compare `current`, or all results measured here, with a suite or the file of one (see `write_suite`)."""
        then = baseline if isinstance(baseline, BenchmarkSuite) else read_suite(baseline)
        return compare(current or self.to_suite(), then, self._options.regression_threshold)

    def check_memory(self, threshold_mb: float | None = None) -> MemoryAlert | None:
        """Return an alert when this process uses more than `threshold_mb` MiB (None: the options' threshold)."""
        threshold = self._options.memory_threshold_mb if threshold_mb is None else threshold_mb
        checks = Checks("check_memory")
        checks.number("threshold_mb", threshold, 0)
        checks.raise_if_any()
        return alert_above(threshold)

    def generate_performance_report(
        self,
        suite: BenchmarkSuite,
        format: str = "text",  # noqa: A002 - the usual name
        *,
        regressions: RegressionReport | None = None,
        trends: TrendReport | None = None,
        leaks: Iterable[LeakReport] = (),
    ) -> str:
        """Return a report as "text", "json" or "html", one page with its plots that loads no other file."""
        return write_report(Report(suite, regressions, trends, tuple(leaks)), format)

    # --- how ---

    def _plan(
        self, name: str, iterations: int, target: float | None, options: BenchOptions
    ) -> Generator[int, Any, BenchmarkResult]:
        _check(name, target, iterations=iterations)
        return self._measurement_plan(name, iterations, target, options)

    def _measurement_plan(
        self, name: str, iterations: int, target: float | None, options: BenchOptions
    ) -> Generator[int, Any, BenchmarkResult]:
        timing = yield from timing_plan(iterations, options, self._timer, self._cpu_timer)
        memory = None
        if options.memory:
            memory = yield from memory_plan(min(iterations, options.memory_calls), timing.time.mean)
        return BenchmarkResult(
            name=name,
            iterations=iterations,
            loops=timing.loops,
            time=timing.time,
            distribution=timing.distribution,
            memory=memory,
            calibration=timing.calibration,
            cpu_share=timing.cpu_share,
            target=target,
            warnings=(*quality_warnings(timing), *_memory_warnings(memory, options.memory_threshold_mb)),
        )

    def _run(self, name: str, f: Callable[[], object], plan: MeasurementPlan[T]) -> T:
        _check(name)
        if is_async(f):
            return _in_own_loop(lambda: self._run_async(name, f, plan))
        with _with_benchmark_note(name):
            return drive(plan, f, self._timer)

    async def _run_async(self, name: str, f: Callable[[], object], plan: MeasurementPlan[T]) -> T:
        _check(name)
        with _with_benchmark_note(name):
            return await drive_async(plan, f, self._timer)

    def _remember(self, result: BenchmarkResult) -> BenchmarkResult:
        with self._lock:
            self._results.pop(result.name, None)
            self._results[result.name] = result
            if len(self._results) > _MOST_NAMES:
                self._results.pop(next(iter(self._results)))
        return result


class _SuiteTimer:
    """Records when a suite began."""

    def __init__(self, timer: Timer) -> None:
        self._timer, self._began = timer, timer()
        self._timestamp = datetime.now(UTC).isoformat(timespec="seconds")

    def suite(self, name: str, results: Iterable[BenchmarkResult]) -> BenchmarkSuite:
        """Return the suite that ends now."""
        return BenchmarkSuite(
            name=name,
            timestamp=self._timestamp,
            results=tuple(results),
            duration=(self._timer() - self._began) / 1e9,
            environment=environment(),
        )


def _check(name: str, target: float | None = None, **numbers: int) -> None:
    checks = Checks("benchmark")
    if not isinstance(name, str) or not name:
        checks.add("name", "must be a text that is not empty", name)
    checks.optional_seconds("target", target)
    for field, value in numbers.items():
        checks.integer(field, value, 1)
    checks.raise_if_any()


def _leak_options(options: LeakOptions | None) -> LeakOptions:
    checks = Checks("detect_leak")
    checks.instance("options", options, LeakOptions, type(None))
    checks.raise_if_any()
    return options or LeakOptions()


def _memory_warnings(memory: MemoryUse | None, threshold_mb: float) -> tuple[str, ...]:
    if memory is None or memory.peak_bytes <= threshold_mb * MIB:
        return ()
    return (f"held {memory.peak_bytes / MIB:.1f} MiB at its peak, more than {threshold_mb:g} MiB",)


def _concurrency_result(  # noqa: PLR0913 - the fields of a result
    name: str, mode: str, workers: int, each: int, sequential: float, concurrent: float
) -> ConcurrencyResult:
    return ConcurrencyResult(
        name=name, mode=mode, workers=workers, calls=workers * each, sequential_seconds=sequential, concurrent_seconds=concurrent
    )


def _in_own_loop(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(start())
    raise RuntimeError("an event loop is running here: await the method of the same name with _async at its end")


@contextmanager
def _with_benchmark_note(name: str) -> Iterator[None]:
    """Add the benchmark's name to an error as a note, once; cancellation and Ctrl-C pass unchanged."""
    try:
        yield
    except Exception as error:
        note = f"in the benchmark {name!r}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
