"""Concurrency: how much faster the same calls are at once, in threads for plain functions, in tasks for async ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from resilience_kit._callable_kinds import needs_driving
from resilience_kit.bench.measure.driving import Timer, reject_unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyResult:
    """`calls` calls made sequentially, and again by `workers` concurrently. `mode`: "threads" or "tasks"; times in seconds."""

    name: str
    mode: str
    workers: int
    calls: int
    sequential_seconds: float
    concurrent_seconds: float

    @property
    def speedup(self) -> float:
        """Return how many times faster the concurrent calls were; 1.0 when neither took any time."""
        return self.sequential_seconds / self.concurrent_seconds if self.concurrent_seconds else 1.0

    @property
    def efficiency(self) -> float:
        """Return the speed-up as a share of the workers, 1.0 at best."""
        return self.speedup / self.workers


def in_threads(f: Callable[[], object], workers: int, each: int, timer: Timer) -> float:
    """Return the seconds from the first call's start to the last one's end, with `each` calls in every thread.

    The threads start together. Raises the first error of a thread, after the current calls of the other threads have ended.
    """
    barrier, stop = threading.Barrier(workers), threading.Event()

    def work() -> tuple[int, int]:
        barrier.wait()
        began = timer()
        try:
            for _ in repeat(None, each):
                _reject_unfinished(f())
                if stop.is_set():
                    break
        except BaseException:
            stop.set()
            raise
        return began, timer()

    with ThreadPoolExecutor(workers, thread_name_prefix="bench") as pool:
        try:
            running = [pool.submit(work) for _ in range(workers)]
        except BaseException:  # a thread that could not be started would be waited for
            barrier.abort()
            raise
        times = [future.result() for future in running]
    return (max(end for _, end in times) - min(began for began, _ in times)) / 1e9


def _reject_unfinished(result: object) -> None:
    if needs_driving(result):
        reject_unfinished(result)


async def in_tasks(f: Callable[[], Awaitable[object]], workers: int, each: int, timer: Timer) -> float:
    """Return the same with tasks of the running loop. The first error cancels the other tasks and is raised."""

    async def work() -> None:
        for _ in repeat(None, each):
            await f()

    began = timer()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return (timer() - began) / 1e9
