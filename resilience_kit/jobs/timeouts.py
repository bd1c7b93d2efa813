"""Timeouts of jobs.

An async job is cancelled at its timeout, its `finally` blocks run, and a TimeoutError is recorded. A plain function runs in a
thread, which cannot be stopped, so a task with a plain function is rejected unless it is declared to have no timeout.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from procrastinate import JobContext
from procrastinate.middleware import AsyncCallNext
from procrastinate.tasks import Task
from procrastinate.worker import Worker

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.context import current_call
from resilience_kit.errors import REDACTED, ConfigurationError, Violation
from resilience_kit.events import EventStream
from resilience_kit.execution.timeouts import timeout_at
from resilience_kit.jobs.events import JobTimedOut
from resilience_kit.jobs.run import current_run

F = TypeVar("F")

_MARK: Final = "__resilience_kit_job_timeout__"
_SYNC_TASK_RULE: Final = (
    "is a plain function, which no timeout can stop: make it async, or mark it with @job_timeout(None), "
    "or set JOB_ALLOW_SYNC_TASKS=true"
)


def job_timeout(seconds: float | None) -> Callable[[F], F]:
    """Set a task's own timeout, or none, above or below `@app.task`. Raises ConfigurationError."""
    checks = Checks("job_timeout")
    checks.optional_seconds("seconds", seconds)
    checks.raise_if_any()

    def mark(function: F) -> F:
        setattr(_function_of(function), _MARK, seconds)
        return function

    return mark


def _function_of(task: object) -> Any:
    return task.func if isinstance(task, Task) else task


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Which task has which timeout. `default`: seconds, None for no limit. `allow_sync`: plain functions may go without."""

    default: float | None = 300.0
    allow_sync: bool = False

    def __post_init__(self) -> None:
        checks = Checks("Timeouts")
        checks.optional_seconds("default", self.default)
        checks.flag("allow_sync", self.allow_sync)
        checks.raise_if_any()

    def for_task(self, task: Task[Any, Any, Any]) -> float | None:
        """Return the timeout in seconds, None for none. Raises ConfigurationError for a plain function that would need one."""
        own: float | None = getattr(task.func, _MARK, self.default)
        if own is None or inspect.iscoroutinefunction(task.func):
            return own
        if self.allow_sync and not hasattr(task.func, _MARK):
            return None
        raise ConfigurationError([Violation(f"task {task.name!r}", _SYNC_TASK_RULE, REDACTED)])

    def check(self, tasks: Iterable[Task[Any, Any, Any]]) -> None:
        """Check all tasks. Raises one ConfigurationError for those that would be rejected when they run."""
        found: dict[Violation, None] = {}
        for task in tasks:
            try:
                self.for_task(task)
            except ConfigurationError as error:
                found.update(dict.fromkeys(error.errors))
        if found:
            raise ConfigurationError(found)


class TimeoutMiddleware:
    """A worker middleware that cancels runs at their timeout. `clock`: measures the seconds."""

    def __init__(self, timeouts: Timeouts, events: EventStream | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._timeouts, self._events, self._clock = timeouts, events or EventStream(), clock

    async def __call__(self, call_next: AsyncCallNext, context: JobContext, worker: Worker) -> object:
        """Run the job until its timeout. Raises TimeoutError, and whatever the job raises."""
        del worker
        seconds = self._timeouts.for_task(context.task)
        run = current_run.get()
        if run is not None:
            run.due = None if seconds is None else self._clock.monotonic() + seconds
            current_call.set(run)
        if seconds is None:
            return await call_next()
        return await self._run_limited(call_next, context, seconds)

    async def _run_limited(self, call_next: AsyncCallNext, context: JobContext, seconds: float) -> object:
        limit = timeout_at(self._clock, self._clock.nanoseconds() + round(seconds * 1e9))
        try:
            result = await call_next()
        except BaseException as error:
            if limit.finish():
                raise self._timeout_error(context, seconds) from error
            raise
        limit.finish()
        return result

    def _timeout_error(self, context: JobContext, seconds: float) -> TimeoutError:
        job = context.job
        self._events.emit(JobTimedOut(operation=job.task_name, job_id=job.id or 0, timeout=seconds))
        return TimeoutError(f"job {job.id} ({job.task_name}) was cancelled after its timeout of {seconds:g} s")
