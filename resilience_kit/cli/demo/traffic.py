"""Sends the scenario's calls through all clients at the same time and records the results."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

import httpx

from resilience_kit.cli.demo.recording import BreakerTransition, CallRecord, Recording, Side
from resilience_kit.cli.demo.scenario import CALL_HEADER, Scenario
from resilience_kit.cli.demo.sdk import with_sdk_retries
from resilience_kit.cli.demo.upstream import Upstream
from resilience_kit.events import Event, StateChanged
from resilience_kit.orchestrator import AIServiceResilience

OPERATION = "chat"
QUESTION = {"model": "demo", "messages": [{"role": "user", "content": "How do I keep an AI call alive?"}]}
CONNECTIONS = 20
REFRESH = 0.25
GRACE = 3.0
UNFINISHED = "no answer by the end"

SendCall = Callable[[int], Awaitable[object]]
RefreshView = Callable[[], object]


class TrafficLane:
    """One client with a service of its own. `protect` wraps the attempt: not at all, with an SDK's retries, or with the kit."""

    def __init__(self, side: Side, url: str, protect: Callable[[SendCall], SendCall]) -> None:
        self.side, self.epoch = side, 0.0
        self._url, self._send = f"{url}/chat/completions", protect(self._attempt)
        self._clients: asyncio.LifoQueue[httpx.AsyncHTTPTransport] = asyncio.LifoQueue()

    async def open(self, stack: AsyncExitStack) -> None:
        """Open the connections: one httpx transport each; a client around them and a shared pool would make the loop late."""
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for _ in range(CONNECTIONS):
            transport = httpx.AsyncHTTPTransport(verify=no_tls, limits=httpx.Limits(max_connections=1))
            self._clients.put_nowait(await stack.enter_async_context(transport))

    async def call(self, number: int, issued: float) -> None:
        """Make one call and record its end."""
        error: str | None = UNFINISHED
        self.side.issued += 1
        try:
            await self._send(number)
            error = None
        except Exception as raised:  # noqa: BLE001 - the user sees every error, so the report counts every error
            error = _name(raised)
        finally:
            self.side.calls.append(CallRecord(issued, self.now(), error))

    def now(self) -> float:
        """Seconds since the traffic began."""
        return time.monotonic() - self.epoch

    async def _attempt(self, number: int) -> object:
        transport = await self._clients.get()
        try:
            self.side.sent.append(self.now())
            request = httpx.Request("POST", self._url, headers={CALL_HEADER: str(number)}, json=QUESTION)
            response = await transport.handle_async_request(request)
            await response.aread()
        finally:
            self._clients.put_nowait(transport)
        response.request = request
        response.raise_for_status()
        return response.json()


async def run(scenario: Scenario, watch: Callable[[Recording], object]) -> Recording:
    """Run the whole scenario; call `watch` with the recording four times a second and once at the end."""
    recording = Recording(scenario)
    with _without_operator_environment():
        resilience = AIServiceResilience()
    protections: list[Callable[[SendCall], SendCall]] = [
        _unprotected,
        lambda send: with_sdk_retries(send, recording.sdk.count_retry),
        resilience.with_resilience(OPERATION, custom_config=scenario.strategy),
    ]
    with Upstream(scenario, len(protections)) as upstream:
        async with AsyncExitStack() as stack:
            lanes = [TrafficLane(*parts) for parts in zip(recording.sides, upstream.urls, protections, strict=True)]
            for lane in lanes:
                await lane.open(stack)
            resilience.add_listener(lambda event: _record_transition(event, lanes[-1]))
            _start(lanes, upstream)
            await _traffic(recording, lanes, lambda: watch(_update_recording(recording, lanes, resilience)))
        _record_received(recording, upstream)
    return recording


def _start(lanes: Sequence[TrafficLane], upstream: Upstream) -> None:
    upstream.start()
    started = time.monotonic()
    for lane in lanes:
        lane.epoch = started


async def _traffic(recording: Recording, lanes: Sequence[TrafficLane], refresh: RefreshView) -> None:
    async with asyncio.TaskGroup() as background:
        refresher = background.create_task(_repeat(refresh))
        calls = await _issue(recording, lanes, background)
        _, unfinished = await asyncio.wait(calls, timeout=GRACE)
        for task in (*unfinished, refresher):
            task.cancel()
    refresh()


async def _issue(recording: Recording, lanes: Sequence[TrafficLane], background: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
    calls = []
    for number, at in enumerate(recording.scenario.arrivals()):
        await asyncio.sleep(at - lanes[0].now())
        issued = lanes[0].now()
        recording.max_lag = max(recording.max_lag, issued - at)
        calls += [background.create_task(lane.call(number, issued)) for lane in lanes]
    return calls


async def _repeat(refresh: RefreshView) -> None:
    while True:
        refresh()
        await asyncio.sleep(REFRESH)


def _update_recording(recording: Recording, lanes: Sequence[TrafficLane], resilience: AIServiceResilience) -> Recording:
    recording.now = lanes[0].now()
    recording.protected.retries = resilience.get_metrics()["operations"][OPERATION]["retry_attempts"]
    return recording


def _record_transition(event: Event, lane: TrafficLane) -> None:
    if isinstance(event, StateChanged):
        lane.side.transitions.append(BreakerTransition(event.at - lane.epoch, event.new))


def _record_received(recording: Recording, upstream: Upstream) -> None:
    for side, received in zip(recording.sides, upstream.finish(), strict=True):
        side.received = received


@contextmanager
def _without_operator_environment() -> Iterator[None]:
    """Make an orchestrator with the demo's own strategy, without the settings of the environment."""
    removed = {name: value for name, value in os.environ.items() if name.upper().startswith("RESILIENCE_")}
    for name in removed:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(removed)


def _unprotected(send: SendCall) -> SendCall:
    return send


def _name(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__
