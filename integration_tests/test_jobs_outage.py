"""An API that is broken for an hour, and jobs with default settings, on a real PostgreSQL. The hour is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig
from resilience_kit.errors import DeadlineExceededError, ServiceUnavailableError, StreamInterruptedError
from resilience_kit.jobs import ExponentialBackoffStrategy, JobsApp, JobSettings, lifespan, make_app
from resilience_kit.testing import FakeClock

HOUR = 3600.0
JOBS = "SELECT id, status::text, attempts FROM procrastinate_jobs WHERE queue_name = 'default' ORDER BY id"
BUSY = """
SELECT count(*) FROM procrastinate_jobs
 WHERE queue_name = 'default' AND (status = 'doing' OR (status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())))
"""
NEXT = """
SELECT extract(epoch FROM min(scheduled_at) - now())::float8 FROM procrastinate_jobs
 WHERE queue_name = 'default' AND status = 'todo'
"""
#: An earlier begin of everything is a later present.
MOVE = """
UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - make_interval(secs => %(seconds)s)
 WHERE queue_name = 'default' AND status = 'todo'
"""
AGE = "UPDATE procrastinate_events SET at = at - make_interval(secs => %(seconds)s)"
LOSE = "UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL WHERE queue_name = 'default' AND status = 'todo'"


class World:
    """An application with a worker, an API that is broken for some time, and the time."""

    def __init__(self, app: JobsApp) -> None:
        self.app, self.now, self.broken_until, self.calls = app, 0.0, HOUR, 0
        self.clock = FakeClock()
        self.kit = AIServiceResilience(clock=self.clock)
        self.error: Callable[[], Exception] = lambda: ServiceUnavailableError("down")

    async def api(self) -> str:
        """The API, broken or not."""
        self.calls += 1
        if self.now < self.broken_until:
            raise self.error()
        return "answer"

    async def rows(self, query: str = JOBS, **arguments: Any) -> list[tuple[Any, ...]]:
        """What the database says."""
        async with self.app.pool.connection() as connection:
            cursor = await connection.execute(query, arguments)
            return await cursor.fetchall() if cursor.description else []

    async def until_all_ended(self, longest: float = 2 * HOUR) -> list[tuple[Any, ...]]:
        """Let the worker do what is due, and move the time on to what is due next, until nothing is left."""
        async with self.working():
            while True:
                if (await self.rows(BUSY))[0][0]:
                    await asyncio.sleep(0.01)
                    continue
                [(seconds,)] = await self.rows(NEXT)
                if seconds is None:
                    return await self.rows()
                await self.move(max(0.0, seconds) + 1.0)
                assert self.now < longest, await self.rows()

    async def move(self, seconds: float) -> None:
        """Let the time pass: for the API, the circuit and the jobs."""
        self.now += seconds
        self.clock.advance(seconds)
        await self.rows(AGE, seconds=seconds)
        await self.rows(MOVE, seconds=seconds)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A worker meanwhile."""
        worker = asyncio.create_task(self.app.run_worker_async(install_signal_handlers=False))
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


@pytest.fixture
async def outage(database_url: str) -> AsyncIterator[Callable[..., Any]]:
    """Build a world with settings that differ from the defaults in this way."""
    opened = []

    async def build(**values: Any) -> World:
        app = make_app(JobSettings(**{"database_url": database_url, "poll_interval": 0.02, **values}))
        context = lifespan(app)
        await context.__aenter__()
        opened.append(context)
        return World(app)

    yield build
    for context in opened:
        await context.__aexit__(None, None, None)


def interrupted() -> Exception:
    """A stream that broke, as a call ends by it."""
    error = StreamInterruptedError("api", 1, [])
    error.__cause__ = ConnectionResetError()
    return error


def wrapped() -> Exception:
    """An application's own error, with the API's as its cause."""
    error = LookupError("no answer")
    error.__cause__ = ServiceUnavailableError("down")
    return error


@pytest.mark.parametrize(
    "error",
    [lambda: ServiceUnavailableError("down"), TimeoutError, ConnectionRefusedError, interrupted, wrapped, DeadlineExceededError],
)
async def test_no_job_is_lost_in_an_hours_outage(outage: Callable[..., Any], error: Callable[[], Exception]) -> None:
    """With default settings, whatever the API's trouble looks like, and without a circuit."""
    world = await outage()
    world.error = error

    @world.app.task(name="t")
    async def t() -> None:
        await world.api()

    await world.app.defer_many(t, [{}] * 5)
    found = await world.until_all_ended()
    assert ["succeeded"] * 5 == [status for _, status, _ in found]
    assert HOUR <= world.now < HOUR + 330.0
    assert world.calls < 5 * 25


async def test_no_job_is_lost_behind_a_circuit_in_an_hours_outage(outage: Callable[..., Any]) -> None:
    """With default settings, too: a refusal costs no attempt, and the trial of a half-open circuit costs none either."""
    world = await outage()
    config = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=120.0), retry=None)

    @world.app.task(name="t")
    async def t() -> None:
        await world.kit.execute_with_resilience(world.api, "api", custom_config=config)

    await world.app.defer_many(t, [{}] * 5)
    found = await world.until_all_ended()
    assert ["succeeded"] * 5 == [status for _, status, _ in found]
    assert 5 + 3 == sum(attempts for _, _, attempts in found)  # those that opened the circuit, and the good ones
    assert world.calls < 3 + 32 + 5


async def test_a_job_without_retries_outlives_the_trials_of_a_circuit(outage: Callable[..., Any]) -> None:
    """Its one attempt is spent by none of them; the circuit was opened by somebody else."""
    world = await outage()
    config = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=300.0), retry=None)

    async def call() -> str:
        return await world.kit.execute_with_resilience(world.api, "api", custom_config=config)

    @world.app.task(name="t", retry=False)
    async def t() -> None:
        await call()

    with pytest.raises(ServiceUnavailableError):
        await call()
    await t.defer_async()
    assert [(1, "succeeded", 1)] == await world.until_all_ended()


@pytest.mark.parametrize("circuit", [False, True])
async def test_a_job_is_given_up_in_the_end(outage: Callable[..., Any], *, circuit: bool) -> None:
    """After `give_up_after` seconds, and not before; an API that never comes back is no reason to try for ever."""
    world = await outage(give_up_after=HOUR)
    world.broken_until = 99 * HOUR
    config = ResilienceConfig(circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=120.0), retry=None)

    @world.app.task(name="t")
    async def t() -> None:
        await (world.kit.execute_with_resilience(world.api, "api", custom_config=config) if circuit else world.api())

    await t.defer_async()
    [(_, status, _)] = await world.until_all_ended()
    assert "failed" == status
    assert HOUR - 301.0 <= world.now < HOUR * 1.5


async def test_max_retries_alone_limit_all_failures(outage: Callable[..., Any]) -> None:
    """Whoever sets them, and no `give_up_after`, has that many."""
    world = await outage(max_retries=5)

    @world.app.task(name="t")
    async def t() -> None:
        await world.api()

    await t.defer_async()
    assert [(1, "failed", 6)] == await world.until_all_ended()
    assert 62.0 == pytest.approx(world.now, abs=5.0)


async def test_an_error_of_the_job_keeps_to_its_retries(outage: Callable[..., Any]) -> None:
    """With default settings a fault in the code is no outage."""
    world = await outage()
    world.error = lambda: ValueError("a fault")

    @world.app.task(name="t")
    async def t() -> None:
        await world.api()

    await t.defer_async()
    assert [(1, "failed", 6)] == await world.until_all_ended()


async def test_a_worker_that_is_lost_in_an_outage_loses_no_job(outage: Callable[..., Any]) -> None:
    """The attempts that the outage took do not count as lost runs."""
    world = await outage()

    @world.app.task(name="t")
    async def t() -> None:
        await world.api()

    await t.defer_async()
    async with world.working():
        while (await world.rows())[0][2] < 12:
            await asyncio.sleep(0.01)
            [(seconds,)] = await world.rows(NEXT)
            if seconds is not None and seconds > 0.0:
                await world.move(seconds + 1.0)
    for _ in range(3):
        await world.rows(LOSE)
        swept = await world.app.sweep()
        assert (1,) == swept.retried
    [(_, status, attempts)] = await world.until_all_ended()
    assert "succeeded" == status
    assert attempts > 15


async def test_a_job_that_kills_its_workers_ends_with_default_settings(outage: Callable[..., Any]) -> None:
    """After 6 lost runs (invariant 62), which no age of the job and no outage before makes more."""
    world = await outage()

    @world.app.task(name="t")
    async def t() -> None: ...

    await t.defer_async()
    for lost in range(6):
        assert [(1, "todo", lost)] == await world.rows()
        await world.rows(LOSE)
        await world.app.sweep()
    assert [(1, "failed", 6)] == await world.rows()
    assert [("worker lost", 6)] == await world.rows("SELECT error_type, attempt FROM resilience_kit_job_errors")


def test_the_default_strategy_is_the_contracts_and_goes_on_in_an_outage() -> None:
    """For a day: 2, 4, 8... seconds up to 300, as long as the failures are transient."""
    strategy = JobSettings().strategy
    assert ExponentialBackoffStrategy() == strategy
    assert {"seconds": 300.0} == strategy.get_schedule_in(TimeoutError(), 200)
    assert strategy.get_schedule_in(ValueError(), 5) is None
    assert strategy.get_schedule_in(TimeoutError(), strategy.max_runs - 1) is None
