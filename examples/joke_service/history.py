"""The runs of a job, told from what the queue wrote down about it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple


class Happened(NamedTuple):
    """One thing that happened to a job: a type of Procrastinate's events, or "trouble" with the name of an error."""

    at: datetime
    what: str
    error: str | None = None
    refused: bool | None = None


_ENDS: Final = {"deferred_for_retry": "", "succeeded": "succeeded", "failed": "failed", "aborted": "aborted"}


def runs_of(happened: Iterable[Happened]) -> list[dict[str, Any]]:
    """Return the runs in order, each with its start, end, outcome and error.

    Outcomes: "running", "succeeded", "failed" (the last one), "aborted", "retried" (it failed, and there is another),
    "postponed" (a guard refused to begin it, or it was a circuit's failed trial, which costs no attempt) and "interrupted" (its
    worker went away or it took too long).
    """
    runs: list[dict[str, Any]] = []
    for each in happened:
        if each.what == "started":
            runs.append({"started_at": each.at.isoformat(), "ended_at": None, "outcome": "running", "error": None})
        elif runs and each.what == "trouble":
            runs[-1] |= {"error": each.error, "refused": each.refused}
        elif runs and each.what in _ENDS and runs[-1]["ended_at"] is None:
            runs[-1] |= {"ended_at": each.at.isoformat(), "outcome": _ENDS[each.what] or _put_back(runs[-1])}
    for run in runs:
        run.pop("refused", None)
    return runs


def _put_back(run: dict[str, Any]) -> str:
    if run["error"] is None:
        return "interrupted"
    return "postponed" if run["refused"] else "retried"
