"""Async JSON client: requests, streams of events, and connections that belong to one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Any, Self

from resilience_kit._callable_kinds import is_awaitable
from resilience_kit.classification.body import LONGEST_BODY
from resilience_kit.errors import AIServiceError
from resilience_kit.execution import aio, streams
from resilience_kit.execution.plan import CallSite
from resilience_kit.http._base import BaseClient
from resilience_kit.http.event_reader import EventReader, is_event_stream
from resilience_kit.http.prepared_request import PreparedRequest
from resilience_kit.http.sse import ServerSentEvent
from resilience_kit.policies.breaker import wrap

_closing: set[asyncio.Task[None]] = set()
#: Of the loop, until the generators have ended that httpx and httpcore leave to it where a body is not read to its end: seven of
#: them, one within the other.
_LOOP_ITERATIONS_TO_CLOSE = 16


class AsyncAPIClient(BaseClient):
    """A JSON client for one service. For one event loop at a time; its tasks may share it and its connections.

    `base_url`: scheme and host, and the path that all paths are below. `timeout`: seconds for each step of a request (connect,
    send, read, get a connection), None for ever, or an `httpx.Timeout`. `headers`: sent with every request. `client`: an
    `httpx.AsyncClient` or `httpx2.AsyncClient`, or any object with `await request(method, url, **given)`; it stays open,
    and keeps its own timeout. Without one, one is made at the first request, with one pool of connections.

    `circuit_breaker`: a `CircuitBreaker`, for whole requests, their retries included; it judges by its own expected and
    excluded exceptions. `retry_config`: how often to try; see below. `rate_limiter`: a `TokenBucketRateLimiter`, any other guard,
    or any object with `await acquire(1.0) -> seconds`; called for each attempt. `pacing`: a `Pacing`, to respect the rate limits
    that the service reports, together with all other users of the same `Pacing`. `deadline`: seconds for a whole request,
    retries and waits included; of a stream, to its first event. Parts that are None are off.

    GET, HEAD, OPTIONS and TRACE are retried after any retryable error. Other methods carry a key in `idempotency_header`, so
    that the service can recognise a retry, and are retried too; without a key they are only if the request was certainly not
    processed. A body that can be read once (a generator, a file) is sent once.

    Errors: `AIServiceError` and its subclasses for failures of the service; `CircuitBreakerOpenError`, `RateLimitExceededError`
    and `DeadlineExceededError` for rejections and limits of this package; `ConfigurationError` for wrong options. `name`: that
    of the operation in events and rejections. `max_event_size`: characters of one event of a stream. `clock`: the source of time.
    """

    _close_hint = "`async with`, or await close()"
    _awaits = True
    _client_class = "AsyncClient"
    _loop: asyncio.AbstractEventLoop | None = None

    async def get(self, url: str, **kwargs: Any) -> Any:
        """GET."""
        return await self.request("GET", url, **kwargs)

    async def post(self, url: str, **kwargs: Any) -> Any:
        """POST; `json=` is the body."""
        return await self.request("POST", url, **kwargs)

    async def put(self, url: str, **kwargs: Any) -> Any:
        """PUT."""
        return await self.request("PUT", url, **kwargs)

    async def patch(self, url: str, **kwargs: Any) -> Any:
        """PATCH."""
        return await self.request("PATCH", url, **kwargs)

    async def delete(self, url: str, **kwargs: Any) -> Any:
        """DELETE."""
        return await self.request("DELETE", url, **kwargs)

    async def request(self, method: str, url: str, **kwargs: Any) -> Any:
        """Return the parsed JSON of the response, None if it is empty.

        `kwargs` are those of the HTTP client: `params=`, `json=`, ...
        """
        prepared = self._rules.requests.prepare(self._get_client(), method, url, kwargs)
        if self._breaker is None:
            return await self._attempts(prepared)
        if self._counts_rejections:
            return await wrap.run_async(self._breaker, self._rules.acquire(self._breaker), self._attempts, prepared)
        return await self._breaker.call_async(self._attempts, prepared)

    def stream(
        self, method: str, url: str, *, terminal: tuple[str, ...] | None = None, **kwargs: Any
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events of a stream; retried with `retry_config` until the first event.

        `terminal`: the names or data of events of which one is required before the end; None: those known for the path; (): none.
        The `[DONE]` of an OpenAI stream is not yielded. An error event is raised. Raises `StreamInterruptedError` for an error
        after the first event. Close a stream that you do not read to its end: `contextlib.aclosing(...)`.
        """
        prepared = self._rules.requests.for_event_stream(self._rules.requests.prepare(self._get_client(), method, url, kwargs))
        site = CallSite(functools.partial(self._rules.stream_plan, prepared))
        attempts = streams.protect_async_generator(site, self._events)
        if self._breaker is None:
            return attempts(prepared, terminal)
        if self._counts_rejections:
            acquire = functools.partial(self._rules.acquire, self._breaker)
            return wrap.async_generator(self._breaker, attempts, acquire)(prepared, terminal)
        return self._breaker.call_async_generator(attempts, prepared, terminal)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close the connections, unless the client was given. May be called again."""
        client = self._detach_client()
        if client is not None:
            closing = client.aclose()
            if is_awaitable(closing):
                await closing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def __del__(self) -> None:
        if not self._closed:
            self._warn()
            client = self._detach_client()
            if client is not None and self._loop is not None:
                _schedule_close(self._loop, client)

    def _get_client(self) -> Any:
        if self._loop is not None and self._loop.is_closed() and self._owns_client:
            self._client = self._loop = None  # its connections went with the loop
        return super()._get_client()

    def _create_client(self) -> Any:
        with contextlib.suppress(RuntimeError):  # outside of asyncio there is no loop to close it later
            self._loop = asyncio.get_running_loop()
        return super()._create_client()

    async def _attempts(self, prepared: PreparedRequest) -> Any:
        plan = self._rules.plan(prepared)
        if plan is not None:
            return await aio.run(plan, self._attempt, (prepared,), {})
        with self._rules.single_attempt():
            return await self._attempt(prepared)

    async def _attempt(self, prepared: PreparedRequest) -> Any:
        """Make one attempt: return the JSON, or raise an error of this package."""
        await self._acquire_rate_limit()
        try:
            return await self._send(prepared)
        except Exception as error:  # noqa: BLE001 - an unknown one is raised as it is
            failure = self._rules.to_exception(prepared, error)
        try:
            raise failure  # not in the `except`: the original error may hold the whole URL
        finally:
            del failure

    async def _acquire_rate_limit(self) -> None:
        """Wait as long as a limiter that is no guard demands."""
        if self._rules.limiter is not None:
            seconds = await self._rules.limiter.acquire(1.0)
            if seconds > 0.0:
                await self._rules.options.clock.sleep_async(seconds)

    async def _send(self, prepared: PreparedRequest) -> Any:
        rules = self._rules
        pending = self._get_client().request(prepared.method, prepared.url, **rules.requests.with_timeout(prepared.kwargs))
        rules.check_awaitable(pending, awaits=True)
        response = await pending
        if not hasattr(response, "raise_for_status"):
            return response
        rules.observe(prepared, response)
        await _await_if_needed(response.raise_for_status())
        if rules.is_empty(prepared, response):
            return None
        with rules.decoding_errors(prepared):
            body = await _await_if_needed(response.json())
        rules.raise_for_error_body(prepared, response, body)
        return body

    async def _events(self, prepared: PreparedRequest, terminal: tuple[str, ...] | None) -> AsyncGenerator[ServerSentEvent, None]:
        """Make one attempt at a stream."""
        await self._acquire_rate_limit()
        reader = self._rules.event_reader(prepared, terminal)
        async with contextlib.aclosing(self._chunks(prepared)) as chunks:
            while (chunk := await _next_chunk(chunks, reader)) is not None:
                for event in reader.feed(chunk):
                    yield event
                if reader.done:
                    await _drain(chunks)
        for event in reader.finish():
            yield event

    async def _chunks(self, prepared: PreparedRequest) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a stream of events; raise errors of this package only."""
        rules = self._rules
        try:
            async with self._get_client().stream(
                prepared.method, prepared.url, **rules.requests.with_timeout(prepared.kwargs)
            ) as response:
                rules.observe(prepared, response)
                if not is_event_stream(response):
                    raise rules.not_a_stream(prepared, response, [piece async for piece in _body_head(response.aiter_bytes())])
                async for chunk in response.aiter_bytes():
                    yield chunk
                return
        except GeneratorExit:
            for _ in range(_LOOP_ITERATIONS_TO_CLOSE):
                await asyncio.sleep(0)
            raise
        except Exception as error:  # noqa: BLE001 - as above
            failure = rules.to_exception(prepared, error)
        try:
            raise failure
        finally:
            del failure


async def _await_if_needed(result: Any) -> Any:
    return await result if is_awaitable(result) else result


async def _next_chunk(chunks: AsyncIterator[bytes], reader: EventReader) -> bytes | None:
    """Return the next bytes, None at the end. An error after the stream is complete is ignored."""
    try:
        return await anext(chunks, None)
    except AIServiceError:
        if not reader.complete:
            raise
        return None


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end of the response, so that its connection can be reused; ignore errors."""
    with contextlib.suppress(AIServiceError):
        async for _ in chunks:
            pass


async def _body_head(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield as much of a body as is parsed for an error."""
    remaining = LONGEST_BODY
    async for chunk in chunks:
        yield chunk
        remaining -= len(chunk)
        if remaining <= 0:
            return


def _schedule_close(loop: asyncio.AbstractEventLoop, client: Any) -> None:
    """Close a client that was garbage collected, if its loop still runs; else its connections ended with the loop."""
    if loop.is_running():
        loop.call_soon_threadsafe(_start_closing, client)


def _start_closing(client: Any) -> None:
    task = asyncio.ensure_future(client.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
