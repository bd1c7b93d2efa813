"""Decides whether there is room for one more call, and who gets the room that one leaves.

Room that becomes free goes to the head of the line at once, under the same lock: nobody who has just come can take it before.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from resilience_kit._checks import Checks
from resilience_kit._fork import register_fork_aware
from resilience_kit._wait_queue import EPSILON, DeferringLock, Waiter, WaitQueue, wake_all
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.context import Priority, current_priority
from resilience_kit.errors import BulkheadFullError, GuardKind
from resilience_kit.outcome import FailureKind, Outcome, Verdict
from resilience_kit.policies.bulkhead.adaptive import AIMDLimit
from resilience_kit.policies.bulkhead.options import BulkheadConfig


class BulkheadPermit:
    """Room for one call once the turn has come; `turn` is None when it had at once. See `Permit`."""

    __slots__ = ("_bulkhead", "decreases", "turn")

    wait = 0.0

    def __init__(self, bulkhead: Bulkhead, turn: Waiter | None, decreases: int) -> None:
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
        checks.has_methods("clock", clock, "monotonic")
        checks.raise_if_any()
        self.name, self.config, self._clock = name, config, clock
        self._reported_name = name
        self._adaptive_limit = None if config.adaptive is None else AIMDLimit(config.adaptive, config.max_concurrent)
        self.reset_after_fork()
        register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, nobody who waits and no call under way."""
        self._deferring_lock = DeferringLock()
        self._lock = self._deferring_lock.lock
        self._queue = WaitQueue(len(Priority))
        self.in_use = 0

    @property
    def limit(self) -> int:
        """Calls that may be under way at once, now."""
        return self.config.max_concurrent if self._adaptive_limit is None else self._adaptive_limit.limit

    def absorbs(self, verdict: Verdict) -> bool:
        """Whether an overload is answered here, by fewer calls at once, so that it is no reason to call nobody at all."""
        return self._adaptive_limit is not None and verdict.kind is FailureKind.OVERLOADED and self._adaptive_limit.above_minimum

    @property
    def waiting(self) -> int:
        """Callers in the line."""
        return self._queue.length

    def admit(self, cost: float = 1.0) -> BulkheadPermit:  # noqa: ARG002 - a call takes one room, whatever it costs
        """Leave to start, perhaps with a turn to wait for; raises `BulkheadFullError`."""
        with self._lock:
            if not self._queue.length and self.in_use < self.limit:
                self.in_use += 1
                return BulkheadPermit(self, None, self._decreases)
            displaced = self._displace_lowest()
            permit = BulkheadPermit(self, self._enqueue(), 0)
        wake_all([displaced])
        return permit

    def fits(self, cost: float = 1.0) -> bool:  # noqa: ARG002 - see `admit`
        """Whether a call could start at once."""
        with self._lock:
            return not self._queue.length and self.in_use < self.limit

    @property
    def _decreases(self) -> int:
        return 0 if self._adaptive_limit is None else self._adaptive_limit.decreases

    def _displace_lowest(self) -> Waiter | None:
        """Under the lock: somebody of a lower priority who has to go, where the line is full."""
        most = self.config.max_queue
        if most is None or self._queue.length < most:
            return None
        lowest = self._queue.lowest_priority_waiter(current_priority.get())
        if lowest is None:
            raise BulkheadFullError(self._reported_name)
        self._queue.remove(lowest)
        lowest.cancelled = True
        return lowest

    def _enqueue(self) -> Waiter:
        wait = self.config.max_wait
        waiter = Waiter(self, current_priority.get(), expires_at=None if wait is None else self._clock.monotonic() + wait)
        self._queue.append(waiter)
        return waiter

    def settle(self, permit: BulkheadPermit, outcome: Outcome) -> None:
        """See `BulkheadPermit.settle`."""
        if self._deferring_lock.held_by_current_thread():
            self._deferring_lock.defer(functools.partial(self.settle, permit, outcome))
            return
        with self._lock:
            ticket = permit.turn
            if ticket is not None and not ticket.granted:
                self._cancel(ticket)
            if ticket is not None and ticket.cancelled:
                return
            if self._adaptive_limit is not None and outcome.begun:
                full = self._queue.length > 0 or self.in_use >= self._adaptive_limit.limit
                self._adaptive_limit.on_outcome(outcome, permit.decreases if ticket is None else ticket.epoch, in_use=full)
            self.in_use = max(0, self.in_use - 1)  # a forked child may end a call that it has inherited
            following = list(self._grant())
        wake_all(following)

    def _cancel(self, waiter: Waiter) -> None:
        self._queue.remove(waiter)
        waiter.cancelled = True

    def _grant(self) -> Iterator[Waiter]:
        """Under the lock: give free room to who is next."""
        while self.in_use < self.limit and (waiter := self._queue.head()) is not None:
            self._queue.remove(waiter)
            self.in_use += 1
            waiter.granted, waiter.epoch = True, self._decreases
            yield waiter

    # --- a caller in the line ---------------------------------------------------------------------------------------------

    def look(self, waiter: Waiter) -> float | None:
        """See `Turn.look`."""
        with self._lock:
            if waiter.granted and not waiter.cancelled:
                return 0.0
            if waiter.cancelled or (waiter.expires_at is not None and self._clock.monotonic() >= waiter.expires_at - EPSILON):
                raise BulkheadFullError(self._reported_name)
            return None

    def claim(self, waiter: Waiter) -> None:
        """Nobody knows when room becomes free, so no time is named that could be slept."""

    def leave(self, waiter: Waiter) -> None:
        """Give up a place, whether its turn has come or not."""
        with self._lock:
            if waiter.cancelled:
                return
            self._cancel(waiter)
            if not waiter.granted:
                return
            self.in_use -= 1
            following = list(self._grant())
        wake_all(following)

    def patience_of(self, waiter: Waiter) -> float | None:
        """See `Turn.patience`."""
        return None if waiter.expires_at is None else max(0.0, waiter.expires_at - self._clock.monotonic())

    def refusal(self, waiter: Waiter) -> BulkheadFullError:  # noqa: ARG002 - the same for everybody
        """See `Turn.refusal`."""
        return BulkheadFullError(self._reported_name)
