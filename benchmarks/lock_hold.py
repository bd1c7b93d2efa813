"""How long a breaker's lock is held, and how long an event loop waits beside threads that use the same breaker.

A lock that is held for long, or over a wait, would stop every event loop that shares the breaker. The breaker of these
measurements has a listener, so that what a listener costs under the lock is in the figures.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from random import Random
from time import perf_counter_ns
from typing import Any

from harness import Plain

from resilience_kit import CircuitBreaker
from resilience_kit.events import EventStream

_NEVER = 10**9
#: Seconds for which an event loop sleeps between two looks at the clock.
TICK = 1e-3
#: What the benchmark's own work under the lock, which is none, is called.
NOTHING = "nothing, which is what measuring adds"


# --- the lock ----------------------------------------------------------------------------------------------------------------


class TimedLock:
    """Takes the place of a lock, and notes for how many nanoseconds it was held each time."""

    def __init__(self, lock: Any) -> None:
        self._lock, self._since = lock, 0
        self.held: list[int] = []

    def __enter__(self) -> None:
        self._lock.acquire()
        self._since = perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self.held.append(perf_counter_ns() - self._since)
        self._lock.release()


class TimedBreaker(CircuitBreaker):
    """A breaker whose lock is timed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = self.timed = TimedLock(self._lock)  # type: ignore[assignment]  # as good as a lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Something that a breaker does under its lock. `before`: what brings it there, and gives the token to do it with."""

    name: str
    before: Callable[[CircuitBreaker], Any]
    do: Callable[[CircuitBreaker, Any], object]
    threshold: int = 1


def _fail(breaker: CircuitBreaker, token: Any) -> None:
    breaker.on_failure(token, ConnectionError())


def _succeed(breaker: CircuitBreaker, token: Any) -> None:
    breaker.on_success(token)


def _enter(breaker: CircuitBreaker, _: Any) -> None:
    breaker.acquire()


def _closed(breaker: CircuitBreaker) -> Any:
    breaker.reset()
    return breaker.acquire()


def _failed_once(breaker: CircuitBreaker) -> Any:
    token = breaker.acquire()
    breaker.on_failure(token, ConnectionError())
    return token


def _opened(breaker: CircuitBreaker) -> None:
    """Its open time is over by the next look at the clock."""
    _fail(breaker, _closed(breaker))


def _trying(breaker: CircuitBreaker) -> Any:
    _opened(breaker)
    return breaker.acquire()


MOVES = (
    Move(name="a failure is counted", before=CircuitBreaker.acquire, do=_fail, threshold=_NEVER),
    Move(name="a success after failures", before=_failed_once, do=_succeed, threshold=_NEVER),
    Move(name="a failure opens the circuit", before=_closed, do=_fail),
    Move(name="a trial is let in", before=_opened, do=_enter),
    Move(name="a trial ends well and closes it", before=_trying, do=_succeed),
    Move(name="a trial fails and opens it again", before=_trying, do=_fail),
)


def timed_breaker(threshold: int) -> TimedBreaker:
    events = EventStream()
    events.add_listener(lambda _: None)
    return TimedBreaker(threshold, TICK * 1e-6, name="timed", events=events)


def held_by(move: Move, number: int) -> list[int]:
    """Nanoseconds for which each of so many moves held the lock, all made by one thread."""
    breaker, found = timed_breaker(move.threshold), []
    for _ in range(number):
        token = move.before(breaker)
        breaker.timed.held.clear()
        move.do(breaker, token)
        found += breaker.timed.held
    return found


def held_by_nothing(number: int) -> list[int]:
    """Return the nanoseconds of a lock that is acquired and released at once: the overhead of measuring."""
    lock = TimedLock(threading.RLock())
    for _ in range(number):
        with lock:
            pass
    return lock.held


def held_among_threads(threads: int, number: int) -> list[int]:
    """Return the nanoseconds while threads count failures; a thread may be preempted while it holds the lock."""
    breaker = timed_breaker(_NEVER)
    workers = [threading.Thread(target=_count_failures, args=(breaker, number // threads)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return breaker.timed.held


def _count_failures(breaker: CircuitBreaker, number: int) -> None:
    for _ in range(number):
        _failed_once(breaker)


# --- the loop ------------------------------------------------------------------------------------------------------------------


def alternating() -> Plain:
    """Return a callee that fails in every second call."""
    fails = cycle((True, False)).__next__

    def callee(x: int) -> int:
        if fails():
            raise ConnectionError
        return x

    return callee


def called(call: Plain) -> None:
    with suppress(ConnectionError):
        call(1)


@contextmanager
def hammered(call: Plain, threads: int) -> Iterator[None]:
    """In here so many threads make calls, one after the other and as fast as they can."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            called(call)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join()


async def lags(call: Plain, seconds: float) -> list[int]:
    """Nanoseconds by which each step of a loop takes longer than its sleep; it makes a call in each of them, too."""
    found: list[int] = []
    ends = perf_counter_ns() + int(seconds * 1e9)
    while not found or perf_counter_ns() < ends:
        began = perf_counter_ns()
        await asyncio.sleep(TICK)
        called(call)
        found.append(perf_counter_ns() - began - int(TICK * 1e9))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Threads that make the calls which a loop makes, too. `protect` makes one of the callee."""

    name: str
    protect: Callable[[Plain], Plain]
    threads: int

    def lags(self, seconds: float) -> list[int]:
        """Those of a loop beside it."""
        call = self.protect(alternating())
        with hammered(call, self.threads):
            return asyncio.run(lags(call, seconds))


def lags_beside(crowds: tuple[Crowd, ...], rounds: int, seconds: float) -> dict[str, list[int]]:
    """By crowd, over all rounds, each with the crowds in an order drawn anew."""
    found: dict[str, list[int]] = {each.name: [] for each in crowds}
    order, shuffle = list(crowds), Random(TICK).shuffle  # noqa: S311 - not for secrets
    for _ in range(rounds):
        shuffle(order)
        for each in order:
            found[each.name] += each.lags(seconds)
    return found
