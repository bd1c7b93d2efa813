"""Sends the scenario's calls through all clients at the same time and writes down what happens."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

import httpx

from resilience_kit.cli.demo.recording import CallRecord, Move, Recording, Side
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

Ask = Callable[[int], Awaitable[object]]
Look = Callable[[], object]


class Lane:
    """One client with a service of its own. `protect` wraps the attempt: not at all, with an SDK's retries, or with the kit."""

    def __init__(self, side: Side, url: str, protect: Callable[[Ask], Ask]) -> None:
        self.side, self.epoch = side, 0.0
        self._url, self._ask = f"{url}/chat/completions", protect(self._attempt)
        self._places: asyncio.LifoQueue[httpx.AsyncHTTPTransport] = asyncio.LifoQueue()

    async def open(self, stack: AsyncExitStack) -> None:
        """Open the connections: one httpx transport each; a client around them and a shared pool would make the loop late."""
        no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for _ in range(CONNECTIONS):
            transport = httpx.AsyncHTTPTransport(verify=no_tls, limits=httpx.Limits(max_connections=1))
            self._places.put_nowait(await stack.enter_async_context(transport))

    async def call(self, number: int, issued: float) -> None:
        """One call as its user sees it; its end is written down, whatever it is."""
        error: str | None = UNFINISHED
        self.side.issued += 1
        try:
            await self._ask(number)
            error = None
        except Exception as raised:  # noqa: BLE001 - the user sees every error, so the report counts every error
            error = _name(raised)
        finally:
            self.side.calls.append(CallRecord(issued, self.now(), error))

    def now(self) -> float:
        """Seconds since the traffic began."""
        return time.monotonic() - self.epoch

    async def _attempt(self, number: int) -> object:
        transport = await self._places.get()
        try:
            self.side.sent.append(self.now())
            request = httpx.Request("POST", self._url, headers={CALL_HEADER: str(number)}, json=QUESTION)
            response = await transport.handle_async_request(request)
            await response.aread()
        finally:
            self._places.put_nowait(transport)
        response.request = request
        response.raise_for_status()
        return response.json()


async def run(scenario: Scenario, watch: Callable[[Recording], object]) -> Recording:
    """Run the whole scenario; `watch` is shown the recording four times a second and once at the end."""
    recording = Recording(scenario)
    with _operator_unheard():
        kit = AIServiceResilience()
    protections: list[Callable[[Ask], Ask]] = [
        _unprotected,
        lambda ask: with_sdk_retries(ask, recording.sdk.count_retry),
        kit.with_resilience(OPERATION, custom_config=scenario.strategy),
    ]
    with Upstream(scenario, len(protections)) as upstream:
        async with AsyncExitStack() as stack:
            lanes = [Lane(*parts) for parts in zip(recording.sides, upstream.urls, protections, strict=True)]
            for lane in lanes:
                await lane.open(stack)
            kit.add_listener(lambda event: _note_move(event, lanes[-1]))
            _start(lanes, upstream)
            await _traffic(recording, lanes, lambda: watch(_standing(recording, lanes, kit)))
        _note_received(recording, upstream)
    return recording


def _start(lanes: Sequence[Lane], upstream: Upstream) -> None:
    upstream.start()
    begun = time.monotonic()
    for lane in lanes:
        lane.epoch = begun


async def _traffic(recording: Recording, lanes: Sequence[Lane], look: Look) -> None:
    async with asyncio.TaskGroup() as background:
        looking = background.create_task(_repeat(look))
        calls = await _issue(recording, lanes, background)
        _, unfinished = await asyncio.wait(calls, timeout=GRACE)
        for task in (*unfinished, looking):
            task.cancel()
    look()


async def _issue(recording: Recording, lanes: Sequence[Lane], background: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
    calls = []
    for number, at in enumerate(recording.scenario.arrivals()):
        await asyncio.sleep(at - lanes[0].now())
        issued = lanes[0].now()
        recording.late = max(recording.late, issued - at)
        calls += [background.create_task(lane.call(number, issued)) for lane in lanes]
    return calls


async def _repeat(look: Look) -> None:
    while True:
        look()
        await asyncio.sleep(REFRESH)


def _standing(recording: Recording, lanes: Sequence[Lane], kit: AIServiceResilience) -> Recording:
    recording.now = lanes[0].now()
    recording.kit.retries = kit.get_metrics()["operations"][OPERATION]["retry_attempts"]
    return recording


def _note_move(event: Event, lane: Lane) -> None:
    if isinstance(event, StateChanged):
        lane.side.moves.append(Move(event.at - lane.epoch, event.new))


def _note_received(recording: Recording, upstream: Upstream) -> None:
    for side, received in zip(recording.sides, upstream.finish(), strict=True):
        side.received = received


@contextmanager
def _operator_unheard() -> Iterator[None]:
    """The demo shows its own strategy, whatever the environment says about real operations."""
    theirs = {name: value for name, value in os.environ.items() if name.upper().startswith("RESILIENCE_")}
    for name in theirs:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(theirs)


def _unprotected(ask: Ask) -> Ask:
    return ask


def _name(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__
