"""Durable jobs in PostgreSQL, on Procrastinate. Needs the extra `jobs`.

Procrastinate queues, locks, retries and sends heartbeats; this package adds a backoff that never raises, a bounded sweep,
status writes that outlive the database's restart, timeouts, events, and logs without secrets.
"""

from __future__ import annotations

try:
    import procrastinate as _procrastinate
    import psycopg as _psycopg
except ModuleNotFoundError as _error:
    _message = f"resilience_kit.jobs needs {_error.name}: pip install 'ai-resilience-kit[jobs]'"
    raise ModuleNotFoundError(_message, name=_error.name) from _error

from resilience_kit.jobs.app import JobsApp, lifespan, make_app, remove_finished
from resilience_kit.jobs.backoff import ExponentialBackoffStrategy
from resilience_kit.jobs.connector import RetryingConnector
from resilience_kit.jobs.database import analyze, defer_many, ensure_schema
from resilience_kit.jobs.embedded import EmbeddedPostgres, EmbeddedPostgresError
from resilience_kit.jobs.events import (
    DatabaseRetried,
    JobAborted,
    JobEvent,
    JobFailed,
    JobPostponed,
    JobRetried,
    JobStarted,
    JobSucceeded,
    JobSuperseded,
    JobTimedOut,
    LoopBlocked,
    StalledJobFinished,
    StalledJobRetried,
    StalledJobsFound,
    StalledJobSkipped,
)
from resilience_kit.jobs.failures import JobArgumentsError
from resilience_kit.jobs.metrics import JobMetrics
from resilience_kit.jobs.redaction import Redaction, redact
from resilience_kit.jobs.settings import JobSettings
from resilience_kit.jobs.status import StatusWriter
from resilience_kit.jobs.sweep import SweepOptions, SweepResult, sweep
from resilience_kit.jobs.timeouts import TimeoutMiddleware, Timeouts, job_timeout
from resilience_kit.jobs.tracking import TrackingMiddleware, costs_no_attempt

__all__ = [
    "DatabaseRetried",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "ExponentialBackoffStrategy",
    "JobAborted",
    "JobArgumentsError",
    "JobEvent",
    "JobFailed",
    "JobMetrics",
    "JobPostponed",
    "JobRetried",
    "JobSettings",
    "JobStarted",
    "JobSucceeded",
    "JobSuperseded",
    "JobTimedOut",
    "JobsApp",
    "LoopBlocked",
    "Redaction",
    "RetryingConnector",
    "StalledJobFinished",
    "StalledJobRetried",
    "StalledJobSkipped",
    "StalledJobsFound",
    "StatusWriter",
    "SweepOptions",
    "SweepResult",
    "TimeoutMiddleware",
    "Timeouts",
    "TrackingMiddleware",
    "analyze",
    "costs_no_attempt",
    "defer_many",
    "ensure_schema",
    "job_timeout",
    "lifespan",
    "make_app",
    "redact",
    "remove_finished",
    "sweep",
]
del _procrastinate, _psycopg
