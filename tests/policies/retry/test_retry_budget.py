"""The bucket of tokens that retries take from."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import ConfigurationError
from resilience_kit.outcome import FailureKind
from resilience_kit.policies.retry_budget import RetryBudget, RetryBudgetConfig


def test_costs():
    """A retry of what the service has answered cheaply is cheaper."""
    budget = RetryBudget(RetryBudgetConfig())
    assert (14, 14, 5, 5) == tuple(
        budget.cost_of(kind)
        for kind in (FailureKind.SERVER_ERROR, FailureKind.TIMEOUT, FailureKind.RATE_LIMIT, FailureKind.OVERLOADED)
    )


def test_a_retry_at_the_time_that_the_service_named_costs_little_or_nothing():
    """Nothing after a rate limit, also where a pacing decides the time; one token after an overload, which may be an outage."""
    budget = RetryBudget(RetryBudgetConfig())
    costs = {
        kind: (budget.cost_of(kind, retry_after=2.0), budget.cost_of(kind, retry_after=0.0), budget.cost_of(kind, is_paced=True))
        for kind in (FailureKind.RATE_LIMIT, FailureKind.OVERLOADED, FailureKind.SERVER_ERROR)
    }
    assert {FailureKind.RATE_LIMIT: (0, 5, 0), FailureKind.OVERLOADED: (1, 5, 5), FailureKind.SERVER_ERROR: (14, 14, 14)} == costs


def test_taking_and_giving_back():
    """All or nothing, never above the capacity."""
    budget = RetryBudget(RetryBudgetConfig(capacity=20))
    assert (20, False) == (budget.available_tokens, budget.below_capacity)
    assert budget.withdraw(14)
    assert (6, True) == (budget.available_tokens, budget.below_capacity)
    assert not budget.withdraw(14)
    assert 6 == budget.available_tokens
    budget.refund()
    assert 7 == budget.available_tokens
    budget.refund(14)
    assert (20, False) == (budget.available_tokens, budget.below_capacity)


def test_a_retry_that_costs_nothing_leaves_nothing_short():
    """Zero means zero."""
    budget = RetryBudget(RetryBudgetConfig(transient_cost=0))
    assert budget.withdraw(0)
    assert not budget.below_capacity


@given(st.lists(st.one_of(st.just(None), st.integers(0, 30)), max_size=200), st.integers(1, 100))
def test_it_stays_between_nothing_and_its_capacity(steps, capacity):
    """After any steps, and no more is granted than was there and came back (invariant 31)."""
    budget = RetryBudget(RetryBudgetConfig(capacity=capacity))
    granted = returned = 0
    for step in steps:
        if step is None:
            budget.refund()
            returned += 1
        elif budget.withdraw(step):
            granted += step
        assert 0 <= budget.available_tokens <= capacity
        assert budget.below_capacity == (budget.available_tokens < capacity)
    assert granted <= capacity + returned


def test_threads_take_no_more_than_there_is():
    """Exactly as many retries as the bucket holds (invariant 31)."""
    budget = RetryBudget(RetryBudgetConfig(capacity=1000))
    granted = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=lambda: granted.extend(budget.withdraw(1) for _ in range(200))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert (1000, 0) == (sum(granted), budget.available_tokens)


@pytest.mark.parametrize("field", ["capacity", "transient_cost", "throttling_cost", "success_refund"])
@pytest.mark.parametrize("value", [-1, 1.5, True, None])
def test_wrong_options_are_refused(field, value):
    """Whole numbers only (invariant 19)."""
    with pytest.raises(ConfigurationError, match=f"RetryBudgetConfig.{field}: must be a whole number"):
        RetryBudgetConfig(**{field: value})


def test_its_lock_is_free_after_a_fork():
    """Whoever held it has not come along (invariant 22)."""
    budget = RetryBudget(RetryBudgetConfig())
    holder = threading.Thread(target=budget._lock.acquire)
    holder.start()
    holder.join()
    budget.reset_after_fork()
    assert budget.withdraw(1)
