"""`resilience-kit jobs demo`: jobs that survive an outage of a service."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from typing import Any, Final

from resilience_kit.cli.output import Output, table
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.errors import ServiceUnavailableError
from resilience_kit.events import Event
from resilience_kit.jobs import (
    EmbeddedPostgres,
    JobEvent,
    JobFailed,
    JobRetried,
    JobSettings,
    JobSucceeded,
    defer_many,
    lifespan,
    make_app,
)

_BASE_DELAY: Final = 0.25
_OUTAGE: Final = 3.0
_LONGEST: Final = 30.0
_HEAD: Final = ("second", "job", "attempt", "what")


@dataclass
class _DemoEvents:
    """Records the events of the demo's jobs with their times."""

    clock: Clock
    started: float
    remaining: int
    rows: list[tuple[float, int, int, str]] = field(default_factory=list)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, event: Event) -> None:
        """Record one event."""
        if not isinstance(event, JobRetried | JobSucceeded | JobFailed) or event.operation != "demo":
            return
        self.remaining -= not isinstance(event, JobRetried)
        if not self.remaining:
            self.finished.set()
        description = f"failed, again in {event.delay:.2f} s" if isinstance(event, JobRetried) else _describe_end(event)
        self.rows.append((round(self.clock.monotonic() - self.started, 2), event.job_id, event.attempt, description))


def _describe_end(event: JobEvent) -> str:
    return "succeeded" if isinstance(event, JobSucceeded) else "failed for good"


def demo(output: Output, jobs: int) -> int:
    """Defer jobs for a service that is down for 3 seconds; return 0 if all succeed after its recovery."""
    with tempfile.TemporaryDirectory(prefix="resilience-kit-jobs-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(folder, remove=True)
        try:
            events = asyncio.run(_run_demo(server.url(), jobs))
        finally:
            server.stop()
    succeeded = sum(description == "succeeded" for *_, description in events.rows)
    data = {"jobs": jobs, "succeeded": succeeded, "events": [dict(zip(_HEAD, row, strict=True)) for row in events.rows]}
    output.show(
        data, table("", _HEAD, events.rows), f"{succeeded} of {jobs} jobs succeeded; the service was down for {_OUTAGE:g} s"
    )
    return 0 if succeeded == jobs else 1


async def _run_demo(url: str, jobs: int) -> _DemoEvents:
    values: dict[str, Any] = {"database_url": url, "max_retries": 6, "retry_base_delay": _BASE_DELAY, "poll_interval": 0.1}
    app = make_app(JobSettings(**values))
    events = _DemoEvents(SYSTEM_CLOCK, SYSTEM_CLOCK.monotonic(), remaining=jobs)
    app.events.add_listener(events.record)

    @app.task(name="demo")
    async def call_the_service(number: int) -> int:
        if SYSTEM_CLOCK.monotonic() - events.started < _OUTAGE:
            raise ServiceUnavailableError("the demo's service is down")
        return number

    async with lifespan(app, worker=True):
        events.started = SYSTEM_CLOCK.monotonic()
        await defer_many(call_the_service, [{"number": number} for number in range(jobs)], app.pool)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(events.finished.wait(), _LONGEST)
    return events
