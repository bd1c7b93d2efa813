"""The outermost worker middleware: tells that a run begins, and what its error means for the job beyond its strategy.

Three ends are not the job's fault, or not the strategy's business: a guard of the kit refused to start the work, the worker is
shutting down, or a user asked for an abort.
"""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import AbortReason
from procrastinate.middleware import AsyncCallNext
from procrastinate.retry import BaseRetryStrategy
from procrastinate.worker import Worker

from resilience_kit._checks import Checks
from resilience_kit.errors import Rejected
from resilience_kit.events import EventStream
from resilience_kit.jobs.events import JobStarted
from resilience_kit.jobs.run import Run, current_run
from resilience_kit.outcome import SYSTEM_CLOCK, Clock

_SHUTDOWN: Final = "the worker shuts down"


class Tracking:
    """A worker middleware. A run that ends in `Rejected` is repeated when the guard says, or in `postpone_delay` seconds."""

    def __init__(self, events: EventStream, *, postpone_delay: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
        checks = Checks("Tracking")
        checks.seconds("postpone_delay", postpone_delay)
        checks.done()
        self._events, self._postpone_delay, self._clock = events, postpone_delay, clock

    async def __call__(self, call_next: AsyncCallNext, context: JobContext, worker: Worker) -> object:
        """Run the job. Its errors leave as they are, but for cancellations that it brought about itself or a user asked for."""
        del worker
        run = self._begin(context)
        try:
            return await call_next()
        except asyncio.CancelledError as error:
            _cancelled(run, context, error)
        except Rejected as error:
            run.error_type = type(error).__name__
            run.postpone(self._postpone_delay if error.retry_after is None else error.retry_after, run.error_type)
            raise
        except BaseException as error:
            run.error_type = type(error).__name__
            raise

    def _begin(self, context: JobContext) -> Run:
        job = context.job
        run = Run(
            job_id=job.id or 0,
            task=job.task_name,
            attempt=job.attempts + 1,
            clock=self._clock,
            started=self._clock.monotonic(),
        )
        current_run.set(run)
        limit = runs_of(context.task.retry_strategy)
        self._events.emit(JobStarted(operation=run.task, job_id=run.job_id, attempt=run.attempt, limit=limit))
        return run


def _cancelled(run: Run, context: JobContext, error: asyncio.CancelledError) -> NoReturn:
    reason = context.abort_reason()
    if reason is AbortReason.USER_REQUEST:
        raise JobAborted from error
    run.error_type = type(error).__name__
    if reason is None and not is_being_cancelled():
        raise RuntimeError(f"job {run.job_id} ({run.task}) cancelled itself") from error
    run.postpone(0.0, _SHUTDOWN)
    raise error


def is_being_cancelled() -> bool:
    """Whether somebody has asked the present task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def runs_of(strategy: BaseRetryStrategy | None) -> int | None:
    """At most how often a job runs, as far as its strategy says so in a `max_attempts`."""
    if strategy is None:
        return 1
    limit = getattr(strategy, "max_attempts", None)
    return limit + 1 if isinstance(limit, int) else None
