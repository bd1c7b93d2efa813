"""A clock that moves when told, and results to compare."""

import gc

import pytest

from resilience_kit.bench import BenchmarkResult, BenchmarkSuite, BenchOptions, PerformanceBenchmarker, summarize


class FakeTimer:
    """Nanoseconds; `tick` is what each reading costs."""

    def __init__(self, tick=0):
        self.now, self.tick = 0, tick

    def __call__(self):
        self.now += self.tick
        return self.now

    def call_taking(self, *nanoseconds):
        """A function whose calls take so long, one after the other; the last one's time stays."""
        left = list(nanoseconds)

        def call():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def timer():
    """A clock that stands still unless told."""
    return FakeTimer()


@pytest.fixture
def bench(timer):
    """A benchmarker that only times, without a warm-up."""
    return PerformanceBenchmarker(BenchOptions(warmup=0, memory=False), timer=timer, cpu_timer=timer)


@pytest.fixture
def result():
    """Makes results with a median and a spread."""

    def make(name="a", median=1.0, spread=0.0, repeated=3, **more):
        time = summarize([median - spread, median - spread / 2, median, median + spread / 2, median + spread] * repeated)
        given = {
            "iterations": 5 * repeated,
            "loops": 1,
            "distribution": ((median, 5 * repeated),),
            "memory": None,
            "calibration": 1e-4,
            "cpu_share": 1.0,
        }
        return BenchmarkResult(name=name, time=time, **(given | more))

    return make


@pytest.fixture
def thawed():
    """Nothing is frozen, as in most programs."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.fixture
def suite():
    """Makes suites."""

    def make(*results, **more):
        given = {"name": "s", "timestamp": "2026-01-01T00:00:00+00:00", "duration": 1.0, "environment": {"python": "3.11"}}
        return BenchmarkSuite(results=results, **(given | more))

    return make
