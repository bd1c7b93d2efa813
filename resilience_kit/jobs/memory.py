"""The statements of this room on Procrastinate's `InMemoryConnector`, for tests of a user's own tasks without a database.

They have the same effects as the SQL in `statements` and `sweep` as far as one process can observe. Errors are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

from procrastinate.exceptions import UniqueViolation
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT
from procrastinate.testing import InMemoryConnector

from resilience_kit.jobs.statements import AGE, FAIL, FINISH, POSTPONE, PRUNE, RETRY, RETRY_WITHOUT_NOTE, REVIVE

__all__ = ["InMemoryConnector", "end_in_memory", "execute_in_memory", "retry_in_memory", "stalled_in_memory"]

_REPEATED: Final = "deferred_for_retry"


async def execute_in_memory(
    connector: InMemoryConnector, query: LiteralString, arguments: dict[str, Any]
) -> list[dict[str, Any]]:
    """Execute one of the statements and return the rows that PostgreSQL would."""
    if query == AGE:
        begun = _started(connector, arguments["job_id"])
        return [{"age": (_now() - min(begun)).total_seconds() if begun else None}]
    if query == REVIVE:
        await connector.update_heartbeat_run(arguments["worker_id"])
        return []
    if query == PRUNE:
        rows = await connector.prune_stalled_workers_all(arguments["stalled_timeout"])
        return [{"id": row["worker_id"]} for row in rows]
    job = connector.jobs.get(arguments["job_id"])
    if job is None or not _is_owned_by(job, query, arguments):
        return []
    due = _now() + timedelta(seconds=arguments.get("delay", 0.0))
    if query in {FINISH, FAIL}:
        await connector.finish_job_run(job["id"], arguments["status"], delete_job=arguments["delete_job"])
    elif job["abort_requested"]:
        status = "failed" if query in {RETRY, RETRY_WITHOUT_NOTE} else "aborted"
        job.update(status=status, abort_requested=False)
    elif query == POSTPONE:
        await _again(connector, job, due)
        job["attempts"] -= 1
    else:
        await _again(connector, job, due, arguments["priority"], arguments["queue"], arguments["lock"])
    return [{"id": arguments["job_id"]}]


def _is_owned_by(job: dict[str, Any], query: LiteralString, arguments: dict[str, Any]) -> bool:
    """Return whether the job still belongs to the run that writes."""
    if job["worker_id"] not in {None, arguments["worker_id"]}:
        return False
    latest = bool(job["attempts"] == arguments["attempts"])
    if query in {FINISH, FAIL}:
        return job["status"] in {"todo", "doing"} and (latest or arguments["status"] == "succeeded")
    return latest and bool(job["status"] == "doing")


async def _again(connector: InMemoryConnector, job: dict[str, Any], at: datetime, *changes: Any) -> None:
    lock = job["queueing_lock"]
    if lock is not None and any(each["queueing_lock"] == lock and each["status"] == "todo" for each in connector.jobs.values()):
        raise UniqueViolation(constraint_name=QUEUEING_LOCK_CONSTRAINT, queueing_lock=lock)
    await connector.retry_job_run(job["id"], at, *changes)


async def retry_in_memory(connector: InMemoryConnector, job_id: int) -> None:
    """Retry a stalled job now, marked as a sweep's retry. Raises UniqueViolation when one with its queueing lock waits."""
    now = _now()
    await _again(connector, connector.jobs[job_id], now)
    connector.events[job_id][-1]["at"] = now


async def end_in_memory(connector: InMemoryConnector, job_id: int, status: str) -> None:
    """Finish a stalled job."""
    await connector.finish_job_run(job_id, status, delete_job=False)


def stalled_in_memory(
    connector: InMemoryConnector, stalled_timeout: float, job_limit: float, limits: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the rows of the sweep's query."""
    found = []
    for job in [job for job in connector.jobs.values() if job["status"] == "doing"]:
        seen, begun = connector.workers.get(job["worker_id"]), _started(connector, job["id"])
        lost = seen is None or seen < _now() - timedelta(seconds=stalled_timeout)
        limit = limits.get(job["task_name"], job_limit)
        if lost or (begun and (_now() - max(begun)).total_seconds() > limit):
            found.append(
                {**job, "lost": lost, "age": (_now() - min(begun)).total_seconds() if begun else 0.0, **_repeats(connector, job)}
            )
    return found


def _repeats(connector: InMemoryConnector, job: dict[str, Any]) -> dict[str, int]:
    events = connector.events[job["id"]]
    again = [each["at"] for each in events if each["type"] == _REPEATED]
    due = {each["at"] for each in events if each["type"] == "scheduled"}
    return {"repeated": len(again), "swept": sum(at in due for at in again)}


def _started(connector: InMemoryConnector, job_id: int) -> list[datetime]:
    return [each["at"] for each in connector.events.get(job_id, []) if each["type"] == "started"]


def _now() -> datetime:
    return datetime.now(UTC)
