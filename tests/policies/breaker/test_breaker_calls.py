"""The ways of calling through a breaker, and the kinds of things that are called."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections.abc import Generator
from types import coroutine
from unittest.mock import AsyncMock

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.guards import Guard, Permit
from resilience_kit.outcome import FailureKind, Outcome, OutcomeKind, Verdict
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState, wrap


async def double(number: int) -> int:
    """Twice a number, after a turn of the loop."""
    await asyncio.sleep(0)
    return 2 * number


class AsyncCallable:
    """An object whose call is async."""

    async def __call__(self, number: int) -> int:
        return await double(number)

    async def method(self, number: int) -> int:
        return await double(number)


class Eventually:
    """Something to await that is neither a coroutine nor a future."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __await__(self) -> Generator[None, None, int]:
        yield from asyncio.sleep(0).__await__()
        if self.number < 0:
            raise ValueError
        return 2 * self.number


@coroutine
def old_style(number: int) -> Generator[None, None, int]:
    """A coroutine made of a generator."""
    yield
    return 2 * number


def futures(number: int) -> asyncio.Future[list[int]]:
    """What `gather` gives is a class of its own."""
    return asyncio.gather(double(number), double(number))


ASYNC_KINDS = {
    "function": double,
    "object": AsyncCallable(),
    "method": AsyncCallable().method,
    "partial": functools.partial(double),
    "partial of an object": functools.partial(AsyncCallable()),
    "mock": AsyncMock(return_value=42),
    "plain, gives a coroutine": lambda number: double(number),  # noqa: PLW0108 - it has to be a plain function
    "plain, gives a task": lambda number: asyncio.ensure_future(double(number)),
    "plain, gives an awaitable": Eventually,
    "plain, gives an old coroutine": lambda number: old_style(number),  # noqa: PLW0108 - it has to be a plain function
}


def successes(breaker):
    """How many calls ended well."""
    return breaker.metrics["success_count"]


# --- async ---


@pytest.mark.parametrize("kind", ASYNC_KINDS)
async def test_every_kind_of_async_callable_is_judged_by_its_end(lab, kind):
    """Called or decorated, nothing counts before the work is done (invariant 16)."""
    breaker = lab.breaker(name=None)
    function = ASYNC_KINDS[kind]
    for call in (functools.partial(breaker.call, function), breaker.decorate(function)):
        before = successes(breaker)
        made = call(21)
        assert before == successes(breaker)
        assert 42 == await made
        assert before + 1 == successes(breaker)
    assert 42 == await breaker.execute(function, 21)
    assert 3 == successes(breaker)


@pytest.mark.parametrize("kind", ["function", "object", "method", "partial", "partial of an object"])
def test_async_callables_stay_async_functions(lab, kind):
    """What is decorated is seen to be async by others."""
    assert inspect.iscoroutinefunction(lab.breaker()(ASYNC_KINDS[kind]))


@pytest.mark.parametrize("made", [
    lambda fail: fail(),
    lambda fail: asyncio.ensure_future(fail()),
    lambda fail: asyncio.gather(fail()),
    lambda fail: Eventually(-1),
])  # fmt: skip
async def test_what_fails_while_awaited_counts(lab, made):
    """An awaitable given by a plain function trips the breaker by its own failures (invariant 16)."""

    async def fail():
        await asyncio.sleep(0)
        raise ValueError

    breaker = lab.breaker()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^$"):
            await breaker.call(made, fail)
    assert (CircuitState.OPEN, 0) == (breaker.state, successes(breaker))


async def test_a_task_stays_itself_and_keeps_the_trial(lab):
    """Its work is under way: it comes back as it is, the trial is taken until it ends, cancelled or not (invariants 1, 3, 16)."""
    breaker = lab.half_open()
    task = asyncio.ensure_future(asyncio.sleep(60, "never"))
    assert task is breaker.call(lambda: task)
    assert (1, True) == (breaker.trials_in_flight, lab.refuses(breaker))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)
    assert "soon" == await breaker.call(lambda: asyncio.ensure_future(asyncio.sleep(0, "soon")))
    assert breaker.closed


async def test_a_coroutine_made_while_closed_and_awaited_while_open_is_refused(lab):
    """The stand-in asks when the work begins, and leaves no coroutine behind that nobody awaited."""
    breaker = lab.breaker()
    waiting = [breaker.call(lambda: double(1)), breaker.call(Eventually, 1)]
    lab.fail(breaker, 2)
    for stand_in in waiting:
        with pytest.raises(CircuitBreakerOpenError):
            await stand_in
    assert 0 == successes(breaker)


async def test_execute_takes_both_kinds(lab):
    """A plain function runs at once in the loop's thread, an async one is awaited."""
    breaker = lab.breaker()
    assert 3 == await breaker.execute(int, "3")
    assert 6 == await breaker.execute(double, 3)
    assert 2 == successes(breaker)
    lab.fail(breaker, 2)
    for function in (int, double):
        with pytest.raises(CircuitBreakerOpenError):
            await breaker.execute(function, 3)


async def test_call_async_is_refused_when_awaited(lab):
    """Admission is asked for when the call begins."""
    breaker = lab.open()
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call_async(double, 1)


# --- arguments and results ---


def everything(*args, **kwargs):
    """What it was called with."""
    return args, kwargs


async def everything_async(*args, **kwargs):
    """What it was called with."""
    return args, kwargs


def everything_yielded(*args, **kwargs):
    """What it was called with."""
    yield args, kwargs


async def everything_yielded_async(*args, **kwargs):
    """What it was called with."""
    yield args, kwargs


async def test_arguments_of_both_kinds_arrive(lab):
    """By position and by name, whichever way the call is made."""
    breaker = lab.breaker()
    token = breaker.acquire()
    arrived = [
        breaker.call(everything, 1, 2, three=3),
        wrap.run(breaker, token, everything, 1, 2, three=3),
        await breaker.call_async(everything_async, 1, 2, three=3),
        await wrap.run_async(breaker, token, everything_async, 1, 2, three=3),
        await breaker.execute(everything, 1, 2, three=3),
        await breaker.execute(everything_async, 1, 2, three=3),
        *breaker.call_generator(everything_yielded, 1, 2, three=3),
        *[item async for item in breaker.call_async_generator(everything_yielded_async, 1, 2, three=3)],
        breaker(everything)(1, 2, three=3),
        await breaker(everything_async)(1, 2, three=3),
        *breaker(everything_yielded)(1, 2, three=3),
        *[item async for item in breaker(everything_yielded_async)(1, 2, three=3)],
    ]
    assert [((1, 2), {"three": 3})] * 12 == arrived


def test_any_object_comes_back_as_it_is(lab):
    """Also one of a class that the breaker has never heard of: it is neither awaited nor iterated."""
    breaker, thing = lab.breaker(), object()
    assert (thing, 1) == (breaker.call(lambda: thing), successes(breaker))


# --- plain ---


def test_a_decorated_function_keeps_its_face(lab):
    """Name, docstring and signature are the function's own, and so is the breaker's name when it has none."""
    breaker = lab.breaker(name=None)

    def add(left: int, right: int = 1) -> int:
        """Add."""
        return left + right

    wrapped = breaker(add)
    assert ("add", "Add.", inspect.signature(add), 3) == (
        wrapped.__name__,
        wrapped.__doc__,
        inspect.signature(wrapped),
        wrapped(2),
    )
    assert add.__qualname__ == breaker.name
    breaker(double)
    assert add.__qualname__ == breaker.name
    nameless = lab.breaker(name=None)
    nameless(functools.partial(add))
    assert "partial" == nameless.name


@pytest.mark.parametrize("kind", ["everything_async", "everything_yielded", "everything_yielded_async"])
def test_functions_of_the_other_kinds_keep_theirs(lab, kind):
    """Each stays what it is, under its own name."""
    function = globals()[kind]
    wrapped = lab.breaker()(function)
    assert (kind, "What it was called with.", function) == (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__)
    tests = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    assert [test(function) for test in tests] == [test(wrapped) for test in tests]


def test_methods_can_be_decorated(lab):
    """A decorated method is bound as ever."""
    breaker = lab.breaker()

    class Service:
        @breaker
        def ask(self, what):
            return self, what

    service = Service()
    assert (service, 1) == service.ask(1)


def test_a_generator_given_by_a_plain_function_is_watched(lab):
    """It is no success at creation, and fails where it is iterated (invariant 16)."""
    breaker = lab.breaker()

    def numbers(fails):
        yield 1
        if fails:
            raise ValueError

    stream = breaker.call(lambda: numbers(fails=False))
    assert 0 == successes(breaker)
    assert ([1], 1) == (list(stream), successes(breaker))
    with pytest.raises(ValueError, match=r"^$"):
        list(breaker.call(lambda: numbers(fails=True)))
    assert 1 == breaker.failure_count


async def test_an_async_generator_given_by_a_plain_function_is_watched(lab):
    """As a plain one (invariant 16)."""
    breaker = lab.breaker()

    async def numbers():
        yield 1

    stream = breaker.call(lambda: numbers())  # noqa: PLW0108 - it has to be a plain function
    assert 0 == successes(breaker)
    assert ([1], 1) == ([item async for item in stream], successes(breaker))


def test_a_fallback_answers_while_open(lab):
    """It gets the call's own arguments, only while the circuit refuses, and only for decorated functions."""
    breaker = lab.breaker(fallback_function=lambda *args, **kwargs: (args, kwargs))
    wrapped = breaker(divmod)
    assert (2, 1) == wrapped(5, 2)
    lab.fail(breaker, 2)
    assert ((5,), {"b": 2}) == wrapped(5, b=2)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.call(divmod, 5, 2)


def test_a_fallback_that_a_subclass_overrides_is_called():
    """A subclass may define `fallback_function` as a method instead of passing one."""

    class WithFallback(CircuitBreaker):
        def fallback_function(self, number):
            return -number

    breaker = WithFallback(name="overridden fallback")
    breaker.force_open("by hand")

    assert -7 == breaker(abs)(7)


async def test_an_async_fallback_is_awaited(lab):
    """A plain fallback of an async function does as well; both get the call's own arguments."""
    assert ((7,), {"by": 8}) == await lab.open(fallback_function=everything_async)(double)(7, by=8)
    assert 14 == await lab.open(fallback_function=double)(AsyncCallable())(7)
    assert -7 == await lab.open(fallback_function=lambda number: -number)(double)(7)


# --- with ---


def test_a_block_is_a_call(lab):
    """`with` asks at its start and reports at its end."""
    breaker = lab.breaker()
    with breaker as entered:
        assert breaker is entered
    assert 1 == successes(breaker)
    for _ in range(2):
        with pytest.raises(lab.Boom), breaker:
            raise lab.Boom
    assert CircuitState.OPEN is breaker.state
    with pytest.raises(CircuitBreakerOpenError), breaker:
        raise AssertionError("the block ran")
    lab.clock.now += 10
    with pytest.raises(KeyboardInterrupt), breaker:
        assert 1 == breaker.trials_in_flight
        raise KeyboardInterrupt
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)


def test_blocks_can_be_nested(lab):
    """In themselves and in others, each with its own end."""
    outer, inner = lab.breaker(failure_threshold=9), lab.breaker(failure_threshold=9)
    with outer, inner, outer:
        pass
    with pytest.raises(lab.Boom), outer, inner:
        with pytest.raises(ValueError, match=r"^$"), outer:
            raise ValueError
        raise lab.Boom
    assert (2, 2) == (successes(outer), outer.metrics["failure_count"])
    assert (1, 1) == (successes(inner), inner.metrics["failure_count"])


@pytest.mark.parametrize("error", [None, asyncio.CancelledError])
def test_nested_blocks_are_one_trial_and_give_it_back_once(lab, error):
    """The inner block runs under the trial of the outer one, also where there would be a second."""
    breaker = lab.half_open(half_open_max_calls=2, success_threshold=3)
    with contextlib.suppress(asyncio.CancelledError), breaker, breaker:
        assert 1 == breaker.trials_in_flight
        if error:
            raise error
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)


def test_blocks_may_end_in_another_order(lab):
    """A block left open by a generator ends inside another's: both ends reach their breakers."""
    first, second = lab.half_open(), lab.half_open()

    def block():
        with first:
            yield

    held = block()
    next(held)
    with second:
        assert [] == list(held)
        assert (True, False) == (first.closed, second.closed)
    assert second.closed


async def test_blocks_of_tasks_do_not_mix(lab):
    """Tasks that enter and leave in any order, also inside a block of their parent, report their own ends (invariant 3)."""
    breaker = lab.breaker(failure_threshold=1000)

    async def work(number):
        async with breaker:
            await asyncio.sleep(0)
            if number % 2:
                raise lab.Boom
            await asyncio.sleep(0)

    async with breaker:
        await asyncio.gather(*(work(number) for number in range(100)), return_exceptions=True)
    assert (51, 50) == (successes(breaker), breaker.metrics["failure_count"])
    trial = lab.half_open()
    async with trial:
        assert [2] == await asyncio.gather(asyncio.create_task(trial.call_async(double, 1)))  # under the block's own trial
        assert not trial.closed
    assert trial.closed


def test_a_block_left_in_another_context_says_nothing(lab):
    """Its end cannot be told from others': the lease of its trial ends by itself (invariant 6)."""
    breaker = lab.half_open(trial_lease=5.0)
    breaker.__enter__()
    contextvars.Context().run(breaker.__exit__, None, None, None)
    assert (CircuitState.HALF_OPEN, 1) == (breaker.state, breaker.trials_in_flight)
    lab.clock.now += 5
    assert breaker.fits()


# --- as a guard ---


def test_a_breaker_is_a_guard(lab):
    """It gives permits that cost no wait and are settled by outcome."""
    breaker = lab.breaker()
    permit = breaker.admit()
    assert (True, True, 0.0, True) == (isinstance(breaker, Guard), isinstance(permit, Permit), permit.wait, breaker.fits())
    permit.settle(Outcome(OutcomeKind.SUCCESS))
    breaker.admit(5.0).settle(Outcome(OutcomeKind.FAILURE, error=lab.Boom()))
    breaker.admit().settle(Outcome(OutcomeKind.IGNORED, error=lab.Boom()))
    breaker.admit().settle(Outcome(OutcomeKind.CANCELLED))
    assert (1, 1) == (successes(breaker), breaker.failure_count)
    hint = Verdict(FailureKind.OVERLOADED, retryable=True, counts_against_breaker=True, retry_after=99.0)
    breaker.admit().settle(Outcome(OutcomeKind.FAILURE, verdict=hint, error=lab.Boom()))
    assert 99.0 == breaker.open_remaining
    with pytest.raises(CircuitBreakerOpenError):
        breaker.admit()


@pytest.mark.parametrize("kind", [OutcomeKind.IGNORED, OutcomeKind.CANCELLED])
def test_a_permit_without_a_word_frees_the_trial(lab, kind):
    """Ignored and cancelled attempts give it back (invariants 3, 13)."""
    breaker = lab.half_open()
    permit = breaker.admit()
    assert not breaker.fits()
    permit.settle(Outcome(kind))
    assert (True, CircuitState.HALF_OPEN) == (breaker.fits(), breaker.state)


def test_a_closed_breaker_admits_without_reading_the_clock(lab):
    """The closed path asks nobody (semantics: the fast path)."""

    def no_clock():
        raise AssertionError("the clock was read")

    breaker = lab.breaker(clock=no_clock)
    token = breaker.acquire()
    assert (False, False, token) == (token.needs_admission, token.tracks_success, breaker.snapshot)
    assert breaker.fits()
