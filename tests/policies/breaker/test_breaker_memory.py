"""What a breaker keeps alive, and what it leaves to the garbage collector: nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from resilience_kit.errors import CircuitBreakerOpenError, InvalidRequestError
from resilience_kit.policies.breaker import CircuitBreaker


class Local:
    """Something in a caller's frame."""


# --- the last failure ---


def watched_failure(breaker: CircuitBreaker, make: Callable[[], BaseException]) -> weakref.ref[Local]:
    """Let a call fail, and tell a local of the failing frame."""
    refs: list[weakref.ref[Local]] = []

    def fail() -> None:
        local = Local()
        refs.append(weakref.ref(local))
        raise make()

    with pytest.raises(Exception):  # noqa: B017
        breaker.call(fail)
    return refs[0]


def nested() -> BaseException:
    """An error whose argument is an error with a traceback, as requests makes them."""
    local = Local()
    try:
        raise ValueError(local.__class__.__name__)
    except ValueError as error:
        return ConnectionError(error, "while talking")


def grouped() -> BaseException:
    """A group of errors with tracebacks."""
    return ExceptionGroup("both", [nested(), ExceptionGroup("inner", [nested()])])  # type: ignore[list-item]


def attributed() -> BaseException:
    """An error that holds another in an attribute."""
    error = ValueError("x")
    error.original = nested()  # type: ignore[attr-defined]
    error.status = 503  # type: ignore[attr-defined]
    try:
        return error
    finally:
        del error  # the frame of `nested` knows this one


@pytest.mark.parametrize("make", [lambda: ValueError("x"), nested, grouped, attributed, lambda: InvalidRequestError("x")])
def test_the_last_failure_keeps_no_frame_alive(lab, make):
    """A local of the frame that failed dies with it, also when the error is held by another (semantics: breaker)."""
    gc.disable()
    try:
        breaker = lab.breaker()
        local = watched_failure(breaker, make)
        assert local() is None
        assert (type(make()), str(make())) == (type(breaker.last_failure), str(breaker.last_failure))
        assert_no_frames(breaker.last_failure)
    finally:
        gc.enable()


def assert_no_frames(error: object) -> None:
    """Nothing in an error has a traceback."""
    assert isinstance(error, BaseException)
    assert (None, None, None) == (error.__traceback__, error.__cause__, error.__context__)
    inner = [*error.args, *vars(error).values(), *getattr(error, "exceptions", ())]
    for value in inner:
        for entry in value if isinstance(value, list | tuple) else [value]:
            if isinstance(entry, BaseException):
                assert_no_frames(entry)


def test_attributes_stay(lab):
    """What an error tells beside its text can still be read."""
    breaker = lab.breaker()
    watched_failure(breaker, attributed)
    failure = breaker.last_failure
    assert (503, "('Local',)") == (failure.status, str(failure.original.args[0].args))


def test_an_error_that_cannot_be_copied_leaves_its_name(lab):
    """An error class may do anything in its `__new__`; a circle of errors ends somewhere."""

    class Stubborn(Exception):
        def __new__(cls, *, code):
            return super().__new__(cls)

        def __init__(self, *, code):
            super().__init__()

    circle = ValueError()
    circle.args = (circle, circle)
    breaker = lab.breaker(failure_threshold=9)
    watched_failure(breaker, lambda: Stubborn(code=1))
    assert (Exception, "Stubborn") == (type(breaker.last_failure), str(breaker.last_failure))
    watched_failure(breaker, lambda: circle)
    assert ValueError is type(breaker.last_failure)


def test_errors_in_errors_are_copied_to_a_depth_of_three(lab):
    """What is deeper leaves the name of its class."""
    breaker = lab.breaker()
    watched_failure(breaker, lambda: ValueError(KeyError(IndexError(OSError("deep")))))
    assert "ValueError(KeyError(IndexError(Exception('OSError'))))" == repr(breaker.last_failure)


def test_the_last_failure_goes_with_the_next_success(lab):
    """As in the library; a breaker that never failed has none."""
    breaker = lab.breaker()
    assert breaker.last_failure is None
    lab.fail(breaker)
    assert lab.Boom is type(breaker.last_failure)
    breaker.call(int)
    assert breaker.last_failure is None


# --- the collector ---


class Scene:
    """Every way in, and every end."""

    def __init__(self, lab) -> None:
        self.lab = lab
        self.breaker = lab.breaker(failure_threshold=10**9)

    def plain(self, fails: bool) -> int:
        if fails:
            raise self.lab.Boom
        return 1

    async def asynchronous(self, fails: bool) -> int:
        await asyncio.sleep(0)
        return self.plain(fails)

    def items(self, fails: bool) -> Iterator[int]:
        yield 1
        yield self.plain(fails)

    async def async_items(self, fails: bool) -> AsyncIterator[int]:
        yield 1
        yield self.plain(fails)

    def ways(self, breaker: CircuitBreaker) -> list[Callable[[bool], object]]:
        plain, items = breaker(self.plain), breaker(self.items)

        def block(fails: bool) -> None:
            with breaker:
                self.plain(fails)

        return [
            plain, block, lambda fails: list(items(fails)), lambda fails: list(breaker.call(lambda: self.items(fails))),
        ]  # fmt: skip

    def async_ways(self, breaker: CircuitBreaker) -> list[Callable[[bool], object]]:
        asynchronous, async_items = breaker(self.asynchronous), breaker(self.async_items)

        async def stream(fails: bool) -> list[int]:
            return [item async for item in async_items(fails)]

        async def thrown(fails: bool) -> None:
            items = async_items(False)
            await anext(items)
            if fails:
                await items.athrow(self.lab.Boom())
            await items.aclose()

        return [
            asynchronous, stream, thrown, lambda fails: breaker.call(lambda: self.asynchronous(fails)),
            lambda fails: breaker.execute(self.plain, fails),
            lambda fails: breaker.call(asyncio.ensure_future, self.asynchronous(fails)),
        ]  # fmt: skip


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is left is what the collector would have found."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def outcome(call: Callable[[], object]) -> str:
    """How a call ended."""
    try:
        call()
    except CircuitBreakerOpenError:
        return "refused"
    except Exception as error:
        return type(error).__name__
    return "ok"


@pytest.mark.parametrize("end", ["ok", "Boom", "refused"])
def test_plain_calls_leave_no_circles(lab, no_collector, end):
    """Success, failure and refusal are freed by counting references alone."""
    scene = Scene(lab)
    ways = scene.ways(scene.breaker)
    if end == "refused":
        scene.breaker.force_open("x")
    gc.collect()
    ends = [outcome(lambda way=way: way(end == "Boom")) for way in ways for _ in range(3)]
    assert 0 == gc.collect()
    assert {end} == set(ends)


async def async_outcome(way: Callable[[bool], object], fails: bool) -> str:
    """How an async call ended."""
    try:
        await way(fails)
    except CircuitBreakerOpenError:
        return "refused"
    except Exception as error:
        return type(error).__name__
    return "ok"


@pytest.mark.parametrize("end", ["ok", "Boom", "refused"])
async def test_async_calls_leave_no_circles(lab, no_collector, end):
    """As for plain ones."""
    scene = Scene(lab)
    ways = scene.async_ways(scene.breaker)
    if end == "refused":
        scene.breaker.force_open("x")
        ways = ways[:3]
    await async_outcome(ways[0], False)
    gc.collect()
    ends = [await async_outcome(way, end == "Boom") for way in ways for _ in range(3)]
    assert 0 == gc.collect()
    assert {end} == set(ends)


def test_trials_leave_no_circles(lab, no_collector):
    """Good, bad, neutral, lost and refused trials, and the breakers themselves."""
    breaker = lab.half_open(half_open_max_calls=2)
    gc.collect()
    for _ in range(3):
        lost, refused = breaker.acquire(), None
        breaker.release(breaker.acquire())
        trial = breaker.acquire()
        refused = outcome(breaker.acquire)
        assert "refused" == refused
        breaker.on_failure(trial, lab.Boom())
        del trial, lost
        lab.clock.now += 10
    breaker.call(int)
    assert 0 == gc.collect()
    gone = weakref.ref(breaker)
    del breaker
    assert gone() is None
    assert 0 == gc.collect()
