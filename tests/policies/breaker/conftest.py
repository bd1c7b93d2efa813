"""A breaker on a clock that stands still, and the ways to move both."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from circuitbreaker import CircuitBreakerMonitor

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState


class Boom(Exception):
    """The failure that these tests raise."""


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lab:
    """Makes breakers on one standing clock and puts them into states."""

    def __init__(self) -> None:
        self.clock = Clock()

    Boom = Boom

    def breaker(
        self, failure_threshold: int = 2, recovery_timeout: float = 10.0, name: str | None = "lab", **options: Any
    ) -> CircuitBreaker:
        """A breaker that opens at two failures for ten seconds."""
        return CircuitBreaker(failure_threshold, recovery_timeout, name=name, **{"clock": self.clock, **options})

    def fail(self, breaker: CircuitBreaker, times: int = 1) -> None:
        """Let calls fail."""
        for _ in range(times):
            with contextlib.suppress(Boom):
                breaker.call(self.boom)

    @staticmethod
    def boom(*_args: object, **_kwargs: object) -> None:
        """Fail."""
        raise Boom

    def open(self, **options: Any) -> CircuitBreaker:
        """A breaker that has just tripped."""
        breaker = self.breaker(**options)
        self.fail(breaker, breaker.failure_threshold)
        assert CircuitState.OPEN is breaker.state
        return breaker

    def half_open(self, **options: Any) -> CircuitBreaker:
        """A tripped breaker whose open time is over: the next call is a trial."""
        breaker = self.open(**options)
        self.clock.now += breaker.open_remaining
        assert CircuitState.HALF_OPEN is breaker.state
        return breaker

    @staticmethod
    def refuses(breaker: CircuitBreaker) -> bool:
        """Whether a call is refused; one that is let in gives its permit back at once."""
        try:
            token = breaker.acquire()
        except CircuitBreakerOpenError:
            return True
        breaker.release(token)
        return False

    @staticmethod
    def path(breaker: CircuitBreaker) -> list[str]:
        """The states that a breaker went to."""
        changes: Any = breaker.metrics["state_changes"]
        return [change["to"] for change in changes]


@pytest.fixture
def lab() -> Lab:
    """Breakers on a standing clock."""
    return Lab()


@pytest.fixture(autouse=True)
def empty_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's monitor without the breakers of other tests."""
    monkeypatch.setattr(CircuitBreakerMonitor, "circuit_breakers", {})


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that are switched as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
