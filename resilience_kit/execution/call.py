"""State machine of one protected call: attempts, retries, completion. Does no I/O, never sleeps, never calls user code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from resilience_kit.classification import classify, was_not_sent
from resilience_kit.context import CallContext, IdempotencyKeyHolder, current_call, nested_key
from resilience_kit.errors import (
    DeadlineExceededError,
    Rejected,
    StreamInterruptedError,
)
from resilience_kit.events import CallCancelled, CallFailed, CallRejected, CallSucceeded, RetryScheduled
from resilience_kit.execution.admission import Admission
from resilience_kit.execution.deadlines import earliest
from resilience_kit.execution.delivered_items import DeliveredItems
from resilience_kit.execution.notes import add_note, trim_traceback
from resilience_kit.execution.plan import CallPlan
from resilience_kit.execution.rejection import emit_rejection
from resilience_kit.execution.retries import RETRYABLE_RESULT, CallRetryState, RetryMark, mark_error, stop_reason
from resilience_kit.execution.scope import AttemptScope
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.breaker.states import Token

TIMED_OUT = Verdict(FailureKind.TIMEOUT, retryable=True, counts_against_breaker=True)


class Call(Admission):
    """One call under way. Used by one thread or task at a time; as a `CallContext`, readable from others."""

    __slots__ = (
        "_counts",
        "_first_attempt",
        "_key",
        "_number",
        "_outer",
        "_retries",
        "_retryable_result",
        "_scope",
        "_seen_traceback",
        "function",
        "has_context",
        "is_streaming",
        "outer_context_id",
        "outer_deadline_ns",
    )  # fmt: skip

    def __init__(
        self,
        plan: CallPlan,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: int | None = None,
    ) -> None:
        self.plan, self.function, self.args, self.kwargs = plan, function, args, kwargs
        self.started = self.attempt_started = plan.now() if started is None else started
        self.attempts = 0
        self.ended = self.is_streaming = False
        self.has_context = True
        self.last_error = None
        self.token = None
        self.turn = None
        self._permit_delay, self._admission_started, self._ticket_wait_started, self._attempt_running = 0.0, 0, 0, True
        self._permits = None
        self._retries: CallRetryState | None = None
        #: What the last attempt returned, when that means "try again".
        self._retryable_result: tuple[Any] | None = None
        self._key: str | None = None
        self._first_attempt: IdempotencyKeyHolder | None = None
        self._seen_traceback: TracebackType | None = None
        self._attempt_timeout = plan.attempt_timeout
        self.own_deadline_ns = None if plan.deadline is None else self.started + plan.deadline_ns
        self._counts: dict[str, int] | None = None
        self._scope: AttemptScope | None = None
        self.delivered = None
        self._permits_since = None
        self._trials_token = None
        outer = self._outer = current_call.get()
        self._number = 0 if outer is None else outer.next_number(plan.operation.name)
        self.outer_context_id = 0 if outer is None else outer.context_id
        #: When a deadline around this call ends. It binds this call too, though it is the outer call's to enforce.
        self.outer_deadline_ns = None if outer is None else self._deadline_of(outer)
        self.deadline_ns = (
            self.own_deadline_ns if self.outer_deadline_ns is None else earliest(self.own_deadline_ns, self.outer_deadline_ns)
        )

    def _deadline_of(self, outer: CallContext) -> int | None:
        remaining = outer.remaining_for_nested_calls()
        return None if remaining is None else self.plan.now() + int(remaining * 1e9)

    @classmethod
    def from_first_attempt(  # noqa: PLR0913 - a call and its first attempt
        cls, plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], token: Any, started: int
    ) -> Call:
        """Make a call whose first attempt was made without one."""
        call = cls(plan, function, args, kwargs, started)
        call.token, call.attempts = token, 1
        return call

    @classmethod
    def from_admission(
        cls, plan: CallPlan, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], token: Token
    ) -> Call:
        """Make a call with nothing around it whose first attempt has been admitted, under a trial."""
        call = cls(plan, function, args, kwargs)
        call.token, call.has_context = token, not plan.fast_without_deadline
        return call

    # --- what the callee may know ----------------------------------------------------------------------------------------

    def context_for_callee(self, failure: BaseException | None) -> Call | None:
        """Return the context of further attempts: None when the first one failed without a context, so that all see the same."""
        self.has_context = self.has_context and (failure is None or not self.plan.fast_without_deadline)
        return self if self.has_context else None

    def scope(self) -> CallContext | None:
        """Return the context of the present attempt: the call itself, or from the second attempt on a fresh scope."""
        return self._scope or self if self.has_context else None

    def inherit_key(self, first: IdempotencyKeyHolder) -> None:
        """Go on with the key of an attempt that was made before, which makes one when either is asked."""
        self._first_attempt = first

    def key(self) -> str:
        """See `idempotency_key`."""
        if self._first_attempt is not None:
            return self._first_attempt.key()
        if self._key is None and self._outer is not None:
            self._key = nested_key(self._outer, self.plan.operation.name, self._number)  # the same, whichever thread comes first
        return super().key()

    # --- before an attempt -----------------------------------------------------------------------------------------------

    def admit(self) -> float:
        """0.0 when the attempt may start, else the seconds to sleep before asking again.

        Raises the refusal, or the last real error when there has been one, or `DeadlineExceededError`. Where the last word was a
        result that means "try again", that is what the call ends with: then it has `ended`, and `last_result` gives it.
        """
        try:
            if self.plan.key_of is not None and self._key is None and self.attempts == 0:
                self._key = self.plan.key_of(self.args, self.kwargs)
            if not self.fits(0.0):
                if self._retryable_result is not None:
                    return self._finish_with_last_result()
                raise self._deadline_exceeded() if self.turn is None else self.turn.refusal()
            return self._admit_attempt()
        except Rejected as rejection:
            self._attribute(rejection)
            self._release()
            pause = self._wait_for_reopening(rejection)
            if pause is not None:
                return pause
            if self._retryable_result is not None:
                return self._finish_with_last_result()
            self._finish_rejected(rejection)
            if self.last_error is None:
                raise
        raise self._take_last_error()

    def _finish_rejected(self, rejection: Rejected) -> None:
        """End the call: rejected at its first attempt, or failed with its last real error at a later one."""
        operation = self.plan.operation
        error = self.last_error
        if error is not None:
            self._finish_failed(error, classify(error), f"{rejection.rejected_by} refused a further attempt")
            self.last_error = error  # for `admit` to raise
            return
        self.ended = True
        metrics = operation.metrics  # a call that its fallback answers counts as failed, for whatever reason it is asked
        (metrics.rejected_calls if self.plan.fallback is None else metrics.failed_calls).add()
        if operation.events.has_listener(CallRejected):
            emit_rejection(self.plan, rejection)

    def _deadline_exceeded(self) -> DeadlineExceededError:
        self._release()
        error = self._deadline_error()
        self._finish_failed(error, TIMED_OUT, "its time is over")
        return error

    def _take_last_error(self) -> Exception:
        """Return the last real error and drop it here: a call that holds what it raises would be a reference cycle."""
        error, self.last_error = self.last_error, None
        return error if error is not None else RuntimeError()

    def _finish_with_last_result(self) -> float:
        self._release()
        self.succeeded(self.last_result())
        return 0.0

    def last_result(self) -> Any:
        """Return what the last attempt returned, of a call that ends with a result that means "try again"."""
        return None if self._retryable_result is None else self._retryable_result[0]

    def begin(self) -> None:
        """Start an attempt."""
        self._retryable_result = None
        self.attempts += 1
        self._attempt_running = True
        self.attempt_started = self.plan.now()  # also of a first one, which may have had to wait
        if self.attempts > 1:
            self._scope = AttemptScope(self)
            self.plan.operation.metrics.retry_attempts.add()
            self._seen_traceback = None if self.last_error is None else self.last_error.__traceback__

    def first_item_received(self, delivered: DeliveredItems | None = None) -> None:
        """Note the first item of a stream. The call's own time limits were for that; an outer deadline still holds."""
        self.delivered, self.is_streaming = delivered, True
        self.own_deadline_ns = self._attempt_timeout = None
        self.deadline_ns = self.outer_deadline_ns

    # --- after an attempt ------------------------------------------------------------------------------------------------

    def succeeded(self, value: Any) -> None:
        """End the attempt, and with it the call, successfully with `value`."""
        plan, now = self.plan, self.plan.now()
        self.ended = True
        if self._permits:
            since = self.attempt_started if self._permits_since is None else self._permits_since
            self._settle(Outcome(OutcomeKind.SUCCESS, (now - since) * 1e-9, value=value))
        metrics = plan.operation.metrics
        metrics.succeeded(now - self.started)
        metrics.last_success = now
        if plan.budget is not None and plan.budget.below_capacity:
            plan.refund_retry_tokens(0 if self._retries is None else self._retries.tokens_taken)
        # Last of what must happen: the breaker's listeners may be broken off.
        if plan.breaker is not None and self.token is not None and self.token.tracks_success:
            plan.breaker.on_success(self.token, (now - self.attempt_started) * 1e-9)
        if plan.emits_success:
            self._emit_call_succeeded(now)
        self._break_cycles()

    def _emit_call_succeeded(self, now: int) -> None:
        operation = self.plan.operation
        operation.events.emit(
            CallSucceeded(operation=operation.name, attempts=self.attempts, duration=(now - self.started) * 1e-9)
        )

    def pause_after_result(self, value: Any) -> float | None:
        """Seconds until the next attempt, where the config's `retry_on_result` wants one and there may be one; else None.

        The attempt itself went well: the service answered, which is what breaker and guards are told.
        """
        config = self.plan.retry
        if config is None or config.retry_on_result is None or not config.retry_on_result(value):
            return None
        now, token, self.token = self.plan.now(), self.token, None
        self._settle(Outcome(OutcomeKind.SUCCESS, (now - self.attempt_started) * 1e-9, value=value))
        if self.plan.breaker is not None and token.tracks_success:
            self.plan.breaker.on_success(token, (now - self.attempt_started) * 1e-9)
        self.last_error = None
        if not self.fits(0.0) or not self.plan.retry_safe:
            return None
        self._retries = self._retries or CallRetryState(self, config)
        pause = self._retries.pause_after_result(value)
        if pause is not None:
            self._retryable_result = (value,)
            self._emit_retry_scheduled("result", RETRYABLE_RESULT, pause)
        return pause

    def failed(self, error: BaseException, verdict: Verdict | None = None) -> float | None:
        """Record a failed attempt. Return the seconds until the next one, or None when this error is final."""
        if not isinstance(error, Exception):
            self.abandon(error)
            return None
        verdict = verdict or classify(error)
        if error is self.last_error:
            trim_traceback(error, self._seen_traceback)
        self.record(error, verdict)
        decision = self._decide_retry(error, verdict)
        if isinstance(decision, float):
            self.last_error = error
            self._emit_retry_scheduled(type(error).__name__, verdict, decision)
            return decision
        self._finish_failed(error, verdict, decision)
        return None

    def _decide_retry(self, error: Exception, verdict: Verdict) -> float | str:
        """Seconds until the next attempt, or why there is none."""
        config = self.plan.retry
        if config is None:
            return "it has no retries"
        why = stop_reason(self, config, error, verdict)
        if why:
            return why
        self._retries = self._retries or CallRetryState(self, config)
        pause = self._retries.pause_after(error, verdict)
        if pause is not None:
            return pause
        if config.max_attempts > 1:
            mark_error(error, self, RetryMark.RETRIED)
        return self._retries.reason(config)

    def _emit_retry_scheduled(self, name: str, verdict: Verdict, pause: float) -> None:
        operation = self.plan.operation
        if operation.events.has_listener(RetryScheduled):
            operation.events.emit(
                RetryScheduled(operation=operation.name, attempt=self.attempts, delay=pause, kind=verdict.kind, error_type=name)
            )

    def record(self, error: Exception, verdict: Verdict) -> None:
        """Tell the breaker and the guards that the attempt ended in an error."""
        seconds = (self.plan.now() - self.attempt_started) * 1e-9
        counted = self.plan.counts_as_failure(error, verdict)
        token, self.token = self.token, None
        if self.plan.breaker is not None:
            if counted and not any(absorbs(verdict) for absorbs in self.plan.absorbs):
                self.plan.breaker.on_failure(token, error, seconds, verdict.retry_after)
            else:
                self.plan.breaker.release(token)
        if self._permits:
            kind = OutcomeKind.FAILURE if counted else OutcomeKind.IGNORED
            not_sent = not self.is_streaming and was_not_sent(error)
            self._settle(Outcome(kind, seconds, verdict, error, self.value_so_far(), not_sent=not_sent))

    def _finish_failed(self, error: Exception, verdict: Verdict, why: str) -> None:
        self.ended = True
        operation = self.plan.operation
        operation.metrics.failed_calls.add()
        operation.metrics.last_failure = self.plan.now()
        self._mark_error(error)
        seconds = self.elapsed()
        add_note(
            error, operation.name, f"failed after {self.attempts} attempt{'s'[: self.attempts != 1]} in {seconds:.1f} s: {why}"
        )
        if operation.events.has_listener(CallFailed):
            name = type(error).__name__
            event = CallFailed(
                operation=operation.name, attempts=self.attempts, duration=seconds, kind=verdict.kind, error_type=name, reason=why
            )
            operation.events.emit(event)
        self._break_cycles()

    def _mark_error(self, error: Exception) -> None:
        """Tell an operation around this one how far it went."""
        if self.attempts and not self.plan.retry_safe and not was_not_sent(error):
            mark_error(error, self, RetryMark.MAYBE_PROCESSED)
        elif self.attempts > 1:
            mark_error(error, self, RetryMark.RETRIED)

    def encloses(self, context_id: int, operation: str) -> bool:
        """Whether a call of `operation` that had this context around it, 0 for none, was made within this one.

        One without a context may have been made within, in a thread that does not copy contexts, or may have waited beside this
        one for the same thing: then another operation's is taken for the former. Where this call gave no context, nothing can
        be told apart, and the safe answer is yes.
        """
        if context_id or not self.has_context:
            return context_id in (id(self), id(self._first_attempt)) or not self.has_context
        return operation != self.plan.operation.name

    def abandon(self, error: BaseException) -> None:
        """End the call without a result of the service: cancelled, or aborted by an error of a hook or guard."""
        if self.ended:
            return
        self._release()
        if isinstance(error, Exception):
            self._finish_failed(error, classify(error), "it was broken off between attempts")
            return
        self.ended = True
        operation = self.plan.operation
        operation.metrics.cancelled_calls.add()
        if operation.events.has_listener(CallCancelled):
            operation.events.emit(CallCancelled(operation=operation.name, attempts=self.attempts))
        self._break_cycles()

    def discard(self) -> None:
        """Release what this call took and do not count it: the work goes on under another call."""
        self.ended, self._attempt_running = True, False
        self._release()
        if self._outer is not None:
            self._outer.uncount(self.plan.operation.name, self._number)
        self._break_cycles()

    def stream_interrupted(self, error: Exception, delivered: int, partial: Sequence[object]) -> StreamInterruptedError:
        """End the call of a stream that broke after its first item; return the error that says what was delivered."""
        verdict = classify(error)
        self.record(error, verdict)
        broken = StreamInterruptedError(self.plan.operation.name, delivered, partial)
        broken.__cause__ = error
        self._finish_failed(broken, verdict, "a stream that has begun is not repeated")
        return broken

    def _break_cycles(self) -> None:
        """Break the circles of errors, their frames and this call, which would wait for the collector."""
        self.last_error = self._seen_traceback = self._scope = None
        if self._retries is not None:
            self._retries.break_cycles()
