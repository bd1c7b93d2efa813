"""The kit's parser of server-sent events in the place of httpx-sse's, fed one byte at a time: every cut is tried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from httpx_sse import EventSource

from resilience_kit.http.sse import EventParser, ServerSentEvent


def iter_sse(self: EventSource) -> Iterator[ServerSentEvent]:
    """As httpx-sse's, which refuses what is no stream of events."""
    self._check_content_type()
    parser = EventParser()
    for chunk in self.response.iter_bytes():
        for byte in chunk:
            yield from parser.feed(bytes([byte]))


async def aiter_sse(self: EventSource) -> AsyncIterator[ServerSentEvent]:
    """As `iter_sse`."""
    self._check_content_type()
    parser = EventParser()
    async for chunk in self.response.aiter_bytes():
        for byte in chunk:
            for event in parser.feed(bytes([byte])):
                yield event


EventSource.iter_sse = iter_sse  # type: ignore[method-assign]
EventSource.aiter_sse = aiter_sse  # type: ignore[method-assign]
