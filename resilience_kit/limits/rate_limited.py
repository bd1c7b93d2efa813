"""Runs coroutines, so many in a time and so many at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self, TypeVar, overload

from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.errors import GuardKind, Rejected
from resilience_kit.limits.executor import AsyncExecutor, map_concurrently
from resilience_kit.limits.token_bucket import TokenBucketRateLimiter
from resilience_kit.outcome import Outcome
from resilience_kit.policies.bulkhead import BulkheadPermit
from resilience_kit.policies.rate_limit import RateLimitPermit

T = TypeVar("T")
R = TypeVar("R")


class CombinedPermit:
    """Leave of a rate limiter, and then of an executor, which is asked when the turn at the first has come. Its own `Turn`."""

    __slots__ = ("_executor", "_granted", "_permits")

    wait = 0.0

    def __init__(self, first: RateLimitPermit, executor: AsyncExecutor) -> None:
        self._executor, self._granted = executor, False
        self._permits: list[RateLimitPermit | BulkheadPermit] = [first]
        self.look()

    @property
    def turn(self) -> CombinedPermit | None:
        """Itself, until it has come."""
        return None if self._granted else self

    def look(self) -> float | None:
        """See `Turn.look`."""
        while (ticket := self._permits[-1].turn) is None or (pause := ticket.look()) == 0.0:
            if len(self._permits) > 1:
                self._granted = True
                return 0.0
            self._permits.append(self._executor.admit())
        return pause

    @property
    def expected(self) -> float | None:
        """See `Turn.expected`."""
        ticket = self._permits[-1].turn
        return 0.0 if ticket is None else ticket.expected

    @property
    def patience(self) -> float | None:
        """See `Turn.patience`."""
        ticket = self._permits[-1].turn
        return None if ticket is None else ticket.patience

    def claim(self) -> None:
        """See `Turn.claim`."""
        ticket = self._permits[-1].turn
        if ticket is not None:
            ticket.claim()

    def wake_by(self, wake: Callable[[], object]) -> None:
        """See `Turn.wake_by`."""
        ticket = self._permits[-1].turn
        if ticket is not None:
            ticket.wake_by(wake)

    def refusal(self) -> Rejected:
        """See `Turn.refusal`."""
        ticket = self._permits[-1].turn
        return Rejected(self._executor.name) if ticket is None else ticket.refusal()

    def settle(self, outcome: Outcome) -> None:
        """See `Permit.settle`."""
        for permit in reversed(self._permits):
            permit.settle(outcome)


class RateLimitedExecutor:
    """At most `rate` calls in each `period` seconds, `max_concurrency` at a time (None: any number). Also a `Guard`."""

    kind = GuardKind.RATE_LIMIT

    def __init__(
        self,
        rate: float,
        period: float = 1.0,
        max_concurrency: int | None = None,
        *,
        name: str = "executor",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.rate_limiter = TokenBucketRateLimiter(rate, period, name=name, clock=clock)
        self.executor = AsyncExecutor(max_concurrency, name=name)

    def admit(self, cost: float = 1.0) -> CombinedPermit:
        """Leave to start, perhaps with turns to wait for."""
        return CombinedPermit(self.rate_limiter.admit(cost), self.executor)

    def fits(self, cost: float = 1.0) -> bool:
        """Whether a call could start at once."""
        return self.rate_limiter.fits(cost) and self.executor.fits(cost)

    @overload
    async def execute(self, f: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R: ...

    @overload
    async def execute(self, f: Callable[..., R], *args: Any, **kwargs: Any) -> R: ...

    async def execute(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for a token, then for room, then call `f`, async or plain."""
        in_time, at_a_time = self.rate_limiter.execute, self.executor.execute
        return await in_time(at_a_time, f, *args, **kwargs)

    async def map(self, f: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
        """Return the results for all items, in their order. The first error ends the others and is raised."""
        return await map_concurrently(self.execute, f, items, self.executor.max_concurrency)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as of the executor
        """See `AsyncExecutor.shutdown`."""
        await self.executor.shutdown(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()
