"""The fake AI provider: a server, a plan of faults, a schedule of outages, and a record of requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK, Clock, Timer
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.testing.provider._responses import FakeResponse, Responder, ResponseEnding, is_metered, key_of, respond_to
from resilience_kit.testing.provider.faults import OK, REFUSE, Fault, FaultPlan, Outage, ReceivedRequest, as_plan
from resilience_kit.testing.provider.limits import Capacity, ConcurrencyLimiter, KeyLimiter, ProviderLimits, Quota

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from resilience_kit.testing.provider._dialect import ParsedRequest
    from resilience_kit.testing.provider._server import Connection, Message, Receive, Send, Server

MISSING = "the fake AI provider needs uvicorn: pip install 'ai-resilience-kit[testing]'"


class FakeAIProvider:
    """An HTTP server on loopback that responds like OpenAI, Anthropic, Perplexity and LightRAG, with faults and limits.

        with FakeAIProvider([Fault.rate_limited(0.1), OK]) as provider:
            client = OpenAI(base_url=provider.openai_url, api_key="any", max_retries=0)

    `faults`: one fault for every request, a sequence with one a request (normal responses follow), or a plan such as
    `SeededFaults`. `outages` take precedence and use up no fault. `latency` (seconds, or a function of the request, such as
    `SeededLatency`) passes before every response, `chunk_delay` between two streamed events. `answer` is the model's text, or a
    function of the prompt. With `api_key` any other key is rejected with 401. Usage counts words.

    `limits` limits the requests and tokens a minute of each key: a request beyond gets 429 at once, takes nothing from the
    buckets and uses up no fault. `capacity` (`Capacity`, or the number of concurrent requests) makes others wait, or get 529.
    Invalid requests, and LightRAG's `/health`, are not limited and take no capacity.

    `clock` applies to outages, limits and recorded times, not to latency.

    It runs on its own thread; both `with` and `async with` work and block for some milliseconds. Everything public may be used
    from any thread. Starting needs the extra `testing`.
    """

    def __init__(  # noqa: PLR0913 - independent settings
        self,
        faults: Fault | Iterable[Fault] | FaultPlan = OK,
        *,
        outages: Iterable[Outage] = (),
        latency: float | Callable[[ReceivedRequest], float] = 0.0,
        chunk_delay: float = 0.0,
        answer: str | Callable[[str], str] = "The answer is forty-two, as far as anybody knows.",
        api_key: str | None = None,
        limits: ProviderLimits | None = None,
        capacity: Capacity | int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._outages = tuple(outages)
        _check(self._outages, latency, chunk_delay, port)
        self._server: Server | None = None
        self._concurrency = ConcurrencyLimiter(None)
        self.faults, self.limits, self.capacity = faults, limits, capacity
        self._latency = latency if callable(latency) else lambda _request: latency
        self._chunk_delay = chunk_delay
        self._responder = Responder(answer if callable(answer) else lambda _prompt: answer, api_key)
        self._host, self._port, self._clock = host, port, clock
        self._requests: list[ReceivedRequest] = []
        self._timers: list[Timer] = []
        self._connections = 0
        self._epoch = 0.0
        self._broken: Exception | None = None

    @property
    def faults(self) -> FaultPlan:
        """Return the current plan; assign a fault, a sequence or a plan to change it for further requests."""
        return self._plan

    @faults.setter
    def faults(self, faults: Fault | Iterable[Fault] | FaultPlan) -> None:
        self._plan = as_plan(faults)

    @property
    def limits(self) -> ProviderLimits | None:
        """Return the limits of each key; assign other limits, or None, and all keys start again with full buckets."""
        return self._limits

    @limits.setter
    def limits(self, limits: ProviderLimits | None) -> None:
        _check_kind("limits", limits, ProviderLimits)
        self._limits, self._key_limiter = limits, None if limits is None else KeyLimiter(limits)

    @property
    def capacity(self) -> Capacity | None:
        """Return the capacity; assign another number, or None. Requests being served are not affected."""
        return self._concurrency.capacity

    @capacity.setter
    def capacity(self, capacity: Capacity | int | None) -> None:
        capacity = Capacity(capacity) if isinstance(capacity, int) else capacity
        _check_kind("capacity", capacity, Capacity)
        self._concurrency.capacity = capacity
        if self._server is not None:
            self._server.run_on_loop(self._admit_waiting)

    @property
    def port(self) -> int:
        """Return the port, which stays the same while connections are refused."""
        return self._running_server().port

    @property
    def url(self) -> str:
        """Return scheme, host and port."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """Return the `base_url` for an OpenAI client."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """Return the `base_url` for an Anthropic client."""
        return self.url

    @property
    def perplexity_url(self) -> str:
        """Return the `base_url` for an OpenAI client of Perplexity."""
        return self.url

    @property
    def lightrag_url(self) -> str:
        """Return the base of LightRAG's `/query`, `/query/stream`, `/documents/text` and `/health`."""
        return self.url

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """Return every request received, in order, with its fault. Refused connections have none."""
        return tuple(self._requests)

    @property
    def request_count(self) -> int:
        """Return the number of requests received; cheaper than `requests`."""
        return len(self._requests)

    @property
    def open_connections(self) -> int:
        """Return the number of clients that are connected now."""
        return 0 if self._server is None else self._server.open_connections

    @property
    def total_connections(self) -> int:
        """Return the number of connections accepted so far."""
        return self._connections

    def start(self) -> Self:
        """Listen, and begin the schedule of outages."""
        if self._server is not None:
            msg = f"the fake AI provider runs already, on port {self.port}"
            raise RuntimeError(msg)
        self._server = _server_class()(self._serve, self._host, self._port, self._count_connection)
        try:
            self._server.start()
            self.restart_schedule()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Reset open connections and free the port. Does nothing when it is not running.

        Raises what the test's own plan, latency or answer function raised; its request got a bare 500.
        """
        server, self._server = self._server, None
        if server is not None:
            server.run_on_loop(self._cancel_timers)
            server.stop()
        broken, self._broken = self._broken, None
        if broken is not None:
            raise broken

    def clear(self) -> None:
        """Clear the recorded requests."""
        self._requests.clear()

    def restart_schedule(self) -> None:
        """Restart the time of outages and records at zero."""
        self._running_server().run_on_loop(self._schedule)

    def refuse_connections(self) -> None:
        """Close the port and reset every connection, until `accept_connections`."""
        server = self._running_server()
        server.run_on_loop(server.refuse)

    def accept_connections(self) -> None:
        """Listen again on the same port."""
        server = self._running_server()
        server.run_on_loop(server.listen)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections inside the `with`."""
        with ExitStack() as stack:
            stack.callback(self.accept_connections)
            self.refuse_connections()
            yield

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _running_server(self) -> Server:
        if self._server is None:
            msg = "the fake AI provider is not running: use it in a `with`, or call start()"
            raise RuntimeError(msg)
        return self._server

    def _count_connection(self) -> None:
        self._connections += 1

    def _now(self) -> float:
        return self._clock.monotonic() - self._epoch

    async def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def _schedule(self) -> None:
        await self._cancel_timers()
        server = self._running_server()
        await server.listen()
        self._epoch = self._clock.monotonic()
        for outage in self._outages:
            if outage.mode == REFUSE:
                self._schedule_action(outage.start, server.refuse)
                self._schedule_action(outage.end, server.listen)

    def _schedule_action(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        self._timers.append(self._running_server().schedule(self._clock, seconds, action))

    async def _admit_waiting(self) -> None:
        self._concurrency.admit_waiting()

    def _receive(self, scope: Message, body: bytes) -> _ScheduledResponse:
        """Read a request, choose its fault, and record it."""
        request = ReceivedRequest(
            number=len(self._requests) + 1,
            at=self._now(),
            method=scope["method"],
            path=scope["path"],
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
        )
        parsed = self._responder.parse(request)
        scheduled = self._schedule_response(parsed)
        self._requests.append(replace(request, fault=scheduled.fault))
        return scheduled

    def _schedule_response(self, parsed: ParsedRequest) -> _ScheduledResponse:
        """Choose the response by precedence: an outage, the key's limits, the capacity, and the plan last."""
        fault = self._outage(parsed.request)
        if fault is not None:
            return self._response_after_latency(parsed, fault)
        if not is_metered(parsed):
            return self._response_after_latency(parsed, self._plan(parsed.request) or OK)
        quota = self._quota(parsed)
        fault = self._limit_fault(parsed, quota)
        if fault is not None:
            return _ScheduledResponse(fault, respond_to(parsed, fault, quota))
        return self._response_after_latency(parsed, self._plan(parsed.request) or OK, quota, uses_slot=True)

    def _response_after_latency(
        self, parsed: ParsedRequest, fault: Fault, quota: Quota | None = None, *, uses_slot: bool = False
    ) -> _ScheduledResponse:
        return _ScheduledResponse(fault, respond_to(parsed, fault, quota), self._latency(parsed.request) + fault.delay, uses_slot)

    def _quota(self, parsed: ParsedRequest) -> Quota | None:
        if self._key_limiter is None:
            return None
        return self._key_limiter.take(key_of(parsed.request.headers), parsed.dialect.tokens(parsed), parsed.request.at)

    def _outage(self, request: ReceivedRequest) -> Fault | None:
        for outage in self._outages:
            if isinstance(outage.mode, Fault) and outage.covers(request.at):
                return outage.mode
        return None

    def _limit_fault(self, parsed: ParsedRequest, quota: Quota | None) -> Fault | None:
        if quota is not None and quota.rejection is not None:
            wait = quota.rejection.wait
            return Fault.rate_limited(None if wait is None else parsed.dialect.hint(wait))
        return Fault.overloaded() if self._concurrency.is_full else None

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        connection: Connection = scope["state"]["connection"]
        try:
            scheduled = self._receive(scope, body)
        except Exception as error:  # noqa: BLE001 - stop() raises it
            self._broken = self._broken or error
            scheduled = _ScheduledResponse(OK, FakeResponse(500, {"content-length": "0"}, ()))
        if not scheduled.uses_slot:
            await self._send_scheduled(scheduled, connection, send)
        elif await self._concurrency.acquire(connection):
            try:
                await self._send_scheduled(scheduled, connection, send)
            finally:
                self._concurrency.release()

    async def _send_scheduled(self, scheduled: _ScheduledResponse, connection: Connection, send: Send) -> None:
        if await connection.pause(scheduled.wait):
            await _deliver(scheduled.response, connection, send, self._chunk_delay)


@dataclass(frozen=True, slots=True)
class _ScheduledResponse:
    """A response, sent after a wait in seconds, with or without a slot of the capacity."""

    fault: Fault
    response: FakeResponse
    wait: float = 0.0
    uses_slot: bool = False


def _check_kind(field: str, value: object, kind: type) -> None:
    checks = Checks("FakeAIProvider")
    checks.instance(field, value, kind, type(None))
    checks.raise_if_any()


def _check(outages: tuple[Outage, ...], latency: object, chunk_delay: object, port: object) -> None:
    checks = Checks("FakeAIProvider")
    for outage in outages:
        checks.instance("outages", outage, Outage)
    if not callable(latency):
        checks.seconds("latency", latency, zero=True)
    checks.seconds("chunk_delay", chunk_delay, zero=True)
    checks.integer("port", port, 0)
    checks.raise_if_any()


def _server_class() -> type[Server]:
    try:
        from resilience_kit.testing.provider._server import Server  # noqa: PLC0415 - uvicorn is an extra
    except ImportError as error:
        raise ConfigurationError([("FakeAIProvider", MISSING, REDACTED)]) from error
    return Server


async def _read(receive: Receive) -> bytes | None:
    """Return the complete body, None when the client disconnected."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def _deliver(response: FakeResponse, connection: Connection, send: Send, chunk_delay: float) -> None:
    if response.status:
        await send({"type": "http.response.start", "status": response.status, "headers": _encode_headers(response)})
    for index, piece in enumerate(response.pieces):
        if index and not await connection.pause(chunk_delay):
            return
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await _end(response.ending, connection, send)


async def _end(ending: ResponseEnding, connection: Connection, send: Send) -> None:
    if ending is ResponseEnding.COMPLETE:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif ending is ResponseEnding.CUT:
        connection.cut()
    elif ending is ResponseEnding.RESET:
        connection.reset()
    else:
        await connection.connection_closed.wait()


def _encode_headers(response: FakeResponse) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in response.headers.items()]
