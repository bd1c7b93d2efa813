"""What the two stress programs share: tests with progress bars, a table of what they found, and a file of the same."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

from page_section import renew
from report import table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

_NO_MORE_DIGITS = 100.0

Figures = dict[str, float | int | str]


class StressError(AssertionError):
    """What was expected did not happen; the text says what did."""


def expect(holds: bool, otherwise: str) -> None:
    """Raise StressError unless it holds."""
    if not holds:
        raise StressError(otherwise)


class Bar:
    """The progress of one test. It may learn how much there is to do while it runs."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def more(self, number: int) -> None:
        """So much is to be done beside what is known already."""
        self._progress.update(self._task, total=(self._progress.tasks[self._task].total or 0) + number)

    def done(self, number: int = 1) -> None:
        """So much of it is."""
        self._progress.advance(self._task, number)


Test = Callable[[Bar], Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one test found. `trouble`: why it failed."""

    test: str
    passed: bool
    seconds: float
    figures: Figures = field(default_factory=dict)
    trouble: str = ""


def arguments(about: str | None, *, tasks: int, quick: int, file: str, given: Sequence[str] | None) -> argparse.Namespace:
    """Those of the command line; `tasks` is as wanted, or that of `--quick`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=_positive, metavar="N", help=f"how much each test does ({tasks})")
    parser.add_argument("--quick", action="store_true", help=f"as --tasks {quick}")
    parser.add_argument("--only", default="", metavar="WORDS", help="the tests whose names contain this")
    parser.add_argument("--json", type=Path, metavar="FILE", default=Path("build", file), help=f"the results (build/{file})")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the results in this page")
    asked = parser.parse_args(given)
    asked.tasks = asked.tasks or (quick if asked.quick else tasks)
    return asked


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def run(program: str, title: str, tests: Mapping[str, Test], asked: argparse.Namespace) -> int:
    """Run them all, each with a bar, whatever becomes of the others. 1 when one failed, otherwise 0."""
    console = Console()
    bars = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bars, console=console) as progress:
        verdicts = [_judged(name, test, Bar(progress, progress.add_task(name, total=None))) for name, test in tests.items()]
    console.print(_table(title, verdicts))
    _write(program, title, verdicts, asked)
    console.print(f"{sum(each.passed for each in verdicts)} of {len(verdicts)} passed; written to {asked.json}")
    return int(not all(each.passed for each in verdicts))


def _write(program: str, title: str, verdicts: Sequence[Verdict], asked: argparse.Namespace) -> None:
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    results = {"title": title, "tasks": asked.tasks, "tests": [asdict(each) for each in verdicts]}
    asked.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
    if asked.write is not None:
        rows = ((each.test, "passed" if each.passed else "failed", _found(each)) for each in verdicts)
        text = f"{table((title, 'verdict', 'found'), rows, numbers=False)}\n\nWith `--tasks {asked.tasks}`."
        renew(asked.write, f"python benchmarks/{program} --write docs/benchmarks/jobs.md", text)


def _judged(name: str, test: Test, bar: Bar) -> Verdict:
    begun = perf_counter()
    try:
        figures = test(bar)
    except Exception as error:  # noqa: BLE001 - a test that breaks has failed, and the others are to run
        trouble = str(error) if isinstance(error, StressError) else f"{type(error).__name__}: {error}"
        return Verdict(test=name, passed=False, seconds=perf_counter() - begun, trouble=trouble)
    return Verdict(test=name, passed=True, seconds=perf_counter() - begun, figures=figures)


def _table(title: str, verdicts: Sequence[Verdict]) -> RichTable:
    shown = RichTable("test", "", "seconds", "found", title=title)
    for each in verdicts:
        mark = "[green]passed[/]" if each.passed else "[red]failed[/]"
        shown.add_row(each.test, mark, f"{each.seconds:.1f}", _found(each).replace("[", r"\["))
    return shown


def _found(verdict: Verdict) -> str:
    return verdict.trouble or "; ".join(f"{what}: {_short(figure)}" for what, figure in verdict.figures.items())


def _short(figure: float | str) -> str:
    if isinstance(figure, str):
        return figure
    return f"{figure:,.0f}" if isinstance(figure, int) or figure >= _NO_MORE_DIGITS else f"{figure:.3g}"


def share_of(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    with suppress(IndexError):
        return ordered[int(share * len(ordered))]
    return ordered[-1] if ordered else 0.0
