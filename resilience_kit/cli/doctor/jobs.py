"""Checks of the variables of jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

from resilience_kit.cli.doctor.finding import Finding, Severity

_APP = "JOBS_APP"
_REMEDY = "fix it: make_app() raises this"


def inspect_jobs() -> Iterator[Finding]:
    """Read the variables of jobs as `make_app()` would, if the extra `jobs` is installed, and yield findings."""
    if any(find_spec(each) is None for each in ("procrastinate", "psycopg")):
        if _APP in os.environ:
            remedy = "pip install 'ai-resilience-kit[jobs]'"
            yield Finding("jobs", _APP, Severity.PROBLEM, "is set, and the extra jobs is not installed", remedy)
        return
    from resilience_kit.errors import ConfigurationError  # noqa: PLC0415 - with the next
    from resilience_kit.jobs import JobSettings  # noqa: PLC0415 - an extra

    names = [*(name.upper() for name in JobSettings.model_fields), _APP]
    present = {each.upper() for each in os.environ}
    found = [name for name in names if name in present]
    yield Finding("jobs", "variables", Severity.OK, ", ".join(found) if found else "none is set: the defaults apply")
    try:
        settings = JobSettings()
    except ConfigurationError as error:
        yield from (Finding("jobs", each.path, Severity.PROBLEM, each.rule, _REMEDY) for each in error.errors)
        return
    if "DATABASE_URL" not in found and len(found) > 0:
        text = "is not set: jobs go to an embedded PostgreSQL on this machine"
        yield Finding("jobs", "DATABASE_URL", Severity.INFO, text, "name the database, if other machines have to see the jobs")
    if settings.strategy.give_up_after is None:
        text = f"{settings.max_retries}: limits transient failures, too, so a job does not outlive a long outage"
        yield Finding("jobs", "MAX_RETRIES", Severity.INFO, text, "set GIVE_UP_AFTER, in seconds, if it should")
