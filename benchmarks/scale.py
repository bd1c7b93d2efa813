"""The cost of a call, and memory, with growing numbers of everything: `make scale`.

More threads, tasks, operations, breakers and listeners; and how long a breaker's lock is held. Only ratios mean something, since
every machine has its own nanoseconds. docs/benchmarks/scale.md tells what is compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import harness
import lock_hold
import memory
import scaling
from comparison import FULL, QUICK, Comparison, Sizes, among
from harness import Loop, Samples
from lock_hold import Crowd
from overhead import BREAKER, KIT, NEVER, RETRY, TRY, environment, guarded, litter, with_breaker
from page_section import filled
from report import (
    Finding,
    Garbage,
    Report,
    Row,
    Tail,
    TailRow,
    Target,
    costs_section,
    finding,
    from_json,
    garbage_table,
    merged,
    tails_section,
    targets_table,
    to_json,
)

from resilience_kit import CircuitBreaker
from resilience_kit.events import CallFailed, CallSucceeded, StateChanged

LOCK, LAG = "lock: held for", "loop: late by"
CROWD = 8

#: By the name that titles begin with.
SECTIONS: dict[str, Callable[[Sizes, Loop], Iterator[Comparison]]] = {
    "threads": scaling.threads,
    "tasks": scaling.tasks,
    "operations": scaling.operations,
    "listeners": scaling.listeners,
    "bytes": memory.breakers,
    "call": memory.calls,
}
Progress = Callable[[str], object]


def targets(sizes: Sizes) -> Iterator[Target]:
    """Yield the targets: no slower than circuitbreaker at any number, and no slower with larger numbers."""
    for row, numbers, what in ((scaling.THREADS, sizes.threads, "thread"), (scaling.TASKS, sizes.tasks, "task")):
        for number in numbers:
            yield Target(row=row, contender=among(KIT, number, what), against=among(BREAKER, number, what), limit=1.0)
    least, *_, most = (among(KIT, number, "operation") for number in sizes.operations)
    for row in (scaling.ONE_OF_MANY, scaling.BY_NAME):
        yield Target(row=row, contender=most, against=least, limit=1.15)
    heard, most_heard = scaling.hearing(0, CallSucceeded), sizes.listeners[-1]
    for kind in (StateChanged, CallFailed):
        yield Target(row=scaling.HEARD_SUCCESS, contender=scaling.hearing(most_heard, kind), against=heard, limit=1.1)
    yield Target(row=memory.EACH, contender=KIT, against=memory.GOAL, limit=1.0)
    for success, _, retried, _ in (memory.TITLES, memory.ASYNC_TITLES):
        yield Target(row=success, contender=KIT, against=BREAKER, limit=1.0)
        yield Target(row=retried, contender=KIT, against=RETRY, limit=1.0)


# --- the run -------------------------------------------------------------------------------------------------------------------


class Run:
    """Collects what one run finds."""

    def __init__(self, sizes: Sizes, progress: Progress) -> None:
        self._sizes, self._progress = sizes, progress
        self._targets = tuple(targets(sizes))
        self.rows: list[Row] = []
        self.findings: list[Finding] = []
        self.garbage: list[Garbage] = []
        self.tails: list[TailRow] = []

    def section(self, name: str, loop: Loop) -> None:
        """Contests are made one by one, so that what one of them needs is gone before the next."""
        for each in SECTIONS[name](self._sizes, loop):
            self._progress(each.contest.title)
            self._take(each, memory.without_histogram(each.run()))
            if name == "call":
                self.garbage += litter(each.contest, self._sizes.garbage)

    def _take(self, comparison: Comparison, samples: Samples) -> None:
        rows = comparison.read(samples)
        self.rows += rows
        self.findings += [finding(each, samples) for each in self._targets if each.row in comparison.rows]
        self.rows += [memory.made_of(row.of(KIT).cost.mid) for row in rows if row.title == memory.EACH]

    def lock(self) -> None:
        """How long it is held."""
        self._progress(LOCK)
        number = self._sizes.holds
        tails = [_tail(lock_hold.NOTHING, lock_hold.NOTHING, lock_hold.held_by_nothing(number))]
        tails += [_tail(move.name, lock_hold.NOTHING, lock_hold.held_by(move, number)) for move in lock_hold.MOVES]
        crowded = f"{lock_hold.MOVES[0].name}, {CROWD} threads at once"
        tails.append(_tail(crowded, lock_hold.NOTHING, lock_hold.held_among_threads(CROWD, number)))
        self.tails.append(TailRow(title=LOCK, unit="ns", tails=tuple(tails)))

    def loop(self) -> None:
        """How late an event loop is."""
        self._progress(LAG)
        rounds, seconds = self._sizes.lags
        found = lock_hold.lags_beside(crowds(), rounds, seconds)
        tails = tuple(_tail(name, BESIDE[TRY], [lag / 1000 for lag in lags]) for name, lags in found.items())
        self.tails.append(TailRow(title=LAG, unit="µs", tails=tails))

    def report(self) -> Report:
        """All of it."""
        return Report(
            environment=environment(),
            rows=tuple(self.rows),
            findings=tuple(self.findings),
            garbage=tuple(self.garbage),
            tails=tuple(self.tails),
        )


#: The same.
TAILS = {"lock": Run.lock, "loop": Run.loop}

BESIDE = {who: f"{who}, {CROWD} threads" for who in (TRY, BREAKER, KIT)}


def crowds() -> tuple[Crowd, ...]:
    """Threads that share a protected function with a loop; each call that fails goes through a breaker's lock."""
    return (
        Crowd(name=f"{TRY}, no threads", protect=guarded, threads=0),
        Crowd(name=BESIDE[TRY], protect=guarded, threads=CROWD),
        Crowd(name=BESIDE[BREAKER], protect=with_breaker(NEVER), threads=CROWD),
        Crowd(name=BESIDE[KIT], protect=CircuitBreaker(NEVER), threads=CROWD),
    )


def _tail(name: str, against: str, samples: Sequence[float]) -> Tail:
    return Tail.of_samples(name, against, samples)


def benchmark(sizes: Sizes, progress: Progress, only: str = "") -> Report:
    """Measure everything, or one section. Raises `MiscountError` when a callee was reached too seldom or too often."""
    run = Run(sizes, progress)
    with closing(Loop()) as loop, harness.settled():
        for name in [only] if only in SECTIONS else [] if only else SECTIONS:
            run.section(name, loop)
    for name, tail in TAILS.items():
        if only in {"", name}:
            tail(run)
    return run.report()


# --- the page ------------------------------------------------------------------------------------------------------------------


def parts(report: Report) -> dict[str, str]:
    """By the names that the page knows them by."""
    told: dict[str, list[str]] = {name: [] for name in (*SECTIONS, *TAILS)}
    for row in report.rows:
        told[row.title.partition(":")[0]].append(costs_section(row))
    for tails in report.tails:
        told[tails.title.partition(":")[0]].append(tails_section(tails))
    return {
        "environment": "; ".join(f"{name} {value}" for name, value in report.environment.items()),
        "targets": targets_table(report.findings),
        **{name: "\n\n".join(sections) for name, sections in told.items()},
        "garbage": garbage_table(report.garbage),
    }


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few calls of few: shows that it works; its figures mean nothing")
    parser.add_argument("--only", default="", choices=(*SECTIONS, *TAILS), help="measure this section")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="how many; of several, the medians are told")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=(), metavar="FILE", help="measure nothing: show the medians over these runs"
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the tables in this page")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    asked = parser.parse_args(given)
    if asked.write and (asked.quick or asked.only):
        parser.error("--write is for whole runs: neither --quick nor --only")
    return asked


def reports(asked: argparse.Namespace) -> Iterator[Report]:
    """Those of earlier runs, or those of as many as are asked for."""
    for path in asked.merge:
        yield from_json(json.loads(path.read_text(encoding="utf-8")))
    for _ in range(0 if asked.merge else asked.runs):
        yield benchmark(QUICK if asked.quick else FULL, partial(print, file=sys.stderr, flush=True), asked.only)


def main(given: Sequence[str] | None = None) -> int:
    asked = arguments(given)
    logging.getLogger("resilience_kit").addHandler(logging.NullHandler())  # opened circuits would be told on standard error
    runs = list(reports(asked))
    report = merged(runs) if len(runs) > 1 else runs[0]
    if asked.json is not None:
        asked.json.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
    told = parts(report)
    print("\n\n".join(text for text in told.values() if text))
    if asked.write is not None:
        asked.write.write_text(filled(asked.write.read_text(encoding="utf-8"), told), encoding="utf-8")
    return int(asked.check and not report.holds)


if __name__ == "__main__":
    sys.exit(main())
