"""What happened to one attempt, who may allow it, and where time comes from.

A guard decides, a driver waits. Everything here is plain data or a protocol; nothing here waits, except the system's clock
when it is asked to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


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
    """The end of one attempt. `duration` is in seconds; `verdict` and `error` are set for failure and ignored only.

    An ignored attempt ended in an error that says nothing about the service's health; a cancelled one says nothing at all.
    """

    kind: OutcomeKind
    duration: float = 0.0
    verdict: Verdict | None = None
    error: BaseException | None = None
    value: object = None


@runtime_checkable
class Permit(Protocol):
    """Leave to start one attempt.

    The driver sleeps `wait` seconds before the call (0.0 as a rule) and settles the permit exactly once, whatever happens.
    """

    @property
    def wait(self) -> float:
        """Seconds to sleep before the call."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Hear how the attempt ended. Must not raise, sleep or block."""
        ...


@runtime_checkable
class Guard(Protocol):
    """Decides whether an attempt may start. Never sleeps, never calls the user's function, never logs. Thread-safe."""

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


class SystemClock:
    """The machine's monotonic clock.

    `time.monotonic`, `time.sleep` and `asyncio.sleep` are read when used, so that whoever patches them is obeyed.

    `waiting = False` on an instance makes every sleep return at once (the switch behind `resilience_kit.testing.no_waiting`).
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = True

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    nanoseconds = staticmethod(time.perf_counter_ns)

    def sleep(self, seconds: float) -> None:
        """`time.sleep`, but not at all for zero, which would cost a context switch."""
        if seconds > 0.0 and self.waiting:
            time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """`asyncio.sleep`; zero still lets other tasks run."""
        await asyncio.sleep(seconds if self.waiting else 0.0)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """The running loop's own `call_later`."""
        return asyncio.get_running_loop().call_later(seconds, callback)


SYSTEM_CLOCK = SystemClock()
