"""A fake clock for tests of code that waits.

Time may jump when the event loop's queue of ready callbacks is empty. That says nothing about sockets, processes and other
threads, which the loop merely waits for: a test that uses those turns `auto_advance` off and advances the time itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Final

from resilience_kit._checks import Checks
from resilience_kit.clock import wait_for_future

_SECOND: Final = 1_000_000_000
#: Real seconds between two checks of a thread that waits both for other threads and for the time.
_POLL: Final = 0.001


class _ScheduledCallback:
    """A callback that is due at `due` nanoseconds, in `loop`."""

    __slots__ = ("_callback", "_context", "_handle", "due", "loop", "number")

    def __init__(self, due: int, number: int, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self.due, self.number, self.loop = due, number, loop
        self._callback: Callable[[], object] | None = callback
        self._context = contextvars.copy_context()
        self._handle: asyncio.Handle | None = None

    def __lt__(self, other: _ScheduledCallback) -> bool:
        return (self.due, self.number) < (other.due, other.number)

    @property
    def is_pending(self) -> bool:
        """Return whether it is still to be run."""
        return self._callback is not None

    def cancel(self) -> None:
        """Cancel the callback; does nothing after it has run."""
        self._callback = None
        if self._handle is not None:
            self._handle.cancel()

    def fire(self) -> None:
        """Run the callback: now when this is its loop's thread, else as soon as the loop gets to it."""
        callback, self._callback = self._callback, None
        if callback is None or self.loop.is_closed():
            return
        if self.loop is _loop_of_this_thread():
            self._run(callback)
        else:
            self._handle = self.loop.call_soon_threadsafe(callback, context=self._context)

    def _run(self, callback: Callable[[], object]) -> None:
        try:
            self._context.run(callback)
        except Exception as error:  # noqa: BLE001 - goes where a loop sends what its own timers raise
            self.loop.call_exception_handler({"message": "a timer of FakeClock failed", "exception": error})


class FakeClock:
    """A clock whose time passes only when it is advanced, or when all tasks wait for it. Implements `Clock`.

    Also callable, for parameters that take a function of seconds: `CircuitBreaker(clock=clock)`. `start` is in seconds.

    With `auto_advance` a plain `sleep` advances the time by itself, and when no task of the event loop can run, time jumps to
    the earliest sleeper or timer. Only asyncio's own loops can do that, and one loop at a time. Without it, sleepers in threads
    and tasks wait until the test calls `advance` or `advance_async`.

    `sleeps` lists the seconds of every requested sleep, in order. Thread-safe.
    """

    def __init__(self, start: float = 0.0, *, auto_advance: bool = True) -> None:
        _check_seconds("start", start)
        self.sleeps: list[float] = []
        self._auto = auto_advance
        self._now = _nanoseconds(start)
        self._moved = threading.Condition()
        self._queue: list[_ScheduledCallback] = []
        self._numbers = itertools.count()
        self._watched: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def __call__(self) -> float:
        """Return the seconds, as `monotonic`."""
        return self.monotonic()

    def monotonic(self) -> float:
        """Return the seconds on the clock, which begin at `start`."""
        return self._now / _SECOND

    def nanoseconds(self) -> int:
        """Return the time in nanoseconds, exactly."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Advance the time by `seconds`; without `auto_advance` block until another thread has done so."""
        self.sleeps.append(seconds)
        wake = self._now + _nanoseconds(seconds)
        if self._auto:
            self._advance_to(wake)
        else:
            with self._moved:
                self._moved.wait_for(lambda: self._now >= wake)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task for `seconds`; zero still lets other tasks run."""
        self.sleeps.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: _wake(woken))
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> _ScheduledCallback:
        """Run `callback` in the running loop when `seconds` have passed."""
        loop = asyncio.get_running_loop()
        if self._auto:
            self._watch(loop)
        with self._moved:
            entry = _ScheduledCallback(self._now + _nanoseconds(seconds), next(self._numbers), loop, callback)
            heapq.heappush(self._queue, entry)
        return entry

    def wait(self, event: threading.Event, sleep: float | None, timeout: float | None) -> bool:
        """Block until `event` is set or the time is reached; with `auto_advance` time advances by itself, as in `sleep`.

        A wait without a limit blocks for other threads, in real time.
        """
        if sleep is not None:
            self.sleeps.append(sleep)
        seconds = timeout if sleep is None else sleep
        if seconds is None:
            return event.wait()
        wake = self._now + _nanoseconds(seconds)
        if self._auto:
            self._advance_to(wake, event)
        while not event.wait(0.0 if self._now >= wake else _POLL):
            if self._now >= wake:
                return False
        return True

    async def wait_async(self, future: asyncio.Future[bool], sleep: float | None, timeout: float | None) -> bool:  # noqa: ASYNC109 - the clock implements it
        """Suspend this task until `future` has a result, or until the time is reached."""
        if sleep is not None:
            self.sleeps.append(sleep)
        return await wait_for_future(self, future, timeout if sleep is None else sleep)

    def advance(self, seconds: float) -> None:
        """Advance the time by `seconds` and run what becomes due, each at its own time and in order.

        A woken task runs after all `seconds` have passed, when its loop gets to it; `advance_async` lets it run on time.
        """
        _check_seconds("advance", seconds)
        self._advance_to(self._now + _nanoseconds(seconds))

    async def advance_async(self, seconds: float) -> None:
        """Advance like `advance`, but let woken tasks run until they wait again before time goes on. For one task at a time."""
        _check_seconds("advance_async", seconds)
        loop = asyncio.get_running_loop()
        target = self._now + _nanoseconds(seconds)
        await _run_until_idle(loop)
        while (entry := self._next_due(target)) is not None:
            entry.fire()
            await _run_until_idle(loop)

    def _advance_to(self, target: int, woken: threading.Event | None = None) -> None:
        while (woken is None or not woken.is_set()) and (entry := self._next_due(target)) is not None:
            entry.fire()

    def _next_due(self, target: int) -> _ScheduledCallback | None:
        """Advance to the next entry up to `target` and return it; without one advance to `target` and return None."""
        with self._moved:
            self._discard_cancelled()
            entry = heapq.heappop(self._queue) if self._queue and self._queue[0].due <= target else None
            self._now = max(self._now, target if entry is None else entry.due)
            self._moved.notify_all()
        return entry

    def _discard_cancelled(self) -> None:
        while self._queue and not self._queue[0].is_pending:
            heapq.heappop(self._queue)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if not hasattr(loop, "_ready"):
            raise RuntimeError("FakeClock can advance by itself in asyncio's own event loops only; use auto_advance=False")
        if loop not in self._watched:
            self._watched.add(loop)
            loop.call_soon(self._check_idle, loop)

    def _check_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        """Jump when nothing else can run; check again in the loop's next iteration while a task waits for this clock."""
        if not self._is_awaited_in(loop):
            self._watched.discard(loop)
            return
        if _idle(loop):
            self._advance_to_next()
        loop.call_soon(self._check_idle, loop)

    def _is_awaited_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        with self._moved:
            return any(entry.loop is loop and entry.is_pending for entry in self._queue)

    def _advance_to_next(self) -> None:
        with self._moved:
            self._discard_cancelled()
            due = self._queue[0].due
        self._advance_to(due)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * _SECOND))


def _check_seconds(name: str, seconds: object) -> None:
    checks = Checks("FakeClock")
    checks.seconds(name, seconds, zero=True)
    checks.raise_if_any()


def _loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _idle(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether nothing is ready to run in `loop` except the checks of fake clocks."""
    return all(_is_idle_check(handle) for handle in tuple(getattr(loop, "_ready", ())))


def _is_idle_check(handle: asyncio.Handle) -> bool:
    return getattr(getattr(handle, "_callback", None), "__func__", None) is FakeClock._check_idle  # noqa: SLF001 - its own module


async def _run_until_idle(loop: asyncio.AbstractEventLoop) -> None:
    await asyncio.sleep(0)
    while not _idle(loop):  # noqa: ASYNC110 - a loop has no event for being idle
        await asyncio.sleep(0)
