"""The options of a bulkhead."""

from __future__ import annotations

from dataclasses import dataclass

from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimit:
    """Adapt the number of concurrent calls to the capacity of the service: additive increase, multiplicative decrease.

    `initial`: concurrent calls at the start. `minimum`: the limit never falls below. `backoff`: factor of the limit after a
    rate limit, an overload or a timeout; applied once for all calls in flight together. `slow_call_duration`: seconds; a
    response that took longer counts as an overload, too; None: no duration does.

    The limit rises by one for each round of `limit` responses while it is used up, and faster after some rounds without overload.
    The default `backoff` of 0.9 is that of the AIMD limit of Netflix' concurrency-limits: milder than TCP's 0.5, so that the
    limit stays near the knee.
    """

    initial: int = 10
    minimum: int = 1
    backoff: float = 0.9
    slow_call_duration: float | None = None

    def __post_init__(self) -> None:
        checks = Checks("AdaptiveLimit")
        low = self.minimum if checks.integer("minimum", self.minimum, 1) else 1
        checks.integer("initial", self.initial, low)
        checks.number("backoff", self.backoff, 0.1, 0.99)
        checks.optional_seconds("slow_call_duration", self.slow_call_duration)
        checks.raise_if_any()


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadConfig:
    """Limit the concurrent calls of an operation.

    `max_concurrent`: concurrent calls. `max_queue`: queued calls beyond them; when the queue is full, a call is rejected at once,
    or replaces one of a lower priority; None: no limit. `max_wait`: seconds that a call may wait in the queue; None: until its
    deadline. `adaptive`: adapt the limit to the service's responses, up to `max_concurrent`; None: fixed.
    """

    max_concurrent: int
    max_queue: int | None = None
    max_wait: float | None = None
    adaptive: AdaptiveLimit | None = None

    def __post_init__(self) -> None:
        checks = Checks("BulkheadConfig")
        good = checks.integer("max_concurrent", self.max_concurrent, 1)
        if self.max_queue is not None:
            checks.integer("max_queue", self.max_queue, 0)
        checks.optional_seconds("max_wait", self.max_wait, zero=True)
        checks.instance("adaptive", self.adaptive, AdaptiveLimit, type(None))
        if good and isinstance(self.adaptive, AdaptiveLimit) and self.adaptive.minimum > self.max_concurrent:
            checks.add("max_concurrent", f"must be at least adaptive.minimum {self.adaptive.minimum}", self.max_concurrent)
        checks.raise_if_any()
