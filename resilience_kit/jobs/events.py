"""Events of jobs. `operation` is the task's name. They hold no argument, result or error text.

The one exception is `details`: message and traceback of an error, empty unless the setting `error_details` is on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilience_kit.events import Event

SWEEP: Final = "resilience_kit.sweep"
RETENTION: Final = "resilience_kit.retention"
#: The tasks that every worker runs for the queue itself. Their successes are logged at DEBUG.
MAINTENANCE_TASKS: Final = frozenset({SWEEP, RETENTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent(Event):
    """An event of the job with this id."""

    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(JobEvent):
    """Run number `attempt` (from 1) of at most `limit` begins; None where the limit is unknown."""

    attempt: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSucceeded(JobEvent):
    """The run succeeded after `duration` seconds, and its status was written."""

    attempt: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetried(JobEvent):
    """The run failed; the next one is due in `delay` seconds. `location`: file and line of the error, as `path:line`."""

    attempt: int
    duration: float
    delay: float
    error_type: str
    location: str = ""
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(JobEvent):
    """The run failed and is not retried. `location`: as in `JobRetried`."""

    attempt: int
    duration: float
    error_type: str
    location: str = ""
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAborted(JobEvent):
    """The run was aborted on a user's request."""

    attempt: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPostponed(JobEvent):
    """The run is repeated in `delay` seconds and costs no attempt: a guard refused to start it, or the worker shuts down."""

    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTimedOut(JobEvent):
    """The run was cancelled because it took more than `timeout` seconds."""

    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSuperseded(JobEvent):
    """The run ended as `status`, which was not written: the job was swept meanwhile and is another worker's, or has ended."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledJobsFound(Event):
    """A sweep found `count` jobs whose worker is lost or whose run takes too long."""

    operation: str = "sweep"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledJobRetried(JobEvent):
    """A stalled job waits in the queue again. `reason`: "worker lost", or "over its limit"."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledJobFinished(JobEvent):
    """A stalled job has no further run: `status` is "failed", or "aborted" when a user had asked for that."""

    attempt: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledJobSkipped(JobEvent):
    """A stalled job could not be swept; the next sweep tries again."""

    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRetried(Event):
    """A statement failed because the database is unavailable and is retried in `delay` seconds."""

    operation: str = "database"
    attempt: int
    delay: float
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked(Event):
    """The worker's event loop was blocked for `seconds`: a job runs code that does not await."""

    operation: str = "worker"
    seconds: float
