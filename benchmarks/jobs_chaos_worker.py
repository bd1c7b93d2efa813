"""The worker that benchmarks/jobs_chaos.py kills, and its jobs. Each run leaves a mark at its start and at its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path

import psycopg
from procrastinate import JobContext
from procrastinate.exceptions import ConnectorException

from resilience_kit.jobs import ExponentialBackoffStrategy, JobsApp, JobSettings, job_timeout, lifespan, make_app

#: At most so many runs of a job by its task's name; and by `RUNS` where it is not among them.
RUNS, RUNS_OF_POISON = 9, 3
POISON = "poison"
#: Those that cannot succeed.
HOPELESS = frozenset({POISON, "broken"})


class Marks:
    """Lines in a file of this process, on the disk before anything else happens."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / f"{os.getpid()}.marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def leave(self, kind: str, context: JobContext) -> None:
        """One line: what, the job, its number of attempts, when."""
        os.write(self._file, f"{kind} {context.job.id} {context.job.attempts} {time.time_ns()}\n".encode())
        os.fsync(self._file)


def build(url: str, folder: Path | None = None) -> JobsApp:
    """Return the application; without `folder` it defers jobs and runs none."""
    settings = JobSettings(
        database_url=url,
        job_timeout=5.0,
        job_shutdown_grace=0.8,
        job_limit=8.0,
        max_retries=RUNS - 1,
        retry_base_delay=0.05,
        retry_max_delay=0.5,
        worker_concurrency=4,
        poll_interval=0.1,
        heartbeat_interval=0.4,
        stalled_timeout=1.2,
        sweep_cron="* * * * * *",
    )
    app = make_app(settings)
    _add_tasks(app, None if folder is None else Marks(folder))
    return app


def _add_tasks(app: JobsApp, marks: Marks | None) -> None:
    def leave(kind: str, context: JobContext) -> None:
        assert marks is not None
        marks.leave(kind, context)

    @app.task(name="plain", pass_context=True)
    async def plain(context: JobContext, *, seconds: float) -> None:
        leave("begun", context)
        await asyncio.sleep(seconds)
        leave("done", context)

    @app.task(name="flaky", pass_context=True)
    async def flaky(context: JobContext, *, failures: int) -> None:
        leave("begun", context)
        if context.job.attempts < failures:
            raise OSError("not yet")
        leave("done", context)

    @app.task(name="broken", pass_context=True)
    async def broken(context: JobContext) -> None:
        leave("begun", context)
        raise OSError("never")

    @job_timeout(0.3)
    @app.task(name="slow", pass_context=True)
    async def slow(context: JobContext) -> None:
        leave("begun", context)
        await asyncio.sleep(60.0 if context.job.attempts == 0 else 0.0)
        leave("done", context)

    @app.task(name=POISON, pass_context=True, retry=ExponentialBackoffStrategy(RUNS_OF_POISON - 1, 0.05))
    async def poison(context: JobContext) -> None:
        leave("begun", context)
        os.kill(os.getpid(), signal.SIGKILL)


def work(url: str, folder: Path) -> None:
    """Be a worker, until killed or told to stop."""
    logging.basicConfig(filename=folder / f"{os.getpid()}.log", level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        asyncio.run(_work(url, folder))
    except (ConnectorException, psycopg.OperationalError):
        os._exit(3)  # no database; there will be another worker


async def _work(url: str, folder: Path) -> None:
    async with lifespan(build(url, folder)) as app:
        await app.run_worker_async()
