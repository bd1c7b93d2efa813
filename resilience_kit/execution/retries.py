"""Whether there is another attempt, and after which pause: tenacity decides, fed with what only the call knows."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, cast

import tenacity
from tenacity import DoSleep, IterState, RetryCallState
from tenacity.stop import stop_base

from resilience_kit.classification import sdk_retry_count, transport_retry_count, was_not_sent
from resilience_kit.events import NestedRetry
from resilience_kit.execution.plan import CallPlan
from resilience_kit.outcome import FailureKind, Verdict
from resilience_kit.policies.retry import RetryConfig

#: What tenacity answers when the retries are over, so that the driver raises the error itself, with its own traceback.
_GIVE_UP = object()
_MARK_ATTRIBUTE = "__resilience_kit_mark__"
_NESTED_RETRY_REMEDY = "let only one of the two retry: give the other one retry=None"


class RetryMark(Enum):
    """What an operation says of the error that it ends in to one around it."""

    RETRIED = "retried"
    MAYBE_PROCESSED = "maybe processed"


#: What a result that means "try again" says of the service: it has answered, so nothing is held against it.
RETRYABLE_RESULT = Verdict(FailureKind.TRANSIENT, retryable=True, counts_against_breaker=False)

_UNMARKED = ("", -1, RetryMark.RETRIED, 0)


class RetryableCall(Protocol):
    """What is needed of a call here."""

    plan: CallPlan
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attempt_started: int
    outer_context_id: int

    def encloses(self, context_id: int, operation: str) -> bool:
        """Whether a call of `operation` that had this context around it was made within this one."""
        ...

    def elapsed(self) -> float:
        """Seconds since the call began."""
        ...

    def fits(self, seconds: float) -> bool:
        """Whether a sleep ends before the nearest deadline."""
        ...


class stop_on_call_limits(stop_base):  # noqa: N801 - named as tenacity names its own
    """Stops for the reasons that tenacity cannot know: deadline, breaker, retry budget."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Return whether the call allows no further attempt."""
        return cast("CallRetryState", retry_state).must_stop(retry_state.upcoming_sleep)


def _controller_of(plan: CallPlan, config: RetryConfig) -> tenacity.Retrying:
    """Return the plan's tenacity controller, made at its first failure. It returns a `DoSleep`, or gives up without raising."""
    if plan.controller is None:
        controller = config.retrying(retry=_always_retry, retry_error_callback=lambda _: _GIVE_UP, sleep=plan.clock.sleep)
        controller.stop = tenacity.stop_any(cast("stop_base", controller.stop), stop_on_call_limits())
        plan.controller = controller
    return plan.controller


def _always_retry(_: RetryCallState) -> bool:
    """`stop_reason` has asked the config before tenacity comes to it."""
    return True


class _CallController(tenacity.Retrying):
    """A controller that keeps the state of one call. tenacity's own keeps it by thread, which tasks share."""

    iter_state: Any = None
    statistics: Any = None


def _controller_for_call(controller: tenacity.Retrying) -> _CallController:
    own = object.__new__(_CallController)
    own.__dict__.update(controller.__dict__)
    own.iter_state, own.statistics = IterState(), {}
    return own


class CallRetryState(RetryCallState):
    """tenacity's state of one call, entered after its first failure as if tenacity had made that attempt.

    tenacity's wait and stop objects decide. Its machine around them, which makes a future of each outcome and keeps statistics,
    is set going only for hooks, the only ones to see any of that; it costs as much as all the rest of a failure.
    """

    def __init__(self, call: RetryableCall, config: RetryConfig) -> None:
        controller = _controller_of(call.plan, config)
        self._has_hooks = config.before_sleep is not None or config.after is not None
        if self._has_hooks:
            controller = _controller_for_call(controller)
            controller.begin()
        super().__init__(controller, call.function, call.args, call.kwargs)
        if self._has_hooks:
            self.start_time -= call.elapsed()
            controller.statistics["start_time"] = self.start_time
        self._call: RetryableCall | None = call
        self.verdict: Verdict | None = None
        self.why = ""
        #: Tokens that the present retry cost, to be given back by a success.
        self.tokens_taken = 0

    def pause_after(self, error: Exception, verdict: Verdict) -> float | None:
        """Seconds to sleep before the next attempt, or None with the reason in `why`."""
        if self._has_hooks:
            self.set_exception((type(error), error, error.__traceback__))
        return self._pause(verdict)

    def pause_after_result(self, result: Any) -> float | None:
        """As `pause_after`, for a result that means "try again"."""
        if self._has_hooks:
            self.set_result(result)
        return self._pause(RETRYABLE_RESULT)

    def _pause(self, verdict: Verdict) -> float | None:
        self.verdict, self.why = verdict, ""
        if self._has_hooks:
            return self._pause_by_tenacity()
        self.upcoming_sleep = pause = float(self.retry_object.wait(self))
        if self.retry_object.stop(self):
            return None
        self.attempt_number += 1
        return pause

    def _pause_by_tenacity(self) -> float | None:
        decision = self.retry_object.iter(retry_state=self)
        if not isinstance(decision, DoSleep):
            return None
        self.prepare_for_next_attempt()
        return float(decision)

    def must_stop(self, pause: float) -> bool:
        """Asked by tenacity once the attempts are counted and the pause is known. Takes from the retry budget last."""
        call, verdict = self._call, self.verdict
        if call is None or verdict is None:  # pragma: no cover - both are set while tenacity asks
            return True
        self.why = self._blocked_by(call, pause)
        if not self.why:
            tokens = call.plan.take_retry_tokens(verdict.kind, verdict.retry_after)
            self.tokens_taken, self.why = tokens or 0, "the retry budget is used up" if tokens is None else ""
        return bool(self.why)

    def _blocked_by(self, call: RetryableCall, pause: float) -> str:
        breaker = call.plan.breaker
        if breaker is not None and not breaker.fits():
            if not call.plan.waits_when_open or breaker.forced_open:
                return "its circuit has opened"
            pause = max(pause, breaker.open_remaining)
        return "" if call.fits(pause) else "the next attempt would begin after the deadline"

    def reason(self, config: RetryConfig) -> str:
        """Why `pause_after` gave None."""
        if self.why:
            return self.why
        if self.attempt_number >= config.max_attempts:
            return "no attempts are left"
        hint = None if self.verdict is None else self.verdict.retry_after
        return f"the service asked to come back in {hint or 0.0:.1f} s"

    def break_cycles(self) -> None:
        """Break the circles through which the last error would keep frames alive until the next collection."""
        self._call = self.outcome = None
        if self._has_hooks:
            self.retry_object.iter_state.reset()


def stop_reason(call: RetryableCall, config: RetryConfig, error: Exception, verdict: Verdict) -> str:
    """Why an error is the last word, before tenacity is asked; empty when there may be another attempt."""
    if not config.should_retry(error, verdict):
        return f"{verdict.kind.value} is not retried"
    if not call.fits(0.0):
        return "its time is over"
    if not call.plan.retry_safe and not was_not_sent(error):
        return "the request may have been carried out, and it is not idempotent"
    return _nested_retry_reason(call, error)


def _nested_retry_reason(call: RetryableCall, error: Exception) -> str:
    """Return the mark that an inner layer left on this error: it has retried already, or it must not be retried."""
    for link in (error, error.__cause__):
        name, at, outcome_mark, context = getattr(link, _MARK_ATTRIBUTE, _UNMARKED)
        if at >= call.attempt_started and call.encloses(context, name):
            if outcome_mark is RetryMark.MAYBE_PROCESSED:
                return f"operation {name!r} may have been carried out, and it is not idempotent"
            return _report_nested_retry(call, f"operation {name!r}", _NESTED_RETRY_REMEDY)
    if transport_retry_count(error) > 0:
        return _report_nested_retry(call, "the client's transport", _NESTED_RETRY_REMEDY)
    if sdk_retry_count(error) > 0:
        remedy = "build the client with max_retries=0 and leave retrying to this operation"
        return _report_nested_retry(call, "the SDK's client", remedy)
    return ""


def _report_nested_retry(call: RetryableCall, inner: str, remedy: str) -> str:
    """Tell it, once an operation."""
    operation = call.plan.operation
    if inner not in operation.reported:
        operation.reported[inner] = None
        operation.events.emit(NestedRetry(operation=operation.name, inner=inner, remedy=remedy))
    return f"{inner} has retried it already"


def mark_error(error: Exception, call: RetryableCall, outcome_mark: RetryMark) -> None:
    """Leave word of `error` for an operation around this one. The time keeps a mark of an earlier call apart."""
    error.__dict__[_MARK_ATTRIBUTE] = (call.plan.operation.name, call.plan.now(), outcome_mark, call.outer_context_id)
