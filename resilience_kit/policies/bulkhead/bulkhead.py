"""Limits concurrent calls and queues the rest.

A freed slot is granted to the head of the queue at once, under the same lock: a new call cannot overtake it.
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
    """A slot for one call, held or queued for; `turn` is None if it was free at once. See `Permit`."""

    __slots__ = ("_bulkhead", "decreases", "turn")

    wait = 0.0

    def __init__(self, bulkhead: Bulkhead, turn: Waiter | None, decreases: int) -> None:
        self._bulkhead, self.turn, self.decreases = bulkhead, turn, decreases

    def settle(self, outcome: Outcome) -> None:
        """Free the slot, or leave the queue."""
        self._bulkhead.settle(self, outcome)


class Bulkhead:
    """A limit of concurrent calls with a queue; a `Guard`. Thread-safe: threads and event loops can share it."""

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
        """Start with a new lock, an empty queue and no calls in flight in a forked child."""
        self._deferring_lock = DeferringLock()
        self._lock = self._deferring_lock.lock
        self._queue = WaitQueue(len(Priority))
        self.in_use = 0

    @property
    def limit(self) -> int:
        """Return the number of concurrent calls allowed now."""
        return self.config.max_concurrent if self._adaptive_limit is None else self._adaptive_limit.limit

    def absorbs(self, verdict: Verdict) -> bool:
        """Return whether an overload lowers this limit, so that the breaker need not count it as a failure."""
        return self._adaptive_limit is not None and verdict.kind is FailureKind.OVERLOADED and self._adaptive_limit.above_minimum

    @property
    def waiting(self) -> int:
        """Return the number of queued calls."""
        return self._queue.length

    def admit(self, cost: float = 1.0) -> BulkheadPermit:  # noqa: ARG002 - a call takes one slot, whatever its cost
        """Take a slot or join the queue. Raises `BulkheadFullError`."""
        with self._lock:
            if not self._queue.length and self.in_use < self.limit:
                self.in_use += 1
                return BulkheadPermit(self, None, self._decreases)
            displaced = self._displace_lowest()
            permit = BulkheadPermit(self, self._enqueue(), 0)
        wake_all([displaced])
        return permit

    def fits(self, cost: float = 1.0) -> bool:  # noqa: ARG002 - see `admit`
        """Return whether a call could start at once."""
        with self._lock:
            return not self._queue.length and self.in_use < self.limit

    @property
    def _decreases(self) -> int:
        return 0 if self._adaptive_limit is None else self._adaptive_limit.decreases

    def _displace_lowest(self) -> Waiter | None:
        """Remove a waiter of a lower priority from a full queue and return it, if there is one. Requires the lock."""
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
        """Free the slot of a permit, or leave the queue; see `BulkheadPermit.settle`."""
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
            self.in_use = max(0, self.in_use - 1)  # a forked child may settle an inherited call
            following = list(self._grant())
        wake_all(following)

    def _cancel(self, waiter: Waiter) -> None:
        self._queue.remove(waiter)
        waiter.cancelled = True

    def _grant(self) -> Iterator[Waiter]:
        """Grant free slots to the next waiters, which the caller wakes. Requires the lock."""
        while self.in_use < self.limit and (waiter := self._queue.head()) is not None:
            self._queue.remove(waiter)
            self.in_use += 1
            waiter.granted, waiter.epoch = True, self._decreases
            yield waiter

    # --- a waiter in the queue --------------------------------------------------------------------------------------------

    def look(self, waiter: Waiter) -> float | None:
        """Return 0.0 once a slot is granted, else None; see `Turn.look`. Raises `BulkheadFullError`."""
        with self._lock:
            if waiter.granted and not waiter.cancelled:
                return 0.0
            if waiter.cancelled or (waiter.expires_at is not None and self._clock.monotonic() >= waiter.expires_at - EPSILON):
                raise BulkheadFullError(self._reported_name)
            return None

    def claim(self, waiter: Waiter) -> None:
        """Do nothing: `look` never returns a time to sleep, since no slot is freed at a known time."""

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue, or free the slot if it was granted."""
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
        """Return the seconds until a waiter expires; see `Turn.patience`."""
        return None if waiter.expires_at is None else max(0.0, waiter.expires_at - self._clock.monotonic())

    def refusal(self, waiter: Waiter) -> BulkheadFullError:  # noqa: ARG002 - the same for all
        """Return the error of a waiter that gives up; see `Turn.refusal`."""
        return BulkheadFullError(self._reported_name)
