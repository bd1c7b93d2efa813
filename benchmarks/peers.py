"""The kit beside other libraries: `make peers`, or `python benchmarks/peers.py --help` where all of them are installed.

Each run is a program of its own. What is measured and how a library is set up: docs/benchmarks/peers.md, adapters.py. One that
is missing is named and left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import adapters
import harness
import plot
import ranking
from adapters import ATTEMPTS, EVENTS, LIBRARIES, UNRANKED, Entry, Event, Kind
from harness import FULL, QUICK, Callee, Contender, Contest, Loop, Measure, MiscountError, Scale
from overhead import KIT, NEVER, environment
from page_section import filled
from report import Report, Row, from_json, merged, row, to_json

THRESHOLD = 5
HAPPENINGS = tuple((job, event) for job, events in EVENTS.items() for event in events)
REACHES = {Event.SUCCESS: 1, Event.FAILS_ONCE: 2, Event.REFUSAL: 0}
PAGE, PICTURE = "peers.md", "peers.svg"

Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How functions of one kind are made and called. `once` hands over a number and gives the result."""

    callees: dict[Event, Callable[[list[None]], Any]]
    once: Callable[[Any], Callable[[int], Any]]
    calls: Callable[[Any], Measure]
    errors: Callable[[Any, type[Exception]], Measure]


def ways(loop: Loop) -> dict[Kind, Ways]:
    return {
        Kind.SYNC: Ways(
            callees={Event.SUCCESS: harness.steady, Event.FAILS_ONCE: harness.flaky, Event.REFUSAL: harness.failing},
            once=lambda call: call,
            calls=harness.calls,
            errors=harness.errors,
        ),
        Kind.ASYNC: Ways(
            callees={
                Event.SUCCESS: harness.steady_async,
                Event.FAILS_ONCE: harness.flaky_async,
                Event.REFUSAL: harness.failing_async,
            },
            once=loop.measured,
            calls=loop.calls,
            errors=loop.errors,
        ),
    }


# --- contenders that are known to do the job ---------------------------------------------------------------------------------


def contender(entry: Entry, event: Event, way: Ways) -> Contender:
    """Return an entry ready to be timed. Raises `MiscountError` when it does not do what it is set up for."""
    callee = Callee(way.callees[event])
    measure = _opened(entry, way, callee) if event is Event.REFUSAL else _answering(entry, event, way, callee)
    return Contender(name=entry.name, against=KIT, callee=callee, measure=measure, reaches=REACHES[event])


def _opened(entry: Entry, way: Ways, callee: Callee) -> Measure:
    """Refusals, after as many failures as it takes and some."""
    call = entry.make(THRESHOLD)(callee.function)
    way.errors(call, Exception)(2 * THRESHOLD)
    return entry.around(way.errors(call, entry.refusal), call)


def _answering(entry: Entry, event: Event, way: Ways, callee: Callee) -> Measure:
    """Measure successful calls of a contender that returns results, and raises when all attempts fail."""
    call = entry.make(THRESHOLD if event is Event.SUCCESS else NEVER)(callee.function)
    if way.once(call)(7) != 7:  # noqa: PLR2004 - any number will do
        raise MiscountError(f"{entry.name}: the result is not the callee's")
    if event is Event.FAILS_ONCE:
        _check_attempts(entry, way)
    return entry.around(way.calls(call), call)


def _check_attempts(entry: Entry, way: Ways) -> None:
    callee = Callee(way.callees[Event.REFUSAL])
    way.errors(entry.make(NEVER)(callee.function), Exception)(1)
    if (count := callee.take_count()) != ATTEMPTS:
        raise MiscountError(f"{entry.name}: {count} attempts, not {ATTEMPTS}")


# --- rows --------------------------------------------------------------------------------------------------------------------


def known_entries(progress: Progress) -> dict[str, list[Entry]]:
    """By library; one that cannot be imported has none."""
    found = {}
    for name, entries in LIBRARIES.items():
        try:
            found[name] = list(entries())
        except ImportError as missing:
            progress(f"{name} is left out, since it is not there: {missing}. `make peers` brings it along.")
            found[name] = []
    return found


def contests(entries: Sequence[Entry], loop: Loop, only: str = "") -> Iterator[Contest]:
    """Return the rows whose titles contain `only`."""
    by_kind = ways(loop)
    for (job, event), kind in product(HAPPENINGS, Kind):
        title = f"{job}: {event}, {kind}"
        if only in title:
            taking_part = (each for each in entries if each.job is job and event in each.events and kind in each.kinds)
            yield Contest(title=title, contenders=tuple(contender(each, event, by_kind[kind]) for each in taking_part))


# --- the runs ----------------------------------------------------------------------------------------------------------------


def benchmark(scale: Scale, progress: Progress, only: str = "") -> Report:
    """One run in this process. Raises `MiscountError` when somebody does not do the job."""
    entries = known_entries(progress)
    with closing(Loop()) as loop:
        known = list(contests([*adapters.by_hand(), *chain(*entries.values())], loop, only))
        with harness.settled():
            rows = tuple(_measured(each, scale, progress) for each in known)
    there = [name for name, its in entries.items() if its]
    missing = dict.fromkeys(entries.keys() - there, "not installed")
    return Report(environment={**environment(*there), **missing}, rows=rows, findings=(), garbage=())


def _measured(contest: Contest, scale: Scale, progress: Progress) -> Row:
    progress(f"{contest.title} ...")
    return row(contest.title, harness.run(contest, scale), {each.name: each.against for each in contest.contenders})


def reports(asked: argparse.Namespace) -> Iterator[Report]:
    """Those of earlier runs, that of one run in this process, or those of several in processes of their own."""
    if asked.merge:
        yield from map(read, asked.merge)
    elif asked.runs == 1:
        yield benchmark(QUICK if asked.quick else FULL, partial(print, file=sys.stderr, flush=True), asked.only)
    else:
        with TemporaryDirectory() as folder:
            for number in range(asked.runs):
                yield in_own_process(asked, Path(folder, f"{number}.json"))


def in_own_process(asked: argparse.Namespace, file: Path) -> Report:
    options = ["--runs=1", f"--only={asked.only}", f"--json={file}", *["--quick"][: asked.quick]]
    subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - this very program
    return read(file)


def read(file: Path) -> Report:
    return from_json(json.loads(file.read_text(encoding="utf-8")))


def write(report: Report, told: dict[str, str], folder: Path) -> None:
    """Renews the page's tables and its picture."""
    plot.draw(ranking.panels(report.rows), KIT, UNRANKED, folder / PICTURE)
    page = folder / PAGE
    page.write_text(filled(page.read_text(encoding="utf-8"), told), encoding="utf-8")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few calls each: shows that it works; its figures mean nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the rows whose titles contain this")
    parser.add_argument("--runs", type=int, default=2, metavar="N", help="how many; the medians over all are told")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="measure nothing: show the medians over these runs")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help=f"renew {PAGE} and {PICTURE} there")
    parser.add_argument("--check", action="store_true", help="exit with 1 unless the kit is first in each row of each run")
    asked = parser.parse_args(given)
    if asked.write and (asked.quick or asked.only):
        parser.error("--write is for whole runs: neither --quick nor --only")
    return asked


def main(given: Sequence[str] | None = None) -> int:
    asked = arguments(given)
    for name in ("resilience_kit", "stamina"):  # else their warnings would be printed
        logging.getLogger(name).addHandler(logging.NullHandler())
    runs = list(reports(asked))
    report = merged(runs) if len(runs) > 1 else runs[0]
    if asked.json is not None:
        asked.json.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
    told = ranking.parts(report, KIT, UNRANKED)
    print("\n\n".join(told.values()))
    if asked.write is not None:
        write(report, told, asked.write)
    return int(asked.check and not all(each.always for each in ranking.standings(report, KIT, UNRANKED)))


if __name__ == "__main__":
    sys.exit(main())
