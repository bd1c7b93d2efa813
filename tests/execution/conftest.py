"""One laboratory for all drivers: an attempt is a plain function, and the way of calling it decides which driver runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import pytest

from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.events import Event
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.outcome import Outcome
from resilience_kit.policies.breaker import CircuitBreakerConfig
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing import FakeClock

Attempt = Callable[..., Any]


def _async(attempt: Attempt) -> Attempt:
    async def f(*args: Any, **kwargs: Any) -> Any:
        return attempt(*args, **kwargs)

    return f


def _generator(attempt: Attempt) -> Attempt:
    def f(*args: Any, **kwargs: Any) -> Any:
        yield attempt(*args, **kwargs)

    return f


def _async_generator(attempt: Attempt) -> Attempt:
    async def f(*args: Any, **kwargs: Any) -> Any:
        yield attempt(*args, **kwargs)

    return f


def _giving(make: Callable[[Attempt], Attempt]) -> Callable[[Attempt], Attempt]:
    """A plain function that gives what one of another kind gives."""

    def shape(attempt: Attempt) -> Attempt:
        inner = make(attempt)

        def give(*args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        return give

    return shape


def _plain(attempt: Attempt) -> Attempt:
    return attempt


#: way -> the shape of the function, and how it is called: decorated, or by one of the orchestrator's methods.
WAYS: dict[str, tuple[Callable[[Attempt], Attempt], str]] = {
    "sync": (_plain, "decorated"),
    "async": (_async, "decorated"),
    "generator": (_generator, "decorated"),
    "async generator": (_async_generator, "decorated"),
    "sync giving a coroutine": (_giving(_async), "decorated"),
    "sync giving a generator": (_giving(_generator), "decorated"),
    "sync giving an async generator": (_giving(_async_generator), "decorated"),
    "call": (_plain, "call"),
    "call of async": (_async, "call"),
    "execute": (_async, "execute"),
    "execute plain": (_plain, "execute"),
    "execute giving a coroutine": (_giving(_async), "execute"),
    "execute generator": (_generator, "execute"),
    "execute async generator": (_async_generator, "execute"),
}
#: Those whose function's first call is its first attempt. Of the others, guards are asked twice: for the call, and for the work.
DIRECT = ("sync", "async", "generator", "async generator", "call", "execute", "execute plain", "execute giving a coroutine")
KINDS = ("sync", "async", "generator", "async generator")


async def finished(result: Any) -> Any:
    """The value, or the last item, of whatever a call gave."""
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        return [item async for item in result][-1]
    return list(result)[-1] if inspect.isgenerator(result) else result


class Permit:
    """Remembers its settlements."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.outcomes: list[Outcome] = []

    def settle(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class GuardProbe:
    """A guard that gives permits with planned waits, or raises planned errors, and remembers its permits."""

    def __init__(self, name: str = "probe", *plan: float | Exception, log: list[str] | None = None) -> None:
        self.name, self.plan, self.permits = name, list(plan), []
        self.log: list[str] = [] if log is None else log

    def admit(self, cost: float = 1.0) -> Any:
        self.log.append(f"admit {self.name}")
        step = self.plan.pop(0) if self.plan else 0.0
        if isinstance(step, BaseException):
            raise step
        permit = Permit(step)
        settle = permit.settle
        permit.settle = lambda outcome: (self.log.append(f"settle {self.name} {outcome.kind.value}"), settle(outcome))  # type: ignore[method-assign]
        self.permits.append(permit)
        return permit

    def fits(self, cost: float = 1.0) -> bool:
        return True

    @property
    def kinds(self) -> list[list[str]]:
        """How each permit was settled."""
        return [[outcome.kind.value for outcome in permit.outcomes] for permit in self.permits]


@cache
def settings() -> ResilienceSettings:
    """Those without a variable, made once: reading the environment takes longer than most tests."""
    return ResilienceSettings()


class Lab:
    """An orchestrator on a fake clock."""

    WAYS, KINDS, Guard = WAYS, KINDS, GuardProbe
    shapes: ClassVar = {"sync": _plain, "async": _async, "generator": _generator, "async generator": _async_generator}
    finished = staticmethod(finished)

    def __init__(self) -> None:
        self.clock = FakeClock(100.0)
        self.kit = AIServiceResilience(settings(), clock=self.clock)
        self.events: list[Event] = []

    def listen(self, *types: type[Event]) -> None:
        """Collect events."""
        self.kit.add_listener(self.events.append, *types)

    def config(self, threshold: int = 1000, *, breaker: Any = ..., retry: Any = ..., **options: Any) -> ResilienceConfig:
        """Three attempts, 1 s and 2 s apart, and a breaker that is not in the way."""
        return ResilienceConfig(
            retry=RetryConfig(jitter=None) if retry is ... else retry,
            circuit_breaker=CircuitBreakerConfig(failure_threshold=threshold) if breaker is ... else breaker,
            **options,
        )

    async def call(
        self,
        way: str,
        attempt: Attempt,
        *args: Any,
        operation: str = "op",
        config: ResilienceConfig | None = None,
        **options: Any,
    ) -> Any:
        """One call of `attempt`, to its end."""
        shape, by = WAYS[way]
        function = shape(attempt)
        options["custom_config"] = self.config() if config is None else config
        if by == "decorated":
            return await finished(self.kit.with_resilience(operation, **options)(function)(*args))
        if by == "call":
            return await finished(self.kit.call_with_resilience(function, operation, *args, **options))
        return await finished(await self.kit.execute_with_resilience(function, operation, *args, **options))

    def counted(self, operation: str = "op") -> dict[str, int]:
        """The counters that are not zero."""
        numbers = self.kit.get_metrics(operation)
        return {name: value for name, value in numbers.items() if type(value) is int and value}


@pytest.fixture
def lab() -> Lab:
    """An orchestrator on a fake clock, for one test."""
    return Lab()


#: Those that are left to `make coverage`: what happens on them is put together from the others.
COMPOUND = {name for name in WAYS if " giving " in name} | {"call of async", "execute generator", "execute async generator"}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in COMPOUND)) for name in WAYS])
def way(request: pytest.FixtureRequest) -> str:
    """Every way of calling a function."""
    name: str = request.param
    return name


@pytest.fixture(params=DIRECT)
def direct(request: pytest.FixtureRequest) -> str:
    """The ways that ask guards once an attempt."""
    name: str = request.param
    return name


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The four kinds of decorated functions."""
    name: str = request.param
    return name


class Steps:
    """An attempt that goes through planned steps: errors to raise, functions to call, values to give. The last one stays."""

    def __init__(self, *steps: Any) -> None:
        self.steps, self.calls = steps, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, type) and issubclass(step, BaseException):
            raise step
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step


@pytest.fixture
def steps() -> type[Steps]:
    """Makes planned attempts."""
    return Steps
