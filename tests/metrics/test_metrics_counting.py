"""No call is lost and none is counted twice, also under threads, resets and forks."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from resilience_kit.clock import SYSTEM_CLOCK
from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.errors import CircuitBreakerOpenError, ServerError
from resilience_kit.metrics import OperationMetrics
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.testing import FakeClock

THREADS, CALLS = 16, 1500
ENDS = ("successful_calls", "failed_calls", "rejected_calls", "cancelled_calls")
CONFIG = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=10**9))


@pytest.fixture
def busy_switching() -> Iterator[None]:
    """Threads take turns after each microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work) -> None:
    """Run `work(number)` in all threads at once."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("deadline", [None, 60.0])
@pytest.mark.usefixtures("busy_switching")
def test_counters_are_exact_under_threads(deadline):
    """16 of them, on both fast paths."""
    kit = AIServiceResilience(ResilienceSettings())

    def work(number: int) -> int:
        if number % 4 == 3:
            raise ServerError
        return number

    protected = kit.with_resilience("op", custom_config=CONFIG, deadline=deadline)(work)

    def call(number: int) -> None:
        for turn in range(CALLS):
            with contextlib.suppress(ServerError):
                protected(number + turn)

    in_threads(call)
    numbers = kit.get_metrics("op")
    every = THREADS * CALLS
    assert (every, every * 3 // 4, every // 4) == tuple(numbers[name] for name in ("total_calls", *ENDS[:2]))


@pytest.mark.usefixtures("busy_switching")
def test_refusals_are_exact_under_threads():
    """At the gate, where nothing is locked."""
    kit = AIServiceResilience(ResilienceSettings())
    protected = kit.with_resilience("op", custom_config=CONFIG)(lambda: None)
    kit.get_circuit_breaker("op").force_open("test")

    def call(_number: int) -> None:
        for _ in range(CALLS):
            with contextlib.suppress(CircuitBreakerOpenError):
                protected()

    in_threads(call)
    assert THREADS * CALLS == kit.get_metrics("op")["rejected_calls"] == kit.get_circuit_breaker("op").metrics["rejected_count"]


@pytest.mark.slow
@pytest.mark.usefixtures("busy_switching")
def test_no_snapshot_is_ever_negative_or_off_its_sum():
    """While calls end and others reset; and nothing is lost of what no reset took."""
    kit = AIServiceResilience(ResilienceSettings())
    protected = kit.with_resilience("op", custom_config=CONFIG)(lambda fails: fail() if fails else None)
    wrong: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            numbers = kit.get_metrics("op")
            if min(numbers[name] for name in ENDS) < 0 or numbers["total_calls"] != sum(numbers[name] for name in ENDS):
                wrong.append(numbers)

    def reset() -> None:
        while not done.is_set():
            kit.reset_metrics()

    def call(number: int) -> None:
        for turn in range(200):
            with contextlib.suppress(ServerError):
                protected((number + turn) % 2)

    helpers = [threading.Thread(target=helper) for helper in (watch, watch, reset)]
    for helper in helpers:
        helper.start()
    in_threads(call)
    done.set()
    for helper in helpers:
        helper.join()
    assert [] == wrong
    totals = kit.get_circuit_breaker("op").metrics
    assert (THREADS * 100, THREADS * 100) == (totals["success_count"], totals["failure_count"])


def fail() -> None:
    """Always."""
    raise ServerError


def test_stamps_say_when(monkeypatch):
    """By the wall clock, worked out when asked; the clock's zero is a moment like others."""
    clock = FakeClock()
    metrics = OperationMetrics(clock)
    assert (None, None) == (metrics.snapshot()["last_success"], metrics.snapshot()["last_failure"])
    metrics.last_success = clock.nanoseconds()
    assert isinstance(metrics.snapshot()["last_success"], str)
    metrics.reset()
    assert None is metrics.snapshot()["last_success"]


def test_locks_are_free_after_a_fork():
    """Whoever held them has not come along (invariant 22)."""
    metrics = OperationMetrics(SYSTEM_CLOCK)
    metrics.succeeded(1000)
    holder = threading.Thread(target=metrics.latency._lock.acquire)
    holder.start()
    holder.join()
    metrics.reset_after_fork()
    metrics.latency._lock.acquire()
    assert 1 == metrics.snapshot()["total_calls"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_goes_on_counting():
    """With the parent's numbers so far (invariant 22)."""
    kit = AIServiceResilience(ResilienceSettings())
    protected = kit.with_resilience("op", custom_config=CONFIG)(lambda: None)
    protected()
    child = os.fork()
    if not child:  # pragma: no cover - in the child
        protected()
        os._exit(0 if kit.get_metrics("op")["total_calls"] == 2 else 1)
    assert 0 == os.waitpid(child, 0)[1]
    assert 1 == kit.get_metrics("op")["total_calls"]
