"""How many bytes a breaker, an operation and a decorated function take, and how many a call while it is under way."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import harness
from circuitbreaker import CircuitBreaker as BareBreaker
from circuitbreaker import CircuitBreakerMonitor
from comparison import Comparison, Sizes
from harness import Callee, Contender, Contest, Loop, Measure, Samples
from overhead import (
    ASYNC_FAILURE,
    ASYNC_REFUSAL,
    ASYNC_RETRIED,
    ASYNC_SUCCESS,
    BOTH,
    BREAKER,
    FAILURE,
    KIT,
    REFUSAL,
    RETRIED,
    RETRY,
    SUCCESS,
    TRY,
    Decorator,
    Kit,
    Work,
    guarded,
    guarded_async,
    opened,
    options,
    retrying,
    succeeding,
    with_both,
    with_breaker,
    with_retry,
)
from report import Row, row

from resilience_kit import AIServiceResilience, CircuitBreaker
from resilience_kit.metrics import LatencyHistogram

EACH, DECORATED, PARTS = "bytes: breakers", "bytes: decorated functions", "bytes: what one breaker of the kit is made of"
GOAL, GOAL_BYTES = "the goal, 1.4 kB", 1400
WHOLE, HISTOGRAM = f"{KIT}, operation", f"{KIT}, latency histogram"
REST = f"{WHOLE} without its histogram"
ALLOCATED, TOGETHER = "as allocated", "together, as the objects tell"

#: Makes one of a name.
Make = Callable[[str], object]


# --- what is kept --------------------------------------------------------------------------------------------------------------


def breakers(sizes: Sizes, _: Loop) -> Iterator[Comparison]:
    """Very many of them, and of what comes with them."""
    bare: dict[str, Measure] = {
        GOAL: lambda number: GOAL_BYTES * number,
        BREAKER: all_of(lambda: bare_breaker),
        KIT: all_of(lambda: breaker),
        f"{KIT}, after an outage": all_of(lambda: breaker_after_an_outage),
        WHOLE: all_of(operations),
        HISTOGRAM: all_of(lambda: histogram),
    }
    yield _weighed(sizes, EACH, bare, [*bare, REST])
    functions = {
        BREAKER: all_of(lambda: bare_decorated),
        RETRY: all_of(lambda: retrying_decorated),
        BOTH: all_of(lambda: both_decorated),
        KIT: all_of(decorated),
    }
    yield _weighed(sizes, DECORATED, functions, [*functions])


def _weighed(sizes: Sizes, title: str, measures: Mapping[str, Measure], told: Sequence[str]) -> Comparison:
    callee = Callee(harness.steady)  # which nobody calls
    contenders = tuple(
        Contender(name=name, against=BREAKER, callee=callee, measure=measure, reaches=0) for name, measure in measures.items()
    )
    contest = Contest(title=title, contenders=contenders, unit="bytes each")
    return Comparison(contest=contest, scale=sizes.kept, rows={title: dict.fromkeys(told, BREAKER)})


def without_histogram(samples: Samples) -> Samples:
    """Add a contender: the kit without its histogram, where that was measured."""
    if WHOLE not in samples:
        return samples
    pairs = zip(samples[WHOLE], samples[HISTOGRAM], strict=True)
    return {**samples, REST: [whole - part for whole, part in pairs]}


def all_of(fresh: Callable[[], Make]) -> Measure:
    """Measure the bytes of so many objects of one `fresh()`, with what it and the library's monitor keep of them."""

    def fill(names: Sequence[str]) -> object:
        with own_monitor() as entries:
            make = fresh()
            return [make(name) for name in names], make, entries

    return harness.kept(fill)


@contextmanager
def own_monitor() -> Iterator[dict[str, Any]]:
    """In here the library's monitor holds nothing else; it keeps whatever it is shown for ever."""
    others, entries = CircuitBreakerMonitor.circuit_breakers, dict[str, Any]()
    CircuitBreakerMonitor.circuit_breakers = entries
    try:
        yield entries
    finally:
        CircuitBreakerMonitor.circuit_breakers = others


# --- what is made ------------------------------------------------------------------------------------------------------------


def protected(x: int) -> int:
    return x


def bare_breaker(name: str) -> BareBreaker:
    return BareBreaker(name=name)


def breaker(name: str) -> CircuitBreaker:
    return CircuitBreaker(name=name)


def breaker_after_an_outage(name: str) -> CircuitBreaker:
    made = CircuitBreaker(1, name=name)
    made.on_failure(made.acquire(), ConnectionError())
    made.reset()
    return made


def histogram(_: str) -> LatencyHistogram:
    return LatencyHistogram()


def operations() -> Make:
    return AIServiceResilience().get_circuit_breaker


def bare_decorated(name: str) -> object:
    return BareBreaker(name=name)(protected)


def retrying_decorated(_: str) -> object:
    return with_retry()(protected)


def both_decorated(name: str) -> object:
    return with_retry()(bare_decorated(name))


def decorated() -> Make:
    resilience, config = AIServiceResilience(), options()
    return lambda name: resilience.with_resilience(name, custom_config=config)(protected)


# --- what it is made of -----------------------------------------------------------------------------------------------------


def parts(make: Make) -> dict[str, int]:
    """By kind of object, with how many there are: the bytes that Python tells of those that one has and another has not.

    What no object tells of is missing: a lock's inside, and the places that the entries of tables take.
    """
    with own_monitor():
        name = "one"
        one, other = make(name), make("other")
        own = reached(one, without={*reached(other), id(name)})
        number = Counter(type(each).__name__ for each in own.values())
        bytes_of: Counter[str] = Counter()
        for each in own.values():
            bytes_of[type(each).__name__] += sys.getsizeof(each)
    return {f"{number[name]} x {name}": size for name, size in bytes_of.most_common()}


def reached(root: object, without: Container[int] = ()) -> dict[int, object]:
    """By identity: the objects that this one leads to, and what refers to them weakly. Classes and modules are everybody's."""
    found: dict[int, object] = {}
    ahead = [root]
    while ahead:
        each = ahead.pop()
        if id(each) not in found and id(each) not in without and not isinstance(each, _EVERYBODYS):
            found[id(each)] = each
            ahead += _next_to(each)
    return found


_EVERYBODYS = (type, ModuleType)


def _next_to(each: object) -> list[object]:
    kind = type(each)
    if each is CircuitBreakerMonitor.circuit_breakers:
        return []
    if kind in weakref.ProxyTypes:  # asked for anything, it would speak for what it stands for
        return gc.get_referents(each)
    attributes = getattr(each, "__dict__", None)
    references = weakref.getweakrefs(each) if kind.__weakrefoffset__ else []
    return [*gc.get_referents(each), *([attributes] if attributes else []), *references]


def made_of(allocated: float) -> Row:
    """Return the objects of one breaker, as shares of the bytes that are allocated for it."""
    told = parts(breaker)
    shown = {**told, TOGETHER: sum(told.values()), ALLOCATED: allocated}
    samples = {name: [float(size)] for name, size in shown.items()}
    return row(PARTS, samples, dict.fromkeys(samples, ALLOCATED), "bytes")


# --- what a call needs --------------------------------------------------------------------------------------------------------

TITLES = tuple(f"call: {title}" for title in (SUCCESS, REFUSAL, RETRIED, FAILURE))
ASYNC_TITLES = tuple(f"call: {title}" for title in (ASYNC_SUCCESS, ASYNC_REFUSAL, ASYNC_RETRIED, ASYNC_FAILURE))
CALLEES = (harness.steady, harness.failing, harness.flaky)
ASYNC_CALLEES = (harness.steady_async, harness.failing_async, harness.flaky_async)


def calls(sizes: Sizes, loop: Loop) -> Iterator[Comparison]:
    """How far the allocations of one call reach while it is under way."""
    made = Kit()
    for titles, callees, peaks, floor in (
        (TITLES, CALLEES, harness.peaks, guarded),
        (ASYNC_TITLES, ASYNC_CALLEES, loop.peaks, guarded_async),
    ):
        yield from (_peaking(sizes, *each) for each in _works(made, titles, callees, peaks, floor))


def _works(
    made: Kit, titles: Sequence[str], callees: Sequence[Any], peaks: Any, floor: Decorator
) -> Iterator[tuple[Work, dict[str, Decorator]]]:
    success, refusal, retried, failure = titles
    steady, failing, flaky = callees
    refused: dict[str, Decorator] = {BREAKER: with_breaker(), BOTH: with_both(), KIT: made.protects()}
    failed = partial(peaks, kind=ConnectionError)
    yield Work(title=success, against=BREAKER, callee=steady, way=peaks), {TRY: floor, **succeeding(made)}
    yield Work(title=refusal, against=BREAKER, callee=failing, way=partial(opened, peaks), reaches=0), refused
    yield Work(title=retried, against=RETRY, callee=flaky, way=peaks, reaches=2), retrying(made)
    yield Work(title=failure, against=RETRY, callee=failing, way=failed, reaches=3), retrying(made)


def _peaking(sizes: Sizes, work: Work, decorators: Mapping[str, Decorator]) -> Comparison:
    contest = replace(work.by(decorators), unit="bytes at the peak")
    rows = {work.title: {each.name: each.against for each in contest.contenders}}
    return Comparison(contest=contest, scale=sizes.peak, rows=rows)
