"""The buckets of a rate limiter and the queue before them, under one lock."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Final, cast

from resilience_kit._fork import register_fork_aware
from resilience_kit._wait_queue import EPSILON, DeferringLock, Waiter, WaitQueue, wake_all
from resilience_kit.clock import Clock
from resilience_kit.context import Priority, current_priority
from resilience_kit.errors import RateLimitExceededError
from resilience_kit.policies.rate_limit.bucket import TokenBucket
from resilience_kit.policies.rate_limit.consumption import CostClass, size_class
from resilience_kit.policies.rate_limit.options import RateLimitConfig

#: Seconds of wake-up delay that are credited: while calls are queued, a bucket may exceed its burst by as much.
_WAKEUP_SLACK: Final = 0.05
#: Maximum number of cost classes; the oldest is dropped first.
_MAX_CLASSES: Final = 128


class RateLimitWaiter(Waiter):
    """A call in the queue of a rate limiter."""

    __slots__ = ("cost_class",)

    def __init__(
        self,
        pool: TokenBuckets,
        cost_class: CostClass,
        costs: Sequence[float],
        *,
        expires_at: float | None,
        estimated_wait: float,
    ) -> None:
        super().__init__(pool, current_priority.get(), costs, expires_at, estimated_wait)  # type: ignore[arg-type]  # its own places
        self.cost_class = cost_class


class TokenBuckets:
    """The buckets and the queue, under one lock."""

    def __init__(self, configs: Sequence[RateLimitConfig], name: str, clock: Clock) -> None:
        self._name, self._clock = name, clock
        now = clock.monotonic()
        self.buckets = [TokenBucket(config.rate / config.period, config.capacity, now) for config in configs]
        self._single_bucket = self.buckets[0] if len(self.buckets) == 1 else None
        self._max_wait = min((config.max_wait for config in configs if config.max_wait is not None), default=None)
        self._cost_classes: dict[Hashable, CostClass] = {}
        #: The class of calls whose estimates are exact.
        self.exact_class = CostClass([False] * len(self.buckets), len(Priority))
        self._active_classes: dict[CostClass, None] = {}
        self.reset_after_fork()
        register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Start with a new lock and an empty queue in a forked child."""
        self.deferring_lock = DeferringLock()
        self.lock = self.deferring_lock.lock
        self.queue = WaitQueue(len(Priority))
        for each in self._active_classes:
            each.drop_calls()
        self._active_classes = {}

    def refill(self) -> float:
        """Refill the buckets and return the time. Requires the lock."""
        now = self._clock.monotonic()
        slack = _WAKEUP_SLACK if self.queue.length else 0.0
        for bucket in self.buckets:
            bucket.refill(now, slack)
        return now

    def debit(self, costs: Sequence[float]) -> None:
        """Take costs, into debt if necessary. Requires the lock."""
        for bucket, cost in zip(self.buckets, costs, strict=True):
            bucket.level -= cost

    def seconds_until(self, costs: Sequence[float]) -> float:
        """Return the seconds until these costs are available, ignoring the queue. Requires the lock."""
        return max(bucket.seconds_until(cost) for bucket, cost in zip(self.buckets, costs, strict=True))

    def cost_class_of(self, rule_key: Hashable, has_usage: Sequence[bool], costs: Sequence[float]) -> CostClass:
        """Return the class of a call by its cost functions and the size of its estimates."""
        key = (rule_key, size_class(costs, has_usage))
        found = self._cost_classes.get(key)
        if found is None:
            with self.lock:
                if len(self._cost_classes) >= _MAX_CLASSES:
                    del self._cost_classes[next(iter(self._cost_classes))]
                found = self._cost_classes.setdefault(key, CostClass(has_usage, len(Priority)))
        return found

    def fits(self, costs: Sequence[float]) -> bool:
        """Return whether a call could start at once."""
        with self.lock:
            self.refill()
            return not self.queue.length and self.seconds_until(costs) <= EPSILON

    def set_level(self, level: float) -> None:
        """Set the level of the first bucket, and grant the waiters that it allows."""
        with self.lock:
            self.refill()
            self.buckets[0].level = level
            moved = list(self._grant())
        wake_all(moved)

    def try_take(self, cost: float) -> bool:
        """Take from the first bucket all of `cost` or nothing; never into debt, and never ahead of the queue."""
        with self.lock:
            return not self.queue.length and self.buckets[0].try_take(self._clock.monotonic(), cost)

    def reserve(self, cost: float) -> float:
        """Take from the first bucket at once, into debt and ahead of the queue; return the seconds until it is paid."""
        bucket = self.buckets[0]
        with self.lock:
            if bucket.try_take(self._clock.monotonic(), cost):
                return 0.0
            bucket.level -= cost
            return bucket.seconds_until(0.0)

    def take_or_enqueue(self, costs: Sequence[float], cost_class: CostClass) -> RateLimitWaiter | None:
        """Take `costs`, or join the queue. Raises `RateLimitExceededError` if the wait would exceed max_wait."""
        only = self._single_bucket
        with self.lock:
            if only is None or self.queue.length or not only.try_take(self._clock.monotonic(), costs[0]):
                now = self.refill()
                if self.queue.length or self.seconds_until(costs) > EPSILON:
                    return self._enqueue(costs, cost_class, now)
                self.debit(costs)
            if cost_class.reports_usage:
                cost_class.on_start(costs)
                self._active_classes[cost_class] = None
            return None

    def _enqueue(self, costs: Sequence[float], cost_class: CostClass, now: float) -> RateLimitWaiter:
        priority = current_priority.get()
        expected = self._estimated_wait(costs, priority)
        if self._max_wait is not None and expected > self._max_wait + EPSILON:
            raise RateLimitExceededError(self._name, self._estimated_wait(costs, priority, worst_case=True))
        until = None if self._max_wait is None else now + self._max_wait
        waiter = RateLimitWaiter(self, cost_class, costs, expires_at=until, estimated_wait=expected)
        self.queue.append(waiter)
        cost_class.enqueue(priority, costs)
        self._active_classes[cost_class] = None
        return waiter

    # --- predicted waits --------------------------------------------------------------------------------------------------

    def _estimated_wait(self, costs: Sequence[float], priority: int, *, worst_case: bool = False) -> float:
        """Return the predicted seconds until a new call may start, by the usage so far. Requires the lock.

        If the usage of the calls ahead is unknown, it is a lower bound; with `worst_case` an upper bound.
        """
        ahead = [
            sum(each.queued_cost(number, priority, worst_case=worst_case) for each in self._active_classes)
            for number in range(len(costs))
        ]
        return self._wait_behind(ahead, costs, self._expected_refunds(worst_case=worst_case))

    def _expected_refunds(self, *, worst_case: bool) -> Sequence[float]:
        return [
            sum(each.expected_refund(number, worst_case=worst_case) for each in self._active_classes)
            for number in range(len(self.buckets))
        ]

    def _wait_behind(self, ahead: Sequence[float], costs: Sequence[float], refunds: Sequence[float]) -> float:
        """Return the seconds until `costs` are available after `ahead`. Requires the lock.

        Refunds come when calls end, so they are not expected before the mean duration of a call.
        """
        duration = max((each.duration for each in self._active_classes), default=0.0)
        longest = 0.0
        for bucket, cost, before, refund in zip(self.buckets, costs, ahead, refunds, strict=True):
            seconds = bucket.seconds_until(cost, before - refund)
            if refund > 0.0:
                seconds = max(seconds, min(duration, bucket.seconds_until(cost, before)))
            longest = max(longest, seconds)
        return longest

    def _update_estimates(self) -> Sequence[RateLimitWaiter]:
        """Predict the waits again by new evidence. Return the waiters, which the caller wakes. Requires the lock."""
        ahead, refunds = [0.0] * len(self.buckets), self._expected_refunds(worst_case=False)
        waiters = cast("Sequence[RateLimitWaiter]", [*self.queue.waiters()])
        for waiter in waiters:
            waiter.expected = self._wait_behind(ahead, waiter.costs, refunds)
            ahead = [units + waiter.cost_class.expected_use(number, waiter.costs[number]) for number, units in enumerate(ahead)]
        return waiters

    # --- a waiter in the queue --------------------------------------------------------------------------------------------

    def look(self, waiter: RateLimitWaiter) -> float | None:
        """Return the seconds until `waiter` may start, if it is the head of the queue; see `Turn.look`.

        None for the others, and for a head that has to wait for refunds since its bucket fills too late for it.
        """
        with self.lock:
            if waiter.granted:
                return 0.0
            now = self.refill()
            seconds = self.seconds_until(waiter.costs) if self.queue.head() is waiter else math.inf
            if seconds > EPSILON:
                soonest, latest = 0.0, math.inf if waiter.expires_at is None else waiter.expires_at + EPSILON
                if seconds < math.inf:
                    refunds = self._expected_refunds(worst_case=False)
                    soonest = waiter.expected = min(seconds, self._wait_behind([0.0] * len(refunds), waiter.costs, refunds))
                if waiter.cancelled or now + max(soonest, 2 * EPSILON) > latest:
                    raise self._rejection(waiter)
                return seconds if seconds < math.inf and now + seconds <= latest else None
            moved = list(self._grant())
        wake_all(moved)
        return 0.0

    def claim(self, waiter: RateLimitWaiter) -> None:
        """Grant the head of the queue after its sleep; see `Turn.claim`. A clock that lags leaves a debt."""
        with self.lock:
            if waiter.granted or self.queue.head() is not waiter:
                return
            self.refill()
            self._grant_one(waiter)
            moved = list(self._grant())
        wake_all(moved)

    def _grant(self) -> Iterator[RateLimitWaiter]:
        """Grant waiters while the buckets allow. Yield them and the new head, which the caller wakes. Requires the lock."""
        while isinstance(waiter := self.queue.head(), RateLimitWaiter):
            yield waiter
            if self.seconds_until(waiter.costs) > EPSILON:
                return
            self._grant_one(waiter)

    def _grant_one(self, waiter: RateLimitWaiter) -> None:
        self.debit(waiter.costs)
        waiter.granted = True
        if waiter.cost_class.reports_usage:
            waiter.cost_class.on_start(waiter.costs)
        self._remove(waiter)

    def _remove(self, waiter: RateLimitWaiter) -> None:
        self.queue.remove(waiter)
        waiter.cost_class.dequeue(waiter.priority, waiter.costs)
        if not waiter.cost_class.calls:
            self._active_classes.pop(waiter.cost_class, None)

    def cancel(self, waiter: RateLimitWaiter) -> bool:
        """Cancel a waiter that was not granted; return whether it is cancelled."""
        with self.lock:
            if waiter.granted or waiter.cancelled:
                return waiter.cancelled
            self.refill()
            was_head = self.queue.head() is waiter
            self._remove(waiter)
            waiter.cancelled = True
            moved = list(self._grant()) if was_head else []
        wake_all(moved)
        return True

    def leave(self, waiter: RateLimitWaiter) -> None:
        """Leave the queue, or refund the costs if they were granted."""
        if not self.cancel(waiter):
            waiter.cancelled = True
            if waiter.cost_class.reports_usage:
                self.settle(waiter.costs, (0.0,) * len(waiter.costs), waiter.cost_class, None)
            else:
                self.refund(waiter.costs)

    def patience_of(self, waiter: RateLimitWaiter) -> float | None:
        """Return the seconds until a waiter expires; see `Turn.patience`."""
        return None if waiter.expires_at is None else max(0.0, waiter.expires_at - self._clock.monotonic())

    def refusal(self, waiter: RateLimitWaiter) -> RateLimitExceededError:
        """Return the error of a waiter that gives up; see `Turn.refusal`."""
        with self.lock:
            self.refill()
            return self._rejection(waiter)

    def _rejection(self, waiter: RateLimitWaiter) -> RateLimitExceededError:
        """Return the error with the worst-case wait of a new call, without this waiter. Requires the lock."""
        is_queued = not (waiter.cancelled or waiter.granted)
        if is_queued:
            waiter.cost_class.dequeue(waiter.priority, waiter.costs)
        expected = self._estimated_wait(waiter.costs, waiter.priority, worst_case=True)
        if is_queued:
            waiter.cost_class.enqueue(waiter.priority, waiter.costs)
        return RateLimitExceededError(self._name, expected)

    # --- after a call -----------------------------------------------------------------------------------------------------

    def refund(self, unused: Sequence[float]) -> None:
        """Put back unused units; negative ones were used beyond the estimate."""
        if self.deferring_lock.held_by_current_thread():
            self.deferring_lock.defer(functools.partial(self.refund, unused))
            return
        with self.lock:
            moved = self._refund(unused)
        wake_all(moved)

    def _refund(self, unused: Sequence[float]) -> list[RateLimitWaiter]:
        self.refill()
        for bucket, units in zip(self.buckets, unused, strict=True):
            bucket.level = min(max(bucket.level, bucket.burst), bucket.level + units)
        return list(self._grant())

    def settle(self, costs: Sequence[float], used: Sequence[float], cost_class: CostClass, reported: float | None) -> None:
        """End a call of a class that reports its usage.

        `reported`: its duration in seconds; None if it has reported nothing.
        """
        with self.lock:
            cost_class.on_end(costs)
            is_new_evidence = reported is not None and cost_class.on_usage(used, reported)
            moved = self._refund([cost - units for cost, units in zip(costs, used, strict=True)]) if used != costs else []
            if is_new_evidence:
                moved += self._update_estimates()
            if not cost_class.calls:
                self._active_classes.pop(cost_class, None)
        wake_all(moved)
