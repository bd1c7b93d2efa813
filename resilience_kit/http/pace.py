"""The rules of all requests to one host, with one credential, for one model: latched, parked, slowed down, or free to go."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from resilience_kit._checks import Checks
from resilience_kit._fork import renew_after_fork
from resilience_kit._turns import TINY, Line, Place, rouse
from resilience_kit.classification.response import lowered
from resilience_kit.classification.retry_after import header_hint
from resilience_kit.context import Priority, current_call, current_priority
from resilience_kit.errors import BillingStoppedError, CredentialRefusedError, GuardKind, RateLimitExceededError
from resilience_kit.events import AccessLatched, AccessRestored, CallersParked, Event, EventStream
from resilience_kit.http.allowance import MOST_BUCKETS, Bucket, Starts, Told, told
from resilience_kit.http.latches import Access, Latch
from resilience_kit.http.recovery import Recovery
from resilience_kit.http.tokens import tokens_used
from resilience_kit.outcome import Clock, FailureKind, Outcome, OutcomeKind, Verdict

#: Verdicts of a service that has looked at the credential and gone on.
_LET_IN = frozenset(
    {
        FailureKind.RATE_LIMIT,
        FailureKind.QUOTA,
        FailureKind.INVALID_REQUEST,
        FailureKind.NOT_FOUND,
        FailureKind.CONTENT_FILTER,
        FailureKind.CONTEXT_LENGTH,
        FailureKind.CONFLICT,
    }
)
_PARKING = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED})
#: Seconds for which the next good answers tell nothing that matters, where more than `_AMPLE` of every limit is left.
_QUIET, _AMPLE = 0.02, 0.5
#: Of each priority, requests that have failed so often or more go before the others: they have fewer attempts left.
_RETRIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PacingConfig:
    """How callers of one host with one key are held back. Times are seconds.

    `max_wait`: the longest that a request waits for its pace; one that would wait longer is refused at once, a retry only where
    the service has named so long a pause. `reserve`: the share of a limit that is left to others with the same key; callers slow
    down when no more than that is left, with 1.0 from the first request on. `credential_trial`: how often a refused credential is
    tried again. `billing_trial`: how often an account without credit or quota is, where the service does not say when it is
    renewed. `max_keys`: hosts, keys and models that are remembered; the one that was not used for longest is forgotten first.

    The default of `max_wait` is that of `RetryConfig.max_retry_after`.
    """

    max_wait: float = 60.0
    reserve: float = 0.1
    credential_trial: float = 60.0
    billing_trial: float = 60.0
    max_keys: int = 1024

    def __post_init__(self) -> None:
        checks = Checks("PacingConfig")
        checks.seconds("max_wait", self.max_wait, zero=True)
        checks.number("reserve", self.reserve, 0.0, 1.0)
        checks.seconds("credential_trial", self.credential_trial)
        checks.seconds("billing_trial", self.billing_trial)
        checks.whole("max_keys", self.max_keys, 1)
        checks.done()


class Pace:
    """A guard of all requests to one host with one credential for one model. Thread-safe; `name` is the host, and the model.

    Rules, first one first: a credential that was refused, or an account without credit, refuses; parked until the hint of a
    429, from which not all go at once, see `Recovery`; slowed down by what the headers say is left. Who has to wait does so in a
    line, by priority, number of attempts and arrival.
    """

    __slots__ = (
        "__weakref__", "_access", "_buckets", "_clock", "_config", "_events", "_last", "_line", "_parked_until", "_quiet_until",
        "_recovery", "_starts", "_waiting", "name",
    )  # fmt: skip

    kind = GuardKind.PACING

    def __init__(self, name: str, config: PacingConfig, clock: Clock, events: EventStream, access: Access) -> None:
        self.name, self._access = name, access
        self._config, self._clock, self._events = config, clock, events
        self._starts = Starts()
        self._last = clock.monotonic()
        self._clean()
        self.renew_after_fork()
        renew_after_fork(self)

    def _clean(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._parked_until = self._quiet_until = self._last
        #: How requests start again after the last refusal; None once that is over.
        self._recovery: Recovery | None = None

    def start_clean(self) -> None:
        """Forget all that was heard. Those who wait go on."""
        with self._lock:
            self._access.start_clean()
            self._clean()
            moved = [*self._let_in(self._clock.monotonic())]
        rouse(moved)

    def renew_after_fork(self) -> None:
        """In a forked child: nobody who waits."""
        self._line = Line(_RETRIES * len(Priority))
        self._waiting = [0.0] * (_RETRIES * len(Priority))

    @property
    def _lock(self) -> threading.RLock:
        return self._access.guarded.lock

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return self._line.length

    # --- before a request ------------------------------------------------------------------------------------------------

    def admit(self, cost: float = 1.0) -> PacePermit:
        """Leave to send a request that counts for `cost`, perhaps with a turn to wait for.

        Raises `CredentialRefusedError`, `BillingStoppedError` or, for a wait beyond `max_wait`, `RateLimitExceededError`.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._refuse_latched(now)
            level = _level()
            is_retry = level % _RETRIES > 0
            wait = self._expected(now, cost, level)
            if (self._parked_until - now if is_retry else wait) > self._config.max_wait + TINY:
                raise RateLimitExceededError(self.name, wait).attribute_to(self.name, GuardKind.PACING)
            permit = PacePermit(self, self._access.generation, is_trial=self._takes_trial(now))
            if wait > TINY:
                permit.turn = self._join(PacePlace(self, permit, level, cost, wait), math.inf if is_retry else now)
            else:
                permit.started, permit.number = now, self._start(cost, now)
        _latest.set(permit)
        return permit

    def fits(self, cost: float = 1.0) -> bool:
        """Whether `admit` would give a permit that need not wait."""
        with self._lock:
            now = self._clock.monotonic()
            shut = self._access.credential.wait(now) or self._access.billing.wait(now)
            return not shut and self._expected(now, cost, 0) <= TINY

    def _refuse_latched(self, now: float) -> None:
        for latch, refusal in ((self._access.credential, CredentialRefusedError), (self._access.billing, BillingStoppedError)):
            if wait := latch.wait(now):
                raise refusal(self._access.host, wait).attribute_to(self.name, GuardKind.PACING)

    def _takes_trial(self, now: float) -> bool:
        return any([self._access.credential.take(now), self._access.billing.take(now)])

    def _expected(self, now: float, cost: float, level: int) -> float:
        """Seconds until a request may start that comes now."""
        return self._due(now, cost, level, sum(self._waiting[level:])) - now

    def _due(self, now: float, cost: float, level: int, ahead: float = 0.0) -> float:
        """When a request may start that has so many ahead of it. One that was refused twice waits for twice the room."""
        due = max(now, self._parked_until)
        if self._recovery is not None:
            due = max(due, self._recovery.due(ahead + (level % _RETRIES > 1)))
        for bucket in self._buckets.values():
            due = max(due, bucket.due(due, cost, ahead, self._config.reserve, self._last))
        return due

    def _start(self, cost: float, now: float) -> int:
        self._last = now
        if self._recovery is not None:
            self._recovery.start(now)
            if self._recovery.is_over(now):
                self._recovery = None
        for bucket in self._buckets.values():
            bucket.take(cost, now)
        return self._starts.add(now)

    # --- a request in the line -------------------------------------------------------------------------------------------

    def _join(self, place: PacePlace, now: float) -> PacePlace:
        place.ends = now + self._config.max_wait
        self._line.join(place)
        self._waiting[place.level] += place.cost
        return place

    def look(self, place: PacePlace) -> float | None:
        """See `Turn.look`."""
        with self._lock:
            now = self._clock.monotonic()
            moved = [*self._let_in(now)] if self._line.head() is place else []
            pause = 0.0 if place.come else self._pause(place, now)
        rouse([each for each in moved if each is not place])
        return pause

    def _pause(self, place: PacePlace, now: float) -> float | None:
        """Under the lock: seconds until the turn of the head comes, None for the others, while their patience lasts."""
        is_head = self._line.head() is place
        due = self._due(now, place.cost, place.level) if is_head else now
        if place.gone or due > place.ends + TINY or now >= place.ends:
            raise self._refusal(place, now)
        if is_head:
            place.due, place.expected = due, due - now
        return due - now if is_head else None

    def claim(self, place: PacePlace) -> None:
        """See `Turn.claim`. A request that has gone before, or a longer pause, may have put the time off meanwhile."""
        with self._lock:
            now = self._clock.monotonic()
            if (
                place.come
                or self._line.head() is not place
                or self._due(now, place.cost, place.level) > max(now, place.due) + TINY
            ):
                return
            self._take_turn(place, now)
            moved = [*self._let_in(now)]
        rouse(moved)

    def _let_in(self, now: float) -> Iterator[PacePlace]:
        """Under the lock: give their turn to all who may start. Gives those, and who is next: all are to be woken."""
        while (place := self._head()) is not None:
            yield place
            if self._due(now, place.cost, place.level) > now + TINY:
                return
            self._take_turn(place, now)

    def _head(self) -> PacePlace | None:
        head = self._line.head()
        return head if isinstance(head, PacePlace) else None

    def _take_turn(self, place: PacePlace, now: float) -> None:
        place.come = True
        self._remove(place)
        place.permit.started, place.permit.number = now, self._start(place.cost, now)

    def _remove(self, place: PacePlace) -> None:
        self._line.leave(place)
        self._waiting[place.level] = self._waiting[place.level] - place.cost if self._line.length else 0.0

    def leave(self, place: PacePlace) -> None:
        """Give up a place whose turn has not come: those behind move up."""
        with self._lock:
            moved = [] if place.come or place.gone else self._given_up(place)
        rouse(moved)

    def _given_up(self, place: PacePlace) -> Sequence[PacePlace]:
        was_head = self._line.head() is place
        self._remove(place)
        place.gone = True
        return [*self._let_in(self._clock.monotonic())] if was_head else []

    def patience_of(self, place: PacePlace) -> float | None:
        """See `Turn.patience`."""
        return None if place.ends == math.inf else max(0.0, place.ends - self._clock.monotonic())

    def refusal(self, place: PacePlace) -> RateLimitExceededError:
        """See `Turn.refusal`."""
        with self._lock:
            return self._refusal(place, self._clock.monotonic())

    def _refusal(self, place: PacePlace, now: float) -> RateLimitExceededError:
        """With the seconds after which it would be the turn of somebody who asks now, in place of this one."""
        ahead = sum(self._waiting[place.level :]) - (0.0 if place.gone or place.come else place.cost)
        refusal = RateLimitExceededError(self.name, self._due(now, place.cost, place.level, ahead) - now)
        return refusal.attribute_to(self.name, GuardKind.PACING)

    # --- after it --------------------------------------------------------------------------------------------------------

    @property
    def listens(self) -> bool:
        """Whether the head of a good answer matters: not for a moment after one that said that there is plenty left."""
        return self._clock.monotonic() >= self._quiet_until

    def heard(self, headers: Mapping[str, str], permit: PacePermit | None = None) -> None:
        """A response's head, good or bad. `permit`: that of its request, by default the latest of this task or thread."""
        permit = permit or _latest.get()
        if permit is None or permit.pace is not self:
            return
        known = lowered(headers)
        permit.hint = header_hint(known)
        with self._lock:
            now, sent = self._clock.monotonic(), permit.started
            found = {} if sent is None else told(known, sent, now)
            if sent is not None and found:
                self._read(found, permit.number, sent, now)
            moved = [*self._let_in(now)] if found else []
        rouse(moved)

    def _read(self, found: Mapping[str, Told], number: int, at: float, now: float) -> None:
        sent = self._starts.of(number, at)
        for name, each in found.items():
            if name in self._buckets:
                self._buckets[name].read(each, sent, now)
            elif len(self._buckets) < MOST_BUCKETS:
                self._buckets[name] = Bucket(each, sent, now, learns="token" in name)
        if all(bucket.has_more_than(_AMPLE) for bucket in self._buckets.values()):
            self._quiet_until = now + _QUIET

    def settle(self, permit: PacePermit, outcome: Outcome) -> None:
        """How a permit's request ended."""
        if self._access.guarded.is_mine():
            self._access.guarded.put_off(functools.partial(self.settle, permit, outcome))
            return
        if permit.turn is not None:
            self.leave(permit.turn)
        if outcome.kind is OutcomeKind.SUCCESS and outcome.value is not None and self._buckets:
            self._learn_cost(outcome.value)
        with self._lock:
            events = [*self._learn(permit, outcome, self._clock.monotonic())]
        for event in events:
            (permit.events or self._events).emit(event)

    def _learn_cost(self, answer: object) -> None:
        """What a request takes of a bucket of tokens, where the headers have not shown it yet, or after a refusal."""
        buckets = [each for each in [*self._buckets.values()] if each.lacks_cost or self._recovery is not None]
        units = tokens_used(answer) if buckets else None
        if units:
            with self._lock:
                for bucket in buckets:
                    bucket.reported(units)

    def _learn(self, permit: PacePermit, outcome: Outcome, now: float) -> Iterator[Event]:
        if outcome.kind is OutcomeKind.CANCELLED and permit.is_trial:
            self._access.credential.give_back(now)
            self._access.billing.give_back(now)
        elif outcome.kind is OutcomeKind.SUCCESS and permit.is_trial:
            yield from self._restored("credential", self._access.credential)
            yield from self._restored("billing", self._access.billing)
        elif outcome.verdict is not None:
            yield from self._heed(permit, outcome.verdict, now)

    def _heed(self, permit: PacePermit, verdict: Verdict, now: float) -> Iterator[Event]:
        if permit.is_trial and verdict.kind in _LET_IN:
            yield from self._restored("credential", self._access.credential)
        is_throttled = verdict.kind in _PARKING and verdict.retryable and not verdict.counts_against_breaker
        if is_throttled and (verdict.retry_after or verdict.kind is FailureKind.RATE_LIMIT):
            yield from self._hold_back(permit, verdict.retry_after or 0.0, now)
        if permit.generation != self._access.generation and not permit.is_trial:  # sent before what was wrong was put right
            return
        if verdict.kind is FailureKind.AUTH and self._access.is_named:
            yield from self._latched("credential", self._access.credential, None, now)
        if verdict.kind is FailureKind.QUOTA and not verdict.retryable:
            yield from self._latched("billing", self._access.billing, permit.hint or None, now)

    def _hold_back(self, permit: PacePermit, seconds: float, now: float) -> Iterator[Event]:
        """Park everybody for the seconds that a refusal names, and let them start again no faster than the service takes them."""
        if seconds and self._parked_until <= now:
            yield CallersParked(operation=self.name, seconds=seconds)
        self._parked_until = max(self._parked_until, now + seconds)
        recovery = self._recovery
        if recovery is None:
            recovery = Recovery.first(now, self._starts)
        elif permit.number > recovery.last:
            recovery = recovery.next(now, self._starts)
        self._recovery = recovery
        recovery.refused(permit.number, now, seconds)

    def _latched(self, why: str, latch: Latch, seconds: float | None, now: float) -> Iterator[Event]:
        if latch.shut(now, seconds):
            yield AccessLatched(operation=self._access.host, why=why, retry_after=latch.next_trial - now)

    def _restored(self, why: str, latch: Latch) -> Iterator[Event]:
        if latch.lift():
            self._access.generation += 1
            yield AccessRestored(operation=self._access.host, why=why)


class PacePlace(Place):
    """A request's turn at a host."""

    __slots__ = ("cost", "due", "ends", "permit")

    def __init__(self, pace: Pace, permit: PacePermit, level: int, cost: float, expected: float) -> None:
        super().__init__(pace, level, expected=expected)  # type: ignore[arg-type]  # its own places
        self.permit, self.cost, self.ends, self.due = permit, cost, math.inf, math.inf


class PacePermit:
    """Leave to send one request, once its `turn` has come; that is None when it may go at once. See `Permit`."""

    __slots__ = ("events", "generation", "hint", "is_trial", "number", "pace", "started", "turn")

    wait = 0.0

    def __init__(self, pace: Pace, generation: int, *, is_trial: bool) -> None:
        self.pace, self.generation, self.is_trial = pace, generation, is_trial
        self.turn: PacePlace | None = None
        #: The stream of the orchestrator whose call it is, where that is not the default one.
        self.events: EventStream | None = None
        #: When its request started, and as which one of all; None while it waits.
        self.started: float | None = None
        self.number = 0
        #: Seconds that its response asked to wait.
        self.hint: float | None = None

    @property
    def guard(self) -> str:
        """The name of the pace that gave it, for events."""
        return self.pace.name

    def heard(self, headers: Mapping[str, str]) -> None:
        """The head of its response. See `Pace.heard`."""
        self.pace.heard(headers, self)

    def settle(self, outcome: Outcome) -> None:
        """Hear how its request ended."""
        self.pace.settle(self, outcome)


def _level() -> int:
    """The level of a request in the queue: by its priority, and then by the attempts that its call has made before."""
    attempts: int = getattr(current_call.get(), "earlier_attempts", 0)
    return _RETRIES * current_priority.get() + min(attempts, _RETRIES - 1)


_latest: ContextVar[PacePermit | None] = ContextVar("resilience_kit_pace", default=None)


def latest_permit() -> PacePermit | None:
    """The permit that this task or thread was given last, by whichever pace."""
    return _latest.get()
