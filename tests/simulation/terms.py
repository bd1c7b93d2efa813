"""What was agreed for one call: which errors count, how long it may take, whether there may be another attempt."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from resilience_kit import errors
from resilience_kit.outcome import FailureKind
from tests.simulation.model import FORCED, Pass
from tests.simulation.service import THROTTLED, Meaning

if TYPE_CHECKING:
    from tests.simulation.scene import Scene, Site

Obstacle = tuple[int, str]


class Below(IntEnum):
    """What a layer below has made of the error. One that could have retried and did not may have had its reasons."""

    NOTHING = 0
    COULD_HAVE_RETRIED = 1
    RETRIED = 2
    MAY_BE_DONE = 3


class Terms:
    """The options of one call, and how far it has come. Times are nanoseconds of the world's clock."""

    __slots__ = (
        "around", "asked_at", "attempt_started", "attempts", "below", "budget", "config", "items", "most_attempts", "outer",
        "own_ends", "site", "world",
    )  # fmt: skip

    def __init__(self, world: Scene, site: Site, outer: Terms | None) -> None:
        self.world, self.site, self.outer = world, site, outer
        config = self.config = site.config
        now = self.attempt_started = self.asked_at = world.clock.now
        self.own_ends = None if config.deadline is None else now + int(config.deadline * 1e9)
        self.around = None if outer is None or site.is_bare else outer.told_limit(now)
        self.attempts = self.items = 0
        self.below = Below.NOTHING
        self.budget = None if config.retry_budget is None else site.operation.budget
        self.most_attempts = 1 if config.retry is None else config.retry.max_attempts

    # --- errors ----------------------------------------------------------------------------------------------------------

    def counts(self, error: Exception, meant: Meaning) -> bool:
        """Whether the breaker takes an error for a failure of the service."""
        own, options = self.config.circuit_breaker, self.site.operation.model.options
        if own is None:
            return meant.counted
        if isinstance(error, options.excluded_exceptions):
            return False
        if own.expected_exception is None and not self.site.is_bare:
            return meant.counted
        return isinstance(error, options.expected_exception or Exception) and not isinstance(error, errors.Rejected)

    def enclosing_trial(self) -> Pass | None:
        """See `Watch`."""
        raise NotImplementedError

    def wants(self, error: Exception, meant: Meaning) -> bool:
        """Whether an error of this kind is to be retried at all."""
        retry = self.config.retry
        if retry is None or _named(error, retry.exclude_exceptions):
            return False
        if retry.retry_exceptions is None:
            return meant.retryable
        return _named(error, retry.retry_exceptions) and not isinstance(error, errors.Rejected)

    def may_repeat(self, meant: Meaning) -> bool:
        """Whether the request may be sent again after such an error."""
        return self.config.idempotent or self.config.idempotency_key or meant.unsent

    def needs_key(self) -> bool:
        """Whether the function has to have an idempotency key."""
        config = self.config
        return config.idempotency_key or bool(config.guards) or (config.deadline, config.attempt_timeout) != (None, None)

    # --- time ------------------------------------------------------------------------------------------------------------

    @property
    def ends(self) -> int | None:
        """When the time for all attempts is over."""
        return _earliest(self.own_ends, self.around)

    def fits(self, seconds: float) -> bool:
        """Whether something of so many seconds ends before that."""
        ends = self.ends
        return ends is None or self.world.clock.now + seconds * 1e9 < ends

    def own_cut(self) -> int | None:
        """When the kit ends the present attempt for this call's own limits."""
        config = self.config
        if self.items:
            return None if config.idle_timeout is None else self.asked_at + int(config.idle_timeout * 1e9)
        first_item = config.first_item_timeout if self.site.is_stream else None
        return _earliest(self.own_ends, self._after_start(config.attempt_timeout), self._after_start(first_item))

    def limit(self) -> int | None:
        """What the function is told about its time: the nearest limit of its attempt."""
        return _earliest(self.ends, None if self.items else self._after_start(self.config.attempt_timeout))

    def _after_start(self, seconds: float | None) -> int | None:
        return None if seconds is None else self.attempt_started + int(seconds * 1e9)

    def told_limit(self, now: int) -> int | None:
        """The same as a call inside of this one has it, by way of float seconds."""
        limit = self.limit()
        return None if limit is None else now + int(max(0.0, (limit - now) / 1e9) * 1e9)

    def outer_is_cut(self) -> bool:
        """Whether a call around this one has come to a limit of its own."""
        outer, now = self.outer, self.world.clock.now
        while outer is not None:
            cut = outer.own_cut()
            if cut is not None and cut <= now:
                return True
            outer = outer.outer
        return False

    # --- another attempt -------------------------------------------------------------------------------------------------

    def obstacle(self, error: Exception, meant: Meaning, pause: float) -> Obstacle | None:
        """Why there must not be another attempt after `pause`, and which invariant says so."""
        return self._why_final(error, meant) or self._why_not_now(meant, pause)

    def _why_final(self, error: Exception, meant: Meaning) -> Obstacle | None:
        """Whatever the breaker and the budget say."""
        retry = self.config.retry
        if retry is None or self.items or self.attempts >= retry.max_attempts or not self.wants(error, meant):
            return 23, "retried what is not to be retried, or not any more"
        if not self.fits(0.0):
            return 26, "retried after the deadline"
        if not self.may_repeat(meant):
            return 30, "retried a request that may have been carried out"
        if meant.hint is not None and meant.hint > retry.max_retry_after:
            return 29, "retried against a long hint"
        return self._why_below()

    def _why_below(self) -> Obstacle | None:
        if self.below is Below.MAY_BE_DONE:
            return 30, "retried what a layer below may have carried out, and must not repeat"
        return (31, "retried what a layer below had retried") if self.below is Below.RETRIED else None

    def _why_not_now(self, meant: Meaning, pause: float) -> Obstacle | None:
        model = self.site.operation.model
        if self.config.circuit_breaker is not None and not model.admits() and self.enclosing_trial() is None:
            if self.config.circuit_open != "wait" or model.state is FORCED:
                return 27, "retried with an open circuit"
            pause = max(pause, model.remaining())
        if not self.fits(pause):
            return 26, "retried although the next attempt would begin after the deadline"
        return (31, "retried beyond the budget") if self.budget is not None and self.budget.left < self.cost(meant) else None

    def cost(self, meant: Meaning) -> int:
        """Tokens of the retry budget for a retry after such an error: next to none at the time that the service has named."""
        if self.budget is None:
            return 0
        cost = self.budget.cost(throttled=meant.kind in THROTTLED)
        if meant.kind not in THROTTLED or not meant.hint:
            return cost
        return 0 if meant.kind is FailureKind.RATE_LIMIT else min(1, cost)

    def backoff_bounds(self) -> tuple[float, float]:
        """Between which waits chance decides after the present attempt."""
        retry = self.config.retry
        if retry is None:
            return 0.0, 0.0
        grown = retry.base_delay * retry.backoff_factor ** (self.attempts - 1)
        ceiling = min(grown, retry.max_delay)
        if retry.jitter == "proportional":
            return ceiling * (1.0 - retry.jitter_factor), min(ceiling * (1.0 + retry.jitter_factor), retry.max_delay)
        return {"full": 0.0, "equal": ceiling / 2.0}.get(retry.jitter or "none", ceiling), ceiling

    def backoff_drawn(self) -> float:
        """What chance has decided; the longest wait when chance was not asked."""
        retry, (low, high), drawn = self.config.retry, self.backoff_bounds(), self.world.drawn
        if retry is None or retry.jitter is None or drawn is None:
            return high
        if retry.jitter == "proportional":
            return min(drawn, retry.max_delay)
        return low + drawn


def _named(error: Exception, wanted: object) -> bool:
    """The scenes name classes, never a predicate."""
    return isinstance(error, wanted)  # type: ignore[arg-type]  # see above


def _earliest(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
