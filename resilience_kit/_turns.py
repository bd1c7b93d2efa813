"""Places in a queue: who comes next, by priority and then by arrival, and how a waiting caller hears of it.

A line belongs to a guard, which decides. Everything here but `Place.rouse`, which runs foreign code, happens under that guard's
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
TINY = 1e-9


class GuardLock:
    """A guard's lock, and what a thread that is at work under it may not do before it is done.

    The collector ends a stream or a coroutine that nobody holds any more wherever it happens to run: also under this lock, in
    whose midst a settlement would find half of a change. Such a one is `put_off`.
    """

    __slots__ = ("_left", "is_mine", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Whether this thread is at work under it.
        self.is_mine: Callable[[], bool] = self.lock._is_owned  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition
        self._left: deque[Callable[[], object]] = deque()

    def put_off(self, work: Callable[[], object]) -> None:
        """Have another thread do it, which waits for the lock. None starts when the interpreter ends."""
        self._left.append(work)
        if len(self._left) == 1:
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._catch_up, name="resilience_kit settles", daemon=True).start()

    def _catch_up(self) -> None:
        with self.lock:  # what more comes meanwhile needs no thread of its own
            pass
        with contextlib.suppress(IndexError):  # which one thread meets when another has done the rest
            while True:
                self._left.popleft()()


class LineOwner(Protocol):
    """A guard with a line. Each of these takes its lock."""

    def look(self, place: Place) -> float | None:
        """See `Turn.look`."""
        ...

    def claim(self, place: Place) -> None:
        """See `Turn.claim`."""
        ...

    def leave(self, place: Place) -> None:
        """Give up a place, whether its turn has come or not."""
        ...

    def patience_of(self, place: Place) -> float | None:
        """See `Turn.patience`."""
        ...

    def refusal(self, place: Place) -> Rejected:
        """See `Turn.refusal`."""
        ...


class Place:
    """A caller's `Turn` in the line of a guard. `come`, `gone` and `stamp` are the guard's, under its lock."""

    __slots__ = ("_news", "_owner", "_wake", "come", "costs", "expected", "gone", "level", "stamp", "until")

    def __init__(
        self, owner: LineOwner, level: int, costs: Sequence[float] = (), until: float | None = None, expected: float | None = None
    ) -> None:
        self._owner, self.level, self.costs, self.until, self.expected = owner, level, costs, until, expected
        self.come = self.gone = self._news = False
        self.stamp = 0
        self._wake: Callable[[], object] | None = None

    @property
    def patience(self) -> float | None:
        """See `Turn.patience`."""
        return self._owner.patience_of(self)

    def look(self) -> float | None:
        """See `Turn.look`."""
        self._news = False
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
        if self._news:
            wake()

    def rouse(self) -> None:
        """Tell the caller that another look is worth while. One whose event loop is gone loses the place."""
        self._news = True
        wake = self._wake
        if wake is None:
            return
        try:
            wake()
        except RuntimeError:  # asyncio's word for a loop that is closed
            self._owner.leave(self)


def rouse(places: Sequence[Place | None]) -> None:
    """Wake several callers, outside of every lock."""
    for place in places:
        if place is not None:
            place.rouse()


class Line:
    """Waiting callers: those of a higher priority go first, and of the same those who came first."""

    __slots__ = ("_levels", "length")

    def __init__(self, levels: int) -> None:
        self._levels: Sequence[OrderedDict[Place, None]] = [OrderedDict() for _ in range(levels)]
        self.length = 0

    def join(self, place: Place) -> None:
        """Come last of the same priority."""
        self._levels[place.level][place] = None
        self.length += 1

    def leave(self, place: Place) -> None:
        """Those behind move up. Nothing happens when the place is gone."""
        if place in self._levels[place.level]:
            del self._levels[place.level][place]
            self.length -= 1

    def head(self) -> Place | None:
        """Who is next."""
        waiting = next((level for level in reversed(self._levels) if level), None)
        return None if waiting is None else next(iter(waiting))

    def places(self) -> Iterator[Place]:
        """All of them, who is next first."""
        for level in reversed(self._levels):
            yield from level

    def least(self, below: int) -> Place | None:
        """The last one of the lowest priority, if that is below a given one: who is refused first."""
        waiting = next((level for level in self._levels[:below] if level), None)
        return None if waiting is None else next(reversed(waiting))
