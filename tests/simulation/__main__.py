"""`python -m tests.simulation`: many worlds, or one of them told in full. See `--help`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time

from tests.simulation import faults
from tests.simulation.runs import Run, Schedule, Task, quiet, run_in_processes
from tests.simulation.scene import ViolationError


def main() -> int:
    """Run what the command line asks for; 1 when there was a violation."""
    logging.getLogger("resilience_kit").setLevel(logging.CRITICAL + 1)
    asked = _arguments()
    if asked.faults:
        return _find_faults(asked.worlds)
    if asked.seed is not None:
        return _repeat(Run(asked.seed, asked.cancel), trace=asked.trace)
    if asked.schedule is not None:
        return _tell(Schedule(asked.schedule).violation())
    ranges = {kind: range(asked.first, asked.first + getattr(asked, kind)) for kind in ("worlds", "sweeps", "schedules")}
    return _run_many([Task(kind, seeds) for kind, seeds in ranges.items()], asked.processes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulated worlds around the kit.")
    parser.add_argument("--runs", dest="worlds", type=int, default=10_000, help="worlds, each from its own seed (10 000)")
    parser.add_argument(
        "--sweeps", type=int, default=20, help="small worlds, each again with a cancellation after each turn (20)"
    )
    parser.add_argument("--schedules", type=int, default=2000, help="schedules of threads (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1), help="at a time (one a core, at most 4)")
    parser.add_argument("--seed", type=int, help="repeat this world")
    parser.add_argument("--cancel", nargs="*", type=_cancel, help="after which turn which callers are cancelled, as in 12:0,1")
    parser.add_argument("--schedule", type=int, help="repeat this schedule")
    parser.add_argument("--trace", action="store_true", help="print what happened in it")
    parser.add_argument(
        "--faults", action="store_true", help="put known faults into the kit, and print after how many runs each was found"
    )
    found = parser.parse_args()
    found.cancel = None if found.cancel is None else tuple(found.cancel)
    return found


def _cancel(text: str) -> tuple[int, tuple[int, ...]]:
    turn, _, who = text.partition(":")
    return int(turn), tuple(int(each) for each in who.split(","))


def _repeat(run: Run, *, trace: bool) -> int:
    history: list[str] = []
    violation = None
    with quiet():
        try:
            run.world(history).run()
        except ViolationError as error:
            violation = error
    if trace:
        print("\n".join(history))
    return _tell(violation)


def _tell(violation: object) -> int:
    print("nothing wrong" if violation is None else violation)
    return violation is not None


def _run_many(tasks: list[Task], processes: int) -> int:
    started = time.monotonic()
    report = run_in_processes(tasks, processes)
    seconds = time.monotonic() - started
    print(f"{report.runs} runs in {seconds:.1f} s, {report.runs / seconds:.0f} a second: {len(report.violations)} violations")
    for violation in report.violations:
        print(f"{violation.text}\n    {violation.command}")
    return bool(report.violations)


def _find_faults(most_runs: int) -> int:
    sys.unraisablehook = lambda _: None  # worlds that end in the midst of things
    found = [faults.find(fault, most_runs) for fault in faults.FAULTS]
    print(json.dumps(found, indent=1))
    return any(each["found"] is None for each in found)


if __name__ == "__main__":
    sys.exit(main())
