"""What calls take and keep, when that is a leak, and when the process holds too much."""

import functools
import itertools
import random
import sys

import pytest

from resilience_kit.bench import BenchOptions, LeakOptions, PerformanceBenchmarker
from resilience_kit.bench.measure import memory
from resilience_kit.bench.measure.memory import MIB
from resilience_kit.errors import ConfigurationError


def test_the_peak_of_a_call_is_seen():
    """100 kB are held for a moment and given back."""
    use = PerformanceBenchmarker().measure_performance("a", lambda: len(bytearray(100_000)), 20).memory
    assert 20 == use.calls
    assert 100_000 <= use.peak_bytes < 110_000
    assert 100_000 <= use.per_call_bytes < 102_000
    assert abs(use.current_bytes) < 2000
    assert use.overhead > 0


def test_what_calls_keep_is_seen():
    """10 kB a call stay."""
    kept = []
    use = PerformanceBenchmarker().measure_performance("a", lambda: kept.append(bytearray(10_000)), 20).memory
    assert 200_000 <= use.current_bytes < 220_000
    assert pytest.approx(use.current_bytes / 20) == use.kept_per_call_bytes


def test_letting_go_of_something_older_is_below_zero():
    """Memory that goes away is told as it is."""
    kept = []

    def call():
        if len(kept) < 3:
            kept.append(bytearray(50_000))
        else:
            kept.clear()

    use = PerformanceBenchmarker(BenchOptions(warmup=0)).measure_performance("a", call, 3).memory
    assert use.calls == 3


def test_garbage_in_cycles_is_not_kept():
    """The collector is run before memory is read."""

    def call():
        cycle = [bytearray(10_000)]
        cycle.append(cycle)

    bench = PerformanceBenchmarker()
    assert bench.measure_performance("a", call, 20).memory.current_bytes < 10_000
    assert not bench.detect_leak("a", call)


def test_overhead_is_told_against_the_untracked_time(timer):
    """1 us without, 3 us with tracemalloc."""
    f = timer.call_taking(1000, 1000, 1000, 3000)
    bench = PerformanceBenchmarker(BenchOptions(warmup=0), timer=timer)
    assert 3.0 == pytest.approx(bench.measure_performance("a", f, 2).memory.overhead)


def test_no_time_at_all_has_no_overhead(timer):
    """A clock that stands still divides nothing."""
    assert 1.0 == PerformanceBenchmarker(timer=timer).measure_performance("a", lambda: None, 2).memory.overhead


def test_a_leak_of_1_kb_a_call_is_found():
    """The rate is told, and every stretch has grown."""
    kept = []
    report = PerformanceBenchmarker().detect_leak("grows", lambda: kept.append(bytearray(1000)))
    assert (True, True, 1601) == (report.leaks, bool(report), len(kept))
    assert 1000 <= report.bytes_per_call < 1150
    assert (3, 1600, 121) == (len(report.rounds), report.calls, len(report.readings))
    assert report.reason.endswith("as fast as at first")


def test_a_leak_at_every_tenth_call_is_found():
    """100 bytes a call on the average."""
    kept, numbers = [], itertools.count()
    report = PerformanceBenchmarker().detect_leak("a", lambda: next(numbers) % 10 or kept.append(bytearray(1000)))
    assert (True, pytest.approx(105, abs=15)) == (report.leaks, report.bytes_per_call)


@pytest.mark.parametrize("size", [16, 128, 400, 800])
def test_a_cache_that_fills_up_is_no_leak(size):
    """Also one that is still filling in the first stretches."""
    numbers = itertools.count()
    cached = functools.lru_cache(maxsize=size)(lambda _: bytearray(1000))
    report = PerformanceBenchmarker().detect_leak("a", lambda: cached(next(numbers)))
    assert (False, 0.0) == (report.leaks, report.bytes_per_call)
    assert report.reason.startswith("does not grow any more after")


def test_a_cache_that_fills_up_ever_more_slowly_is_no_leak():
    """Random keys out of 500: it is never quite full, and grows less and less."""
    draw = random.Random(1)
    cached = functools.cache(lambda _: bytearray(1000))
    report = PerformanceBenchmarker().detect_leak("a", lambda: cached(draw.randrange(500)))
    assert (False, 3, True) == (report.leaks, len(report.rounds), report.reason.endswith("it fills up"))


def test_a_single_step_is_no_leak():
    """Something is loaded once, in the middle of what is looked at."""
    kept, numbers = [], itertools.count()
    f = lambda: kept.append(bytearray(100_000)) if next(numbers) == 300 else None  # noqa: E731
    report = PerformanceBenchmarker().detect_leak("a", f)
    assert (False, 1) == (report.leaks, len(report.rounds))


def test_noise_is_no_leak():
    """What is held goes up and down."""
    draw, kept = random.Random(2), [b""]

    def call():
        kept[0] = bytes(draw.randrange(5000))

    assert not PerformanceBenchmarker().detect_leak("a", call)


async def test_async_functions_leak_too():
    """The same plan, awaited."""
    kept = []

    async def call():
        kept.append(bytearray(1000))

    assert await PerformanceBenchmarker().detect_leak_async("a", call)


def test_async_functions_leak_too_in_a_loop_of_their_own():
    """The same by the plain method."""
    kept = []

    async def call():
        kept.append(bytearray(1000))

    assert PerformanceBenchmarker().detect_leak("a", call, LeakOptions(iterations=40, samples_per_round=20))


def test_the_number_of_calls_is_bounded():
    """Four times the iterations at most, rounded up to whole steps, and one before them."""
    kept = []
    report = PerformanceBenchmarker().detect_leak(
        "a", lambda: kept.append(bytearray(1000)), LeakOptions(iterations=45, samples_per_round=20)
    )
    assert (True, 1 + 60 + 60 + 100, 220) == (report.leaks, len(kept), report.calls)


def test_too_much_memory_is_an_alert():
    """The process surely holds more than 1 MiB."""
    alert = PerformanceBenchmarker().check_memory(threshold_mb=1)
    assert (1, "rss" if sys.platform == "linux" else alert.source, None) == (alert.threshold_mb, alert.source, alert.traced_mb)
    assert 5 < alert.used_mb < 10_000
    assert str(alert).endswith("more than 1 MiB")


def test_enough_memory_is_no_alert():
    """The options' threshold counts when none is given."""
    assert None is PerformanceBenchmarker().check_memory(threshold_mb=1e6)
    assert None is PerformanceBenchmarker(BenchOptions(memory_threshold_mb=1e6)).check_memory()
    assert None is not PerformanceBenchmarker(BenchOptions(memory_threshold_mb=0)).check_memory()


@pytest.mark.parametrize("threshold", [-1, float("nan"), "5", True])
def test_a_wrong_threshold_is_refused(threshold):
    """A sentence, not a comparison that is never true."""
    with pytest.raises(ConfigurationError, match=r"check_memory.threshold_mb: must be"):
        PerformanceBenchmarker().check_memory(threshold)


def test_where_the_system_tells_the_peak_only(monkeypatch, tmp_path):
    """No /proc: the most that the process ever had."""
    monkeypatch.setattr(memory, "_STATM", tmp_path / "none")
    assert "peak rss" == PerformanceBenchmarker().check_memory(1).source


def test_where_the_system_tells_nothing(monkeypatch):
    """What Python has allocated counts; nothing when that is not tracked."""
    monkeypatch.setattr(memory, "resident", lambda: None)
    bench = PerformanceBenchmarker()
    assert None is bench.check_memory(0)
    seen = []

    def call():
        kept = bytearray(2 * MIB)
        seen.append(bench.check_memory(1))
        return len(kept)

    bench.measure_performance("a", call, 1)
    assert ["traced"] == list({alert.source for alert in seen if alert})
    assert all(alert.traced_mb == alert.used_mb > 2 for alert in seen if alert)


def test_a_result_tells_of_too_much_memory():
    """Its peak is above the options' threshold."""
    bench = PerformanceBenchmarker(BenchOptions(memory_threshold_mb=1, loops=None))
    result = bench.measure_performance("a", lambda: len(bytearray(2 * MIB)), 3)
    assert "held 2.0 MiB at its peak, more than 1 MiB" == result.warnings[-1]
