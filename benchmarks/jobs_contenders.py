"""The two applications whose throughput is compared, each on a database of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
from procrastinate.tasks import Task
from psycopg import sql
from psycopg.conninfo import make_conninfo

from resilience_kit.jobs import EmbeddedPostgres, JobSettings, analyze, make_app

AT_ONCE, BATCH, WAIT = 10, 100, 0.01
EMPTY = "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers, procrastinate_workers"
WORKED = """
SELECT extract(epoch FROM max(at) - min(at))
  FROM procrastinate_events JOIN procrastinate_jobs AS job ON job.id = job_id
 WHERE type IN ('started', 'succeeded') AND job.queue_name = 'default' AND job_id >= %s
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """An open application with two tasks, and how it is emptied and analysed."""

    app: Any
    nothing: Task[Any, Any, Any]
    wait: Task[Any, Any, Any]

    async def empty(self) -> None:
        """No jobs."""
        async with self.app.connector.pool.connection() as connection:
            await connection.execute(EMPTY)

    async def worked(self, task: Task[Any, Any, Any], number: int) -> float:
        """Have a worker run so many jobs; for how many seconds, by the queue's own events: from the first start to the last end.

        How long a worker takes to begin is another matter.
        """
        first = await in_batches(task, number)
        await analyze(self.app.connector.pool)
        await self.app.run_worker_async(concurrency=AT_ONCE, wait=False, install_signal_handlers=False)
        async with self.app.connector.pool.connection() as connection:
            [seconds] = await (await connection.execute(WORKED, [first])).fetchone()
        return float(seconds)


async def in_batches(task: Task[Any, Any, Any], number: int) -> int:
    """Defer so many jobs; the first one's id."""
    ids: list[int] = []
    for start in range(0, number, BATCH):
        jobs: list[dict[str, Any]] = [{"n": n} for n in range(start, min(start + BATCH, number))]
        ids += await task.batch_defer_async(*jobs)
    return ids[0]


@asynccontextmanager
async def opened(url: str, name: str) -> AsyncIterator[Contender]:
    """Open an application on a database of its own. Both contenders have as many connections."""
    with database(url, f"throughput_{name}") as own:
        app = ours_on(own) if name == "ours" else bare_on(own)
        contender = with_tasks(app)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            yield contender


def ours_on(url: str) -> procrastinate.App:
    return make_app(JobSettings(database_url=url, worker_concurrency=AT_ONCE))


def bare_on(url: str) -> procrastinate.App:
    return procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=AT_ONCE))


def with_tasks(app: procrastinate.App) -> Contender:
    @app.task(name="nothing")
    async def nothing(n: int) -> None:
        del n

    @app.task(name="wait")
    async def wait(n: int) -> None:
        del n
        await asyncio.sleep(WAIT)

    return Contender(app, nothing, wait)


@contextmanager
def database(url: str, name: str) -> Iterator[str]:
    """Create a database on the server of `url`."""
    made = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(made))
        server.execute(sql.SQL("CREATE DATABASE {}").format(made))
        yield make_conninfo(url, dbname=name)
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the URL of a server: an embedded one unless one is given."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="jobs-throughput-") as folder:
        Path(folder).chmod(0o755)  # started by root, it is another user's
        embedded = EmbeddedPostgres(Path(folder), remove=True)
        try:
            yield embedded.url()
        finally:
            embedded.stop()
