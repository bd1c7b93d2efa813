"""What the code inside a call may ask where the call itself is not the one to answer: a later attempt, a hedge, a fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience_kit.context import IdempotencyKeyHolder

if TYPE_CHECKING:
    from resilience_kit.execution.call import Call


class AttemptScope(IdempotencyKeyHolder):
    """One request of a call beyond its first: the same deadline and key, and an own count of the calls made within.

    Every attempt counts from one, so that a repeated call has the key that it had before. A hedge has one of its own for the
    same reason; and what an abandoned attempt still does in its thread does not take the numbers of the present one.
    """

    __slots__ = ("_call", "_counts")

    def __init__(self, call: Call) -> None:
        self._call, self._counts = call, None

    @property
    def context_id(self) -> int:
        """See `IdempotencyKeyHolder`."""
        return id(self._call)

    @property
    def earlier_attempts(self) -> int:
        """See `Call.earlier_attempts`."""
        return self._call.earlier_attempts

    def remaining(self) -> float | None:
        """See `CallContext`."""
        return self._call.remaining()

    def key(self) -> str:
        """See `CallContext`."""
        return self._call.key()


class FallbackScope(IdempotencyKeyHolder):
    """What a fallback may ask: what is left of the deadline of the call that it answers for, and that call's key.

    Where nothing is left when it begins, it answers for a call that has timed out. That deadline binds neither the fallback nor
    the calls made in it, which could not even begin otherwise; a deadline around the call binds them as ever.
    """

    __slots__ = ("_call", "_counts", "_deadline_ns", "_nested_deadline_ns", "ended")

    def __init__(self, call: Call) -> None:
        self._call, self._counts, self._deadline_ns, self.ended = call, None, call.deadline_ns, False
        self._nested_deadline_ns = call.deadline_ns if call.fits(0.0) else call.outer_deadline_ns

    @property
    def context_id(self) -> int:
        """That of what is around the call: a fallback's own calls are none of the attempts."""
        return self._call.outer_context_id

    def remaining(self) -> float | None:
        """See `CallContext`. A task that outlives the fallback is not bound by it."""
        return self._remaining_until(self._deadline_ns)

    def remaining_for_nested_calls(self) -> float | None:
        """See `CallContext`."""
        return self._remaining_until(self._nested_deadline_ns)

    def _remaining_until(self, deadline_ns: int | None) -> float | None:
        return None if self.ended or deadline_ns is None else max(0.0, (deadline_ns - self._call.plan.now()) / 1e9)

    def key(self) -> str:
        """See `CallContext`."""
        return self._call.key()

    def key_prefix(self) -> str:
        """See `IdempotencyKeyHolder`: an attempt's calls and the fallback's have different keys."""
        return f"{self.key()}/fallback"

    def fallback_deadline_ns(self) -> int | None:
        """When the call ends its fallback, in nanoseconds; None where nothing is left of its deadline, or there is none."""
        own = self._call.own_deadline_ns
        return own if own is not None and own > self._call.plan.now() else None

    def first_item_received(self) -> None:
        """Note the first item of a stream: the call's deadline was for that, an outer deadline still holds."""
        self._deadline_ns = self._nested_deadline_ns = self._call.outer_deadline_ns
