"""Canaries in arguments, results and error texts (invariant 78)."""

from __future__ import annotations

import logging

import pytest

from resilience_kit.jobs.redaction import DuplicateFilter, Redaction, dropping_duplicates, redact

CANARY = "canary-7f3a"
JOB = {
    "id": 7,
    "task_name": "mail",
    "attempts": 1,
    "task_kwargs": {"key": CANARY},
    "call_string": f"mail[7](key='{CANARY}) - Result: ')",
    "lock": CANARY,
}


def redacted(text: str, **extra: object) -> logging.LogRecord:
    """A record after the filter."""
    record = logging.makeLogRecord({"msg": text, "args": None, **extra})
    assert Redaction().filter(record)
    return record


def all_of(record: logging.LogRecord) -> str:
    """Whatever a handler may print."""
    return logging.Formatter().format(record) + repr(record.__dict__)


@pytest.mark.parametrize(
    ("text", "extra", "expected"),
    [
        (f"Starting job {JOB['call_string']}", {"job": JOB}, "Starting job mail[7](...)"),
        (
            f"Job {JOB['call_string']} ended with status: Success, lasted 0.100 s - Result: {CANARY}",
            {"job": JOB, "result": CANARY},
            "Job mail[7](...) ended with status: Success, lasted 0.100 s",
        ),
        (
            f"Waiting for job to finish: worker: mail[7](key='{CANARY}') (started 1.000 s ago)",
            {},
            "Waiting for job to finish: worker: mail[7](...)",
        ),
        (f"Periodic job mail[None](key='{CANARY}\n') skipped", {"kwargs": {"x": CANARY}}, "Periodic job mail[None](...) skipped"),
        ("Deferred 1 job", {"jobs": [JOB]}, "Deferred 1 job"),
        ("Starting worker on all queues", {"job": None}, "Starting worker on all queues"),
    ],
)
def test_no_canary_is_left(text: str, extra: dict[str, object], expected: str) -> None:
    """Neither in the message nor in what comes with it."""
    record = redacted(text, **extra)
    assert expected == record.getMessage()
    assert CANARY not in all_of(record)


def test_of_an_error_the_type_is_left() -> None:
    """A traceback repeats what the error says."""
    try:
        try:
            raise OSError(CANARY)
        except OSError as error:
            raise ValueError(CANARY) from error
    except ValueError as error:
        record = redacted("Job mail[7]() ended", exc_info=(type(error), error, None), exception=CANARY)
    assert "Job mail[7](...) ended (ValueError from OSError)" == record.getMessage()
    assert CANARY not in all_of(record)


def test_an_error_without_words() -> None:
    """As Procrastinate logs some."""
    assert "OSError" == redacted("", exc_info=(OSError, OSError(CANARY), None)).getMessage()


def test_every_logger_of_procrastinate_has_the_filter_once(caplog: pytest.LogCaptureFixture) -> None:
    """Those of its modules, and a worker's."""
    redact(["canteen"])
    redact(["canteen"])
    loggers = [logging.getLogger(f"procrastinate{name}") for name in ("", ".worker", ".jobs", ".periodic", ".worker.canteen")]
    assert [1] * 5 == [sum(isinstance(each, Redaction) for each in logger.filters) for logger in loggers]
    with caplog.at_level(logging.INFO, "procrastinate"):
        loggers[-1].info(f"Starting job {JOB['call_string']}", extra={"job": JOB})
    assert CANARY not in caplog.text


def is_news(**extra: object) -> bool:
    """Whether a record of Procrastinate's worker is logged."""
    return DuplicateFilter().filter(logging.makeLogRecord({"levelno": logging.INFO, **extra}))


def test_what_we_log_of_a_job_is_not_logged_twice() -> None:
    """In workers of ours, and of the housekeeping nothing at all; other workers' lines are theirs."""
    job, sweep = {"task_name": "t"}, {"task_name": "resilience_kit.sweep"}
    assert is_news(action="start_job", job=job)
    with dropping_duplicates(job_records=True):
        assert not is_news(action="start_job", job=job)
        assert not is_news(action="job_error", job=job, levelno=logging.ERROR)
        assert is_news(action="periodic_task_deferred", job=job)
        assert is_news(action="start_worker")
        assert not is_news(action="periodic_task_deferred", job=sweep)
    with dropping_duplicates(job_records=False):
        assert is_news(action="start_job", job=job)
        assert not is_news(action="start_job", job=sweep)
        assert is_news(action="job_error", job=sweep, levelno=logging.ERROR)
    assert is_news(action="start_job", job=sweep)
