"""What a service says is left, and how far apart requests have to start so that it lasts.

Two kinds of buckets send the same headers. A *window* gives everything back at its reset: what is left of it is spread over the
time that is left, `seconds to the reset / requests that what is left is enough for` apart. A *refilling* bucket (OpenAI's,
Anthropic's) is given back bit by bit, and its reset is the time until it is full; it is known by that: refilling what was used
takes just as long, for one of the usual periods. Requests then start as it refills, above a reserve that is kept for others
with the same key and for answers that overtake each other.

An answer tells what was left when its request came. Requests that have started since are taken off, each at the cost that
earlier answers have shown: 1 of a bucket of requests, the mean of what was used of a bucket of tokens. Requests that start at
about the same time may come in any order, so that an answer says only between which two levels a bucket is: the level as it
should be by our own count is moved into these bounds and no further.
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

from resilience_kit.classification.retry_after import LONGEST, number, reset_of, span

_REMAINING = re.compile(
    r"(?P<lead>(?:x-)?ratelimit)-remaining(?P<tail>-[a-z-]+)?|(?P<bucket>anthropic-ratelimit-[a-z-]+)-remaining", re.ASCII
)
_PERIODS = (60.0, 3600.0, 86400.0)
MOST_BUCKETS = 8
#: How far a refill time may be off, as a share and in seconds: resets are told in whole seconds by some.
_ABOUT, _ROUNDING = 0.03, 1.0
#: The share of the earlier answers that a newer one leaves in the mean cost of a request.
_KEPT = 0.8
_SHORTEST_WINDOW = 1.0
#: Seconds by which one request may overtake another on its way.
_OVERTAKING = 0.5
_MOST_STARTS = 4096


class Told(NamedTuple):
    """One bucket as a response tells it. `sent` (when its request was) and `resets` are monotonic seconds.

    `refill`: units a second; 0.0 for a window. `limit` is None where the service does not tell it.
    """

    limit: float | None
    remaining: float
    sent: float
    resets: float
    refill: float


def told(headers: Mapping[str, str], sent: float, now: float) -> dict[str, Told]:
    """Every bucket that a response tells of, by the name of its header, at most eight. `headers` has lower-case names.

    A span was measured when the request came; a date counts from the answer.
    """
    names = [name for name in headers if "ratelimit" in name]
    return dict(islice(_told(names, headers, sent, now), MOST_BUCKETS)) if names else {}


def _told(names: Iterable[str], headers: Mapping[str, str], sent: float, now: float) -> Iterator[tuple[str, Told]]:
    for name in names:
        limit_name, reset_name = _siblings(name)
        remaining, text = number(headers[name]) if reset_name else None, headers.get(reset_name)
        if remaining is None or text is None:
            continue
        seconds = _span(text)
        reset = reset_of(text, headers) if seconds is None else seconds
        if reset is not None:
            limit = _limit(headers.get(limit_name))
            refill = 0.0 if limit is None else _refill(limit, remaining, reset)
            yield name, Told(limit, remaining, sent, (now if seconds is None else sent) + reset, refill)


@lru_cache(64)
def _siblings(name: str) -> tuple[str, str]:
    """The names of the limit and of the reset that go with what is remaining; empty where it is another header."""
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
    return seconds if seconds <= LONGEST else None


def _refill(limit: float, remaining: float, reset: float) -> float:
    """Units a second of a bucket whose reset is how long it takes to refill; 0.0 for a window."""
    share = max(0.0, limit - remaining) / limit if limit else 0.0
    if share:
        doubt = max(_ABOUT * reset, _ROUNDING)
        for period in _PERIODS:
            if abs(reset - share * period) <= doubt:
                return limit / period
    return 0.0


class Sent(NamedTuple):
    """A request among the others: how many started just before it, just after it, and after it in all; and when it did."""

    before: int
    after: int
    later: int
    at: float
    number: int


class Starts:
    """When the latest requests started. Not thread-safe: its owner has the lock."""

    __slots__ = ("_times", "count")

    def __init__(self) -> None:
        self.count, self._times = 0, array("d")

    def add(self, now: float) -> int:
        """One more: its number, from 1."""
        self.count += 1
        self._times.append(now)
        if len(self._times) > _MOST_STARTS:
            del self._times[: _MOST_STARTS // 2]
        return self.count

    def latest_within(self, seconds: float) -> int:
        """How many started in the seconds up to the latest one; at most those that are remembered."""
        return len(self._times) - bisect_left(self._times, self._times[-1] - seconds) if self._times else 0

    def of(self, number: int, at: float) -> Sent:
        """The request of this number among the others."""
        times, later = self._times, self.count - number
        place = max(0, len(times) - later - 1)
        before = place - bisect_left(times, at - _OVERTAKING, 0, place)
        after = bisect_right(times, at + _OVERTAKING, place) - place - 1
        return Sent(before, min(later, max(0, after)), later, at, number)


class Use:
    """What a request takes from a bucket, on the mean of the latest ones. Not thread-safe: its owner has the lock.

    From one group of requests to the next: the lowest that was left after a group goes with its last request.
    """

    __slots__ = ("_base", "_number", "_requests", "_units")

    def __init__(self, first: Told, number: int) -> None:
        self._base, self._number = first, number
        self._units = self._requests = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there is a mean."""
        return self._requests > 0.0

    def reported(self, units: float) -> float:
        """The mean with what an answer itself has said that it took; at least 1."""
        self._units, self._requests = _KEPT * self._units + units, _KEPT * self._requests + 1.0
        return max(1.0, self._units / self._requests)

    def each(self, newer: Told, number: int) -> float:
        """The mean with another answer; at least 1."""
        base = self._base
        if newer.sent > base.sent + _OVERTAKING and number > self._number:
            if newer.sent < base.resets:
                used = _filled(base, base.remaining, newer.sent - base.sent) - newer.remaining
                self._units = _KEPT * self._units + used
                self._requests = _KEPT * self._requests + number - self._number
            self._base, self._number = newer, number
        elif newer.sent >= base.sent - _OVERTAKING:
            self._base = base._replace(remaining=min(base.remaining, newer.remaining))
            self._number = max(self._number, number)
        return max(1.0, self._units / self._requests) if self._requests else 1.0


class Bucket:
    """One bucket as it must be by now: `level` at `stamp`. Not thread-safe: its owner has the lock.

    `cost`: what a request takes; learnt from the answers where `learns`. `length`: seconds of the longest window so far.
    """

    __slots__ = ("_use", "cost", "length", "level", "stamp", "told")

    def __init__(self, first: Told, sent: Sent, now: float, *, learns: bool) -> None:
        self.cost, self._use = 1.0, Use(first, sent.number) if learns else None
        self.told, self.stamp, self.length = first, now, max(_SHORTEST_WINDOW, first.resets - first.sent)
        self.level = self._bounds(first, sent, now)[0]

    @property
    def lacks_cost(self) -> bool:
        """Whether nothing is known of what a request takes, though requests differ in that."""
        return self._use is not None and not self._use.is_known

    def reported(self, units: float) -> None:
        """An answer says what its request took."""
        if self._use is not None:
            self.cost = self._use.reported(units)

    def read(self, newer: Told, sent: Sent, now: float) -> None:
        """Another answer tells of it."""
        if not newer.refill and now >= newer.resets:
            return
        if self._use is not None:
            self.cost = self._use.each(newer, sent.number)
        low, high = self._bounds(newer, sent, now)
        self.level, self.stamp = self._level_at(now), now
        if sent.at >= self.told.sent - _OVERTAKING:
            self.level = max(self.level, low)
        self.level = min(self.level, high)
        if sent.at > self.told.sent:
            self.told, self.length = newer, max(self.length, newer.resets - newer.sent)

    def _bounds(self, newer: Told, sent: Sent, now: float) -> tuple[float, float]:
        held = _filled(newer, newer.remaining, now - sent.at)
        return held - self.cost * (sent.later + sent.before), held - self.cost * (sent.later - sent.after)

    def _renew(self, now: float) -> None:
        """The window is over, and nothing was heard of the next: it is taken for as full and as long as those before."""
        if not self.told.refill:
            self.told = self.told._replace(sent=self.told.resets, resets=now + self.length)
            self.level = self._full

    @property
    def _full(self) -> float:
        return math.inf if self.told.limit is None else self.told.limit

    def _level_at(self, now: float) -> float:
        if not self.told.refill and now >= self.told.resets:
            return self._full
        return _filled(self.told, self.level, now - self.stamp)

    def has_more_than(self, share: float) -> bool:
        """Whether more than this share of the limit was left at `stamp`."""
        return self.told.limit is not None and self.level > share * self.told.limit

    def take(self, units: float, now: float) -> None:
        """A request starts that counts for so many."""
        if now >= self.told.resets:
            self._renew(now)
        self.level, self.stamp = self._level_at(now) - units * self.cost, now

    def due(self, now: float, units: float, ahead: float, reserve: float, last: float) -> float:
        """When a request may start. `ahead`: what those before it count for. `reserve`: the share of the limit to keep.

        `last`: when a request started last. Times are monotonic seconds.
        """
        level, own, limit = self._level_at(now), self.cost * units, self.told.limit
        wanted = (min(own, limit) if limit else own) + self.cost * ahead  # one that is above the limit goes when all is there
        kept = 0.0 if limit is None else min(reserve * limit, max(0.0, limit - self.cost * units))
        if self.told.refill:
            return now + max(0.0, wanted + kept - level) / self.told.refill
        if level == math.inf or (limit is not None and level - wanted >= kept):
            return now
        left = max(0.0, self.told.resets - now)
        return max(now, last + left * wanted / level) if level >= wanted else now + left


def _filled(bucket: Told, level: float, seconds: float) -> float:
    held = level + bucket.refill * max(0.0, seconds)
    return held if bucket.limit is None else min(bucket.limit, held)
