"""The outermost worker middleware: emits that a run begins, and decides about errors that the strategy must not decide about.

A guard of the kit rejected the call, the run was the trial call of a circuit that is still open, the worker is shutting down,
a user requested an abort, or the job's arguments are not those of its task.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NoReturn

from procrastinate import JobContext
from procrastinate.exceptions import JobAborted
from procrastinate.job_context import AbortReason
from procrastinate.middleware import AsyncCallNext
from procrastinate.retry import BaseRetryStrategy
from procrastinate.worker import Worker

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.context import trial_observer
from resilience_kit.errors import Rejected
from resilience_kit.events import EventStream
from resilience_kit.jobs.backoff import ExponentialBackoffStrategy
from resilience_kit.jobs.events import JobStarted
from resilience_kit.jobs.failures import (
    JobArgumentsError,
    arguments_error,
    details_of,
    error_chain,
    location_of,
    name_of,
    rejection_in,
)
from resilience_kit.jobs.run import Run, current_run

_SHUTDOWN: Final = "the worker shuts down"
_TRIAL: Final = "trial of a half-open circuit failed"
_ONE_DAY: Final = 86_400.0
#: Seconds that reading a job's age may take; without a result the run goes on without it.
_AGE_TIMEOUT: Final = 2.0


class TrackingMiddleware:
    """A worker middleware. A run that ends in `Rejected` is repeated after its `retry_after`, or after `postpone_delay` seconds.

    `give_up_after`: seconds since a job's first run for which a failed trial call of a half-open circuit costs it no attempt.
    `error_details`: keep message and traceback of errors, which may hold secrets.
    """

    def __init__(
        self,
        events: EventStream,
        *,
        postpone_delay: float = 5.0,
        give_up_after: float = _ONE_DAY,
        error_details: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        checks = Checks("TrackingMiddleware")
        checks.seconds("postpone_delay", postpone_delay)
        checks.seconds("give_up_after", give_up_after, zero=True)
        checks.flag("error_details", error_details)
        checks.raise_if_any()
        self._events, self._postpone_delay, self._clock = events, postpone_delay, clock
        self._give_up_after, self._error_details = give_up_after, error_details

    async def __call__(self, call_next: AsyncCallNext, context: JobContext, worker: Worker) -> object:
        """Run the job. Its errors pass unchanged, except cancellations that it caused itself or a user requested."""
        del worker
        run = self._start_run(context)
        try:
            return await call_next()
        except asyncio.CancelledError as error:
            self._cancelled(run, context, error)
        except BaseException as error:
            unfit = self._record_error(run, context, error)
            if unfit is not None:
                raise unfit from error
            if isinstance(error, Exception):
                await self._postpone_if_free(run, context, error)
            raise
        finally:
            run.trial_failures.clear()  # they hold frames that hold the run

    def _start_run(self, context: JobContext) -> Run:
        job = context.job
        run = Run(
            job_id=job.id or 0,
            task=job.task_name,
            attempt=job.attempts + 1,
            clock=self._clock,
            started=self._clock.monotonic(),
        )
        current_run.set(run)
        trial_observer.set(run)
        limit = max_runs(context.task.retry_strategy, run.attempt)
        self._events.emit(JobStarted(operation=run.task, job_id=run.job_id, attempt=run.attempt, limit=limit))
        return run

    def _record_error(self, run: Run, context: JobContext, error: BaseException) -> JobArgumentsError | None:
        """Record type and location of an error; return a JobArgumentsError instead where the job could not be called."""
        run.error_type = name_of(error)
        try:
            unfit = arguments_error(error, context.task.func, *_arguments(context))
            run.final = unfit is not None
            run.error_type = name_of(unfit or error)
            run.location = location_of(error, context.task.func)
            run.details = details_of(unfit or error) if self._error_details else ""
        except Exception:  # noqa: BLE001 - any method of a foreign exception may raise
            return None
        return unfit

    async def _postpone_if_free(self, run: Run, context: JobContext, error: Exception) -> None:
        """Postpone a run that costs no attempt, and read the job's age where the strategy needs it."""
        rejection, trial = _rejection_and_trial(run, error)
        if rejection is not None:
            delay = self._postpone_delay if rejection.retry_after is None else rejection.retry_after
            run.postpone(delay, name_of(rejection))
            return
        strategy = context.task.retry_strategy
        needs_age = (
            isinstance(strategy, ExponentialBackoffStrategy) and strategy.give_up_after and run.attempt > strategy.max_attempts
        )
        if trial is None and not needs_age:
            return
        run.age = await _age(context)
        if trial is not None and (run.age or 0.0) < self._give_up_after:
            run.postpone(trial or self._postpone_delay, _TRIAL)

    def _cancelled(self, run: Run, context: JobContext, error: asyncio.CancelledError) -> NoReturn:
        reason = context.abort_reason()
        if reason is AbortReason.USER_REQUEST:
            raise JobAborted from error
        self._record_error(run, context, error)
        if reason is None and not is_being_cancelled():
            raise RuntimeError(f"job {run.job_id} ({run.task}) cancelled itself") from error
        run.postpone(0.0, _SHUTDOWN)
        raise error


def _rejection_and_trial(run: Run, error: Exception) -> tuple[Rejected | None, float | None]:
    """Return the rejection that ended the run, and for how long the circuit stays open whose failed trial ended it."""
    try:
        own = {id(each) for each in error_chain(error)}
        trial = max((seconds for failed, seconds in run.trial_failures if id(failed) in own), default=None)
        return rejection_in(error), trial
    except Exception:  # noqa: BLE001 - as above
        return None, None


def costs_no_attempt(error: Exception) -> bool:
    """Return whether a run that ends in this error is repeated without costing an attempt. Call it within the run.

    That is so when a guard rejected the call, or when it was the failed trial call of a half-open circuit, unless the job has
    been tried for longer than `give_up_after`.
    """
    run = current_run.get()
    return rejection_in(error) is not None or (run is not None and _rejection_and_trial(run, error)[1] is not None)


def _arguments(context: JobContext) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (context,) if context.task.pass_context else (), dict(context.job.task_kwargs)


async def _age(context: JobContext) -> float | None:
    """Return the seconds since the job's first run by the database's clock, None where that cannot be read now."""
    fetch_age = getattr(context.app.job_manager, "age_of", None)
    if fetch_age is None:
        return None
    try:
        async with asyncio.timeout(_AGE_TIMEOUT):
            found: float | None = await fetch_age(context.job)
    except Exception:  # noqa: BLE001 - without it the age is the sum of the delays
        return None
    return found


def is_being_cancelled() -> bool:
    """Return whether the current task is being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def max_runs(strategy: BaseRetryStrategy | None, attempt: int = 1) -> int | None:
    """Return at most how often a job runs, if its strategy has a `max_attempts` or `max_runs`."""
    if strategy is None:
        return 1
    limit = getattr(strategy, "max_attempts", None)
    if not isinstance(limit, int):
        return None
    if attempt <= limit + 1:
        return limit + 1
    extended_limit = getattr(strategy, "max_runs", None)
    return extended_limit if isinstance(extended_limit, int) and attempt <= extended_limit else None
