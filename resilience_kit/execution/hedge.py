"""A race between the requests of one attempt: a second one goes out when the first takes unusually long; the first answer counts.

To the rules of the call it is one attempt. The loser is cancelled and awaited before the answer is given, so that its connection
is back where it came from. A hedge never makes things worse: it asks the guards and waits for none of them, it is not sent while
the circuit is anything but closed or the retry budget is used up, and what it fails with is not told to the caller.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio import CancelledError, Future
from collections.abc import Iterable, Iterator
from typing import Any

from resilience_kit._callable_kinds import is_awaitable
from resilience_kit.classification import classify, was_not_sent
from resilience_kit.clock import resolve_future, wait_for_future
from resilience_kit.context import current_call
from resilience_kit.errors import REDACTED, ConfigurationError, Rejected
from resilience_kit.events import HedgeSkipped, HedgeStarted
from resilience_kit.execution.call import Call
from resilience_kit.execution.plan import Operation
from resilience_kit.execution.scope import AttemptScope
from resilience_kit.guards import Guard, Permit, guard_kind_of
from resilience_kit.outcome import NOT_BEGUN, FailureKind, Outcome, OutcomeKind
from resilience_kit.policies.hedge import HedgeConfig, Hedging

Permits = tuple[Permit, ...]


def get_hedging(operation: Operation, config: HedgeConfig | None) -> Hedging | None:
    """Return the operation's hedging: one object for equal options, so that call sites share its state."""
    if config is None:
        return None
    made: Hedging | None = operation.limiters.get("hedge")
    if made is None or made.config != config:
        latency: Any = operation.metrics.latency
        made = operation.limiters["hedge"] = Hedging(config, latency.quantile_upper_bound)
    return made


def hedging_not_supported(operation: str) -> ConfigurationError:
    """For a function that cannot be hedged."""
    rule = f"hedges async functions only, since it cancels the slower request; {operation!r} is none: take hedge off its config"
    return ConfigurationError([("ResilienceConfig.hedge", rule, REDACTED)])


async def run_hedged(call: Call, hedging: Hedging) -> Any:
    """Return the result of a started attempt, or raise its error. Raises `ConfigurationError` for what cannot be cancelled."""
    delay = hedging.delay()
    awaitable: Any = None if _is_in_thread(call.function) else call.function(*call.args, **call.kwargs)
    if not is_awaitable(awaitable):
        raise hedging_not_supported(call.plan.operation.name)
    if delay is None or not _is_closed(call):
        return await awaitable
    return await _Race(call, hedging, delay, asyncio.ensure_future(awaitable)).run()


def _is_in_thread(function: object) -> bool:
    return isinstance(function, functools.partial) and function.func is asyncio.to_thread


async def _send_again(call: Call) -> Any:
    current_call.set(AttemptScope(call))  # of this task's own context
    return await call.function(*call.args, **call.kwargs)


def _is_closed(call: Call) -> bool:
    return call.plan.breaker is None or call.plan.breaker.closed


class _Race:
    """The requests of one attempt, the first of which is the driver's own: its permits are those of the call."""

    def __init__(self, call: Call, hedging: Hedging, delay: float, first: Future[Any]) -> None:
        self._call, self._hedging, self._delay, self._first = call, hedging, delay, first
        self._hedges: dict[Future[Any], tuple[Permits, int]] = {}
        self._remaining_hedges = hedging.config.max_hedges

    async def run(self) -> Any:
        """Until one of them has an answer, or all have failed."""
        try:
            while not self._is_decided():
                if not await self._next_event():
                    self._start_hedge()
            return self._answer()
        finally:
            try:
                await _cancel_and_wait([self._first, *self._hedges])
            finally:
                self._settle_remaining()
                del self._first  # its error holds frames that hold this

    async def _next_event(self) -> bool:
        """Return False when the time for another hedge has come before anything else has happened."""
        woken: Future[bool] = asyncio.get_running_loop().create_future()
        delay = self._delay if self._remaining_hedges and not self._first.done() else None
        wake = functools.partial(_wake, woken)
        running = [each for each in (self._first, *self._hedges) if not each.done()]
        for each in running:
            each.add_done_callback(wake)
        try:
            return await wait_for_future(self._call.plan.clock, woken, delay)
        finally:
            for each in running:
                each.remove_done_callback(wake)

    def _is_decided(self) -> bool:
        """There is an answer; or the first one's error is what another request would meet, too; or all have failed."""
        for hedge in [hedge for hedge in self._hedges if hedge.done() and not _has_result(hedge)]:
            self._settle_loser(hedge)
        if any(hedge.done() for hedge in self._hedges):
            return True
        return self._first.done() and (not self._hedges or not _is_retryable(self._first))

    def _answer(self) -> Any:
        winner = None if _has_result(self._first) else next((hedge for hedge in self._hedges if hedge.done()), None)
        if winner is None:
            return self._first.result()
        permits, since = self._hedges.pop(winner)
        self._call.adopt_permits(permits, since, self._loser_outcome(self._first, self._call.attempt_started))
        return winner.result()

    # --- hedges ----------------------------------------------------------------------------------------------------------

    def _start_hedge(self) -> None:
        self._remaining_hedges -= 1
        call, plan = self._call, self._call.plan
        if not _is_closed(call) or not self._hedging.try_acquire():
            return
        permits = self._permits()
        if permits is None or plan.take_retry_tokens(FailureKind.TRANSIENT) is None:
            _settle(permits or (), NOT_BEGUN)
            self._hedging.refund()
            return
        self._hedges[asyncio.ensure_future(_send_again(call))] = (permits, plan.now())
        if plan.operation.events.has_listener(HedgeStarted):
            plan.operation.events.emit(HedgeStarted(operation=plan.operation.name, after=self._delay))

    def _permits(self) -> Permits | None:
        """Of every guard, or none: a hedge takes a turn that has come when it is asked for, and waits for no other."""
        permits: list[Permit] = []
        for guard, admit in self._call.plan.admitters:
            try:
                permits.append(admit(self._call.args, self._call.kwargs))
                ticket: Any = getattr(permits[-1], "turn", None)
                poll = getattr(ticket, "look", None)
                has_to_wait = permits[-1].wait or (ticket is not None and (poll is None or poll() != 0.0))
            except BaseException as error:
                _settle(permits, NOT_BEGUN)
                if not isinstance(error, Rejected):
                    raise
                self._report_skipped(guard)
                return None
            if has_to_wait:
                _settle(permits, NOT_BEGUN)
                self._report_skipped(guard)
                return None
        return tuple(permits)

    def _report_skipped(self, guard: Guard) -> None:
        """Once for each guard of an operation: its calls are not hedged while it has to be waited for."""
        operation = self._call.plan.operation
        key = f"no hedge: {guard.name}"
        if key not in operation.reported:
            operation.reported[key] = None
            kind = guard_kind_of(guard)
            operation.events.emit(HedgeSkipped(operation=operation.name, guard=guard.name, guard_kind=kind))

    def _settle_loser(self, hedge: Future[Any]) -> None:
        permits, started = self._hedges.pop(hedge)
        _settle(permits, self._loser_outcome(hedge, started))

    def _settle_remaining(self) -> None:
        for hedge in list(self._hedges):
            self._settle_loser(hedge)

    def _loser_outcome(self, request: Future[Any], started: int) -> Outcome:
        """How a request ended whose answer is not the attempt's. One that is not done is about to be cancelled."""
        plan = self._call.plan
        seconds = (plan.now() - started) * 1e-9
        if _has_result(request):
            return Outcome(OutcomeKind.SUCCESS, seconds, value=request.result())
        error = None if not request.done() or request.cancelled() else request.exception()
        if not isinstance(error, Exception):
            return Outcome(OutcomeKind.CANCELLED, seconds)
        verdict = classify(error)
        kind = OutcomeKind.FAILURE if plan.counts_as_failure(error, verdict) else OutcomeKind.IGNORED
        return Outcome(kind, seconds, verdict, error, not_sent=was_not_sent(error))


def _wake(woken: Future[bool], _: Future[Any]) -> None:
    resolve_future(woken, result=True)


def _has_result(request: Future[Any]) -> bool:
    return request.done() and not request.cancelled() and request.exception() is None


def _is_retryable(request: Future[Any]) -> bool:
    error = None if request.cancelled() else request.exception()
    return isinstance(error, Exception) and classify(error).retryable


def _settle(permits: Iterable[Permit], outcome: Outcome) -> None:
    for permit in reversed(tuple(permits)):
        permit.settle(outcome)


def _pending(requests: Iterable[Future[Any]]) -> Iterator[Future[Any]]:
    return (each for each in requests if not each.done())


async def _cancel_and_wait(requests: Iterable[Future[Any]]) -> None:
    """Cancel what is not done, and wait for it; also when the waiting is itself cancelled, which is told afterwards."""
    cancelled: CancelledError | None = None
    while running := list(_pending(requests)):
        for each in running:
            each.cancel()
        try:
            await asyncio.wait(running)
        except CancelledError as error:
            cancelled = error
    for each in requests:
        if not each.cancelled():
            each.exception()  # it has been seen
    if cancelled is not None:
        raise cancelled
