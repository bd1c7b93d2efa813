"""Ends an await when its time is over, at a third of the cost of `asyncio.timeout`: one timer serves all calls of a loop.

A `Cut` is one call's limit. The loop's `Cutter` looks at all its cuts when the first is due, and at least every `_TICK`
seconds while there are any, so that its timer does not outlive the last call for longer than that. Ending works as in
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

from resilience_kit._fork import renew_after_fork
from resilience_kit.outcome import Clock, Timer

_TICK = 0.25


class Cut:
    """A limit on what the present task awaits, due at nanoseconds of the clock."""

    __slots__ = ("cancels", "due", "task")

    def __init__(self, due: int, task: asyncio.Task[Any]) -> None:
        self.due, self.task, self.cancels = due, task, task.cancelling()

    def take_back(self) -> bool:
        """After it has fired: take its cancellation back, and tell whether it was the only one."""
        return self.task.uncancel() <= self.cancels


class Cutter:
    """The cuts of one event loop, in `live` until they fire or their await is over. Used in the loop's thread only."""

    __slots__ = ("_timer", "armed_for", "clock", "live", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop, self.clock = loop, clock
        self.live: dict[Cut, bool] = {}
        self.armed_for: float = math.inf
        self._timer: Timer | None = None

    def watch(self, due: int) -> Cut:
        """Have the present task cancelled at `due`, unless `over` is told before. asyncio runs nothing outside a task."""
        cut = Cut(due, current_task(self.loop))  # type: ignore[arg-type]
        self.live[cut] = True
        if due < self.armed_for:
            self.arm(due)
        return cut

    def over(self, cut: Cut) -> bool:
        """The await has ended: whether by this cut alone, whose cancellation is then taken back. Call it exactly once."""
        return not self.live.pop(cut, False) and cut.take_back()

    def arm(self, due: int) -> None:
        """Look again at `due`, or soon."""
        now = self.clock.nanoseconds()
        wait = min(max(0.0, (due - now) * 1e-9), _TICK)
        if self._timer is not None:
            self._timer.cancel()
        self.armed_for = now + wait * 1e9
        self._timer = self.clock.call_later(wait, self._look)

    def _look(self) -> None:
        now = self.clock.nanoseconds()
        self._timer, self.armed_for = None, math.inf
        for cut in [cut for cut in self.live if cut.due <= now]:
            self.loop.call_soon(self._fire, cut)  # not here: who moves a clock by hand may be the very task, and has no await
        later = [cut.due for cut in self.live if cut.due > now]
        if later:
            self.arm(min(later))

    def _fire(self, cut: Cut) -> None:
        if self.live.pop(cut, False):
            cut.task.cancel()


class _Here(threading.local):
    cutter: Cutter | None = None


_here = _Here()


class _ForgetsInheritedLoop:
    """A forked child is not in the loop that its parent was in."""

    def renew_after_fork(self) -> None:
        _here.cutter = None


_forgets = _ForgetsInheritedLoop()
renew_after_fork(_forgets)


def cutter_for(clock: Clock) -> Cutter:
    """The cutter of the running loop.

    Python 3.11 asks the kernel for the process at each `get_running_loop`, which costs more than all the rest of a time-out.
    asyncio's own loops say in `_thread_id` which thread they run in (pinned in tests/test_upstream_contract.py); of others
    asyncio is asked.
    """
    cutter = _here.cutter
    if cutter is not None and cutter.clock is clock and getattr(cutter.loop, "_thread_id", None) == get_ident():
        return cutter
    loop = get_running_loop()
    if cutter is None or cutter.loop is not loop or cutter.clock is not clock:
        cutter = _here.cutter = Cutter(loop, clock)
    return cutter


class Limit:
    """A limit on one await that may be none at all."""

    __slots__ = ("_cut", "_cutter")

    def __init__(self, cutter: Cutter | None, due: int) -> None:
        self._cutter = cutter
        self._cut = None if cutter is None else cutter.watch(due)

    def over(self) -> bool:
        """The await has ended: whether by this limit alone. Call it exactly once."""
        return self._cutter is not None and self._cut is not None and self._cutter.over(self._cut)


_UNLIMITED = Limit(None, 0)


def limited(clock: Clock, due: int | None) -> Limit:
    """Have the present task cancelled at `due`, if ever, unless `over` is told before."""
    return _UNLIMITED if due is None else Limit(cutter_for(clock), due)
