"""Response bodies that the consumer reads while the attempt behind them is still under way, sync and async."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from resilience_kit.execution.timeouts import timeout_at
from resilience_kit.http.exchange import Exchange
from resilience_kit.http.httpx_compat import class_for

#: Chunk iterators of the async response bodies that are being read, by the id of their exchange.
_open_bodies: dict[int, Any] = {}


class _ObservedBody:
    """The rest of a body, read by its consumer while the attempt behind it is under way."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._exchange
        try:
            yield from exchange.reader.take_buffered()
            while not exchange.finished:
                chunk = self._next()
                if chunk:
                    yield chunk
            try:
                yield from exchange.reader.chunks
            except Exception:
                if not exchange.is_good:
                    raise
        finally:
            exchange.on_close()

    def _next(self) -> bytes | None:
        exchange = self._exchange
        try:
            chunk: bytes | None = next(exchange.reader.chunks, None)
            exchange.on_chunk(chunk)
        except Exception as error:  # noqa: BLE001 - any error of the body
            broken = exchange.on_error(error)
        else:
            return chunk
        if broken is None:
            return None
        try:
            raise broken
        finally:
            del broken

    def close(self) -> None:
        """Close the body, at its end or before."""
        exchange = self._exchange
        exchange.on_close()
        close(exchange.reader.source, exchange.reader.chunks)

    def __del__(self) -> None:
        self._exchange.on_close()


class _AsyncObservedBody:
    """The async body, with a limit on the time between two chunks.

    The event loop closes dropped generators one by one in the order of their collection: the oldest first. That of the response
    is older than those of its consumers, which would find it being closed. So it is kept alive until the consumer has closed
    the body.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        _open_bodies[id(exchange)] = exchange.reader.chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        try:
            for chunk in exchange.reader.take_buffered():
                yield chunk
            while not exchange.finished:
                piece = await self._next()
                if piece:
                    yield piece
            try:
                async for chunk in exchange.reader.chunks:
                    yield chunk
            except Exception:
                if not exchange.is_good:
                    raise
        finally:
            self._leave()

    async def _next(self) -> bytes | None:
        exchange = self._exchange
        try:
            chunk = await self._next_until(exchange.idle_deadline_ns())
            exchange.on_chunk(chunk)
        except Exception as error:  # noqa: BLE001 - any error of the body
            broken = exchange.on_error(error)
        else:
            return chunk
        if broken is None:
            return None
        try:
            raise broken
        finally:
            del broken

    async def _next_until(self, until: int | None) -> bytes | None:
        """Return the next chunk, None at the end. Raises `APITimeoutError` if it is overdue."""
        exchange, cut_off = self._exchange, False
        limit = timeout_at(exchange.call.plan.clock, until)
        try:
            return await anext(exchange.reader.chunks, None)
        except CancelledError:
            cut_off = True
            raise
        finally:
            if limit.finish() and cut_off:
                raise exchange.idle_error()

    async def aclose(self) -> None:
        """Close the body, at its end or before."""
        self._leave()
        await close_async(self._exchange.reader.source, self._exchange.reader.chunks)

    def _leave(self) -> None:
        _open_bodies.pop(id(self._exchange), None)
        self._exchange.on_close()

    def __del__(self) -> None:
        self._leave()


def close(source: Any, chunks: Any) -> None:
    """Close the stream of a response, and first its iterator."""
    if isinstance(chunks, Generator):
        chunks.close()
    source.close()


async def close_async(source: Any, chunks: Any) -> None:
    """Close an async stream, and first its iterator, which would be left to the event loop."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()
    await source.aclose()


def observed_body(exchange: Exchange, *, asynchronous: bool) -> Any:
    """Return a stream of the library of the response that continues the attempt while it is read."""
    return class_for(_AsyncObservedBody if asynchronous else _ObservedBody, exchange.reader.source.__class__)(exchange)
