"""The clock of guards and drivers: a protocol, and the machine's own. Nothing else in the package reads time or sleeps."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that is due later and can be called off."""

    def cancel(self) -> None:
        """Call it off; nothing happens when it has run."""
        ...


class Clock(Protocol):
    """Where time comes from. Only intervals are meaningful: the zero is arbitrary."""

    def monotonic(self) -> float:
        """Seconds; never goes back."""
        ...

    def nanoseconds(self) -> int:
        """Return a finer monotonic reading, for latencies."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run `callback` on the running event loop after `seconds`."""
        ...

    def wait(self, event: threading.Event, sleep: float | None, timeout: float | None) -> bool:
        """Block this thread until `event` is set, for `sleep` seconds or, where that is None, `timeout` seconds at most.

        Tells whether it was woken. A `sleep` is one as in `sleep`; `timeout` is how long something may take.
        """
        ...

    async def wait_async(self, future: asyncio.Future[bool], sleep: float | None, timeout: float | None) -> bool:  # noqa: ASYNC109 - the clock is what keeps it
        """Suspend this task as `wait` blocks a thread; the waker sets the result to True."""
        ...


class SystemClock:
    """The machine's monotonic clock.

    `time.monotonic`, `time.sleep` and `asyncio.sleep` are read when used, so that whoever patches them is obeyed.

    `waiting = False` on an instance makes every sleep return at once (the switch behind `resilience_kit.testing.no_waiting`).
    """

    __slots__ = ("sleep_enabled",)

    def __init__(self) -> None:
        self.sleep_enabled = True

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    nanoseconds = staticmethod(time.perf_counter_ns)

    def sleep(self, seconds: float) -> None:
        """`time.sleep`, but not at all for zero, which would cost a context switch."""
        if seconds > 0.0 and self.sleep_enabled:
            time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """`asyncio.sleep`; zero still lets other tasks run."""
        await asyncio.sleep(seconds if self.sleep_enabled else 0.0)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Use the running loop's own `call_later`."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    def wait(self, event: threading.Event, sleep: float | None, timeout: float | None) -> bool:
        """`Event.wait`; with `waiting = False` no sleep lasts, but whoever has to be woken is waited for."""
        if sleep is not None and not self.sleep_enabled:
            sleep = 0.0
        return event.wait(timeout if sleep is None else sleep)

    async def wait_async(self, future: asyncio.Future[bool], sleep: float | None, timeout: float | None) -> bool:  # noqa: ASYNC109 - the clock is what keeps it
        """Wait for the future in the running loop."""
        if sleep is not None and not self.sleep_enabled:
            sleep = 0.0
        return await wait_for_future(self, future, timeout if sleep is None else sleep)


def resolve_future(future: asyncio.Future[bool], *, result: bool) -> None:
    """Set the result of `future`, unless it has one or nobody waits for it any more."""
    if not future.done():
        future.set_result(result)


async def wait_for_future(clock: Clock, future: asyncio.Future[bool], seconds: float | None) -> bool:
    """Whether somebody else sets the result of `future` within `seconds`."""
    timer = None if seconds is None else clock.call_later(seconds, lambda: resolve_future(future, result=False))
    try:
        return await future
    finally:
        if timer is not None:
            timer.cancel()


SYSTEM_CLOCK = SystemClock()
