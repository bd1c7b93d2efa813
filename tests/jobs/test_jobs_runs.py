"""A run of a job, from the worker's middleware to the status that is written, without a database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg
import psycopg_pool
import pytest
from procrastinate import JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException, JobAborted, UniqueViolation
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job, Status
from procrastinate.middleware import compose
from procrastinate.sql import queries

from resilience_kit import CircuitBreaker, CircuitState, idempotency_key, remaining_time
from resilience_kit.errors import BulkheadFullError, CircuitBreakerOpenError, ServiceUnavailableError
from resilience_kit.jobs import (
    DatabaseRetried,
    ExponentialBackoffStrategy,
    JobFailed,
    JobPostponed,
    JobRetried,
    JobsApp,
    JobSettings,
    JobStarted,
    JobSucceeded,
    JobSuperseded,
    JobTimedOut,
    RetryingConnector,
    StatusWriter,
    TimeoutMiddleware,
    Timeouts,
    TrackingMiddleware,
    costs_no_attempt,
    job_timeout,
    make_app,
)
from resilience_kit.jobs import (
    JobAborted as Aborted,
)
from resilience_kit.jobs.run import current_run
from resilience_kit.jobs.shutdown import ShutdownAwareWorker, ShutdownBudget, current_shutdown
from resilience_kit.jobs.statements import AGE, FAIL, FINISH, POSTPONE, PRUNE, RETRY, RETRY_WITHOUT_NOTE, REVIVE
from resilience_kit.testing import FakeClock

JOB = Job(id=7, queue="default", lock=None, queueing_lock=None, task_name="t", attempts=1, worker_id=3)


class FakeDatabase(PsycopgConnector):
    """Notes what is executed, and answers with a row or an error."""

    def __init__(self, *answers: object) -> None:
        super().__init__()
        self.answers, self.seen = list(answers), []

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        await self.execute_query_all_async(query, **arguments)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> Any:
        return (await self.execute_query_all_async(query, **arguments))[0]

    async def execute_query_all_async(self, query: str, **arguments: Any) -> Any:
        self.seen.append((query, arguments))
        answer = self.answers.pop(0) if self.answers else [{"id": 7}]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class World:
    """A job's surroundings: what the worker would be, and what it would do with the run's end."""

    def __init__(self, events, heard) -> None:
        self.app: JobsApp = make_app(JobSettings(database_url="postgresql://nobody@127.0.0.1:1/none", job_timeout=30))
        self.events, self.heard, self.clock = events, heard, FakeClock()
        self.reason: AbortReason | None = None
        self.error_details = False
        self.app.task(name="t")(self._t)
        self.function: Callable[[], Awaitable[object]] | None = None

    async def _t(self) -> object: ...

    async def run(
        self,
        function: Callable[[], Awaitable[object]],
        database: FakeDatabase | None = None,
        *,
        job: Job = JOB,
        writer: StatusWriter | None = None,
    ) -> FakeDatabase:
        """As `Worker._process_job` does: run, ask the strategy, write."""
        database = database or FakeDatabase()
        writer = writer or StatusWriter(database, self.events)
        context = JobContext(app=self.app, job=job, start_timestamp=0.0, abort_reason=lambda: self.reason)
        layers = [
            TrackingMiddleware(self.events, error_details=self.error_details, clock=self.clock),
            TimeoutMiddleware(Timeouts(default=30.0), self.events, self.clock),
        ]
        try:
            await compose(layers, function, context, None)()
        except BaseException as error:
            self.error = error
            asked = not isinstance(error, JobAborted) or self.reason is AbortReason.SHUTDOWN
            retry = context.task.get_retry_exception(exception=error, job=JOB) if asked else None
            status = Status.ABORTED if isinstance(error, JobAborted | asyncio.CancelledError) else Status.FAILED
            if retry is not None:
                await writer.retry_job(JOB, retry_at=retry.retry_decision.retry_at)
            else:
                await writer.finish_job(JOB, status, delete_job=False)
        else:
            await writer.finish_job(JOB, Status.SUCCEEDED, delete_job=False)
        return database


@pytest.fixture
def world(events, heard) -> World:
    """One for each test."""
    return World(events, heard)


def kinds(heard: list) -> list[type]:
    """What was told."""
    return [type(each) for each in heard]


async def test_a_good_run(world: World) -> None:
    """Is told at its start and, when it is written, at its end; the write is fenced by the worker's id and the attempts."""

    async def good() -> str:
        await world.clock.sleep_async(2.0)
        assert 28.0 == remaining_time()
        assert "job-7" == idempotency_key()
        return "done"

    database = await world.run(good)
    assert [
        JobStarted(operation="t", job_id=7, attempt=2, limit=6),
        JobSucceeded(operation="t", job_id=7, attempt=2, duration=2.0),
    ] == world.heard
    fence = {"job_id": 7, "worker_id": 3, "attempts": 1}
    assert [(FINISH, {**fence, "status": "succeeded", "delete_job": False})] == database.seen


async def test_a_failed_run_is_retried(world: World) -> None:
    """By the task's strategy."""

    async def bad() -> None:
        raise OSError

    database = await world.run(bad)
    assert RETRY == database.seen[0][0]
    assert isinstance(world.heard[-1], JobRetried)
    assert 4.0 == pytest.approx(world.heard[-1].delay, abs=0.5)
    assert "OSError" == world.heard[-1].error_type


async def test_the_last_run_fails(world: World) -> None:
    """For good."""
    world.app.tasks["t"].retry_strategy = None

    async def bad() -> None:
        raise OSError

    database = await world.run(bad)
    assert "failed" == database.seen[0][1]["status"]
    assert [JobStarted(operation="t", job_id=7, attempt=2, limit=1), JobFailed] == [world.heard[0], type(world.heard[1])]


@pytest.mark.parametrize(("error", "delay"), [(CircuitBreakerOpenError("api", 12.0), 12.0), (BulkheadFullError("api"), 5.0)])
@pytest.mark.parametrize("retry", [True, False])
async def test_a_refusal_costs_no_attempt(world: World, error: Exception, delay: float, retry: bool) -> None:
    """The job waits as long as the guard says, whatever its strategy: nothing was sent."""
    if not retry:
        world.app.tasks["t"].retry_strategy = None

    async def refused() -> None:
        raise error

    database = await world.run(refused)
    assert [(POSTPONE, delay)] == [(query, arguments["delay"]) for query, arguments in database.seen]
    assert JobPostponed(operation="t", job_id=7, attempt=2, delay=delay, reason=type(error).__name__) == world.heard[-1]


def _caused(cause: Exception) -> Exception:
    error = LookupError("no answer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("wrap", [lambda error: ExceptionGroup("one", [error]), _caused])
async def test_a_refusal_behind_another_error_costs_no_attempt(world: World, wrap: Callable[[Exception], Exception]) -> None:
    """As a cause, or out of a task group."""

    async def refused() -> None:
        raise wrap(CircuitBreakerOpenError("api", 7.0))

    database = await world.run(refused)
    assert [(POSTPONE, 7.0)] == [(query, arguments["delay"]) for query, arguments in database.seen]
    assert "CircuitBreakerOpenError" == world.heard[-1].reason


class TrialDatabase(FakeDatabase):
    """Tells a job's age."""

    def __init__(self, age: object) -> None:
        super().__init__()
        self.age = age

    async def execute_query_all_async(self, query: str, **arguments: Any) -> Any:
        if query == AGE:
            self.answers.insert(0, [{"age": self.age}] if not isinstance(self.age, Exception) else self.age)
        return await super().execute_query_all_async(query, **arguments)


def half_open(clock: FakeClock) -> CircuitBreaker:
    """A circuit whose next call is its trial; open for 40 s after a failure."""
    breaker = CircuitBreaker(1, 40.0, clock=clock.monotonic)
    breaker.set_state(CircuitState.HALF_OPEN, "by hand")
    return breaker


@pytest.mark.parametrize(
    ("age", "expected"),
    [(10.0, (POSTPONE, 40.0)), (None, (POSTPONE, 40.0)), (OSError(), (POSTPONE, 40.0)), (90_000.0, (RETRY, 4.0))],
)
@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: ExceptionGroup("one", [error]), _caused])
async def test_the_trial_of_a_half_open_circuit_costs_no_attempt(
    world: World, age: object, expected: tuple[object, object], wrap: Callable[[Exception], Exception]
) -> None:
    """The run is repeated when the circuit lets somebody in again; a job that is a day old pays (invariant 60)."""
    breaker, database = half_open(world.clock), TrialDatabase(age)
    world.app.job_manager.connector = database

    async def trial() -> None:
        error = ServiceUnavailableError("down")
        with suppress(ServiceUnavailableError), breaker:
            raise error
        assert costs_no_attempt(error)
        raise wrap(error)

    await world.run(trial, database)
    query, arguments = next(each for each in database.seen if each[0] != AGE)
    assert (expected[0], pytest.approx(expected[1], abs=0.5)) == (query, arguments.get("delay"))
    assert current_run.get().trial_failures == []


async def test_a_trial_that_did_not_end_the_run_is_not_what_it_failed_of(world: World) -> None:
    """The job went on without it, and has an error of its own."""
    breaker = half_open(world.clock)

    async def goes_on() -> None:
        with suppress(ServiceUnavailableError), breaker:
            raise ServiceUnavailableError("down")
        raise ValueError

    database = await world.run(goes_on)
    assert RETRY == database.seen[0][0]


class Hostile(Exception):
    """Fails when it is asked what it came from."""

    @property
    def __cause__(self) -> None:  # type: ignore[override]  # on purpose
        raise RuntimeError


async def test_an_error_that_cannot_be_looked_at_is_retried(world: World) -> None:
    """By its type's name alone."""

    async def bad() -> None:
        raise Hostile

    database = await world.run(bad)
    assert (RETRY, "Hostile", "") == (database.seen[0][0], world.heard[-1].error_type, world.heard[-1].location)


async def test_arguments_that_do_not_fit_are_the_end(world: World) -> None:
    """Without the strategy, which would have the job run again."""

    async def call() -> None:
        await world.app.tasks["t"](unknown=1)

    job = JOB.evolve(task_kwargs={"unknown": 1})
    database = await world.run(call, job=job)
    assert [(FAIL, "JobArgumentsError")] == [(query, arguments["error_type"]) for query, arguments in database.seen]
    assert isinstance(world.error, TypeError)


async def test_an_error_is_kept_with_its_place(world: World) -> None:
    """And with its message only where that is wanted (invariant 78)."""

    async def bad() -> None:
        raise OSError("canary")

    for details in (False, True):
        world.error_details = details
        database = await world.run(bad)
        kept = database.seen[0][1]
        assert ("OSError", details) == (kept["error_type"], "canary" in kept["details"])
        assert "test_jobs_runs.py:" in kept["location"]
        assert (kept["location"], kept["details"]) == (world.heard[-1].location, world.heard[-1].details)


@pytest.mark.parametrize(
    ("cause", "plain"),
    [
        (psycopg.errors.UndefinedTable(), True),
        (psycopg.errors.InsufficientPrivilege(), True),
        (psycopg.errors.RaiseException(), False),
    ],
)
async def test_a_status_is_written_where_there_is_no_table_for_errors(
    world: World, caplog: pytest.LogCaptureFixture, cause: Exception, *, plain: bool
) -> None:
    """It is told once; an error of another kind is not hidden."""
    error = ConnectorException()
    error.__cause__ = cause
    database = FakeDatabase(error)
    writer = StatusWriter(database, world.events)

    async def bad() -> None:
        raise OSError

    if not plain:
        with pytest.raises(ConnectorException):
            await world.run(bad, database, writer=writer)
        return
    await world.run(bad, database, writer=writer)
    await world.run(bad, database, writer=writer)
    assert [RETRY, RETRY_WITHOUT_NOTE, RETRY_WITHOUT_NOTE] == [query for query, _ in database.seen]
    assert 1 == sum(each.startswith("why jobs fail is logged and not kept") for each in caplog.messages)


async def test_the_age_of_a_job_is_asked_beyond_its_attempts(world: World) -> None:
    """With it the strategy knows when to give up, whatever the delays say."""
    world.app.tasks["t"].retry_strategy = ExponentialBackoffStrategy(1, give_up_after=3600.0)
    for age, expected in ((3599.0, RETRY), (3600.0, FAIL)):
        database = TrialDatabase(age)
        world.app.job_manager.connector = database

        async def down() -> None:
            raise ServiceUnavailableError("down")

        await world.run(down, database)
        assert [AGE, expected] == [query for query, _ in database.seen]


async def test_a_run_beyond_the_attempts_has_the_outages_limit(world: World) -> None:
    """In its first event; where nobody knows one there is none."""

    async def good() -> None: ...

    strategies = (ExponentialBackoffStrategy(0), ExponentialBackoffStrategy(0, 300.0, give_up_after=900.0))
    for strategy in strategies:
        world.app.tasks["t"].retry_strategy = strategy
        await world.run(good)
    assert [None, 4] == [each.limit for each in world.heard if isinstance(each, JobStarted)]


async def test_a_run_that_takes_too_long_is_cancelled(world: World) -> None:
    """At its timeout, its finally blocks run, and it is a TimeoutError to the strategy (invariant 64)."""
    cleaned = []

    async def slow() -> None:
        try:
            await world.clock.sleep_async(1000.0)
        finally:
            cleaned.append(world.clock.monotonic())

    await world.run(slow)
    assert [30.0] == cleaned
    assert [JobStarted, JobTimedOut, JobRetried] == kinds(world.heard)
    assert "TimeoutError" == world.heard[-1].error_type
    assert "job 7 (t) was cancelled after its timeout of 30 s" == str(world.error)


async def test_a_run_that_ends_in_spite_of_its_timeout_has_ended_well(world: World) -> None:
    """It swallowed the cancellation, and has done its work."""

    async def stubborn() -> None:
        try:
            await world.clock.sleep_async(1000.0)
        except asyncio.CancelledError:
            return

    await world.run(stubborn)
    assert [JobStarted, JobSucceeded] == kinds(world.heard)


async def test_a_task_without_a_timeout_is_let_be(world: World) -> None:
    """Its callees know of no limit."""
    job_timeout(None)(world.app.tasks["t"].func.__func__)
    seen = []

    async def slow() -> None:
        await world.clock.sleep_async(1000.0)
        seen.append(remaining_time())

    await world.run(slow)
    assert [None] == seen
    del World._t.__resilience_kit_job_timeout__


async def _cancelled_while_running(world: World) -> FakeDatabase:
    begun = asyncio.Event()

    async def long() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(world.run(long))
    await begun.wait()
    task.cancel()
    return await task


@pytest.mark.parametrize("reason", [AbortReason.SHUTDOWN, None])
async def test_a_run_cut_by_a_shutdown_waits_again(world: World, reason: AbortReason | None) -> None:
    """At once and at no cost, and does not end as aborted (invariant 67)."""
    world.reason = reason
    database = await _cancelled_while_running(world)
    assert [(POSTPONE, 0.0)] == [(query, arguments["delay"]) for query, arguments in database.seen]


async def test_a_run_that_a_user_aborts_is_aborted(world: World) -> None:
    """Without the strategy being asked, which would have it run again."""
    world.reason = AbortReason.USER_REQUEST
    database = await _cancelled_while_running(world)
    assert "aborted" == database.seen[0][1]["status"]
    assert [JobStarted, Aborted] == kinds(world.heard)


async def test_a_run_that_cancels_itself_has_failed(world: World) -> None:
    """Nobody asked for it, and for ever is too often."""

    async def odd() -> None:
        raise asyncio.CancelledError

    await world.run(odd)
    assert "job 7 (t) cancelled itself" == str(world.error)
    assert [JobStarted, JobRetried] == kinds(world.heard)


async def test_the_end_of_another_workers_run_is_not_written(world: World) -> None:
    """The job was swept meanwhile; the first worker goes on without an error (invariant 65)."""

    async def good() -> None: ...

    await world.run(good, FakeDatabase([]))
    assert JobSuperseded(operation="t", job_id=7, status="succeeded") == world.heard[-1]


@pytest.mark.parametrize("error", [OSError(), CircuitBreakerOpenError("api", 1.0)])
async def test_a_job_whose_twin_waits_gives_way(world: World, error: Exception) -> None:
    """Two with one queueing lock cannot both wait, and where they share a lock too, neither could ever run."""

    async def bad() -> None:
        raise error

    taken = UniqueViolation(constraint_name="x", queueing_lock="y")
    database = await world.run(bad, FakeDatabase(taken))
    assert "failed" == database.seen[-1][1]["status"]
    assert [JobStarted, JobFailed] == kinds(world.heard)


async def test_outside_of_a_run_it_is_procrastinates_own(events) -> None:
    """A job that somebody retries by hand."""
    database = FakeDatabase()
    writer = StatusWriter(database, events)
    await writer.retry_job(JOB)
    await writer.finish_job(JOB, Status.FAILED, delete_job=False)
    assert [queries["retry_job"], queries["finish_job"]] == [query for query, _ in database.seen]


def away(cause: BaseException | None = None) -> ConnectorException:
    """The connector's error for a lost database."""
    error = ConnectorException()
    error.__cause__ = cause or psycopg.OperationalError()
    return error


async def test_a_worker_that_was_given_up_fetches_again(events) -> None:
    """Its row was pruned, and is put back (invariant 65)."""
    row = {"id": None}
    database = FakeDatabase(away(psycopg.errors.ForeignKeyViolation()), [row], [row])
    assert await StatusWriter(database, events).fetch_job(None, 3) is None
    assert [queries["fetch_job"], REVIVE, queries["fetch_job"]] == [query for query, _ in database.seen]


async def test_a_statement_is_committed_by_itself() -> None:
    """Without BEGIN and COMMIT, on each connection of the pool."""
    committed = []

    class Connection:
        async def set_autocommit(self, value: bool) -> None:
            committed.append(value)

    pool = await RetryingConnector("")._create_pool({"min_size": 0, "max_size": 1})
    await pool._configure(Connection())
    assert [True] == committed


async def test_workers_are_given_up_by_a_rule_of_ours(events) -> None:
    """Nobody is pruned for a silence while the database was away (invariant 59)."""
    database = FakeDatabase([{"id": 3}, {"id": 4}])
    assert [3, 4] == await StatusWriter(database, events).prune_stalled_workers(30.0)
    assert [(PRUNE, {"stalled_timeout": 30.0})] == database.seen


async def test_a_fetch_that_fails_otherwise_fails(events) -> None:
    """It is not to be hidden."""
    with pytest.raises(ConnectorException):
        await StatusWriter(FakeDatabase(away()), events).fetch_job(None, 3)


JOB_ROW = ("status", "priority", "lock", "queueing_lock", "scheduled_at", "queue_name")


def fetched(task: str, job_id: int = 7) -> list[dict[str, object]]:
    """The answer to a fetch."""
    return [{**dict.fromkeys(JOB_ROW), "id": job_id, "task_name": task, "attempts": 1, "args": {}}]


async def test_a_job_whose_task_is_not_known_here_waits_for_another_worker(events, heard, caplog) -> None:
    """At no cost, the next one is fetched at once, and the task is told once (invariant 62)."""
    database = FakeDatabase(fetched("new", 1), [{"id": 1}], fetched("new", 2), [{"id": 2}], fetched("t", 3))
    writer = StatusWriter(database, events, is_known_task={"t"}.__contains__, clock=FakeClock())
    with caplog.at_level(logging.WARNING, "resilience_kit.jobs"):
        job = await writer.fetch_job(None, 3)
    assert job is not None
    assert 3 == job.id
    assert [30.0, 30.0] == [arguments["delay"] for query, arguments in database.seen if query == POSTPONE]
    reason = "its task is not known here"
    assert [JobPostponed(operation="new", job_id=each, attempt=2, delay=30.0, reason=reason) for each in (1, 2)] == heard
    assert 1 == len(caplog.messages)
    assert caplog.messages[0].startswith("no task 'new' here: its jobs are put back for 30 s at a time, at no cost")


async def test_a_worker_that_stops_puts_back_one_at_most(events) -> None:
    """However many jobs of other releases wait (invariant 67)."""
    ending = ShutdownBudget(10.0, FakeClock())
    ending.start()
    token = current_shutdown.set(ending)
    writer = StatusWriter(FakeDatabase(fetched("new"), [{"id": 7}]), events, is_known_task=lambda _: False)
    assert await writer.fetch_job(None, 3) is None
    current_shutdown.reset(token)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """Answers of the base connector, taken from the list's front; errors are raised."""
    answers: list = []

    async def answer(_self: object, _query: str, **_arguments: object) -> object:
        found = answers.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    for name in ("execute_query_async", "execute_query_one_async", "execute_query_all_async"):
        monkeypatch.setattr(PsycopgConnector, name, answer)
    return answers


@pytest.mark.parametrize("query", [FINISH, RETRY, POSTPONE, REVIVE, PRUNE, queries["fetch_job"]])
async def test_what_a_worker_writes_is_repeated(calls: list, query: str, events, heard) -> None:
    """At growing delays, until it is carried out (invariant 63)."""
    calls += [away(), away(psycopg.InterfaceError()), [{"id": 1}]]
    clock = FakeClock()
    connector = RetryingConnector("", events=events, clock=clock)
    assert [{"id": 1}] == await connector.execute_query_all_async(query)
    assert [0.1, 0.2] == clock.sleeps
    assert [DatabaseRetried(attempt=1, delay=0.1, error_type="OperationalError")] == heard[:1]


async def test_patience_ends(calls: list) -> None:
    """Then the error leaves, and the job is swept one day."""
    calls += [away()] * 100
    clock = FakeClock()
    with pytest.raises(ConnectorException):
        await RetryingConnector("", retry_timeout=60.0, clock=clock).execute_query_async(FINISH)
    assert 50.0 < clock.monotonic() <= 60.0
    assert 5.0 == max(clock.sleeps)


@pytest.fixture
def unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that says nothing, and no error either."""

    async def no_answer(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(PsycopgConnector, "execute_query_async", no_answer)


async def gives_up(query: str, *, told: float, begun: float) -> float:
    """When a statement of `begun` is given up by a worker with a grace of 10 s that was told to stop at `told`."""
    clock = FakeClock(auto_advance=False)
    zero, ending = clock.monotonic(), ShutdownBudget(10.0, clock)
    current_shutdown.set(ending)
    if told < begun:
        ending.start()
        await clock.advance_async(begun - told)
    write = asyncio.create_task(RetryingConnector("", clock=clock).execute_query_async(query))
    await clock.advance_async(max(0.0, told - begun))
    ending.start()
    while not write.done():
        await clock.advance_async(0.25)
    with pytest.raises(ConnectorException, match="the worker is shutting down"):
        await write
    return clock.monotonic() - zero + min(told, begun)


@pytest.mark.usefixtures("unanswered")
@pytest.mark.parametrize(("query", "last"), [(queries["fetch_job"], 3.0), (FINISH, 14.0), (REVIVE, 14.0)])
@pytest.mark.parametrize("told", [0.0, 2.0])
async def test_a_worker_that_stops_is_not_patient(query: str, last: float, told: float) -> None:
    """A fetch is given up 3 s after it was told, all else after the grace and 4 s (invariant 67)."""
    assert told + last == pytest.approx(await gives_up(query, told=told, begun=0.0), abs=0.5)


@pytest.mark.usefixtures("unanswered")
@pytest.mark.parametrize(("begun", "last"), [(5.0, 14.0), (13.5, 14.5), (100.0, 101.0)])
async def test_what_is_written_after_the_end_has_a_second(begun: float, last: float) -> None:
    """As a plain function may end that late (invariant 67)."""
    assert last == pytest.approx(await gives_up(FINISH, told=0.0, begun=begun), abs=0.5)


async def test_what_is_written_in_time_is_written(calls: list) -> None:
    """Before and after the worker was told to stop; another's cancellation and error are let be."""
    clock = FakeClock()
    ending = ShutdownBudget(None, clock)
    connector = RetryingConnector("", clock=clock)
    token = current_shutdown.set(ending)
    calls += [[{"id": 1}], [{"id": 2}], asyncio.CancelledError(), away(psycopg.errors.RaiseException())]
    assert [{"id": 1}] == await connector.execute_query_all_async(FINISH)
    ending.start()
    assert [{"id": 2}] == await connector.execute_query_all_async(FINISH)
    with pytest.raises(asyncio.CancelledError):
        await connector.execute_query_all_async(FINISH)
    with pytest.raises(ConnectorException, match="Database error"):
        await connector.execute_query_all_async(FINISH)
    current_shutdown.reset(token)


async def test_a_worker_tells_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the statements of its tasks, and to nobody after it."""
    seen = []

    async def run(self: ShutdownAwareWorker) -> None:
        ending = current_shutdown.get()
        assert ending is not None
        seen.append(ending.started)
        self.stop()
        self.stop()
        seen.append(ending.started)

    monkeypatch.setattr("procrastinate.worker.Worker.run", run)
    await ShutdownAwareWorker(world.clock, app=world.app, shutdown_graceful_timeout=1.0).run()
    assert [False, True] == seen
    assert current_shutdown.get() is None


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (queries["defer_jobs"], away()),
        (FINISH, away(psycopg.errors.RaiseException())),
        (FINISH, away(psycopg_pool.PoolClosed())),
        (RETRY, UniqueViolation(constraint_name="x", queueing_lock=None)),
    ],
)
async def test_the_rest_fails_at_once(calls: list, query: str, error: Exception) -> None:
    """A caller waits for it, or another try would change nothing."""
    calls.append(error)
    clock = FakeClock()
    with pytest.raises(ConnectorException):
        await RetryingConnector("", clock=clock).execute_query_one_async(query)
    assert [] == clock.sleeps


async def test_the_listening_connection_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as the database is away; another error leaves."""
    errors = [away(), away(), away(psycopg.errors.RaiseException())]

    async def listen(*_: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(PsycopgConnector, "listen_notify", listen)
    clock = FakeClock()
    with pytest.raises(ConnectorException):
        await RetryingConnector("", clock=clock).listen_notify(lambda **_: None, ["x"])
    assert [5.0, 5.0] == clock.sleeps


def test_a_connector_tells_no_secret() -> None:
    """Its connection string is one."""
    assert "RetryingConnector(retry_timeout=60)" == repr(RetryingConnector("postgresql://me:canary@db"))


async def test_a_connection_string_may_be_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once, when the connector is opened."""
    asked = []

    async def open_async(self: PsycopgConnector, _pool: object = None) -> None:
        asked.append(self._pool_args["conninfo"])

    monkeypatch.setattr(PsycopgConnector, "open_async", open_async)
    connector = RetryingConnector(lambda: f"host={len(asked)}")
    await connector.open_async()
    await connector.open_async()
    assert ["host=0", "host=0"] == asked
    assert connector.get_sync_connector() is not None
