"""The options of a circuit breaker and their checks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class
from resilience_kit.errors import ConfigurationError, is_rejection_class
from resilience_kit.policies.breaker.states import CircuitState
from resilience_kit.policies.breaker.window import FailureRateWindow

Expected = type[BaseException] | Iterable[type[BaseException]] | Callable[[type[BaseException], BaseException], bool]

#: States that users may set; BUDGET_LIMITED belongs to the cost breaker.
_SETTABLE = (CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN)


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """Define when a circuit opens, for how long, and what closes it again.

    `failure_threshold`: counted failures in a row that open it; a `window` replaces this rule. `recovery_timeout`: seconds
    until the first trial. `max_recovery_timeout`: when given, the open time doubles at each re-opening up to this many
    seconds, with a jitter of 10 % either way. `half_open_max_calls`: concurrent trials. `success_threshold`: successful trials
    that close it. `trial_lease`: seconds after which a trial that has not ended frees its slot. `expected_exception`: what
    counts as a failure (a class, classes, or a predicate of type and instance); None: the classifier decides.
    `excluded_exceptions`: classes that never count and are neutral for the circuit. `window`: a `FailureRateWindow`, to open
    the circuit by the share of failed or slow calls.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    expected_exception: Expected | None = None
    excluded_exceptions: tuple[type[BaseException], ...] = ()
    half_open_max_calls: int = 1
    success_threshold: int = 1
    trial_lease: float = 60.0
    window: FailureRateWindow | None = None
    max_recovery_timeout: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "expected_exception", as_tuple(self.expected_exception))
        checks = Checks("CircuitBreakerConfig")
        validate_options(checks, self)
        checks.raise_if_any()


def as_tuple(expected: Expected | None) -> Expected | None:
    """Return `expected_exception` with any iterable as a tuple, since an iterator could be read only once."""
    text = isinstance(expected, (str, bytes))  # rejected by the checks
    return tuple(expected) if isinstance(expected, Iterable) and not text else expected


def validate_options(checks: Checks, options: CircuitBreakerConfig) -> None:
    """Add every field of `options` that breaks a rule to `checks`."""
    first, longest = options.recovery_timeout, options.max_recovery_timeout
    checks.integer("failure_threshold", options.failure_threshold, 1)
    good = checks.seconds("recovery_timeout", first)
    checks.integer("half_open_max_calls", options.half_open_max_calls, 1)
    checks.integer("success_threshold", options.success_threshold, 1)
    checks.seconds("trial_lease", options.trial_lease)
    checks.instance("window", options.window, FailureRateWindow, type(None))
    checks.exception_types("excluded_exceptions", options.excluded_exceptions)
    _check_expected(checks, options.expected_exception)
    if checks.optional_seconds("max_recovery_timeout", longest) and good and longest is not None and longest < first:
        checks.add("max_recovery_timeout", f"must be at least recovery_timeout {first}", longest)


def _check_expected(checks: Checks, expected: object) -> None:
    if expected is None or _is_exception(expected) or (callable(expected) and not isinstance(expected, type)):
        return
    if isinstance(expected, tuple) and expected and all(_is_exception(entry) for entry in expected):
        return
    checks.add(
        "expected_exception", "must be an exception class, some of them, or a predicate (type, instance) -> bool", expected
    )


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def make_unchecked(**fields: object) -> CircuitBreakerConfig:
    """Build options without checking them, so that `check_arguments` can report all violations in one error."""
    options = object.__new__(CircuitBreakerConfig)
    for field, value in fields.items():
        object.__setattr__(options, field, value)
    return options


def check_arguments(options: CircuitBreakerConfig, name: object, fallback: object, clock: object, second_timeout: object) -> None:
    """Validate the options and the other arguments of a breaker. Raises `ConfigurationError` with every violation."""
    checks = Checks("CircuitBreaker")
    validate_options(checks, options)
    checks.instance("name", name, str, type(None))
    if fallback is not None and not callable(fallback):
        checks.add("fallback_function", "must be callable", fallback)
    if second_timeout is not None:
        checks.add("recovery_time", "is another name of recovery_timeout: give one of them", second_timeout)
    if clock is not None and not callable(clock):
        checks.add("clock", "must be a callable that gives monotonic seconds", clock)
    checks.raise_if_any()


def names_rejection(expected: Expected | None) -> bool:
    """Return whether the expected exceptions name a class of rejections. A predicate names none."""
    classes = expected if isinstance(expected, tuple | list) else (expected,)
    return any(isinstance(each, type) and is_rejection_class(each) for each in classes)


def validate_state(value: object) -> CircuitState:
    """Return the state that `value` names. Raises `ConfigurationError` for one that users may not set."""
    with contextlib.suppress(ValueError):
        state = CircuitState(value)  # type: ignore[arg-type]  # any object
        if state in _SETTABLE:
            return state
    names = ", ".join(repr(state.value) for state in _SETTABLE)
    raise ConfigurationError([("CircuitBreaker.state", f"must be one of {names}", value)])
