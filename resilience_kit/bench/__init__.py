"""Benchmarks of functions and of this kit: time, memory, leaks, concurrency, regressions and trends.

from resilience_kit.bench import PerformanceBenchmarker

result = PerformanceBenchmarker().measure_performance("parse", parse, iterations=200)
print(result.time.median, result.memory.per_call_bytes)
"""

from resilience_kit.bench.benchmarker import PerformanceBenchmarker
from resilience_kit.bench.compare.history import History, HistoryData, read_suite, write_suite
from resilience_kit.bench.compare.regressions import Comparison, RegressionReport
from resilience_kit.bench.compare.trends import Trend, TrendReport
from resilience_kit.bench.measure.concurrency import ConcurrencyResult
from resilience_kit.bench.measure.leaks import LeakReport, MemoryGrowth
from resilience_kit.bench.measure.memory import MemoryAlert, MemoryUse
from resilience_kit.bench.measure.options import BenchOptions, LeakOptions
from resilience_kit.bench.measure.samples import Summary, summarize
from resilience_kit.bench.results import BenchmarkResult, BenchmarkSuite

__all__ = [
    "BenchOptions",
    "BenchmarkResult",
    "BenchmarkSuite",
    "Comparison",
    "ConcurrencyResult",
    "History",
    "HistoryData",
    "LeakOptions",
    "LeakReport",
    "MemoryAlert",
    "MemoryGrowth",
    "MemoryUse",
    "PerformanceBenchmarker",
    "RegressionReport",
    "Summary",
    "Trend",
    "TrendReport",
    "read_suite",
    "summarize",
    "write_suite",
]
