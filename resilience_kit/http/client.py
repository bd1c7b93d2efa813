"""Sync JSON client: requests, streams of events, and connections that threads share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self

from resilience_kit._fork import ForkSafeLock
from resilience_kit.errors import AIServiceError
from resilience_kit.execution import streams, sync
from resilience_kit.execution.plan import CallSite
from resilience_kit.http._base import BaseClient
from resilience_kit.http.event_reader import EventReader, body_head, is_event_stream
from resilience_kit.http.prepared_request import PreparedRequest
from resilience_kit.http.sse import ServerSentEvent
from resilience_kit.policies.breaker import wrap

_creation_lock = ForkSafeLock()


class APIClient(BaseClient):
    """`AsyncAPIClient` for plain functions, by the same rules and with the same arguments. Threads may share it.

    `client` is an `httpx.Client` or `httpx2.Client`, or has `request(method, url, **given)`. `rate_limiter` is a guard, such as a
    `TokenBucketRateLimiter`. A deadline interrupts no request; it bounds the timeout of each, and the waits between them.
    """

    _client_class = "Client"

    def get(self, url: str, **kwargs: Any) -> Any:
        """GET."""
        return self.request("GET", url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> Any:
        """POST; `json=` is the body."""
        return self.request("POST", url, **kwargs)

    def put(self, url: str, **kwargs: Any) -> Any:
        """PUT."""
        return self.request("PUT", url, **kwargs)

    def patch(self, url: str, **kwargs: Any) -> Any:
        """PATCH."""
        return self.request("PATCH", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Any:
        """DELETE."""
        return self.request("DELETE", url, **kwargs)

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        """See `AsyncAPIClient.request`."""
        prepared = self._rules.requests.prepare(self._get_client(), method, url, kwargs)
        if self._breaker is None:
            return self._attempts(prepared)
        if self._counts_rejections:
            return wrap.run(self._breaker, self._rules.acquire(self._breaker), self._attempts, prepared)
        return self._breaker.call(self._attempts, prepared)

    def stream(
        self, method: str, url: str, *, terminal: tuple[str, ...] | None = None, **kwargs: Any
    ) -> Generator[ServerSentEvent, None, None]:
        """See `AsyncAPIClient.stream`."""
        prepared = self._rules.requests.for_event_stream(self._rules.requests.prepare(self._get_client(), method, url, kwargs))
        attempts = streams.protect_generator(CallSite(functools.partial(self._rules.stream_plan, prepared)), self._events)
        if self._breaker is None:
            return attempts(prepared, terminal)
        if self._counts_rejections:
            acquire = functools.partial(self._rules.acquire, self._breaker)
            return wrap.generator(self._breaker, attempts, acquire)(prepared, terminal)
        return self._breaker.call_generator(attempts, prepared, terminal)  # type: ignore[no-any-return]

    def close(self) -> None:
        """See `AsyncAPIClient.close`."""
        client = self._detach_client()
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            self._warn()
            self.close()

    def _set_client(self, created: Any) -> None:
        """Keep the client of the first of several threads; creating one takes long, so that it is not done under the lock."""
        with _creation_lock:
            if self._client is None:
                self._client, created = created, None
        if created is not None:
            created.close()

    def _attempts(self, prepared: PreparedRequest) -> Any:
        plan = self._rules.plan(prepared)
        if plan is not None:
            return sync.run(plan, self._attempt, (prepared,), {})
        with self._rules.single_attempt():
            return self._attempt(prepared)

    def _attempt(self, prepared: PreparedRequest) -> Any:
        try:
            return self._send(prepared)
        except Exception as error:  # noqa: BLE001 - as above
            failure = self._rules.to_exception(prepared, error)
        try:
            raise failure
        finally:
            del failure

    def _send(self, prepared: PreparedRequest) -> Any:
        rules = self._rules
        response = self._get_client().request(prepared.method, prepared.url, **rules.requests.with_timeout(prepared.kwargs))
        if not hasattr(response, "raise_for_status"):
            rules.check_awaitable(response, awaits=False)
            return response
        rules.observe(prepared, response)
        response.raise_for_status()
        if rules.is_empty(prepared, response):
            return None
        with rules.decoding_errors(prepared):
            body = response.json()
        rules.raise_for_error_body(prepared, response, body)
        return body

    def _events(self, prepared: PreparedRequest, terminal: tuple[str, ...] | None) -> Generator[ServerSentEvent, None, None]:
        reader = self._rules.event_reader(prepared, terminal)
        with contextlib.closing(self._chunks(prepared)) as chunks:
            while (chunk := _next_chunk(chunks, reader)) is not None:
                yield from reader.feed(chunk)
                if reader.done:
                    with contextlib.suppress(AIServiceError):
                        for _ in chunks:
                            pass
        yield from reader.finish()

    def _chunks(self, prepared: PreparedRequest) -> Generator[bytes, None, None]:
        rules = self._rules
        try:
            with self._get_client().stream(
                prepared.method, prepared.url, **rules.requests.with_timeout(prepared.kwargs)
            ) as response:
                rules.observe(prepared, response)
                if not is_event_stream(response):
                    raise rules.not_a_stream(prepared, response, list(body_head(response.iter_bytes())))
                yield from response.iter_bytes()
                return
        except Exception as error:  # noqa: BLE001 - as above
            failure = rules.to_exception(prepared, error)
        try:
            raise failure
        finally:
            del failure


def _next_chunk(chunks: Iterator[bytes], reader: EventReader) -> bytes | None:
    """As `async_client._next_chunk`."""
    try:
        return next(chunks, None)
    except AIServiceError:
        if not reader.complete:
            raise
        return None
