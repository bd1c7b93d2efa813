"""Rate limit headers: what is left of each limit, and how far apart requests start so that it lasts.

Two kinds of buckets send the same headers. A *window* is full again at its reset: what is left of it is spread over the
remaining time, `seconds to the reset / requests that the rest suffices for` apart. A *refilling* bucket (OpenAI's, Anthropic's)
refills continuously, and its reset is the time until it is full. It is recognised by that: refilling what was used takes just as
long, for one of the usual periods. Requests then start as it refills, above a reserve for other users of the same key and for
responses that overtake each other.

A response reports what was left when its request arrived. Requests that have started since are subtracted, each at the cost that
earlier responses have shown: 1 of a bucket of requests, the mean of what was used of a bucket of tokens. Requests that start at
about the same time may arrive in any order, so that a response only bounds the level of a bucket: the level by local count is
moved into these bounds and no further.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from resilience_kit.classification.retry_after import MAX_RETRY_AFTER, number, reset_of, span

_REMAINING = re.compile(
    r"(?P<lead>(?:x-)?ratelimit)-remaining(?P<tail>-[a-z-]+)?|(?P<bucket>anthropic-ratelimit-[a-z-]+)-remaining", re.ASCII
)
_PERIODS = (60.0, 3600.0, 86400.0)
MAX_BUCKETS = 8
#: How far a refill time may be off, as a share and in seconds: some services round resets to seconds.
_TOLERANCE, _ROUNDING = 0.03, 1.0
#: The share of the earlier responses that a newer one leaves in the mean cost of a request.
_DECAY = 0.8
_SHORTEST_WINDOW = 1.0
#: Seconds by which one request may overtake another on its way.
_REORDER_SECONDS = 0.5
_MAX_SENDS = 4096


class BucketReading(NamedTuple):
    """One bucket as a response reports it. `sent_at` (when its request was) and `resets_at` are monotonic seconds.

    `refill_rate`: units a second; 0.0 for a window. `limit` is None if the service does not report it.
    """

    limit: float | None
    remaining: float
    sent_at: float
    resets_at: float
    refill_rate: float


def parse_rate_limit_headers(headers: Mapping[str, str], sent_at: float, now: float) -> dict[str, BucketReading]:
    """Return every bucket in the headers of a response, by the name of its header, at most eight. `headers` has lower-case names.

    A span counts from the request; a date from the response.
    """
    names = [name for name in headers if "ratelimit" in name]
    return dict(islice(_parse_readings(names, headers, sent_at, now), MAX_BUCKETS)) if names else {}


def _parse_readings(
    names: Iterable[str], headers: Mapping[str, str], sent_at: float, now: float
) -> Iterator[tuple[str, BucketReading]]:
    for name in names:
        limit_name, reset_name = _limit_and_reset_headers(name)
        remaining, text = number(headers[name]) if reset_name else None, headers.get(reset_name)
        if remaining is None or text is None:
            continue
        seconds = _span(text)
        reset = reset_of(text, headers) if seconds is None else seconds
        if reset is not None:
            limit = _limit(headers.get(limit_name))
            refill_rate = 0.0 if limit is None else _refill_rate(limit, remaining, reset)
            yield name, BucketReading(limit, remaining, sent_at, (now if seconds is None else sent_at) + reset, refill_rate)


@lru_cache(64)
def _limit_and_reset_headers(name: str) -> tuple[str, str]:
    """Return the names of the limit and reset headers that belong to a `remaining` header; empty for another header."""
    match = _REMAINING.fullmatch(name)
    if match is None:
        return "", ""
    before, after = (f"{match['bucket']}-", "") if match["bucket"] else (f"{match['lead']}-", match["tail"] or "")
    return f"{before}limit{after}", f"{before}reset{after}"


_limit = lru_cache(64)(number)


@lru_cache(256)
def _span(text: str) -> float | None:
    """Seconds; None for an instant."""
    seconds = number(text)
    if seconds is None:
        return span(text)
    return seconds if seconds <= MAX_RETRY_AFTER else None


def _refill_rate(limit: float, remaining: float, reset: float) -> float:
    """Units a second of a bucket whose reset is how long it takes to refill; 0.0 for a window."""
    share = max(0.0, limit - remaining) / limit if limit else 0.0
    if share:
        tolerance = max(_TOLERANCE * reset, _ROUNDING)
        for period in _PERIODS:
            if abs(reset - share * period) <= tolerance:
                return limit / period
    return 0.0


class SendPosition(NamedTuple):
    """A request among the others: how many started just before it, just after it, and after it in all; and when it did."""

    before: int
    after: int
    later: int
    sent_at: float
    number: int


class SendLog:
    """When the latest requests started. Not thread-safe: its owner holds the lock."""

    __slots__ = ("_times", "count")

    def __init__(self) -> None:
        self.count, self._times = 0, array("d")

    def record(self, now: float) -> int:
        """One more: its number, from 1."""
        self.count += 1
        self._times.append(now)
        if len(self._times) > _MAX_SENDS:
            del self._times[: _MAX_SENDS // 2]
        return self.count

    def count_within(self, seconds: float) -> int:
        """How many started in the seconds up to the latest one; at most those that are remembered."""
        return len(self._times) - bisect_left(self._times, self._times[-1] - seconds) if self._times else 0

    def position_of(self, number: int, sent_at: float) -> SendPosition:
        """Return the position of the request with this number among the others."""
        times, later = self._times, self.count - number
        index = max(0, len(times) - later - 1)
        before = index - bisect_left(times, sent_at - _REORDER_SECONDS, 0, index)
        after = bisect_right(times, sent_at + _REORDER_SECONDS, index) - index - 1
        return SendPosition(before, min(later, max(0, after)), later, sent_at, number)


class CostEstimate:
    """What a request takes from a bucket, on the mean of the latest ones. Not thread-safe: its owner holds the lock.

    From one group of requests to the next: the lowest that was left after a group goes with its last request.
    """

    __slots__ = ("_base", "_number", "_requests", "_units")

    def __init__(self, first: BucketReading, number: int) -> None:
        self._base, self._number = first, number
        self._units = self._requests = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there is a mean."""
        return self._requests > 0.0

    def add_usage(self, units: float) -> float:
        """Add the usage that a response reported; return the mean, at least 1."""
        self._units, self._requests = _DECAY * self._units + units, _DECAY * self._requests + 1.0
        return max(1.0, self._units / self._requests)

    def add_reading(self, newer: BucketReading, number: int) -> float:
        """Add a reading; return the mean, at least 1."""
        base = self._base
        if newer.sent_at > base.sent_at + _REORDER_SECONDS and number > self._number:
            if newer.sent_at < base.resets_at:
                used = _refilled(base, base.remaining, newer.sent_at - base.sent_at) - newer.remaining
                self._units = _DECAY * self._units + used
                self._requests = _DECAY * self._requests + number - self._number
            self._base, self._number = newer, number
        elif newer.sent_at >= base.sent_at - _REORDER_SECONDS:
            self._base = base._replace(remaining=min(base.remaining, newer.remaining))
            self._number = max(self._number, number)
        return max(1.0, self._units / self._requests) if self._requests else 1.0


class RemoteBucket:
    """One bucket as it must be by now: `level` at `updated_at`. Not thread-safe: its owner holds the lock.

    `cost`: what a request takes; learnt from responses if `learns_cost`. `window_seconds`: seconds of the longest window so
    far.
    """

    __slots__ = ("_cost_estimate", "cost", "level", "reading", "updated_at", "window_seconds")

    def __init__(self, first: BucketReading, position: SendPosition, now: float, *, learns_cost: bool) -> None:
        self.cost, self._cost_estimate = 1.0, CostEstimate(first, position.number) if learns_cost else None
        self.reading, self.updated_at, self.window_seconds = first, now, max(_SHORTEST_WINDOW, first.resets_at - first.sent_at)
        self.level = self._bounds(first, position, now)[0]

    @property
    def cost_unknown(self) -> bool:
        """Whether the cost of a request is unknown, though requests differ in it."""
        return self._cost_estimate is not None and not self._cost_estimate.is_known

    def record_usage(self, units: float) -> None:
        """Add the usage that a response reported."""
        if self._cost_estimate is not None:
            self.cost = self._cost_estimate.add_usage(units)

    def update(self, newer: BucketReading, position: SendPosition, now: float) -> None:
        """Take another reading."""
        if not newer.refill_rate and now >= newer.resets_at:
            return
        if self._cost_estimate is not None:
            self.cost = self._cost_estimate.add_reading(newer, position.number)
        low, high = self._bounds(newer, position, now)
        self.level, self.updated_at = self._level_at(now), now
        if position.sent_at >= self.reading.sent_at - _REORDER_SECONDS:
            self.level = max(self.level, low)
        self.level = min(self.level, high)
        if position.sent_at > self.reading.sent_at:
            self.reading, self.window_seconds = newer, max(self.window_seconds, newer.resets_at - newer.sent_at)

    def _bounds(self, newer: BucketReading, position: SendPosition, now: float) -> tuple[float, float]:
        held = _refilled(newer, newer.remaining, now - position.sent_at)
        return held - self.cost * (position.later + position.before), held - self.cost * (position.later - position.after)

    def _start_window(self, now: float) -> None:
        """Start the next window, assumed to be full and as long as the previous ones."""
        if not self.reading.refill_rate:
            self.reading = self.reading._replace(sent_at=self.reading.resets_at, resets_at=now + self.window_seconds)
            self.level = self._capacity

    @property
    def _capacity(self) -> float:
        return math.inf if self.reading.limit is None else self.reading.limit

    def _level_at(self, now: float) -> float:
        if not self.reading.refill_rate and now >= self.reading.resets_at:
            return self._capacity
        return _refilled(self.reading, self.level, now - self.updated_at)

    def has_more_than(self, share: float) -> bool:
        """Whether more than this share of the limit was left at `stamp`."""
        return self.reading.limit is not None and self.level > share * self.reading.limit

    def take(self, units: float, now: float) -> None:
        """Take the units of a request that starts."""
        if now >= self.reading.resets_at:
            self._start_window(now)
        self.level, self.updated_at = self._level_at(now) - units * self.cost, now

    def due_at(self, now: float, units: float, ahead: float, headroom: float, last_start: float) -> float:
        """When a request may start. `ahead`: what those before it count for. `headroom`: the share of the limit to keep.

        `last_start`: when a request started last. Times are monotonic seconds.
        """
        level, own, limit = self._level_at(now), self.cost * units, self.reading.limit
        wanted = (min(own, limit) if limit else own) + self.cost * ahead  # one that is above the limit goes when all is there
        reserved = 0.0 if limit is None else min(headroom * limit, max(0.0, limit - self.cost * units))
        if self.reading.refill_rate:
            return now + max(0.0, wanted + reserved - level) / self.reading.refill_rate
        if level == math.inf or (limit is not None and level - wanted >= reserved):
            return now
        seconds_to_reset = max(0.0, self.reading.resets_at - now)
        return max(now, last_start + seconds_to_reset * wanted / level) if level >= wanted else now + seconds_to_reset


def _refilled(bucket: BucketReading, level: float, seconds: float) -> float:
    held = level + bucket.refill_rate * max(0.0, seconds)
    return held if bucket.limit is None else min(bucket.limit, held)
