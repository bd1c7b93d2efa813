"""A switch that removes the kit's waits, for tests of code that uses it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from resilience_kit._callable_kinds import CallableKind, kind_of
from resilience_kit._checks import Checks
from resilience_kit.clock import SYSTEM_CLOCK

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_users = 0


class NoWaiting:
    """Makes every sleep of the system's clock end at once while any block is entered. See `no_waiting`."""

    def __enter__(self) -> None:
        _count(1)

    def __exit__(self, *_: object) -> None:
        _count(-1)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function`, plain or async, with no waits while it runs."""
        wrapper = _WRAPPERS.get(kind_of(function))
        if wrapper is None:
            checks = Checks("no_waiting")
            checks.add("function", "must be a function or an async function", function)
            checks.raise_if_any()
        return cast("Callable[P, R]", functools.update_wrapper(cast("Any", wrapper)(self, function), function))


def no_waiting() -> NoWaiting:
    """Make every wait between attempts, and every wait of a guard, end at once.

        with no_waiting(): ...
        @no_waiting()
        async def test_summary(): ...

    Applies to the whole process, all threads and tasks included, until the last block is left. Operations with a clock of their
    own are not affected. Time itself goes on: deadlines, timeouts and open circuits take as long as ever; a `FakeClock`
    advances those.
    """
    return NoWaiting()


def _count(change: int) -> None:
    global _users  # noqa: PLW0603 - the switch is process-wide
    with _lock:
        _users += change
        SYSTEM_CLOCK.sleep_enabled = _users == 0


def _wrap_sync(switch: NoWaiting, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with switch:
            return function(*args, **kwargs)

    return wrapper


def _wrap_async(switch: NoWaiting, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with switch:
            return await function(*args, **kwargs)

    return wrapper


_WRAPPERS = {CallableKind.SYNC: _wrap_sync, CallableKind.ASYNC: _wrap_async}
