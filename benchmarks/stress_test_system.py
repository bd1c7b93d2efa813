"""Eight stress tests of the joke service, over HTTP, with a PostgreSQL of its own; `make stress` runs them, too.

    python benchmarks/stress_test_system.py [--tasks N] [--quick] [--json FILE]

Concurrent submission, retry under load, worker capacity, burst, timeout protection, connection pool, memory and error handling,
with `--tasks` jobs or requests, or a part of that where each takes its time. The service runs in a process of its own. Exit
code 1 when one fails.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter, time
from typing import Any

import stress
from stress import Bar, Figures, Test, expect, share_of
from stress_service import AT_ONCE, BASE_DELAY, CONCURRENCY, JOB_TIMEOUT, OK, Service, at, at_once, client_of, serving

TASKS, QUICK = 1000, 100
BURSTS, SLICES = 5, 4
WORK = 0.05  # seconds that the joke API takes where capacity is measured
BUSY = 0.8  # of the worker's places have to be in use
GROWTH = 30.0  # megabytes that more of the same work may add
SLACK = 2.0  # seconds that a timeout may come late on a busy machine
UNPROCESSABLE, MISSING = 422, 404

BAD: dict[str, bytes] = {
    "a topic of capitals": b'{"topic": "CAPITALS"}',
    "a joke and a topic": b'{"joke_id": 1, "topic": "dad"}',
    "a number as text": b'{"joke_id": "1"}',
    "NaN": b'{"joke_id": NaN}',
    "a number without an end": b'{"joke_id": 1e999}',
    "NUL": b'{"asked_by": "\\u0000"}',
    "a lone surrogate": b'{"asked_by": "\\ud800"}',
    "an unknown field": b'{"jok_id": 1}',
    "half of a body": b'{"topic": ',
    "a list": b"[]",
}


async def submitted(running: Service, number: int, bar: Bar, at_a_time: int = AT_ONCE) -> tuple[list[int], list[float]]:
    """So many jobs, each with an id of its own; their ids and the seconds that each submission took."""

    async def one() -> tuple[int, float]:
        answer = await running.submit()
        bar.done()
        return answer

    bar.more(number)
    answers = await at_once([one] * number, at_a_time)
    ids = [job_id for job_id, _ in answers]
    expect(len(set(ids)) == number, f"{number} submissions, {len(set(ids))} ids")
    return ids, [seconds for _, seconds in answers]


async def concurrent_submission(running: Service, tasks: int, bar: Bar) -> Figures:
    """All at the same time; each becomes a job, and each job succeeds."""
    begun = perf_counter()
    ids, seconds = await submitted(running, tasks, bar, tasks)
    taken = perf_counter() - begun
    await running.drained()
    await running.succeeded(ids)
    return {"jobs": tasks, "a second": tasks / taken, **_milliseconds(seconds), "lost": 0}


async def retry_under_load(running: Service, tasks: int, bar: Bar) -> Figures:
    """Check that jobs are retried at growing delays while the joke API fails, and succeed when it recovers."""
    await running.fake_api(broken=True)
    ids, _ = await submitted(running, max(1, tasks // 5), bar)
    await asyncio.sleep(1.0)
    healed = time()
    await running.fake_api()
    await running.drained()
    runs = [job["runs"] for job in await running.succeeded(ids)]
    met = [each for each in runs if at(each[0]["ended_at"]) < healed]
    expect(bool(met), "no job met the outage")
    expect(all(len(each) > 1 for each in met), "a job succeeded at once, while the API was broken")
    expect(all(_grow(each) for each in runs), "a retry came before its delay")
    figures: Figures = {"jobs": len(ids), "that met the outage": len(met)}
    return figures | {"runs": sum(map(len, runs)), "most runs of a job": max(map(len, runs))}


def _grow(runs: list[dict[str, Any]]) -> bool:
    """Whether runs began 1, 2, 4... base delays after the one before, or more. What cost no attempt is left out of the count.

    A delay counts from the failure, which is written down a little later.
    """
    gaps = [at(later["started_at"]) - at(each["started_at"]) for each, later in pairwise(runs) if each["outcome"] == "retried"]
    return all(gap >= 0.99 * BASE_DELAY * 2**number for number, gap in enumerate(gaps))


async def worker_capacity(running: Service, tasks: int, bar: Bar) -> Figures:
    """As many jobs at once as the worker may have, and no more."""
    await running.fake_api(delay=WORK)
    ids, _ = await submitted(running, max(40, tasks // 2), bar)
    await running.drained()
    runs = [run for job in await running.succeeded(ids) for run in job["runs"]]
    taken = max(at(run["ended_at"]) for run in runs) - min(at(run["started_at"]) for run in runs)
    most = _most_at_once(runs)
    expect(BUSY * CONCURRENCY <= most <= CONCURRENCY, f"{most} jobs at once, of {CONCURRENCY} that may be")
    return {"jobs at once": most, "a second": len(ids) / taken, "ideally": CONCURRENCY / WORK}


def _most_at_once(runs: list[dict[str, Any]]) -> int:
    steps = [(at(run["started_at"]), 1) for run in runs] + [(at(run["ended_at"]), -1) for run in runs]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


async def burst(running: Service, tasks: int, bar: Bar) -> Figures:
    """Quiet, then many; the slowest answer of each burst, and how long the last one takes to be worked off."""
    ids, slowest = [], []
    for _ in range(BURSTS):
        each, seconds = await submitted(running, max(1, tasks // BURSTS), bar)
        ids += each
        slowest.append(max(seconds))
        await asyncio.sleep(0.3)
    drained = await running.drained()
    await running.succeeded(ids)
    return {"bursts": BURSTS, "jobs": len(ids), "slowest answer, ms": max(slowest) * 1e3, "worked off in, s": drained}


async def timeout_protection(running: Service, tasks: int, bar: Bar) -> Figures:
    """Check that runs of a hanging joke API end at the job's timeout, and the jobs succeed when it recovers."""
    before = await _timed_out(running)
    await running.fake_api(delay=60.0)
    ids, _ = await submitted(running, min(CONCURRENCY, max(1, tasks // 10)), bar)
    await asyncio.sleep(JOB_TIMEOUT / 2)
    await running.fake_api()
    await running.drained()
    firsts = [job["runs"][0] for job in await running.succeeded(ids)]
    lengths = [at(run["ended_at"]) - at(run["started_at"]) for run in firsts]
    expect(max(lengths) < JOB_TIMEOUT + SLACK, f"a run took {max(lengths):.1f} s, its timeout is {JOB_TIMEOUT:g} s")
    cut = await _timed_out(running) - before
    expect(cut == len(ids), f"{cut} runs were cut, of {len(ids)}")
    return {"runs cut": cut, "timeout, s": JOB_TIMEOUT, "longest, s": max(lengths)}


async def _timed_out(running: Service) -> int:
    return int((await running.get("/stats"))["worker"].get("timed_out", 0))


async def connection_pool(running: Service, tasks: int, bar: Bar) -> Figures:
    """Readers far beyond the number of connections, while jobs come in and run: each is answered."""
    job_id, _ = await running.submit()
    paths = ("/stats", "/jokes", f"/jobs/{job_id}", "/health")
    seconds: list[float] = []

    async def read(path: str) -> None:
        begun = perf_counter()
        await running.get(path)
        seconds.append(perf_counter() - begun)
        bar.done()

    bar.more(tasks)
    reading = at_once([partial(read, paths[n % len(paths)]) for n in range(tasks)])
    _, (ids, _) = await asyncio.gather(reading, submitted(running, max(1, tasks // 10), bar, 10))
    await running.drained()
    await running.succeeded(ids)
    return {"reads": tasks, "at once": AT_ONCE, **_milliseconds(seconds)}


async def memory(running: Service, tasks: int, bar: Bar) -> Figures:
    """More of the same work does not need more memory: measured after each of several slices, the first for warming up."""
    sizes = []
    for _ in range(SLICES):
        await submitted(running, max(1, tasks // 2), bar)
        await running.drained()
        sizes.append(running.memory())
    known = [size for size in sizes if size is not None]
    if not known:
        return {"megabytes": "not told by this system"}
    expect(known[-1] - known[0] < GROWTH, f"from {known[0]:.0f} to {known[-1]:.0f} megabytes")
    return {"megabytes": " ".join(f"{size:.0f}" for size in known), "jobs between": max(1, tasks // 2)}


async def error_handling(running: Service, tasks: int, bar: Bar) -> Figures:
    """Bad requests are refused, each with a sentence; what the joke API refuses fails at once; the service goes on."""
    bar.more(tasks)
    await at_once([partial(_refused, running, name, bar) for name in list(BAD) * (tasks // len(BAD))])
    for unknown in ("999999999", "-1", "no-number", "9" * 40):
        expect((await running.client.get(f"/jobs/{unknown}")).status_code == MISSING, f"/jobs/{unknown[:12]} is there")
    job_id, _ = await running.submit({"joke_id": 999_999})
    await running.drained()
    [job] = await running.jobs([job_id])
    expect((job["status"], len(job["runs"])) == ("failed", 1), f"no such joke: {job['status']} after {len(job['runs'])} runs")
    expect((await running.client.get("/health")).status_code == OK, "the service is not well")
    return {"kinds of bad requests": len(BAD), "refused": len(BAD) * (tasks // len(BAD)), "runs of a hopeless job": 1}


async def _refused(running: Service, name: str, bar: Bar) -> None:
    head = {"content-type": "application/json"}
    answer = await running.client.post("/tasks/fetch-joke", content=BAD[name], headers=head)
    expect(answer.status_code == UNPROCESSABLE, f"{name} was answered with {answer.status_code}")
    expect(bool(answer.json()["detail"]), f"{name} was refused without a word")
    bar.done()


def _milliseconds(seconds: Sequence[float]) -> Figures:
    return {"p50, ms": share_of(seconds, 0.5) * 1e3, "p99, ms": share_of(seconds, 0.99) * 1e3}


SystemTest = Callable[[Service, int, Bar], Awaitable[Figures]]
TESTS: dict[str, SystemTest] = {
    "concurrent submission": concurrent_submission,
    "retry under load": retry_under_load,
    "worker capacity": worker_capacity,
    "burst": burst,
    "timeout protection": timeout_protection,
    "connection pool": connection_pool,
    "memory": memory,
    "error handling": error_handling,
}


def main(given: Sequence[str] | None = None) -> int:
    asked = stress.arguments(__doc__, tasks=TASKS, quick=QUICK, file="stress-system.json", given=given)
    with serving() as (url, pid), asyncio.Runner() as runner:
        running = Service(client_of(url), pid)
        tests = {name: _in(runner, test, running, asked.tasks) for name, test in TESTS.items() if asked.only in name}
        try:
            return stress.run(Path(__file__).name, "joke service", tests, asked)
        finally:
            runner.run(running.client.aclose())


def _in(runner: asyncio.Runner, test: SystemTest, running: Service, tasks: int) -> Test:
    async def healed(bar: Bar) -> Figures:
        await running.fake_api()
        return await test(running, tasks, bar)

    return lambda bar: runner.run(healed(bar))


if __name__ == "__main__":
    sys.exit(main())
