"""Settings of jobs from the environment, and the rules that keep their timeouts consistent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Self

from croniter import croniter  # type: ignore[import-untyped]
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from resilience_kit._database_url import clean_database_url, database_url_rule, is_damaged, trimmed
from resilience_kit.errors import REDACTED, ConfigurationError, Violation
from resilience_kit.jobs.backoff import ExponentialBackoffStrategy

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Hours = Annotated[int, Field(ge=1, le=87_600)]

_HEARTBEATS: Final = 3
_MARGIN: Final = 60.0
#: Seconds that a worker has for its last writes after the grace, see `ShutdownBudget`.
_LAST_WRITES: Final = 5.0
_SIX_COLUMNS: Final = 6


class JobSettings(BaseSettings):
    """Settings of a queue and its workers, each from the variable of its name in capitals. Immutable; read once, when made.

    `database_url`: where PostgreSQL is; None for one that is embedded, whose data is kept in `jobs_data_dir`. The name of a
    driver in its scheme (`postgresql+psycopg://`) is left out. White space and quotation marks around any value are, too.
    `api_base_url`: what the example service calls; None for a fake of ours.

    `job_timeout`: seconds after which a run is cancelled. `job_allow_sync_tasks`: plain functions may run, without a timeout.
    `job_shutdown_grace`: seconds that running jobs have to end when the worker is told to stop. `job_limit`: seconds after which
    a run counts as stalled though its worker lives; None for timeout and grace and 65 s. It must be more than both and
    5 s, or the grace once more where that is shorter.

    `max_retries`, `retry_base_delay`, `retry_max_delay`: the default `ExponentialBackoffStrategy`. `retry_jitter` spreads it.
    `give_up_after`: seconds since a job's first run for which transient failures are retried whatever `max_retries` says, 0 for
    never. Where `max_retries` is set and this is not, `max_retries` limits them, too.

    `worker_concurrency`: jobs at once. `poll_interval`: seconds between looks for retries that are due, of which nobody is
    notified. `heartbeat_interval`: seconds between signs of life. `stalled_timeout`: without one for so long a worker is given
    up; at least 3 intervals, and one and the grace, during which there is none. `sweep_cron`: when stalled jobs are looked for,
    seconds in the sixth column.

    `keep_finished_hours`, `keep_failed_hours`: for how long jobs that ended stay in the table. `log_arguments`: have
    Procrastinate log arguments and results, which may be secrets. `error_details`: log and keep the message and the traceback of
    an error beside its type, file and line; they may hold secrets, too.

    Raises ConfigurationError that lists every wrong value with its rule.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr | None = None
    jobs_data_dir: Path | None = None
    api_base_url: str | None = None

    job_timeout: Seconds = 300.0
    job_allow_sync_tasks: bool = False
    job_shutdown_grace: SecondsOrNone = 5.0  # `docker stop` kills after 10, and jobs are put back after these
    job_limit: Seconds | None = None

    max_retries: Annotated[int, Field(ge=0, le=1000)] = 5
    retry_base_delay: SecondsOrNone = 2.0
    retry_max_delay: SecondsOrNone = 300.0
    retry_jitter: bool = False
    give_up_after: SecondsOrNone = 86_400.0

    worker_concurrency: Annotated[int, Field(ge=1, le=1000)] = 10
    poll_interval: Seconds = 1.0
    heartbeat_interval: Seconds = 10.0
    stalled_timeout: Seconds = 30.0
    sweep_cron: str = "* * * * * */15"

    keep_finished_hours: Hours = 24
    keep_failed_hours: Hours = 720
    log_arguments: bool = False
    error_details: bool = False

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(_violations(error)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _trim(cls, value: object, info: ValidationInfo) -> object:
        """Strip white space, carriage returns and quotation marks that files and shells leave around a value."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str):
            return value
        return clean_database_url(text) if info.field_name == "database_url" else trimmed(text)

    @field_validator("database_url")
    @classmethod
    def _is_usable(cls, value: SecretStr | None) -> SecretStr | None:
        found = [] if value is None else list(_unusable(value.get_secret_value()))
        if found:
            raise ConfigurationError(found)
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = list(_contradictions(self))
        if found:
            raise ConfigurationError(found)
        return self

    @property
    def default_run_limit(self) -> float:
        """Return the seconds after which a run under a live worker counts as stalled."""
        return self._longest_run(self.job_timeout) + _MARGIN if self.job_limit is None else self.job_limit

    @property
    def strategy(self) -> ExponentialBackoffStrategy:
        """Return the strategy of tasks that name none."""
        own_limit = "max_retries" in self.model_fields_set and "give_up_after" not in self.model_fields_set
        return ExponentialBackoffStrategy(
            self.max_retries,
            self.retry_base_delay,
            self.retry_max_delay,
            jitter=self.retry_jitter,
            give_up_after=None if own_limit else self.give_up_after,
        )

    def run_limit_for(self, timeout: float) -> float:
        """Return the `default_run_limit` of a task with a timeout of its own."""
        return max(self.default_run_limit, self._longest_run(timeout) + _MARGIN)

    @property
    def _last_writes(self) -> float:
        """Return the seconds for the last writes after the grace. A late status is not written for a job that was swept."""
        return min(_LAST_WRITES, self.job_shutdown_grace)

    def _longest_run(self, timeout: float) -> float:
        return timeout + self.job_shutdown_grace + self._last_writes


def _contradictions(settings: JobSettings) -> Iterator[Violation]:
    if settings.retry_max_delay < settings.retry_base_delay:
        rule = f"must be at least retry_base_delay, {settings.retry_base_delay:g}"
        yield Violation("retry_max_delay", rule, settings.retry_max_delay)
    longest = settings._longest_run(settings.job_timeout)  # noqa: SLF001 - of this module
    if settings.default_run_limit <= longest:
        rule = f"must be more than job_timeout, job_shutdown_grace and {settings._last_writes:g} s together, {longest:g}"  # noqa: SLF001
        yield Violation("job_limit", rule, settings.job_limit)
    yield from _heartbeat_violations(settings)
    if not croniter.is_valid(settings.sweep_cron) or len(settings.sweep_cron.split()) > _SIX_COLUMNS:
        yield Violation("sweep_cron", "must be five columns of cron, or six with the seconds last", settings.sweep_cron)


def _unusable(url: str) -> Iterator[Violation]:
    """Yield a violation for a connection string that libpq would reject with an error that quotes it."""
    if not url:
        rule = "must be a connection string; leave it out for the embedded database"
        yield Violation(_source_name("database_url"), rule, REDACTED)
    elif is_damaged(url) or not _is_conninfo(url):
        yield Violation(_source_name("database_url"), database_url_rule(url), REDACTED)


def _is_conninfo(url: str) -> bool:
    """Return whether libpq parses it, and what it would log as host, port or database is not the rest of a password."""
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError:
        return False
    host, port, name = (str(parts.get(each) or "") for each in ("host", "port", "dbname"))
    cut = "://" in url and "@" in host[1:] + name
    return not cut and all(each.isdecimal() or not each for each in port.split(","))


def _heartbeat_violations(settings: JobSettings) -> Iterator[Violation]:
    """Yield the violations around heartbeats: a stopping worker sends none, and must keep its jobs until they end."""
    shortest = {
        "3 times heartbeat_interval": _HEARTBEATS * settings.heartbeat_interval,
        "job_shutdown_grace and heartbeat_interval together": settings.job_shutdown_grace + settings.heartbeat_interval,
    }
    for what, seconds in shortest.items():
        if settings.stalled_timeout < round(seconds, 9):  # 3 * 0.1 is more than 0.3
            yield Violation("stalled_timeout", f"must be at least {what}, {seconds:g}", settings.stalled_timeout)


def _violations(error: ValidationError) -> Iterator[Violation]:
    for each in error.errors(include_url=False):
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError):
            yield from cause.errors
        else:
            yield Violation(_source_name(str(each["loc"][0])), _rule(each), REDACTED)


def _source_name(field: str) -> str:
    """Return the variable's name if the value came from one."""
    return field.upper() if field.upper() in os.environ else field


def _rule(error: ErrorDetails) -> str:
    return "is not a setting of jobs" if error["type"] == "extra_forbidden" else error["msg"].replace("Input should", "must")
