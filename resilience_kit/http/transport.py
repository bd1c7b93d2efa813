"""Transports that protect the clients of httpx and httpx2, and so every SDK that takes `http_client=`.

    client = OpenAI(http_client=DefaultHttpxClient(transport=ResilientTransport()), max_retries=0)

Each request runs under the operation of its host: retries, `Retry-After`, circuit breaker, retry budget, deadline. The client
gets the last response of the service, or the error of the client library, so that an SDK raises its usual errors. Only if there
is none it gets an error of this package: `CircuitBreakerOpenError`, `DeadlineExceededError`, `StreamInterruptedError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from resilience_kit._checks import Checks
from resilience_kit._fork import ForkSafeLock
from resilience_kit._keyword_hints import suggests_keywords
from resilience_kit.config import ResilienceConfig
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.execution import aio, sync
from resilience_kit.http.exchange import Exchange, TransportCall
from resilience_kit.http.httpx_compat import (
    body_in_memory,
    check_libraries,
    check_same_library,
    default_transport,
    fits_buffer,
)
from resilience_kit.http.pacing import Pacing
from resilience_kit.http.response_reader import ErrorResponse
from resilience_kit.http.response_stream import close, close_async, observed_body
from resilience_kit.http.stream_progress import TERMINAL_EVENTS, TruncatedStreamError
from resilience_kit.http.transport_options import DEFAULT_CONFIG, HostCallSites, TransportOptions, transport_name
from resilience_kit.orchestrator import AIServiceResilience

if TYPE_CHECKING:
    _Transport = Any  # clients of both libraries declare the base class of their own library
else:
    _Transport = object


class _ResilientTransportBase(_Transport):  # type: ignore[misc]  # see above
    """What both transports share: options, operations, and the inner transport, which sends."""

    _methods: tuple[str, ...]
    _asynchronous: bool

    @suggests_keywords("transport")
    def __init__(  # noqa: PLR0913 - one argument an option
        self,
        transport: object = None,
        *,
        config: ResilienceConfig = DEFAULT_CONFIG,
        resilience: AIServiceResilience | None = None,
        breaker_per: Literal["host", "key"] = "host",
        idempotency_header: str | None = "Idempotency-Key",
        terminal_events: Mapping[str, tuple[str, ...]] = TERMINAL_EVENTS,
        buffer_bytes: int = 1 << 20,
        pacing: Pacing | Literal["shared"] | None = "shared",
    ) -> None:
        self._options = TransportOptions(
            config=config,
            resilience=resilience,
            breaker_per=breaker_per,
            idempotency_header=idempotency_header,
            terminal_events=terminal_events,
            buffer_bytes=buffer_bytes,
            pacing=pacing,
            asynchronous=self._asynchronous,
        )
        if transport is not None:
            is_other_kind = isinstance(transport, _ResilientTransportBase) and transport._asynchronous is not self._asynchronous  # noqa: SLF001 - ours
            checks = Checks(transport_name(asynchronous=self._asynchronous))
            checks.has_methods("transport", None if is_other_kind else transport, *self._methods)
            checks.raise_if_any()
        self._inner: Any = transport
        self._is_entered = False
        self._checked_class: type | None = None  # the class of requests that the inner transport may send
        self._lock = ForkSafeLock()
        self._operations = HostCallSites(self._options)

    def _create_exchange(self, request: Any, *, replayable: bool) -> tuple[Exchange, TransportCall]:
        if request.__class__ is not self._checked_class:
            check_libraries(request, self._inner)
            self._checked_class = request.__class__
        exchange = Exchange(request, self._options, replayable=replayable)
        plan = self._operations.plan(request, exchange.request_headers, exchange.retry_safety)
        return exchange, exchange.bind(plan, self._attempt)

    def _inner_transport(self, request: Any) -> Any:
        """Return the inner transport, created at the first request if none was given."""
        if self._inner is None:
            with self._lock:
                if self._inner is None:
                    self._inner = default_transport(request, asynchronous=self._asynchronous)
        return self._inner

    def _raise_wrong_client(self) -> NoReturn:
        """Raise for a client of the other kind, which needs methods that this transport lacks."""
        other, client = transport_name(asynchronous=not self._asynchronous), "a plain" if self._asynchronous else "an async"
        rule = f"is not for {client} client: give it {other}"
        raise ConfigurationError([(transport_name(asynchronous=self._asynchronous), rule, REDACTED)])


class ResilientTransport(_ResilientTransportBase):
    """A transport for a sync client. Thread-safe, as far as the transport that it sends with is.

    `transport`: what sends, such as an `HTTPTransport` with a proxy; None: one of the client's library, with its defaults. The
    options are those of `TransportOptions`. Raises `ConfigurationError` for what is wrong with them.

    A deadline shortens the client's own time-outs, since a plain function cannot be interrupted.
    """

    _methods = ("handle_request", "close")
    _asynchronous = False

    def handle_request(self, request: Any) -> Any:
        """Send a request and return its last response, or raise the last error."""
        exchange, call = self._create_exchange(request, replayable=self._replayable(request))
        try:
            sync.drive(call)
        except (ErrorResponse, TruncatedStreamError) as error:
            response = exchange.final_response(error)
            if exchange.is_held:
                response.stream = observed_body(exchange, asynchronous=False)
            return response
        except BaseException:
            self._close_held_response(exchange)
            raise
        response = exchange.release()
        if not exchange.reader.body_complete:
            response.stream = observed_body(exchange, asynchronous=False)
        return response

    def _replayable(self, request: Any) -> bool:
        if body_in_memory(request):
            return True
        if not fits_buffer(request, self._options.buffer_bytes):
            return False
        request.read()
        return True

    def _attempt(self, exchange: Exchange) -> Any:
        """Make one attempt: the response, read as far as is needed to judge it."""
        self._close_held_response(exchange)
        exchange.start_attempt()
        response = self._inner_transport(exchange.request).handle_request(exchange.request)
        source, chunks = response.stream, None
        try:
            check_same_library(exchange.request, source, asynchronous=False)
            reader = exchange.on_response(response)
            chunks = reader.chunks = iter(source)
            while reader.needs_more:
                reader.buffer_chunk(next(chunks, None))
                if reader.needs_more:
                    exchange.check_deadline()
            failure = reader.find_error()
        except BaseException:
            close(source, chunks)
            raise
        if not reader.keep_open:
            close(source, chunks)
        if failure is None:
            return response
        exchange.is_held = reader.keep_open
        try:
            raise failure
        finally:
            del failure

    def _close_held_response(self, exchange: Exchange) -> None:
        """Close the error response of an earlier attempt that was not read to its end."""
        if exchange.is_held:
            exchange.is_held = False
            close(exchange.reader.source, exchange.reader.chunks)

    def close(self) -> None:
        """Close the inner transport."""
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        """Enter the inner transport, if it is a context manager."""
        enter = getattr(type(self._inner), "__enter__", None)
        if enter is not None:
            enter(self._inner)
            self._is_entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Exit the inner transport, or close it if it was not entered."""
        if self._is_entered:
            self._inner.__exit__(kind, error, trace)
        else:
            self.close()

    def handle_async_request(self, _request: Any) -> NoReturn:
        """Raise `ConfigurationError`: an async client needs `AsyncResilientTransport`."""
        self._raise_wrong_client()

    def __aenter__(self) -> NoReturn:
        """As `handle_async_request`."""
        self._raise_wrong_client()

    async def aclose(self) -> None:
        """Close a transport that an async client was given by mistake."""
        self.close()


class AsyncResilientTransport(_ResilientTransportBase):
    """A transport for an async client, on asyncio. As `ResilientTransport`; a deadline cancels what is under way."""

    _methods = ("handle_async_request", "aclose")
    _asynchronous = True

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request and return its last response, or raise the last error."""
        exchange, call = self._create_exchange(request, replayable=await self._replayable(request))
        try:
            await aio.drive(call)
        except (ErrorResponse, TruncatedStreamError) as error:
            response = exchange.final_response(error)
            if exchange.is_held:
                response.stream = observed_body(exchange, asynchronous=True)
            return response
        except BaseException:
            await self._close_held_response(exchange)
            raise
        response = exchange.release()
        if not exchange.reader.body_complete:
            response.stream = observed_body(exchange, asynchronous=True)
        return response

    async def _replayable(self, request: Any) -> bool:
        if body_in_memory(request):
            return True
        if not fits_buffer(request, self._options.buffer_bytes):
            return False
        await request.aread()
        return True

    async def _attempt(self, exchange: Exchange) -> Any:
        """As `ResilientTransport`'s."""
        await self._close_held_response(exchange)
        exchange.start_attempt()
        response = await self._inner_transport(exchange.request).handle_async_request(exchange.request)
        source, chunks = response.stream, None
        try:
            check_same_library(exchange.request, source, asynchronous=True)
            reader = exchange.on_response(response)
            chunks = reader.chunks = aiter(source)
            while reader.needs_more:
                reader.buffer_chunk(await anext(chunks, None))
            failure = reader.find_error()
        except BaseException:
            await close_async(source, chunks)
            raise
        if not reader.keep_open:
            await close_async(source, chunks)
        if failure is None:
            return response
        exchange.is_held = reader.keep_open
        try:
            raise failure
        finally:
            del failure

    async def _close_held_response(self, exchange: Exchange) -> None:
        """As `ResilientTransport`'s."""
        if exchange.is_held:
            exchange.is_held = False
            await close_async(exchange.reader.source, exchange.reader.chunks)

    async def aclose(self) -> None:
        """Close the inner transport."""
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        """As `ResilientTransport.__enter__`."""
        enter = getattr(type(self._inner), "__aenter__", None)
        if enter is not None:
            await enter(self._inner)
            self._is_entered = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """As `ResilientTransport.__exit__`."""
        if self._is_entered:
            await self._inner.__aexit__(kind, error, trace)
        else:
            await self.aclose()

    def handle_request(self, _request: Any) -> NoReturn:
        """Raise `ConfigurationError`: a plain client needs `ResilientTransport`."""
        self._raise_wrong_client()

    def __enter__(self) -> NoReturn:
        """As `handle_request`."""
        self._raise_wrong_client()

    def close(self) -> None:
        """Do nothing: a sync client has sent nothing with it."""
