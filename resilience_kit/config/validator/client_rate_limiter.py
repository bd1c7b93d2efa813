"""Rate limit per client of the validator, exact and in bounded memory.

The time of every admitted request of the last hour is kept, so no period of an hour holds more than allowed. Rejected requests
are not kept: they use no quota, and a client's record never grows beyond its limit.

A client's record is dropped once all of it is too old to count. While the table is full of records that count, clients without
one share a single record: a flood of new names gains no quota, neither for the new names nor for an evicted old one.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypedDict

from resilience_kit._checks import Checks
from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import SYSTEM_CLOCK, Clock

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 3600 * _SECOND
#: Characters of a name that are hashed from either end.
_KEY_PART_LENGTH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRateLimits:
    """Rate limits of one client; None: no limit.

    `per_minute`: requests in any 60 seconds. `per_hour`: requests in any 3600 seconds. `interval`: seconds between two requests.
    `max_clients`: clients with a record of their own; further ones share one.
    """

    per_minute: int | None = 60
    per_hour: int | None = 1000
    interval: float | None = 1.0
    max_clients: int = 4096

    def __post_init__(self) -> None:
        checks = Checks("ClientRateLimits")
        for name in ("per_minute", "per_hour"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name), 1)
        checks.optional_seconds("interval", self.interval, zero=True)
        checks.integer("max_clients", self.max_clients, 1)
        checks.raise_if_any()


class ClientRateRejection(NamedTuple):
    """The limit that a request would exceed, and the seconds until it would not."""

    rule: str
    retry_after: float


class RateLimitInfo(TypedDict):
    """A client's remaining quota. `retry_after`: seconds until the next request is allowed, 0.0 if it is now. None: no limit."""

    allowed: bool
    retry_after: float
    remaining_this_minute: int | None
    remaining_this_hour: int | None
    per_minute: int | None
    per_hour: int | None
    interval: float | None


class ClientRateLimiter:
    """Admits the requests of each client within `limits`. Thread-safe; a forked child continues with its own counts."""

    def __init__(self, limits: ClientRateLimits, clock: Clock = SYSTEM_CLOCK) -> None:
        self._limits, self._clock = limits, clock
        self._interval = round((limits.interval or 0.0) * _SECOND)
        windows = (_MINUTE if limits.per_minute else 0, _HOUR if limits.per_hour else 0)
        self._retention = max(self._interval, *windows)
        self._salt = secrets.token_bytes(16)
        self.reset_after_fork()
        self.reset()
        register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """See `ForkAware`."""
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._requests: OrderedDict[bytes, array[int]] = (
                OrderedDict()
            )  # in monotonic nanoseconds; the longest idle client first
            self._shared_requests = array("q")

    def admit(self, client: str) -> ClientRateRejection | None:
        """Count a request of `client`, or return why it is rejected and not counted."""
        key = self._key(client)
        with self._lock:
            now = self._now()
            self._drop_idle(now)
            requests = self._requests_of(key, now)
            rejection = max(self._violated_limits(requests, now), key=lambda each: each.retry_after, default=None)
            if rejection is None:
                requests.append(now)
                self._store(key, requests)
        return rejection

    def info(self, client: str) -> RateLimitInfo:
        """Return the remaining quota of `client`, without using any."""
        with self._lock:
            now = self._now()
            requests = self._requests_of(self._key(client), now)
            wait = max((each.retry_after for each in self._violated_limits(requests, now)), default=0.0)
            minute, hour = _count_since(requests, now - _MINUTE), _count_since(requests, now - _HOUR)
        limits = self._limits
        return {
            "allowed": not wait,
            "retry_after": wait,
            "remaining_this_minute": None if limits.per_minute is None else max(limits.per_minute - minute, 0),
            "remaining_this_hour": None if limits.per_hour is None else max(limits.per_hour - hour, 0),
            "per_minute": limits.per_minute,
            "per_hour": limits.per_hour,
            "interval": limits.interval,
        }

    @property
    def clients(self) -> int:
        """Clients with a record of their own."""
        return len(self._requests)

    def _now(self) -> int:
        return round(self._clock.monotonic() * _SECOND)

    def _key(self, client: str) -> bytes:
        """Hash a name of any length to sixteen bytes; the name, which may be an address or a key, is not kept."""
        known = (
            client
            if len(client) <= 2 * _KEY_PART_LENGTH
            else f"{len(client)} {client[:_KEY_PART_LENGTH]}{client[-_KEY_PART_LENGTH:]}"
        )
        return hashlib.blake2b(known.encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt).digest()

    def _requests_of(self, key: bytes, now: int) -> array[int]:
        requests = self._requests.get(key)
        if requests is None:
            requests = array("q") if len(self._requests) < self._limits.max_clients else self._shared_requests
        del requests[: bisect_right(requests, now - self._retention)]
        return requests

    def _store(self, key: bytes, requests: array[int]) -> None:
        if requests is not self._shared_requests:
            self._requests[key] = requests
            self._requests.move_to_end(key)

    def _drop_idle(self, now: int) -> None:
        """Drop at most two idle records: the table shrinks faster than it grows, and no request pays for all."""
        for _ in range(2):
            oldest = next(iter(self._requests), None)
            if oldest is None or _count_since(self._requests[oldest], now - self._retention):
                return
            del self._requests[oldest]

    def _violated_limits(self, requests: array[int], now: int) -> Iterator[ClientRateRejection]:
        limits = self._limits
        if requests and requests[-1] + self._interval > now:
            yield ClientRateRejection(
                f"must come at least {limits.interval:g} s after the one before",
                _seconds_until(requests[-1] + self._interval, now),
            )
        if limits.per_minute is not None and _count_since(requests, now - _MINUTE) >= limits.per_minute:
            yield ClientRateRejection(
                f"must be at most {limits.per_minute} a minute", _seconds_until(requests[-limits.per_minute] + _MINUTE, now)
            )
        if limits.per_hour is not None and _count_since(requests, now - _HOUR) >= limits.per_hour:
            yield ClientRateRejection(
                f"must be at most {limits.per_hour} an hour", _seconds_until(requests[-limits.per_hour] + _HOUR, now)
            )


def _count_since(requests: array[int], then: int) -> int:
    """Count the requests later than `then`."""
    return len(requests) - bisect_right(requests, then)


def _seconds_until(then: int, now: int) -> float:
    return (then - now) / _SECOND
