"""The default retries of the openai SDK, without the SDK; SDKs of the same generator are similar.

Two retries of a failed connection, of 408, 409, 429 and of every 5xx; after the wait that the service asks for, up to two
minutes, else after 0.5 s, doubled for each retry up to 8 s, less up to a quarter at random.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import httpx

RETRIES = 2
FIRST_DELAY, LONGEST_DELAY, JITTER = 0.5, 8.0, 0.25
LONGEST_HINT = 120.0
RETRIED = frozenset({408, 409, 429})
SERVER_ERRORS = 500

SendCall = Callable[[int], Awaitable[object]]


def with_sdk_retries(
    send: Callable[[int], Awaitable[object]], on_retry: Callable[[], object]
) -> Callable[[int], Awaitable[object]]:
    """Call `send` with the retries of the SDKs; `on_retry` is called before each retry."""

    async def send_with_retries(number: int) -> object:
        for retry in range(RETRIES):
            try:
                return await send(number)
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                if not is_retried(error):
                    raise
                await asyncio.sleep(delay(retry, error))
                on_retry()
        return await send(number)

    return send_with_retries


def is_retried(error: httpx.HTTPError) -> bool:
    """Return whether an SDK retries after this error."""
    if not isinstance(error, httpx.HTTPStatusError):
        return True
    return error.response.status_code in RETRIED or error.response.status_code >= SERVER_ERRORS


def delay(retry: int, error: httpx.HTTPError) -> float:
    """Return the seconds before retry number `retry`, from 0."""
    hint = _hint(error)
    if 0 < hint <= LONGEST_HINT:
        return hint
    return min(FIRST_DELAY * 2.0**retry, LONGEST_DELAY) * (1 - JITTER * random.random())  # noqa: S311 - spreads callers


def _hint(error: httpx.HTTPError) -> float:
    """Return the service's Retry-After in seconds; the demo's service always sends a number."""
    headers = error.response.headers if isinstance(error, httpx.HTTPStatusError) else {}
    try:
        return float(headers.get("retry-after", 0.0))
    except ValueError:
        return 0.0
