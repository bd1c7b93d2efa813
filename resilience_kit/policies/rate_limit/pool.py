"""The buckets of a rate limiter and the queue before them, under one lock."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Final, cast

from resilience_kit._fork import renew_after_fork
from resilience_kit._turns import TINY, GuardLock, Line, Place, rouse
from resilience_kit.context import Priority, current_priority
from resilience_kit.errors import RateLimitExceededError
from resilience_kit.outcome import Clock
from resilience_kit.policies.rate_limit.bucket import Bucket
from resilience_kit.policies.rate_limit.consumption import CostClass, size_of
from resilience_kit.policies.rate_limit.options import RateLimitConfig

#: Seconds by which a caller who waits may be woken too late without a loss: what a bucket takes beyond its burst meanwhile.
_LATE: Final = 0.05
#: Classes of calls whose use is remembered; the oldest is forgotten first.
_MOST_CLASSES: Final = 128


class Waiter(Place):
    """A caller's place in the queue of a rate limiter."""

    __slots__ = ("cost_class",)

    def __init__(
        self, pool: Pool, cost_class: CostClass, costs: Sequence[float], *, until: float | None, expected: float
    ) -> None:
        super().__init__(pool, current_priority.get(), costs, until, expected)  # type: ignore[arg-type]  # its own places
        self.cost_class = cost_class


class Pool:
    """The buckets and the queue, under one lock."""

    def __init__(self, configs: Sequence[RateLimitConfig], name: str, clock: Clock) -> None:
        self._name, self._clock = name, clock
        now = clock.monotonic()
        self.buckets = [Bucket(config.rate / config.period, config.size, now) for config in configs]
        self._only = self.buckets[0] if len(self.buckets) == 1 else None
        self._max_wait = min((config.max_wait for config in configs if config.max_wait is not None), default=None)
        self._classes: dict[Hashable, CostClass] = {}
        #: Of calls whose estimates are what they use.
        self.exact = CostClass([False] * len(self.buckets), len(Priority))
        self._active: dict[CostClass, None] = {}
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, and nobody who waits."""
        self.guarded = GuardLock()
        self.lock = self.guarded.lock
        self.line = Line(len(Priority))
        for each in self._active:
            each.forget_calls()
        self._active = {}

    def refill(self) -> float:
        """Under the lock: bring the buckets up to now."""
        now = self._clock.monotonic()
        slack = _LATE if self.line.length else 0.0
        for bucket in self.buckets:
            bucket.fill(now, slack)
        return now

    def take(self, costs: Sequence[float]) -> None:
        """Under the lock: take, into debt if need be."""
        for bucket, cost in zip(self.buckets, costs, strict=True):
            bucket.level -= cost

    def lack(self, costs: Sequence[float]) -> float:
        """Under the lock: seconds until there is enough for a caller with nobody ahead."""
        return max(bucket.lack(cost) for bucket, cost in zip(self.buckets, costs, strict=True))

    def class_of(self, family: Hashable, learns: Sequence[bool], costs: Sequence[float]) -> CostClass:
        """The class of a call by its functions, and by the size of its estimates."""
        key = (family, size_of(costs, learns))
        found = self._classes.get(key)
        if found is None:
            with self.lock:
                if len(self._classes) >= _MOST_CLASSES:
                    del self._classes[next(iter(self._classes))]
                found = self._classes.setdefault(key, CostClass(learns, len(Priority)))
        return found

    def fits(self, costs: Sequence[float]) -> bool:
        """Whether a call could start at once."""
        with self.lock:
            self.refill()
            return not self.line.length and self.lack(costs) <= TINY

    def set_level(self, level: float) -> None:
        """Have the first bucket hold so much, and let those in who wait for it."""
        with self.lock:
            self.refill()
            self.buckets[0].level = level
            moved = list(self._let_in())
        rouse(moved)

    def take_at_hand(self, cost: float) -> bool:
        """Take from the first bucket, all of it or nothing; never into debt, and never before somebody who waits."""
        with self.lock:
            return not self.line.length and self.buckets[0].take_if_there(self._clock.monotonic(), cost)

    def book(self, cost: float) -> float:
        """Take from the first bucket at once, into debt if need be, before those who wait; gives the seconds until it is paid."""
        bucket = self.buckets[0]
        with self.lock:
            if bucket.take_if_there(self._clock.monotonic(), cost):
                return 0.0
            bucket.level -= cost
            return bucket.lack(0.0)

    def take_or_join(self, costs: Sequence[float], cost_class: CostClass) -> Waiter | None:
        """Take `costs`, or get a place in the queue; raises `RateLimitExceededError` when it would take too long."""
        only = self._only
        with self.lock:
            if only is None or self.line.length or not only.take_if_there(self._clock.monotonic(), costs[0]):
                now = self.refill()
                if self.line.length or self.lack(costs) > TINY:
                    return self._join(costs, cost_class, now)
                self.take(costs)
            if cost_class.reports_usage:
                cost_class.begin(costs)
                self._active[cost_class] = None
            return None

    def _join(self, costs: Sequence[float], cost_class: CostClass, now: float) -> Waiter:
        level = current_priority.get()
        expected = self._expected(costs, level)
        if self._max_wait is not None and expected > self._max_wait + TINY:
            raise RateLimitExceededError(self._name, self._expected(costs, level, at_worst=True))
        until = None if self._max_wait is None else now + self._max_wait
        place = Waiter(self, cost_class, costs, until=until, expected=expected)
        self.line.join(place)
        cost_class.queue(level, costs)
        self._active[cost_class] = None
        return place

    # --- how long it will take --------------------------------------------------------------------------------------------

    def _expected(self, costs: Sequence[float], level: int, *, at_worst: bool = False) -> float:
        """Under the lock: seconds until a caller may start who comes now, by what calls have used so far.

        Where nobody knows what those ahead will use, it is what the wait takes at least; `at_worst`: at most.
        """
        ahead = [sum(each.ahead(number, level, at_worst=at_worst) for each in self._active) for number in range(len(costs))]
        return self._wait_behind(ahead, costs, self._refunds(at_worst=at_worst))

    def _refunds(self, *, at_worst: bool) -> Sequence[float]:
        return [sum(each.refund(number, at_worst=at_worst) for each in self._active) for number in range(len(self.buckets))]

    def _wait_behind(self, ahead: Sequence[float], costs: Sequence[float], refunds: Sequence[float]) -> float:
        """Under the lock: what comes back does so when its calls have ended, hardly before a call's usual duration is over."""
        duration = max((each.duration for each in self._active), default=0.0)
        longest = 0.0
        for bucket, cost, before, refund in zip(self.buckets, costs, ahead, refunds, strict=True):
            lack = bucket.lack(cost, before - refund)
            if refund > 0.0:
                lack = max(lack, min(duration, bucket.lack(cost, before)))
            longest = max(longest, lack)
        return longest

    def _judge_all(self) -> Sequence[Waiter]:
        """Under the lock: judge those who wait by what has just become known. Gives them: all are to be woken."""
        ahead, refunds = [0.0] * len(self.buckets), self._refunds(at_worst=False)
        waiters = cast("Sequence[Waiter]", [*self.line.places()])
        for place in waiters:
            place.expected = self._wait_behind(ahead, place.costs, refunds)
            ahead = [units + place.cost_class.uses(number, place.costs[number]) for number, units in enumerate(ahead)]
        return waiters

    # --- a caller in the line ---------------------------------------------------------------------------------------------

    def look(self, place: Waiter) -> float | None:
        """See `Turn.look`."""
        with self.lock:
            if place.come:
                return 0.0
            now = self.refill()
            is_head = self.line.head() is place
            lack = self.lack(place.costs) if is_head else math.inf
            if lack > TINY:
                return self._rest(place, now, lack)
            moved = list(self._let_in())
        rouse(moved)
        return 0.0

    def _rest(self, place: Waiter, now: float, lack: float) -> float | None:
        """Under the lock: seconds until the turn of the head comes, None for the others, while their patience lasts.

        Also None for a head that has patience for what others will give back, though not for a bucket that has to fill.
        """
        is_head = lack < math.inf
        if is_head:
            nobody = [0.0] * len(self.buckets)
            place.expected = min(lack, self._wait_behind(nobody, place.costs, self._refunds(at_worst=False)))
        soonest = place.expected if is_head and place.expected is not None else 0.0
        if place.gone or (place.until is not None and now + max(soonest, 2 * TINY) > place.until + TINY):
            raise self._refusal(place)
        return lack if is_head and (place.until is None or now + lack <= place.until + TINY) else None

    def claim(self, place: Waiter) -> None:
        """See `Turn.claim`. A clock that is behind, or does not wait, leaves a debt."""
        with self.lock:
            if place.come or self.line.head() is not place:
                return
            self.refill()
            self._take_turn(place)
            moved = list(self._let_in())
        rouse(moved)

    def _let_in(self) -> Iterator[Waiter]:
        """Under the lock: give their turn to all whose cost is there. Gives those, and who is next: all are to be woken."""
        while isinstance(place := self.line.head(), Waiter):
            yield place
            if self.lack(place.costs) > TINY:
                return
            self._take_turn(place)

    def _take_turn(self, place: Waiter) -> None:
        self.take(place.costs)
        place.come = True
        if place.cost_class.reports_usage:
            place.cost_class.begin(place.costs)
        self._remove(place)

    def _remove(self, place: Waiter) -> None:
        self.line.leave(place)
        place.cost_class.unqueue(place.level, place.costs)
        if not place.cost_class.calls:
            self._active.pop(place.cost_class, None)

    def left(self, place: Waiter) -> bool:
        """Whether a caller gives up a place whose turn had not come, or that was lost already."""
        with self.lock:
            if place.come or place.gone:
                return place.gone
            self.refill()
            was_head = self.line.head() is place
            self._remove(place)
            place.gone = True
            moved = list(self._let_in()) if was_head else []
        rouse(moved)
        return True

    def leave(self, place: Waiter) -> None:
        """Lose a place, whether its turn has come or not."""
        if not self.left(place):
            place.gone = True
            if place.cost_class.reports_usage:
                self.settle(place.costs, (0.0,) * len(place.costs), place.cost_class, None)
            else:
                self.give_back(place.costs)

    def patience_of(self, place: Waiter) -> float | None:
        """See `Turn.patience`."""
        return None if place.until is None else max(0.0, place.until - self._clock.monotonic())

    def refusal(self, place: Waiter) -> RateLimitExceededError:
        """See `Turn.refusal`."""
        with self.lock:
            self.refill()
            return self._refusal(place)

    def _refusal(self, place: Waiter) -> RateLimitExceededError:
        """With the seconds after which the place would come to somebody who asks now, without this caller."""
        is_queued = not (place.gone or place.come)
        if is_queued:
            place.cost_class.unqueue(place.level, place.costs)
        expected = self._expected(place.costs, place.level, at_worst=True)
        if is_queued:
            place.cost_class.queue(place.level, place.costs)
        return RateLimitExceededError(self._name, expected)

    # --- after a call -----------------------------------------------------------------------------------------------------

    def give_back(self, unused: Sequence[float]) -> None:
        """Put back what was not used; what is negative was used beyond the estimate."""
        if self.guarded.is_mine():
            self.guarded.put_off(functools.partial(self.give_back, unused))
            return
        with self.lock:
            moved = self._put_back(unused)
        rouse(moved)

    def _put_back(self, unused: Sequence[float]) -> list[Waiter]:
        self.refill()
        for bucket, units in zip(self.buckets, unused, strict=True):
            bucket.level = min(max(bucket.level, bucket.burst), bucket.level + units)
        return list(self._let_in())

    def settle(self, costs: Sequence[float], used: Sequence[float], cost_class: CostClass, reported: float | None) -> None:
        """A call of a class that reports its usage has ended. `reported`: its seconds, None where it has reported nothing."""
        with self.lock:
            cost_class.end(costs)
            is_news = reported is not None and cost_class.report(used, reported)
            moved = self._put_back([cost - units for cost, units in zip(costs, used, strict=True)]) if used != costs else []
            if is_news:
                moved += self._judge_all()
            if not cost_class.calls:
                self._active.pop(cost_class, None)
        rouse(moved)
