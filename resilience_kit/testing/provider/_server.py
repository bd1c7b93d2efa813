"""A real HTTP server on its own thread and event loop, that can cut, reset and refuse connections.

uvicorn implements HTTP; its `Server` is not used, since the listening socket has to close and open again on the same port, and a
hung request must not delay the stop. A second socket reserves the port: bound, never listening, it makes the system refuse
connections and keep the port from other programs while the listener is closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from resilience_kit.clock import Clock, Timer

BACKLOG = 2048
KEEP_ALIVE = 120
GRACE = 0.25
SETTINGS: Final[dict[str, Any]] = {
    "interface": "asgi3",
    "lifespan": "off",
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "timeout_keep_alive": KEEP_ALIVE,
}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Connection(H11Protocol):
    """One client's connection, which the application may cut or reset."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Pass this object to the application as `scope["state"]["connection"]`."""
        self.connection_closed = asyncio.Event()
        self.app_state = {**self.app_state, "connection": self}
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the tasks that pause before a response to this client."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.connection_closed.set()

    async def pause(self, seconds: float) -> bool:
        """Wait, and return whether the client is still connected."""
        if seconds > 0.0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.connection_closed.wait()
        return not self.connection_closed.is_set()

    async def wait_for_slot(self, slot: asyncio.Future[None]) -> bool:
        """Wait for a slot; return False when the client disconnected first."""
        leaving = asyncio.ensure_future(self.connection_closed.wait())
        try:
            await asyncio.wait((slot, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
        return not self.connection_closed.is_set()

    def cut(self) -> None:
        """Close after what has been written; the response stays incomplete."""
        self._mark_disconnected()
        self.transport.close()

    def reset(self) -> None:
        """Reset the connection at once."""
        self._mark_disconnected()
        raw = self.transport.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def _mark_disconnected(self) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True


class Server:
    """Runs an ASGI application on `host:port`. `start` and `stop` block for some milliseconds. Thread-safe after `start`."""

    def __init__(self, app: App, host: str, port: int, on_connect: Callable[[], None]) -> None:
        self._config = Config(cast("Any", app), **SETTINGS)
        self._config.load()
        self._state = ServerState()
        self._on_connect = on_connect
        self._port_holder = _bound(host, port)
        self.port: int = self._port_holder.getsockname()[1]
        self._host = host
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"fake-ai-provider-{self.port}", daemon=True)

    @property
    def open_connections(self) -> int:
        """Return the number of clients that are connected now."""
        return len(self._state.connections)

    def start(self) -> None:
        """Listen; return when a client can connect."""
        self._thread.start()
        self.run_on_loop(self.listen)

    def stop(self) -> None:
        """Reset what is open and end the thread."""
        self.run_on_loop(self._shut_down)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port_holder.close()

    def run_on_loop(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine function on the server's loop and wait for it; from the loop itself, only begin it."""
        if threading.current_thread() is self._thread:
            _keep(self._state.tasks, self._loop.create_task(_run(action)))
            return
        done: Future[None] = asyncio.run_coroutine_threadsafe(_run(action), self._loop)
        done.result()

    async def listen(self) -> None:
        """Accept connections."""
        if self._listener is None:
            self._listener = await self._loop.create_server(self._connect, sock=_bound(self._host, self.port), backlog=BACKLOG)

    async def refuse(self) -> None:
        """Close the listener and reset every connection; the port stays reserved."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in self._connections():
            connection.reset()

    def schedule(self, clock: Clock, seconds: float, action: Callable[[], Awaitable[None]]) -> Timer:
        """Run an action when `seconds` have passed on a clock. Call it on the server's loop."""
        return clock.call_later(max(0.0, seconds), lambda: self.run_on_loop(action))

    def _connections(self) -> list[Connection]:
        return cast("list[Connection]", list(self._state.connections))

    def _connect(self) -> Connection:
        self._on_connect()
        return Connection(config=self._config, server_state=self._state, app_state={}, _loop=self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _shut_down(self) -> None:
        connections = self._connections()
        await self.refuse()
        await asyncio.gather(*(connection.connection_closed.wait() for connection in connections))
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=GRACE)
        await self._loop.shutdown_asyncgens()


async def _run(action: Callable[[], Awaitable[None]]) -> None:
    await action()


def _keep(tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _bound(host: str, port: int) -> socket.socket:
    """Return a bound socket, with an explicit protocol: asyncio disables Nagle's delay for accepted sockets only then."""
    raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        raw.bind((host, port))
    except OSError:
        raw.close()
        raise
    return raw
