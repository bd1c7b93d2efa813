"""The run of a job that the present task is in: noted by the worker's middleware, read by whoever writes the job's status."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from resilience_kit.context import KeyHolder
from resilience_kit.outcome import Clock


@dataclass(slots=True)
class Run(KeyHolder):
    """One run. `attempt` counts from 1. `postponed`: seconds after which it is repeated at no cost, None where it counts.

    Is the `CallContext` of what the job calls: `remaining_time` knows its timeout, and `idempotency_key` is the same for all
    runs of a job.
    """

    job_id: int
    task: str
    attempt: int
    clock: Clock
    started: float
    due: float | None = None
    error_type: str = ""
    postponed: float | None = None
    reason: str = ""
    _counts: dict[str, int] | None = field(default=None, init=False, repr=False)

    def postpone(self, delay: float, reason: str) -> None:
        """Have the run repeated in `delay` seconds, whatever the task's strategy says."""
        self.postponed, self.reason = delay, reason

    @property
    def duration(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic() - self.started

    def remaining(self) -> float | None:
        """Seconds until the job's timeout."""
        return None if self.due is None else max(0.0, self.due - self.clock.monotonic())

    def key(self) -> str:
        """An idempotency key: a job may run twice, and is to be told by its id."""
        return f"job-{self.job_id}"


current_run: ContextVar[Run | None] = ContextVar("resilience_kit_job_run", default=None)
