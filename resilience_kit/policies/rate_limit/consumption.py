"""What calls use of what they book: the evidence by which a wait is judged.

A call books its estimate, an upper bound as a rule, and gives back at its settlement what it did not use. The queue before a
bucket therefore moves faster than the estimates say (or slower, where they are too low). How long a wait will be is judged by
the mean of what settled calls have reported, with a margin; what may start is decided by the estimates alone.

Calls are told apart by their `cost` and `usage` and by the size of their estimate (the power of two above it), since what short
questions use says nothing of long ones. As long as a class has reported too little, nobody knows how long those of it take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

#: Reports after which the mean of a class is evidence, and how many of the latest it is the mean of.
MIN_REPORTS: Final = 5
_MEAN_WINDOW: Final = 20
#: The share by which a mean is taken to be higher than it was.
_SAFETY_MARGIN: Final = 1.1


class CostClass:
    """Calls that are alike: what they have used, and how many of them wait or are under way.

    `has_usage`: for each bucket, whether calls report what they used. `duration`: mean seconds of those that did. `calls`: how
    many wait or are under way. Not thread-safe: the pool's lock is held.
    """

    __slots__ = (
        "_booked", "_in_flight", "_means", "_queued", "_queued_costs", "_reports", "calls", "duration", "has_usage",
        "reports_usage",
    )  # fmt: skip

    def __init__(self, has_usage: Sequence[bool], priorities: int) -> None:
        self.has_usage, self.reports_usage = tuple(has_usage), any(has_usage)
        self._means, self._reports, self.duration = [0.0] * len(self.has_usage), 0, 0.0
        self._queued = [0] * priorities
        self.drop_calls()

    def drop_calls(self) -> None:
        """Drop all calls that wait or are under way, as in a forked child. What was learnt stays."""
        self._queued = [0] * len(self._queued)
        self._queued_costs = [[0.0] * len(self.has_usage) for _ in self._queued]
        self._in_flight, self._booked = 0, [0.0] * len(self.has_usage)
        self.calls = 0

    @property
    def has_enough_reports(self) -> bool:
        """Whether enough calls have reported what they used, where they do report."""
        return not self.reports_usage or self._reports >= MIN_REPORTS

    def enqueue(self, priority: int, costs: Sequence[float]) -> None:
        """Count a caller that joins the queue."""
        self.calls += 1
        self._queued[priority] += 1
        ahead = self._queued_costs[priority]
        for number, cost in enumerate(costs):
            ahead[number] += cost

    def dequeue(self, priority: int, costs: Sequence[float]) -> None:
        """Count a caller that leaves the queue. An empty one counts afresh, so that no rounding stays."""
        self.calls -= 1
        self._queued[priority] -= 1
        ahead = self._queued_costs[priority]
        for number, cost in enumerate(costs):
            ahead[number] = ahead[number] - cost if self._queued[priority] else 0.0

    def on_start(self, costs: Sequence[float]) -> None:
        """Count a call that has booked its estimates."""
        self.calls += 1
        self._in_flight += 1
        for number, cost in enumerate(costs):
            self._booked[number] += cost

    def on_end(self, costs: Sequence[float]) -> None:
        """Count a call that is settled. A forked child may settle one that it has inherited, and does not know."""
        if not self._in_flight:
            return
        self.calls -= 1
        self._in_flight -= 1
        for number, cost in enumerate(costs):
            self._booked[number] = self._booked[number] - cost if self._in_flight else 0.0

    def on_usage(self, used: Sequence[float], seconds: float) -> bool:
        """Learn from a call that has reported what it used of each bucket. Tells whether that makes the mean evidence."""
        self._reports += 1
        weight = 1.0 / min(self._reports, _MEAN_WINDOW)
        self.duration += weight * (seconds - self.duration)
        for number, units in enumerate(used):
            self._means[number] += weight * (units - self._means[number])
        return self._reports == MIN_REPORTS

    def expected_use(self, number: int, booked: float, calls: int = 1) -> float:
        """Units of a bucket that so many calls take for good which book so much together, as far as is known: else 0.0.

        The margin ends where their estimates do.
        """
        if not self.has_usage[number]:
            return booked
        if not self.has_enough_reports:
            return 0.0
        mean = self._means[number] * calls
        return max(mean, min(mean * _SAFETY_MARGIN, booked))

    def queued_cost(self, number: int, priority: int, *, worst_case: bool) -> float:
        """Units of a bucket that those who wait with this priority or a higher one will take for good.

        Where nobody knows: nothing, or `worst_case` their estimates.
        """
        booked = sum(costs[number] for costs in self._queued_costs[priority:])
        return (
            booked
            if worst_case and not self.has_enough_reports
            else self.expected_use(number, booked, sum(self._queued[priority:]))
        )

    def expected_refund(self, number: int, *, worst_case: bool) -> float:
        """Units that those under way will give back, below zero for what they take beyond. Where nobody knows: all, or none."""
        booked = self._booked[number]
        return 0.0 if worst_case and not self.has_enough_reports else booked - self.expected_use(number, booked, self._in_flight)


def size_class(costs: Sequence[float], has_usage: Sequence[bool]) -> tuple[int, ...]:
    """The powers of two above the estimates of a call that are only estimates."""
    return tuple(math.frexp(cost)[1] for cost, is_estimate in zip(costs, has_usage, strict=True) if is_estimate)
