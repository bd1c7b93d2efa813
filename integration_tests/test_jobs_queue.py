"""Jobs on a real PostgreSQL, in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException

from resilience_kit import AIServiceResilience
from resilience_kit.errors import ServiceUnavailableError
from resilience_kit.jobs import JobsApp, JobSettings, analyze, defer_many, ensure_schema, lifespan, make_app, remove_finished

CANARY = "canary-5e1d"
DUE = "SELECT extract(epoch FROM scheduled_at - now())::float FROM procrastinate_jobs WHERE id = 1"
AGE = "UPDATE procrastinate_events SET at = at - %s * interval '1 day' WHERE job_id = %s RETURNING id"
NOW = "UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 s' WHERE status = 'todo' RETURNING id"
JOBS = "SELECT id, status::text, attempts FROM procrastinate_jobs WHERE queue_name = 'default' ORDER BY id"


@pytest.fixture
def build(database_url: str) -> Callable[..., JobsApp]:
    """An application on the test's database."""
    return lambda **values: make_app(JobSettings(**{"database_url": database_url, "poll_interval": 0.05, **values}))


@pytest.fixture
async def app(build: Callable[..., JobsApp]) -> AsyncIterator[JobsApp]:
    """The same, open, with a short delay; without a worker."""
    made = build(retry_base_delay=0.1, max_retries=2)
    async with lifespan(made):
        yield made


async def rows(app: JobsApp, query: str = JOBS, *arguments: Any) -> list[tuple[Any, ...]]:
    """What the database says."""
    async with app.pool.connection() as connection:
        return await (await connection.execute(query, arguments)).fetchall()


async def seen(app: JobsApp) -> list[tuple[Any, ...]]:
    """The jobs, also when a test breaks the connection on which they are asked for."""
    while True:
        with suppress(psycopg.OperationalError):
            return await rows(app)


async def worked(app: JobsApp, until: Callable[[list[tuple[Any, ...]]], bool], seconds: float = 20.0) -> list[tuple[Any, ...]]:
    """Run a worker until the jobs are as they should be."""
    worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
    try:
        async with asyncio.timeout(seconds):
            while not until(found := await seen(app)):
                await asyncio.sleep(0.05)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
    return found


def ended(found: list[tuple[Any, ...]]) -> bool:
    """Whether all have."""
    return all(status not in {"todo", "doing"} for _, status, _ in found)


async def strand(app: JobsApp, count: int, *, task: str = "t", attempts: int = 0, abort: bool = False) -> list[int]:
    """Jobs that are `doing`, and whose worker is gone."""
    ids = await app.configure_task(task).batch_defer_async(*({} for _ in range(count)))
    await rows(
        app,
        "UPDATE procrastinate_jobs SET status = 'doing', attempts = %s, abort_requested = %s WHERE id = ANY(%s) RETURNING id",
        attempts,
        abort,
        ids,
    )
    return ids


async def test_the_delays_are_in_the_queue(build: Callable[..., JobsApp]) -> None:
    """2, 4, 8, 16, 32 seconds on scheduled_at, after each failed attempt (invariant 66)."""
    app = build()
    delays = []

    @app.task(name="t")
    async def t() -> None:
        raise OSError

    async with lifespan(app):
        await t.defer_async()
        for _ in range(6):
            await app.run_worker_async(wait=False, install_signal_handlers=False)
            delays += await rows(
                app, "SELECT extract(epoch FROM scheduled_at - now())::float FROM procrastinate_jobs WHERE id = 1"
            )
            await rows(
                app, "UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 s' WHERE status = 'todo' RETURNING id"
            )
        assert [(1, "failed", 6)] == (await rows(app))[:1]
    assert [2.0, 4.0, 8.0, 16.0, 32.0] == [pytest.approx(delay, abs=1.0) for (delay,) in delays[:5]]


async def test_a_service_breaks_and_comes_back(app: JobsApp) -> None:
    """And the job with it."""
    calls = []

    @app.task(name="t")
    async def t() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ServiceUnavailableError

    await t.defer_async()
    assert [(1, "succeeded", 3)] == await worked(app, ended)
    assert (3, 2, 1) == tuple(app.metrics.snapshot()["t"][name] for name in ("started", "retried", "succeeded"))


async def test_an_open_breaker_costs_no_attempt(app: JobsApp, kit: AIServiceResilience) -> None:
    """A job that meets it waits for its reopening."""
    kit.get_circuit_breaker("api").force_open("by hand")
    calls = []

    @app.task(name="t", retry=False)
    async def t() -> None:
        calls.append(1)
        if len(calls) == 2:
            kit.get_circuit_breaker("api").reset()
        await kit.execute_with_resilience(lambda: "answer", "api")

    await t.defer_async()
    assert [(1, "todo", 0)] == await worked(app, lambda _: len(calls) == 1 and app.metrics.snapshot()["t"]["postponed"] == 1)
    await rows(app, "UPDATE procrastinate_jobs SET scheduled_at = NULL RETURNING id")
    assert [(1, "succeeded", 1)] == await worked(app, ended)


async def test_a_job_of_a_later_release_waits_for_its_worker(app: JobsApp, caplog: pytest.LogCaptureFixture) -> None:
    """An old worker puts it back at no cost, says so once, and works on (invariant 62)."""

    @app.task(name="t")
    async def t() -> None: ...

    await app.configure_task("new").batch_defer_async({}, {})
    await t.defer_async()
    found = [(1, "todo", 0), (2, "todo", 0), (3, "succeeded", 1)]
    assert found == await worked(app, lambda rows: rows[-1][1] == "succeeded")
    assert 30.0 == pytest.approx((await rows(app, DUE))[0][0], abs=2.0)
    assert 1 == len([each for each in caplog.messages if each.startswith("no task 'new' here")])
    app.task(name="new")(t.func)
    await rows(app, NOW)
    assert [(1, "succeeded", 1), (2, "succeeded", 1)] == (await worked(app, ended))[:2]


async def test_a_timeout_is_retried_until_the_limit(build: Callable[..., JobsApp]) -> None:
    """And then failed (invariant 64)."""
    app = build(job_timeout=0.1, retry_base_delay=0.05, max_retries=1)

    @app.task(name="t")
    async def t() -> None:
        await asyncio.sleep(60)

    async with lifespan(app):
        await t.defer_async()
        assert [(1, "failed", 2)] == await worked(app, ended)
    assert 2 == app.metrics.snapshot()["t"]["timed_out"]


async def test_four_sweepers_share_the_stalled(app: JobsApp, caplog: pytest.LogCaptureFixture) -> None:
    """200 jobs, each by one of them (invariant 61)."""
    ids = await strand(app, 200, task="elsewhere")
    with caplog.at_level(logging.INFO, "resilience_kit.jobs"):
        swept = await asyncio.gather(*(app.sweep() for _ in range(4)))
    assert sorted(ids) == sorted(job for each in swept for job in each.retried)
    assert {("todo", 1)} == {(status, attempts) for _, status, attempts in await rows(app)}
    assert f"Successfully retried stalled job {ids[0]} (elsewhere, worker lost)" in caplog.messages
    assert any(message.startswith("Found ") and message.endswith(" stalled jobs, retrying") for message in caplog.messages)


async def test_an_exhausted_job_is_failed_and_an_aborted_one_aborted(app: JobsApp) -> None:
    """By the task's own strategy, which is asked for each (invariant 62)."""

    @app.task(name="once", retry=False)
    async def once() -> None: ...

    @app.task(name="thrice")
    async def thrice() -> None: ...

    await strand(app, 1, task="once")
    await strand(app, 1, task="thrice", attempts=1)
    await strand(app, 1, task="thrice", attempts=2)
    await strand(app, 1, task="thrice", abort=True)
    await app.sweep()
    assert ["failed", "todo", "failed", "aborted"] == [status for _, status, _ in await rows(app)]


async def test_a_job_in_trouble_keeps_no_other_back(app: JobsApp) -> None:
    """A trigger that refuses one of three (invariant 68)."""
    ids = await strand(app, 3)
    await _refuse(app, ids[1])
    swept = await app.sweep()
    assert ((ids[0], ids[2]), (ids[1],)) == (swept.retried, swept.skipped)
    assert ["todo", "doing", "todo"] == [status for _, status, _ in await rows(app)]


async def _refuse(app: JobsApp, job_id: int) -> None:
    async with app.pool.connection() as connection:
        await connection.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
        await connection.execute(
            f"CREATE TRIGGER refuse BEFORE UPDATE ON procrastinate_jobs FOR EACH ROW WHEN (old.id = {job_id}) "
            "EXECUTE FUNCTION refuse()"
        )


async def test_a_dead_sweep_blocks_no_sweep(app: JobsApp) -> None:
    """It is failed by the next one, and forgotten (invariant 68)."""
    await strand(app, 1, task="resilience_kit.sweep")
    await strand(app, 1)
    swept = await app.sweep()
    assert (1, 1) == (len(swept.retried), len(swept.finished))


async def test_a_run_over_its_limit_is_swept_under_a_live_worker(app: JobsApp) -> None:
    """By the time of its start, and other runs of that worker are let be (invariant 63)."""
    [worker] = await rows(app, "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
    ids = await app.configure_task("t").batch_defer_async({}, {})
    await rows(app, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s RETURNING id", worker[0])
    long_ago = "UPDATE procrastinate_events SET at = now() - interval '371 s' WHERE type = 'started' AND job_id = %s RETURNING id"
    await rows(app, long_ago, ids[0])
    swept = await app.sweep()
    assert (ids[0],) == swept.retried


async def test_a_twin_in_the_queue_ends_the_stalled_one(app: JobsApp) -> None:
    """Two jobs with one queueing lock cannot both wait; with one lock for both, neither could run."""

    @app.task(name="t", lock="l", queueing_lock="q")
    async def t() -> None: ...

    await strand(app, 1)
    await t.defer_async()
    swept = await app.sweep()
    assert (1,) == swept.finished
    assert [(1, "failed", 1), (2, "succeeded", 1)] == await worked(app, ended)


async def test_a_lost_status_write_strands_nothing(app: JobsApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks just when the job has ended (invariant 63)."""

    @app.task(name="t")
    async def t() -> None:
        async with app.pool.connection() as connection:
            pid = (await (await connection.execute("SELECT pg_backend_pid()")).fetchone())[0]
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s", [pid]
            )

    await t.defer_async()
    assert [(1, "succeeded", 1)] == await worked(app, ended)


async def test_a_worker_that_was_given_up_works_on(app: JobsApp) -> None:
    """Its row was pruned, and its next fetch puts it back (invariant 65)."""

    @app.task(name="t")
    async def t() -> None:
        await rows(app, "DELETE FROM procrastinate_workers RETURNING id")

    await t.defer_async()
    await t.defer_async()
    assert [(1, "succeeded", 1), (2, "succeeded", 1)] == await worked(app, ended)


async def test_a_late_end_does_not_touch_another_workers_run(app: JobsApp) -> None:
    """The first run was swept and fetched again while it went on (invariant 60)."""
    [other] = await rows(app, "INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")

    @app.task(name="t")
    async def t() -> None:
        await rows(app, "UPDATE procrastinate_jobs SET worker_id = %s WHERE id = 1 RETURNING id", other[0])

    await t.defer_async()
    found = await worked(app, lambda _: app.metrics.snapshot().get("t", {}).get("superseded") == 1)
    assert [(1, "doing", 0)] == found


async def test_a_late_failure_does_not_touch_its_workers_next_run(build: Callable[..., JobsApp]) -> None:
    """A worker may itself fetch what was swept while its first run went on; the limit holds (invariant 62)."""
    app = build(max_retries=1, retry_base_delay=0.0)
    begun, last = [], asyncio.Event()

    @app.task(name="t")
    async def t() -> None:
        begun.append(1)
        if len(begun) == 1:
            await rows(app, "SELECT procrastinate_retry_job_v2(1, now(), NULL, NULL, NULL)")
            await last.wait()
        else:
            last.set()
            await asyncio.sleep(0.5)
        raise OSError

    async with lifespan(app):
        await t.defer_async()
        assert [(1, "failed", 2)] == await worked(app, ended)
    assert 2 == len(begun)
    assert (1, 1) == tuple(app.metrics.snapshot()["t"][name] for name in ("superseded", "failed"))


async def test_deferring_is_part_of_the_callers_transaction(app: JobsApp) -> None:
    """A rollback leaves no job (invariant 69)."""
    async with app.pool.connection() as connection:
        with pytest.raises(RuntimeError):
            async with connection.transaction():
                await app.configure_task("t", connection=connection).defer_async()
                raise RuntimeError
        async with connection.transaction():
            await app.configure_task("t", connection=connection).defer_async()
    assert 1 == len(await rows(app))


async def test_the_tables_are_made_once(build: Callable[..., JobsApp]) -> None:
    """By one of those that try at the same time."""
    app = build()
    async with app.open_async():
        assert [False, False, True] == sorted(await asyncio.gather(*(ensure_schema(app) for _ in range(3))))
        await analyze(app.pool)


async def test_many_jobs_at_once(app: JobsApp) -> None:
    """In batches, in order."""

    @app.task(name="t")
    async def t(n: int) -> None: ...

    ids = await defer_many(t, [{"n": n} for n in range(250)], app.pool, analyze_from=200)
    assert [(job, n) for job, n in zip(ids, range(250), strict=True)] == await rows(
        app, "SELECT id, (args->>'n')::int FROM procrastinate_jobs ORDER BY id"
    )


async def test_what_ended_long_ago_is_removed(app: JobsApp) -> None:
    """Failed jobs are kept for longer (invariant 71)."""
    ids = await app.configure_task("t").batch_defer_async({}, {}, {}, {})
    for job, status, days in zip(ids, ("succeeded", "failed", "failed", "succeeded"), (2, 2, 31, 0), strict=True):
        await rows(app, "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s RETURNING id", job)
        await rows(app, "UPDATE procrastinate_jobs SET status = %s WHERE id = %s RETURNING id", status, job)
        await rows(
            app, "UPDATE procrastinate_events SET at = at - %s * interval '1 day' WHERE job_id = %s RETURNING id", days, job
        )
    await remove_finished(app)
    assert [ids[1], ids[3]] == [job for job, _, _ in await rows(app)]


async def test_no_canary_is_logged(app: JobsApp, caplog: pytest.LogCaptureFixture) -> None:
    """Of arguments, results and errors, at whatever level (invariant 78)."""
    calls = []

    @app.task(name="t")
    async def t(token: str) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError(token)
        return token

    with caplog.at_level(logging.DEBUG):
        await t.defer_async(token=CANARY)
        await worked(app, ended)
    lines = [logging.Formatter().format(record) + repr(record.__dict__) for record in caplog.records]
    assert len(lines) > 10
    assert [] == [line for line in lines if CANARY in line and "psycopg" not in line.split("'name': '")[1][:8]]


async def test_deferring_fails_at_once_without_a_database(build: Callable[..., JobsApp], database_url: str) -> None:
    """The caller decides what then."""
    app = build()
    async with lifespan(app):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DROP TABLE procrastinate_jobs CASCADE")
        with pytest.raises(ConnectorException):
            await app.configure_task("t").defer_async()
