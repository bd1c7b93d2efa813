"""Time and turns of a simulated world: a clock that moves by itself, and an event loop that touches no selector.

Whatever is ready runs in an order that the world's dice decide (`Order`), since asyncio promises none between tasks. Only when
nothing is ready does the time move, at once, to the next timer.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
import threading
from asyncio import events
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from types import coroutine
from typing import Any, Literal

SECOND = 1_000_000_000

Order = Literal["random", "oldest first", "newest first"]


def nanoseconds(seconds: float) -> int:
    """The whole nanoseconds nearest to `seconds`, at least none."""
    return max(0, round(seconds * SECOND))


class Turn:
    """A callback that is to run once."""

    __slots__ = ("args", "callback", "cancelled", "context")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self.callback, self.args = callback, args
        self.context = contextvars.copy_context() if context is None else context
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Virtual time in whole nanoseconds; the kit's `Clock`. `on_sleep` hears of each pause that the kit makes, and of its end."""

    def __init__(self, on_sleep: Callable[[float], Callable[[BaseException | None], None]]) -> None:
        self.now = 100 * SECOND
        #: When the time last moved for another reason than a timer.
        self.pushed = self.now
        self.loop: Loop | None = None
        self._on_sleep = on_sleep
        #: Called in the midst of each blocking sleep; may raise, as a signal's handler may.
        self.interrupt: Callable[[], None] = _nothing

    def monotonic(self) -> float:
        return self.now / SECOND

    def nanoseconds(self) -> int:
        return self.now

    def push(self, seconds: float) -> None:
        """Time that passes while something runs: a machine that is busy, or was suspended."""
        self.now += nanoseconds(seconds)
        self.pushed = self.now

    def sleep(self, seconds: float) -> None:
        ended = self._on_sleep(seconds)
        try:
            self.interrupt()
            self.push(seconds)
        except BaseException as error:
            ended(error)
            raise
        ended(None)

    async def sleep_async(self, seconds: float) -> None:
        ended = self._on_sleep(seconds)
        assert self.loop is not None
        try:
            await self.loop.pause(seconds)
        except BaseException as error:
            ended(error)
            raise
        ended(None)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Turn:
        assert self.loop is not None
        return self.loop.call_later(seconds, callback)

    def wait(self, event: threading.Event, sleep: float | None, timeout: float | None) -> bool:
        raise AssertionError("no simulated guard has a queue")

    async def wait_async(self, future: asyncio.Future[bool], sleep: float | None, timeout: float | None) -> bool:  # noqa: ASYNC109 - the clock is what keeps it
        raise AssertionError("no simulated guard has a queue")


class Loop(asyncio.AbstractEventLoop):
    """The part of an event loop that tasks, futures and the kit ask for. `steps` counts the turns taken."""

    def __init__(self, clock: Clock, order: Order, dice: Callable[[], float], *, looks_like_asyncio: bool) -> None:
        self.clock, self.steps = clock, 0
        clock.loop = self
        self.complaints: list[dict[str, Any]] = []
        self._order, self._dice = order, dice
        self._ready: list[Turn] = []
        self._timers: list[tuple[int, int, Turn]] = []
        self._timers_made = 0
        if looks_like_asyncio:
            self._thread_id = threading.get_ident()

    # --- what asyncio asks for -------------------------------------------------------------------------------------------

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def time(self) -> float:
        return self.clock.monotonic()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **_: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.complaints.append(context)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Turn:  # type: ignore[override]  # a lighter handle
        turn = Turn(callback, args, context)
        self._ready.append(turn)
        return turn

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Turn:  # type: ignore[override]  # as above
        return self._at(self.clock.now + nanoseconds(delay), Turn(callback, args, context))

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Turn:  # type: ignore[override]  # as above
        return self._at(nanoseconds(when), Turn(callback, args, context))

    def _at(self, due: int, turn: Turn) -> Turn:
        self._timers_made += 1
        heapq.heappush(self._timers, (due, self._timers_made, turn))
        return turn

    # --- what the world asks for -----------------------------------------------------------------------------------------

    async def pause(self, seconds: float) -> None:
        """Suspend the present task; zero still gives the turn away."""
        if seconds <= 0.0:
            await give_way()
            return
        woken = self.create_future()
        timer = self.call_later(seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            del woken  # a future keeps its cancellation, whose frames would keep the future

    @property
    def timers(self) -> int:
        """How many timers are to run still."""
        return sum(not turn.cancelled for _, _, turn in self._timers)

    def run(self, after: Callable[[], None]) -> None:
        """Take turns until nothing is left to run; `after` each of them the world is looked at."""
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._close)
        events._set_running_loop(self)
        try:
            while self._ready or self._move():
                turn = self._next()
                if not turn.cancelled:
                    self.steps += 1
                    turn.context.run(turn.callback, *turn.args)
                    after()
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*before)

    def _next(self) -> Turn:
        ready = self._ready
        if self._order == "random":
            place = int(self._dice() * len(ready))
            turn, ready[place] = ready[place], ready[-1]
            ready.pop()
            return turn
        return ready.pop(0 if self._order == "oldest first" else -1)

    def _move(self) -> bool:
        """Let time pass to the next timer, if there is one; whatever is due then is ready."""
        timers, clock = self._timers, self.clock
        while timers and timers[0][2].cancelled:
            heapq.heappop(timers)
        if not timers:
            return False
        clock.now = max(clock.now, timers[0][0])
        while timers and timers[0][0] <= clock.now:
            self._ready.append(heapq.heappop(timers)[2])
        return True

    def _close(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An async generator that nobody holds any more, as in asyncio's own loops."""
        self.call_soon(self.create_task, generator.aclose())


def _nothing() -> None:
    pass


@coroutine
def give_way() -> Any:
    """Let others run."""
    yield


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
