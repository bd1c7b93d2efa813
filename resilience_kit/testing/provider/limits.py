"""Limits of a provider: requests and tokens a minute for each key, and concurrent requests.

A rate limit is a bucket that refills continuously, as the headers of OpenAI show (one request of 5000 a minute used,
`x-ratelimit-reset-requests: 12ms`) and as Anthropic documents. A request takes what it needs from every bucket, or nothing from
any.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resilience_kit._checks import Checks

if TYPE_CHECKING:
    from resilience_kit.testing.provider._server import Connection

MINUTE = 60
#: Nanotokens: floating-point error must not reject a request that came exactly on time.
_ROUNDING = 1e-9

Unit = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """The rate limits of each key.

    `requests_per_minute`: None: as many as it likes.
    `tokens_per_minute`: words of the prompt and of the answer; None: no limit on them.
    `burst_seconds`: how many seconds' worth may be used at once after a rest; 60: a minute's, as OpenAI and Anthropic grant it.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    burst_seconds: float = 60.0

    def __post_init__(self) -> None:
        checks = Checks("ProviderLimits")
        good = [checks.integer(field, value, 1) for field, value in self._configured()]
        if checks.seconds("burst_seconds", self.burst_seconds) and all(good):
            self._check_burst(checks)
        if not good:
            checks.add("requests_per_minute", "must be given, or tokens_per_minute", None)
        checks.raise_if_any()

    def _configured(self) -> list[tuple[str, int]]:
        fields = {"requests_per_minute": self.requests_per_minute, "tokens_per_minute": self.tokens_per_minute}
        return [(name, value) for name, value in fields.items() if value is not None]

    def _check_burst(self, checks: Checks) -> None:
        least = max((MINUTE / value for _, value in self._configured()), default=0.0)
        if self.burst_seconds < least - _ROUNDING:
            checks.add("burst_seconds", f"must hold one request and one token, which takes {least:g} seconds", self.burst_seconds)


@dataclass(frozen=True, slots=True)
class LimitReading:
    """A bucket after a request: `remaining` whole units of `limit` a minute, and the seconds until it is full."""

    unit: Unit
    limit: int
    remaining: int
    seconds_to_full: float


@dataclass(frozen=True, slots=True)
class LimitRejection:
    """The reason for a rejected request: the bucket, and the seconds until it has enough; None when it never will."""

    unit: Unit
    limit: int
    used: int
    requested: int
    wait: float | None


@dataclass(frozen=True, slots=True)
class Quota:
    """The buckets of a key after a request, and the rejection if any."""

    readings: tuple[LimitReading, ...]
    rejection: LimitRejection | None = None


class _RefillingBucket:
    """A bucket of `burst_seconds` of a rate, refilled at that rate."""

    def __init__(self, unit: Unit, limit: int, burst_seconds: float) -> None:
        self.unit: Unit = unit
        self._limit, self._rate = limit, limit / MINUTE
        self._size = self._rate * burst_seconds
        self._used, self._at = 0.0, -math.inf

    def refill(self, now: float) -> None:
        """Refill the bucket until `now`."""
        self._used = max(0.0, self._used - (now - self._at) * self._rate)
        self._at = now

    def take(self, amount: int) -> None:
        self._used += amount

    def rejection(self, amount: int) -> LimitRejection | None:
        """Return the rejection for this amount now; None when the bucket has enough."""
        lacking = self._used + amount - self._size
        if lacking <= _ROUNDING:
            return None
        wait = lacking / self._rate if amount <= self._size + _ROUNDING else None
        return LimitRejection(self.unit, self._limit, self._limit - self._remaining(), amount, wait)

    def reading(self) -> LimitReading:
        return LimitReading(self.unit, self._limit, self._remaining(), self._used / self._rate)

    def _remaining(self) -> int:
        return math.floor(self._size - self._used + _ROUNDING)


class KeyLimiter:
    """Applies the same limits to every key, each with its own buckets. Not thread-safe: for the provider's loop only."""

    def __init__(self, limits: ProviderLimits) -> None:
        self._limits = limits
        self._keys: dict[str, tuple[_RefillingBucket, ...]] = {}

    def take(self, key: str, tokens: int, now: float) -> Quota:
        """Take a request and its tokens from the key's buckets, or nothing; report the longest wait."""
        buckets = self._keys.setdefault(key, tuple(self._new()))
        amounts = [tokens if bucket.unit == "tokens" else 1 for bucket in buckets]
        for bucket in buckets:
            bucket.refill(now)
        rejections = [bucket.rejection(amount) for bucket, amount in zip(buckets, amounts, strict=True)]
        rejection = _longest_wait(refusal for refusal in rejections if refusal is not None)
        if rejection is None:
            for bucket, amount in zip(buckets, amounts, strict=True):
                bucket.take(amount)
        return Quota(tuple(bucket.reading() for bucket in buckets), rejection)

    def _new(self) -> Iterator[_RefillingBucket]:
        if self._limits.requests_per_minute is not None:
            yield _RefillingBucket("requests", self._limits.requests_per_minute, self._limits.burst_seconds)
        if self._limits.tokens_per_minute is not None:
            yield _RefillingBucket("tokens", self._limits.tokens_per_minute, self._limits.burst_seconds)


def _longest_wait(rejections: Iterable[LimitRejection]) -> LimitRejection | None:
    return max(rejections, key=lambda refusal: math.inf if refusal.wait is None else refusal.wait, default=None)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The number of requests served concurrently; others wait in a queue, so latency grows.

    `max_concurrent`: how many are served, each from its arrival to its last byte.
    `max_queue`: how many may wait; one more gets 529 at once. None: an unbounded queue; 0: no queue.
    """

    max_concurrent: int
    max_queue: int | None = None

    def __post_init__(self) -> None:
        checks = Checks("Capacity")
        checks.integer("max_concurrent", self.max_concurrent, 1)
        if self.max_queue is not None:
            checks.integer("max_queue", self.max_queue, 0)
        checks.raise_if_any()


class ConcurrencyLimiter:
    """The slots of a server with a capacity, and the queue for them. For the provider's loop only."""

    def __init__(self, capacity: Capacity | None) -> None:
        self.capacity = capacity
        self._in_use = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Return whether one more request can neither be served nor queued."""
        queue = None if self.capacity is None else self.capacity.max_queue
        return queue is not None and not self._has_capacity() and len(self._queue) >= queue

    async def acquire(self, connection: Connection) -> bool:
        """Take a slot in the order of arrival; return False when the client disconnected first."""
        if self._has_capacity() and not self._queue:
            self._in_use += 1
            return True
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(slot)
        if await connection.wait_for_slot(slot):
            return True
        self._cancel(slot)
        return False

    def release(self) -> None:
        """Release a slot."""
        self._in_use -= 1
        self.admit_waiting()

    def admit_waiting(self) -> None:
        """Grant free slots to waiting requests."""
        while self._queue and self._has_capacity():
            self._in_use += 1
            self._queue.popleft().set_result(None)

    def _has_capacity(self) -> bool:
        return self.capacity is None or self._in_use < self.capacity.max_concurrent

    def _cancel(self, slot: asyncio.Future[None]) -> None:
        if slot.done():
            self.release()
        else:
            self._queue.remove(slot)
