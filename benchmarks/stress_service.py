"""The joke service in a process of its own, and what the stress tests ask of it over HTTP."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import httpx
from stress import StressError, expect

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
AT_ONCE = 100
BASE_DELAY, JOB_TIMEOUT, CONCURRENCY = 0.2, 3.0, 10
#: The API's own limits are wide, so that what is seen is what the queue does.
SETTINGS = {
    "RETRY_BASE_DELAY": str(BASE_DELAY),
    "RETRY_MAX_DELAY": "5",
    "MAX_RETRIES": "8",
    "JOB_TIMEOUT": str(JOB_TIMEOUT),
    "WORKER_CONCURRENCY": str(CONCURRENCY),
    "POLL_INTERVAL": "0.1",
    "API_TIMEOUT": "30",
    "API_FAILURES": "1000",
    "API_RECOVERY_TIMEOUT": "1",
    "LOG_LEVEL": "warning",
}
ACCEPTED, OK = 202, 200
_OPEN_FILES, _IDLE = 4096, 2.0


class Service:
    """A running service. `pid`: its process. Every wait has an end."""

    def __init__(self, client: httpx.AsyncClient, pid: int) -> None:
        self.client, self.pid = client, pid

    async def submit(self, body: dict[str, Any] | None = None) -> tuple[int, float]:
        """Submit a job; return its id and the seconds that it took."""
        begun = perf_counter()
        answer = await self.client.post("/tasks/fetch-joke", json=body or {})
        expect(answer.status_code == ACCEPTED, f"a submission was answered with {answer.status_code}")
        return int(answer.json()["job_id"]), perf_counter() - begun

    async def get(self, path: str) -> Any:
        """Return a resource. Raises StressError when it is missing."""
        answer = await self.client.get(path)
        expect(answer.status_code == OK, f"{path} was answered with {answer.status_code}")
        return answer.json()

    async def fake_api(self, *, broken: bool = False, delay: float = 0.0) -> None:
        """Have the joke API answer 503, or take so long."""
        (await self.client.put("/fake-api", json={"broken": broken, "delay": delay})).raise_for_status()

    async def open_jobs(self) -> int:
        """Jobs that wait or run."""
        jobs = (await self.get("/stats"))["jobs"]
        return int(jobs["todo"] + jobs["doing"])

    async def drained(self, seconds: float = 300.0) -> float:
        """Wait until there are none; for how long."""
        begun = perf_counter()
        while left := await self.open_jobs():
            if perf_counter() - begun > seconds:
                raise StressError(f"{left} jobs have not ended in {seconds:g} s")
            await asyncio.sleep(0.1)
        return perf_counter() - begun

    async def jobs(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        """Each job with its runs."""
        return await at_once([lambda job_id=job_id: self.get(f"/jobs/{job_id}") for job_id in ids])  # type: ignore[misc]

    async def succeeded(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        """Return the jobs when all have succeeded."""
        jobs = await self.jobs(ids)
        others = [f"job {job['id']} is {job['status']}" for job in jobs if job["status"] != "succeeded"]
        expect(not others, f"{len(others)} of {len(jobs)} have not succeeded: {'; '.join(others[:3])}")
        return jobs

    def memory(self) -> float | None:
        """Resident megabytes, None where the system does not say so in /proc."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


async def at_once(calls: Iterable[Callable[[], Awaitable[T]]], limit: int = AT_ONCE) -> list[T]:
    """All of them, so many at a time."""
    places = asyncio.Semaphore(limit)

    async def held(call: Callable[[], Awaitable[T]]) -> T:
        async with places:
            return await call()

    return await asyncio.gather(*(held(call) for call in calls))


def at(text: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Address and process of one, with a PostgreSQL of its own, or that of DATABASE_URL. Told to stop at the end."""
    _many_connections()
    with tempfile.TemporaryDirectory(prefix="joke-service-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started by root, PostgreSQL is another user's
        where = {each: os.environ[each] for each in ("PATH", "DATABASE_URL") if each in os.environ}
        environment = {**where, "HOME": name, "JOBS_DATA_DIR": str(folder / "postgres"), **SETTINGS}
        command = [sys.executable, "-m", "examples.joke_service", "--port", "0"]
        with (folder / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(  # noqa: S603 - ours
                command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            yield _address(process, folder / "log"), process.pid
        finally:
            process.terminate()
            code = process.wait(30.0)
    expect(code == 0, f"the service ended with {code}")


def client_of(url: str) -> httpx.AsyncClient:
    """One that opens as many connections as are asked for, and closes them before the server does, which is after 5 s."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE, keepalive_expiry=_IDLE)
    return httpx.AsyncClient(base_url=url, timeout=30.0, limits=limits, trust_env=False)


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if " is on " in line:
            return line.partition(" is on ")[2].strip()
    raise StressError(f"the service did not start: {log.read_text(encoding='utf-8')[-2000:]}")


def _many_connections() -> None:
    """Raise the limit of open files, which a thousand connections exceed; the service inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
