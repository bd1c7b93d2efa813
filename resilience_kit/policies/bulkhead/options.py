"""The options of a bulkhead."""

from __future__ import annotations

from dataclasses import dataclass

from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveLimit:
    """How the number of calls under way finds what the service can take: additive increase, multiplicative decrease.

    `initial`: calls at once at the start. `minimum`: the limit never falls below. `backoff`: what is left of the limit after a
    rate limit, an overload or a time-out; once for all calls that were under way together. `slow_call_duration`: seconds; an
    answer that took longer counts as an overload, too; None: answers are good however long they took.

    The limit rises by one for each round of `limit` answers while it is in use, and faster after some rounds without trouble.
    0.9 is what the AIMD limit of Netflix' concurrency-limits has: milder than TCP's 0.5, so that a limit stays near the knee.
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
    """How many calls of an operation may be under way at once.

    `max_concurrent`: calls under way. `max_queue`: further ones that wait their turn, beyond which a call is refused at once, or
    takes the place of one of a lower priority; None: any number. `max_wait`: seconds for which a call waits its turn; None: as
    long as its deadline allows. `adaptive`: let the service's answers decide, up to `max_concurrent`; None: always as many.
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
