"""Options of measurements, regressions and leaks."""

from __future__ import annotations

from dataclasses import dataclass

from resilience_kit._checks import Checks

#: A trend needs this many points before a test can call it more than chance at one in a thousand.
MIN_SAMPLES = 10
_MOST_LOOPS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Options of a benchmark.

    `warmup`: calls before anything is measured. `loops`: calls to one timed sample; None finds a number for which reading the
    clock costs at most a thousandth of a sample. `gc_enabled`: leave the garbage collector on while time is taken.
    `memory`: follow the timing with a pass under tracemalloc. `memory_calls`: at most so many calls in that pass.
    `exact_samples`: up to so many samples percentiles are exact, beyond they are within 6 %.
    `memory_threshold_mb`: above it `check_memory` and a result report too much memory (MiB).
    `regression_threshold`: 0.25 calls a quarter more a regression. `significance`: of a trend over runs; 0.05 is one wrong
    alarm in twenty steady rows.

    Raises ConfigurationError.
    """

    warmup: int = 1
    loops: int | None = 1
    gc_enabled: bool = False
    memory: bool = True
    memory_calls: int = 100
    exact_samples: int = 10_000
    memory_threshold_mb: float = 512.0
    regression_threshold: float = 0.25
    significance: float = 0.05

    def __post_init__(self) -> None:
        checks = Checks("BenchOptions")
        checks.integer("warmup", self.warmup, 0)
        if self.loops is not None and checks.integer("loops", self.loops, 1):
            checks.number("loops", self.loops, 1, _MOST_LOOPS)
        checks.flag("gc_enabled", self.gc_enabled)
        checks.flag("memory", self.memory)
        checks.integer("memory_calls", self.memory_calls, 1)
        checks.integer("exact_samples", self.exact_samples, 0)
        checks.number("memory_threshold_mb", self.memory_threshold_mb, 0)
        checks.number("regression_threshold", self.regression_threshold, 0)
        checks.number("significance", self.significance, 0, 1)
        checks.raise_if_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakOptions:
    """Options of leak detection.

    `iterations`: calls in the first round. `rounds`: at most so many; each further one is as long as all before it, and
    is run only while the memory goes on growing. `samples_per_round`: how often the memory is read in a round; the first half
    of them is warm-up. `significance`: the chance that noise without a trend passes for growth in one round.
    `min_bytes_per_call`: growth of fewer bytes a call is not reported.

    Three rounds make at most four times `iterations` calls; a cache that is full after half of them is no leak. Raises
    ConfigurationError.
    """

    iterations: int = 400
    rounds: int = 3
    samples_per_round: int = 40
    significance: float = 0.001
    min_bytes_per_call: float = 1.0

    def __post_init__(self) -> None:
        checks = Checks("LeakOptions")
        checks.integer("rounds", self.rounds, 1)
        checks.number("significance", self.significance, 0, 1)
        checks.number("min_bytes_per_call", self.min_bytes_per_call, 0)
        if checks.integer("samples_per_round", self.samples_per_round, 2 * MIN_SAMPLES):
            checks.integer("iterations", self.iterations, self.samples_per_round)
        checks.raise_if_any()
