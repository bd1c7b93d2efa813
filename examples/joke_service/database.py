"""How long anybody waits for the database, and what is said when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

import psycopg
from procrastinate.exceptions import ProcrastinateException

T = TypeVar("T")

#: Seconds that a request waits, so that it is answered within 2.
PATIENCE: Final = 1.5
#: Seconds after which it may be sent again.
RETRY_AFTER: Final = 2

_ERRORS: Final = (psycopg.Error, ProcrastinateException)


class DatabaseAwayError(ConnectionError):
    """The database cannot answer now. What was asked of it may have happened, where the answer alone was lost."""


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Return the result of `work`. Raises DatabaseAwayError when it fails, or takes longer.

    What takes longer is cancelled and left alone: from a server that stands still, psycopg frees itself only after 10 seconds.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_forget)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise DatabaseAwayError("the database did not answer in time")
        return task.result()
    except _ERRORS as error:
        raise DatabaseAwayError(f"the database cannot answer ({type(error).__name__})") from error
    finally:
        task.cancel()


def _forget(task: asyncio.Future[T]) -> None:
    """Look at the error of a task that nobody waits for any more, or asyncio logs it."""
    if not task.cancelled():
        task.exception()
