"""Procrastinate's application with all that keeps a job from being lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from procrastinate import App, JobContext
from procrastinate.app import WorkerOptions
from procrastinate.retry import BaseRetryStrategy
from procrastinate.tasks import Task
from typing_extensions import Unpack

from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.events import ChildStream, EventStream
from resilience_kit.jobs import log
from resilience_kit.jobs.connector import RetryingConnector
from resilience_kit.jobs.database import Pool, analyze, defer_many, describe_database, ensure_schema
from resilience_kit.jobs.embedded import EmbeddedPostgres
from resilience_kit.jobs.event_loop_monitor import EventLoopMonitor
from resilience_kit.jobs.events import RETENTION, SWEEP
from resilience_kit.jobs.memory import InMemoryConnector
from resilience_kit.jobs.metrics import JobMetrics
from resilience_kit.jobs.redaction import dropping_duplicates, log_once, redact
from resilience_kit.jobs.settings import JobSettings
from resilience_kit.jobs.shutdown import ShutdownAwareWorker
from resilience_kit.jobs.status import StatusWriter
from resilience_kit.jobs.sweep import UNLIMITED, SweepOptions, SweepResult, sweep, sweep_in_memory
from resilience_kit.jobs.timeouts import TimeoutMiddleware, Timeouts
from resilience_kit.jobs.tracking import TrackingMiddleware, is_being_cancelled

MAINTENANCE_QUEUE: Final = "resilience_kit"
_RETENTION_CRON: Final = "17 * * * *"
_TOP_PRIORITY: Final = 1_000_000
_CONNECT_TIMEOUT: Final = 5
_RESTART_DELAY: Final = 5.0
#: The pool's own 300 s would let it sleep for minutes after a long outage. After giving up it restarts with the next statement.
_RECONNECT_TIMEOUT: Final = 5.0

_logger = logging.getLogger("resilience_kit.jobs")


class JobsApp(App):
    """Procrastinate's App. By default `task` retries by the strategy of the settings; `run_worker_async` sweeps first.

    `events`: what happens to jobs, for `add_listener`. `metrics`: the same in numbers, for this process.
    """

    def __init__(
        self, settings: JobSettings, events: EventStream, *, import_paths: Iterable[str] = (), clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.settings, self.events, self.metrics, self._clock = settings, events, JobMetrics(events), clock
        self.strategy: BaseRetryStrategy = settings.strategy
        self.timeouts = Timeouts(default=settings.job_timeout, allow_sync=settings.job_allow_sync_tasks)
        self.embedded = EmbeddedPostgres(settings.jobs_data_dir) if settings.database_url is None else None
        super().__init__(
            connector=self._new_connector(), import_paths=import_paths, worker_defaults=self._worker_defaults(settings)
        )
        self.job_manager = StatusWriter(self.connector, events, is_known_task=lambda name: name in self.tasks, clock=clock)
        _add_maintenance_tasks(self)

    def _new_connector(self) -> RetryingConnector:
        return RetryingConnector(
            self._conninfo,
            events=self.events,
            clock=self._clock,
            min_size=1,
            max_size=max(4, min(20, self.settings.worker_concurrency)),
            reconnect_timeout=_RECONNECT_TIMEOUT,
            kwargs={"connect_timeout": _CONNECT_TIMEOUT},
        )

    def _conninfo(self) -> str:
        """Return the connection string, once, when the app is opened; log which database it leads to."""
        if self.embedded is not None:
            conninfo = self.embedded.url()
            _logger.warning("jobs: no DATABASE_URL, so an embedded PostgreSQL in %s", self.embedded.folder)
            return conninfo
        url = self.settings.database_url
        conninfo = "" if url is None else url.get_secret_value()
        _logger.info("jobs: %s", describe_database(conninfo))
        return conninfo

    def _worker_defaults(self, settings: JobSettings) -> WorkerOptions:
        return {
            "concurrency": settings.worker_concurrency,
            "fetch_job_polling_interval": settings.poll_interval,
            "update_heartbeat_interval": settings.heartbeat_interval,
            "stalled_worker_timeout": settings.stalled_timeout,
            "shutdown_graceful_timeout": settings.job_shutdown_grace,
            "worker_middleware": [
                TrackingMiddleware(
                    self.events,
                    give_up_after=settings.give_up_after,
                    error_details=settings.error_details,
                    clock=self._clock,
                ),
                TimeoutMiddleware(self.timeouts, self.events, self._clock),
            ],
        }

    if not TYPE_CHECKING:  # the types are the base class's

        def task(self, _func=None, **options):  # noqa: ANN001, ANN003, ANN201 - the same
            """Register a task, as Procrastinate's `task` does; `retry` is by default the strategy of the settings."""
            options.setdefault("retry", self.strategy)
            return super().task(_func, **options)

    @property
    def in_memory(self) -> InMemoryConnector | None:
        """Procrastinate's `InMemoryConnector` while `replace_connector` has put one in place, for tests; else None."""
        return self.connector if isinstance(self.connector, InMemoryConnector) else None

    @property
    def pool(self) -> Pool:
        """Return the connection pool of an open app. Each statement outside of `connection.transaction()` is committed by itself.

        Raises RuntimeError where jobs are in memory.
        """
        if self.in_memory is not None:
            raise RuntimeError("the jobs are in memory, by replace_connector(InMemoryConnector()): there is no database to ask")
        connector: Any = self.connector
        return connector.pool  # type: ignore[no-any-return]  # the base class knows no pool

    async def defer_many(self, task: Task[Any, Any, Any], rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Defer one job for each row of arguments, in batches; return their ids in order. Renews the statistics after 1000."""
        return await defer_many(task, rows, None if self.in_memory is not None else self.pool)

    async def analyze(self) -> None:
        """Renew the planner's statistics."""
        if self.in_memory is None:
            await analyze(self.pool)

    async def sweep(self) -> SweepResult:
        """Retry or finish every stalled job now. Raises psycopg's errors."""
        strategies = {name: task.retry_strategy for name, task in self.tasks.items()}
        if self.in_memory is not None:
            return await sweep_in_memory(self.in_memory, strategies, self.strategy, self._sweep_options(), self.events)
        async with self.pool.connection() as connection:
            return await sweep(connection, strategies, self.strategy, self._sweep_options(), self.events)

    def _sweep_options(self) -> SweepOptions:
        return SweepOptions(
            stalled_timeout=self.settings.stalled_timeout, job_limit=self.settings.default_run_limit, limits=self._limits()
        )

    def _limits(self) -> Mapping[str, float]:
        timeouts = {name: self.timeouts.for_task(task) for name, task in self.tasks.items()}
        return {name: UNLIMITED if own is None else self.settings.run_limit_for(own) for name, own in timeouts.items()}

    def check_tasks(self) -> None:
        """Import what the import paths name, and raise ConfigurationError for tasks that no timeout can stop."""
        self.perform_import_paths()  # type: ignore[no-untyped-call]  # Procrastinate's
        self.timeouts.check(dict.fromkeys(self.tasks.values()))

    async def run_worker_async(self, **kwargs: Unpack[WorkerOptions]) -> None:
        """Run a worker until it is stopped. Sweeps first. Raises ConfigurationError for tasks that no timeout can stop.

        A worker of some queues serves the maintenance queue, too.
        """
        self.check_tasks()
        names = [kwargs.get("name") or "worker"]
        log_once(names)
        if not self.settings.log_arguments:
            redact(names)
        if kwargs.get("queues"):
            kwargs["queues"] = list(dict.fromkeys([*kwargs["queues"], MAINTENANCE_QUEUE]))
        await self.sweep()
        monitor = asyncio.create_task(self._event_loop_monitor().run(), name="event loop monitor")
        try:
            with dropping_duplicates(job_records=not self.settings.log_arguments):
                await ShutdownAwareWorker(self._clock, app=self, **{**self.worker_defaults, **kwargs}).run()
        finally:
            monitor.cancel()

    async def run_worker_forever(self) -> None:
        """Run workers in this loop until cancelled; start the next one when one ended early because the database is unavailable.

        Ends, and logs it, where a further worker would fail the same way: with tasks that no timeout can stop.
        """
        while await self._run_one_worker():
            await self._clock.sleep_async(_RESTART_DELAY)

    async def _run_one_worker(self) -> bool:
        """Run one worker; return whether to start another."""
        try:
            await self.run_worker_async(install_signal_handlers=False)
        except Exception as error:  # noqa: BLE001 - it is not awaited before the end
            again = not isinstance(error, ConfigurationError) and not is_being_cancelled()
            after = f"; the next one starts in {_RESTART_DELAY:g} s" if again else ""
            _logger.error("the worker in this process ended: %s%s", type(error).__name__, after)
            return again
        return False

    def _event_loop_monitor(self) -> EventLoopMonitor:
        return EventLoopMonitor(self.events, tolerance=self.settings.heartbeat_interval, clock=self._clock)


def _add_maintenance_tasks(app: JobsApp) -> None:
    """Add the two periodic tasks: queued at most once, at the highest priority, never retried: the next one is due soon."""
    options: dict[str, Any] = {"queue": MAINTENANCE_QUEUE, "retry": False, "pass_context": True, "priority": _TOP_PRIORITY}

    @app.periodic(cron=app.settings.sweep_cron)
    @app.task(name=SWEEP, queueing_lock=SWEEP, **options)
    async def sweep_stalled_jobs(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - the periodic tasks' signature
        await app.sweep()
        await _delete_finished_sweeps(app)

    @app.periodic(cron=_RETENTION_CRON)
    @app.task(name=RETENTION, queueing_lock=RETENTION, **options)
    async def remove_old_jobs(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - as above
        await remove_finished(app)


async def _delete_finished_sweeps(app: JobsApp) -> None:
    """Delete finished sweeps, each of which is a row; they would make up most of the table."""
    if app.in_memory is not None:
        return
    async with app.pool.connection() as connection:
        await connection.execute(
            "DELETE FROM procrastinate_jobs WHERE queue_name = %s AND task_name = %s AND status NOT IN ('todo', 'doing')",
            [MAINTENANCE_QUEUE, SWEEP],
        )


async def remove_finished(app: JobsApp) -> None:
    """Remove jobs that ended longer ago than the settings keep them."""
    settings, jobs = app.settings, app.job_manager
    await jobs.delete_old_jobs(settings.keep_finished_hours, include_cancelled=True, include_aborted=True)
    await jobs.delete_old_jobs(max(settings.keep_failed_hours, settings.keep_finished_hours), include_failed=True)


def make_app(
    settings: JobSettings | None = None,
    *,
    events: EventStream | None = None,
    import_paths: Iterable[str] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> JobsApp:
    """Return an application with these settings, or with the environment's. It starts and connects nothing until it is opened.

    `events`: the stream that job events are emitted on; when None, one of its own, whose events reach the default orchestrator's
    listeners, too. They are logged by `resilience_kit.jobs`.
    Raises ConfigurationError.
    """
    value: object = settings
    if not isinstance(value, JobSettings | None):
        rule = "make_app takes JobSettings, as make_app(JobSettings(database_url=...))"
        raise ConfigurationError([("settings", rule, REDACTED)])
    stream = ChildStream() if events is None else events
    log.attach_logging(stream)
    chosen = JobSettings() if settings is None else settings
    if not chosen.log_arguments:
        redact()
    return JobsApp(chosen, stream, import_paths=import_paths, clock=clock)


@asynccontextmanager
async def lifespan(app: JobsApp, *, worker: bool = False) -> AsyncIterator[JobsApp]:
    """Open the application with its tables in place, and close it at the end; with `worker` one runs in this loop meanwhile.

    For a web framework's lifespan. A worker that ends before its time is logged, and followed by another. Raises
    ConfigurationError at the beginning where the worker would refuse the tasks.
    """
    if worker:
        app.check_tasks()
    async with app.open_async():
        await ensure_schema(app)
        running = asyncio.create_task(app.run_worker_forever(), name="jobs worker") if worker else None
        try:
            yield app
        finally:
            if running is not None:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
