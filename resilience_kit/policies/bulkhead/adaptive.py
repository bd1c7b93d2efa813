"""An adaptive concurrency limit: it falls when the service is overloaded and rises while it is used up.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as in TCP. A *round* is as many successes as the limit
allows calls. All calls in flight at a decrease belong to the same overload and cause no second decrease: each permit
carries the number of decreases at its admission. After some rounds without overload the step doubles from round to
round, so that added capacity is found in seconds.
"""

from __future__ import annotations

from typing import Final

from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind
from resilience_kit.policies.bulkhead.options import AdaptiveLimit

_OVERLOAD_KINDS: Final = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.TIMEOUT})
#: Rounds without overload at a step of one call, and the largest step as a share of the limit.
_PROBE_ROUNDS: Final = 4
_MAX_STEP_SHARE: Final = 0.25


class AIMDLimit:
    """The limit between the minimum and `maximum`. Not thread-safe: requires its owner's lock."""

    __slots__ = ("_calm_rounds", "_exact_limit", "_maximum", "_options", "_progress", "_step", "decreases")

    def __init__(self, options: AdaptiveLimit, maximum: int) -> None:
        self._options, self._maximum = options, maximum
        self._exact_limit = float(min(options.initial, maximum))
        self._step, self._progress, self._calm_rounds = 1.0, 0.0, 0
        self.decreases = 0

    @property
    def limit(self) -> int:
        """Return the number of concurrent calls allowed."""
        return int(self._exact_limit)

    @property
    def above_minimum(self) -> bool:
        """Return whether the limit is above the minimum."""
        return self._exact_limit > self._options.minimum

    def on_outcome(self, outcome: Outcome, decreases: int, *, in_use: bool) -> None:
        """Adjust the limit to the outcome of an attempt admitted after `decreases`; `in_use`: the limit was used up."""
        if self._is_overload(outcome):
            if decreases == self.decreases:
                self._decrease()
        elif outcome.kind is OutcomeKind.SUCCESS and in_use:
            self._increase()

    def _is_overload(self, outcome: Outcome) -> bool:
        if outcome.verdict is not None:
            return outcome.verdict.kind in _OVERLOAD_KINDS
        slow = self._options.slow_call_duration
        return outcome.kind is OutcomeKind.SUCCESS and slow is not None and outcome.duration > slow

    def _decrease(self) -> None:
        self._exact_limit = max(float(self._options.minimum), self._exact_limit * self._options.backoff)
        self.decreases += 1
        self._step, self._progress, self._calm_rounds = 1.0, 0.0, 0

    def _increase(self) -> None:
        self._progress += 1.0 / self._exact_limit
        self._exact_limit = min(float(self._maximum), self._exact_limit + self._step / self._exact_limit)
        if self._progress >= 1.0:
            self._progress = 0.0
            self._calm_rounds += 1
            if self._calm_rounds > _PROBE_ROUNDS:
                self._step = max(1.0, min(self._step * 2.0, self._exact_limit * _MAX_STEP_SHARE))
