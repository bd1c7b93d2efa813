"""Drivers of measurement plans: one makes plain calls, the other one awaits them.

A plan is a generator: it yields a number of calls and is sent the nanoseconds that they took. It decides; a driver calls. An
error of the function passes through the driver, which closes the plan, so that the plan's `finally` blocks restore everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import closing
from itertools import repeat
from typing import Any, TypeVar, cast

from resilience_kit._callable_kinds import CallableKind, kind_of, needs_driving

T = TypeVar("T")
#: Yields how many calls to make, is sent the nanoseconds that they took, returns what it found out.
MeasurementPlan = Generator[int, Any, T]
#: Returns monotonic nanoseconds.
Timer = Callable[[], int]


def drive(plan: MeasurementPlan[T], f: Callable[[], object], timer: Timer) -> T:
    """Run a plan with calls of a plain function. Raises TypeError when a call returns something still to be awaited."""
    took: int | None = None
    with closing(plan):
        while True:
            try:
                calls = plan.send(took)
            except StopIteration as end:
                return cast("T", end.value)
            took = _call(f, calls, timer)


async def drive_async(plan: MeasurementPlan[T], f: Callable[[], object], timer: Timer) -> T:
    """Run a plan with calls of a function of either kind; an async one is awaited, one call after the other."""
    asynchronous = is_async(f)
    took: int | None = None
    with closing(plan):
        while True:
            try:
                calls = plan.send(took)
            except StopIteration as end:
                return cast("T", end.value)
            took = (
                await _await(cast("Callable[[], Awaitable[object]]", f), calls, timer) if asynchronous else _call(f, calls, timer)
            )


def is_async(f: Callable[[], object]) -> bool:
    """Return whether a function is async. Raises TypeError for what is neither a plain nor an async function."""
    kind = kind_of(f) if callable(f) else None
    if kind not in {CallableKind.SYNC, CallableKind.ASYNC}:
        raise TypeError(f"a benchmark calls a plain or an async function, got {kind.value if kind else type(f).__name__}")
    return kind is CallableKind.ASYNC


def _call(f: Callable[[], object], calls: int, timer: Timer) -> int:
    result: object = None
    began = timer()
    for _ in repeat(None, calls):
        result = f()
    took = timer() - began
    if needs_driving(result):
        reject_unfinished(result)
    return took


async def _await(f: Callable[[], Awaitable[object]], calls: int, timer: Timer) -> int:
    began = timer()
    for _ in repeat(None, calls):
        await f()
    return timer() - began


def reject_unfinished(result: object) -> None:
    """Raise TypeError for a result that is still to be awaited: the time of such a call is meaningless."""
    if isinstance(result, Coroutine):
        result.close()
    raise TypeError(
        f"the function gave {type(result).__name__!r}, whose work is not done yet; "
        "give the async function itself (or functools.partial of it), not a function that calls it"
    )
