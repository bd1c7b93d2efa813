"""What can be protected, and what it looks like afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading

import pytest

from resilience_kit import remaining_time
from resilience_kit.config import ResilienceConfig
from resilience_kit.errors import ConfigurationError, ServerError


def plain(a: int, b: int = 2) -> int:
    """Doc."""
    return a + b


async def coroutine(a: int, b: int = 2) -> int:
    """Doc."""
    return a + b


def generator(a: int, b: int = 2):
    """Doc."""
    yield a + b


async def async_generator(a: int, b: int = 2):
    """Doc."""
    yield a + b


KINDS = [plain, coroutine, generator, async_generator]


async def value(result):
    """What a call of any kind gives."""
    if inspect.isawaitable(result):
        return await result
    if inspect.isasyncgen(result):
        (item,) = [item async for item in result]
        return item
    return [*result][-1] if inspect.isgenerator(result) else result


@pytest.mark.parametrize("function", KINDS)
async def test_a_decorated_function_looks_like_itself(kit, function):
    """Name, docstring, signature and kind."""
    protected = kit.with_resilience("op")(function)
    for test in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        assert test(function) == test(protected)
    assert (function.__name__, "Doc.", function) == (protected.__name__, protected.__doc__, protected.__wrapped__)
    assert inspect.signature(function) == inspect.signature(protected)
    assert 7 == await value(protected(3, b=4))


class Service:
    """Methods of all sorts, and instances that can be called."""

    def __init__(self, kit=None):
        self.factor = 10

    def method(self, a):
        return a * self.factor

    async def async_method(self, a):
        return a * self.factor

    @classmethod
    def class_method(cls, a):
        return (cls.__name__, a)

    def __call__(self, a):
        return a * self.factor


class AsyncService:
    """An instance that can be awaited when called."""

    async def __call__(self, a):
        return a * 10


async def test_methods_callables_and_partials(kit):
    """Whatever can be called."""
    protect = kit.with_resilience("op")

    class Mine(Service):
        method = protect(Service.method)
        async_method = protect(Service.async_method)
        class_method = classmethod(protect(Service.class_method.__func__))

    mine = Mine()
    assert (30, 30, ("Mine", 3)) == (mine.method(3), await mine.async_method(3), Mine.class_method(3))
    assert (30, 30) == (protect(Service())(3), protect(Service().method)(3))
    assert 30 == await protect(AsyncService())(3)
    assert (7, 7) == (protect(functools.partial(plain, b=4))(3), await protect(functools.partial(coroutine, b=4))(3))
    assert 8 == kit.get_metrics("op")["successful_calls"]


@pytest.mark.parametrize("what", [None, 3, "text", Service, classmethod(plain), staticmethod(plain), property(plain)])
def test_what_is_no_function_cannot_be_decorated(kit, what):
    """A sentence, when decorating: a class would be one no more, and a static method would get its instance."""
    with pytest.raises(ConfigurationError, match="with_resilience: must decorate a function, not a"):
        kit.with_resilience("op")(what)


# --- execute and call ---


@pytest.mark.parametrize("function", KINDS)
async def test_execute_takes_every_kind(kit, function):
    """Plain and async functions, and generators of both kinds."""
    assert 7 == await value(await kit.execute_with_resilience(function, "op", 3, b=4))
    assert (1, 1) == (kit.get_metrics("op")["total_calls"], kit.get_metrics("op")["successful_calls"])


async def test_execute_takes_what_gives_an_awaitable(kit):
    """A lambda around a coroutine, a future, or an object of one's own."""

    class Own:
        def __await__(self):
            return iter(())

    assert 7 == await kit.execute_with_resilience(lambda: coroutine(5), "op")
    assert 7 == await kit.execute_with_resilience(lambda: asyncio.ensure_future(coroutine(5)), "op")
    assert None is await kit.execute_with_resilience(Own, "op")


@pytest.mark.parametrize("function", KINDS)
async def test_call_takes_every_kind(kit, function):
    """What has not done its work yet comes back as the same kind of thing, protected."""
    assert 7 == await value(kit.call_with_resilience(function, "op", 3, b=4))
    assert 1 == kit.get_metrics("op")["successful_calls"]


@pytest.mark.parametrize("deadline", [None, 5.0])
async def test_in_thread_has_a_copy_of_the_context(kit, deadline):
    """Another thread, the caller's variables, and what the kit tells the callee."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")

    def look():
        seen = threading.current_thread() is threading.main_thread(), variable.get(), remaining_time() is None
        variable.set("changed")
        return seen

    seen = await kit.execute_with_resilience(look, "op", in_thread=True, deadline=deadline)
    assert (False, "set", deadline is None) == seen
    assert "set" == variable.get()


async def test_in_thread_retries(kit, config):
    """Each attempt in a thread."""
    threads = []

    def fail():
        threads.append(threading.current_thread())
        raise ServerError

    retry = config().replace(retry=config().retry.__class__(base_delay=0))
    with pytest.raises(ServerError):
        await kit.execute_with_resilience(fail, "op", in_thread=True, custom_config=retry)
    assert (3, False) == (len(threads), threading.main_thread() in threads)


async def test_options_may_come_with_each_call(kit, config, clock):
    """Each call obeys its own, whether they are the last call's or not."""

    def fail():
        raise ServerError

    async def attempts(**options):
        before = len(clock.sleeps)
        for call in (kit.execute_with_resilience, kit.call_with_resilience):
            with pytest.raises(ServerError):
                result = call(fail, "op", **options)
                await result
        return (len(clock.sleeps) - before) // 2

    many, one = config(), config(retry=None)
    assert [2, 0, 0, 2] == [await attempts(custom_config=each) for each in (many, one, one, many)]
    assert [1, 6] == [await attempts(strategy=each, deadline=None) for each in ("aggressive", "critical")]
    assert [2, 0] == [await attempts(custom_config=many, deadline=each) for each in (9.0, 0.5)]
    settings = {"retry_attempts": 2, "circuit_breaker_threshold": 999}
    assert 1 == await attempts(custom_config=settings, deadline=None)
    settings["retry_attempts"] = 1
    assert 0 == await attempts(custom_config=settings, deadline=None)


async def test_a_success_by_execute_ends_a_row_of_failures(kit, config):
    """The breaker counts failures in a row, whoever calls."""
    custom = config(retry=None)
    for calls in (kit.execute_with_resilience, kit.call_with_resilience):
        with pytest.raises(ServerError):
            await value(calls(fail, "op", custom_config=custom))
        assert 1 == kit.get_circuit_breaker("op").failure_count
        assert 7 == await value(calls(plain, "op", 5, custom_config=custom))
        assert 0 == kit.get_circuit_breaker("op").failure_count


# --- the fallback ---


def fail(*_args):
    """Always."""
    raise ServerError


async def fail_async(*_args):
    """Always."""
    raise ServerError


def instead(*args):
    """Answer with the call's arguments."""
    return ("instead", *args)


async def instead_async(*args):
    """The same."""
    return ("instead", *args)


async def test_a_fallback_answers_with_the_calls_own_arguments(kit, config):
    """Plain for plain, plain or async for async; a failed call that its fallback answered."""
    protect = functools.partial(kit.with_resilience, "op", None, config(retry=None))
    assert ("instead", 1, 2) == protect(instead)(fail)(1, 2)
    assert ("instead", 1, 2) == await protect(instead)(fail_async)(1, 2)
    assert ("instead", 1, 2) == await protect(instead_async)(fail_async)(1, 2)
    assert ("instead", 1) == kit.call_with_resilience(fail, "op", 1, fallback=instead, custom_config=config(retry=None))
    for f in (fail, fail_async):
        for other in (instead, instead_async):
            given = await kit.execute_with_resilience(f, "op", 1, fallback=other, custom_config=config(retry=None))
            assert ("instead", 1) == given
    numbers = kit.get_metrics("op")
    assert (8, 8, 8, 0.0) == tuple(numbers[name] for name in ("total_calls", "failed_calls", "fallback_calls", "success_rate"))


async def test_a_fallback_answers_refusals(kit, config):
    """A refused call that its fallback answered counts under failed_calls and fallback_calls; the breaker counts the refusal."""
    kit.get_circuit_breaker("op").force_open("test")
    protect = kit.with_resilience("op", custom_config=config(), fallback=instead)
    assert (("instead",), ("instead",)) == (protect(fail)(), await protect(fail_async)())
    numbers = kit.get_metrics("op")
    assert (2, 0, 2, 2) == tuple(numbers[name] for name in ("total_calls", "rejected_calls", "failed_calls", "fallback_calls"))
    assert 2 == kit.get_circuit_breaker("op").metrics["rejected_count"]


async def test_a_fallback_does_not_hide_the_callers_mistake(kit, config):
    """A request that is wrong in itself is told (a faked success would hide it)."""
    from resilience_kit.errors import InvalidRequestError

    def wrong():
        raise InvalidRequestError("no such parameter")

    async def wrong_async():
        wrong()

    protect = kit.with_resilience("op", custom_config=config(), fallback=instead)
    with pytest.raises(InvalidRequestError):
        protect(wrong)()
    with pytest.raises(InvalidRequestError):
        await protect(wrong_async)()
    assert 0 == kit.get_metrics("op")["fallback_calls"]


async def test_a_fallback_that_fails_has_the_last_word(kit, config):
    """With the first error as its context; it is no answer, so it is not counted as one."""

    def broken(*_args):
        raise KeyError("fallback")

    protect = kit.with_resilience("op", custom_config=config(retry=None), fallback=broken)
    for call in (protect(fail), protect(fail_async)):
        with pytest.raises(KeyError) as caught:
            await value(call())
        assert isinstance(caught.value.__context__, ServerError)
    assert 0 == kit.get_metrics("op")["fallback_calls"]


async def test_a_fallback_is_not_asked_for_a_cancellation(kit, config):
    """Nobody waits for an answer."""

    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await kit.with_resilience("op", custom_config=config(), fallback=instead)(cancelled)()


@pytest.mark.parametrize(
    ("function", "fallback", "sentence"),
    [
        (plain, coroutine, "must be a function, as what it stands in for; this is an async function"),
        (generator, plain, "must be a generator function, as what it stands in for; this is a function"),
        (
            async_generator,
            generator,
            "must be an async generator function, as what it stands in for; this is a generator function",
        ),
        (
            coroutine,
            generator,
            "must be an async function or a plain one, as what it stands in for; this is a generator function",
        ),
    ],
)
async def test_a_fallback_of_the_wrong_kind_is_refused(kit, function, fallback, sentence):
    """When decorating, and by call and execute, before anything is called."""
    with pytest.raises(ConfigurationError, match=sentence):
        kit.with_resilience("op", fallback=fallback)(function)
    with pytest.raises(ConfigurationError, match=sentence):
        kit.call_with_resilience(function, "op", 1, fallback=fallback)
    if function is not plain:  # which execute takes for an async one
        with pytest.raises(ConfigurationError, match=sentence):
            await kit.execute_with_resilience(function, "op", 1, fallback=fallback)


async def test_events_of_a_fallback(kit, config):
    """The error's type, not its words."""
    from resilience_kit.events import FallbackUsed

    heard = []
    kit.add_listener(heard.append, FallbackUsed)
    kit.with_resilience("op", custom_config=config(retry=None), fallback=instead)(fail)()
    assert [FallbackUsed(operation="op", error_type="ServerError")] == heard


class Request:
    """Something to await that is no coroutine, as some clients give."""

    def __await__(self):
        raise ConnectionError
        yield


@pytest.mark.parametrize("deadline", [None, 5.0], ids=["direct", "timed"])
@pytest.mark.parametrize("custom", [{}, {"fallback": lambda: 0}], ids=["light", "full"])
async def test_an_awaitable_of_any_class_is_counted_when_awaited(kit, deadline, custom):
    """Not as a success when it is made (invariant 16)."""
    config = ResilienceConfig(retry=None)
    answer = kit.with_resilience("op", custom_config=config, deadline=deadline, **custom)(functools.partial(Request))()
    with contextlib.suppress(ConnectionError):
        await answer
    assert (0, 1) == (kit.get_metrics("op")["successful_calls"], kit.get_metrics("op")["failed_calls"])
