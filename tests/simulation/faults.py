"""Faults put into the kit on purpose: a simulator that does not find them proves nothing about those that it does not find."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict
from unittest import mock

from resilience_kit.errors import ServerError
from resilience_kit.events import event_stream
from resilience_kit.execution import aio, streams
from resilience_kit.execution.call import Call
from resilience_kit.execution.plan import CallPlan
from resilience_kit.execution.timeouts import _NO_TIMEOUT
from resilience_kit.policies import retry
from resilience_kit.policies.breaker.core import BreakerCore
from resilience_kit.policies.breaker.states import CircuitState, HalfOpenSnapshot, StateSnapshot
from resilience_kit.policies.retry_budget import RetryBudget
from tests.simulation.runs import Run, quiet

Wrapped = Callable[..., Any]


Change = tuple[Any, str, Callable[[Wrapped], Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, the invariants that it may be found by, and what it changes: an owner's attribute, made from the right one."""

    name: str
    invariants: frozenset[int | str]
    changes: tuple[Change, ...]

    @contextlib.contextmanager
    def put_in(self) -> Iterator[None]:
        """Have it in the kit for a while."""
        with contextlib.ExitStack() as changed:
            for owner, attribute, broken in self.changes:
                changed.enter_context(mock.patch.object(owner, attribute, broken(getattr(owner, attribute))))
            yield


class Found(TypedDict):
    """After how many runs something was wrong, and after how many it was told what; None if never."""

    fault: str
    noticed: int | None
    found: int | None
    violation: str | None


def find(fault: Fault, most_runs: int) -> Found:
    """Run worlds until one of them breaks the invariant that the fault is about. Others may be broken before."""
    noticed = None
    with fault.put_in(), quiet():
        for number in range(1, most_runs + 1):
            violation = Run(number).violation()
            if violation is not None:
                noticed = noticed or number
                if violation.invariant in fault.invariants:
                    return Found(fault=fault.name, noticed=noticed, found=number, violation=violation.text)
    return Found(fault=fault.name, noticed=noticed, found=None, violation=None)


# --- the faults ----------------------------------------------------------------------------------------------------------


def _one_trial_more(right: Wrapped) -> Wrapped:
    return lambda self, now, lease, slots: right(self, now, lease, slots + 1)


def _never_full(_: Wrapped) -> Wrapped:
    return lambda self, snapshot, now: False


def _any_success_closes(right: Wrapped) -> Wrapped:
    def succeeded(self: BreakerCore, token: Any, seconds: float = 0.0) -> None:
        if self.snapshot.state is CircuitState.OPEN:
            self._close_locked("some call succeeded", self.now())
            self._publish(self._drain_transitions_locked())
        right(self, token, seconds)

    return succeeded


def _old_tokens_count(_: Wrapped) -> Wrapped:
    return lambda self, token, now: not isinstance(token, StateSnapshot) or token is self.snapshot


def _nothing_comes_back(_: Wrapped) -> Wrapped:
    return lambda self, token: None


def _a_cancellation_is_an_error(right: Wrapped) -> Wrapped:
    def failed(self: Call, error: BaseException, verdict: Any = None) -> float | None:
        if isinstance(error, asyncio.CancelledError):
            error = ServerError()
        pause: float | None = right(self, error, verdict)
        return pause

    return failed


def _everything_fits(_: Wrapped) -> Wrapped:
    return lambda self, seconds: True


def _nothing_is_cut(_: Wrapped) -> Wrapped:
    return lambda clock, due: _NO_TIMEOUT


def _not_counted_in_a_pause(right: Wrapped) -> Wrapped:
    def abandon(self: Call, error: BaseException) -> None:
        if self.last_error is not None and not self.ended:
            self._release()
            self.ended = True
        right(self, error)

    return abandon


def _shorter(right: Wrapped) -> Wrapped:
    return lambda self, retry_after: right(self, retry_after) * 0.9


def _hints_are_not_read(_: Wrapped) -> Wrapped:
    return lambda self, state: self._config.backoff(state.attempt_number)


def _one_more(right: Wrapped) -> Wrapped:
    return lambda attempts: right(attempts + 1)


def _always_new(_: Wrapped) -> Wrapped:
    return lambda self: str(next(_numbers))


_numbers = itertools.count()


def _always_true(_: Wrapped) -> Any:
    return property(lambda self: True)


def _never_short(_: Wrapped) -> Wrapped:
    return lambda self, tokens: True


def _only_the_last(_: Wrapped) -> Wrapped:
    def settle(self: Call, outcome: Any) -> None:
        permits, self._permits = self._permits or (), None
        for permit in permits[-1:]:
            permit.settle(outcome)

    return settle


def _not_caught(_: Wrapped) -> Wrapped:
    return lambda listener, event: listener(event)


def _fault(name: str, invariants: set[int | str], *changes: Change) -> Fault:
    return Fault(name, frozenset(invariants), changes)


FAULTS = (
    _fault("double trial", {1}, (HalfOpenSnapshot, "acquire", _one_trial_more), (BreakerCore, "_trials_exhausted", _never_full)),
    _fault("stale close", {7}, (BreakerCore, "on_success", _any_success_closes)),
    _fault("leaked permit", {3, 5}, (BreakerCore, "release", _nothing_comes_back)),
    _fault("swallowed cancel", {28}, (Call, "failed", _a_cancellation_is_an_error)),
    _fault("deadline overrun", {26}, (Call, "fits", _everything_fits)),
    _fault("lost count", {"counts"}, (Call, "abandon", _not_counted_in_a_pause)),
    _fault("stale token", {6, 7, 8, 17}, (BreakerCore, "_is_current", _old_tokens_count)),
    _fault("opens for too short", {10, 18}, (BreakerCore, "_open_seconds_locked", _shorter)),
    _fault("attempt not cut off", {26}, (aio, "timeout_at", _nothing_is_cut)),
    _fault("stream not cut off", {26}, (streams, "timeout_at", _nothing_is_cut)),
    _fault("hint ignored", {29}, (retry.wait_backoff, "__call__", _hints_are_not_read)),
    _fault("one attempt too many", {23}, (retry.tenacity, "stop_after_attempt", _one_more)),
    _fault("another key", {30}, (Call, "key", _always_new)),
    _fault("repeats what may not be", {30}, (CallPlan, "retry_safe", _always_true)),
    _fault("budget ignored", {31}, (RetryBudget, "withdraw", _never_short)),
    _fault("leaked guard's permit", {"guards"}, (Call, "_settle", _only_the_last)),
    _fault("listener's error", {14}, (event_stream, "_notify", _not_caught)),
)
