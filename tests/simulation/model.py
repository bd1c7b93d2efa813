"""The rules of a breaker and of a retry budget in the plainest words, written from the contract.

A simulated world tells them what its service saw, before the kit hears of it, and compares after each turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from resilience_kit.policies.breaker import CircuitBreakerConfig, CircuitState, FailureRateWindow
from resilience_kit.policies.retry_budget import RetryBudgetConfig

CLOSED, OPEN, HALF_OPEN, FORCED = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN
End = Literal["success", "failure", "neutral"]

_LONGEST_HINT = 300.0
_TIME_BUCKETS = 20
_LEAST_IN_TIME = 10


class Pass:
    """Leave to make one attempt: given in which stay, and for a trial until when it counts, and whether under another one."""

    __slots__ = ("lease_ends", "nested", "settled", "stay")

    def __init__(self, stay: int, lease_ends: float | None, *, nested: bool = False) -> None:
        self.stay, self.lease_ends, self.settled, self.nested = stay, lease_ends, False, nested


class BreakerModel:
    """A circuit breaker. `now` gives its seconds; `spread` the next random number that an open time will be spread by."""

    def __init__(self, options: CircuitBreakerConfig, now: Callable[[], float], spread: Callable[[], float]) -> None:
        self.options, self._now, self._spread = options, now, spread
        self.state = CLOSED
        self.stay = self.failures = self.reopenings = self.good_trials = 0
        self.until = 0.0
        self.trials: list[Pass] = []
        self.recent: list[tuple[float, bool, bool]] = []
        self.moves: list[tuple[str, str]] = []
        self.times_opened = self.refusals = self.counted_failures = 0

    # --- who may go in ---------------------------------------------------------------------------------------------------

    def running(self) -> list[Pass]:
        """The trials under way whose leases run still."""
        now = self._now()
        return [trial for trial in self.trials if not trial.settled and trial.lease_ends is not None and trial.lease_ends > now]

    def admits(self) -> bool:
        """Whether a call would be let in now."""
        if self.state is OPEN:
            return self.until <= self._now()
        return self.state is CLOSED or (self.state is HALF_OPEN and len(self.running()) < self.options.half_open_max_calls)

    def ask(self, enclosing: Pass | None = None) -> Pass | None:
        """A pass, or None, which counts as a refusal; one under the trial that is around, if there is one."""
        if enclosing is not None:
            return Pass(self.stay, enclosing.lease_ends, nested=True)
        if not self.admits():
            self.refusals += 1
            return None
        if self.state is CLOSED:
            return Pass(self.stay, None)
        if self.state is OPEN:
            self._go(HALF_OPEN)
        trial = Pass(self.stay, self._now() + self.options.trial_lease)
        self.trials = [*self.running(), trial]
        return trial

    def remaining(self) -> float:
        """Seconds of open time left."""
        return max(0.0, self.until - self._now()) if self.state is OPEN else 0.0

    def is_current(self, leave: Pass) -> bool:
        """Whether the end of an attempt with this pass may change anything."""
        return leave.stay == self.stay and (leave.lease_ends is None or leave.lease_ends > self._now())

    # --- how attempts end ------------------------------------------------------------------------------------------------

    def end(self, leave: Pass, how: End, seconds: float = 0.0, hint: float | None = None) -> bool:
        """An attempt ended; tells whether that may have changed anything."""
        counts = self.is_current(leave) and not leave.settled
        leave.settled = True
        self.counted_failures += how == "failure"
        if counts and how == "success":
            self._succeed(leave, seconds)
        elif counts and how == "failure":
            self._fail(leave, seconds, hint)
        return counts

    def _succeed(self, leave: Pass, seconds: float) -> None:
        if leave.nested:
            return
        if leave.lease_ends is None:
            self.failures = 0
            self._judge(seconds, None, failed=False)
            return
        if self._is_slow(seconds):
            self._open(None)
            return
        self.failures = 0
        self.good_trials += 1
        if self.good_trials >= self.options.success_threshold:
            self._go(CLOSED)

    def _fail(self, leave: Pass, seconds: float, hint: float | None) -> None:
        self.failures += 1
        if leave.lease_ends is None:
            self._judge(seconds, hint, failed=True)
        else:
            self._open(hint)

    def _judge(self, seconds: float, hint: float | None, *, failed: bool) -> None:
        window = self.options.window
        if window is None:
            opens = self.failures >= self.options.failure_threshold
        else:
            self.recent.append((self._now(), failed, self._is_slow(seconds)))
            opens = self._rates_are_reached(window)
        if opens:
            self._open(hint)

    def _is_slow(self, seconds: float) -> bool:
        window = self.options.window
        return window is not None and window.slow_call_duration is not None and seconds > window.slow_call_duration

    def _rates_are_reached(self, window: FailureRateWindow) -> bool:
        inside = self._inside(window)
        least = window.minimum_calls
        if least is None:
            least = int(window.size) if window.kind == "count" else _LEAST_IN_TIME
        failed, slow = (sum(call[which] for call in inside) for which in (1, 2))
        enough = len(inside) >= least
        return enough and (failed / len(inside) >= window.failure_rate or slow / len(inside) >= window.slow_call_rate)

    def _inside(self, window: FailureRateWindow) -> list[tuple[float, bool, bool]]:
        if window.kind == "count":
            return self.recent[-int(window.size) :]
        width = window.size / _TIME_BUCKETS
        present = int(self._now() // width)
        return [call for call in self.recent if int(call[0] // width) > present - _TIME_BUCKETS]

    # --- moves -----------------------------------------------------------------------------------------------------------

    def _open(self, hint: float | None) -> None:
        seconds, longest = self.options.recovery_timeout, self.options.max_recovery_timeout
        if longest is not None:
            spread = 1.0 + 0.1 * (2.0 * self._spread() - 1.0)
            seconds = min(longest, seconds * 2.0**self.reopenings) * spread
            seconds = min(seconds, 2.0 * longest - seconds)
        if hint is not None:
            seconds = max(seconds, min(hint, _LONGEST_HINT if longest is None else longest))
        self.reopenings += 1
        self._open_for(seconds)

    def _open_for(self, seconds: float) -> None:
        self.until = self._now() + seconds
        self.times_opened += 1
        self._go(OPEN)

    def _go(self, state: CircuitState) -> None:
        if state is not self.state:
            self.moves.append((self.state.value, state.value))
        self.state, self.good_trials, self.trials = state, 0, []
        self.stay += 1
        if state is CLOSED:
            self.failures = self.reopenings = 0
            self.recent = []

    def order(self, state: CircuitState) -> None:
        """Somebody sets the state by hand."""
        if state is OPEN:
            self._open_for(self.options.recovery_timeout)
        else:
            self._go(state)

    def reconfigure(self, options: CircuitBreakerConfig) -> None:
        """Other options from now on."""
        if options.window != self.options.window:
            self.recent = []
        self.options = options


class BudgetModel:
    """A retry budget's bucket."""

    def __init__(self, config: RetryBudgetConfig) -> None:
        self._config, self.left = config, config.capacity

    def cost(self, *, throttled: bool) -> int:
        """Tokens of one retry."""
        return self._config.throttling_cost if throttled else self._config.transient_cost

    def give_back(self, spent: int) -> None:
        """A success: what its last retry cost, or the refund of one that needed none."""
        self.left = min(self._config.capacity, self.left + (spent or self._config.success_refund))
