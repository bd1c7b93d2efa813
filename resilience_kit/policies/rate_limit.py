"""How much may be started in a time, and who comes next when it is more.

Token buckets: each fills by `rate` per `period` up to `burst`, a call takes its cost. A call that finds too little joins a
line: the head of it sleeps until its cost is there, the others are woken in turn. Who leaves the line leaves no hole, since
nothing is taken before the turn has come. Several buckets (requests and tokens a minute) are taken from at once or not at all.

What a call costs may be known only afterwards: an estimate is taken, and corrected by what the answer says. A bucket may so come
into debt, which the next calls wait for; over time the rate is exact.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from resilience_kit._checks import Checks
from resilience_kit._fork import renew_after_fork
from resilience_kit._turns import TINY, GuardLock, Line, Place, rouse
from resilience_kit.context import Priority, current_priority
from resilience_kit.errors import ConfigurationError, GuardKind, RateLimitExceededError
from resilience_kit.outcome import SYSTEM_CLOCK, Clock, Outcome, OutcomeKind, Streamed

_logger = logging.getLogger("resilience_kit")
_OWNER: Final = "RateLimitConfig"
#: Seconds by which a caller who waits may be woken too late without a loss: what a bucket takes beyond its burst meanwhile.
_LATE: Final = 0.05

Cost = float | Callable[..., float]
Usage = Callable[[Any], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitConfig:
    """How much may be started in a time.

    `rate`: units that each period brings; requests, tokens, whatever `cost` counts. `period`: seconds. `burst`: units that may be
    started at once after a quiet time; None: what one second brings, at least 1. `max_wait`: seconds for which a call waits its
    turn, beyond which it is refused at once; None: as long as its deadline allows. `cost`: units of a call, a number or a
    function of its arguments, which may be an estimate. `usage`: a function of the answer: units that the call did cost; None
    from it, or for it: as estimated. Of a stream it is asked with each item, the last one first, until one tells.

    A cost above the burst waits for a full bucket, and leaves it in debt.
    """

    rate: float
    period: float = 1.0
    burst: float | None = None
    max_wait: float | None = None
    cost: Cost = 1.0
    usage: Usage | None = None

    def __post_init__(self) -> None:
        checks = Checks(_OWNER)
        checks.positive("rate", self.rate)
        checks.seconds("period", self.period)
        if self.burst is not None:
            checks.positive("burst", self.burst)
        checks.optional_seconds("max_wait", self.max_wait, zero=True)
        if not callable(self.cost):
            checks.positive("cost", self.cost, ", or a function of the call's arguments")
        checks.optional_callable("usage", self.usage, "the answer")
        checks.done()

    @property
    def size(self) -> float:
        """Units that the bucket holds."""
        return max(1.0, self.rate / self.period) if self.burst is None else self.burst

    @property
    def bucket(self) -> RateLimitConfig:
        """The same without what is said of single calls."""
        return replace(self, cost=1.0, usage=None)


class Bucket:
    """Units at hand at `stamp`: `level`, below zero for a debt. Not thread-safe: its owner's lock is held."""

    __slots__ = ("burst", "level", "speed", "stamp", "tiny")

    def __init__(self, speed: float, burst: float, now: float) -> None:
        self.speed, self.burst, self.level, self.stamp = speed, burst, burst, now
        self.tiny = TINY * speed

    def fill(self, now: float, slack: float) -> None:
        """Add what the time has brought, up to the burst and what `slack` seconds bring on top."""
        self.level = min(self.burst + slack * self.speed, self.level + (now - self.stamp) * self.speed)
        self.stamp = now

    def take_if_there(self, now: float, cost: float) -> bool:
        """`fill` without slack, and take `cost` if there is as much. In one step, since nearly every call passes here."""
        level = self.level + (now - self.stamp) * self.speed
        self.stamp = now
        if level > self.burst:  # noqa: PLR1730 - `min` costs as much as all the rest
            level = self.burst
        if level + self.tiny < cost:
            self.level = level
            return False
        self.level = level - cost
        return True

    def lack(self, cost: float, ahead: float = 0.0) -> float:
        """Seconds until it holds `cost`, when `ahead` is taken before; a cost above the burst needs a full bucket."""
        return max(0.0, (min(cost, self.burst) + ahead - self.level) / self.speed)


class _Weight(NamedTuple):
    """What a call of one bucket costs, before and after."""

    cost: Cost
    usage: Usage | None


class RateLimitPermit:
    """Leave to start once the turn has come; `turn` is None when it had at once. See `Permit`."""

    __slots__ = ("_limiter", "costs", "turn")

    wait = 0.0

    def __init__(self, limiter: RateLimiter, costs: Sequence[float], turn: Place | None) -> None:
        self._limiter, self.costs, self.turn = limiter, costs, turn

    def settle(self, outcome: Outcome) -> None:
        """Give back what was not used, and correct what was estimated."""
        self._limiter.settle(self, outcome)


class RateLimiter:
    """Buckets with one line of waiting callers; a `Guard`. Thread-safe: threads and event loops share it.

    Several configs are several limits on the same calls, for instance requests and tokens. The shortest `max_wait` rules.
    """

    kind = GuardKind.RATE_LIMIT

    def __init__(self, *configs: RateLimitConfig, name: str = "rate limit", clock: Clock = SYSTEM_CLOCK) -> None:
        _check(configs, clock)
        self.name = self._label = name
        self.configs = tuple(config.bucket for config in configs)
        self._weigh(configs)
        self._complained = False
        self._pool = _Pool(configs, name, clock)

    @property
    def waiting(self) -> int:
        """Callers in the line."""
        return self._pool.line.length

    def weighing(self, *configs: RateLimitConfig) -> RateLimiter:
        """The same buckets and line, for calls whose `cost` and `usage` are those of other configs of the same limits."""
        if tuple(config.bucket for config in configs) != self.configs:
            rule = "must have the same rate, period, burst and max_wait as the limiter"
            raise ConfigurationError([("RateLimiter.weighing", rule, configs)])
        other = copy.copy(self)
        other._weigh(configs)  # noqa: SLF001 - its own class
        return other

    def _weigh(self, configs: Sequence[RateLimitConfig]) -> None:
        self._weights = tuple(_Weight(config.cost, config.usage) for config in configs)
        #: What every call costs; None where that depends on its arguments.
        self._same = None if any(callable(config.cost) for config in configs) else self._costs(1.0)

    def _costs(self, cost: float) -> Sequence[float]:
        return tuple(cost if callable(each) else cost * each for each, _ in self._weights)

    def admit(self, cost: float = 1.0) -> RateLimitPermit:
        """Leave to start, perhaps with a turn to wait for; raises `RateLimitExceededError`.

        `cost` stands for that of a config whose cost is a function, and multiplies the others.
        """
        costs = self._same if self._same is not None and cost == 1.0 else self._costs(_cost(cost))
        return RateLimitPermit(self, costs, self._pool.take_or_join(costs))

    def admit_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> RateLimitPermit:
        """`admit` for a call with these arguments."""
        costs = self._same
        if costs is None:
            costs = self._asked_costs(args, kwargs)
        return RateLimitPermit(self, costs, self._pool.take_or_join(costs))

    def _asked_costs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[float]:
        try:
            return tuple(_cost(each(*args, **kwargs)) if callable(each) else each for each, _ in self._weights)
        except Exception as error:
            error.add_note(f"resilience_kit: from {_OWNER}.cost of {self._label!r}, which is given the call's own arguments")
            raise

    def fits(self, cost: float = 1.0) -> bool:
        """Whether a call of `cost` could start at once."""
        return self._pool.fits(self._costs(_cost(cost)))

    def settle(self, permit: RateLimitPermit, outcome: Outcome) -> None:
        """See `RateLimitPermit.settle`."""
        guarded, turn = self._pool.guarded, permit.turn
        if guarded.is_mine():
            guarded.put_off(functools.partial(self.settle, permit, outcome))
            return
        if turn is not None and self._pool.left(turn):
            return
        if not outcome.begun:
            self._pool.give_back(permit.costs)
        elif outcome.kind is OutcomeKind.SUCCESS and outcome.value is not None:
            self._correct(permit.costs, outcome.value)

    def _correct(self, costs: Sequence[float], value: object) -> None:
        unused = [cost - self._used(usage, cost, value) for (_, usage), cost in zip(self._weights, costs, strict=True)]
        if any(unused):
            self._pool.give_back(unused)

    def _used(self, usage: Usage | None, estimate: float, value: object) -> float:
        if usage is None:
            return estimate
        try:
            used = _asked(usage, value)
            return estimate if used is None else _cost(used, "usage")
        except Exception as error:  # noqa: BLE001 - the call has gone well, whatever its usage cannot make of the answer
            self._complain(error)
            return estimate

    def _complain(self, error: Exception) -> None:
        """Once, and without the error's text, which may be the answer's."""
        if not self._complained:
            self._complained = True
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = "usage of %r failed, its estimate stands here and from now on wherever it fails: %s in %s, line %s"
            _logger.error(words, self._label, type(error).__name__, where.filename, where.lineno)


def _asked(usage: Usage, value: object) -> float | None:
    if not isinstance(value, Streamed):
        return usage(value)
    return next((used for item in reversed(value.items) if (used := usage(item)) is not None), None)


def _check(configs: Sequence[object], clock: object) -> None:
    checks = Checks("RateLimiter")
    if not configs:
        checks.fail("configs", "must be at least one RateLimitConfig", configs)
    for config in configs:
        checks.instance("configs", config, RateLimitConfig)
    checks.provides("clock", clock, "monotonic")
    checks.done()


def _cost(value: object, what: str = "cost") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigurationError([(f"{_OWNER}.{what}", "must give a finite number of at least 0", value)])
    return value


class _Pool:
    """The buckets and the line, under one lock."""

    def __init__(self, configs: Sequence[RateLimitConfig], name: str, clock: Clock) -> None:
        self._name, self._clock = name, clock
        now = clock.monotonic()
        self.buckets = [Bucket(config.rate / config.period, config.size, now) for config in configs]
        self._only = self.buckets[0] if len(self.buckets) == 1 else None
        self._max_wait = min((config.max_wait for config in configs if config.max_wait is not None), default=None)
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, and nobody who waits."""
        self.guarded = GuardLock()
        self.lock = self.guarded.lock
        self.line = Line(len(Priority))
        self._ahead = [[0.0] * len(self.buckets) for _ in Priority]

    def refill(self) -> float:
        """Under the lock: bring the buckets up to now."""
        now = self._clock.monotonic()
        slack = _LATE if self.line.length else 0.0
        for bucket in self.buckets:
            bucket.fill(now, slack)
        return now

    def take(self, costs: Sequence[float]) -> None:
        """Under the lock: take, into debt if need be."""
        for bucket, cost in zip(self.buckets, costs, strict=True):
            bucket.level -= cost

    def lack(self, costs: Sequence[float]) -> float:
        """Under the lock: seconds until there is enough for a caller with nobody ahead."""
        return max(bucket.lack(cost) for bucket, cost in zip(self.buckets, costs, strict=True))

    def fits(self, costs: Sequence[float]) -> bool:
        """Whether a call could start at once."""
        with self.lock:
            self.refill()
            return not self.line.length and self.lack(costs) <= TINY

    def take_at_hand(self, cost: float) -> bool:
        """Take from the first bucket, all of it or nothing; never into debt, and never before somebody who waits."""
        with self.lock:
            return not self.line.length and self.buckets[0].take_if_there(self._clock.monotonic(), cost)

    def book(self, cost: float) -> float:
        """Take from the first bucket at once, into debt if need be, before those who wait; gives the seconds until it is paid."""
        bucket = self.buckets[0]
        with self.lock:
            if bucket.take_if_there(self._clock.monotonic(), cost):
                return 0.0
            bucket.level -= cost
            return bucket.lack(0.0)

    def take_or_join(self, costs: Sequence[float]) -> Place | None:
        """Take `costs`, or get a place in the line; raises `RateLimitExceededError` when it would take too long."""
        only = self._only
        with self.lock:
            if only is not None and not self.line.length and only.take_if_there(self._clock.monotonic(), costs[0]):
                return None
            now = self.refill()
            if not self.line.length and self.lack(costs) <= TINY:
                self.take(costs)
                return None
            return self._join(costs, now)

    def _join(self, costs: Sequence[float], now: float) -> Place:
        level = current_priority.get()
        expected = self._expected(costs, level)
        if self._max_wait is not None and expected > self._max_wait + TINY:
            raise RateLimitExceededError(self._name, expected)
        place = Place(self, level, costs, None if self._max_wait is None else now + self._max_wait, expected)
        self.line.join(place)
        self._count(place, 1.0)
        return place

    def _expected(self, costs: Sequence[float], level: int) -> float:
        return max(
            bucket.lack(cost, sum(self._ahead[each][number] for each in range(level, len(Priority))))
            for number, (bucket, cost) in enumerate(zip(self.buckets, costs, strict=True))
        )

    def _count(self, place: Place, sign: float) -> None:
        """Add up what those in the line will take; afresh when it is empty, so that no rounding stays."""
        ahead = self._ahead[place.level]
        for number, cost in enumerate(place.costs):
            ahead[number] = ahead[number] + sign * cost if self.line.length else 0.0

    # --- a caller in the line ---------------------------------------------------------------------------------------------

    def look(self, place: Place) -> float | None:
        """See `Turn.look`."""
        with self.lock:
            if place.come:
                return 0.0
            now = self.refill()
            is_head = self.line.head() is place
            lack = self.lack(place.costs) if is_head else math.inf
            if lack > TINY:
                return self._rest(place, now, lack)
            moved = list(self._let_in())
        rouse(moved)
        return 0.0

    def _rest(self, place: Place, now: float, lack: float) -> float | None:
        """Under the lock: seconds until the turn of the head comes, None for the others, while their patience lasts."""
        is_head = lack < math.inf
        ends = now + lack if is_head else now + 2 * TINY
        if place.gone or (place.until is not None and ends > place.until + TINY):
            raise self._refusal(place)
        return lack if is_head else None

    def claim(self, place: Place) -> None:
        """See `Turn.claim`. A clock that is behind, or does not wait, leaves a debt."""
        with self.lock:
            if place.come or self.line.head() is not place:
                return
            self.refill()
            self._take_turn(place)
            moved = list(self._let_in())
        rouse(moved)

    def _let_in(self) -> Iterator[Place]:
        """Under the lock: give their turn to all whose cost is there. Gives those, and who is next: all are to be woken."""
        while (place := self.line.head()) is not None:
            yield place
            if self.lack(place.costs) > TINY:
                return
            self._take_turn(place)

    def _take_turn(self, place: Place) -> None:
        self.take(place.costs)
        place.come = True
        self._remove(place)

    def _remove(self, place: Place) -> None:
        self.line.leave(place)
        self._count(place, -1.0)

    def left(self, place: Place) -> bool:
        """Whether a caller gives up a place whose turn had not come, or that was lost already."""
        with self.lock:
            if place.come or place.gone:
                return place.gone
            self.refill()
            was_head = self.line.head() is place
            self._remove(place)
            place.gone = True
            moved = list(self._let_in()) if was_head else []
        rouse(moved)
        return True

    def leave(self, place: Place) -> None:
        """Lose a place, whether its turn has come or not."""
        if not self.left(place):
            place.gone = True
            self.give_back(place.costs)

    def patience_of(self, place: Place) -> float | None:
        """See `Turn.patience`."""
        return None if place.until is None else max(0.0, place.until - self._clock.monotonic())

    def refusal(self, place: Place) -> RateLimitExceededError:
        """See `Turn.refusal`."""
        with self.lock:
            self.refill()
            return self._refusal(place)

    def _refusal(self, place: Place) -> RateLimitExceededError:
        """With the seconds after which the place would come to somebody who asks now, without this caller."""
        if not place.gone:
            self._count(place, -1.0)
        expected = self._expected(place.costs, place.level)
        if not place.gone:
            self._count(place, 1.0)
        return RateLimitExceededError(self._name, expected)

    def give_back(self, unused: Sequence[float]) -> None:
        """Put back what was not used; what is negative was used beyond the estimate."""
        if self.guarded.is_mine():
            self.guarded.put_off(functools.partial(self.give_back, unused))
            return
        with self.lock:
            self.refill()
            for bucket, units in zip(self.buckets, unused, strict=True):
                bucket.level = min(max(bucket.level, bucket.burst), bucket.level + units)
            moved = list(self._let_in())
        rouse(moved)
