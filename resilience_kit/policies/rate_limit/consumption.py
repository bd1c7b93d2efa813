"""What calls use of their estimated cost, as evidence for predicting waits.

A call reserves its estimate, usually an upper bound, and is refunded what it did not use when it is settled. The queue
of a bucket therefore moves faster than the estimates say (or slower, if they are too low). The wait is predicted by the
mean that settled calls have reported, with a margin; admission goes by the estimates alone.

Calls are grouped by their `cost` and `usage` functions and by the size of their estimate (the power of two above it),
since the usage of short prompts says nothing about long ones. A class with too few reports has no prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

#: Reports after which the mean of a class is evidence, and the number of reports that it averages.
MIN_REPORTS: Final = 5
_MEAN_WINDOW: Final = 20
#: Factor on a mean, to be on the safe side.
_SAFETY_MARGIN: Final = 1.1


class CostClass:
    """A class of similar calls: what they have used, and how many of them are queued or in flight.

    `has_usage`: for each bucket, whether calls report their usage. `duration`: mean seconds of those that did. `calls`:
    the number queued or in flight. Not thread-safe: requires the lock of the buckets.
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
        """Drop all calls queued or in flight, as in a forked child. The means stay."""
        self._queued = [0] * len(self._queued)
        self._queued_costs = [[0.0] * len(self.has_usage) for _ in self._queued]
        self._in_flight, self._booked = 0, [0.0] * len(self.has_usage)
        self.calls = 0

    @property
    def has_enough_reports(self) -> bool:
        """Return whether enough calls have reported their usage, or none has to."""
        return not self.reports_usage or self._reports >= MIN_REPORTS

    def enqueue(self, priority: int, costs: Sequence[float]) -> None:
        """Count a waiter that joins the queue."""
        self.calls += 1
        self._queued[priority] += 1
        ahead = self._queued_costs[priority]
        for number, cost in enumerate(costs):
            ahead[number] += cost

    def dequeue(self, priority: int, costs: Sequence[float]) -> None:
        """Count a waiter that leaves the queue. An empty queue resets its sums, so that no rounding error stays."""
        self.calls -= 1
        self._queued[priority] -= 1
        ahead = self._queued_costs[priority]
        for number, cost in enumerate(costs):
            ahead[number] = ahead[number] - cost if self._queued[priority] else 0.0

    def on_start(self, costs: Sequence[float]) -> None:
        """Count a call that has reserved its estimates."""
        self.calls += 1
        self._in_flight += 1
        for number, cost in enumerate(costs):
            self._booked[number] += cost

    def on_end(self, costs: Sequence[float]) -> None:
        """Count a call that is settled. Ignores calls that a forked child inherited and does not count."""
        if not self._in_flight:
            return
        self.calls -= 1
        self._in_flight -= 1
        for number, cost in enumerate(costs):
            self._booked[number] = self._booked[number] - cost if self._in_flight else 0.0

    def on_usage(self, used: Sequence[float], seconds: float) -> bool:
        """Record what a call used of each bucket. Return whether this makes the mean evidence."""
        self._reports += 1
        weight = 1.0 / min(self._reports, _MEAN_WINDOW)
        self.duration += weight * (seconds - self.duration)
        for number, units in enumerate(used):
            self._means[number] += weight * (units - self._means[number])
        return self._reports == MIN_REPORTS

    def expected_use(self, number: int, booked: float, calls: int = 1) -> float:
        """Return the units of a bucket that `calls` with the total estimate `booked` are expected to use; 0.0 if unknown.

        The safety margin is capped by their estimates.
        """
        if not self.has_usage[number]:
            return booked
        if not self.has_enough_reports:
            return 0.0
        mean = self._means[number] * calls
        return max(mean, min(mean * _SAFETY_MARGIN, booked))

    def queued_cost(self, number: int, priority: int, *, worst_case: bool) -> float:
        """Return the units of a bucket that the waiters of this priority or a higher one are expected to use.

        If that is unknown: 0.0, or their estimates with `worst_case`.
        """
        booked = sum(costs[number] for costs in self._queued_costs[priority:])
        return (
            booked
            if worst_case and not self.has_enough_reports
            else self.expected_use(number, booked, sum(self._queued[priority:]))
        )

    def expected_refund(self, number: int, *, worst_case: bool) -> float:
        """Return the units that calls in flight will refund, negative for overuse. If unknown: all, or none with `worst_case`."""
        booked = self._booked[number]
        return 0.0 if worst_case and not self.has_enough_reports else booked - self.expected_use(number, booked, self._in_flight)


def size_class(costs: Sequence[float], has_usage: Sequence[bool]) -> tuple[int, ...]:
    """Return the powers of two above those estimates of a call that may be corrected by its usage."""
    return tuple(math.frexp(cost)[1] for cost, is_estimate in zip(costs, has_usage, strict=True) if is_estimate)
