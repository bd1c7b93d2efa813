"""What happened to one attempt, who may allow it, and where time comes from.

A guard decides, a driver waits. Everything here is plain data or a protocol; nothing here waits, except the system's clock
when it is asked to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from resilience_kit.errors import GuardKind, Rejected


class FailureKind(StrEnum):
    """What kind of trouble an error is."""

    TRANSIENT = "transient"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    AUTH = "auth"
    PERMISSION = "permission"
    INVALID_REQUEST = "invalid_request"
    NOT_FOUND = "not_found"
    CONTENT_FILTER = "content_filter"
    CONTEXT_LENGTH = "context_length"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the next attempt.

    `retryable`: another attempt may succeed. `counts_against_breaker`: the service, not the caller, is at fault.
    `retry_after`: seconds that the service asked to wait, None without a usable hint.
    """

    kind: FailureKind
    retryable: bool
    counts_against_breaker: bool
    retry_after: float | None = None


class OutcomeKind(StrEnum):
    """How an attempt ended, as a guard sees it."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    `duration` is in seconds, 0.0 where it has not begun. `verdict` and `error` are set for failure and ignored only.
    An ignored attempt ended in an error that says nothing about the service's health; a cancelled one says nothing at all.
    `value` is what a successful one gave, of a stream its `Streamed` items: of one that broke, was cut off, cancelled or left,
    too, those that were delivered. `begun` is False where the function was not called: what was taken for it was not used.
    `not_sent`: the request has surely not reached the service, since it was not begun or could not connect.
    """

    kind: OutcomeKind
    duration: float = 0.0
    verdict: Verdict | None = None
    error: BaseException | None = None
    value: object = None
    begun: bool = True
    not_sent: bool = False


#: Of a permit that was given for an attempt that was not made.
NOT_BEGUN = Outcome(OutcomeKind.CANCELLED, begun=False, not_sent=True)


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a stream has delivered: the latest of its items, the last one last."""

    items: Sequence[object]


@runtime_checkable
class Permit(Protocol):
    """Leave to start one attempt.

    The driver sleeps `wait` seconds before the call (0.0 as a rule) and settles the permit exactly once, whatever happens.
    A permit may have a `turn`, which the driver waits for before it asks the next guard; None or no such attribute: it has come.
    """

    @property
    def wait(self) -> float:
        """Seconds to sleep before the call."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Hear how the attempt ended. Must not raise, sleep or block."""
        ...


class Turn(Protocol):
    """A caller's place in a guard's queue: the guard moves it on, the driver waits. Settling its permit gives the place up.

    Used by one caller at a time, moved by any thread.
    """

    @property
    def expected(self) -> float | None:
        """Seconds until it comes if nothing changes; None when nobody knows."""
        ...

    @property
    def patience(self) -> float | None:
        """Seconds for which the guard lets this caller wait still; None: without limit."""
        ...

    def look(self) -> float | None:
        """0.0 when it has come, the seconds to sleep before `claim`, or None: until it is woken. Raises `Rejected`."""
        ...

    def claim(self) -> None:
        """Hear that the seconds that `look` named have been slept, whatever the clock says."""
        ...

    def wake_by(self, wake: Callable[[], object]) -> None:
        """Call `wake`, from any thread, when another look is worth while; at once, when it has been since the last look."""
        ...

    def refusal(self) -> Rejected:
        """What to raise when the caller cannot wait so long."""
        ...


@runtime_checkable
class Guard(Protocol):
    """Decides whether an attempt may start. Never sleeps, never calls the user's function, never logs. Thread-safe.

    One that has `admit_call(args, kwargs)`, too, is asked by that, and sees the arguments of the call. One that has a `kind`
    (a `GuardKind` or its value) is reported under it in events and refusals; any other is `custom`.
    """

    @property
    def name(self) -> str:
        """Who refuses, for errors and events."""
        ...

    def admit(self, cost: float = 1.0) -> Permit:
        """Give a permit that costs `cost` units, or raise `Rejected`."""
        ...

    def fits(self, cost: float = 1.0) -> bool:
        """Whether `admit` would give a permit now; takes nothing."""
        ...


def guard_kind_of(guard: object) -> GuardKind:
    """Tell the kind of a guard: its `kind` where that is a `GuardKind` or the value of one, else `custom`."""
    kind = getattr(guard, "kind", None)
    return GuardKind(kind) if isinstance(kind, str) and kind in _GUARD_KINDS else GuardKind.CUSTOM


_GUARD_KINDS = frozenset(GuardKind)


class Timer(Protocol):
    """A callback that is due later and can be called off."""

    def cancel(self) -> None:
        """Call it off; nothing happens when it has run."""
        ...


class Clock(Protocol):
    """Where time comes from. Only intervals are meaningful: the zero is arbitrary."""

    def monotonic(self) -> float:
        """Seconds; never goes back."""
        ...

    def nanoseconds(self) -> int:
        """A finer monotonic reading, for latencies."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this task."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Run `callback` on the running event loop after `seconds`."""
        ...

    def wait(self, event: threading.Event, sleep: float | None, timeout: float | None) -> bool:
        """Block this thread until `event` is set, for `sleep` seconds or, where that is None, `timeout` seconds at most.

        Tells whether it was woken. A `sleep` is one as in `sleep`; `timeout` is how long something may take.
        """
        ...

    async def wait_async(self, future: asyncio.Future[bool], sleep: float | None, timeout: float | None) -> bool:  # noqa: ASYNC109 - the clock is what keeps it
        """The same for this task; who wakes it sets the result to True."""
        ...


class SystemClock:
    """The machine's monotonic clock.

    `time.monotonic`, `time.sleep` and `asyncio.sleep` are read when used, so that whoever patches them is obeyed.

    `waiting = False` on an instance makes every sleep return at once (the switch behind `resilience_kit.testing.no_waiting`).
    """

    __slots__ = ("sleep_enabled",)

    def __init__(self) -> None:
        self.sleep_enabled = True

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    nanoseconds = staticmethod(time.perf_counter_ns)

    def sleep(self, seconds: float) -> None:
        """`time.sleep`, but not at all for zero, which would cost a context switch."""
        if seconds > 0.0 and self.sleep_enabled:
            time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """`asyncio.sleep`; zero still lets other tasks run."""
        await asyncio.sleep(seconds if self.sleep_enabled else 0.0)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """The running loop's own `call_later`."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    def wait(self, event: threading.Event, sleep: float | None, timeout: float | None) -> bool:
        """`Event.wait`; with `waiting = False` no sleep lasts, but whoever has to be woken is waited for."""
        if sleep is not None and not self.sleep_enabled:
            sleep = 0.0
        return event.wait(timeout if sleep is None else sleep)

    async def wait_async(self, future: asyncio.Future[bool], sleep: float | None, timeout: float | None) -> bool:  # noqa: ASYNC109 - the clock is what keeps it
        """The same in the running loop."""
        if sleep is not None and not self.sleep_enabled:
            sleep = 0.0
        return await wait_for_future(self, future, timeout if sleep is None else sleep)


def resolve_future(future: asyncio.Future[bool], *, result: bool) -> None:
    """Set the result of `future`, unless it has one or nobody waits for it any more."""
    if not future.done():
        future.set_result(result)


async def wait_for_future(clock: Clock, future: asyncio.Future[bool], seconds: float | None) -> bool:
    """Whether somebody else sets the result of `future` within `seconds`."""
    timer = None if seconds is None else clock.call_later(seconds, lambda: resolve_future(future, result=False))
    try:
        return await future
    finally:
        if timer is not None:
            timer.cancel()


SYSTEM_CLOCK = SystemClock()
