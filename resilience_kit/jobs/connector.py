"""A connector for PostgreSQL with which a worker survives a restart of the database.

Procrastinate writes a job's status once: when that statement fails, the job stays `doing` for ever, and when a heartbeat, a fetch
or the listening connection fails, the worker stops. Here those statements are repeated until they succeed. Statements that a
caller waits for, such as deferring, are not: they fail after 2 seconds without a connection, and the caller decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, LiteralString, TypeVar

import psycopg
import psycopg_pool
from procrastinate import PsycopgConnector
from procrastinate.connector import BaseConnector, Notify, Pool
from procrastinate.exceptions import ConnectorException
from procrastinate.sql import queries
from procrastinate.sync_psycopg_connector import wrap_exceptions

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.events import EventStream
from resilience_kit.jobs.events import DatabaseRetried
from resilience_kit.jobs.shutdown import current_shutdown
from resilience_kit.jobs.statements import STATUS_WRITES

T = TypeVar("T")

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
_LONGEST_OPENING: Final = 10.0
#: Seconds that deferring waits for a connection while the pool returns none, and while it returns some to others.
_NO_DATABASE: Final = 2.0
_FULL_POOL: Final = 30.0
_NOT_DEFERRED: Final = f"no connection to the database within {_NO_DATABASE:g} s; nothing was deferred"
_DEFER: Final = queries["defer_jobs"]
_FETCH: Final = queries["fetch_job"]

#: A worker's own writes, for which no caller waits. Each may be executed twice without harm: a job fetched by a statement
#: whose result was lost is swept when it is over its limit.
REPEATED: Final = STATUS_WRITES | {
    queries[name]
    for name in (
        "finish_job",
        "retry_job",
        "fetch_job",
        "defer_periodic_job",
        "list_jobs_to_abort",
        "register_worker",
        "unregister_worker",
        "update_heartbeat",
        "prune_stalled_workers",
    )
}


async def _commit_each(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)


class _CommittingPool(psycopg_pool.AsyncConnectionPool[Any]):
    """A pool that fails within 10 seconds without a database and commits each statement by itself.

    Procrastinate's statements are transactions of their own: BEGIN and COMMIT around them would cost two more round trips, a
    sixth of a worker's throughput.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"configure": _commit_each, **options})
        self.handed_out = 0

    async def getconn(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - the library's
        connection = await super().getconn(timeout)
        self.handed_out += 1
        return connection

    async def open(self, wait: bool = False, timeout: float = _LONGEST_OPENING) -> None:  # noqa: ASYNC109 - the library's
        await super().open(wait, min(timeout, _LONGEST_OPENING))


class RetryingConnector(PsycopgConnector):
    """Procrastinate's connector that repeats a worker's writes for `retry_timeout` seconds while the database is unavailable.

    `conninfo`: a connection string, or a function that gives one when the connector is opened; it may block. The delays
    between the attempts double from 0.1 to 5 s. Further arguments are those of psycopg's pool. Raises ConnectorException after
    `retry_timeout`, for deferring when the pool returns no connection in 2 seconds, and at once for all other statements. The
    timeout is shorter in a worker that shuts down, see `ShutdownBudget`.
    """

    def __init__(
        self,
        conninfo: str | Callable[[], str],
        *,
        retry_timeout: float = 60.0,
        events: EventStream | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **pool: Any,
    ) -> None:
        checks = Checks("RetryingConnector")
        checks.seconds("retry_timeout", retry_timeout, zero=True)
        checks.raise_if_any()
        super().__init__(pool_factory=_CommittingPool, **pool)
        self._conninfo, self._retry_timeout = conninfo, retry_timeout
        self._events, self._clock = events or EventStream(), clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}(retry_timeout={self._retry_timeout:g})"

    def get_sync_connector(self) -> BaseConnector:
        """Return the connector that sync code defers through before this one is opened, or without it."""
        self._pool_args["conninfo"] = self._known_conninfo()
        connector = super().get_sync_connector()
        if connector is not self:
            connector._pool_args.setdefault("timeout", _NO_DATABASE)  # type: ignore[attr-defined]  # noqa: SLF001 - of its own
        return connector

    async def open_async(self, pool: Pool | None = None) -> None:
        """Open the pool; a `conninfo` function is called in a thread."""
        self._pool_args["conninfo"] = await asyncio.to_thread(self._known_conninfo)
        try:
            await super().open_async(pool)
        except BaseException:
            self._async_pool = None  # else it would count as open, and could never be opened
            raise

    def _known_conninfo(self) -> str:
        if not isinstance(self._conninfo, str):
            self._conninfo = self._conninfo()
        return self._conninfo

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Execute a statement."""
        await self._repeated(query, super().execute_query_async, arguments)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Execute a statement that returns a row."""
        return await self._repeated(query, super().execute_query_one_async, arguments)

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Execute a statement that returns rows."""
        if query == _DEFER:
            return await self._deferred(query, arguments)
        return await self._repeated(query, super().execute_query_all_async, arguments)

    async def _repeated(self, query: LiteralString, execute: Callable[..., Awaitable[T]], arguments: dict[str, Any]) -> T:
        if query not in REPEATED:
            return await execute(query, **arguments)
        work, ending = self._patiently(query, execute, arguments), current_shutdown.get()
        return await (work if ending is None else ending.run_limited(work, fetch=query == _FETCH))

    async def _patiently(self, query: LiteralString, execute: Callable[..., Awaitable[T]], arguments: dict[str, Any]) -> T:
        give_up = self._clock.monotonic() + self._retry_timeout
        attempt = 0
        while True:
            attempt += 1
            try:
                return await execute(query, **arguments)
            except ConnectorException as error:
                delay = min(_FIRST_DELAY * 2.0 ** min(attempt - 1, 10), _LONGEST_DELAY)
                if not may_pass(error) or self._clock.monotonic() + delay > give_up:
                    raise
                await self._wait(attempt, delay, error)

    async def _deferred(self, query: LiteralString, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        with wrap_exceptions():
            connection = await self._connection()
            try:
                async with connection:  # commits, which a pool from outside may not do by itself
                    found: Any = await self.execute_query_all_async_with_connection(connection, query, **arguments)
            finally:
                await self.pool.putconn(connection)
        return found  # type: ignore[no-any-return]  # Procrastinate's

    async def _connection(self) -> Any:
        """Take a connection, waiting longer while the pool has some: many callers at once are no outage."""
        give_up = self._clock.monotonic() + _FULL_POOL
        while True:
            before = self._handed_out()
            try:
                return await self.pool.getconn(_NO_DATABASE)
            except psycopg_pool.PoolTimeout as error:
                if self._handed_out() == before or self._clock.monotonic() > give_up:
                    raise ConnectorException(_NOT_DEFERRED) from error

    def _handed_out(self) -> int:
        return getattr(self.pool, "handed_out", 0)

    async def _wait(self, attempt: int, delay: float, error: ConnectorException) -> None:
        self._events.emit(DatabaseRetried(attempt=attempt, delay=delay, error_type=type(error.__cause__).__name__))
        await self._clock.sleep_async(delay)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen for new jobs and replace a lost connection. The worker polls meanwhile."""
        attempt = 0
        while True:
            try:
                await super().listen_notify(on_notification, channels)
            except ConnectorException as error:
                if not may_pass(error):
                    raise
                attempt += 1
                await self._wait(attempt, _LONGEST_DELAY, error)


def may_pass(error: ConnectorException) -> bool:
    """Return whether the database was unavailable or busy, as opposed to an error of the statement."""
    cause = error.__cause__
    if isinstance(cause, psycopg_pool.PoolClosed):
        return False
    return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
