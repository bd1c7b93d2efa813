"""Decides whether there is room for one more call, and who gets the room that one leaves.

Room that becomes free goes to the head of the line at once, under the same lock: nobody who has just come can take it before.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from resilience_kit._checks import Checks
from resilience_kit._fork import renew_after_fork
from resilience_kit._turns import TINY, GuardLock, Line, Place, rouse
from resilience_kit.context import Priority, current_priority
from resilience_kit.errors import BulkheadFullError, GuardKind
from resilience_kit.outcome import SYSTEM_CLOCK, Clock, FailureKind, Outcome, Verdict
from resilience_kit.policies.bulkhead.adaptive import Finder
from resilience_kit.policies.bulkhead.options import BulkheadConfig


class BulkheadPermit:
    """Room for one call once the turn has come; `turn` is None when it had at once. See `Permit`."""

    __slots__ = ("_bulkhead", "decreases", "turn")

    wait = 0.0

    def __init__(self, bulkhead: Bulkhead, turn: Place | None, decreases: int) -> None:
        self._bulkhead, self.turn, self.decreases = bulkhead, turn, decreases

    def settle(self, outcome: Outcome) -> None:
        """Make room, or leave the line."""
        self._bulkhead.settle(self, outcome)


class Bulkhead:
    """Room for a number of calls, and a line of waiting callers; a `Guard`. Thread-safe: threads and event loops share it."""

    kind = GuardKind.BULKHEAD

    def __init__(self, config: BulkheadConfig, name: str = "bulkhead", clock: Clock = SYSTEM_CLOCK) -> None:
        checks = Checks("Bulkhead")
        checks.instance("config", config, BulkheadConfig)
        checks.provides("clock", clock, "monotonic")
        checks.done()
        self.name, self.config, self._clock = name, config, clock
        self._refused_as = name
        self._finder = None if config.adaptive is None else Finder(config.adaptive, config.max_concurrent)
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, nobody who waits and no call under way."""
        self._guarded = GuardLock()
        self._lock = self._guarded.lock
        self._line = Line(len(Priority))
        self.in_use = 0

    @property
    def limit(self) -> int:
        """Calls that may be under way at once, now."""
        return self.config.max_concurrent if self._finder is None else self._finder.limit

    def absorbs(self, verdict: Verdict) -> bool:
        """Whether an overload is answered here, by fewer calls at once, so that it is no reason to call nobody at all."""
        return self._finder is not None and verdict.kind is FailureKind.OVERLOADED and self._finder.can_fall

    @property
    def waiting(self) -> int:
        """Callers in the line."""
        return self._line.length

    def admit(self, cost: float = 1.0) -> BulkheadPermit:  # noqa: ARG002 - a call takes one room, whatever it costs
        """Leave to start, perhaps with a turn to wait for; raises `BulkheadFullError`."""
        with self._lock:
            if not self._line.length and self.in_use < self.limit:
                self.in_use += 1
                return BulkheadPermit(self, None, self._decreases)
            displaced = self._make_place()
            permit = BulkheadPermit(self, self._join(), 0)
        rouse([displaced])
        return permit

    def fits(self, cost: float = 1.0) -> bool:  # noqa: ARG002 - see `admit`
        """Whether a call could start at once."""
        with self._lock:
            return not self._line.length and self.in_use < self.limit

    @property
    def _decreases(self) -> int:
        return 0 if self._finder is None else self._finder.decreases

    def _make_place(self) -> Place | None:
        """Under the lock: somebody of a lower priority who has to go, where the line is full."""
        most = self.config.max_queue
        if most is None or self._line.length < most:
            return None
        least = self._line.least(current_priority.get())
        if least is None:
            raise BulkheadFullError(self._refused_as)
        self._line.leave(least)
        least.gone = True
        return least

    def _join(self) -> Place:
        wait = self.config.max_wait
        place = Place(self, current_priority.get(), until=None if wait is None else self._clock.monotonic() + wait)
        self._line.join(place)
        return place

    def settle(self, permit: BulkheadPermit, outcome: Outcome) -> None:
        """See `BulkheadPermit.settle`."""
        if self._guarded.is_mine():
            self._guarded.put_off(functools.partial(self.settle, permit, outcome))
            return
        with self._lock:
            turn = permit.turn
            if turn is not None and not turn.come:
                self._give_up(turn)
            if turn is not None and turn.gone:
                return
            if self._finder is not None and outcome.begun:
                full = self._line.length > 0 or self.in_use >= self._finder.limit
                self._finder.hear(outcome, permit.decreases if turn is None else turn.stamp, in_use=full)
            self.in_use = max(0, self.in_use - 1)  # a forked child may end a call that it has inherited
            following = list(self._let_in())
        rouse(following)

    def _give_up(self, place: Place) -> None:
        self._line.leave(place)
        place.gone = True

    def _let_in(self) -> Iterator[Place]:
        """Under the lock: give free room to who is next."""
        while self.in_use < self.limit and (place := self._line.head()) is not None:
            self._line.leave(place)
            self.in_use += 1
            place.come, place.stamp = True, self._decreases
            yield place

    # --- a caller in the line ---------------------------------------------------------------------------------------------

    def look(self, place: Place) -> float | None:
        """See `Turn.look`."""
        with self._lock:
            if place.come and not place.gone:
                return 0.0
            if place.gone or (place.until is not None and self._clock.monotonic() >= place.until - TINY):
                raise BulkheadFullError(self._refused_as)
            return None

    def claim(self, place: Place) -> None:
        """Nobody knows when room becomes free, so no time is named that could be slept."""

    def leave(self, place: Place) -> None:
        """Give up a place, whether its turn has come or not."""
        with self._lock:
            if place.gone:
                return
            self._give_up(place)
            if not place.come:
                return
            self.in_use -= 1
            following = list(self._let_in())
        rouse(following)

    def patience_of(self, place: Place) -> float | None:
        """See `Turn.patience`."""
        return None if place.until is None else max(0.0, place.until - self._clock.monotonic())

    def refusal(self, place: Place) -> BulkheadFullError:  # noqa: ARG002 - the same for everybody
        """See `Turn.refusal`."""
        return BulkheadFullError(self._refused_as)
