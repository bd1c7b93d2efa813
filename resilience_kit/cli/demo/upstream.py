"""The services behind the clients, in a separate process.

In one process, clients and services slow each other down, and what is measured is the interpreter.

Parent and child exchange lines of JSON: the child sends its addresses, starts the outages at `start`, and sends the received
requests at the end of its input. If the parent dies, the input ends, and so does the child.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from types import TracebackType
from typing import IO, Self, cast

from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.errors import ResilienceError

MODULE = "resilience_kit.cli.demo.upstream"
START = "start\n"


class Upstream:
    """Equal services in a child process, one per client. Raises ChildProcessError if they cannot run."""

    def __init__(self, scenario: Scenario, count: int) -> None:
        arguments = json.dumps({"scenario": asdict(scenario), "count": count})
        self._child = subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
            [sys.executable, "-m", MODULE, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        try:
            self.urls = cast("list[str]", self._receive())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        with self._child:
            self._child.kill()

    def start(self) -> None:
        """Set time zero of every service to now."""
        self._send(START)
        self._receive()

    def finish(self) -> list[list[float]]:
        """Stop the services and return the arrival times of requests at each."""
        cast("IO[str]", self._child.stdin).close()
        return cast("list[list[float]]", self._receive())

    def _send(self, message: str) -> None:
        stdin = cast("IO[str]", self._child.stdin)
        stdin.write(message)
        stdin.flush()

    def _receive(self) -> object:
        encoded = cast("IO[str]", self._child.stdout).readline()
        reply = json.loads(encoded) if encoded else {"error": "the demo's services ended unexpectedly"}
        if isinstance(reply, dict):
            raise ChildProcessError(reply["error"])
        return reply


def serve(scenario: Scenario, count: int) -> None:
    """Run the child process."""
    with ExitStack() as stack:
        providers = [stack.enter_context(scenario.provider()) for _ in range(count)]
        _send_to_parent([provider.openai_url for provider in providers])
        for _ in iter(sys.stdin.readline, ""):
            for provider in providers:
                provider.restart_schedule()
            _send_to_parent([])
        _send_to_parent([[request.at for request in provider.requests] for provider in providers])


def _send_to_parent(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(encoded: str) -> None:
    """Serve; report a missing library to the parent. Ctrl-C is handled by the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    arguments = json.loads(encoded)
    try:
        serve(Scenario(**arguments["scenario"]), arguments["count"])
    except ResilienceError as error:
        _send_to_parent({"error": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])
