"""The queue and its one task."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from procrastinate import JobContext
from procrastinate.tasks import Task

from resilience_kit.jobs import JobsApp, make_app

from .database import DatabaseAwayError
from .joke_api import JokeApi
from .settings import Settings
from .storage import FETCH_JOKE, Storage


def make_queue(settings: Settings) -> JobsApp:
    """Return the queue. A job is retried where that may help: not when the joke API has no such joke."""
    queue = make_app(settings)
    queue.strategy = replace(settings.strategy, use_classifier=True, respect_retry_after=True)
    return queue


def add_task(queue: JobsApp, storage: Storage, joke_api: Callable[[], JokeApi]) -> Task[Any, Any, Any]:
    """Fetch a joke and store it. It may run twice for one job; storing the joke twice has the effect of once."""

    @queue.task(name=FETCH_JOKE, pass_context=True)
    async def fetch_joke(
        context: JobContext, *, joke_id: int | None = None, topic: str | None = None, asked_by: str | None = None
    ) -> None:
        job_id = context.job.id or 0
        try:
            joke = await joke_api().joke(joke_id=joke_id, topic=topic)
        except Exception as error:
            with contextlib.suppress(DatabaseAwayError):
                await storage.note(job_id, error)
            raise
        await storage.keep(joke, asked_by=asked_by, job_id=job_id)

    return fetch_joke
