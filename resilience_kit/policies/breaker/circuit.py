"""The public circuit breaker: a subclass of the `circuitbreaker` library's, with the same rules for every way of calling it.

What differs from the library, and why, is pinned in `tests/test_upstream_contract.py`. In short: half-open admits a
limited number of trials; success, failure, ignored and cancelled are four outcomes; an outcome applies to the snapshot
that admitted its call (see `states.py`); zero is rejected instead of replaced by a default; nothing keeps the caller's
frames alive.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from inspect import getattr_static
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import circuitbreaker as library

from resilience_kit._callable_kinds import CallableKind, is_awaitable, kind_of
from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class
from resilience_kit.events import EventStream
from resilience_kit.policies.breaker import wrap
from resilience_kit.policies.breaker.core import BreakerCore
from resilience_kit.policies.breaker.guard import BreakerGuard
from resilience_kit.policies.breaker.monitor import register_weakly
from resilience_kit.policies.breaker.options import (
    CircuitBreakerConfig,
    Expected,
    as_tuple,
    check_arguments,
    make_unchecked,
    names_rejection,
)
from resilience_kit.policies.breaker.states import (
    CircuitState,
    HalfOpenSnapshot,
    Token,
    running_trials,
    running_trials_with,
)
from resilience_kit.policies.breaker.store import BreakerStore
from resilience_kit.policies.breaker.window import FailureRateWindow

P = ParamSpec("P")
R = TypeVar("R")

#: The `with` blocks entered in this context, innermost last: breaker, token, start.
_entered: ContextVar[tuple[tuple[BreakerCore, Token, float], ...]] = ContextVar("resilience_kit_breaker", default=())


@suggests_keywords_for_class
class CircuitBreaker(BreakerGuard, library.CircuitBreaker):  # type: ignore[misc]  # the library has no types
    """Stop calling a service that keeps failing, and detect when it has recovered.

    The first five arguments are the library's; left out, they come from the class attributes FAILURE_THRESHOLD (5),
    RECOVERY_TIMEOUT (30 s), EXPECTED_EXCEPTION (Exception) and FALLBACK_FUNCTION. The others are those of
    `CircuitBreakerConfig`; `clock` is a callable that returns monotonic seconds, `store` keeps the state over a restart,
    `events` is the stream for state changes, `random` returns floats from 0 to 1. Raises `ConfigurationError`, which lists
    every violation. Thread-safe; threads and event loops can share a breaker.
    """

    def __init__(  # noqa: PLR0913 - the library's five and the options
        self,
        failure_threshold: int | None = None,
        recovery_timeout: float | None = None,
        expected_exception: Expected | None = None,
        name: str | None = None,
        fallback_function: Callable[..., object] | None = None,
        *,
        recovery_time: float | None = None,
        excluded_exceptions: tuple[type[BaseException], ...] = (),
        half_open_max_calls: int = 1,
        success_threshold: int = 1,
        trial_lease: float = 60.0,
        window: FailureRateWindow | None = None,
        max_recovery_timeout: float | None = None,
        clock: Callable[[], float] | None = None,
        store: BreakerStore | None = None,
        events: EventStream | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        seconds = recovery_time if recovery_timeout is None else recovery_timeout
        options = make_unchecked(
            failure_threshold=type(self).FAILURE_THRESHOLD if failure_threshold is None else failure_threshold,
            recovery_timeout=type(self).RECOVERY_TIMEOUT if seconds is None else seconds,
            expected_exception=as_tuple(self._class_expected() if expected_exception is None else expected_exception),
            excluded_exceptions=excluded_exceptions,
            half_open_max_calls=half_open_max_calls,
            success_threshold=success_threshold,
            trial_lease=trial_lease,
            window=window,
            max_recovery_timeout=max_recovery_timeout,
        )
        both = recovery_timeout is not None and recovery_time is not None
        check_arguments(options, name, fallback_function, clock, recovery_time if both else None)
        super().__init__(options, name, clock=clock, store=store, events=events, random=random)
        self._set_expected(options.expected_exception)
        self._fallback_function = fallback_function or self.FALLBACK_FUNCTION
        if name is not None:
            self._register()

    @classmethod
    def from_config(
        cls,
        config: CircuitBreakerConfig,
        name: str,
        *,
        clock: Callable[[], float] | None = None,
        store: BreakerStore | None = None,
        events: EventStream | None = None,
    ) -> Self:
        """Create a breaker with the options of `config`."""
        options = {field: getattr(config, field) for field in CircuitBreakerConfig.__dataclass_fields__}
        return cls(name=name, clock=clock, store=store, events=events, **options)

    @classmethod
    def _class_expected(cls) -> Expected:
        """Return EXPECTED_EXCEPTION of the nearest class that sets it, unbound: it may be a plain function."""
        found: Any = getattr_static(cls, "EXPECTED_EXCEPTION")
        return found.__func__ if isinstance(found, staticmethod) else found

    def _register(self) -> None:
        register_weakly(self)
        self.restore()

    def reconfigure(self, config: CircuitBreakerConfig) -> None:
        """Apply other options from the next outcome on. The state, its open time and the failure count stay."""
        if config.expected_exception is None:
            config = replace(config, expected_exception=self._options.expected_exception)
        self._set_expected(config.expected_exception)
        super().reconfigure(config)

    def _set_expected(self, expected: Expected | None) -> None:
        self.is_failure, self._expects_rejections = _predicate(expected), names_rejection(expected)

    # --- calling through it ----------------------------------------------------------------------------------------------

    def call(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `func`. Raises `CircuitBreakerOpenError`.

        The result of an async function, or one of a plain function that can be awaited or iterated, is returned as the
        same kind of object. Its outcome is that of its own work; if that has not begun yet, a token is acquired when it
        does.
        """
        return wrap.run(self, self.acquire(), func, *args, **kwargs)

    async def call_async(self, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await `func`. Raises `CircuitBreakerOpenError`."""
        return await wrap.run_async(self, self.acquire(), func, *args, **kwargs)

    @overload
    async def execute(self, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def execute(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def execute(self, func: Callable[P, Awaitable[R] | R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call an async or a plain function; a plain one runs in the loop's own thread."""
        if kind_of(func) is CallableKind.ASYNC:
            return await self.call_async(func, *args, **kwargs)  # type: ignore[arg-type]  # checked to be async
        result: Any = self.call(func, *args, **kwargs)
        return await result if is_awaitable(result) else result  # type: ignore[no-any-return]  # either way an R

    def call_generator(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Iterate a generator function through the breaker; see `call`."""
        return wrap.generator(self, func)(*args, **kwargs)

    def call_async_generator(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Iterate an async generator function through the breaker; see `call`."""
        return wrap.async_generator(self, func)(*args, **kwargs)

    def decorate(self, function: Callable[P, R]) -> Callable[P, R]:
        """Protect a function of any of the four kinds; `fallback_function` is called while the circuit rejects."""
        if self._name is None:
            self._name = getattr(function, "__qualname__", None) or type(function).__qualname__
            self._register()
        return wrap.protect(self, function, self.fallback_function)

    def __call__(self, wrapped: Callable[P, R]) -> Callable[P, R]:
        """Protect a function; see `decorate`."""
        return self.decorate(wrapped)

    def __enter__(self) -> Self:
        token = self.acquire()
        if token.needs_admission:
            running_trials.set(running_trials_with((token,)))
        _entered.set((*_entered.get(), (self, token, self.now())))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        blocks = _entered.get()
        index = next((position for position in reversed(range(len(blocks))) if blocks[position][0] is self), None)
        if index is None:
            return  # exited in another context than entered: the lease of a trial expires
        _entered.set(blocks[:index] + blocks[index + 1 :])
        _, token, started = blocks[index]
        if token.needs_admission:
            running_trials.set(tuple(trial for trial in running_trials.get() if trial is not token))
        if exc_value is None:
            self.record_success(token, started)
        else:
            self.record_error(token, exc_value, started)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc_value, traceback)

    # --- reading ---------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> CircuitState:
        """Return the state now. An open time that is over reads as half-open, as in the library. Settable; see the setter."""
        snapshot = self.snapshot
        if snapshot.state is CircuitState.OPEN and snapshot.until <= self.now():
            return CircuitState.HALF_OPEN
        return snapshot.state

    @state.setter
    def state(self, value: CircuitState | str) -> None:
        """Set the state: open lasts for a recovery_timeout from now, half_open makes the next call a trial; see `set_state`."""
        self.set_state(value, "set by hand")  # type: ignore[arg-type]  # also by its name

    @property
    def failure_count(self) -> int:
        """Return the number of consecutive failures."""
        return self.snapshot.failures

    @property
    def failure_threshold(self) -> int:
        """Return the number of consecutive failures that opens the circuit."""
        return self._options.failure_threshold

    @property
    def recovery_timeout(self) -> float:
        """Return the seconds from opening to the first trial."""
        return self._options.recovery_timeout

    @property
    def recovery_time(self) -> float:
        """Return `recovery_timeout`, under its other name."""
        return self._options.recovery_timeout

    @property
    def last_failure_time(self) -> float | None:
        """Return the monotonic seconds of the last failure or opening. Settable.

        Setting it moves the first trial of an open circuit to a recovery_timeout after it.
        """
        return self._last_failure_time

    @last_failure_time.setter
    def last_failure_time(self, value: float | None) -> None:
        checks = Checks(type(self).__name__)
        if value is not None:
            checks.number("last_failure_time", value)
        checks.raise_if_any()
        self.set_opened_at(value)

    @property
    def open_remaining(self) -> float:
        """Return the seconds until the first trial: 0.0 unless open, infinite when forced open."""
        return self._remaining(self.snapshot)

    @property
    def open_until(self) -> datetime:
        """Return the wall-clock time of the first trial, for display only; `datetime.max` when forced open."""
        try:
            return datetime.now(UTC) + timedelta(seconds=self.open_remaining)
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)

    @property
    def last_failure(self) -> BaseException | None:
        """Return a copy, without traceback and causes, of the last failure since the circuit closed."""
        return self._last_failure

    @property
    def opened(self) -> bool:
        """Return whether every call is rejected."""
        return self.state.opened

    @property
    def closed(self) -> bool:
        """Return whether every call is admitted."""
        return self.snapshot.state is CircuitState.CLOSED

    @property
    def fallback_function(self) -> Callable[..., object] | None:
        """Return the function that is called instead of a decorated one while the circuit rejects."""
        return self._fallback_function

    @property
    def times_opened(self) -> int:
        """Return how often the circuit has opened."""
        return self._times_opened

    @property
    def trials_in_flight(self) -> int:
        """Return the number of half-open calls in flight."""
        snapshot = self.snapshot
        return len(snapshot.active_trials(self.now())) if isinstance(snapshot, HalfOpenSnapshot) else 0

    @property
    def metrics(self) -> dict[str, object]:
        """Return totals since the start and the last 100 state changes; `at` is in monotonic seconds."""
        with self._lock:
            failures, changes = self._failures_total, tuple(self._changes or ())
        successes, rejections = (0, 0) if self._external_counters is None else (count() for count in self._external_counters)
        return {
            "success_count": self._successes.value + successes,
            "failure_count": failures,
            "rejected_count": self._rejections.value + rejections,
            "state_changes": [dict(zip(("from", "to", "at", "reason"), change, strict=True)) for change in changes],
        }

    def describe(self) -> dict[str, object]:
        """Return the state as numbers, ready for JSON; `open_remaining` is None when forced open."""
        remaining = self.open_remaining
        return {
            "state": self.state.name,
            "failure_count": self.failure_count,
            "failure_threshold": self.failure_threshold,
            "recovery_timeout": self.recovery_timeout,
            "open_remaining": None if remaining == math.inf else remaining,
            "times_opened": self.times_opened,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self)!r} {self.snapshot.state.value}>"


EnhancedCircuitBreaker = CircuitBreaker


#: The predicate of nearly every breaker; the library would build one for each.
_any_exception = library.build_failure_predicate(Exception)


def _predicate(expected: Expected | None) -> Callable[[type[BaseException], BaseException], bool]:
    return _any_exception if expected is Exception else library.build_failure_predicate(expected)  # type: ignore[no-any-return]
