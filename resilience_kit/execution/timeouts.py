"""Ends an await when its time is over, at a third of the cost of `asyncio.timeout`: one timer serves all calls of a loop.

A `Timeout` is one call's limit. The loop's `TimeoutScheduler` looks at all its cuts when the first is due, and at least every
`_TICK` seconds while there are any, so that its timer does not outlive the last call for longer than that. Ending works as in
`asyncio.timeout`: the task is cancelled, and the cancellation is taken back where the time-out is turned into an error, so a
cancellation by somebody else is told apart and goes its way.
"""

from __future__ import annotations

import asyncio
import math
import threading
from asyncio import current_task, get_running_loop
from threading import get_ident
from typing import Any

from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import Clock, Timer

_TICK = 0.25


class Timeout:
    """A limit on what the present task awaits, due at nanoseconds of the clock."""

    __slots__ = ("cancel_requests", "due_ns", "task")

    def __init__(self, due: int, task: asyncio.Task[Any]) -> None:
        self.due_ns, self.task, self.cancel_requests = due, task, task.cancelling()

    def uncancel(self) -> bool:
        """After it has fired: take its cancellation back, and tell whether it was the only one."""
        return self.task.uncancel() <= self.cancel_requests


class TimeoutScheduler:
    """The cuts of one event loop, in `pending` until they fire or their await is over. Used in the loop's thread only."""

    __slots__ = ("_timer", "armed_for", "clock", "loop", "pending")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop, self.clock = loop, clock
        self.pending: dict[Timeout, bool] = {}
        self.armed_for: float = math.inf
        self._timer: Timer | None = None

    def schedule(self, due_ns: int) -> Timeout:
        """Have the present task cancelled at `due_ns`, unless `over` is told before. asyncio runs nothing outside a task."""
        timeout = Timeout(due_ns, current_task(self.loop))  # type: ignore[arg-type]
        self.pending[timeout] = True
        if due_ns < self.armed_for:
            self.arm(due_ns)
        return timeout

    def finish(self, timeout: Timeout) -> bool:
        """End the await; return whether this timeout alone ended it, whose cancellation is then undone. Call it exactly once."""
        return not self.pending.pop(timeout, False) and timeout.uncancel()

    def arm(self, due_ns: int) -> None:
        """Look again at `due_ns`, or soon."""
        now = self.clock.nanoseconds()
        wait = min(max(0.0, (due_ns - now) * 1e-9), _TICK)
        if self._timer is not None:
            self._timer.cancel()
        self.armed_for = now + wait * 1e9
        self._timer = self.clock.call_later(wait, self._check_due)

    def _check_due(self) -> None:
        now = self.clock.nanoseconds()
        self._timer, self.armed_for = None, math.inf
        for timeout in [cut for cut in self.pending if cut.due_ns <= now]:
            self.loop.call_soon(self._fire, timeout)  # not here: who moves a clock by hand may be the very task, and has no await
        later = [cut.due_ns for cut in self.pending if cut.due_ns > now]
        if later:
            self.arm(min(later))

    def _fire(self, timeout: Timeout) -> None:
        if self.pending.pop(timeout, False):
            timeout.task.cancel()


class _ThreadState(threading.local):
    scheduler: TimeoutScheduler | None = None


_thread_state = _ThreadState()


class _ForgetsInheritedLoop:
    """A forked child is not in the loop that its parent was in."""

    def reset_after_fork(self) -> None:
        _thread_state.scheduler = None


_forgets = _ForgetsInheritedLoop()
register_fork_aware(_forgets)


def scheduler_for(clock: Clock) -> TimeoutScheduler:
    """Return the scheduler of the running loop.

    Python 3.11 asks the kernel for the process at each `get_running_loop`, which costs more than all the rest of a time-out.
    asyncio's own loops say in `_thread_id` which thread they run in (pinned in tests/test_upstream_contract.py); of others
    asyncio is asked.
    """
    scheduler = _thread_state.scheduler
    if scheduler is not None and scheduler.clock is clock and getattr(scheduler.loop, "_thread_id", None) == get_ident():
        return scheduler
    loop = get_running_loop()
    if scheduler is None or scheduler.loop is not loop or scheduler.clock is not clock:
        scheduler = _thread_state.scheduler = TimeoutScheduler(loop, clock)
    return scheduler


class OptionalTimeout:
    """A limit on one await that may be none at all."""

    __slots__ = ("_scheduler", "_timeout")

    def __init__(self, scheduler: TimeoutScheduler | None, due_ns: int) -> None:
        self._scheduler = scheduler
        self._timeout = None if scheduler is None else scheduler.schedule(due_ns)

    def finish(self) -> bool:
        """End the await; return whether this timeout alone ended it. Call it exactly once."""
        return self._scheduler is not None and self._timeout is not None and self._scheduler.finish(self._timeout)


_NO_TIMEOUT = OptionalTimeout(None, 0)


def timeout_at(clock: Clock, due_ns: int | None) -> OptionalTimeout:
    """Have the present task cancelled at `due_ns`, if ever, unless `over` is told before."""
    return _NO_TIMEOUT if due_ns is None else OptionalTimeout(scheduler_for(clock), due_ns)
