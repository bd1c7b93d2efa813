"""The rules that options are held to, so that every wrong value of a constructor is reported at once, in the same words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Final

from resilience_kit.errors import REDACTED, ConfigurationError, Violation


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """`; did you mean 'balanced'?` when a known name is close to `value`, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(str(value).lower(), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names) or 'none yet'}"


#: Where an object of the kit belongs that was given for something else.
_PARAMETER_FOR: Final = {
    "ResilienceConfig": "custom_config= of an operation, or config= of a transport",
    "ResilienceStrategy": "strategy= of an operation",
    "ResilienceSettings": "AIServiceResilience(settings)",
    "RetryConfig": "ResilienceConfig(retry=...), or retry_config= of a JSON client",
    "RetryBudgetConfig": "ResilienceConfig(retry_budget=...)",
    "CircuitBreakerConfig": "ResilienceConfig(circuit_breaker=...); CircuitBreaker.from_config makes a breaker of it",
    "CircuitBreaker": "circuit_breaker= of a JSON client; elsewhere give its options: CircuitBreakerConfig(...)",
    "FailureRateWindow": "CircuitBreakerConfig(window=...)",
    "HedgeConfig": "hedge= of an operation or a ResilienceConfig",
    "RateLimitConfig": "rate_limit= of an operation or a ResilienceConfig",
    "BulkheadConfig": "bulkhead= of an operation or a ResilienceConfig",
    "AdaptiveLimit": "BulkheadConfig(adaptive=...)",
}
#: What a number in place of an object stands for.
_CONFIG_FOR_NUMBER: Final = {
    "retry": "RetryConfig(max_attempts={})",
    "retry_config": "RetryConfig(max_attempts={})",
    "circuit_breaker": "CircuitBreakerConfig(failure_threshold={})",
    "rate_limit": "RateLimitConfig(rate={})",
    "bulkhead": "BulkheadConfig(max_concurrent={})",
    "hedge": "HedgeConfig(delay={})",
}


def misplaced_hint(value: object) -> str:
    """Return where an object of the kit belongs, as the end of a sentence that refuses it; empty for anything else."""
    kind = value if isinstance(value, type) else type(value)
    home = _PARAMETER_FOR.get(kind.__name__) if kind.__module__.startswith("resilience_kit.") else None
    if home is None:
        return ""
    return f"; this is the class {kind.__name__} itself: call it" if kind is value else f"; a {kind.__name__} belongs in {home}"


def shown_value(value: object) -> object:
    """Return what a message shows of a refused value: nothing of an object that `misplaced_hint` names."""
    return REDACTED if misplaced_hint(value) else value


def _remedy_for(field: str, rule: str, got: object) -> str:
    """Suggest what a value of another type was meant for, as the end of a sentence."""
    is_number = isinstance(got, int | float) and not isinstance(got, bool)
    example = _CONFIG_FOR_NUMBER.get(field, "") if is_number else ""
    return f"; write {example.format(got)}" if example and example.partition("(")[0] in rule else misplaced_hint(got)


class Checks:
    """Collects violations of one owner's fields; `done()` raises them all as one `ConfigurationError`."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._found: list[Violation] = []

    def add(self, field: str, rule: str, got: object) -> None:
        """Note a violation."""
        self._found.append(Violation(f"{self._owner}.{field}", rule + _remedy_for(field, rule, got), shown_value(got)))

    def integer(self, field: str, value: object, low: int) -> bool:
        """Require an int (not a bool) of at least `low`; return whether it is one."""
        good = isinstance(value, int) and not isinstance(value, bool) and value >= low
        if not good:
            self.add(field, f"must be a whole number of at least {low}", value)
        return good

    def seconds(self, field: str, value: object, *, zero: bool = False) -> bool:
        """Require a finite number (not a bool) above zero, or from zero on; return whether it is one."""
        wrong = not _is_finite(value) or value < 0 or (value == 0 and not zero)  # type: ignore[operator]  # a number by then
        if wrong:
            self.add(field, f"must be a finite number of seconds {'of at least' if zero else 'above'} 0", value)
        return not wrong

    def optional_seconds(self, field: str, value: object, *, zero: bool = False) -> bool:
        """None, or as `seconds`."""
        return value is None or self.seconds(field, value, zero=zero)

    def positive(self, field: str, value: object, also: str = "") -> None:
        """Require a finite number (not a bool) above zero."""
        if not _is_finite(value) or value <= 0:  # type: ignore[operator]  # a number by then
            self.add(field, f"must be a finite number above 0{also}", value)

    def number(self, field: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
        """Require a finite number (not a bool) from `low` to `high`."""
        if not _is_finite(value) or not low <= value <= high:  # type: ignore[operator]  # a number by then
            self.add(field, "must be a finite number" + _describe_range(low, high), value)

    def one_of(self, field: str, value: object, known: Iterable[str | None]) -> None:
        """One of some names (None among them where it is listed)."""
        allowed = tuple(known)
        if value not in allowed or isinstance(value, bool):
            close = difflib.get_close_matches(str(value).lower(), [name for name in allowed if name is not None], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            self.add(field, f"must be one of {', '.join(map(repr, allowed))}{hint}", value)

    def flag(self, field: str, value: object) -> None:
        """Require True or False, not a number or a text that looks like one."""
        if not isinstance(value, bool):
            self.add(field, "must be True or False", value)

    def optional_callable(self, field: str, value: object, takes: str) -> None:
        """None, or something callable."""
        if value is not None and not callable(value):
            self.add(field, f"must be callable with {takes}", value)

    def has_methods(self, field: str, value: object, *methods: str) -> None:
        """Require an object with these methods."""
        missing = [name for name in methods if not callable(getattr(value, name, None))]
        if missing:
            self.add(field, f"must have the methods {', '.join(methods)}", value)

    def exception_types(self, field: str, value: object) -> None:
        """Require a tuple of exception classes."""
        if not isinstance(value, tuple) or not all(
            isinstance(entry, type) and issubclass(entry, BaseException) for entry in value
        ):
            self.add(field, "must be a tuple of exception classes", value)

    def instance(self, field: str, value: object, *kinds: type) -> None:
        """Require an instance of one of these classes."""
        if not isinstance(value, kinds):
            self.add(field, "must be " + " or ".join(_describe_type(kind) for kind in kinds), value)

    def raise_if_any(self) -> None:
        """Raise what was found."""
        if self._found:
            raise ConfigurationError(self._found)


def _describe_type(kind: type) -> str:
    return "None" if kind is type(None) else f"a{'n' * (kind.__name__[0] in 'AEIOU')} {kind.__name__}"


def _describe_range(low: float, high: float) -> str:
    if high < math.inf:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low > -math.inf else ""


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False
