"""Threads and tasks together on one orchestrator: nothing is lost, nothing is counted twice, one trial at a time."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilience_kit import (
    AIServiceResilience,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    ResilienceConfig,
    RetryConfig,
)
from resilience_kit.events import StateChanged

PATHS = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}


@pytest.fixture
def _switching_often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


class Service:
    """Fails at a seeded rate, and all the time while it is out. Counts who is inside."""

    def __init__(self, seed: int, failing: float = 0.0) -> None:
        self._random, self._failing, self.out = random.Random(seed), failing, False
        self.asked, self._lock = Counter(), threading.Lock()

    def _asked(self, operation: str) -> float:
        with self._lock:
            self.asked[operation] += 1
            return self._random.random()

    def _answer(self, operation: str, draw: float) -> str:
        if self.out or draw < self._failing:
            raise ConnectionResetError(operation)
        if draw > 0.98:
            raise KeyError(operation)  # the caller's own mistake: not retried, not counted by the breaker
        return operation

    def ask(self, operation: str) -> str:
        """For threads."""
        draw = self._asked(operation)
        if 0.1 < draw < 0.12:
            time.sleep(0.001)
        return self._answer(operation, draw)

    async def ask_async(self, operation: str) -> str:
        """For tasks."""
        draw = self._asked(operation)
        await asyncio.sleep(draw * 0.004)
        return self._answer(operation, draw)

    def stream(self, operation: str) -> Iterator[str]:
        """For threads that iterate."""
        yield self._answer(operation, self._asked(operation))
        yield "rest"


class Seen:
    """How calls ended, as their callers saw it."""

    def __init__(self) -> None:
        self._counts, self._lock = Counter(), threading.Lock()

    def note(self, operation: str, end: str) -> None:
        """One call has ended."""
        with self._lock:
            self._counts[operation, end] += 1

    def of(self, operation: str) -> dict[str, int]:
        """The counts of one operation, in the metrics' names."""
        ends = ("successful_calls", "failed_calls", "rejected_calls", "cancelled_calls")
        counts = {end: self._counts[operation, end] for end in ends}
        return {"total_calls": sum(counts.values()), **counts}


def ended(error: BaseException | None) -> str:
    """The metric under which a call belongs that ended so."""
    if error is None:
        return "successful_calls"
    if isinstance(error, CircuitBreakerOpenError):
        return "rejected_calls"
    return "cancelled_calls" if isinstance(error, asyncio.CancelledError) else "failed_calls"


def plain_worker(call: Callable[[str], object], operations: list[str], seen: Seen, until: float) -> None:
    """A thread that calls one operation after the other."""
    for operation in itertools.cycle(operations):
        if time.monotonic() > until:
            return
        error = None
        try:
            call(operation)
        except Exception as raised:
            error = raised
        seen.note(operation, ended(error))


def loop_worker(call: Callable[[str], object], operations: list[str], seen: Seen, until: float, seed: int) -> None:
    """A thread with an event loop, in which 100 tasks call; some of them are cancelled."""
    draw = random.Random(seed).random

    async def one(operation: str) -> None:
        error = None
        try:
            await call(operation)
        except BaseException as raised:
            error = raised
        seen.note(operation, ended(error))

    async def caller(operations: Iterator[str]) -> None:
        while time.monotonic() < until:
            task = asyncio.create_task(one(next(operations)))
            await asyncio.sleep(0)  # it has begun
            if draw() < 0.1:
                await asyncio.sleep(draw() * 0.01)
                task.cancel()
            await asyncio.wait([task])

    async def all_callers() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(caller(itertools.cycle(operations)))

    asyncio.run(all_callers())


def test_circuit_breaker_tenacity_coordination_under_real_load(kit: AIServiceResilience) -> None:
    """12 threads and 3 loops with 100 tasks each, four operations, two outages, cancellations: every count is exact.

    What callers saw is what the metrics say; attempts are calls of the callee; breakers move along the only paths there are.
    """
    operations = ["a", "b", "c", "d"]
    service, seen, moves = Service(seed=7, failing=0.05), Seen(), []
    config = ResilienceConfig(
        retry=RetryConfig(max_attempts=3, base_delay=0.002, max_delay=0.01),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=5, recovery_timeout=0.05),
    )
    kit.add_listener(moves.append, StateChanged)
    plain = {name: kit.with_resilience(name, custom_config=config)(service.ask) for name in operations}
    tasks = {name: kit.with_resilience(name, custom_config=config)(service.ask_async) for name in operations}
    streams = {name: kit.with_resilience(name, custom_config=config)(service.stream) for name in operations}
    calls: list[Callable[[str], object]] = [
        lambda name: plain[name](name),
        lambda name: kit.call_with_resilience(service.ask, name, name, custom_config=config),
        lambda name: list(streams[name](name)),
    ]
    until = time.monotonic() + 3.0
    with ThreadPoolExecutor(16) as pool:
        work = [
            pool.submit(plain_worker, calls[n % 3], operations[n % 4 :] + operations[: n % 4], seen, until) for n in range(12)
        ]
        work += [pool.submit(loop_worker, lambda name: tasks[name](name), operations, seen, until, seed) for seed in range(2)]
        execute = lambda name: kit.execute_with_resilience(service.ask_async, name, name, custom_config=config)  # noqa: E731
        work.append(pool.submit(loop_worker, execute, operations, seen, until, 2))
        for _ in range(2):
            time.sleep(0.6)
            service.out = True
            time.sleep(0.4)
            service.out = False
        for each in work:
            each.result()

    for name in operations:
        counted, expected = kit.get_metrics(name), seen.of(name)
        assert expected == {key: counted[key] for key in expected}
        assert service.asked[name] == counted["total_calls"] - counted["rejected_calls"] + counted["retry_attempts"]
        assert min(expected.values()) > 0  # each end was met
        ordered = sorted(
            (move for move in moves if move.operation == name), key=lambda move: move.sequence
        )  # threads have no order
        mine = [(move.old, move.new) for move in ordered]
        assert set(mine) <= PATHS
        assert [new for _, new in mine[:-1]] == [old for old, _ in mine[1:]]
        assert {("closed", "open"), ("half_open", "closed")} <= set(mine)
        breaker = kit.get_circuit_breaker(name)
        assert (0, counted["successful_calls"]) == (breaker.trials_in_flight, breaker.metrics["success_count"])
        assert sum(move.new == "open" for move in moves if move.operation == name) == breaker.times_opened
    assert sum(service.asked.values()) > 2000  # it was a load


class Gate:
    """A callee in which callers stay until they are let go, with or without an error."""

    def __init__(self) -> None:
        self.entered, self.failing = 0, False
        self._let_go, self._lock = threading.Event(), threading.Lock()

    def open(self, *, failing: bool) -> None:
        """Let everybody go, now and later."""
        self.failing = failing
        self._let_go.set()

    def close(self) -> None:
        """Callers stay from now on."""
        self.entered = 0
        self._let_go.clear()

    def pass_through(self) -> int:
        """The number of this caller."""
        with self._lock:
            self.entered += 1
            number = self.entered
        assert self._let_go.wait(20)
        if self.failing:
            raise ConnectionError
        return number


def crowd(call: Callable[[], object], size: int) -> list[threading.Thread]:
    """Threads that start their calls at the same moment."""
    barrier = threading.Barrier(size)

    def work() -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=work) for _ in range(size)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.usefixtures("_switching_often")
def test_128_threads_meet_one_trial_at_a_time(kit: AIServiceResilience) -> None:
    """Rounds of 128 threads at a half-open circuit: one is let in, 127 are refused at once (invariants 1, 2, 9)."""
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=0.5))
    gate, moves, ends, lock = Gate(), [], Counter(), threading.Lock()
    kit.add_listener(moves.append, StateChanged)
    call = kit.with_resilience("crowded", custom_config=config)(gate.pass_through)
    breaker = kit.get_circuit_breaker("crowded")

    def tried() -> None:
        error = None
        try:
            call()
        except Exception as raised:
            error = raised
        with lock:
            ends[ended(error)] += 1

    def round_of(failing: bool, *, let_in: int) -> CircuitState:
        ends.clear()
        gate.close()
        threads = crowd(tried, 128)
        until = time.monotonic() + 20
        while gate.entered < let_in or sum(ends.values()) < 128 - let_in:
            assert time.monotonic() < until, (gate.entered, ends)
            time.sleep(0.001)
        gate.open(failing=failing)
        for thread in threads:
            thread.join()
        assert {"rejected_calls": 128 - let_in, "failed_calls" if failing else "successful_calls": let_in} == +ends | (
            {"rejected_calls": 0} if let_in == 128 else {}
        )
        assert let_in == gate.entered
        return breaker.state

    assert CircuitState.OPEN is round_of(failing=True, let_in=128)  # 128 failures at the same moment: opened once
    assert [("closed", "open")] == [(move.old, move.new) for move in moves]
    for _ in range(5):
        time.sleep(0.51)
        assert CircuitState.OPEN is round_of(failing=True, let_in=1)
    time.sleep(0.51)
    assert CircuitState.CLOSED is round_of(failing=False, let_in=1)
    assert CircuitState.CLOSED is round_of(failing=False, let_in=128)
    assert ["open", *["half_open", "open"] * 5, "half_open", "closed"] == [move.new for move in moves]
    counted = kit.get_metrics("crowded")
    assert (8 * 128, 129, 133, 6 * 127) == tuple(
        counted[name] for name in ("total_calls", "successful_calls", "failed_calls", "rejected_calls")
    )


@pytest.mark.usefixtures("_switching_often")
def test_threads_and_tasks_share_one_trial(kit: AIServiceResilience) -> None:
    """64 threads and 1000 tasks of two loops at one half-open circuit: one is let in (invariants 1, 21)."""
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=0.05))
    inside = ends = 0
    lock, let_go = threading.Lock(), threading.Event()

    def enter() -> None:
        nonlocal inside
        with lock:
            inside += 1

    def leave() -> None:
        nonlocal ends
        with lock:
            ends += 1

    @kit.with_resilience("shared", custom_config=config)
    def plain() -> None:
        enter()
        assert let_go.wait(20)

    @kit.with_resilience("shared", custom_config=config)
    async def task() -> None:
        enter()
        while not let_go.is_set():
            await asyncio.sleep(0.001)

    def thread() -> None:
        try:
            plain()
        except CircuitBreakerOpenError:
            leave()

    async def refusable() -> None:
        try:
            await task()
        except CircuitBreakerOpenError:
            leave()

    async def tasks() -> None:
        await asyncio.gather(*(refusable() for _ in range(500)))

    breaker = kit.get_circuit_breaker("shared")
    breaker.state = "open"
    time.sleep(0.06)
    loops = [threading.Thread(target=asyncio.run, args=[tasks()]) for _ in range(2)]
    for loop in loops:
        loop.start()
    threads = crowd(thread, 64)
    until = time.monotonic() + 20
    while ends < 1063 or not inside:
        assert time.monotonic() < until, (ends, inside)
        time.sleep(0.001)
    assert (CircuitState.HALF_OPEN, 1) == (breaker.state, breaker.trials_in_flight)
    let_go.set()
    for each in [*threads, *loops]:
        each.join()
    assert (1, 1063, CircuitState.CLOSED) == (inside, ends, breaker.state)


@pytest.mark.usefixtures("_switching_often")
def test_call_sites_and_live_changes_at_once(kit: AIServiceResilience) -> None:
    """Threads that decorate, call, change strategies and add listeners at the same time meet no error and end as last told."""
    until, errors = time.monotonic() + 1.5, []

    def repeat(work: Callable[[int], object]) -> None:
        for number in itertools.count():
            if time.monotonic() > until:
                return
            try:
                work(number)
            except Exception as error:
                errors.append(error)
                return

    kept = [kit.with_resilience(f"op{number % 20}")(len) for number in range(300)]
    work = [
        lambda number: kit.with_resilience(f"op{number % 20}")(len)("x"),
        lambda number: kit.call_with_resilience(len, f"op{number % 20}", "x", strategy=("critical", "aggressive")[number % 2]),
        lambda number: kit.set_strategy(f"op{number % 20}", ("critical", "aggressive")[number % 2]),
        lambda number: kit.add_listener(print)(),
        lambda number: kit.get_metrics(),
        lambda number: kit.register_operation(f"new{number}", "balanced") if number < 200 else None,
    ]
    threads = [threading.Thread(target=repeat, args=[each]) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == errors
    assert [1] * 300 == [each("x") for each in kept]
