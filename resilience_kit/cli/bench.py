"""`resilience-kit bench`: the overhead of the kit on this machine, compared with targets and earlier runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from resilience_kit.bench import (
    BenchmarkResult,
    BenchmarkSuite,
    History,
    PerformanceBenchmarker,
    TrendReport,
    read_suite,
    write_suite,
)
from resilience_kit.bench.report.content import HEAD, Report, headline, remarks, row
from resilience_kit.cli.errors import CliError, for_option
from resilience_kit.cli.output import Output, table

_STYLES = {"pass": "green", "over": "bold red"}


def bench(  # noqa: PLR0913 - one argument an option
    output: Output, iterations: int, *, baseline: Path | None, save: Path | None, html: Path | None, history: Path | None
) -> int:
    """Run and report all benchmarks; return 1 if a target is missed or a result is worse than the `baseline`.

    `save`: file for the run as a future baseline. `html`: file for a report. `history`: file to append the run to. Raises
    CliError or ConfigurationError for files that cannot be read or written, if possible before a benchmark is run.
    """
    _check_folders({"--save": save, "--html": html, "--history": history})
    baseline_suite = None if baseline is None else read_suite(baseline)
    benchmarker = PerformanceBenchmarker()
    suite = benchmarker.run_comprehensive_benchmark(iterations)
    regressions = None if baseline_suite is None else benchmarker.detect_regressions(baseline_suite, suite)
    if save is not None:
        with for_option("--save", save):
            write_suite(suite, save)
    trends = None if history is None else _trends(suite, history)
    if html is not None:
        page = benchmarker.generate_performance_report(suite, "html", regressions=regressions, trends=trends)
        with for_option("--html", html):
            html.write_text(page, "utf-8")
    data = json.loads(benchmarker.generate_performance_report(suite, "json", regressions=regressions, trends=trends))
    output.show(data, table("", HEAD, map(_row, suite.results)), *_remarks(Report(suite, regressions, trends)))
    return int(not suite.passed or bool(regressions and regressions.regressions))


def _trends(suite: BenchmarkSuite, history: Path) -> TrendReport:
    with for_option("--history", history):
        History(history).append(suite)
        return PerformanceBenchmarker().analyze_performance_trends(history)


def _check_folders(files: dict[str, Path | None]) -> None:
    for option, file in files.items():
        if file is not None and not file.parent.is_dir():
            raise CliError(f"{option}: there is no folder {str(file.parent)!r}")
        if file is not None and file.is_dir():
            raise CliError(f"{option}: {str(file)!r} is a folder")
    if (save := files["--save"]) is not None and save.suffix.lower() != ".json":
        raise CliError("--save: the name must end in .json")


def _row(result: BenchmarkResult) -> Sequence[object]:
    *cells, verdict = row(result)
    return *cells, Text(verdict, _STYLES.get(verdict, ""))


def _remarks(report: Report) -> Iterator[str]:
    yield headline(report.suite)
    yield from remarks(report)
