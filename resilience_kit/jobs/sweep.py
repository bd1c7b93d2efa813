"""Finds stalled jobs and retries or finishes each.

A job is stalled when its worker is gone or has sent no heartbeat for `stalled_timeout`, which begins anew when the database is
started, or when its run has taken longer than its limit under a worker that lives: then its status was never written, or it hangs
beyond its timeout.

One transaction takes the rows that no other sweep has locked, with a savepoint for each, so that a failing one blocks no other.
The task's own strategy decides whether there is another run; the recipe of Procrastinate's manual has no limit, and runs a job
that kills its worker for ever. Where the strategy retries transient failures beyond its attempts, only lost runs count here.
They are recognized by their time: only a sweep schedules a job for the exact time of its transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, LiteralString

import attr
from procrastinate import BaseRetryStrategy, RetryStrategy
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job
from psycopg import AsyncConnection
from psycopg import errors as psycopg_errors
from psycopg.rows import dict_row

from resilience_kit._checks import Checks
from resilience_kit.events import Event, EventStream
from resilience_kit.jobs.backoff import ExponentialBackoffStrategy
from resilience_kit.jobs.events import StalledJobFinished, StalledJobRetried, StalledJobsFound, StalledJobSkipped
from resilience_kit.jobs.memory import InMemoryConnector, end_in_memory, retry_in_memory, stalled_in_memory
from resilience_kit.jobs.statements import LAST_SEEN

#: Seconds that stand for no limit.
UNLIMITED: Final = 1e9

_STALLED: Final[LiteralString] = f"""
SELECT job.id, job.status, job.queue_name, job.task_name, job.priority, job.lock, job.queueing_lock, job.args, job.scheduled_at,
       job.attempts, job.abort_requested, job.worker_id,
       worker.id IS NULL OR {LAST_SEEN} < now() - make_interval(secs => %(stalled_timeout)s) AS lost,
       COALESCE(extract(epoch FROM now() - started.first)::float8, 0.0) AS age,
       (SELECT count(*) FROM procrastinate_events WHERE job_id = job.id AND type = 'deferred_for_retry') AS repeated,
       (SELECT count(*)
          FROM procrastinate_events AS again
          JOIN procrastinate_events AS due ON due.job_id = again.job_id AND due.at = again.at AND due.type = 'scheduled'
         WHERE again.job_id = job.id AND again.type = 'deferred_for_retry') AS swept
  FROM procrastinate_jobs AS job
  LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
  LEFT JOIN unnest(%(tasks)s::text[], %(limits)s::float8[]) AS own (task_name, seconds) ON own.task_name = job.task_name
  LEFT JOIN LATERAL (SELECT max(at) AS at, min(at) AS first
                       FROM procrastinate_events
                      WHERE job_id = job.id AND type = 'started') AS started ON true
 WHERE job.status = 'doing'
   AND (worker.id IS NULL
        OR {LAST_SEEN} < now() - make_interval(secs => %(stalled_timeout)s)
        OR started.at < now() - make_interval(secs => COALESCE(own.seconds, %(job_limit)s)))
 ORDER BY job.id
 LIMIT %(batch)s
   FOR UPDATE OF job SKIP LOCKED
"""  # noqa: S608 - made of constants
_RETRY: Final[LiteralString] = "SELECT procrastinate_retry_job_v2(%(job_id)s, now(), NULL, NULL, NULL)"
_END: Final[LiteralString] = "SELECT procrastinate_finish_job_v1(%(job_id)s, %(status)s::procrastinate_job_status, false)"
#: Why there was no further run, where errors are kept; see `ensure_schema`.
_NOTE: Final[LiteralString] = """
INSERT INTO resilience_kit_job_errors (job_id, attempt, error_type, location, details)
VALUES (%(job_id)s, %(attempt)s, %(reason)s, '', '')
    ON CONFLICT (job_id) DO UPDATE
   SET attempt = excluded.attempt, at = excluded.at, error_type = excluded.error_type, location = '', details = ''
"""


class StalledJobAction(Enum):
    """What a sweep does with a stalled job."""

    RETRY = "todo"
    FAIL = "failed"
    ABORT = "aborted"


class StalledJobError(Exception):
    """The error that a foreign strategy gets for a stalled job: its run ended without a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """`stalled_timeout`: seconds without a heartbeat after which a worker is lost. `job_limit`: seconds that a run may take
    under a worker that lives; `limits` has those of single tasks. `batch`: jobs in one transaction.
    """  # noqa: D205 - one sentence an option

    stalled_timeout: float = 30.0
    job_limit: float = 400.0
    limits: Mapping[str, float]
    batch: int = 1000

    def __post_init__(self) -> None:
        checks = Checks("SweepOptions")
        checks.seconds("stalled_timeout", self.stalled_timeout)
        checks.seconds("job_limit", self.job_limit)
        checks.integer("batch", self.batch, 1)
        checks.raise_if_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """Ids of the jobs that a sweep retried, finished, or had to skip."""

    retried: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()

    @property
    def found(self) -> int:
        """Return the number of jobs found."""
        return len(self.retried) + len(self.finished) + len(self.skipped)


def action_for(job: Job, strategy: BaseRetryStrategy | None, *, losses: int | None = None, age: float = 0.0) -> StalledJobAction:
    """Ask the job's own strategy for its next run. A strategy that raises means none, as in Procrastinate's worker.

    `losses`: how many of its attempts were lost with their worker, None for all; `age`: seconds since the first of them. A stall
    is no exception of the job's: the types of exceptions that a strategy is for do not matter here.
    """
    if job.abort_requested:
        return StalledJobAction.ABORT
    if strategy is None:
        return StalledJobAction.FAIL
    try:
        return (
            StalledJobAction.RETRY
            if _allows(strategy, job, job.attempts if losses is None else losses, age)
            else StalledJobAction.FAIL
        )
    except Exception:  # noqa: BLE001 - foreign code
        return StalledJobAction.FAIL


def lost_runs(attempts: int, repeated: int, swept: int) -> int:
    """Count the attempts that were lost with their worker: those that were swept, and those without another record."""
    return max(swept, attempts - (repeated - swept))


def _allows(strategy: BaseRetryStrategy, job: Job, losses: int, age: float) -> bool:
    if isinstance(strategy, ExponentialBackoffStrategy):
        within = strategy.get_schedule_in(attempts=job.attempts) is not None
        return within or strategy.allows_after_loss(job.attempts, losses, age)
    if isinstance(strategy, RetryStrategy):
        strategy = attr.evolve(strategy, retry_exceptions=None)
    return strategy.get_retry_exception(exception=StalledJobError(), job=job) is not None


async def sweep(
    connection: AsyncConnection[Any],
    strategies: Mapping[str, BaseRetryStrategy | None],
    default: BaseRetryStrategy | None,
    options: SweepOptions,
    events: EventStream | None = None,
) -> SweepResult:
    """Sweep once, in a transaction of its own, or of the caller's. `default`: the strategy of unknown tasks.

    Events are emitted when the rows are written; where the transaction is the caller's, before it is committed. Raises psycopg's
    errors when the database is unavailable; then nothing was swept.
    """
    pending_events: list[Event] = []
    async with connection.transaction():
        rows = await _stalled(connection, options)
        actions = [await _sweep_job(connection, row, strategies.get(row["task_name"], default), pending_events) for row in rows]
    _emit(events or EventStream(), len(rows), pending_events)
    return _summary(rows, actions)


async def sweep_in_memory(
    connector: InMemoryConnector,
    strategies: Mapping[str, BaseRetryStrategy | None],
    default: BaseRetryStrategy | None,
    options: SweepOptions,
    events: EventStream,
) -> SweepResult:
    """Sweep the jobs of a test's in-memory connector."""
    pending_events: list[Event] = []
    rows = stalled_in_memory(connector, options.stalled_timeout, options.job_limit, options.limits)
    actions: list[StalledJobAction | None] = []
    for row in rows:
        losses = lost_runs(row["attempts"], row["repeated"], row["swept"])
        action = action_for(Job.from_row(row), strategies.get(row["task_name"], default), losses=losses, age=row["age"])
        if action is StalledJobAction.RETRY:
            try:
                await retry_in_memory(connector, row["id"])
            except UniqueViolation:
                action = StalledJobAction.FAIL
        if action is not StalledJobAction.RETRY:
            await end_in_memory(connector, row["id"], action.value)
        pending_events.append(_result_event(row, action))
        actions.append(action)
    _emit(events, len(rows), pending_events)
    return _summary(rows, actions)


async def _stalled(connection: AsyncConnection[Any], options: SweepOptions) -> list[dict[str, Any]]:
    arguments = {
        "stalled_timeout": options.stalled_timeout,
        "job_limit": options.job_limit,
        "tasks": list(options.limits),
        "limits": list(options.limits.values()),
        "batch": options.batch,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_STALLED, arguments)
        return await cursor.fetchall()


async def _sweep_job(
    connection: AsyncConnection[Any], row: dict[str, Any], strategy: BaseRetryStrategy | None, pending_events: list[Event]
) -> StalledJobAction | None:
    try:
        losses = lost_runs(row["attempts"], row["repeated"], row["swept"])
        action = await _apply_action(connection, row, action_for(Job.from_row(row), strategy, losses=losses, age=row["age"]))
    except Exception as error:  # noqa: BLE001 - other jobs must not wait for this one
        pending_events.append(StalledJobSkipped(operation=row["task_name"], job_id=row["id"], error_type=type(error).__name__))
        return None
    pending_events.append(_result_event(row, action))
    return action


def _result_event(row: dict[str, Any], action: StalledJobAction) -> Event:
    fields: dict[str, Any] = {"operation": row["task_name"], "job_id": row["id"], "attempt": row["attempts"] + 1}
    fields["reason"] = _reason(row)
    return StalledJobRetried(**fields) if action is StalledJobAction.RETRY else StalledJobFinished(**fields, status=action.value)


async def _apply_action(connection: AsyncConnection[Any], row: dict[str, Any], action: StalledJobAction) -> StalledJobAction:
    """Retry or finish a job. One whose queueing lock another waiting job has is finished: the other does its work."""
    if action is StalledJobAction.RETRY:
        try:
            async with connection.transaction():
                await connection.execute(_RETRY, {"job_id": row["id"]})
        except psycopg_errors.UniqueViolation:
            action = StalledJobAction.FAIL
        else:
            return action
    async with connection.transaction():
        await connection.execute(_END, {"job_id": row["id"], "status": action.value})
    with contextlib.suppress(psycopg_errors.Error):  # the job has ended, with or without its recorded error
        async with connection.transaction():
            await connection.execute(_NOTE, {"job_id": row["id"], "attempt": row["attempts"] + 1, "reason": _reason(row)})
    return action


def _reason(row: dict[str, Any]) -> str:
    return "worker lost" if row["lost"] else "over its limit"


def _emit(events: EventStream, found: int, pending_events: list[Event]) -> None:
    for event in [*([StalledJobsFound(count=found)] if found else []), *pending_events]:
        events.enqueue(event)
    events.flush()


def _summary(rows: list[dict[str, Any]], actions: list[StalledJobAction | None]) -> SweepResult:
    by_action = [(row["id"], fate) for row, fate in zip(rows, actions, strict=True)]
    return SweepResult(
        retried=tuple(job_id for job_id, fate in by_action if fate is StalledJobAction.RETRY),
        finished=tuple(job_id for job_id, fate in by_action if fate in {StalledJobAction.FAIL, StalledJobAction.ABORT}),
        skipped=tuple(job_id for job_id, fate in by_action if fate is None),
    )
