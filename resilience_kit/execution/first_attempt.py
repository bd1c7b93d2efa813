"""The first attempt of a call that has a deadline or an attempt timeout, and nothing else to set it up for: kept light.

It is both what the callee may ask about its call and the limit on it. When the attempt fails, a `Call` takes over.
"""

from __future__ import annotations

from asyncio import Task
from collections.abc import Callable
from typing import Any

from resilience_kit.context import IdempotencyKeyHolder
from resilience_kit.execution.call import Call
from resilience_kit.execution.plan import CallPlan
from resilience_kit.execution.timeouts import Timeout
from resilience_kit.policies.breaker.states import Token


class FirstAttempt(Timeout, IdempotencyKeyHolder):
    """A first attempt under a deadline. Of a plain function, which cannot be cut off, it has no task."""

    __slots__ = ("_counts", "_key", "_plan", "ended", "started")

    _key: str | None
    _counts: dict[str, int] | None

    def __init__(self, plan: CallPlan, task: Task[Any] | None = None) -> None:
        self._plan, self._key, self._counts, self.ended = plan, None, None, False
        self.started = started = plan.now()
        self.due_ns = started + plan.first_attempt_ns
        if task is not None:
            self.task, self.cancel_requests = task, task.cancelling()

    def remaining(self) -> float | None:
        """See `context.remaining_time`. A task that outlives the attempt is not bound by it."""
        return None if self.ended else max(0.0, (self.due_ns - self._plan.now()) / 1e9)

    def to_call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], token: Token) -> Call:
        """Return the call that continues after this attempt has failed, with the same start and key."""
        call = Call.from_first_attempt(self._plan, function, args, kwargs, token, self.started)
        call.inherit_key(self)
        return call
