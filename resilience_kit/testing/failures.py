"""Wrappers that make functions fail by a plan, for tests of retries and circuits.

Each takes a function of any kind (plain, async, generator, async generator) and returns one of the same kind that fails before
the original is called, or calls it. `.calls` counts the calls so far. All are thread-safe.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from resilience_kit._callable_kinds import CallableKind, kind_of
from resilience_kit._checks import Checks
from resilience_kit._generators import wrap_async_generator, wrap_generator
from resilience_kit.errors import RateLimitError, ServiceUnavailableError

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: An error to raise: the error itself, its class, or a function that returns one.
Failure = BaseException | Callable[[], BaseException]


class FailingFunction(Protocol[P, R_co]):
    """A function that fails by a plan."""

    calls: int

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Fail, or call the original."""
        ...


def fails_then_succeeds(f: Callable[P, R], n: int, error: Failure = ServiceUnavailableError) -> FailingFunction[P, R]:
    """Fail calls 1 to `n`; pass all others to `f`."""
    _check(error, n=n)
    return _wrap(f, lambda call: error if call <= n else None)


def every_nth(f: Callable[P, R], n: int, error: Failure = ServiceUnavailableError) -> FailingFunction[P, R]:
    """Fail calls n, 2n, 3n and so on."""
    _check(error, minimum=1, n=n)
    return _wrap(f, lambda call: error if call % n == 0 else None)


def after(f: Callable[P, R], n: int, error: Failure = RateLimitError) -> FailingFunction[P, R]:
    """Pass the first `n` calls to `f`; fail all others, like an exhausted quota."""
    _check(error, n=n)
    return _wrap(f, lambda call: error if call > n else None)


def seeded_rate(f: Callable[P, R], rate: float, seed: int, error: Failure = ServiceUnavailableError) -> FailingFunction[P, R]:
    """Fail each call with probability `rate` (0 to 1); the same seed fails the same calls, by their number."""
    checks = Checks("seeded_rate")
    checks.number("rate", rate, 0.0, 1.0)
    checks.raise_if_any()
    _check(error)
    draw = random.Random(seed).random  # noqa: S311 - failures need no cryptography
    return _wrap(f, lambda _: error if draw() < rate else None)


def sequence(f: Callable[P, R], errors: Sequence[Failure | None]) -> FailingFunction[P, R]:
    """Raise `errors[k - 1]` in call k; where that is None, and after the last one listed, call `f`."""
    planned = tuple(errors)
    for error in planned:
        if error is not None:
            _check(error)
    return _wrap(f, lambda call: planned[call - 1] if call <= len(planned) else None)


def _check(error: object, *, minimum: int = 0, **counts: object) -> None:
    checks = Checks("failures")
    for name, value in counts.items():
        checks.integer(name, value, minimum)
    if not isinstance(error, BaseException) and not callable(error):
        checks.add("error", "must be an exception, its class, or a function that makes one", error)
    checks.raise_if_any()


class _FailurePlan:
    """Counts the calls of `wrapper` and raises the error planned for each."""

    def __init__(self, decide: Callable[[int], Failure | None]) -> None:
        self._decide, self._lock, self._calls = decide, threading.Lock(), 0
        self.wrapper: Any = None

    def step(self) -> None:
        """Count a call, and raise its error."""
        with self._lock:
            self._calls = self.wrapper.calls = self._calls + 1
            failure = self._decide(self._calls)
        if failure is not None:
            raise _create_error(failure)


def _create_error(failure: Failure) -> BaseException:
    """Return the error without a traceback: raised again it would carry those of all earlier calls."""
    return failure.with_traceback(None) if isinstance(failure, BaseException) else failure()


def _wrap(f: Callable[P, R], decide: Callable[[int], Failure | None]) -> FailingFunction[P, R]:
    plan = _FailurePlan(decide)
    wrapper: Any = functools.update_wrapper(_WRAPPERS[kind_of(f)](f, plan), f)
    wrapper.calls, plan.wrapper = 0, wrapper
    return cast("FailingFunction[P, R]", wrapper)


def _wrap_sync(f: Callable[..., Any], plan: _FailurePlan) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        plan.step()
        return f(*args, **kwargs)

    return wrapper


def _wrap_async(f: Callable[..., Any], plan: _FailurePlan) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        plan.step()
        return await f(*args, **kwargs)

    return wrapper


_WRAPPERS: dict[CallableKind, Callable[[Callable[..., Any], _FailurePlan], Callable[..., Any]]] = {
    CallableKind.SYNC: _wrap_sync,
    CallableKind.ASYNC: _wrap_async,
    CallableKind.GENERATOR: lambda f, plan: wrap_generator(f, _wrap_sync(f, plan)),
    CallableKind.ASYNC_GENERATOR: lambda f, plan: wrap_async_generator(f, _wrap_sync(f, plan)),
}
