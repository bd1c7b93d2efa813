"""Submit many tasks to the joke service at once, and follow each job to its end.

    python -m examples.joke_service.submit_task --tasks 1000
    python -m examples.joke_service.submit_task --quick

A submission that is answered with 503, or not at all, is sent again with the same idempotency key, so none is made twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from resilience_kit import RetryConfig
from resilience_kit.errors import AIServiceError
from resilience_kit.events import Event, RetryScheduled
from resilience_kit.http import AsyncAPIClient

T = TypeVar("T")

_QUICK: Final = 10
_BETWEEN_LOOKS: Final = 0.25
_PATIENT: Final = RetryConfig(max_attempts=8, base_delay=0.5, max_delay=5.0)
_ENDED: Final = {"succeeded", "failed", "cancelled", "aborted"}
_COLUMNS: Final = (TextColumn("{task.description:<10}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())


@dataclass
class Report:
    """What became of the submissions and of the jobs. Times are seconds."""

    submitted: int
    accepted: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    latencies: list[float] = field(default_factory=list)
    submitting: float = 0.0
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    working: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every submission became a job of its own, and each that was followed succeeded."""
        ended = [job["status"] for job in self.jobs.values()]
        return len(set(self.accepted)) == self.submitted and all(status == "succeeded" for status in ended)

    def numbers(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "submitted": self.submitted,
            "accepted": len(set(self.accepted)),
            "refused": dict(self.refused),
            "repeated": self.repeated,
            "submissions_per_second": round(len(self.accepted) / self.submitting, 1) if self.submitting else 0.0,
            "latency_ms": {name: round(share_of(self.latencies, share) * 1e3, 1) for name, share in _SHARES.items()},
            "jobs": dict(Counter(job["status"] for job in self.jobs.values())),
            "runs_per_job": dict(sorted(Counter(len(job["runs"]) for job in self.jobs.values()).items())),
            "seconds_until_all_ended": round(self.working, 2),
        }


_SHARES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


def share_of(values: Iterable[float], share: float) -> float:
    """Return the value that this share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def submit(client: AsyncAPIClient, report: Report, concurrency: int, step: Callable[[], None]) -> None:
    """Submit all, `concurrency` at a time."""
    client.add_listener(lambda event: _count(report, event), RetryScheduled)

    async def one(number: int) -> None:
        began = time.perf_counter()
        try:
            answer = await client.post("/tasks/fetch-joke", json={"asked_by": f"submit_task {number}"})
        except AIServiceError as error:
            report.refused[type(error).__name__] += 1
        else:
            report.accepted.append(answer["job_id"])
            report.latencies.append(time.perf_counter() - began)
        step()

    began = time.perf_counter()
    await _at_once([lambda number=number: one(number) for number in range(report.submitted)], concurrency)  # type: ignore[misc]
    report.submitting = time.perf_counter() - began


def _count(report: Report, _: Event) -> None:
    report.repeated += 1


async def follow(client: AsyncAPIClient, report: Report, concurrency: int, step: Callable[[], None], seconds: float) -> None:
    """Look at each job until it has ended, for at most so many seconds."""
    began = time.perf_counter()

    async def look(job_id: int) -> None:
        report.jobs[job_id] = job = await client.get(f"/jobs/{job_id}")
        if job["status"] in _ENDED:
            left.discard(job_id)
            step()

    left = set(report.accepted)
    while left and time.perf_counter() - began < seconds:
        await _at_once([lambda job_id=job_id: look(job_id) for job_id in sorted(left)], concurrency)  # type: ignore[misc]
        await asyncio.sleep(_BETWEEN_LOOKS)
    report.working = time.perf_counter() - began


async def _at_once(calls: list[Callable[[], Awaitable[T]]], limit: int) -> None:
    places = asyncio.Semaphore(limit)

    async def held(call: Callable[[], Awaitable[T]]) -> None:
        async with places:
            await call()

    await asyncio.gather(*(held(call) for call in calls))


def show(console: Console, numbers: dict[str, Any]) -> None:
    """Return a table of the results."""
    table = Table("", "", title="Submissions and jobs", show_header=False)
    for name, value in numbers.items():
        text = ", ".join(f"{key}: {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), text or "-")
    console.print(table)


async def run(arguments: argparse.Namespace, console: Console) -> Report:
    """Submit, follow, and count."""
    report = Report(submitted=_QUICK if arguments.quick else arguments.tasks)
    with Progress(*_COLUMNS, console=console) as progress:
        async with AsyncAPIClient(arguments.url, timeout=30.0, retry_config=_PATIENT) as client:

            def bar(name: str, total: int) -> Callable[[], None]:
                shown: TaskID = progress.add_task(name, total=total)
                return lambda: progress.advance(shown)

            await submit(client, report, arguments.concurrency, bar("submitted", report.submitted))
            await follow(client, report, arguments.concurrency, bar("ended", len(report.accepted)), arguments.patience)
    return report


def main(given: list[str] | None = None) -> int:
    """0 when every submission became a job and every job succeeded, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100, help="how many (100)")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} tasks, to see whether it works")
    parser.add_argument("--concurrency", type=int, default=50, help="how many at a time (50)")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to follow the jobs for (300)")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (http://127.0.0.1:8000)")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments, console = parser.parse_args(given), Console()
    report = asyncio.run(run(arguments, console))
    numbers = report.numbers()
    show(console, numbers)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
