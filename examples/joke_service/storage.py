"""What the service keeps in PostgreSQL beside the queue's own tables, and what it reads there."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg.rows import dict_row

from resilience_kit.jobs import JobsApp, costs_no_attempt

from .database import PATIENCE, within
from .history import Happened, runs_of
from .models import Joke

FETCH_JOKE: Final = "fetch-joke"

_TABLES: Final[LiteralString] = """
CREATE TABLE IF NOT EXISTS jokes (
    id bigint PRIMARY KEY,
    topic text NOT NULL,
    setup text NOT NULL,
    punchline text NOT NULL,
    asked_by text,
    job_id bigint NOT NULL,
    fetched_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS joke_submissions (
    key text PRIMARY KEY,
    fingerprint text NOT NULL,
    job_id bigint REFERENCES procrastinate_jobs ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS joke_troubles (
    job_id bigint NOT NULL REFERENCES procrastinate_jobs ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    error text NOT NULL,
    refused boolean NOT NULL
);
CREATE INDEX IF NOT EXISTS joke_submissions_job ON joke_submissions (job_id);
CREATE INDEX IF NOT EXISTS joke_troubles_job ON joke_troubles (job_id);
CREATE INDEX IF NOT EXISTS jokes_fetched ON jokes (fetched_at);
"""
#: Any number that nobody else locks.
_LOCK: Final = 7_262_041_338

_KEEP: Final[LiteralString] = """
INSERT INTO jokes (id, topic, setup, punchline, asked_by, job_id)
VALUES (%(id)s, %(topic)s, %(setup)s, %(punchline)s, %(asked_by)s, %(job_id)s)
    ON CONFLICT (id) DO UPDATE
   SET topic = excluded.topic, setup = excluded.setup, punchline = excluded.punchline, asked_by = excluded.asked_by,
       job_id = excluded.job_id, fetched_at = now()
RETURNING id
"""
_TROUBLE: Final[LiteralString] = """
INSERT INTO joke_troubles (job_id, error, refused) VALUES (%(job_id)s, %(error)s, %(refused)s) RETURNING job_id
"""
_JOKES: Final[LiteralString] = """
SELECT id, topic, setup, punchline, asked_by, job_id, fetched_at FROM jokes ORDER BY fetched_at DESC, id LIMIT %(limit)s
"""
_JOB: Final[LiteralString] = """
SELECT id, status::text AS status, attempts, scheduled_at, extract(epoch FROM scheduled_at - now())::float8 AS due_in
  FROM procrastinate_jobs
 WHERE task_name = %(task)s AND id = %(id)s
"""
_LATEST: Final[LiteralString] = """
SELECT id, status::text AS status, attempts, scheduled_at, extract(epoch FROM scheduled_at - now())::float8 AS due_in
  FROM procrastinate_jobs
 WHERE task_name = %(task)s
 ORDER BY id DESC
 LIMIT %(limit)s
"""
_HAPPENED: Final[LiteralString] = """
SELECT job_id, at, type::text AS what, NULL AS error, NULL::boolean AS refused
  FROM procrastinate_events WHERE job_id = ANY(%(ids)s)
 UNION ALL
SELECT job_id, at, 'trouble', error, refused
  FROM joke_troubles WHERE job_id = ANY(%(ids)s)
 ORDER BY job_id, at
"""
_COUNTS: Final[LiteralString] = """
SELECT status::text AS status, count(*) AS count,
       count(*) FILTER (WHERE scheduled_at > now()) AS later
  FROM procrastinate_jobs
 WHERE task_name = %(task)s
 GROUP BY 1
"""
_COUNT_JOKES: Final[LiteralString] = "SELECT count(*) AS count FROM jokes"
_PING: Final[LiteralString] = "SELECT 1 AS one"

_STATUSES: Final = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")


class Storage:
    """Reads and writes on the queue's own connections. `runs`: how often a job runs at most, `long_runs`: in a long outage.

    Everything raises DatabaseAwayError after 1.5 seconds without an answer, what a job writes after 10.
    """

    def __init__(self, queue: JobsApp, runs: int, long_runs: int) -> None:
        self._queue, self._runs, self._long_runs = queue, runs, long_runs

    async def prepare(self) -> None:
        """Put the tables there. Of several that try at once, one does."""
        async with self._queue.pool.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            await connection.execute(_TABLES)

    async def keep(self, joke: Joke, *, asked_by: str | None, job_id: int) -> None:
        """Insert a joke or bring it up to date: a job may run twice."""
        facts = {"id": joke.id, "topic": joke.type, "setup": joke.setup, "punchline": joke.punchline}
        await self._rows(_KEEP, patience=10.0, **facts, asked_by=asked_by, job_id=job_id)

    async def note(self, job_id: int, error: Exception) -> None:
        """Write down why a run failed: the name of the error and no more, its text may be a secret."""
        await self._rows(_TROUBLE, patience=10.0, job_id=job_id, error=type(error).__name__, refused=costs_no_attempt(error))

    async def ping(self) -> None:
        """See whether the database answers."""
        await self._rows(_PING)

    async def jokes(self, limit: int) -> list[dict[str, Any]]:
        """Return the latest jokes."""
        return [_plain(row) for row in await self._rows(_JOKES, limit=limit)]

    async def job(self, job_id: int) -> dict[str, Any] | None:
        """One job with its runs, None for one that is not there or no job of ours."""
        found = await self._with_runs(await self._rows(_JOB, task=FETCH_JOKE, id=job_id))
        return found[0] if found else None

    async def latest(self, limit: int) -> list[dict[str, Any]]:
        """Return the latest jobs with their runs, newest first."""
        return await self._with_runs(await self._rows(_LATEST, task=FETCH_JOKE, limit=limit))

    async def stats(self) -> dict[str, Any]:
        """How many jobs there are of each status, how many of those that wait are due later, and how many jokes."""
        counts = {row["status"]: row for row in await self._rows(_COUNTS, task=FETCH_JOKE)}
        [jokes] = await self._rows(_COUNT_JOKES)
        jobs = {status: counts[status]["count"] if status in counts else 0 for status in _STATUSES}
        return {"jobs": jobs, "scheduled": counts["todo"]["later"] if "todo" in counts else 0, "jokes": jokes["count"]}

    async def _with_runs(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        happened = defaultdict[int, list[Happened]](list)
        for row in await self._rows(_HAPPENED, ids=[job["id"] for job in jobs]):
            happened[row.pop("job_id")].append(Happened(**row))
        return [self._told(job, happened[job["id"]]) for job in jobs]

    def _told(self, job: dict[str, Any], happened: list[Happened]) -> dict[str, Any]:
        waits = job["status"] == "todo"
        next_run = job["attempts"] + (job["status"] in {"todo", "doing"})
        return {
            "id": job["id"],
            "status": job["status"],
            "attempts": job["attempts"],
            "max_attempts": self._runs if next_run <= self._runs else self._long_runs,
            "next_run": job["scheduled_at"].isoformat() if waits and job["scheduled_at"] else None,
            "next_run_in": round(max(0.0, job["due_in"] or 0.0), 3) if waits else None,
            "submitted_at": happened[0].at.isoformat() if happened else None,
            "runs": runs_of(happened),
        }

    async def _rows(self, query: LiteralString, *, patience: float = PATIENCE, **values: Any) -> list[dict[str, Any]]:
        return await within(patience, self._asked(query, values))

    async def _asked(self, query: LiteralString, values: dict[str, Any]) -> list[dict[str, Any]]:
        async with self._queue.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, values)
            return await cursor.fetchall()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
