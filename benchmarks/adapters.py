"""The libraries that benchmarks/peers.py compares, each set up for the same jobs in the fastest form that its manual offers.

The jobs: a breaker that opens after so many failures, for a day; three attempts without a wait in between; both, where a
refusal is not tried again. What a library does unasked stays on, but for the entries whose names say otherwise. A library is
imported when its entries are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

import overhead
from circuitbreaker import CircuitBreakerError
from harness import Async, Measure, Plain
from overhead import BOTH, BREAKER, DAY, EAGER, KIT, RETRY, TRY, Decorator

from resilience_kit import ResilienceConfig

ATTEMPTS = 3
WHOLE = "kit, breaker and retry"

BY_HAND = "purgatory, breaker kept"

#: A floor that protects from nothing, a kit that does more than the row asks for, and a form that no manual offers.
UNRANKED = frozenset({TRY, WHOLE, BY_HAND})


class Job(StrEnum):
    """What a library is asked to do."""

    BREAKER = "breaker"
    RETRY = "retry"
    BOTH = "breaker and retry"


class Kind(StrEnum):
    """What it is asked to protect."""

    SYNC = "sync"
    ASYNC = "async"


class Event(StrEnum):
    """What happens to it."""

    SUCCESS = "success"
    FAILS_ONCE = "fails once"
    REFUSAL = "circuit open"


#: A decorator, by the number of failures that open the circuit.
Make = Callable[[int], Decorator]
#: A measurement made of another one, and of the call that it times.
Around = Callable[[Measure, Any], Measure]

EVENTS = {
    Job.BREAKER: (Event.SUCCESS, Event.REFUSAL),
    Job.RETRY: (Event.SUCCESS, Event.FAILS_ONCE),
    Job.BOTH: tuple(Event),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A library set up for a job.

    `refusal`: what its open circuit raises. `kinds`, `events`: where it takes part.
    """

    name: str
    job: Job
    make: Make
    refusal: type[Exception] = Exception
    kinds: Sequence[Kind] = tuple(Kind)
    events: Sequence[Event] = tuple(Event)
    around: Around = lambda measure, _: measure


def awaits(function: Any) -> bool:
    """Whether a callee is async; it decides which form of a library protects it."""
    return iscoroutinefunction(function)


# --- to compare with -------------------------------------------------------------------------------------------------------


def by_hand() -> Iterator[Entry]:
    """Yield the minimal implementation, without any policy."""
    floor = partial(Entry, name=TRY)
    for job in Job:
        yield floor(job=job, make=lambda _: passed_on, events=(Event.SUCCESS,))
        yield floor(job=job, make=lambda _: looped, events=(Event.FAILS_ONCE,))
        yield floor(job=job, make=lambda _: refused, events=(Event.REFUSAL,), refusal=PermissionError)


def passed_on(function: Any) -> Any:
    return overhead.guarded_async(function) if awaits(function) else overhead.guarded(function)


def looped(function: Any) -> Any:
    return looped_async(function) if awaits(function) else looped_plain(function)


def looped_plain(function: Plain) -> Plain:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                return function(*args, **kwargs)
            except ConnectionError:
                if not left:
                    raise
        return None

    return wrapper


def looped_async(function: Async) -> Async:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                return await function(*args, **kwargs)
            except ConnectionError:
                if not left:
                    raise
        return None

    return wrapper


def refused(function: Any) -> Any:
    def wrapper(*_: Any, **__: Any) -> Any:
        raise PermissionError

    async def async_wrapper(*_: Any, **__: Any) -> Any:
        raise PermissionError

    return async_wrapper if awaits(function) else wrapper


def kit() -> Iterator[Entry]:
    """Yield the kit with the job's part alone, and as it is meant to be used, with both."""
    entry = partial(_kit_entry, overhead.Kit())
    yield entry(KIT, Job.BREAKER, lambda whole: replace(whole, retry=None))
    yield entry(KIT, Job.RETRY, lambda whole: replace(whole, circuit_breaker=None))
    yield entry(KIT, Job.BOTH, lambda whole: whole)
    for job in (Job.BREAKER, Job.RETRY):
        yield entry(WHOLE, job, lambda whole: whole)


def _kit_entry(made: overhead.Kit, name: str, job: Job, cut: Callable[[ResilienceConfig], ResilienceConfig]) -> Entry:
    def make(threshold: int) -> Decorator:
        return made.protects(cut(overhead.options(threshold)))

    return Entry(name=name, job=job, make=make, refusal=CircuitBreakerError)


# --- the two below the kit -------------------------------------------------------------------------------------------------


def circuitbreaker() -> Iterator[Entry]:
    yield Entry(name=BREAKER, job=Job.BREAKER, make=overhead.with_breaker, refusal=CircuitBreakerError)


def tenacity() -> Iterator[Entry]:
    retry, both = Entry(name=RETRY, job=Job.RETRY, make=lambda _: overhead.with_retry()), partial(Entry, job=Job.BOTH)
    yield retry
    yield replace(retry, name=EAGER, make=lambda _: eager, events=(Event.FAILS_ONCE,))
    yield both(name=BOTH, make=overhead.with_both, refusal=CircuitBreakerError)
    yield both(
        name=f"{BOTH}, sleep left out",
        make=lambda threshold: lambda function: eager(overhead.with_breaker(threshold)(function)),
        events=(Event.FAILS_ONCE,),
    )


def eager(function: Any) -> Any:
    return overhead.with_retry(sleep=no_sleep_async if awaits(function) else no_sleep)(function)


def no_sleep(_: float) -> None:
    return None


async def no_sleep_async(_: float) -> None:
    return None


# --- breakers --------------------------------------------------------------------------------------------------------------


def pybreaker() -> Iterator[Entry]:
    """Its async form wants tornado's coroutines, so it is compared with sync functions only."""
    library = import_module("pybreaker")
    yield Entry(
        name="pybreaker",
        job=Job.BREAKER,
        kinds=(Kind.SYNC,),
        make=lambda threshold: library.CircuitBreaker(fail_max=threshold, reset_timeout=DAY),
        refusal=library.CircuitBreakerError,
    )


def aiobreaker() -> Iterator[Entry]:
    library = import_module("aiobreaker")
    yield Entry(
        name="aiobreaker",
        job=Job.BREAKER,
        make=lambda threshold: library.CircuitBreaker(fail_max=threshold, timeout_duration=timedelta(seconds=DAY)),
        refusal=library.CircuitBreakerError,
    )


def purgatory() -> Iterator[Entry]:
    """As its decorator, which asks for the breaker at each call; and with a breaker that is asked for once, and entered."""
    library, refusal = import_module("purgatory"), import_module("purgatory.domain.model").OpenedState
    for name, kept in (("purgatory", False), (BY_HAND, True)):
        breaker = partial(Entry, name=name, job=Job.BREAKER, make=partial(_purgatory, library, kept))
        yield breaker(events=(Event.SUCCESS,))
        yield breaker(events=(Event.REFUSAL,), refusal=refusal, around=forgetful)


def _purgatory(library: Any, kept: bool, threshold: int) -> Decorator:
    def decorator(function: Any) -> Any:
        is_async = awaits(function)
        make = library.AsyncCircuitBreakerFactory if is_async else library.SyncCircuitBreakerFactory
        factory = make(default_threshold=threshold, default_ttl=DAY)
        if not kept:
            return factory("circuit")(function)
        breaker = factory.get_breaker("circuit")
        return entered_async(asyncio.run(breaker), function) if is_async else entered(breaker, function)

    return decorator


def entered(breaker: Any, function: Plain) -> Plain:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with breaker:
            return function(*args, **kwargs)

    return wrapper


def entered_async(breaker: Any, function: Async) -> Async:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        async with breaker:
            return await function(*args, **kwargs)

    return wrapper


def forgetful(measure: Measure, call: Any) -> Measure:
    """All refusals are one error, whose traceback grows with each: it is cut between measurements, or memory would run out."""

    def measured(number: int) -> int:
        nanoseconds = measure(number)
        try:
            call(1).send(None)
        except Exception as error:  # noqa: BLE001 - whatever it raises is what grows
            error.__traceback__ = None
        return nanoseconds

    return measured


# --- retries ---------------------------------------------------------------------------------------------------------------


def stamina() -> Iterator[Entry]:
    library, instrumentation = import_module("stamina"), import_module("stamina.instrumentation")
    retry = library.retry(on=ConnectionError, attempts=ATTEMPTS, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0)
    entry = Entry(name="stamina", job=Job.RETRY, make=lambda _: retry)
    yield entry
    switch = instrumentation.set_on_retry_hooks
    yield replace(entry, name="stamina, hooks off", events=(Event.FAILS_ONCE,), around=partial(_without_hooks, switch))


def _without_hooks(switch: Callable[[Any], None], measure: Measure, _: Any) -> Measure:
    def measured(number: int) -> int:
        switch(())
        try:
            return measure(number)
        finally:
            switch(None)

    return measured


def backoff() -> Iterator[Entry]:
    library = import_module("backoff")
    rules = {"interval": 0, "jitter": None, "max_tries": ATTEMPTS}
    for name, more, events in (("backoff", {}, Event), ("backoff, logger off", {"logger": None}, (Event.FAILS_ONCE,))):
        decorator = library.on_exception(library.constant, ConnectionError, **rules, **more)
        yield Entry(name=name, job=Job.RETRY, make=partial(_always, decorator), events=tuple(events))


def _always(decorator: Decorator, _: int) -> Decorator:
    return decorator


# --- both ------------------------------------------------------------------------------------------------------------------


def hyx() -> Iterator[Entry]:
    """For async functions only. Its `attempts` are those after the first."""
    breakers, retries = import_module("hyx.circuitbreaker"), import_module("hyx.retry")
    refusal = import_module("hyx.circuitbreaker.exceptions").BreakerFailing
    retry = retries.retry(on=ConnectionError, attempts=ATTEMPTS - 1, backoff=0)

    def breaker(threshold: int) -> Decorator:
        made: Decorator = breakers.consecutive_breaker(failure_threshold=threshold, recovery_time_secs=DAY)
        return made

    entry = partial(Entry, name="hyx", kinds=(Kind.ASYNC,))
    yield entry(job=Job.BREAKER, make=breaker, refusal=refusal)
    yield entry(job=Job.RETRY, make=partial(_always, retry))
    yield entry(job=Job.BOTH, make=lambda threshold: lambda function: retry(breaker(threshold)(function)), refusal=refusal)


def pyresilience() -> Iterator[Entry]:
    library = import_module("pyresilience")

    def breaker(threshold: int) -> Any:
        return library.CircuitBreakerConfig(failure_threshold=threshold, recovery_timeout=DAY)

    retry = library.RetryConfig(max_attempts=ATTEMPTS, delay=0, jitter=False, retry_on=(ConnectionError,))
    protected, entry = library.resilient, partial(Entry, name="pyresilience", refusal=library.CircuitOpenError)
    yield entry(job=Job.BREAKER, make=lambda threshold: protected(circuit_breaker=breaker(threshold)))
    yield entry(job=Job.RETRY, make=lambda _: protected(retry=retry))
    yield entry(job=Job.BOTH, make=lambda threshold: protected(circuit_breaker=breaker(threshold), retry=retry))


def redress() -> Iterator[Entry]:
    """Its breaker counts a call with all its attempts as one. It has a deadline, which cannot be switched off: a minute."""
    library = import_module("redress")
    entry = partial(Entry, name="redress", refusal=library.CircuitOpenError)
    yield entry(job=Job.BREAKER, make=partial(_redress, library, Job.BREAKER))
    for job in (Job.RETRY, Job.BOTH):
        yield entry(job=job, make=partial(_redress, library, job))
        sleepless = partial(_redress, library, job, sleepers=(no_sleep, no_sleep_async))
        yield entry(job=job, name="redress, sleep left out", make=sleepless, events=(Event.FAILS_ONCE,))


def _redress(library: Any, job: Job, threshold: int, sleepers: Sequence[Any] = (None, None)) -> Decorator:
    def decorator(function: Any) -> Any:
        is_async = awaits(function)
        retry = (library.AsyncRetry if is_async else library.Retry)(
            classifier=library.default_classifier,
            strategy=lambda _: 0.0,
            sleeper=sleepers[is_async],
            max_attempts=ATTEMPTS,
        )
        if job is Job.RETRY:
            return handed_over(retry.call, function)
        breaker = library.CircuitBreaker(failure_threshold=threshold, recovery_timeout_s=DAY)
        policy = library.AsyncPolicy if is_async else library.Policy
        return handed_over(policy(retry=retry if job is Job.BOTH else None, circuit_breaker=breaker).call, function)

    return decorator


def handed_over(call: Callable[[Callable[[], Any]], Any], function: Any) -> Any:
    """Its policies call functions without arguments. Of an async one this gives the coroutine."""

    def wrapper(x: int) -> Any:
        return call(lambda: function(x))

    return wrapper


#: By the name of its distribution.
LIBRARIES: dict[str, Callable[[], Iterator[Entry]]] = {
    "ai-resilience-kit": kit,
    "circuitbreaker": circuitbreaker,
    "tenacity": tenacity,
    "stamina": stamina,
    "pybreaker": pybreaker,
    "purgatory": purgatory,
    "aiobreaker": aiobreaker,
    "hyx": hyx,
    "backoff": backoff,
    "redress": redress,
    "pyresilience": pyresilience,
}
