"""Takes jobs in, each answered once it is committed.

What arrives while a transaction is under way goes into the next one, so a thousand that arrive at once share a few commits.
A key makes a submission repeatable: with it, whoever got no answer may ask again and gets the same job.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

from procrastinate.tasks import Task
from psycopg import AsyncConnection

from resilience_kit.jobs import JobsApp, analyze

from .database import PATIENCE, DatabaseAwayError, within

_BATCH: Final = 1000
#: After so many new jobs the planner's statistics are renewed, or fetching becomes several times slower.
_MANY: Final = 1000

_CLAIM: Final[LiteralString] = """
INSERT INTO joke_submissions (key, fingerprint)
SELECT * FROM unnest(%(keys)s::text[], %(fingerprints)s::text[])
    ON CONFLICT (key) DO NOTHING
RETURNING key
"""
_SETTLE: Final[LiteralString] = """
UPDATE joke_submissions AS known SET job_id = made.job_id
  FROM unnest(%(keys)s::text[], %(ids)s::bigint[]) AS made (key, job_id)
 WHERE known.key = made.key
"""
_KNOWN: Final[LiteralString] = "SELECT key, fingerprint, job_id FROM joke_submissions WHERE key = ANY(%(keys)s)"


class KeyReusedError(Exception):
    """The idempotency key belongs to a submission of other arguments."""


@dataclass(slots=True, eq=False)
class _Submission:
    arguments: dict[str, Any]
    key: str | None
    fingerprint: str
    job_id: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self, fingerprint: str, job_id: int) -> None:
        if self.job_id.done():
            return
        if fingerprint == self.fingerprint:
            self.job_id.set_result(job_id)
        else:
            self.job_id.set_exception(KeyReusedError("this idempotency key belongs to a submission of other arguments"))

    def refuse(self, error: Exception) -> None:
        if not self.job_id.done():
            self.job_id.set_exception(error)


class Submissions:
    """Writes what is submitted. For one event loop."""

    def __init__(self, queue: JobsApp, task: Task[Any, Any, Any]) -> None:
        self._queue, self._task = queue, task
        self._waiting: list[_Submission] = []
        self._writer: asyncio.Task[None] | None = None
        self._since_analyzed = 0

    async def submit(self, arguments: Mapping[str, Any], key: str | None = None) -> int:
        """Return the id of a committed job. Raises DatabaseAwayError within 1.5 seconds, and KeyReusedError."""
        submission = _Submission(
            dict(arguments), None if key is None else _hash(key), _hash(json.dumps(arguments, sort_keys=True))
        )
        self._waiting.append(submission)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="submissions")
        return await within(PATIENCE, submission.job_id)

    async def _write_all(self) -> None:
        try:
            while batch := self._next_batch():
                await self._write(batch)
        finally:
            self._writer = None

    def _next_batch(self) -> list[_Submission]:
        """Those that still wait, sorted by key: two services that write the same keys must not wait for each other."""
        waiting = [each for each in self._waiting if not each.job_id.done()]
        self._waiting = waiting[_BATCH:]
        return sorted(waiting[:_BATCH], key=lambda each: each.key or "")

    async def _write(self, batch: list[_Submission]) -> None:
        try:
            made = await within(PATIENCE, self._written(batch))
        except DatabaseAwayError as error:
            for each in batch:
                each.refuse(error)
            return
        for each, (fingerprint, job_id) in zip(batch, made, strict=True):
            each.answer(fingerprint, job_id)
        await self._keep_statistics(len(batch))

    async def _written(self, batch: list[_Submission]) -> list[tuple[str, int]]:
        """For each submission whose job its key stands for, and that job, when the transaction is committed."""
        async with self._queue.pool.connection() as connection, connection.transaction():
            claimed = await _claimed(connection, batch)
            new = [each for each in batch if each.key is None or claimed.pop(each.key, None) is each]
            ids = await self._deferred(connection, new)
            await _settle(connection, ids)
            known = await _known(connection, batch)
        made = {each: (each.fingerprint, job_id) for each, job_id in ids.items()}
        return [made[each] if each.key is None else known[each.key] for each in batch]

    async def _deferred(self, connection: AsyncConnection[Any], new: list[_Submission]) -> dict[_Submission, int]:
        if not new:
            return {}
        ids = await self._task.configure(connection=connection).batch_defer_async(*(each.arguments for each in new))
        return dict(zip(new, ids, strict=True))

    async def _keep_statistics(self, made: int) -> None:
        self._since_analyzed += made
        if self._since_analyzed >= _MANY:
            self._since_analyzed = 0
            try:
                await within(PATIENCE, analyze(self._queue.pool))
            except DatabaseAwayError:
                self._since_analyzed = _MANY


async def _claimed(connection: AsyncConnection[Any], batch: list[_Submission]) -> dict[str, _Submission]:
    """By key, the first submission of each that nobody submitted before."""
    first: dict[str, _Submission] = {}
    for each in batch:
        if each.key is not None:
            first.setdefault(each.key, each)
    if not first:
        return {}
    values = {"keys": list(first), "fingerprints": [each.fingerprint for each in first.values()]}
    return {key: first[key] for (key,) in await (await connection.execute(_CLAIM, values)).fetchall()}


async def _settle(connection: AsyncConnection[Any], ids: Mapping[_Submission, int]) -> None:
    keyed = {each.key: job_id for each, job_id in ids.items() if each.key is not None}
    if keyed:
        await connection.execute(_SETTLE, {"keys": list(keyed), "ids": list(keyed.values())})


async def _known(connection: AsyncConnection[Any], batch: list[_Submission]) -> dict[str, tuple[str, int]]:
    keys = [each.key for each in batch if each.key is not None]
    if not keys:
        return {}
    rows = await (await connection.execute(_KNOWN, {"keys": keys})).fetchall()
    return {key: (fingerprint, job_id) for key, fingerprint, job_id in rows}


def _hash(text: str) -> str:
    """Neither keys nor arguments are kept as they came: they may be secrets."""
    return hashlib.sha256(text.encode()).hexdigest()
