"""One breaker among many threads and tasks: by force, and by a model of every schedule with one switch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState, core

CROWD = 128


def together(number: int, work: Callable[[int], object]) -> None:
    """Run `work(i)` in as many threads as told, all started by one barrier; an error in one of them fails the test."""
    barrier = threading.Barrier(number)
    errors: list[BaseException] = []

    def body(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [] == errors


class Gauge:
    """How many are inside at once, and how many were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = self.entered = 0

    def __enter__(self) -> None:
        with self._lock:
            self.entered += 1
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


# --- who is admitted ---


@pytest.mark.parametrize("slots", [1, 3])
def test_a_crowd_of_threads_gets_as_many_trials_as_there_are(lab, switching, slots):
    """Of 128 threads at a barrier exactly the permitted number run while none returns (invariants 1, 2)."""
    breaker = lab.half_open(half_open_max_calls=slots, success_threshold=100)
    everyone_asked = threading.Barrier(CROWD)
    gauge, refused = Gauge(), itertools.count()

    def trial():
        with gauge:
            everyone_asked.wait(30)

    def call(_):
        try:
            breaker.call(trial)
        except CircuitBreakerOpenError:
            next(refused)
            everyone_asked.wait(30)

    together(CROWD, call)
    assert (slots, slots, CROWD - slots) == (gauge.entered, gauge.most, next(refused))
    assert (CROWD - slots, 0) == (breaker.metrics["rejected_count"], breaker.trials_in_flight)


async def test_a_crowd_of_tasks_gets_one_trial(lab):
    """Of 1500 tasks one runs; the others are refused at once (invariant 1)."""
    breaker = lab.half_open()
    gauge, done = Gauge(), asyncio.Event()

    @breaker
    async def trial():
        with gauge:
            await done.wait()

    tasks = [asyncio.create_task(trial()) for _ in range(1500)]
    await asyncio.sleep(0)
    done.set()
    ends = Counter(type(end) for end in await asyncio.gather(*tasks, return_exceptions=True))
    assert {type(None): 1, CircuitBreakerOpenError: 1499} == ends
    assert (1, True) == (gauge.most, breaker.closed)


def test_threads_and_tasks_mixed_get_one_trial_at_a_time(lab, switching):
    """64 threads and two loops of 500 tasks, over many rounds of trials that fail: never two inside (invariants 1, 21)."""
    breaker = lab.breaker(expected_exception=KeyError)  # a Boom is neutral: half-open for ever
    breaker.state = "half_open"
    gauge = Gauge()

    def trial():
        with gauge:
            time.sleep(0)
        raise lab.Boom

    async def slow_trial():
        with gauge:
            await asyncio.sleep(0)
        raise lab.Boom

    async def tasks():
        await asyncio.gather(*(breaker.call_async(slow_trial) for _ in range(500)), return_exceptions=True)

    def work(index):
        if index < 2:
            asyncio.run(tasks())
            return
        for _ in range(20):
            with contextlib.suppress(lab.Boom, CircuitBreakerOpenError):
                breaker.call(trial)

    together(66, work)
    assert (1, 0, CircuitState.HALF_OPEN) == (gauge.most, breaker.trials_in_flight, breaker.state)
    assert 1000 + 64 * 20 == gauge.entered + breaker.metrics["rejected_count"]


@pytest.mark.parametrize("state", [CircuitState.OPEN, CircuitState.FORCED_OPEN, CircuitState.HALF_OPEN])
def test_a_refusal_does_not_wait_for_the_lock(lab, state):
    """Open, forced open, or with all trials lent out: a crowd does not queue for what it will not get (invariant 21)."""
    breaker = lab.breaker()
    breaker.state = state
    if breaker.fits():
        breaker.acquire()
    breaker._lock = None
    assert lab.refuses(breaker)


def test_a_caller_who_comes_a_moment_late_is_refused(lab):
    """Two callers see that the open time is over; the one who gets the lock second finds the trial taken (invariant 1)."""
    breaker = lab.half_open()
    seen = breaker.snapshot
    assert not isinstance(breaker.try_acquire(seen), CircuitBreakerOpenError)
    refusal = breaker.try_acquire(seen)
    assert "Circuit breaker is open: 'lab'; its trial call is still under way" == str(refusal)


def test_a_caller_who_comes_after_a_failed_trial_is_told_the_new_time(lab):
    """What it saw is over: the refusal speaks of the state that it met (invariant 10)."""
    breaker = lab.half_open()
    seen = breaker.snapshot
    lab.fail(breaker)
    refusal = breaker.try_acquire(seen)
    assert ("lab", 10.0) == (refusal.name, refusal.retry_after)


def test_a_caller_who_comes_after_the_close_is_let_in(lab):
    """What it saw is over: it gets the closed state's own token."""
    breaker = lab.half_open()
    seen = breaker.snapshot
    breaker.call(int)
    assert (True, breaker.snapshot) == (breaker.closed, breaker.try_acquire(seen))


# --- one opening, exact counts ---


def test_simultaneous_failures_open_it_once(lab, switching):
    """128 calls admitted together fail together: one change, one event, all counted (invariant 9)."""
    breaker, heard = lab.breaker(failure_threshold=5), []
    breaker.add_listener(heard.append)
    tokens = [breaker.acquire() for _ in range(CROWD)]
    together(CROWD, lambda index: breaker.on_failure(tokens[index], lab.Boom()))
    assert [("closed", "open")] == [(event.old, event.new) for event in heard]
    assert (1, 5, CROWD) == (breaker.times_opened, breaker.failure_count, breaker.metrics["failure_count"])


def test_totals_are_exact_and_events_in_order(switching):
    """Threads that fail, succeed and are refused at random: nothing is lost, events form one path (invariants 2, 9, 14, 17).

    Each thread delivers its own events, so two may come in the wrong order; `sequence` tells the right one.
    """
    breaker = CircuitBreaker(3, 1e-9, name="busy", excluded_exceptions=(KeyError,))
    heard: list[Any] = []
    breaker.add_listener(heard.append)
    counted: Counter[str] = Counter()
    lock = threading.Lock()

    def work(index):
        dice, own = random.Random(index), Counter()
        for _ in range(150):
            try:
                breaker.call(end, dice.choice("sssffn"), own)
            except CircuitBreakerOpenError:
                own["refused"] += 1
            except (ValueError, KeyError):
                pass
        with lock:
            counted.update(own)

    def end(how, own):
        own[how] += 1
        if how == "f":
            raise ValueError
        if how == "n":
            raise KeyError

    together(32, work)
    metrics = breaker.metrics
    assert (counted["s"], counted["f"], counted["refused"]) == (
        metrics["success_count"], metrics["failure_count"], metrics["rejected_count"],
    )  # fmt: skip
    assert 0 == breaker.trials_in_flight
    heard.sort(key=lambda event: event.sequence)
    assert len(heard) == len({event.sequence for event in heard})
    assert_is_path([(event.old, event.new) for event in heard])
    assert breaker.times_opened == sum(event.new == "open" for event in heard)
    assert [event.at for event in heard] == sorted(event.at for event in heard)


def assert_is_path(moves: list[tuple[str, str]]) -> None:
    """Each move is allowed and begins where the last one ended."""
    allowed = {("closed", "open"), ("open", "half_open"), ("half_open", "closed"), ("half_open", "open")}
    assert set() == set(moves) - allowed
    assert [new for _, new in moves[:-1]] == [old for old, _ in moves[1:]]


def test_a_loop_is_not_blocked_by_a_slow_listener_or_call(lab):
    """The lock is free during a user's call and a listener: another thread asks and is answered meanwhile (invariants 14, 21)."""
    breaker = lab.breaker()
    answered: list[bool] = []

    def ask_from_elsewhere(*_):
        other = threading.Thread(
            target=lambda: (breaker.on_failure(breaker.snapshot, lab.Boom()), answered.append(lab.refuses(breaker)))
        )
        other.start()
        other.join(10)

    breaker.call(ask_from_elsewhere)
    breaker.add_listener(ask_from_elsewhere)
    breaker.force_open("x")
    assert [False, True] == answered


def test_code_that_interrupts_the_lock_s_holder_comes_through(lab):
    """A collection or signal in the midst of a rule may fail, release or ask in the same thread: no deadlock (invariant 15)."""
    breaker = lab.breaker(failure_threshold=2)
    trial_of_another_time = lab.half_open().acquire()
    done = threading.Event()

    def interrupted():
        with breaker._lock:
            breaker.release(trial_of_another_time)
            lab.fail(breaker)
            assert breaker.metrics
        done.set()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    assert done.wait(10)
    assert 1 == breaker.failure_count


# --- every schedule with one switch ---

Act = Callable[[CircuitBreaker], object]
RULES = {str(Path(core.__file__).with_name(name)) for name in ("core.py", "states.py", "circuit.py")}


class Stage:
    """A breaker in some state, two calls under way in it, and two actors who end them."""

    def __init__(self, state: str, acts: tuple[str, str]) -> None:
        self.now = 0.0
        self.breaker = CircuitBreaker(2, 10.0, name="stage", half_open_max_calls=2, success_threshold=2, clock=lambda: self.now)
        self.tokens = [self.breaker.acquire(), self.breaker.acquire()]
        self.breaker.on_failure(self.breaker.acquire(), ValueError())
        if state != "closed":
            self.breaker.on_failure(self.breaker.acquire(), ValueError())
        if state == "half_open":
            self.now = 10.0
            self.tokens = [self.breaker.acquire(), self.breaker.acquire()]
        if state == "due":
            self.now = 10.0
        self.acts = [self._act(index, what) for index, what in enumerate(acts)]
        self.said: dict[int, object] = {}

    def _act(self, index: int, what: str) -> Callable[[], None]:
        breaker, token = self.breaker, self.tokens[index]
        acts: dict[str, Callable[[], object]] = {
            "succeed": lambda: breaker.on_success(token) if token.tracks_success else None,
            "fail": lambda: breaker.on_failure(token, ValueError()),
            "release": lambda: breaker.release(token),
            "enter": self._enter,
            "force": lambda: breaker.force_open("x"),
            "reset": breaker.reset,
        }
        return lambda: self.said.__setitem__(index, acts[what]())

    def _enter(self) -> str:
        try:
            return type(self.breaker.acquire()).__name__
        except CircuitBreakerOpenError:
            return "refused"

    def end(self) -> tuple[object, ...]:
        breaker = self.breaker
        changes: Any = breaker.metrics["state_changes"]
        moves = tuple((change["from"], change["to"]) for change in changes)
        return (
            breaker.state,
            breaker.failure_count,
            breaker.trials_in_flight,
            moves,
            breaker.times_opened,
            tuple(sorted(self.said.items())),
        )


def with_a_switch(stage: Stage, line: int) -> bool:
    """Run the first act up to its `line`-th line, there the whole second act as soon as the lock is free, then the rest.

    Returns whether there was such a line.
    """
    passed = 0
    switched = False

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal passed, switched
        if frame.f_code.co_filename not in RULES:
            return None
        if event == "line":
            passed += 1
            if passed >= line and not switched and not stage.breaker._lock._is_owned():  # type: ignore[attr-defined]
                switched = True
                sys.settrace(None)
                stage.acts[1]()
                sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        stage.acts[0]()
    finally:
        sys.settrace(before)
    return switched


ACTS = ("succeed", "fail", "release", "enter", "force", "reset")


@pytest.mark.slow
@pytest.mark.parametrize("state", ["closed", "open", "due", "half_open"])
def test_every_schedule_ends_as_some_order_would(state):
    """Two ends or admissions, one switch at any line: the result is that of one after the other (invariants 1, 7, 8, 9, 17)."""
    schedules = 0
    for acts in itertools.product(ACTS, ACTS):
        serial = set()
        for order in ((0, 1), (1, 0)):
            stage = Stage(state, acts)
            for index in order:
                stage.acts[index]()
            serial.add(stage.end())
        for line in itertools.count(1):
            stage = Stage(state, acts)
            if not with_a_switch(stage, line):
                break
            assert stage.end() in serial, (acts, line)
            schedules += 1
    assert schedules > 200
