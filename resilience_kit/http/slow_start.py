"""Slow start: how fast requests start again after a service has rejected some of them.

One request starts first, and twice as many in all each quarter of a second, up to a rate, if one is known: what the service
has been shown to accept. If the requests before had been delayed by a slow start, too, the rate is that of the accepted ones,
over the time from their first to the end of the new pause. At both ends a refilling bucket holds about one request's worth,
so that it has refilled in between what those have used; a window has admitted its share.

Requests without a slow start before them may have been a burst that the service accepts once only. Their rate is what it
accepted of the last second, and no more than a short hint allows: for a bucket that is the time that one request takes. It is
at least what the service had accepted for some seconds before. A few requests are no evidence.

A part of the accepted rate is left unused at first. The rate doubles in twenty seconds, or in three if it is based on little
evidence: single rejections find out when the limit is reached.
"""

from __future__ import annotations

import math
from typing import Final, Self

from resilience_kit.http.rate_limit_headers import SendLog

#: Seconds in which the number of requests that have started since a pause doubles, and in which the rate does: sure and unsure.
_RAMP_DOUBLING: Final = 0.25
_RATE_DOUBLING, _FAST_RATE_DOUBLING = 20.0, 3.0
#: The share of what was accepted that is used at first.
_INITIAL_SHARE: Final = 0.8
#: Seconds before a first rejection that are counted, and the number of accepted requests below which they are no evidence.
_BURST_SECONDS, _HISTORY_SECONDS, _MIN_REQUESTS = 1.0, 10.0, 8
#: Seconds after which even few requests are evidence.
_MIN_SECONDS: Final = 5.0
#: Seconds from which on a hint is the end of a window, not the time that a bucket takes for a request.
_LONG_HINT: Final = 2.0
#: Seconds for which an unused part of the rate can be made up for.
_CREDIT_SECONDS: Final = 1.0
#: Seconds after which a ramp without a rate, and one with a rate (at least eight times what it was by then), delays no request.
_RAMP_DURATION, _RATE_DURATION = 2.5, 60.0


class SlowStart:
    """The time after a pause. Not thread-safe: its owner holds the lock. Times are monotonic seconds.

    `last`: the number of the last request that started before the pause. `resumes_at`: when that ends. `rate`: requests a second
    at first, infinite where nothing is known. It is judged by the `sent` requests up to that one, which started from `since` on,
    or, where they had not been held back (None), by those of the last second and of the nine before it.
    """

    __slots__ = (
        "_burst", "_doubling", "_hint", "_position", "_rejected", "_sent", "_since", "_sustained", "last", "rate", "resumes_at",
    )  # fmt: skip

    def __init__(self, now: float, last: int, sent: int, since: float | None, burst: int = 0) -> None:
        self.last, self.resumes_at, self.rate = last, now, math.inf
        self._sent, self._since = sent, since
        self._burst, self._sustained = burst, (sent - burst) / (_HISTORY_SECONDS - _BURST_SECONDS)
        self._rejected, self._hint, self._position, self._doubling = 0, 0.0, 0.0, _RATE_DOUBLING

    @classmethod
    def after_burst(cls, now: float, starts: SendLog) -> Self:
        """After requests that had not been held back."""
        return cls(now, starts.count, starts.count_within(_HISTORY_SECONDS), None, starts.count_within(_BURST_SECONDS))

    def after_ramp(self, now: float, starts: SendLog) -> SlowStart:
        """After requests that this one has held back."""
        return SlowStart(now, starts.count, starts.count - self.last, self.resumes_at)

    def record_rate_limited(self, number: int, now: float, hint: float) -> None:
        """Record that a request from before the pause was rejected; the pause lasts at least `hint` seconds."""
        self._rejected += number > self.last - self._sent
        self._hint = max(self._hint, hint)
        if now + hint > self.resumes_at:
            self.resumes_at, self._position = now + hint, 0.0
        accepted = self._sent - self._rejected
        if self._since is not None:
            seconds = max(_RAMP_DOUBLING, self.resumes_at - self._since)
            self._doubling = _RATE_DOUBLING if accepted >= _MIN_REQUESTS or seconds >= _MIN_SECONDS else _FAST_RATE_DOUBLING
            self.rate = _INITIAL_SHARE * max(0.5, accepted) / seconds
        elif max(accepted, self._rejected) >= _MIN_REQUESTS:
            by_burst = max(0, self._burst - self._rejected) / _BURST_SECONDS if accepted >= _MIN_REQUESTS else math.inf
            by_hint = 1.0 / self._hint if 0.0 < self._hint < _LONG_HINT else math.inf
            self.rate = _INITIAL_SHARE * max(self._sustained, min(by_burst, by_hint))
            self._doubling = _FAST_RATE_DOUBLING if by_hint < by_burst and by_hint > self._sustained else _RATE_DOUBLING
        else:
            self.rate = math.inf

    def due_at(self, ahead: float) -> float:
        """Return when a request may start that has `ahead` others before it."""
        number = self._position + ahead
        ramp = _RAMP_DOUBLING * math.log2(1.0 + number)
        return self.resumes_at + max(
            ramp, self._doubling * math.log2(1.0 + number * math.log(2.0) / (self.rate * self._doubling))
        )

    def record_start(self, now: float) -> None:
        """Count a request that starts."""
        self._position = max(self._position, self._allowed(now - _CREDIT_SECONDS - self.resumes_at)) + 1.0

    def _allowed(self, seconds: float) -> float:
        """Return how many requests may have started by then."""
        seconds = min(max(0.0, seconds), _RATE_DURATION)
        ramp: float = 2.0 ** (seconds / _RAMP_DOUBLING) - 1.0
        if seconds == 0.0 or self.rate == math.inf:
            return ramp
        grown: float = 2.0 ** (seconds / self._doubling) - 1.0
        return min(ramp, self.rate * self._doubling / math.log(2.0) * grown)

    def is_finished(self, now: float) -> bool:
        """Return whether it delays no request any more."""
        return now > self.resumes_at + (_RAMP_DURATION if self.rate == math.inf else _RATE_DURATION)
