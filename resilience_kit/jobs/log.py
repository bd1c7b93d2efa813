"""Log messages of the logger `resilience_kit.jobs`. They hold no argument, result or error text."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable
from typing import Any, Final

from resilience_kit._fork import ForkSafeLock
from resilience_kit.events import Event, EventStream
from resilience_kit.jobs.events import (
    MAINTENANCE_TASKS,
    DatabaseRetried,
    JobAborted,
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
from resilience_kit.jobs.redaction import redact_pool

logger = logging.getLogger("resilience_kit.jobs")
_lock, _logged = ForkSafeLock(), weakref.WeakSet[EventStream]()


def attach_logging(events: EventStream) -> None:
    """Log the events of a stream for which the logger's level is enabled. Idempotent.

    Also redacts what psycopg's pool logs.
    """
    redact_pool()
    with _lock:
        if events in _logged:
            return
        _logged.add(events)
    for kind, (level, formatter) in _LOGGED_EVENTS.items():
        events.add_listener(
            functools.partial(_log_event, level, formatter), kind, when=functools.partial(logger.isEnabledFor, level)
        )


def _log_event(level: int, formatter: Callable[[Any], str], event: Event) -> None:
    routine = event.operation in MAINTENANCE_TASKS and level == logging.INFO
    logger.log(logging.DEBUG if routine else level, "%s", formatter(event))


def _error_summary(event: JobRetried | JobFailed) -> str:
    """Return type and location of an error."""
    return f"{event.error_type} at {event.location}" if event.location else event.error_type


def _with_details(message: str, event: JobRetried | JobFailed) -> str:
    return f"{message}\n{event.details}" if event.details else message


def _started(event: JobStarted) -> str:
    return f"Job {event.job_id}: attempt {event.attempt}/{event.limit or 'any number'} ({event.operation})"


def _succeeded(event: JobSucceeded) -> str:
    return f"Job {event.job_id}: succeeded after {event.duration:.3f} s ({event.operation})"


def _retried(event: JobRetried) -> str:
    message = f"Job {event.job_id}: attempt {event.attempt} failed ({_error_summary(event)}); next one in {event.delay:.3f} s"
    return _with_details(message, event)


def _failed(event: JobFailed) -> str:
    message = f"Job {event.job_id}: failed for good at attempt {event.attempt} ({_error_summary(event)}; {event.operation})"
    return _with_details(message, event)


def _aborted(event: JobAborted) -> str:
    return f"Job {event.job_id}: aborted, as a user asked ({event.operation})"


def _postponed(event: JobPostponed) -> str:
    return f"Job {event.job_id}: postponed by {event.delay:.3f} s at no cost ({event.reason})"


def _timed_out(event: JobTimedOut) -> str:
    return f"Job {event.job_id}: cancelled after its timeout of {event.timeout:g} s ({event.operation})"


def _superseded(event: JobSuperseded) -> str:
    return f"Job {event.job_id}: its end ({event.status}) was not written, it is another run's by now ({event.operation})"


def _found(event: StalledJobsFound) -> str:
    return f"Found {event.count} stalled jobs, retrying"


def _stalled_retried(event: StalledJobRetried) -> str:
    return f"Successfully retried stalled job {event.job_id} ({event.operation}, {event.reason})"


def _stalled_finished(event: StalledJobFinished) -> str:
    return f"Stalled job {event.job_id} has no further run: {event.status} at attempt {event.attempt} ({event.reason})"


def _stalled_skipped(event: StalledJobSkipped) -> str:
    return f"Stalled job {event.job_id} could not be swept ({event.error_type}); the next sweep tries again"


def _database(event: DatabaseRetried) -> str:
    return f"database unavailable ({event.error_type}); retry {event.attempt} in {event.delay:.1f} s"


def _blocked(event: LoopBlocked) -> str:
    return f"the event loop was blocked for {event.seconds:.1f} s by a job that does not await"


_LOGGED_EVENTS: Final[dict[type[Event], tuple[int, Callable[[Any], str]]]] = {
    JobStarted: (logging.INFO, _started),
    JobSucceeded: (logging.INFO, _succeeded),
    JobRetried: (logging.INFO, _retried),
    JobFailed: (logging.ERROR, _failed),
    JobAborted: (logging.INFO, _aborted),
    JobPostponed: (logging.INFO, _postponed),
    JobTimedOut: (logging.WARNING, _timed_out),
    JobSuperseded: (logging.WARNING, _superseded),
    StalledJobsFound: (logging.WARNING, _found),
    StalledJobRetried: (logging.INFO, _stalled_retried),
    StalledJobFinished: (logging.ERROR, _stalled_finished),
    StalledJobSkipped: (logging.ERROR, _stalled_skipped),
    DatabaseRetried: (logging.WARNING, _database),
    LoopBlocked: (logging.ERROR, _blocked),
}
