"""The cost of a call as there are more threads, tasks, operations or listeners."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import harness
from circuitbreaker import CircuitBreaker as BareBreaker
from comparison import Comparison, Sizes, among, beside, growth
from harness import Callee, Contender, Contest, Loop, Measure, Plain
from memory import own_monitor
from overhead import (
    BOTH,
    BREAKER,
    KIT,
    KIT_DEADLINE,
    NEVER,
    TRY,
    Decorator,
    Kit,
    Work,
    guarded,
    guarded_async,
    options,
    with_both,
    with_breaker,
)
from report import PER_CALL, nanoseconds

from resilience_kit.events import CallFailed, CallSucceeded, Event, RetryScheduled, StateChanged

# --- threads and tasks ---------------------------------------------------------------------------------------------------------

THREADS, THREADS_GROW = "threads: success", "threads: growth of the same"
TASKS, TASKS_GROW = "tasks: success", "tasks: growth of the same"


def threads(sizes: Sizes, _: Loop) -> Iterator[Comparison]:
    """One function, called by more and more threads."""
    decorators: dict[str, Decorator] = {TRY: guarded, BREAKER: with_breaker(), BOTH: with_both(), KIT: Kit().protects()}
    numbers, names = sizes.threads, [*decorators]
    contenders = _by_number(decorators, harness.steady, harness.in_threads, numbers, "thread")
    yield Comparison(
        contest=Contest(title=THREADS, contenders=contenders, step=math.lcm(*numbers), weight=30),
        scale=sizes.time,
        rows={THREADS: beside(names, numbers, "thread"), THREADS_GROW: growth(names, numbers, "thread")},
    )


def tasks(sizes: Sizes, loop: Loop) -> Iterator[Comparison]:
    """One function that suspends once, under way in more and more tasks."""
    made = Kit()
    kits = {KIT: made.protects(), KIT_DEADLINE: made.protects("balanced")}
    decorators: dict[str, Decorator] = {TRY: guarded_async, BREAKER: with_breaker(), **kits}
    numbers, names = sizes.tasks, [*decorators]
    contenders = _by_number(decorators, harness.suspending_async, loop.in_tasks, numbers, "task")
    yield Comparison(
        contest=Contest(title=TASKS, contenders=contenders, step=math.lcm(*numbers)),
        scale=sizes.wide,
        rows={TASKS: beside(names, numbers, "task"), TASKS_GROW: growth(names, numbers, "task")},
    )


def _by_number(
    decorators: Mapping[str, Decorator],
    make: Callable[[list[None]], Any],
    way: Callable[[Any, int], Measure],
    numbers: Sequence[int],
    what: str,
) -> tuple[Contender, ...]:
    contenders: list[Contender] = []
    for who, decorator in decorators.items():
        callee = Callee(make)
        call = decorator(callee.function)
        contenders += [_on_its_own(among(who, number, what), callee, way(call, number)) for number in numbers]
    return tuple(contenders)


def _on_its_own(name: str, callee: Callee, measure: Measure, reaches: int = 1) -> Contender:
    """Return a contender whose divisor is set by its comparison."""
    return Contender(name=name, against=name, callee=callee, measure=measure, reaches=reaches)


# --- operations ----------------------------------------------------------------------------------------------------------------

ONE_OF_MANY, BY_NAME = "operations: one of them, sync", "operations: one of them, by its name, async"
IN_TURN, IN_TURN_GROW = "operations: all in turn, sync", "operations: growth of the same"
NEW, LISTENED, CHANGED = "operations: a new one", "operations: a listener comes and goes", "operations: one changes its strategy"


class Registered:
    """An orchestrator in which so many operations are in use; all of them call the same function."""

    def __init__(self, number: int) -> None:
        self.number, self.kit, self.callee = number, Kit(), Callee(harness.steady)
        config = options()
        self.calls: list[Plain] = [self.kit.protects(config)(self.callee.function) for _ in range(number)]

    def contender(self, measure: Measure, callee: Callee | None = None, reaches: int = 1) -> Contender:
        """Something that is measured in it."""
        return _on_its_own(among(KIT, self.number, "operation"), callee or self.callee, measure, reaches)


def operations(sizes: Sizes, loop: Loop) -> Iterator[Comparison]:
    """One orchestrator, with more and more operations. The last two change what the others measure."""
    crowds = [Registered(number) for number in sizes.operations]
    yield _growing(sizes, ONE_OF_MANY, [each.contender(harness.calls(each.calls[0])) for each in crowds])
    yield _growing(sizes, BY_NAME, [_named(each, loop) for each in crowds])
    yield _in_turn(sizes, crowds)
    yield _new(sizes, crowds[-1])
    for title, change in ((LISTENED, _listener_comes_and_goes), (CHANGED, _strategy_changes)):
        yield _growing(sizes, title, [each.contender(harness.calls(change(each.kit)), reaches=0) for each in crowds], heavy=True)


def _growing(sizes: Sizes, title: str, contenders: Sequence[Contender], *, heavy: bool = False) -> Comparison:
    contest = Contest(title=title, contenders=tuple(contenders), unit="ns a change" if heavy else PER_CALL)
    least = contenders[0].name
    rows = {title: {least: least, **growth([KIT], sizes.operations, "operation")}}
    return Comparison(contest=contest, scale=sizes.heavy if heavy else sizes.time, rows=rows)


def _named(crowd: Registered, loop: Loop) -> Contender:
    callee = Callee(harness.steady_async)
    return crowd.contender(crowd.kit.executes(loop, callee.function), callee)


def _in_turn(sizes: Sizes, crowds: Sequence[Registered]) -> Comparison:
    numbers, names = sizes.operations, [BREAKER, KIT]
    contenders = [*map(_bare_in_turn, numbers), *(each.contender(harness.in_turn(each.calls)) for each in crowds)]
    return Comparison(
        contest=Contest(title=IN_TURN, contenders=tuple(contenders), step=math.lcm(*numbers), weight=4),
        scale=sizes.time,
        rows={IN_TURN: beside(names, numbers, "operation"), IN_TURN_GROW: growth(names, numbers, "operation")},
    )


def _bare_in_turn(number: int) -> Contender:
    callee = Callee(harness.steady)
    with own_monitor():
        calls = [BareBreaker(name=f"bare {place}")(callee.function) for place in range(number)]
    return _on_its_own(among(BREAKER, number, "operation"), callee, harness.in_turn(calls))


def _new(sizes: Sizes, crowd: Registered) -> Comparison:
    """Compare decorating under unused names: the first ones of an orchestrator, and after very many others."""
    first, last = f"{KIT}, the first ones", f"{KIT}, after {nanoseconds(crowd.number)} others"
    makes: dict[str, Callable[[], Decorator]] = {
        BREAKER: with_breaker,
        first: lambda: _registering(Kit()),
        last: lambda: _registering(crowd.kit),
    }
    callee = Callee(harness.steady)
    contenders = [_on_its_own(name, callee, _decorating(make, callee.function), reaches=0) for name, make in makes.items()]
    return Comparison(
        contest=Contest(title=NEW, contenders=tuple(contenders), unit="ns each"),
        scale=sizes.time,
        rows={NEW: {BREAKER: BREAKER, first: BREAKER, last: first}},
    )


def _registering(made: Kit) -> Decorator:
    config = options()

    def decorator(function: Plain) -> Plain:
        protected: Plain = made.protects(config)(function)
        return protected

    return decorator


def _decorating(make: Callable[[], Decorator], function: Plain) -> Measure:
    def measure(number: int) -> int:
        decorator = make()
        began = perf_counter_ns()
        for _ in range(number):
            decorator(function)
        return perf_counter_ns() - began

    return measure


def _listener_comes_and_goes(made: Kit) -> Plain:
    add = made.resilience.add_listener
    return lambda _: add(deaf, CallFailed)()


def _strategy_changes(made: Kit) -> Plain:
    name, change = made.resilience.operations[0], made.resilience.set_strategy
    return lambda _: change(name, "balanced")


# --- listeners -----------------------------------------------------------------------------------------------------------------

HEARD_SUCCESS, HEARD_RETRY = "listeners: success, sync", "listeners: fails once, sync"
HEARD_CHANGE = "listeners: a circuit opens and closes"

Audience = tuple[int, type[Event]]


def deaf(_: Event) -> None:
    """Receive an event and do nothing."""


def hearing(number: int, kind: type[Event]) -> str:
    """Return the name of a contender with such listeners."""
    return f"{KIT}, {nanoseconds(number) if number else 'no'} listener{'s'[: number != 1]} to {kind.__name__}"


def listened(number: int, kind: type[Event]) -> Kit:
    """One with so many listeners to events of a kind."""
    made = Kit()
    for _ in range(number):
        made.resilience.add_listener(deaf, kind)
    return made


def listeners(sizes: Sizes, _: Loop) -> Iterator[Comparison]:
    """One orchestrator, with more and more listeners."""
    most = sizes.listeners[-1]
    success, retry, change = (
        [(number, kind) for number in (0, *sizes.listeners)] for kind in (CallSucceeded, RetryScheduled, StateChanged)
    )
    once = Work(title=HEARD_SUCCESS, against="", callee=harness.steady, way=harness.calls)
    twice = Work(title=HEARD_RETRY, against="", callee=harness.flaky, way=harness.calls, reaches=2)
    never = Work(title=HEARD_CHANGE, against="", callee=harness.steady, way=harness.calls, reaches=0)
    yield _heard(sizes, once, [*success, (most, StateChanged), (most, CallFailed)], protecting)
    yield _heard(sizes, twice, retry, protecting)
    yield _heard(sizes, never, change, changing)


def _heard(sizes: Sizes, work: Work, audiences: Sequence[Audience], call: Callable[[Kit], Decorator]) -> Comparison:
    contest = work.by({hearing(*each): call(listened(*each)) for each in audiences})
    rows = {work.title: {each.name: contest.contenders[0].name for each in contest.contenders}}
    return Comparison(contest=contest, scale=sizes.time, rows=rows)


def protecting(made: Kit) -> Decorator:
    return made.protects(options(NEVER))


def changing(made: Kit) -> Decorator:
    """Not a call, but two changes of state by hand."""
    breaker = made.resilience.get_circuit_breaker(made.name())

    def change(_: int) -> None:
        breaker.force_open("a benchmark")
        breaker.reset()

    return lambda _: change
