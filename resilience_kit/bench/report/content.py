"""The content of a report and the format of its numbers, shared by text and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resilience_kit.bench.compare.regressions import FEWEST_SAMPLES, SAME, TOO_FEW, Comparison, RegressionReport
from resilience_kit.bench.compare.trends import FEWEST_RUNS, Trend, TrendReport
from resilience_kit.bench.compare.trends import TOO_FEW as TOO_FEW_RUNS
from resilience_kit.bench.measure.leaks import LeakReport
from resilience_kit.bench.results import BenchmarkResult, BenchmarkSuite

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((1024.0**2, "MiB"), (1024.0, "KiB"))
HEAD = ("benchmark", "median", "p95", "p99", "stdev", "outliers", "memory a call", "target", "headroom", "verdict")


@dataclass(frozen=True, slots=True)
class Report:
    """A suite, with its regressions, trends and leaks."""

    suite: BenchmarkSuite
    regressions: RegressionReport | None = None
    trends: TrendReport | None = None
    leaks: tuple[LeakReport, ...] = ()


def seconds(value: float) -> str:
    """Format seconds with three digits and a unit, as in `12.3 us`."""
    for size, unit in _TIMES:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def size(value: float) -> str:
    """Format bytes as B, KiB or MiB."""
    for unit_size, unit in _SIZES:
        if abs(value) >= unit_size:
            return f"{value / unit_size:.1f} {unit}"
    return f"{value:.0f} B"


def row(result: BenchmarkResult) -> tuple[str, ...]:
    """Return one row of the table whose header is `HEAD`."""
    time = result.time
    return (
        result.name,
        seconds(time.median),
        seconds(time.p95),
        seconds(time.p99),
        seconds(time.stdev),
        str(time.outliers),
        size(result.memory.per_call_bytes) if result.memory else "-",
        seconds(result.target) if result.target is not None else "-",
        f"{result.headroom:.0f}x" if result.headroom is not None else "-",
        verdict(result),
    )


def verdict(result: BenchmarkResult) -> str:
    """Return pass, over, or a dash without a target."""
    if result.target is None:
        return "-"
    return "pass" if result.meets_target else "over"


def headline(suite: BenchmarkSuite) -> str:
    """Return a sentence that says whether all targets are met."""
    summary = f"{len(suite.results)} benchmarks in {seconds(suite.duration)}, {suite.timestamp}"
    return f"{summary}: " + ("all targets met" if suite.passed else f"over their targets: {', '.join(suite.failed_targets)}")


def remarks(report: Report) -> Iterator[str]:
    """Yield the remaining lines: warnings, costs of tracking, comparisons, trends, leaks."""
    for result in report.suite.results:
        yield from (f"{result.name}: {warning}" for warning in result.warnings)
    yield from _tracking(report.suite)
    yield from _regressions(report.regressions)
    yield from _trends(report.trends)
    yield from (f"{leak.name}: {leak.reason}" for leak in report.leaks)


def _tracking(suite: BenchmarkSuite) -> Iterator[str]:
    overheads = [result.memory.overhead for result in suite.results if result.memory]
    if overheads:
        yield (f"tracking memory made calls {min(overheads):.1f} to {max(overheads):.1f} times slower; time was taken without it")


def _regressions(report: RegressionReport | None) -> Iterator[str]:
    if report is None:
        return
    yield f"against the baseline: {len(report.regressions)} of {len(report.comparisons)} figures have become worse"
    few = [each.name for each in report.comparisons if each.verdict == TOO_FEW]
    if few:
        yield f"too few samples to judge the time of {', '.join(few)}: {FEWEST_SAMPLES} are needed in both runs"
    yield from (f"{each} ({_raw(each)})" for each in report.comparisons if each.verdict not in {SAME, TOO_FEW})
    yield from (f"{name}: in the baseline only" for name in report.missing)
    yield from (f"{name}: not in the baseline" for name in report.new)
    yield from report.notes


def _raw(found: Comparison) -> str:
    if found.what == "memory":
        return f"{size(found.now)} a call, was {size(found.then)}"
    machine = f"this machine takes {found.machine:.2f} times as long as the baseline's"
    return f"median {seconds(found.now)}, was {seconds(found.then)}; {machine}"


def _trends(report: TrendReport | None) -> Iterator[str]:
    if report is None:
        return
    for trend in report.trends:
        yield f"{trend.name}: {_of_trend(trend, len(trend.medians))}"
    yield from report.problems


def _of_trend(trend: Trend, runs: int) -> str:
    if trend.verdict == TOO_FEW_RUNS:
        return f"too few runs for a trend ({runs} of {FEWEST_RUNS})"
    return f"{trend.verdict} over {runs} runs ({trend.change:+.0%})"
