"""Runs coroutines, a number of them at a time."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Literal, Self, TypeVar, overload

from resilience_kit._callable_kinds import is_awaitable
from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK
from resilience_kit.errors import GuardKind, Rejected
from resilience_kit.execution.waiting import wait_for_ticket_async
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.bulkhead import Bulkhead, BulkheadConfig, BulkheadPermit

T = TypeVar("T")
R = TypeVar("R")

_DONE = Outcome(OutcomeKind.SUCCESS)
_NOT_STARTED = Outcome(OutcomeKind.CANCELLED, begun=False)


class BulkheadSemaphore(asyncio.Semaphore):
    """A bulkhead as asyncio's semaphore: the same room, so that it holds for guards in other loops and threads, too."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self._bulkhead = bulkhead
        self._taken: list[BulkheadPermit] = []

    @property
    def _value(self) -> int:  # type: ignore[override]  # asyncio's name, which its users look at
        return max(0, self._bulkhead.limit - self._bulkhead.in_use)

    def locked(self) -> bool:
        """Whether a caller would have to wait."""
        return not self._bulkhead.fits()

    async def acquire(self) -> Literal[True]:
        """Wait for room."""
        permit = self._bulkhead.admit()
        try:
            while permit.turn is not None and (pause := permit.turn.look()) != 0.0:
                await wait_for_ticket_async(permit.turn, SYSTEM_CLOCK, math.inf if pause is None else pause, None)
        except BaseException:
            permit.settle(_NOT_STARTED)
            raise
        self._taken.append(permit)
        return True

    def release(self) -> None:
        """Make room for somebody. Raises ValueError when nobody has taken any."""
        if not self._taken:
            raise ValueError("the semaphore was released more often than acquired")
        self._taken.pop().settle(_DONE)

    def __repr__(self) -> str:
        return f"<BulkheadSemaphore: {self._value} of {self._bulkhead.limit} free, {self._bulkhead.waiting} waiting>"


class AsyncExecutor:
    """At most `max_concurrency` calls at a time (None: any number), first come, first served. Also a `Guard`.

    As a guard it may be shared by threads and event loops; `execute`, `map` and `shutdown` belong to one event loop.
    """

    kind = GuardKind.BULKHEAD

    def __init__(self, max_concurrency: int | None = None, *, name: str = "executor") -> None:
        if max_concurrency is not None:
            checks = Checks("AsyncExecutor")
            checks.integer("max_concurrency", max_concurrency, 1)
            checks.raise_if_any()
        self.name, self.max_concurrency = name, max_concurrency
        self._bulkhead = Bulkhead(BulkheadConfig(max_concurrent=max_concurrency or sys.maxsize), name)
        self.semaphore = None if max_concurrency is None else BulkheadSemaphore(self._bulkhead)
        self._active_tasks: dict[int, asyncio.Task[Any]] = {}
        self._closed = False

    def admit(self, cost: float = 1.0) -> BulkheadPermit:
        """Leave to start, perhaps with a turn to wait for."""
        return self._bulkhead.admit(cost)

    def fits(self, cost: float = 1.0) -> bool:
        """Whether a call could start at once."""
        return self._bulkhead.fits(cost)

    @overload
    async def execute(self, f: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R: ...

    @overload
    async def execute(self, f: Callable[..., R], *args: Any, **kwargs: Any) -> R: ...

    async def execute(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for room, then call `f`, async or plain. Raises `Rejected` when the executor is, or is being, shut down."""
        self._reject_when_closed()
        task = asyncio.ensure_future(self._run(f, args, kwargs))
        self._active_tasks[id(task)] = task
        try:
            return await task
        except asyncio.CancelledError:
            if self._closed and task.cancelled() and not _is_being_cancelled():
                raise Rejected(self.name).attribute_to(self.name, self.kind) from None
            raise
        finally:
            self._active_tasks.pop(id(task), None)

    def _reject_when_closed(self) -> None:
        if self._closed:
            raise Rejected(self.name).attribute_to(self.name, self.kind)

    async def _run(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.semaphore is None:
            return await _call(f, args, kwargs)
        async with self.semaphore:
            return await _call(f, args, kwargs)

    @overload
    async def map(self, f: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]: ...

    @overload
    async def map(self, f: Callable[[T], R], items: Iterable[T]) -> list[R]: ...

    async def map(self, f: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
        """Return the results for all items, in their order. The first error ends the others and is raised.

        No more items are taken from the iterable than are worked on.
        """
        return await map_concurrently(self.execute, f, items, self.max_concurrency)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the contract's name
        """Take no more calls, let those under way end within `timeout` seconds (None: however long), and cancel the rest.

        Within a call, that one is not waited for.
        """
        checks = Checks("AsyncExecutor")
        checks.optional_seconds("timeout", timeout, zero=True)
        checks.raise_if_any()
        self._closed = True
        tasks = [task for task in self._active_tasks.values() if task is not asyncio.current_task()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()


async def map_concurrently(
    execute: Callable[..., Awaitable[Any]], f: Callable[[T], Any], items: Iterable[T], max_tasks: int | None
) -> list[Any]:
    """`execute(f, item)` for each item, by at most so many tasks; the answers in order."""
    answers: dict[int, Any] = {}
    remaining, workers = enumerate(items), list[asyncio.Task[None]]()
    try:
        for each in islice(remaining, max_tasks):
            workers.append(asyncio.ensure_future(_work(execute, f, chain([each], remaining), answers)))
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [answers[number] for number in range(len(answers))]


async def _work(
    execute: Callable[..., Awaitable[Any]], f: Callable[[T], Any], items: Iterator[tuple[int, T]], answers: dict[int, Any]
) -> None:
    for number, item in items:
        answers[number] = await execute(f, item)


async def _call(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = f(*args, **kwargs)
    return await result if is_awaitable(result) else result


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
