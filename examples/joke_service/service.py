"""The parts of the service, and how they begin and end together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

from resilience_kit import AIServiceResilience
from resilience_kit.jobs import lifespan

from .database import RETRY_AFTER, DatabaseAwayError
from .fake_api import FakeJokeApi
from .jobs import add_task, make_queue
from .joke_api import JokeApi
from .live import Live
from .models import FetchJoke
from .settings import Settings
from .storage import FETCH_JOKE, Storage
from .submissions import Submissions

#: Seconds that the start waits for somebody else's database; without it, requests are answered with 503.
_FIRST_TRY: Final = 3.0
_JOBS_SHOWN: Final = 12
_JOKES_SHOWN: Final = 6

_logger = logging.getLogger("joke_service")


class JokeService:
    """All that the routes speak to. Raises ConfigurationError for wrong settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kit = AIServiceResilience()
        self.queue = make_queue(settings)
        self.fake_api = FakeJokeApi() if settings.api_base_url is None else None
        self.storage = Storage(self.queue, runs=settings.max_retries + 1, long_runs=settings.strategy.max_runs)
        self.live = Live(self.snapshot)
        self._submissions = Submissions(self.queue, add_task(self.queue, self.storage, lambda: self._joke_api))
        self._joke_api: JokeApi

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the fake joke API, if configured, and connect to the database with a worker as soon as it is available."""
        async with contextlib.AsyncExitStack() as stack:
            fake = None if self.fake_api is None else stack.enter_context(self.fake_api.running())
            self._joke_api = JokeApi(self.settings, fake or str(self.settings.api_base_url), self.kit)
            stack.push_async_callback(self._joke_api.close)
            tried = asyncio.Event()
            working = asyncio.create_task(self._work(tried), name="queue")
            stack.push_async_callback(_end, working)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tried.wait(), _FIRST_TRY if self.queue.embedded is None else None)
            yield

    async def _work(self, tried: asyncio.Event) -> NoReturn:
        """Keep the queue open with a worker. A database that is not there at the start may come later."""
        while True:
            try:
                async with lifespan(self.queue):
                    await self.storage.prepare()  # before there is a worker, which needs them
                async with lifespan(self.queue, worker=True):
                    tried.set()
                    await asyncio.Event().wait()
            except Exception as error:  # noqa: BLE001 - without this task there would be no service until somebody looks
                _logger.error("the database cannot be used (%s); trying again in %g s", type(error).__name__, RETRY_AFTER)
            tried.set()
            await asyncio.sleep(RETRY_AFTER)

    async def submit(self, wanted: FetchJoke, key: str | None) -> int:
        """Defer a job and return its id once it is committed."""
        return await self._submissions.submit(wanted.model_dump(exclude_none=True), key)

    async def stats(self) -> dict[str, Any]:
        """Return statistics of the queue, the jokes and the joke API; those of the worker since this process began."""
        numbers = self.queue.metrics.snapshot().get(FETCH_JOKE, {})
        return {**await self.storage.stats(), "worker": numbers, "joke_api": self.joke_api()}

    def joke_api(self) -> dict[str, Any]:
        """Return the health of the joke API."""
        fake = self.fake_api
        return {**self._joke_api.circuit(), "fake": None if fake is None else {"broken": fake.broken, "delay": fake.delay}}

    async def snapshot(self) -> dict[str, Any]:
        """Return what the page shows."""
        seen = {"joke_api": self.joke_api()}
        try:
            stats, jobs, jokes = await asyncio.gather(
                self.storage.stats(), self.storage.latest(_JOBS_SHOWN), self.storage.jokes(_JOKES_SHOWN)
            )
        except DatabaseAwayError:
            return {**seen, "database": "away"}
        return {**seen, "database": "ok", "stats": stats, "jobs": jobs, "latest_jokes": jokes}


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
