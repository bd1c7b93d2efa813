"""The run of a job that the current task belongs to: set by the worker's middleware, read where the job's status is written."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from resilience_kit.clock import Clock
from resilience_kit.context import IdempotencyKeyHolder


@dataclass(slots=True)
class Run(IdempotencyKeyHolder):
    """One run. `attempt` counts from 1. `postponed`: seconds after which it is repeated at no cost, None where it counts.

    `age`: seconds since the job's first run began, None where unknown. `location`: file and line of its error, `details`:
    message and traceback, where those are wanted. `final`: the error is none that another run could get past.

    Is the `CallContext` of what the job calls: `remaining_time` knows its timeout, and `idempotency_key` is the same for all
    runs of a job. Is their `TrialObserver`, too.
    """

    job_id: int
    task: str
    attempt: int
    clock: Clock
    started: float
    due: float | None = None
    error_type: str = ""
    location: str = ""
    details: str = ""
    final: bool = False
    age: float | None = None
    postponed: float | None = None
    reason: str = ""
    trial_failures: list[tuple[BaseException, float]] = field(default_factory=list)
    _counts: dict[str, int] | None = field(default=None, init=False, repr=False)

    def postpone(self, delay: float, reason: str) -> None:
        """Repeat the run in `delay` seconds, whatever the task's strategy decides."""
        self.postponed, self.reason = delay, reason

    @property
    def duration(self) -> float:
        """Return the seconds since the start."""
        return self.clock.monotonic() - self.started

    def remaining(self) -> float | None:
        """Return the seconds until the job's timeout."""
        return None if self.due is None else max(0.0, self.due - self.clock.monotonic())

    def key(self) -> str:
        """Return an idempotency key made of the job's id, the same for all its runs."""
        return f"job-{self.job_id}"

    def trial_failed(self, error: BaseException, seconds: float) -> None:
        """Record that a call of this run was a circuit's trial and ended in `error`; the circuit is open for `seconds`."""
        self.trial_failures.append((error, seconds))


current_run: ContextVar[Run | None] = ContextVar("resilience_kit_job_run", default=None)


def age_of(job_id: int | None) -> float | None:
    """Return the seconds since the job's first run, if the current task is a run that knows it."""
    run = current_run.get()
    return run.age if run is not None and run.job_id == job_id else None
