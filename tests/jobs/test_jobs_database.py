"""Which database is used, what is told of it, and deferring when it is away."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from procrastinate.sql import queries
from psycopg_pool import PoolTimeout

from resilience_kit.errors import ConfigurationError
from resilience_kit.jobs import JobsApp, JobSettings, RetryingConnector, make_app
from resilience_kit.jobs import app as app_module
from resilience_kit.jobs.database import describe_database
from resilience_kit.jobs.redaction import POOL_LOGGER, PoolLogFilter, redact_pool
from resilience_kit.testing import FakeClock

CANARY = "geheim"
NO_CONNECTION = "no connection to the database within 2 s; nothing was deferred"


class Pool:
    """Hands out connections as it is told: a count of those that others got, and whether the caller gets one."""

    def __init__(self, *answers: tuple[int, bool], clock: FakeClock) -> None:
        self.handed_out, self.answers, self.asked, self.back, self.clock = 0, list(answers), [], 0, clock

    async def getconn(self, timeout: float | None) -> object:  # noqa: ASYNC109 - the library's
        """One for the caller, or nothing after so many seconds."""
        self.asked.append(timeout)
        others, gets_one = self.answers.pop(0)
        self.handed_out += others
        if gets_one:
            return Connection()
        self.clock.advance(timeout)
        raise PoolTimeout

    async def putconn(self, connection: object) -> None:
        """It is back."""
        self.back += 1


class Connection:
    """Enough of one for a statement that gives rows."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def connector(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, bool]) -> tuple[RetryingConnector, Pool]:
    """An open one, whose statements give a job."""
    clock = FakeClock(auto_advance=False)
    made, pool = RetryingConnector("", clock=clock), Pool(*answers, clock=clock)
    made._async_pool = pool

    async def executed(*_: object, **__: object) -> list[dict[str, int]]:
        return [{"id": 1}]

    monkeypatch.setattr(made, "execute_query_all_async_with_connection", executed)
    return made, pool


async def test_deferring_fails_after_2_seconds_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the pool's own 30, and in a sentence; nothing is tried again (invariant 60)."""
    made, pool = connector(monkeypatch, (0, False))
    with pytest.raises(ConnectorException, match=f"^{NO_CONNECTION}$") as caught:
        await made.execute_query_all_async(queries["defer_jobs"], jobs=[])
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert [2.0] == pool.asked


async def test_many_callers_at_once_are_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as others get connections, a caller waits for its own, and gives it back."""
    made, pool = connector(monkeypatch, (9, False), (9, False), (0, True))
    assert [{"id": 1}] == await made.execute_query_all_async(queries["defer_jobs"], jobs=[])
    assert ([2.0] * 3, 1) == (pool.asked, pool.back)


async def test_a_pool_that_is_always_full_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 30 seconds, as the pool would."""
    made, pool = connector(monkeypatch, *[(9, False)] * 99)
    with pytest.raises(ConnectorException):
        await made.execute_query_all_async(queries["defer_jobs"], jobs=[])
    assert 16 == len(pool.asked)


def test_deferring_before_the_app_is_opened_waits_no_longer() -> None:
    """The connector of sync code has the same 2 seconds, and a worker's pool keeps its own."""
    made = RetryingConnector("")
    assert 2.0 == made.get_sync_connector()._pool_args["timeout"]
    assert "timeout" not in made._pool_args


@pytest.mark.parametrize(
    ("conninfo", "expected"),
    [
        (f"postgresql://me:{CANARY}@db.internal:5433/jobs", "PostgreSQL at db.internal, database jobs"),
        (f"host=a,b password={CANARY} dbname=jobs", "PostgreSQL at a,b, database jobs"),
        ("postgresql:///jobs?host=%2Frun%2Fpg", "PostgreSQL at /run/pg, database jobs"),
        ("postgresql://me@", "PostgreSQL at the local socket, database of the user's name"),
    ],
)
def test_the_place_of_a_database_has_no_user(conninfo: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no password."""
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGDATABASE", raising=False)
    assert expected == describe_database(conninfo)


def opened(app: JobsApp) -> str:
    """Ask as opening does, twice."""
    app.connector._known_conninfo()
    return app.connector._known_conninfo()


def test_the_database_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """When the app is opened, not when it is made."""
    url = f"postgresql://me:{CANARY}@db.internal/jobs"
    with caplog.at_level(logging.INFO, "resilience_kit.jobs"):
        app = make_app(JobSettings(database_url=url))
        assert [] == caplog.messages
        assert url == opened(app)
    assert ["jobs: PostgreSQL at db.internal, database jobs"] == caplog.messages


def test_an_embedded_database_is_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be that DATABASE_URL was forgotten."""
    monkeypatch.setattr(app_module.EmbeddedPostgres, "url", lambda _: "postgresql://embedded")
    assert "postgresql://embedded" == opened(make_app(JobSettings(jobs_data_dir=tmp_path)))
    assert [("WARNING", f"jobs: no DATABASE_URL, so an embedded PostgreSQL in {tmp_path}")] == [
        (each.levelname, each.getMessage()) for each in caplog.records
    ]


@pytest.mark.parametrize("given", ["postgresql://db/jobs", {"database_url": "postgresql://db/jobs"}])
def test_an_app_is_made_of_settings(given: object) -> None:
    """Not of a connection string."""
    with pytest.raises(
        ConfigurationError, match=r"make_app takes JobSettings, as make_app\(JobSettings\(database_url=\.\.\.\)\)$"
    ):
        make_app(given)


async def test_an_app_defers_and_analyzes_on_its_own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to know of the pool."""
    app = make_app(JobSettings(database_url="postgresql://db/jobs"))
    statements, deferred = [], []

    class Analyzed:
        async def execute(self, statement: str) -> None:
            statements.append(statement)

    class Open:
        def connection(self) -> object:
            return nullcontext(Analyzed())

    class Task:
        async def batch_defer_async(self, *rows: dict[str, int]) -> list[int]:
            deferred.extend(rows)
            return [each["n"] for each in rows]

    app.connector._async_pool = Open()
    rows = [{"n": n} for n in range(1000)]
    assert [*range(1000)] == await app.defer_many(Task(), rows)
    assert rows == deferred
    await app.analyze()
    assert ["ANALYZE procrastinate_jobs, procrastinate_events"] * 2 == statements


@pytest.fixture
def lines() -> tuple[PoolLogFilter, FakeClock]:
    """A filter of the test's own, and its time."""
    clock = FakeClock(auto_advance=False)
    return PoolLogFilter(clock), clock


def record(message: str, *arguments: object) -> logging.LogRecord:
    """A record as the pool makes it."""
    return logging.LogRecord(POOL_LOGGER, logging.WARNING, "pool.py", 1, message, arguments, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.ProgrammingError(f'missing "=" after "mysql://u:{CANARY}@h/db"'), "ProgrammingError"),
        (psycopg.OperationalError(f"{CANARY} failed: Connection refused"), "OperationalError (Connection refused)"),
    ],
)
def test_the_pool_repeats_no_connection_string(error: Exception, expected: str, lines: tuple[PoolLogFilter, FakeClock]) -> None:
    """Of an error there is the type, and a reason that is the same for everybody (invariant 76)."""
    found = record("error connecting in %r: %s", "pool-1", error)
    assert lines[0].filter(found)
    assert f"error connecting in 'pool-1': {expected}" == found.getMessage()
    assert CANARY not in repr(found.__dict__)


def test_an_outage_is_one_line(lines: tuple[PoolLogFilter, FakeClock]) -> None:
    """For each pool; after a minute without an error the next one is another outage."""
    told, clock = lines

    def fails(pool: str = "pool-1") -> bool:
        return told.filter(record("error connecting in %r: %s", pool, OSError()))

    first = [fails(), fails(), fails("pool-2")]
    clock.advance(60.0)
    still = fails()
    clock.advance(60.1)
    assert ([True, False, True], False, True) == (first, still, fails())
    assert not told.filter(record("reconnection attempt in pool %r failed after %s sec", "pool-1", 5.0))
    assert [True] * 3 == [told.filter(record(*each)) for each in [("ready",), *[("connection failed check: %s", OSError())] * 2]]


def test_the_loggers_filter_is_there_once() -> None:
    """From the first app on."""
    make_app(JobSettings(database_url="postgresql://db/jobs"))
    redact_pool()
    assert 1 == sum(isinstance(each, PoolLogFilter) for each in logging.getLogger(POOL_LOGGER).filters)
