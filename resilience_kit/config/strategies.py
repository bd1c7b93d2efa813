"""The four strategies: named sets of numbers for retries, deadline and breaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from resilience_kit._checks import did_you_mean, misplaced_hint, shown_value
from resilience_kit.errors import ConfigurationError, Violation


class ResilienceStrategy(StrEnum):
    """How patient an operation is. Names in any case work, too: `ResilienceStrategy("CRITICAL")`."""

    AGGRESSIVE = "aggressive"
    BALANCED = "balanced"
    CONSERVATIVE = "conservative"
    CRITICAL = "critical"

    @classmethod
    def _missing_(cls, value: object) -> ResilienceStrategy | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) and value.isascii() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyNumbers:
    """The numbers that a strategy decides. Times are in seconds; `max_attempts` includes the first attempt.

    The wait before attempt n+1 is drawn below `base_delay * backoff_factor**n`, and never above `max_delay`. Two attempts that
    time out after `attempt_timeout`, with the longest wait between them, end before `deadline`.
    """

    max_attempts: int
    base_delay: float
    max_delay: float
    deadline: float
    attempt_timeout: float
    failure_threshold: int
    recovery_timeout: float
    backoff_factor: float = 2.0


STRATEGY_NUMBERS: Mapping[ResilienceStrategy, StrategyNumbers] = MappingProxyType(
    {
        ResilienceStrategy.AGGRESSIVE: StrategyNumbers(
            max_attempts=2,
            base_delay=1.0,
            max_delay=5.0,
            deadline=10.0,
            attempt_timeout=4.0,
            failure_threshold=3,
            recovery_timeout=30.0,
        ),
        ResilienceStrategy.BALANCED: StrategyNumbers(
            max_attempts=3,
            base_delay=2.0,
            max_delay=10.0,
            deadline=30.0,
            attempt_timeout=12.0,
            failure_threshold=5,
            recovery_timeout=60.0,
        ),
        ResilienceStrategy.CONSERVATIVE: StrategyNumbers(
            max_attempts=5,
            base_delay=4.0,
            max_delay=30.0,
            deadline=120.0,
            attempt_timeout=45.0,
            failure_threshold=8,
            recovery_timeout=120.0,
        ),
        ResilienceStrategy.CRITICAL: StrategyNumbers(
            max_attempts=7,
            base_delay=3.0,
            max_delay=60.0,
            deadline=300.0,
            attempt_timeout=90.0,
            failure_threshold=10,
            recovery_timeout=300.0,
        ),
    }
)


class StrategyTimeout(float):
    """An attempt timeout from a strategy, which fits only the strategy's deadline: an explicit deadline switches it off.

    An explicit attempt timeout is a plain number and is kept.
    """

    __slots__ = ()


def strategy_named(value: object, path: str = "strategy") -> ResilienceStrategy:
    """Return the strategy of that name; raise ConfigurationError about `path`, with the nearest name, if there is none."""
    try:
        return ResilienceStrategy(value)  # type: ignore[arg-type]  # other types are rejected here, too
    except ValueError:
        meant = misplaced_hint(value) or did_you_mean(value, [strategy.value for strategy in ResilienceStrategy])
        rule = "must be the name of a strategy" + meant
    raise ConfigurationError([Violation(path, rule, shown_value(value))])
