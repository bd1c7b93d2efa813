"""What happens now, for every page that is open: one look at the database serves them all."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

_FOLLOWERS: Final = 100

_logger = logging.getLogger("joke_service")


class Live:
    """Looks every `every` seconds while anybody follows. For one event loop."""

    def __init__(self, look: Callable[[], Awaitable[dict[str, Any]]], every: float = 0.5) -> None:
        self._look, self._every = look, every
        self._followers: set[asyncio.Queue[str | None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether there are as many followers as one service should have."""
        return len(self._followers) >= _FOLLOWERS

    async def follow(self) -> AsyncIterator[str]:
        """Server-sent events, each with the whole of what is to be seen. Who is slow misses some of them."""
        followed = asyncio.Queue[str | None](maxsize=1)
        self._followers.add(followed)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name="live")
        try:
            while not self._closed and (text := await followed.get()) is not None:
                yield f"data: {text}\n\n"
        finally:
            self._followers.discard(followed)

    def close(self) -> None:
        """Let all followers go, so that the server can end."""
        self._closed = True
        for each in self._followers:
            _give(each, None)

    async def _look_on(self) -> None:
        try:
            while self._followers and not self._closed:
                await self._tell()
                await asyncio.sleep(self._every)
        finally:
            self._looking = None

    async def _tell(self) -> None:
        try:
            text = json.dumps(await self._look())
        except Exception as error:  # noqa: BLE001 - the next look may succeed
            _logger.error("looking for the page failed: %s", type(error).__name__)
            return
        for each in self._followers:
            _give(each, text)


def _give(followed: asyncio.Queue[str | None], text: str | None) -> None:
    if followed.full():
        followed.get_nowait()
    followed.put_nowait(text)
