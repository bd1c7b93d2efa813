"""The joke service in a process of its own, for the tests that speak to it over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).parent.parent
QUICK = {"RETRY_BASE_DELAY": "0.2", "POLL_INTERVAL": "0.05", "API_RECOVERY_TIMEOUT": "1"}


class JokeServer:
    """`with JokeServer(folder, DATABASE_URL=...) as server`: `server.url`, `server.log()`. `database`: wait for it."""

    def __init__(self, folder: Path, *, database: bool = True, **environment: str) -> None:
        self._database = database
        self._log = folder / "joke-service.log"
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **QUICK, **environment}

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "examples.joke_service", "--port", "0"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            until(self._says_where)
            self.url = self.log().partition(" is on ")[2].split()[0].rstrip("/")
            self.client = httpx.Client(base_url=self.url, timeout=20.0, trust_env=False)
            until(self._answers)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()

    def stop(self) -> int:
        """Tell it to end, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(25)
        finally:
            self.process.kill()

    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _says_where(self) -> bool:
        assert self.process.poll() is None, self.log()
        return " is on " in self.log()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            status = self.client.get("/health" if self._database else "/nothing").status_code
        except httpx.TransportError:
            return False
        return status != 503

    def submit(self, body: Any = None, **headers: str) -> int:
        """The id of a job that was taken in."""
        answer = self.client.post("/tasks/fetch-joke", json={} if body is None else body, headers=headers)
        assert 202 == answer.status_code, answer.text
        return answer.json()["job_id"]

    def job(self, job_id: int) -> dict[str, Any]:
        """What is known of it."""
        return self.client.get(f"/jobs/{job_id}").raise_for_status().json()

    def ended(self, job_id: int, seconds: float = 20.0) -> dict[str, Any]:
        """The same when it has ended."""
        return until(lambda: job if (job := self.job(job_id))["status"] in {"succeeded", "failed"} else None, seconds)

    def break_api(self, *, broken: bool = True, delay: float = 0.0) -> None:
        """Break the joke API, or heal it."""
        self.client.put("/fake-api", json={"broken": broken, "delay": delay}).raise_for_status()


def until(happened: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `happened` gives, as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found
