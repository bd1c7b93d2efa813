"""Operations on the database beyond single jobs: its tables, its statistics, and bulk deferring."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString, Protocol

from procrastinate.connector import BaseConnector
from procrastinate.schema import SchemaManager
from procrastinate.tasks import Task
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege
from psycopg_pool import AsyncConnectionPool

from resilience_kit.jobs.memory import InMemoryConnector

Pool = AsyncConnectionPool[AsyncConnection[Any]]


class SchemaApp(Protocol):
    """An open application."""

    connector: BaseConnector

    @property
    def pool(self) -> Pool:
        """Return its connection pool."""
        ...

    @property
    def schema_manager(self) -> SchemaManager:
        """Return Procrastinate's schema manager."""
        ...


#: Where a run's error is kept, for `resilience-kit jobs list` and `show`: the last one of each job, for as long as the job.
ERRORS_TABLE: Final[LiteralString] = """
CREATE TABLE IF NOT EXISTS resilience_kit_job_errors (
    job_id bigint PRIMARY KEY REFERENCES procrastinate_jobs ON DELETE CASCADE,
    attempt integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    error_type text NOT NULL,
    location text NOT NULL,
    details text NOT NULL
)
"""

#: Any number that no other program locks.
_SCHEMA_LOCK: Final = 7_262_041_337


def describe_database(conninfo: str) -> str:
    """Return host, port and database of a connection string, without user and password."""
    parts = conninfo_to_dict(conninfo)
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "the local socket"
    name = parts.get("dbname") or os.environ.get("PGDATABASE") or "of the user's name"
    return f"PostgreSQL at {host}, database {name}"


async def ensure_schema(app: SchemaApp) -> bool:
    """Create Procrastinate's tables unless they exist; return whether it did. Of several concurrent callers one does.

    Tables of an older Procrastinate stay as they are: its migrations are left to the operator. One more table holds the errors of
    failed jobs; a database user without the right to create tables goes without it. Does nothing where jobs are in memory.
    """
    if isinstance(app.connector, InMemoryConnector):
        return False
    async with app.pool.connection() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_SCHEMA_LOCK])
        new = not await _table_exists(connection, "procrastinate_jobs")
        if new:
            await app.schema_manager.apply_schema_async()  # on a connection of its own, while the lock is held here
        if not await _table_exists(connection, "resilience_kit_job_errors"):
            with contextlib.suppress(InsufficientPrivilege):
                async with connection.transaction():
                    await connection.execute(ERRORS_TABLE)
        return new


async def _table_exists(connection: AsyncConnection[Any], table: str) -> bool:
    found = await (await connection.execute("SELECT to_regclass(%s)", [table])).fetchone()
    return found is not None and found[0] is not None


async def analyze(pool: Pool) -> None:
    """Renew the planner's statistics. Fetching is several times slower without it after thousands of new jobs."""
    async with pool.connection() as connection:
        await connection.execute("ANALYZE procrastinate_jobs, procrastinate_events")


async def defer_many(
    task: Task[Any, Any, Any],
    arguments: Sequence[Mapping[str, Any]],
    pool: Pool | None,
    *,
    batch: int = 100,
    analyze_from: int = 1000,
) -> list[int]:
    """Defer one job for each set of arguments, `batch` in a statement, and return their ids in order.

    From `analyze_from` jobs on the statistics are renewed at the end. A batch is written completely or not at all; after an
    error the batches before it stay. `pool`: None where there are no statistics to renew.
    """
    ids: list[int] = []
    for start in range(0, len(arguments), batch):
        ids += await task.batch_defer_async(*map(dict, arguments[start : start + batch]))
    if pool is not None and len(ids) >= analyze_from:
        await analyze(pool)
    return ids
