"""What is timed, how often it is called, and how all is left behind."""

import asyncio
import gc
import threading
import tracemalloc

import pytest

from resilience_kit.bench import BenchOptions, LeakOptions, PerformanceBenchmarker, benchmarker
from resilience_kit.bench.measure.calibration import CpuShare
from resilience_kit.bench.measure.switches import Switch
from resilience_kit.errors import ConfigurationError


async def test_times_are_seconds_a_call(bench, timer):
    """Three samples of 1, 2 and 6 us."""
    result = bench.measure_performance("a", timer.call_taking(1000, 2000, 6000), 3)
    assert (3, 1, 3e-6, 2e-6, 1e-6, 6e-6) == (
        result.iterations,
        result.loops,
        result.time.mean,
        result.time.median,
        result.time.minimum,
        result.time.maximum,
    )
    assert (3, None) == (sum(count for _, count in result.distribution), result.memory)


def test_the_warm_up_is_left_out(timer):
    """The first call is slow and not among the samples."""
    bench = PerformanceBenchmarker(BenchOptions(warmup=1, memory=False), timer=timer)
    assert 1e-9 == bench.measure_performance("a", timer.call_taking(10**9, 1), 4).time.maximum


@pytest.mark.table(
    ("options", "calls"),
    [
        (BenchOptions(warmup=0, memory=False), 5),
        (BenchOptions(warmup=3, memory=False, loops=4), 3 + 5 * 4),
        (BenchOptions(), 1 + 5 + 1 + 5),
        (BenchOptions(memory_calls=2), 1 + 5 + 1 + 2),
        (BenchOptions(gc_enabled=True, memory=False), 1 + 5),
    ],
)
@pytest.mark.table("kind", ["sync", "async", "twin", "sync in twin"])
def test_calls_are_counted(options, calls, kind):
    """Warm-up, samples, one call before the memory is looked at and at most `memory_calls` with it, for every kind."""
    seen = []

    async def asynchronous():
        await asyncio.sleep(0)
        seen.append(1)

    bench = PerformanceBenchmarker(options)
    match kind:
        case "sync":
            bench.measure_performance("a", lambda: seen.append(1), iterations=5)
        case "async":
            bench.measure_performance("a", asynchronous, iterations=5)
        case "twin":
            asyncio.run(bench.measure_performance_async("a", asynchronous, iterations=5))
        case _:
            asyncio.run(bench.measure_performance_async("a", lambda: seen.append(1), iterations=5))
    assert calls == len(seen)


def test_loops_are_found_for_what_is_too_quick(timer):
    """A clock of 10 ns and a call of 100 ns: a sample has to take 10 us, which 128 calls do."""
    timer.tick = 10
    bench = PerformanceBenchmarker(BenchOptions(loops=None, memory=False), timer=timer)
    result = bench.measure_performance("a", timer.call_taking(100), 3)
    assert (128, pytest.approx(100e-9, rel=0.01)) == (result.loops, result.time.mean)


def test_a_slow_call_is_one_loop(timer):
    """Nothing is repeated that the clock can see."""
    bench = PerformanceBenchmarker(BenchOptions(loops=None, memory=False), timer=timer)
    assert 1 == bench.measure_performance("a", timer.call_taking(10**6), 3).loops


@pytest.mark.slow
def test_quick_samples_and_wide_ones_are_doubted(timer):
    """The figures come with a reason not to trust them."""
    timer.tick = 10
    bench = PerformanceBenchmarker(BenchOptions(warmup=0, memory=False), timer=timer)
    quick = bench.measure_performance("a", timer.call_taking(1), 4)
    wide = bench.measure_performance("b", timer.call_taking(10**6, 2 * 10**6, 10**6, 2 * 10**6), 4)
    steady = bench.measure_performance("c", timer.call_taking(10**6), 4)
    assert ["a sample takes less than 100 ticks of the clock; loops=None puts more calls into one"] == list(quick.warnings)
    assert ["half of the samples are spread over 67% of the median; try a quieter machine"] == list(wide.warnings)
    assert () == steady.warnings


def test_targets_are_for_the_95th_percentile(bench, timer):
    """One slow call in twenty-five is forgiven, two are not."""
    good = bench.measure_performance("a", timer.call_taking(*[10**6] * 24, 10**9), 25, target=0.002)
    bad = bench.measure_performance("b", timer.call_taking(*[10**6] * 23, 10**9), 25, target=0.002)
    none = bench.measure_performance("c", timer.call_taking(0), 1)
    assert (True, 2.0) == (good.meets_target, good.headroom)
    assert (False, 2.0) == (bad.meets_target, bad.headroom)
    assert (True, None) == (none.meets_target, none.headroom)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tick", "cpu_tick", "call", "cpu_call", "share"),
    [
        (0, 0, 1000, 500, 0.5),  # half of the time somebody else was waited for
        (10, 500, 990, 0, 1.0),  # the calibration was given a processor for half of its time only: so was this
        (10, 500, 9990, 0, 0.5),  # for a tenth of its time, and this for a twentieth
        (10, 10, 990, 2000, 1.0),  # several threads worked
        (10, 0, 990, 0, 0.0),  # a clock of processor time that stands still
    ],
)
def test_it_is_told_for_how_long_a_processor_was_needed(timer, tick, cpu_tick, call, cpu_call, share):
    """What other programs took away is not taken for waiting."""
    cpu = type(timer)(cpu_tick)
    timer.tick = tick
    bench = PerformanceBenchmarker(BenchOptions(warmup=0, memory=False), timer=timer, cpu_timer=cpu)

    def work():
        timer.now += call
        cpu.now += cpu_call

    assert share == bench.measure_performance("a", work, 20).cpu_share


def test_a_clock_of_processor_time_may_be_coarse(timer):
    """One step in ten samples: the median of their shares is none, all of them together are right."""
    busy = CpuShare(exact=100)
    for number in range(10):
        busy.add(10_000_000 if number == 0 else 0, 1_000_000)
    assert 1.0 == busy.share


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("fails_at", [1, 3, 8])
def test_an_error_leaves_with_the_name_and_all_is_as_before(asynchronous, fails_at):
    """In the warm-up, among the samples, under tracemalloc: one note, the collector on, tracemalloc off."""
    seen, error = [], KeyError("mine")

    def call():
        seen.append(1)
        if len(seen) >= fails_at:
            raise error

    async def call_async():
        call()

    assert not tracemalloc.is_tracing()
    frozen = gc.get_freeze_count()  # not 0 on every interpreter
    for _ in range(2):
        with pytest.raises(KeyError, match="mine") as raised:
            PerformanceBenchmarker().measure_performance("parse", call_async if asynchronous else call, 5)
    assert (error, ["in the benchmark 'parse'"]) == (raised.value, raised.value.__notes__)
    assert (False, True, True) == (tracemalloc.is_tracing(), gc.isenabled(), gc.get_freeze_count() <= frozen)


def test_a_stop_iteration_is_an_error_as_any_other(bench):
    """It does not pass for the end of the measurement."""
    with pytest.raises(StopIteration):
        bench.measure_performance("a", lambda: next(iter(())), 3)


async def test_cancellation_passes_and_all_is_as_before():
    """Nothing is added to it, and the switches go back."""
    task = asyncio.ensure_future(PerformanceBenchmarker().measure_performance_async("a", asyncio.Event().wait, 3))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert [] == getattr(raised.value, "__notes__", [])
    assert (False, True) == (tracemalloc.is_tracing(), gc.isenabled())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_passes(bench, error):
    """Without a note."""

    def call():
        raise error

    with pytest.raises(error) as raised:
        bench.measure_performance("a", call)
    assert [] == getattr(raised.value, "__notes__", [])


def test_what_was_on_stays_on():
    """Traces of tracemalloc, a collector that is off."""
    tracemalloc.start()
    gc.disable()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = bytearray(100_000)
        PerformanceBenchmarker().measure_performance("a", lambda: None, 3)
        assert (True, False) == (tracemalloc.is_tracing(), gc.isenabled())
        assert tracemalloc.get_traced_memory()[0] - before >= len(kept)
    finally:
        gc.enable()
        tracemalloc.stop()


def test_a_benchmark_inside_a_benchmark():
    """The inner one leaves tracemalloc on for the outer one."""
    inner, outer = PerformanceBenchmarker(), PerformanceBenchmarker()

    def call():
        return inner.measure_performance("inner", lambda: bytearray(1000), 2)

    result = outer.measure_performance("outer", call, 2)
    assert result.memory.peak_bytes > 1000
    assert (False, True) == (tracemalloc.is_tracing(), gc.isenabled())


@pytest.mark.usefixtures("thawed")
def test_threads_measure_at_once():
    """Nobody switches tracemalloc off under another one, and no result is lost."""
    bench = PerformanceBenchmarker()
    gate = threading.Barrier(4)

    def call():
        return bytearray(5000)

    def work(number):
        gate.wait()
        bench.measure_performance(f"n{number}", call, 50)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    frozen = gc.get_freeze_count()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = bench.to_suite().results
    assert {"n0", "n1", "n2", "n3"} == {result.name for result in results}
    assert all(result.memory.peak_bytes >= 5000 for result in results)
    assert (False, True, True) == (tracemalloc.is_tracing(), gc.isenabled(), gc.get_freeze_count() <= frozen)


async def test_tasks_measure_at_once():
    """The same in one thread, with tasks that leave in any order."""
    bench = PerformanceBenchmarker()

    async def call():
        await asyncio.sleep(0)

    await asyncio.gather(*(bench.measure_performance_async(f"n{n}", call, n + 1) for n in range(4)))
    assert 4 == len(bench.to_suite().results)
    assert (False, True) == (tracemalloc.is_tracing(), gc.isenabled())


async def test_inside_a_loop_the_twin_is_named(bench):
    """An async function cannot be run to its end by a plain call in a running loop."""

    async def call():
        """Never reached."""

    for method in (bench.measure_performance, bench.detect_leak, bench.measure_concurrency):
        with pytest.raises(RuntimeError, match="await the method of the same name with _async at its end"):
            method("a", call)


def generator():
    """Does nothing before it is asked."""
    yield


@pytest.mark.parametrize("f", [generator, 7, None])
def test_what_is_no_function_is_refused(bench, f):
    """Generators do their work later; a number does none."""
    with pytest.raises(TypeError, match="a benchmark calls a plain or an async function, got"):
        bench.measure_performance("a", f)
    with pytest.raises(TypeError, match="a benchmark calls"):
        asyncio.run(bench.measure_performance_async("a", f))


@pytest.mark.parametrize("twin", [False, True])
def test_a_plain_function_that_gives_a_coroutine_is_refused(bench, twin):
    """Its work would be timed as nothing."""

    async def work():
        """Never runs."""

    def call():
        return work()

    with pytest.raises(TypeError, match="gave 'coroutine', whose work is not done yet; give the async function itself"):
        if twin:
            asyncio.run(bench.measure_performance_async("a", call))
        else:
            bench.measure_performance("a", call)


def test_a_plain_function_that_gives_a_generator_is_refused(bench):
    """The same."""
    with pytest.raises(TypeError, match="gave 'generator'"):
        bench.measure_performance("a", lambda: generator())  # noqa: PLW0108 - the lambda is a plain function


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": ""}, "benchmark.name: must be a text that is not empty"),
        ({"name": 5}, "benchmark.name: must be a text that is not empty, got 5"),
        ({"iterations": 0}, "benchmark.iterations: must be a whole number of at least 1, got 0"),
        ({"iterations": True}, "benchmark.iterations: must be a whole number"),
        ({"target": 0}, "benchmark.target: must be a finite number of seconds above 0"),
    ],
)
def test_wrong_arguments_are_refused(bench, arguments, text):
    """Before anything is called."""
    with pytest.raises(ConfigurationError, match=text):
        bench.measure_performance(**({"name": "a", "f": pytest.fail} | arguments))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("warmup", -1),
        ("loops", 0),
        ("loops", 1 << 30),
        ("gc_enabled", 1),
        ("memory", None),
        ("memory_calls", 0),
        ("exact_samples", -1),
        ("memory_threshold_mb", float("nan")),
        ("regression_threshold", -0.1),
        ("significance", 2),
    ],
)
def test_wrong_options_are_refused(field, value):
    """Each in a sentence that names it."""
    with pytest.raises(ConfigurationError, match=f"BenchOptions.{field}: must be"):
        BenchOptions(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("iterations", 39), ("rounds", 0), ("samples_per_round", 19), ("significance", -1), ("min_bytes_per_call", -1)],
)
def test_wrong_leak_options_are_refused(field, value):
    """The same; a stretch has at least a call for each reading."""
    with pytest.raises(ConfigurationError, match=f"LeakOptions.{field}: must be"):
        LeakOptions(**{field: value})


def test_options_have_to_be_options():
    """Not a mapping that looks like them."""
    with pytest.raises(ConfigurationError, match=r"PerformanceBenchmarker.options: must be a BenchOptions"):
        PerformanceBenchmarker({"warmup": 1})


def test_the_newest_result_of_a_name_is_kept(bench, timer, monkeypatch):
    """And of a bounded number of names, the newest ones."""
    monkeypatch.setattr(benchmarker, "_MOST_NAMES", 10)
    for number in range(15):
        bench.measure_performance(f"n{number}", timer.call_taking(number))
    bench.measure_performance("n6", timer.call_taking(1_000_000))
    collected = bench.to_suite("mine")
    assert ("mine", 10, "n5", "n6") == (
        collected.name,
        len(collected.results),
        collected.results[0].name,
        collected.results[-1].name,
    )
    assert 0.001 == collected["n6"].time.mean
    with pytest.raises(KeyError, match="n4"):
        collected["n4"]


def test_a_forked_child_gets_a_lock_of_its_own():
    """Whoever held a switch's lock in the parent is not there."""
    switch = Switch(lambda: True, pytest.fail, pytest.fail)
    switch._lock.acquire()
    switch.reset_after_fork()
    with switch:
        pass
