"""The time limits of a call and of its attempts, and the errors that say that they have passed."""

from __future__ import annotations

from resilience_kit.context import IdempotencyKeyHolder
from resilience_kit.errors import APITimeoutError, DeadlineExceededError
from resilience_kit.execution.plan import CallPlan


class TimeLimits(IdempotencyKeyHolder):
    """When a call and its present attempt must end. `Call` sets the attributes. Instants are nanoseconds of the plan's clock."""

    __slots__ = (
        "_attempt_timeout",
        "attempt_started",
        "attempts",
        "deadline_ns",
        "ended",
        "last_error",
        "own_deadline_ns",
        "plan",
        "started",
    )  # fmt: skip

    plan: CallPlan
    started: int
    attempt_started: int
    attempts: int
    ended: bool
    #: The nearest deadline, of the call or of a call around it.
    deadline_ns: int | None
    own_deadline_ns: int | None
    last_error: Exception | None
    _attempt_timeout: float | None

    def remaining(self) -> float | None:
        """See `context.remaining_time`. A task that outlives the call is not bound by it."""
        if self.ended:
            return None
        timeout = self._attempt_timeout
        ends = self.deadline_ns if timeout is None else earliest(self.deadline_ns, self.attempt_started + int(timeout * 1e9))
        return None if ends is None else max(0.0, (ends - self.plan.now()) / 1e9)

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return (self.plan.now() - self.started) * 1e-9

    def fits(self, seconds: float) -> bool:
        """Whether a sleep ends before the nearest deadline."""
        return self.deadline_ns is None or self.plan.now() + seconds * 1e9 < self.deadline_ns

    def attempt_deadline_ns(self, timeout: float | None = None) -> int | None:
        """When this call itself ends the present attempt, in nanoseconds; an outer deadline is the outer call's to enforce."""
        timeouts = (self.plan.attempt_timeout, timeout)
        limits = (None if limit is None else self.attempt_started + int(limit * 1e9) for limit in timeouts)
        return earliest(self.own_deadline_ns, *limits)

    def timed_out(self, first_item_timeout: float | None = None) -> Exception:
        """Return the error of an attempt that this call has cut off; its verdict is `TIMED_OUT`."""
        if self._is_past_own_deadline():
            return self._deadline_error()
        limits = (limit for limit in (self.plan.attempt_timeout, first_item_timeout) if limit is not None)
        return APITimeoutError(f"{self.plan.operation.name!r}: no answer within {min(limits, default=0.0):.3g} s")

    def _is_past_own_deadline(self) -> bool:
        return self.own_deadline_ns is not None and self.plan.now() >= self.own_deadline_ns

    def fallback_timed_out(self, error: Exception) -> DeadlineExceededError:
        """Return the error of a fallback that was cut off at the call's deadline; it was to replace `error`."""
        whose = f"its deadline of {self.plan.deadline:.3g} s"
        late = DeadlineExceededError(f"{self.plan.operation.name!r} went past {whose} in its fallback")
        late.__cause__ = error
        return late

    def _deadline_error(self) -> DeadlineExceededError:
        whose = f"its deadline of {self.plan.deadline:.3g} s" if self._is_past_own_deadline() else "the deadline around it"
        error = DeadlineExceededError(f"{self.plan.operation.name!r} went past {whose} in attempt {max(1, self.attempts)}")
        error.__cause__ = self.last_error
        return error


def earliest(*ends: int | None) -> int | None:
    """Return the earliest of the instants that are set."""
    return min((end for end in ends if end is not None), default=None)
