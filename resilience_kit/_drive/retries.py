"""Whether there is another attempt, and after which pause: tenacity decides, fed with what only the call knows."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol, cast

import tenacity
from tenacity import DoSleep, IterState, RetryCallState
from tenacity.stop import stop_base

from resilience_kit._drive.plan import Plan
from resilience_kit.classification import sdk_retries, surely_not_sent, transport_retries
from resilience_kit.events import NestedRetry
from resilience_kit.outcome import FailureKind, Verdict
from resilience_kit.policies.retry import RetryConfig

#: What tenacity answers when the retries are over, so that the driver raises the error itself, with its own traceback.
_GIVE_UP = object()
_MARK = "__resilience_kit_said__"
_ONE_OF_TWO = "let only one of the two retry: give the other one retry=None"


class Said(Enum):
    """What an operation says of the error that it ends in to one around it."""

    RETRIED = "retried"
    DONE_PERHAPS = "done perhaps"


#: What a result that means "try again" says of the service: it has answered, so nothing is held against it.
UNWANTED_RESULT = Verdict(FailureKind.TRANSIENT, retryable=True, counts_against_breaker=False)

_UNMARKED = ("", -1, Said.RETRIED, 0)


class Retried(Protocol):
    """What is needed of a call here."""

    plan: Plan
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    attempt_started: int
    context: int

    def is_around(self, context: int, operation: str) -> bool:
        """Whether a call of `operation` that had this context around it was made within this one."""
        ...

    def elapsed(self) -> float:
        """Seconds since the call began."""
        ...

    def fits(self, seconds: float) -> bool:
        """Whether a sleep ends before the nearest deadline."""
        ...


class stop_when_call_says(stop_base):  # noqa: N801 - named as tenacity names its own
    """Stops for the reasons that tenacity cannot know: deadline, breaker, retry budget."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        return cast("Retries", retry_state).must_stop(retry_state.upcoming_sleep)


def _controller_of(plan: Plan, config: RetryConfig) -> tenacity.Retrying:
    """The plan's tenacity controller, made at its first failure. It answers a `DoSleep`, or gives up without raising."""
    if plan.controller is None:
        controller = config.retrying(retry=_wanted, retry_error_callback=lambda _: _GIVE_UP, sleep=plan.clock.sleep)
        controller.stop = tenacity.stop_any(cast("stop_base", controller.stop), stop_when_call_says())
        plan.controller = controller
    return plan.controller


def _wanted(_: RetryCallState) -> bool:
    """`why_final` has asked the config before tenacity comes to it."""
    return True


class _OneCall(tenacity.Retrying):
    """A controller that keeps the state of one call. tenacity's own keeps it by thread, which tasks share."""

    iter_state: Any = None
    statistics: Any = None


def _for_one_call(controller: tenacity.Retrying) -> _OneCall:
    own = object.__new__(_OneCall)
    own.__dict__.update(controller.__dict__)
    own.iter_state, own.statistics = IterState(), {}
    return own


class Retries(RetryCallState):
    """tenacity's state of one call, entered after its first failure as if tenacity had made that attempt.

    tenacity's wait and stop objects decide. Its machine around them, which makes a future of each outcome and keeps statistics,
    is set going only for hooks, the only ones to see any of that; it costs as much as all the rest of a failure.
    """

    def __init__(self, call: Retried, config: RetryConfig) -> None:
        controller = _controller_of(call.plan, config)
        self._watched = config.before_sleep is not None or config.after is not None
        if self._watched:
            controller = _for_one_call(controller)
            controller.begin()
        super().__init__(controller, call.function, call.args, call.kwargs)
        if self._watched:
            self.start_time -= call.elapsed()
            controller.statistics["start_time"] = self.start_time
        self._call: Retried | None = call
        self.verdict: Verdict | None = None
        self.why = ""
        #: Tokens that the present retry cost, to be given back by a success.
        self.spent = 0

    def pause_after(self, error: Exception, verdict: Verdict) -> float | None:
        """Seconds to sleep before the next attempt, or None with the reason in `why`."""
        if self._watched:
            self.set_exception((type(error), error, error.__traceback__))
        return self._pause(verdict)

    def pause_after_result(self, result: Any) -> float | None:
        """As `pause_after`, for a result that means "try again"."""
        if self._watched:
            self.set_result(result)
        return self._pause(UNWANTED_RESULT)

    def _pause(self, verdict: Verdict) -> float | None:
        self.verdict, self.why = verdict, ""
        if self._watched:
            return self._pause_of_machine()
        self.upcoming_sleep = pause = float(self.retry_object.wait(self))
        if self.retry_object.stop(self):
            return None
        self.attempt_number += 1
        return pause

    def _pause_of_machine(self) -> float | None:
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
        self.why = self._obstacle(call, pause)
        if not self.why:
            tokens = call.plan.withdraw(verdict.kind, verdict.retry_after)
            self.spent, self.why = tokens or 0, "the retry budget is used up" if tokens is None else ""
        return bool(self.why)

    def _obstacle(self, call: Retried, pause: float) -> str:
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

    def let_go(self) -> None:
        """Break the circles through which the last error would keep frames alive until the next collection."""
        self._call = self.outcome = None
        if self._watched:
            self.retry_object.iter_state.reset()


def why_final(call: Retried, config: RetryConfig, error: Exception, verdict: Verdict) -> str:
    """Why an error is the last word, before tenacity is asked; empty when there may be another attempt."""
    if not config.wants(error, verdict):
        return f"{verdict.kind.value} is not retried"
    if not call.fits(0.0):
        return "its time is over"
    if not call.plan.repeatable and not surely_not_sent(error):
        return "the request may have been carried out, and it is not idempotent"
    return _why_nested(call, error)


def _why_nested(call: Retried, error: Exception) -> str:
    """What a layer below has said of this error: that it has retried, and another layer would multiply the load; or must not."""
    for link in (error, error.__cause__):
        name, at, said, context = getattr(link, _MARK, _UNMARKED)
        if at >= call.attempt_started and call.is_around(context, name):
            if said is Said.DONE_PERHAPS:
                return f"operation {name!r} may have been carried out, and it is not idempotent"
            return _has_retried(call, f"operation {name!r}", _ONE_OF_TWO)
    if transport_retries(error) > 0:
        return _has_retried(call, "the client's transport", _ONE_OF_TWO)
    if sdk_retries(error) > 0:
        remedy = "build the client with max_retries=0 and leave retrying to this operation"
        return _has_retried(call, "the SDK's client", remedy)
    return ""


def _has_retried(call: Retried, inner: str, remedy: str) -> str:
    """Tell it, once an operation."""
    operation = call.plan.operation
    if inner not in operation.told:
        operation.told[inner] = None
        operation.events.emit(NestedRetry(operation=operation.name, inner=inner, remedy=remedy))
    return f"{inner} has retried it already"


def mark(error: Exception, call: Retried, said: Said) -> None:
    """Leave word of `error` for an operation around this one. The time keeps a mark of an earlier call apart."""
    error.__dict__[_MARK] = (call.plan.operation.name, call.plan.now(), said, call.context)
