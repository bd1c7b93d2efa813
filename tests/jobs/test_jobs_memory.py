"""An application on Procrastinate's InMemoryConnector, as a user's tests have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from procrastinate.testing import InMemoryConnector

from resilience_kit import AIServiceResilience, ResilienceConfig, idempotency_key
from resilience_kit.errors import CircuitBreakerOpenError, ServiceUnavailableError
from resilience_kit.jobs import (
    JobFailed,
    JobPostponed,
    JobRetried,
    JobsApp,
    JobSettings,
    JobSucceeded,
    JobSuperseded,
    job_timeout,
    lifespan,
    make_app,
    remove_finished,
)
from resilience_kit.jobs.memory import execute_in_memory, stalled_in_memory
from resilience_kit.jobs.statements import AGE, FAIL, FINISH, POSTPONE, PRUNE, RETRY, REVIVE


@pytest.fixture
def memory() -> InMemoryConnector:
    """The jobs of one test."""
    return InMemoryConnector()


@pytest.fixture
async def app(memory: InMemoryConnector, heard: list, events) -> AsyncIterator[JobsApp]:
    """An open application whose retries have no delay."""
    made = make_app(JobSettings(retry_base_delay=0.0, retry_max_delay=0.0), events=events)
    with made.replace_connector(memory):
        async with lifespan(made):
            yield made


async def work(app: JobsApp) -> None:
    """Run what is due, to the last job."""
    await app.run_worker_async(wait=False, install_signal_handlers=False)


def states(memory: InMemoryConnector) -> list[tuple[Any, ...]]:
    """The jobs as they are, without the housekeeping."""
    return [(each["id"], each["status"], each["attempts"]) for each in memory.jobs.values() if each["queue_name"] == "default"]


def ends(heard: list) -> list[type]:
    """How the runs ended."""
    kinds = (JobSucceeded, JobRetried, JobFailed, JobPostponed, JobSuperseded)
    return [type(each) for each in heard if isinstance(each, kinds) and each.operation == "t"]


async def test_a_job_is_deferred_retried_and_done(app: JobsApp, memory: InMemoryConnector, heard: list) -> None:
    """With the application's own worker, strategy, events and metrics."""
    calls = []

    @app.task(name="t")
    async def t(n: int) -> None:
        calls.append(n)
        if len(calls) < 3:
            raise ServiceUnavailableError

    assert [1] == await app.defer_many(t, [{"n": 7}])
    await app.analyze()
    await work(app)
    assert [(1, "succeeded", 3)] == states(memory)
    assert [7, 7, 7] == calls
    assert [JobRetried, JobRetried, JobSucceeded] == ends(heard)
    assert 1 == app.metrics.snapshot()["t"]["succeeded"]


async def test_a_job_fails_for_good(app: JobsApp, memory: InMemoryConnector, heard: list) -> None:
    """After its last attempt, or at once where its arguments do not fit."""

    @app.task(name="t")
    async def t() -> None:
        raise ValueError

    await t.defer_async()
    await app.configure_task("t").defer_async(unknown=1)
    await work(app)
    assert [(1, "failed", 6), (2, "failed", 1)] == states(memory)
    assert "JobArgumentsError" in {each.error_type for each in heard if isinstance(each, JobFailed)}
    assert all("test_jobs_memory.py:" in each.location for each in heard if isinstance(each, JobFailed) and each.attempt == 6)


async def test_a_refused_job_waits_at_no_cost(app: JobsApp, memory: InMemoryConnector, heard: list) -> None:
    """For as long as the guard says."""

    @app.task(name="t")
    async def t() -> None:
        raise CircuitBreakerOpenError("api", 60.0)

    await t.defer_async()
    await work(app)
    assert [(1, "todo", 0)] == states(memory)
    assert memory.jobs[1]["scheduled_at"] > datetime.now(UTC) + timedelta(seconds=50)
    assert [JobPostponed] == ends(heard)


async def test_a_worker_that_is_cancelled_puts_its_jobs_back(app: JobsApp, memory: InMemoryConnector) -> None:
    """At no cost (invariant 67)."""
    app.worker_defaults["shutdown_graceful_timeout"] = 0.0
    begun = asyncio.Event()

    @app.task(name="t")
    async def t() -> None:
        begun.set()
        await asyncio.Event().wait()

    await t.defer_async()
    worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    await begun.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert [(1, "todo", 0)] == states(memory)


async def test_a_job_with_a_queueing_lock_gives_way_to_its_twin(app: JobsApp, memory: InMemoryConnector) -> None:
    """As on PostgreSQL, where two cannot wait."""

    @app.task(name="t", queueing_lock="one")
    async def t() -> None:
        if len(states(memory)) == 1:
            await t.defer_async()
            raise ServiceUnavailableError

    await t.defer_async()
    await work(app)
    assert [("failed", 1), ("succeeded", 1)] == [each[1:] for each in states(memory)]


async def test_stalled_jobs_are_swept(app: JobsApp, memory: InMemoryConnector) -> None:
    """A job that loses its worker each time ends, one that a user aborts is aborted, one with a twin gives way."""

    @app.task(name="t")
    async def t() -> None: ...

    await t.defer_async()
    for _ in range(6):
        memory.jobs[1]["status"] = "doing"
        found = await app.sweep()
    assert (1,) == found.finished
    assert [(1, "failed", 6)] == states(memory)
    for lock in (None, "one"):
        await t.configure(queueing_lock=lock).defer_async()
        memory.jobs[max(memory.jobs)]["status"] = "doing"
    memory.jobs[2]["abort_requested"] = True
    await t.configure(queueing_lock="one").defer_async()
    await app.sweep()
    assert ["failed", "aborted", "failed", "todo"] == [status for _, status, _ in states(memory)]
    assert 0 == (await app.sweep()).found


async def test_a_job_that_runs_for_too_long_is_stalled(memory: InMemoryConnector) -> None:
    """Under a worker that lives; one that is within its limit is not."""
    now = datetime.now(UTC)
    memory.workers[1] = now
    job = {"id": 1, "status": "doing", "worker_id": 1, "task_name": "t", "attempts": 0}
    memory.jobs[1], memory.events[1] = job, [{"type": "started", "at": now - timedelta(seconds=100)}]
    assert [] == stalled_in_memory(memory, 30.0, 400.0, {})
    assert [False] == [each["lost"] for each in stalled_in_memory(memory, 30.0, 400.0, {"t": 50.0})]
    memory.workers[1] = now - timedelta(seconds=31)
    assert [True] == [each["lost"] for each in stalled_in_memory(memory, 30.0, 400.0, {})]
    assert 100.0 == pytest.approx((await execute_in_memory(memory, AGE, {"job_id": 1}))[0]["age"], abs=5.0)
    assert [{"age": None}] == await execute_in_memory(memory, AGE, {"job_id": 2})


@pytest.mark.parametrize(
    ("query", "facts", "written"),
    [
        (FINISH, {"status": "succeeded"}, True),
        (FINISH, {"status": "succeeded", "attempts": 9}, True),
        (FAIL, {"status": "failed", "attempts": 9}, False),
        (RETRY, {"attempts": 9}, False),
        (POSTPONE, {"worker_id": 9}, False),
        (POSTPONE, {"job_id": 9}, False),
    ],
)
async def test_the_end_of_another_run_is_not_written(
    memory: InMemoryConnector, query: Any, facts: dict[str, Any], *, written: bool
) -> None:
    """The fence is that of the SQL (invariant 65)."""
    memory.jobs[1] = {"id": 1, "status": "doing", "worker_id": 1, "attempts": 0, "abort_requested": False, "queueing_lock": None}
    memory.events[1] = []
    arguments = {"job_id": 1, "worker_id": 1, "attempts": 0, "delete_job": False, **facts}
    assert written == bool(await execute_in_memory(memory, query, arguments))


@pytest.mark.parametrize(("query", "status"), [(RETRY, "failed"), (POSTPONE, "aborted")])
async def test_who_asked_for_an_abort_gets_it(memory: InMemoryConnector, query: Any, status: str) -> None:
    """Instead of another run."""
    memory.jobs[1] = {"id": 1, "status": "doing", "worker_id": 1, "attempts": 0, "abort_requested": True}
    await execute_in_memory(memory, query, {"job_id": 1, "worker_id": 1, "attempts": 0})
    assert status == memory.jobs[1]["status"]


async def test_workers_live_and_are_given_up(memory: InMemoryConnector) -> None:
    """By their heartbeat."""
    memory.workers[1] = datetime.now(UTC) - timedelta(seconds=60)
    memory.workers[2] = datetime.now(UTC)
    assert [{"id": 1}] == await execute_in_memory(memory, PRUNE, {"stalled_timeout": 30.0})
    assert [] == await execute_in_memory(memory, REVIVE, {"worker_id": 1})
    assert {1, 2} == {*memory.workers}


async def test_housekeeping_needs_no_database(app: JobsApp, memory: InMemoryConnector) -> None:
    """Neither the sweep's task nor the removal of old jobs."""
    for name in ("resilience_kit.sweep", "resilience_kit.retention"):
        await app.tasks[name].defer_async(timestamp=0)
    await work(app)
    assert {"succeeded"} == {each["status"] for each in memory.jobs.values()}
    await remove_finished(app)


async def test_the_pool_of_jobs_in_memory_is_an_error(app: JobsApp) -> None:
    """In a sentence; once the connector is back there is one."""
    with pytest.raises(RuntimeError, match="the jobs are in memory"):
        _ = app.pool


@pytest.mark.parametrize("plain", [False, True])
async def test_each_run_of_a_job_sends_the_same_keys(app: JobsApp, memory: InMemoryConnector, *, plain: bool) -> None:
    """Its own in the job, and in the protected calls keys that are derived from it: one for each (invariant 60)."""
    kit, runs = AIServiceResilience(), []

    @kit.with_resilience("ask", custom_config=ResilienceConfig(retry=None, circuit_breaker=None))
    def ask() -> str | None:
        return idempotency_key()

    def work_through() -> None:
        runs.append([idempotency_key(), ask(), ask()])
        if len(runs) % 3:
            raise ServiceUnavailableError

    async def work_through_async() -> None:
        work_through()

    task = app.task(name="t")(job_timeout(None)(work_through) if plain else work_through_async)
    for count in (3, 6):
        await task.defer_async()
        while len(runs) < count:  # a retry that is due in this moment may be left for the next worker
            await work(app)
    first, last = (each["id"] for each in memory.jobs.values() if each["queue_name"] == "default")
    assert [[f"job-{first}", f"job-{first}/ask/1", f"job-{first}/ask/2"]] * 3 == runs[:3]
    assert [[f"job-{last}", f"job-{last}/ask/1", f"job-{last}/ask/2"]] * 3 == runs[3:]
