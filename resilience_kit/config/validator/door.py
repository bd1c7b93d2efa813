"""How often one client may ask, counted exactly and in bounded memory.

Every admitted try of the last hour is remembered to the nanosecond, so that no hour, wherever it begins, holds more than are
allowed. Refused tries are not remembered: they cost no quota, and a client's record never grows beyond its limit.

A client's record is dropped when all of it is too old to count, which is when dropping it changes nothing. While the table is
full of records that count, clients that are not in it share a single record: whoever floods the door with new names gets no
fresh quota by it, neither under the new names nor, by pushing it out, under his own.
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
from resilience_kit._fork import renew_after_fork
from resilience_kit.outcome import SYSTEM_CLOCK, Clock

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 3600 * _SECOND
#: Characters of a name that are looked at from either end.
_ENDS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """How often one client may ask; None: without that limit.

    `per_minute`: tries in any 60 seconds. `per_hour`: tries in any 3600 seconds. `interval`: seconds between two tries.
    `max_clients`: clients with a record of their own; further ones share one.
    """

    per_minute: int | None = 60
    per_hour: int | None = 1000
    interval: float | None = 1.0
    max_clients: int = 4096

    def __post_init__(self) -> None:
        checks = Checks("RateLimits")
        for name in ("per_minute", "per_hour"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name), 1)
        checks.optional_seconds("interval", self.interval, zero=True)
        checks.whole("max_clients", self.max_clients, 1)
        checks.done()


class Refusal(NamedTuple):
    """Which limit a try would break, and the seconds until it would not."""

    rule: str
    retry_after: float


class RateLimitInfo(TypedDict):
    """What a client has left. `retry_after`: seconds until the next try is allowed, 0.0 when it is now. None: without limit."""

    allowed: bool
    retry_after: float
    left_this_minute: int | None
    left_this_hour: int | None
    per_minute: int | None
    per_hour: int | None
    interval: float | None


class Door:
    """Lets each client through at most as often as `limits` allow. Thread-safe; a forked child counts on by itself."""

    def __init__(self, limits: RateLimits, clock: Clock = SYSTEM_CLOCK) -> None:
        self._limits, self._clock = limits, clock
        self._interval = round((limits.interval or 0.0) * _SECOND)
        windows = (_MINUTE if limits.per_minute else 0, _HOUR if limits.per_hour else 0)
        self._counts_for = max(self._interval, *windows)
        self._salt = secrets.token_bytes(16)
        self.renew_after_fork()
        self.reset()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """See `Renewable`."""
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget every try."""
        with self._lock:
            self._tries: OrderedDict[bytes, array[int]] = (
                OrderedDict()
            )  # in monotonic nanoseconds; whoever waits longest is first
            self._shared = array("q")

    def admit(self, client: str) -> Refusal | None:
        """Count a try of `client`, or tell why it is refused and not counted."""
        key = self._key(client)
        with self._lock:
            now = self._now()
            self._drop_idle(now)
            tries = self._of(key, now)
            refusal = max(self._broken(tries, now), key=lambda each: each.retry_after, default=None)
            if refusal is None:
                tries.append(now)
                self._keep(key, tries)
        return refusal

    def info(self, client: str) -> RateLimitInfo:
        """What `client` has left; takes nothing."""
        with self._lock:
            now = self._now()
            tries = self._of(self._key(client), now)
            wait = max((each.retry_after for each in self._broken(tries, now)), default=0.0)
            minute, hour = _since(tries, now - _MINUTE), _since(tries, now - _HOUR)
        limits = self._limits
        return {
            "allowed": not wait,
            "retry_after": wait,
            "left_this_minute": None if limits.per_minute is None else max(limits.per_minute - minute, 0),
            "left_this_hour": None if limits.per_hour is None else max(limits.per_hour - hour, 0),
            "per_minute": limits.per_minute,
            "per_hour": limits.per_hour,
            "interval": limits.interval,
        }

    @property
    def clients(self) -> int:
        """Clients with a record of their own."""
        return len(self._tries)

    def _now(self) -> int:
        return round(self._clock.monotonic() * _SECOND)

    def _key(self, client: str) -> bytes:
        """Sixteen bytes, however long the name is; the name itself, which may be an address or a key, is not kept."""
        known = client if len(client) <= 2 * _ENDS else f"{len(client)} {client[:_ENDS]}{client[-_ENDS:]}"
        return hashlib.blake2b(known.encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt).digest()

    def _of(self, key: bytes, now: int) -> array[int]:
        tries = self._tries.get(key)
        if tries is None:
            tries = array("q") if len(self._tries) < self._limits.max_clients else self._shared
        del tries[: bisect_right(tries, now - self._counts_for)]
        return tries

    def _keep(self, key: bytes, tries: array[int]) -> None:
        if tries is not self._shared:
            self._tries[key] = tries
            self._tries.move_to_end(key)

    def _drop_idle(self, now: int) -> None:
        """At most two at a time, so that the table shrinks faster than it grows and no try pays for all."""
        for _ in range(2):
            oldest = next(iter(self._tries), None)
            if oldest is None or _since(self._tries[oldest], now - self._counts_for):
                return
            del self._tries[oldest]

    def _broken(self, tries: array[int], now: int) -> Iterator[Refusal]:
        limits = self._limits
        if tries and tries[-1] + self._interval > now:
            yield Refusal(
                f"must come at least {limits.interval:g} s after the one before", _until(tries[-1] + self._interval, now)
            )
        if limits.per_minute is not None and _since(tries, now - _MINUTE) >= limits.per_minute:
            yield Refusal(f"must be at most {limits.per_minute} a minute", _until(tries[-limits.per_minute] + _MINUTE, now))
        if limits.per_hour is not None and _since(tries, now - _HOUR) >= limits.per_hour:
            yield Refusal(f"must be at most {limits.per_hour} an hour", _until(tries[-limits.per_hour] + _HOUR, now))


def _since(tries: array[int], then: int) -> int:
    """How many are later than `then`."""
    return len(tries) - bisect_right(tries, then)


def _until(then: int, now: int) -> float:
    return (then - now) / _SECOND
