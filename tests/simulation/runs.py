"""Which worlds are run, how one of them is repeated, and what became of many."""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.simulation.plain import PlainWorld
from tests.simulation.scene import Scene, ViolationError
from tests.simulation.schedules import BudgetStage, Stage, UnexplainedError
from tests.simulation.world import World

#: Runs between two collections. There are none within a run: what a collection finds would depend on the runs before.
_COLLECTED_EVERY = 50
_CHUNK = 250
#: Of so many seeds, the last one is a world without a loop.
_PLAIN_EVERY = 5
#: Of so many schedules, the first one is about a retry budget.
_BUDGET_EVERY = 4


@dataclass(frozen=True, slots=True)
class Violation:
    """What went wrong, and the command that repeats it from the root of a checkout."""

    command: str
    invariant: int | str
    text: str


Cancels = tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One world. With `cancels`, a small one: after these turns these callers are cancelled."""

    seed: int
    cancels: Cancels | None = None

    @property
    def command(self) -> str:
        """What repeats it."""
        command = f"python -m tests.simulation --seed {self.seed}"
        if self.cancels is None:
            return command
        return f"{command} --cancel {' '.join(f'{turn}:' + ','.join(map(str, who)) for turn, who in self.cancels)}".rstrip()

    def world(self, history: list[str] | None = None) -> Scene:
        """The world, not yet run."""
        if self.cancels is not None:
            return World(self.seed, history, {turn: list(who) for turn, who in self.cancels})
        return PlainWorld(self.seed, history) if self.seed % _PLAIN_EVERY == _PLAIN_EVERY - 1 else World(self.seed, history)

    def violation(self) -> Violation | None:
        """Run it."""
        try:
            self.world().run()
        except ViolationError as violation:
            return Violation(self.command, violation.invariant, str(violation))
        except Exception as error:
            raise RuntimeError(f"the simulator itself failed: {self.command}") from error
        return None


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule of threads."""

    seed: int

    @property
    def command(self) -> str:
        """What repeats it."""
        return f"python -m tests.simulation --schedule {self.seed}"

    def violation(self) -> Violation | None:
        """Play it."""
        try:
            (BudgetStage if self.seed % _BUDGET_EVERY == 0 else Stage)(self.seed).run()
        except UnexplainedError as unexplained:
            return Violation(self.command, "schedule", str(unexplained))
        return None


@dataclass(slots=True)
class Report:
    """What became of some runs: how many there were, and the violations."""

    runs: int = 0
    violations: list[Violation] = field(default_factory=list)

    def note(self, run: Run | Schedule) -> None:
        """Run one more."""
        violation = run.violation()
        self.runs += 1
        if self.runs % _COLLECTED_EVERY == 0:
            gc.collect()
        if violation is not None:
            self.violations.append(violation)

    def add(self, other: Report) -> None:
        """What another process has seen."""
        self.runs += other.runs
        self.violations += other.violations


def sweep(seed: int) -> Iterator[Run]:
    """A small world as it is, and with each of its callers cancelled after each of its turns: once, twice, and twice in a row."""
    calm = Run(seed, ())
    yield calm
    world = calm.world()
    assert isinstance(world, World)
    with contextlib.suppress(ViolationError):
        world.run()
    for turn in range(1, world.troubled_turns + 1):
        for caller in range(len(world.callers) - 1):  # the last one comes when all is well
            yield Run(seed, ((turn, (caller,)),))
            yield Run(seed, ((turn, (caller, caller)),))
            yield Run(seed, ((turn, (caller,)), (turn + 1, (caller,))))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the kit's log and without collections, for as long as worlds are run."""
    logger, collects = logging.getLogger("resilience_kit"), gc.isenabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    gc.disable()
    try:
        yield
    finally:
        logger.setLevel(level)
        if collects:
            gc.enable()


def run_all(runs: Iterable[Run | Schedule]) -> Report:
    """Run them here, one after the other."""
    report = Report()
    with quiet():
        for run in runs:
            report.note(run)
    return report


@dataclass(frozen=True, slots=True)
class Task:
    """Worlds, sweeps or schedules of some seeds."""

    kind: Literal["worlds", "sweeps", "schedules"]
    seeds: range

    def parts(self) -> list[Task]:
        """The same in pieces that take about a second each."""
        step = 1 if self.kind == "sweeps" else _CHUNK
        return [Task(self.kind, self.seeds[start : start + step]) for start in range(0, len(self.seeds), step)]

    def report(self) -> Report:
        """Carry it out."""
        if self.kind == "sweeps":
            return run_all(run for seed in self.seeds for run in sweep(seed))
        make = Run if self.kind == "worlds" else Schedule
        return run_all(make(seed) for seed in self.seeds)


def run_in_processes(tasks: list[Task], processes: int, most_violations: int = 20) -> Report:
    """Carry tasks out in some processes; ends early when there are violations enough. Tells how far it is on stderr."""
    report, started, told = Report(), time.monotonic(), 0.0
    parts = [part for task in tasks for part in task.parts()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, part in enumerate(pool.imap_unordered(Task.report, parts), start=1):
            report.add(part)
            seconds = time.monotonic() - started
            if seconds - told > 10.0:
                told = seconds
                print(f"{report.runs} runs, {number}/{len(parts)} parts, {report.runs / seconds:.0f}/s", file=sys.stderr)  # noqa: T201
            if len(report.violations) >= most_violations:
                break
    return report
