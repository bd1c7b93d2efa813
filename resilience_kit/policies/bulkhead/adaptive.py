"""A limit that the service's own answers move: down when it has too much to do, up while there is use for more.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it. A *round* is as many good answers as the limit
allows calls. All calls that were under way at a decrease belong to the same trouble, and cause no second one: each permit bears
the number of decreases at its admission. After some calm rounds the step doubles from round to round, so that a service that
was given more capacity is found out in seconds.
"""

from __future__ import annotations

from typing import Final

from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind
from resilience_kit.policies.bulkhead.options import AdaptiveLimit

_TROUBLE: Final = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.TIMEOUT})
#: Calm rounds at a step of one call, and the largest step as a share of the limit.
_CAREFUL: Final = 4
_BOLDEST: Final = 0.25


class Finder:
    """The limit as it moves between the minimum and `most`. Not thread-safe: its owner's lock is held."""

    __slots__ = ("_calm", "_exact", "_most", "_options", "_progress", "_step", "decreases")

    def __init__(self, options: AdaptiveLimit, most: int) -> None:
        self._options, self._most = options, most
        self._exact = float(min(options.initial, most))
        self._step, self._progress, self._calm = 1.0, 0.0, 0
        self.decreases = 0

    @property
    def limit(self) -> int:
        """Calls at once."""
        return int(self._exact)

    @property
    def can_fall(self) -> bool:
        """Whether it is above the minimum."""
        return self._exact > self._options.minimum

    def hear(self, outcome: Outcome, decreases: int, *, in_use: bool) -> None:
        """An attempt ended that was admitted after so many decreases; `in_use`: there was no room left beside it."""
        if self._is_trouble(outcome):
            if decreases == self.decreases:
                self._fall()
        elif outcome.kind is OutcomeKind.SUCCESS and in_use:
            self._rise()

    def _is_trouble(self, outcome: Outcome) -> bool:
        if outcome.verdict is not None:
            return outcome.verdict.kind in _TROUBLE
        slow = self._options.slow_call_duration
        return outcome.kind is OutcomeKind.SUCCESS and slow is not None and outcome.duration > slow

    def _fall(self) -> None:
        self._exact = max(float(self._options.minimum), self._exact * self._options.backoff)
        self.decreases += 1
        self._step, self._progress, self._calm = 1.0, 0.0, 0

    def _rise(self) -> None:
        self._progress += 1.0 / self._exact
        self._exact = min(float(self._most), self._exact + self._step / self._exact)
        if self._progress >= 1.0:
            self._progress = 0.0
            self._calm += 1
            if self._calm > _CAREFUL:
                self._step = max(1.0, min(self._step * 2.0, self._exact * _BOLDEST))
