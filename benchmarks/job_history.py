"""Holds what happened to jobs against what may happen to them. Knows no database and no clock.

A job's history is its row, the events that the queue wrote of it in the order in which they were written, and the marks that its
own code left outside of the queue. Runs may be repeated, after a requeue that is recorded; nothing else may go wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

LOST: Final = "lost"
LEFT: Final = "left"
TWICE_RUN: Final = "run again without a requeue"
TWICE_ENDED: Final = "ended twice"
AFTER_END: Final = "run after its end"
IMPOSSIBLE: Final = "no such step"
UNRECORDED: Final = "more runs than were recorded"
UNDONE: Final = "succeeded without having been done"
TOO_OFTEN: Final = "over its limit"
TOO_SOON: Final = "failed before its limit"
WRONG_END: Final = "the wrong end"

#: Events that change nothing about who has the job.
_REMARKS: Final = {"deferred", "scheduled", "abort_requested"}
_ENDS: Final = {"succeeded", "failed", "aborted", "cancelled"}
#: A job that was swept while its run went on may be ended by that run: the queue calls the end of a job that waits "cancelled".
_STEPS: Final = {
    ("todo", "started"): "doing",
    ("doing", "deferred_for_retry"): "todo",
    ("doing", "succeeded"): "ended",
    ("doing", "failed"): "ended",
    ("doing", "aborted"): "ended",
    ("todo", "cancelled"): "ended",
    ("ended", "retried"): "todo",
}
_WRONG: Final = {("doing", "started"): TWICE_RUN, ("ended", "started"): AFTER_END} | {
    ("ended", end): TWICE_ENDED for end in _ENDS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHistory:
    """One job. `limit`: at most so many runs. `ends`: the statuses that it may have in the end. `begun`, `done`: its marks."""

    job_id: int
    status: str
    attempts: int
    limit: int
    events: tuple[str, ...]
    begun: int
    done: int
    ends: frozenset[str] = frozenset({"succeeded", "failed"})

    @property
    def started(self) -> int:
        """Runs that the queue has recorded."""
        return self.events.count("started")


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that a job's history breaks, and how."""

    job_id: int
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"job {self.job_id}: {self.rule} ({self.detail})"


def faults(acknowledged: Iterable[int], jobs: Collection[JobHistory]) -> list[Fault]:
    """All that is wrong. `acknowledged`: ids that somebody was told; jobs beyond them are held to the rules, too."""
    there = {job.job_id for job in jobs}
    lost = [Fault(job_id, LOST, "its row is gone") for job_id in acknowledged if job_id not in there]
    return lost + [fault for job in jobs for fault in (*_wrong_steps(job), *_wrong_runs(job), *_wrong_end(job))]


def _wrong_steps(job: JobHistory) -> Iterator[Fault]:
    state = "todo"
    for number, event in enumerate(job.events):
        if event in _REMARKS:
            continue
        following = _STEPS.get((state, event))
        if following is None:
            yield Fault(job.job_id, _WRONG.get((state, event), IMPOSSIBLE), f"event {number}, {event!r}, while {state}")
        state = following or state


def _wrong_runs(job: JobHistory) -> Iterator[Fault]:
    if job.begun > job.started:
        yield Fault(job.job_id, UNRECORDED, f"{job.begun} begun, {job.started} recorded")
    if max(job.started, job.attempts) > job.limit:
        yield Fault(job.job_id, TOO_OFTEN, f"{job.started} runs and {job.attempts} attempts of {job.limit}")


def _wrong_end(job: JobHistory) -> Iterator[Fault]:
    if job.status in {"todo", "doing"}:
        yield Fault(job.job_id, LEFT, job.status)
    elif job.status not in job.ends:
        yield Fault(job.job_id, WRONG_END, job.status)
    if job.status == "succeeded" and not job.done:
        yield Fault(job.job_id, UNDONE, f"{job.begun} begun, none done")
    if job.status == "failed" and job.attempts < job.limit:
        yield Fault(job.job_id, TOO_SOON, f"{job.attempts} attempts of {job.limit}")
