"""A connection to PostgreSQL on which a worker outlives a restart of the database.

Procrastinate writes a job's status once: when that statement fails, the job stays `doing` for ever, and when a heartbeat, a fetch
or the listening connection fails, the worker stops. Here those statements are repeated until they are carried out. What a
caller waits for, deferring above all, is not: that fails after 2 seconds without a connection, and the
caller decides.
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
#: Seconds that deferring waits for a connection while the pool hands out none, and while it hands some out to others.
_NO_DATABASE: Final = 2.0
_FULL_POOL: Final = 30.0
_NOT_DEFERRED: Final = f"no connection to the database within {_NO_DATABASE:g} s; nothing was deferred"
_DEFER: Final = queries["defer_jobs"]
_FETCH: Final = queries["fetch_job"]

#: What a worker says for itself, and nobody waits for. Each may be carried out twice without harm: a job fetched by a statement
#: whose answer was lost is swept when it is over its limit.
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
    """Tells within 10 seconds that there is no database.

    A statement of Procrastinate's is a transaction of its own, and is sent as such: BEGIN and COMMIT around it would cost two
    more turns, which is a sixth of a worker's throughput.
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
    """Procrastinate's connector, which repeats what a worker writes for `retry_timeout` seconds while the database is away.

    `conninfo`: a connection string, or a function that gives one when the connector is opened; it may block. The delays
    between the tries double from 0.1 to 5 s. Further arguments are those of psycopg's pool. Raises ConnectorException when
    patience ends, for deferring when the pool hands out no connection in 2 seconds, and at once for all other statements. A
    worker that was told to stop has less patience, see `Ending`.
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
        """What sync code defers through, before or without the connector being opened."""
        self._pool_args["conninfo"] = self._known_conninfo()
        connector = super().get_sync_connector()
        if connector is not self:
            connector._pool_args.setdefault("timeout", _NO_DATABASE)  # type: ignore[attr-defined]  # noqa: SLF001 - of its own
        return connector

    async def open_async(self, pool: Pool | None = None) -> None:
        """Open the pool; a function's `conninfo` is asked for in a thread."""
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
        """Carry out a statement."""
        await self._repeated(query, super().execute_query_async, arguments)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Carry out a statement that gives a row."""
        return await self._repeated(query, super().execute_query_one_async, arguments)

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Carry out a statement that gives rows."""
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
                async with connection:  # commits, where a pool of somebody else's does not by itself
                    found: Any = await self.execute_query_all_async_with_connection(connection, query, **arguments)
            finally:
                await self.pool.putconn(connection)
        return found  # type: ignore[no-any-return]  # Procrastinate's

    async def _connection(self) -> Any:
        """A connection, as long as the pool has any; many callers at once are no outage."""
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
        """Hear of new jobs; a connection that is lost is made anew. Meanwhile the worker polls."""
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
    """Whether the database was away or busy, and the statement itself is not to blame."""
    cause = error.__cause__
    if isinstance(cause, psycopg_pool.PoolClosed):
        return False
    return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
