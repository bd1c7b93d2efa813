"""Places in a queue: who comes next, by priority and then by arrival, and how a waiting caller hears of it.

A line belongs to a guard, which decides. Everything here but `Waiter.rouse`, which runs foreign code, happens under that guard's
lock; a place is woken after the lock is released.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from resilience_kit.errors import Rejected

#: Seconds below which a wait is none: what is left over when times are added up.
EPSILON = 1e-9


class DeferringLock:
    """A guard's lock, and what a thread that is at work under it may not do before it is done.

    The collector ends a stream or a coroutine that nobody holds any more wherever it happens to run: also under this lock, in
    whose midst a settlement would find half of a change. Such a one is `defer`.
    """

    __slots__ = ("_deferred", "held_by_current_thread", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Whether this thread is at work under it.
        self.held_by_current_thread: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition
        self._deferred: deque[Callable[[], object]] = deque()

    def defer(self, work: Callable[[], object]) -> None:
        """Have another thread do it, which waits for the lock. None starts when the interpreter ends."""
        self._deferred.append(work)
        if len(self._deferred) == 1:
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._run_deferred, name="resilience_kit settles", daemon=True).start()

    def _run_deferred(self) -> None:
        with self.lock:  # what more comes meanwhile needs no thread of its own
            pass
        with contextlib.suppress(IndexError):  # which one thread meets when another has done the rest
            while True:
                self._deferred.popleft()()


class QueueOwner(Protocol):
    """A guard with a line. Each of these takes its lock."""

    def look(self, waiter: Waiter) -> float | None:
        """See `Turn.look`."""
        ...

    def claim(self, waiter: Waiter) -> None:
        """See `Turn.claim`."""
        ...

    def leave(self, waiter: Waiter) -> None:
        """Give up a place, whether its turn has come or not."""
        ...

    def patience_of(self, waiter: Waiter) -> float | None:
        """See `Turn.patience`."""
        ...

    def refusal(self, waiter: Waiter) -> Rejected:
        """See `Turn.refusal`."""
        ...


class Waiter:
    """A caller's `Turn` in the line of a guard. `granted`, `cancelled` and `epoch` are the guard's, under its lock."""

    __slots__ = ("_notified", "_owner", "_wake", "cancelled", "costs", "epoch", "expected", "expires_at", "granted", "priority")

    def __init__(
        self,
        owner: QueueOwner,
        priority: int,
        costs: Sequence[float] = (),
        expires_at: float | None = None,
        estimated_wait: float | None = None,
    ) -> None:
        self._owner, self.priority, self.costs, self.expires_at, self.expected = (
            owner,
            priority,
            costs,
            expires_at,
            estimated_wait,
        )
        self.granted = self.cancelled = self._notified = False
        self.epoch = 0
        self._wake: Callable[[], object] | None = None

    @property
    def patience(self) -> float | None:
        """See `Turn.patience`."""
        return self._owner.patience_of(self)

    def look(self) -> float | None:
        """See `Turn.look`."""
        self._notified = False
        return self._owner.look(self)

    def claim(self) -> None:
        """See `Turn.claim`."""
        self._owner.claim(self)

    def refusal(self) -> Rejected:
        """See `Turn.refusal`."""
        return self._owner.refusal(self)

    def wake_by(self, wake: Callable[[], object]) -> None:
        """See `Turn.wake_by`. `rouse` writes and reads in the opposite order, so that one of the two sees the other."""
        self._wake = wake
        if self._notified:
            wake()

    def wake(self) -> None:
        """Tell the caller that another look is worth while. One whose event loop is gone loses the place."""
        self._notified = True
        wake = self._wake
        if wake is None:
            return
        try:
            wake()
        except RuntimeError:  # asyncio's word for a loop that is closed
            self._owner.leave(self)


def wake_all(waiters: Sequence[Waiter | None]) -> None:
    """Wake several callers, outside of every lock."""
    for waiter in waiters:
        if waiter is not None:
            waiter.wake()


class WaitQueue:
    """Waiting callers: those of a higher priority go first, and of the same those who came first."""

    __slots__ = ("_by_priority", "length")

    def __init__(self, priorities: int) -> None:
        self._by_priority: Sequence[OrderedDict[Waiter, None]] = [OrderedDict() for _ in range(priorities)]
        self.length = 0

    def append(self, waiter: Waiter) -> None:
        """Come last of the same priority."""
        self._by_priority[waiter.priority][waiter] = None
        self.length += 1

    def remove(self, waiter: Waiter) -> None:
        """Those behind move up. Nothing happens when the place is gone."""
        if waiter in self._by_priority[waiter.priority]:
            del self._by_priority[waiter.priority][waiter]
            self.length -= 1

    def head(self) -> Waiter | None:
        """Who is next."""
        waiting = next((level for level in reversed(self._by_priority) if level), None)
        return None if waiting is None else next(iter(waiting))

    def waiters(self) -> Iterator[Waiter]:
        """All of them, who is next first."""
        for level in reversed(self._by_priority):
            yield from level

    def lowest_priority_waiter(self, below: int) -> Waiter | None:
        """Return the last waiter of the lowest priority below a given one: the first to be rejected."""
        waiting = next((level for level in self._by_priority[:below] if level), None)
        return None if waiting is None else next(reversed(waiting))
