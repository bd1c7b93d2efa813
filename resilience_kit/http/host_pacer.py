"""Guard of all requests to one host with one credential for one model: rejects, pauses, slows down or admits them."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar

from resilience_kit._fork import register_fork_aware
from resilience_kit._wait_queue import EPSILON, Waiter, WaitQueue, wake_all
from resilience_kit.classification.response import lowercase_headers
from resilience_kit.classification.retry_after import header_hint
from resilience_kit.clock import Clock
from resilience_kit.context import Priority, current_call, current_priority
from resilience_kit.errors import GuardKind, RateLimitExceededError
from resilience_kit.events import CallersParked, Event, EventStream
from resilience_kit.http.access_state import AccessState
from resilience_kit.http.pacing_config import PacingConfig
from resilience_kit.http.rate_limit_headers import MAX_BUCKETS, BucketReading, RemoteBucket, SendLog, parse_rate_limit_headers
from resilience_kit.http.slow_start import SlowStart
from resilience_kit.http.tokens import tokens_used
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind

_THROTTLED_KINDS = frozenset({FailureKind.RATE_LIMIT, FailureKind.OVERLOADED})
#: Seconds without parsing headers after a good response that left more than `_PLENTY_REMAINING` of every limit.
_HEADER_SAMPLING, _PLENTY_REMAINING = 0.02, 0.5
#: Levels within a priority by failed attempts, up to so many: requests with fewer attempts left go first.
_RETRY_LEVELS = 4


class HostPacer:
    """A guard of all requests to one host with one credential for one model. Thread-safe; `name` is the host, and the model.

    Rules, first one first: a credential that was refused, or an account without credit, refuses; parked until the hint of a
    429, from which not all go at once, see `SlowStart`; slowed down by what the headers say is left. Who has to wait does so in a
    line, by priority, number of attempts and arrival.
    """

    __slots__ = (
        "__weakref__",
        "_access_state",
        "_buckets",
        "_clock",
        "_config",
        "_events",
        "_last_start",
        "_parked_until",
        "_queue",
        "_queued_cost",
        "_send_log",
        "_skip_headers_until",
        "_slow_start",
        "name",
    )  # fmt: skip

    kind = GuardKind.PACING

    def __init__(self, name: str, config: PacingConfig, clock: Clock, events: EventStream, access: AccessState) -> None:
        self.name, self._access_state = name, access
        self._config, self._clock, self._events = config, clock, events
        self._send_log = SendLog()
        self._last_start = clock.monotonic()
        self._clear_state()
        self.reset_after_fork()
        register_fork_aware(self)

    def _clear_state(self) -> None:
        self._buckets: dict[str, RemoteBucket] = {}
        self._parked_until = self._skip_headers_until = self._last_start
        #: How requests start again after the last refusal; None once that is over.
        self._slow_start: SlowStart | None = None

    def reset(self) -> None:
        """Forget everything that responses reported. Queued requests continue."""
        with self._lock:
            self._access_state.reset()
            self._clear_state()
            to_wake = [*self._grant_ready(self._clock.monotonic())]
        wake_all(to_wake)

    def reset_after_fork(self) -> None:
        """Empty the queue in a forked child."""
        self._queue = WaitQueue(_RETRY_LEVELS * len(Priority))
        self._queued_cost = [0.0] * (_RETRY_LEVELS * len(Priority))

    @property
    def _lock(self) -> threading.RLock:
        return self._access_state.guard_lock.lock

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._queue.length

    # --- before a request ------------------------------------------------------------------------------------------------

    def admit(self, cost: float = 1.0) -> PacerPermit:
        """Leave to send a request that counts for `cost`, perhaps with a turn to wait for.

        Raises `CredentialRefusedError`, `BillingStoppedError` or, for a wait beyond `max_wait`, `RateLimitExceededError`.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._access_state.raise_if_suspended(now, self.name)
            level = _queue_level()
            is_retry = level % _RETRY_LEVELS > 0
            wait = self._expected_wait(now, cost, level)
            if (self._parked_until - now if is_retry else wait) > self._config.max_wait + EPSILON:
                raise RateLimitExceededError(self.name, wait).attribute_to(self.name, GuardKind.PACING)
            permit = PacerPermit(self, self._access_state.generation, is_trial=self._access_state.take_trials(now))
            if wait > EPSILON:
                permit.turn = self._enqueue(PacerWaiter(self, permit, level, cost, wait), math.inf if is_retry else now)
            else:
                permit.started_at, permit.number = now, self._record_start(cost, now)
        _latest_permit.set(permit)
        return permit

    def fits(self, cost: float = 1.0) -> bool:
        """Whether `admit` would give a permit that need not wait."""
        with self._lock:
            now = self._clock.monotonic()
            return not self._access_state.is_suspended(now) and self._expected_wait(now, cost, 0) <= EPSILON

    def _expected_wait(self, now: float, cost: float, level: int) -> float:
        """Return the seconds until a new request may start."""
        return self._due_at(now, cost, level, sum(self._queued_cost[level:])) - now

    def _due_at(self, now: float, cost: float, level: int, ahead: float = 0.0) -> float:
        """Return when a request may start behind a cost of `ahead`. One that was rejected twice waits for twice the headroom."""
        due = max(now, self._parked_until)
        if self._slow_start is not None:
            due = max(due, self._slow_start.due_at(ahead + (level % _RETRY_LEVELS > 1)))
        for bucket in self._buckets.values():
            due = max(due, bucket.due_at(due, cost, ahead, self._config.headroom, self._last_start))
        return due

    def _record_start(self, cost: float, now: float) -> int:
        self._last_start = now
        if self._slow_start is not None:
            self._slow_start.record_start(now)
            if self._slow_start.is_finished(now):
                self._slow_start = None
        for bucket in self._buckets.values():
            bucket.take(cost, now)
        return self._send_log.record(now)

    # --- a queued request ------------------------------------------------------------------------------------------------

    def _enqueue(self, waiter: PacerWaiter, now: float) -> PacerWaiter:
        waiter.deadline = now + self._config.max_wait
        self._queue.append(waiter)
        self._queued_cost[waiter.priority] += waiter.cost
        return waiter

    def look(self, waiter: PacerWaiter) -> float | None:
        """See `Turn.look`."""
        with self._lock:
            now = self._clock.monotonic()
            to_wake = [*self._grant_ready(now)] if self._queue.head() is waiter else []
            wait = 0.0 if waiter.granted else self._remaining_wait(waiter, now)
        wake_all([each for each in to_wake if each is not waiter])
        return wait

    def _remaining_wait(self, waiter: PacerWaiter, now: float) -> float | None:
        """Under the lock: seconds until the turn of the head comes, None for the others, while their patience lasts."""
        is_head = self._queue.head() is waiter
        due = self._due_at(now, waiter.cost, waiter.priority) if is_head else now
        if waiter.cancelled or due > waiter.deadline + EPSILON or now >= waiter.deadline:
            raise self._rejection(waiter, now)
        if is_head:
            waiter.due_at, waiter.expected = due, due - now
        return due - now if is_head else None

    def claim(self, waiter: PacerWaiter) -> None:
        """See `Turn.claim`. A request that has gone before, or a longer pause, may have put the time off meanwhile."""
        with self._lock:
            now = self._clock.monotonic()
            if (
                waiter.granted
                or self._queue.head() is not waiter
                or self._due_at(now, waiter.cost, waiter.priority) > max(now, waiter.due_at) + EPSILON
            ):
                return
            self._grant(waiter, now)
            to_wake = [*self._grant_ready(now)]
        wake_all(to_wake)

    def _grant_ready(self, now: float) -> Iterator[PacerWaiter]:
        """Under the lock: give their turn to all who may start. Gives those, and who is next: all are to be woken."""
        while (waiter := self._head()) is not None:
            yield waiter
            if self._due_at(now, waiter.cost, waiter.priority) > now + EPSILON:
                return
            self._grant(waiter, now)

    def _head(self) -> PacerWaiter | None:
        head = self._queue.head()
        return head if isinstance(head, PacerWaiter) else None

    def _grant(self, waiter: PacerWaiter, now: float) -> None:
        waiter.granted = True
        self._dequeue(waiter)
        waiter.permit.started_at, waiter.permit.number = now, self._record_start(waiter.cost, now)

    def _dequeue(self, waiter: PacerWaiter) -> None:
        self._queue.remove(waiter)
        self._queued_cost[waiter.priority] = self._queued_cost[waiter.priority] - waiter.cost if self._queue.length else 0.0

    def leave(self, waiter: PacerWaiter) -> None:
        """Give up a place whose turn has not come: those behind move up."""
        with self._lock:
            to_wake = [] if waiter.granted or waiter.cancelled else self._cancel(waiter)
        wake_all(to_wake)

    def _cancel(self, waiter: PacerWaiter) -> Sequence[PacerWaiter]:
        was_head = self._queue.head() is waiter
        self._dequeue(waiter)
        waiter.cancelled = True
        return [*self._grant_ready(self._clock.monotonic())] if was_head else []

    def patience_of(self, waiter: PacerWaiter) -> float | None:
        """See `Turn.patience`."""
        return None if waiter.deadline == math.inf else max(0.0, waiter.deadline - self._clock.monotonic())

    def refusal(self, waiter: PacerWaiter) -> RateLimitExceededError:
        """See `Turn.refusal`."""
        with self._lock:
            return self._rejection(waiter, self._clock.monotonic())

    def _rejection(self, waiter: PacerWaiter, now: float) -> RateLimitExceededError:
        """Return the rejection, with the seconds that a new request in its place would wait."""
        ahead = sum(self._queued_cost[waiter.priority :]) - (0.0 if waiter.cancelled or waiter.granted else waiter.cost)
        rejection = RateLimitExceededError(self.name, self._due_at(now, waiter.cost, waiter.priority, ahead) - now)
        return rejection.attribute_to(self.name, GuardKind.PACING)

    # --- after it --------------------------------------------------------------------------------------------------------

    @property
    def wants_headers(self) -> bool:
        """Whether to parse the headers of a good response: not for 20 ms after one that left more than half of every limit."""
        return self._clock.monotonic() >= self._skip_headers_until

    def observe(self, headers: Mapping[str, str], permit: PacerPermit | None = None) -> None:
        """Take the headers of any response. `permit`: that of its request, by default the latest of this task or thread."""
        permit = permit or _latest_permit.get()
        if permit is None or permit.pacer is not self:
            return
        known = lowercase_headers(headers)
        permit.retry_after = header_hint(known)
        with self._lock:
            now, sent_at = self._clock.monotonic(), permit.started_at
            readings = {} if sent_at is None else parse_rate_limit_headers(known, sent_at, now)
            if sent_at is not None and readings:
                self._update_buckets(readings, permit.number, sent_at, now)
            to_wake = [*self._grant_ready(now)] if readings else []
        wake_all(to_wake)

    def _update_buckets(self, readings: Mapping[str, BucketReading], number: int, sent_at: float, now: float) -> None:
        position = self._send_log.position_of(number, sent_at)
        for name, each in readings.items():
            if name in self._buckets:
                self._buckets[name].update(each, position, now)
            elif len(self._buckets) < MAX_BUCKETS:
                self._buckets[name] = RemoteBucket(each, position, now, learns_cost="token" in name)
        if all(bucket.has_more_than(_PLENTY_REMAINING) for bucket in self._buckets.values()):
            self._skip_headers_until = now + _HEADER_SAMPLING

    def settle(self, permit: PacerPermit, outcome: Outcome) -> None:
        """Take the outcome of a request."""
        if self._access_state.guard_lock.held_by_current_thread():
            self._access_state.guard_lock.defer(functools.partial(self.settle, permit, outcome))
            return
        if permit.turn is not None:
            self.leave(permit.turn)
        if outcome.kind is OutcomeKind.SUCCESS and outcome.value is not None and self._buckets:
            self._learn_cost(outcome.value)
        with self._lock:
            events = [*self._apply_outcome(permit, outcome, self._clock.monotonic())]
        for event in events:
            (permit.events or self._events).emit(event)

    def _learn_cost(self, answer: object) -> None:
        """Learn the cost of a request from its token usage, if the headers have not shown it yet or after a 429."""
        buckets = [each for each in [*self._buckets.values()] if each.cost_unknown or self._slow_start is not None]
        units = tokens_used(answer) if buckets else None
        if units:
            with self._lock:
                for bucket in buckets:
                    bucket.record_usage(units)

    def _apply_outcome(self, permit: PacerPermit, outcome: Outcome, now: float) -> Iterator[Event]:
        access = self._access_state
        if outcome.kind is OutcomeKind.CANCELLED and permit.is_trial:
            access.return_trials(now)
        elif outcome.kind is OutcomeKind.SUCCESS and permit.is_trial:
            yield from access.resume_all()
        elif outcome.verdict is not None:
            verdict = outcome.verdict
            if permit.is_trial:
                yield from access.resume_authenticated(verdict)
            is_throttled = verdict.kind in _THROTTLED_KINDS and verdict.retryable and not verdict.counts_against_breaker
            if is_throttled and (verdict.retry_after or verdict.kind is FailureKind.RATE_LIMIT):
                yield from self._pause_host(permit, verdict.retry_after or 0.0, now)
            if permit.generation == access.generation or permit.is_trial:  # else it was sent before access was restored
                yield from access.suspend(verdict, permit.retry_after, now)

    def _pause_host(self, permit: PacerPermit, seconds: float, now: float) -> Iterator[Event]:
        """Pause all requests for the seconds that a 429 demands; then start them no faster than the service accepts."""
        if seconds and self._parked_until <= now:
            yield CallersParked(operation=self.name, seconds=seconds)
        self._parked_until = max(self._parked_until, now + seconds)
        recovery = self._slow_start
        if recovery is None:
            recovery = SlowStart.after_burst(now, self._send_log)
        elif permit.number > recovery.last:
            recovery = recovery.after_ramp(now, self._send_log)
        self._slow_start = recovery
        recovery.record_rate_limited(permit.number, now, seconds)


class PacerWaiter(Waiter):
    """A request's turn at a host."""

    __slots__ = ("cost", "deadline", "due_at", "permit")

    def __init__(self, pacer: HostPacer, permit: PacerPermit, priority: int, cost: float, estimated_wait: float) -> None:
        super().__init__(pacer, priority, estimated_wait=estimated_wait)  # type: ignore[arg-type]  # its own places
        self.permit, self.cost, self.deadline, self.due_at = permit, cost, math.inf, math.inf


class PacerPermit:
    """Leave to send one request, once its `turn` has come; that is None when it may go at once. See `Permit`."""

    __slots__ = ("events", "generation", "is_trial", "number", "pacer", "retry_after", "started_at", "turn")

    wait = 0.0

    def __init__(self, pacer: HostPacer, generation: int, *, is_trial: bool) -> None:
        self.pacer, self.generation, self.is_trial = pacer, generation, is_trial
        self.turn: PacerWaiter | None = None
        #: The event stream of the orchestrator whose call it is, unless that is the default one.
        self.events: EventStream | None = None
        #: When its request started, and as which one of all; None while it waits.
        self.started_at: float | None = None
        self.number = 0
        #: Seconds that its response asked to wait.
        self.retry_after: float | None = None

    @property
    def guard(self) -> str:
        """The name of its host pacer, for events."""
        return self.pacer.name

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take the headers of the response. See `HostPacer.observe`."""
        self.pacer.observe(headers, self)

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome of the request."""
        self.pacer.settle(self, outcome)


def _queue_level() -> int:
    """Return the queue level of a request: by its priority, then by the earlier attempts of its call."""
    attempts: int = getattr(current_call.get(), "earlier_attempts", 0)
    return _RETRY_LEVELS * current_priority.get() + min(attempts, _RETRY_LEVELS - 1)


_latest_permit: ContextVar[PacerPermit | None] = ContextVar("resilience_kit_pace", default=None)


def latest_permit() -> PacerPermit | None:
    """Return the latest permit of this task or thread, of any host pacer."""
    return _latest_permit.get()
