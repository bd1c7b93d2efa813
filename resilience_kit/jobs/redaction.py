"""Keeps arguments, results and error texts of jobs out of Procrastinate's log.

Procrastinate writes a job's arguments into the message of every INFO line about it, and into `extra`; results and tracebacks
follow. A filter sees only what is logged on its own logger, so there is one on each of Procrastinate's, and one on that of
psycopg's pool, which quotes the connection string. Another one drops records that `resilience_kit.jobs` logs, too.
"""

from __future__ import annotations

import logging
import pkgutil
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import procrastinate

from resilience_kit._redaction import redact_text
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.jobs.events import MAINTENANCE_TASKS

HIDDEN: Final = "..."
_CALL: Final = re.compile(r"(\[(?:\d+|None)\])\(.*\)", re.DOTALL)
_RESULT: Final = " - Result: "
_JOB_FIELDS: Final = (
    "id",
    "status",
    "queue",
    "priority",
    "task_name",
    "scheduled_at",
    "attempts",
    "abort_requested",
    "worker_id",
)
#: Fields of `extra` that hold what a user passed, got or raised.
_SENSITIVE_FIELDS: Final = ("kwargs", "result", "exception")

#: What Procrastinate's worker logs of a job's run, for which the kit has an event.
_JOB_ACTIONS: Final = frozenset(
    {"start_job", "job_success", "job_aborted", "job_aborted_retry", "job_error_retry", "job_error", "ending_job"}
)
_duplicate_job_records: ContextVar[bool | None] = ContextVar("resilience_kit_jobs_logged_by_us", default=None)

POOL_LOGGER: Final = "psycopg.pool"
_ONE_OUTAGE: Final = 60.0
_FAILED: Final = "error connecting"
_RECONNECT_FAILED: Final = "reconnection attempt"
#: What may be logged of libpq's messages, since it holds nothing of the user's.
_REASON: Final = re.compile(
    r"Connection refused|No such file or directory|timeout expired|could not translate host name|no pg_hba.conf entry"
    r"|authentication failed|no password supplied|starting up|shutting down|too many clients|does not exist"
)


class Redaction(logging.Filter):
    """Takes arguments, results and error texts out of a record; the type of an error stays. Lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place."""
        record.msg, record.args = self._message(record), None
        for name in ("job", "jobs"):
            if hasattr(record, name):
                setattr(record, name, _job_fields(getattr(record, name)))
        for name in _SENSITIVE_FIELDS:
            if hasattr(record, name):
                setattr(record, name, HIDDEN)
        record.exc_info, record.exc_text, record.stack_info = None, None, None
        return True

    def _message(self, record: logging.LogRecord) -> str:
        text = _without_calls(record.getMessage(), getattr(record, "job", None))
        text = redact_text(text.partition(_RESULT)[0], keep_paths=True)
        return text + _type_of(record.exc_info, text)


def _without_calls(text: str, job: object) -> str:
    """Remove the call of a known job exactly, since arguments may look like anything; other calls up to the last bracket."""
    call = str(job.get("call_string", "")) if isinstance(job, dict) else ""
    if call and call in text:
        return text.replace(call, f"{call.partition('(')[0]}({HIDDEN})").strip()
    return _CALL.sub(rf"\1({HIDDEN})", text)


def _job_fields(job: Any) -> Any:
    if isinstance(job, dict):
        return {name: job[name] for name in _JOB_FIELDS if name in job}
    return [_job_fields(each) for each in job] if isinstance(job, list) else HIDDEN


def _type_of(exc_info: Any, text: str) -> str:
    error = exc_info[1] if isinstance(exc_info, tuple) else None
    return "" if error is None else f" ({_names(error)})" if text else _names(error)


def _names(error: BaseException) -> str:
    cause = error.__cause__
    return type(error).__name__ + ("" if cause is None else f" from {type(cause).__name__}")


_REDACTION: Final = Redaction()


def redact(workers: Iterable[str] = ()) -> None:
    """Redact what Procrastinate logs from now on, also under the names of `workers`. Idempotent."""
    for name in _loggers(workers):
        logging.getLogger(name).addFilter(_REDACTION)


class DuplicateFilter(logging.Filter):
    """Drops what Procrastinate's worker logs of runs and maintenance in workers of the kit, so that each event is logged once."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is no duplicate."""
        job_records = _duplicate_job_records.get()
        if job_records is None:
            return True
        job = getattr(record, "job", None)
        task = job.get("task_name") if isinstance(job, dict) else None
        if task in MAINTENANCE_TASKS and record.levelno <= logging.INFO:
            return False
        return not (job_records and getattr(record, "action", None) in _JOB_ACTIONS)


_DUPLICATES: Final = DuplicateFilter()


def log_once(workers: Iterable[str] = ()) -> None:
    """Drop Procrastinate's duplicates from now on in what runs under `dropping_duplicates`. Idempotent."""
    for name in _loggers(workers):
        logging.getLogger(name).addFilter(_DUPLICATES)


@contextmanager
def dropping_duplicates(*, job_records: bool) -> Iterator[None]:
    """Mark a worker of the kit. `job_records`: Procrastinate's records of runs are duplicates, else only those of maintenance."""
    token = _duplicate_job_records.set(job_records)
    try:
        yield
    finally:
        _duplicate_job_records.reset(token)


def _loggers(workers: Iterable[str]) -> list[str]:
    modules = [module.name for module in pkgutil.iter_modules(procrastinate.__path__, "procrastinate.")]
    return ["procrastinate", *modules, *(f"procrastinate.worker.{worker}" for worker in workers)]


class PoolLogFilter(logging.Filter):
    """Replaces error texts in the pool's log by their types, and logs failed connections once for each outage.

    An outage of a pool lasts until it has had no failed connection for 60 s.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__()
        self._clock = clock
        self._failed: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place; return False for a repeated one."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        about = str(record.msg)
        wanted = not about.startswith(_FAILED) or self._is_new_outage(arguments[:1])
        record.args = tuple(_redact_argument(each) for each in arguments)
        record.exc_info, record.exc_text = None, None
        return wanted and not about.startswith(_RECONNECT_FAILED)

    def _is_new_outage(self, pool: object) -> bool:
        now = self._clock.monotonic()
        before, self._failed[pool] = self._failed.get(pool), now
        return before is None or now - before > _ONE_OUTAGE


def _redact_argument(argument: object) -> object:
    if isinstance(argument, Exception):
        return _reason(argument)
    return redact_text(argument, keep_paths=True) if isinstance(argument, str) else argument


def _reason(error: Exception) -> str:
    known = _REASON.search(str(error))
    return type(error).__name__ + (f" ({known[0]})" if known else "")


_POOL_LOG_FILTER: Final = PoolLogFilter()


def redact_pool() -> None:
    """Redact what psycopg's pool logs from now on. Idempotent."""
    logging.getLogger(POOL_LOGGER).addFilter(_POOL_LOG_FILTER)
