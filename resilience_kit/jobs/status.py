"""Writes the status of a run, fenced against other workers' runs, and emits the event once it is written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import psycopg
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.events import Event, EventStream
from resilience_kit.jobs.events import JobAborted, JobFailed, JobPostponed, JobRetried, JobSucceeded, JobSuperseded
from resilience_kit.jobs.memory import InMemoryConnector, execute_in_memory
from resilience_kit.jobs.run import Run, current_run
from resilience_kit.jobs.shutdown import is_shutting_down
from resilience_kit.jobs.statements import AGE, FAIL, FINISH, POSTPONE, PRUNE, RETRY, RETRY_WITHOUT_NOTE, REVIVE

_DUPLICATE_WAITING = "a job with the same queueing lock waits already"
_UNKNOWN = "its task is not known here"
_UNKNOWN_DELAY: Final = 30.0
_NOT_HERE: Final = (
    "no task %r here: its jobs are put back for %g s at a time, at no cost, for a worker that knows it; "
    "is this worker's release older than what defers them, or its --app another one?"
)
#: What a statement that keeps a run's error becomes where there is no table for it, or none that may be written.
_WITHOUT_NOTE: Final[dict[LiteralString, LiteralString]] = {FAIL: FINISH, RETRY: RETRY_WITHOUT_NOTE}
_NO_TABLE: Final = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege)
_NOT_KEPT: Final = (
    "why jobs fail is logged and not kept (%s): resilience_kit_job_errors is made by ensure_schema(app), or jobs worker"
)

_logger = logging.getLogger("resilience_kit.jobs")


class StatusWriter(JobManager):
    """Procrastinate's JobManager for workers with the kit's middleware. Outside of a run it behaves as Procrastinate's.

    `is_known_task`: whether the app has a task of that name; jobs of unknown tasks are requeued.
    """

    def __init__(
        self,
        connector: BaseConnector,
        events: EventStream,
        *,
        is_known_task: Callable[[str], bool] = lambda _: True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(connector)
        self._events, self._is_known_task, self._clock = events, is_known_task, clock
        self._unknown: set[str] = set()
        self._keeps_errors = True

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Finish the job; requeue it instead if its run was postponed."""
        run = _run_of(job)
        if run is None:
            await super().finish_job(job, status, delete_job)
        elif run.postponed is not None:
            await self._postpone(job, run, run.postponed)
        else:
            await self._end(job, run, status, delete=delete_job)

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Retry the job; a run that was postponed costs no attempt."""
        run = _run_of(job)
        if run is None:
            await super().retry_job(job, retry_at, priority, queue, lock)
        elif run.postponed is not None:
            await self._postpone(job, run, run.postponed)
        elif run.final:
            await self._end(job, run, Status.FAILED)
        else:
            await self._retry(job, run, retry_at or datetime.now(UTC), priority=priority, queue=queue, lock=lock)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """Fetch the next job whose task is known here, also for a worker that was pruned meanwhile."""
        job = await self._fetch(queues, worker_id)
        while job is not None and not self._is_known_task(job.task_name):
            await self._requeue(job)
            job = None if is_shutting_down() else await self._fetch(queues, worker_id)
        return job

    async def _fetch(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        try:
            return await super().fetch_job(queues, worker_id)
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.ForeignKeyViolation):
                raise
        await self.update_heartbeat(worker_id)
        return await super().fetch_job(queues, worker_id)

    async def _requeue(self, job: Job) -> None:
        """Requeue a job whose task is unknown here: during a deployment another worker may know it."""
        name = job.task_name
        if name not in self._unknown:
            self._unknown.add(name)
            _logger.warning(_NOT_HERE, name, _UNKNOWN_DELAY)
        now = self._clock.monotonic()
        run = Run(job_id=job.id or 0, task=name, attempt=job.attempts + 1, clock=self._clock, started=now, reason=_UNKNOWN)
        await self._postpone(job, run, _UNKNOWN_DELAY)

    async def update_heartbeat(self, worker_id: int) -> None:
        """Send a heartbeat, also for a worker that another one had pruned."""
        await self._rows(REVIVE, worker_id=worker_id)

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Remove the rows of stalled workers and return their ids."""
        rows = await self._rows(PRUNE, stalled_timeout=seconds_since_heartbeat)
        return [row["id"] for row in rows]

    async def age_of(self, job: Job) -> float | None:
        """Return the seconds since the job's first run began, by the database's clock."""
        rows = await self._rows(AGE, job_id=job.id)
        return float(rows[0]["age"]) if rows and rows[0]["age"] is not None else None

    async def _end(self, job: Job, run: Run, status: Status, *, delete: bool = False) -> None:
        event = _end_event(run, status)
        if isinstance(event, JobFailed) and not delete:
            await self._write(FAIL, job, run, event, status.value, delete_job=False, **_error_fields(run))
        else:
            await self._write(FINISH, job, run, event, status.value, delete_job=delete)

    async def _retry(self, job: Job, run: Run, retry_at: datetime, **changes: Any) -> None:
        seconds = max(0.0, (retry_at - datetime.now(UTC)).total_seconds())
        delay = math.ceil(seconds * 1000.0) / 1000.0  # undo the microseconds since the strategy's decision
        event = JobRetried(**_event_fields(run), duration=run.duration, delay=delay, **_error_fields(run))
        try:
            await self._write(RETRY, job, run, event, "todo", delay=delay, **_error_fields(run), **changes)
        except UniqueViolation:
            await self._fail_duplicate(job, run)

    async def _postpone(self, job: Job, run: Run, delay: float) -> None:
        event = JobPostponed(**_event_fields(run), delay=delay, reason=run.reason)
        try:
            await self._write(POSTPONE, job, run, event, "todo", delay=delay)
        except UniqueViolation:
            await self._fail_duplicate(job, run)

    async def _fail_duplicate(self, job: Job, run: Run) -> None:
        """Fail a job whose queueing lock another waiting job has. Where they share a lock as well, waiting would not end."""
        run.error_type = run.error_type or _DUPLICATE_WAITING
        await self._end(job, run, Status.FAILED)

    async def _write(self, query: LiteralString, job: Job, run: Run, event: Event, status: str, **arguments: Any) -> None:
        fields = {"job_id": job.id, "worker_id": job.worker_id, "attempts": job.attempts, "status": status}
        rows = await self._execute_write(query, **fields, **arguments)
        if rows:
            self._events.emit(event)
        else:
            self._events.emit(JobSuperseded(operation=run.task, job_id=run.job_id, status=status))

    async def _execute_write(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Execute a status write, without the error where the table for it is missing: the status is what counts."""
        if not self._keeps_errors:
            query = _WITHOUT_NOTE.get(query, query)
        try:
            return await self._rows(query, **arguments)
        except ConnectorException as error:
            if query not in _WITHOUT_NOTE or not isinstance(error.__cause__, _NO_TABLE):
                raise
            self._keeps_errors = False
            _logger.warning(_NOT_KEPT, type(error.__cause__).__name__)
        return await self._rows(_WITHOUT_NOTE[query], **arguments)

    async def _rows(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        if isinstance(self.connector, InMemoryConnector):
            return await execute_in_memory(self.connector, query, arguments)
        if query == REVIVE:
            await self.connector.execute_query_async(query, **arguments)
            return []
        return await self.connector.execute_query_all_async(query, **arguments)


def _run_of(job: Job) -> Run | None:
    run = current_run.get()
    return run if run is not None and run.job_id == job.id else None


def _event_fields(run: Run) -> dict[str, Any]:
    return {"operation": run.task, "job_id": run.job_id, "attempt": run.attempt}


def _error_fields(run: Run) -> dict[str, Any]:
    return {"error_type": run.error_type, "location": run.location, "details": run.details}


def _end_event(run: Run, status: Status) -> Event:
    if status is Status.SUCCEEDED:
        return JobSucceeded(**_event_fields(run), duration=run.duration)
    if status is Status.ABORTED:
        return JobAborted(**_event_fields(run), duration=run.duration)
    return JobFailed(**_event_fields(run), duration=run.duration, **_error_fields(run))
