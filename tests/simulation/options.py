"""Random options for the operations of a simulated world, drawn so that each of the drivers' paths is met often."""

from __future__ import annotations

from typing import Any, Literal

from resilience_kit.config import ResilienceConfig
from resilience_kit.errors import RateLimitError, ServerError, TransientAIError
from resilience_kit.guards import Guard
from resilience_kit.policies.breaker import CircuitBreakerConfig, FailureRateWindow
from resilience_kit.policies.retry import Hook, RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from tests.simulation.service import Dice

#: Which of the drivers' paths the options lead to.
Path = Literal["direct", "timed", "general", "unprotected", "unprotected and light"]
PATHS: tuple[Path, ...] = (
    "direct", "direct", "timed", "timed", "general", "general", "general", "unprotected", "unprotected and light",
)  # fmt: skip
#: Those with a breaker.
PROTECTED = PATHS[:-2]


def breaker_options(dice: Dice) -> CircuitBreakerConfig:
    """When a circuit opens and closes."""
    recovery = dice.pick((0.25, 1.0, 4.0))
    return CircuitBreakerConfig(
        failure_threshold=dice.pick((1, 2, 2, 3, 5)),
        recovery_timeout=recovery,
        max_recovery_timeout=dice.pick((None, None, recovery, recovery * 8.0)),
        half_open_max_calls=dice.pick((1, 1, 2, 3)),
        success_threshold=dice.pick((1, 1, 2, 3)),
        trial_lease=dice.pick((0.5, 2.0, 16.0)),
        window=_window(dice) if dice.chance(0.2) else None,
        expected_exception=dice.pick((ServerError, (ServerError, ValueError))) if dice.chance(0.1) else None,
        excluded_exceptions=(ServerError,) if dice.chance(0.05) else (),
    )


def _window(dice: Dice) -> FailureRateWindow:
    size = dice.pick((2, 3, 5))
    by_count = dice.chance(0.5)
    return FailureRateWindow(
        size=size if by_count else dice.pick((1.0, 4.0)),
        kind="count" if by_count else "time",
        failure_rate=dice.pick((0.3, 0.5, 1.0)),
        minimum_calls=dice.pick((None, 2)) if by_count else dice.pick((1, 2, 3)),
        slow_call_duration=dice.pick((None, 0.3)),
        slow_call_rate=dice.pick((0.5, 1.0)),
    )


def _retry(dice: Dice, hook: Hook) -> RetryConfig | None:
    if dice.chance(0.08):
        return None
    hooks = {name: hook for name in ("before_sleep", "after") if dice.chance(0.1)}
    return RetryConfig(
        max_attempts=dice.pick((1, 2, 3, 3, 5)),
        base_delay=dice.pick((0.0, 0.125, 0.5, 1.0)),
        max_delay=dice.pick((0.0, 0.5, 2.0, 8.0)),
        backoff_factor=dice.pick((1.0, 2.0, 3.0)),
        jitter=dice.pick((None, None, "full", "equal", "proportional")),
        jitter_factor=dice.pick((0.0, 0.2, 1.0)),
        retry_exceptions=dice.pick(((Exception,), (ServerError,), (TransientAIError,))) if dice.chance(0.15) else None,
        exclude_exceptions=(RateLimitError,) if dice.chance(0.1) else (),
        max_retry_after=dice.pick((0.0, 1.0, 60.0)),
        **hooks,
    )


def _budget(dice: Dice) -> RetryBudgetConfig | None:
    if dice.chance(0.6):
        return None
    return RetryBudgetConfig(
        capacity=dice.pick((14, 30, 500)),
        transient_cost=dice.pick((0, 5, 14)),
        throttling_cost=dice.pick((0, 1, 5)),
        success_refund=dice.pick((0, 1, 5)),
    )


def config(dice: Dice, path: Path, breaker: CircuitBreakerConfig, guards: tuple[Guard, ...], hook: Hook) -> ResilienceConfig:
    """The options of one call site. `hook` looks on at some of its retries."""
    more: dict[str, Any] = {}
    if path in {"timed", "general"}:
        more["deadline"] = dice.pick((None, 0.5, 2.0, 8.0)) if path == "general" else dice.pick((0.375, 1.0, 4.0, 16.0))
    if path == "unprotected and light":
        more["deadline"] = dice.pick((None, 1.0, 4.0))
    if path in {"general", "unprotected"}:
        more |= _more(dice, more.get("deadline"), guards)
    return ResilienceConfig(
        retry=_retry(dice, hook),
        circuit_breaker=breaker if path in PROTECTED else None,
        retry_budget=_budget(dice),
        idempotent=dice.chance(0.85),
        **more,
    )


def _more(dice: Dice, deadline: float | None, guards: tuple[Guard, ...]) -> dict[str, Any]:
    timeout = dice.pick((None, 0.5, 1.25, 3.0))
    return {
        "attempt_timeout": timeout if timeout is None or deadline is None else min(timeout, deadline),
        "guards": guards if dice.chance(0.5) else (),
        "idempotency_key": dice.chance(0.2),
        "circuit_open": dice.pick(("reject", "wait")),
        "first_item_timeout": dice.pick((None, None, 0.75)),
        "idle_timeout": dice.pick((None, 0.75)),
    }
