"""A joke API of our own, on loopback, with a switch to break and to heal it. It answers as official-joke-api does."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI, HTTPException

_JOKES: Final = [
    ("general", "Why did the scarecrow win a prize?", "He was outstanding in his field."),
    ("general", "What do you call a fish without eyes?", "A fsh."),
    ("general", "Why can a bicycle not stand on its own?", "It is two-tired."),
    ("general", "What is brown and sticky?", "A stick."),
    ("general", "Why did the picture go to jail?", "It was framed."),
    ("general", "What do you call cheese that is not yours?", "Nacho cheese."),
    ("programming", "Why do programmers mistake Halloween for Christmas?", "Because oct 31 is dec 25."),
    ("programming", "How many programmers does it take to change a light bulb?", "None. That is a hardware problem."),
    ("programming", "Why did the developer go broke?", "He used up all his cache."),
    ("programming", "What is a queue's favourite drink?", "Tea, served in order."),
    ("programming", "Why was the retry so calm?", "It knew how to back off."),
    ("programming", "What did the circuit breaker say to the failing service?", "I need some space."),
    ("programming", "Why do jobs never get lost in PostgreSQL?", "They are all committed."),
    ("knock-knock", "Knock, knock. Who is there? Interrupting sheep. Interr...", "Baa!"),
    ("knock-knock", "Knock, knock. Who is there? Race condition.", "Who is there?"),
    ("dad", "I used to hate facial hair.", "But then it grew on me."),
    ("dad", "What does a timeout say at the door?", "I cannot wait any longer."),
    ("dad", "Did you hear about the restaurant on the moon?", "Great food, no atmosphere."),
]
_BOOK: Final = [
    {"id": number, "type": topic, "setup": setup, "punchline": punchline}
    for number, (topic, setup, punchline) in enumerate(_JOKES, 1)
]


class FakeJokeApi:
    """The server. `broken`: it answers 503; `delay`: seconds before each answer. Both may be set at any time."""

    def __init__(self) -> None:
        self.broken, self.delay = False, 0.0
        self._turn = itertools.count()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on a thread of its own, as another machine would; gives the address."""
        config = uvicorn.Config(
            self._routes(), port=0, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="fake joke API", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{_port_of(server, thread)}"
        finally:
            server.should_exit = True
            thread.join()

    def _routes(self) -> FastAPI:
        api = FastAPI(openapi_url=None)
        api.get("/jokes/random")(self._any)
        api.get("/jokes/{joke_id}")(self._by_number)
        api.get("/jokes/{topic}/random")(self._by_topic)
        return api

    async def _any(self) -> dict[str, object]:
        await self._behave()
        return _BOOK[next(self._turn) % len(_BOOK)]

    async def _by_number(self, joke_id: int) -> dict[str, object]:
        await self._behave()
        if not 1 <= joke_id <= len(_BOOK):
            raise HTTPException(404, "no such joke")
        return _BOOK[joke_id - 1]

    async def _by_topic(self, topic: str) -> list[dict[str, object]]:
        await self._behave()
        found = [joke for joke in _BOOK if joke["type"] == topic]
        if not found:
            raise HTTPException(404, "no jokes of this topic")
        return [found[next(self._turn) % len(found)]]

    async def _behave(self) -> None:
        await asyncio.sleep(self.delay)
        if self.broken:
            raise HTTPException(503, "out of jokes")


def _port_of(server: uvicorn.Server, thread: threading.Thread) -> int:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the fake joke API does not start")
        time.sleep(0.01)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
