"""Who is told that a half-open circuit's trial call has failed."""

from __future__ import annotations

from contextlib import suppress

import pytest

from resilience_kit import CircuitBreaker, CircuitState
from resilience_kit.context import trial_observer
from resilience_kit.errors import ServiceUnavailableError
from resilience_kit.testing import FakeClock


class Observer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[BaseException, float]] = []

    def trial_failed(self, error: BaseException, seconds: float) -> None:
        """Note it."""
        self.seen.append((error, seconds))


@pytest.mark.parametrize("state", [CircuitState.HALF_OPEN, CircuitState.CLOSED])
def test_an_observer_hears_of_a_failed_trial_and_of_no_other_failure(state: CircuitState) -> None:
    """With the very error, and how long the circuit stays open."""
    breaker, observer, error = CircuitBreaker(1, 40.0, clock=FakeClock().monotonic), Observer(), ServiceUnavailableError("down")
    breaker.set_state(state, "by hand")
    token = trial_observer.set(observer)
    with suppress(ServiceUnavailableError), breaker:
        raise error
    trial_observer.reset(token)
    assert [(error, 40.0)] * (state is CircuitState.HALF_OPEN) == observer.seen


def test_a_trial_may_fail_without_an_observer() -> None:
    """As outside of jobs."""
    breaker = CircuitBreaker(1, 40.0)
    breaker.set_state(CircuitState.HALF_OPEN, "by hand")
    with suppress(ServiceUnavailableError), breaker:
        raise ServiceUnavailableError("down")
    assert breaker.opened
