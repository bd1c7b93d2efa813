"""The application that the tests of jobs run in processes of their own, with settings from the environment."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from procrastinate import JobContext

from resilience_kit.jobs import make_app

app = make_app()
MARKS = Path(os.environ.get("MARKS", "."))


@app.task(name="mark", pass_context=True)
async def mark(context: JobContext, seconds: float = 0.0) -> None:
    """Leave a mark at the start and at the end."""
    (MARKS / f"{context.job.id}-start-{time.time_ns()}").touch()
    await asyncio.sleep(seconds)
    (MARKS / f"{context.job.id}-end-{time.time_ns()}").touch()


@app.task(name="poison", pass_context=True)
async def poison(context: JobContext) -> None:
    """Kill the worker."""
    (MARKS / f"{context.job.id}-start-{time.time_ns()}").touch()
    os._exit(9)


@app.task(name="freeze", pass_context=True)
async def freeze(context: JobContext, seconds: float) -> None:
    """Hold the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - on purpose


@app.task(name="secret")
async def secret(token: str) -> str:
    """Fail with what it was given, then return it."""
    if not (MARKS / "failed").exists():
        (MARKS / "failed").touch()
        raise ValueError(token)
    return token


@app.task(name="wrong")
async def wrong(token: str) -> None:
    """Fail with what it was given, always."""
    raise ValueError(token)
