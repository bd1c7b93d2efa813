"""Functions that fail to a plan; each plan holds for all four kinds of functions."""

import inspect
import random
import threading
import traceback

import pytest

from resilience_kit.errors import ConfigurationError, RateLimitError, ServiceUnavailableError
from resilience_kit.testing import after, every_nth, fails_then_succeeds, seeded_rate, sequence


def plain(value):
    """A plain function."""
    return value


async def coroutine(value):
    """An async function."""
    return value


def generator(value):
    """A generator function."""
    yield value


async def async_generator(value):
    """An async generator function."""
    yield value


async def use(function, value):
    """Call a function of any kind and take what it gives."""
    result = function(value)
    if inspect.isasyncgen(result):
        return await anext(result)
    if inspect.isgenerator(result):
        return next(iter(result))
    return await result if inspect.isawaitable(result) else result


KINDS = [plain, coroutine, generator, async_generator]


async def pattern(function, calls):
    """One letter a call: the first of the error's name, or a dot."""
    seen = ""
    for number in range(calls):
        try:
            assert number == await use(function, number)
            seen += "."
        except Exception as error:
            seen += type(error).__name__[0]
    return seen


PLANS = [
    (lambda f: fails_then_succeeds(f, 2), "SS...."),
    (lambda f: fails_then_succeeds(f, 0), "......"),
    (lambda f: fails_then_succeeds(f, 1, KeyError), "K....."),
    (lambda f: every_nth(f, 2), ".S.S.S"),
    (lambda f: every_nth(f, 1, KeyError("x")), "KKKKKK"),
    (lambda f: after(f, 3), "...RRR"),
    (lambda f: after(f, 0, lambda: ValueError("made")), "VVVVVV"),
    (lambda f: seeded_rate(f, 0.0, seed=1), "......"),
    (lambda f: seeded_rate(f, 1.0, seed=1), "SSSSSS"),
    (lambda f: sequence(f, [KeyError, None, ValueError("x")]), "K.V..."),
    (lambda f: sequence(f, []), "......"),
    (lambda f: every_nth(fails_then_succeeds(f, 2, KeyError), 4), "KK.S.."),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("plan", "expected"), PLANS)
async def test_a_plan_fails_the_calls_it_names(kind, plan, expected):
    """The calls that fail, for every kind of function; each call is counted."""
    function = plan(kind)
    assert 0 == function.calls
    assert expected == await pattern(function, 6)
    assert 6 == function.calls


@pytest.mark.parametrize("kind", KINDS)
def test_the_function_keeps_its_kind_and_name(kind):
    """Whoever asks what it is gets the original's answer."""
    function = fails_then_succeeds(kind, 1)
    tests = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    assert [test(kind) for test in tests] == [test(function) for test in tests]
    assert (kind.__name__, kind.__doc__) == (function.__name__, function.__doc__)


def test_the_original_is_not_called_where_the_plan_says_fail():
    """A failed call has no effect."""
    seen = []
    function = fails_then_succeeds(seen.append, 1)
    with pytest.raises(ServiceUnavailableError):
        function("lost")
    function("kept")
    assert ["kept"] == seen


def test_an_error_given_as_instance_is_raised_itself_with_a_fresh_traceback():
    """Its traceback does not grow from call to call."""
    planned = RateLimitError("slow down", retry_after=3.0)
    function = fails_then_succeeds(plain, 3, planned)
    lengths = []
    for _ in range(3):
        with pytest.raises(RateLimitError) as caught:
            function(1)
        assert planned is caught.value
        lengths.append(len(traceback.extract_tb(planned.__traceback__)))
    assert 1 == len(set(lengths))


async def test_a_seed_names_the_calls_that_fail():
    """The same seed fails the same calls; the share is about the rate."""
    first, again, other = [await pattern(seeded_rate(plain, 0.3, seed), 400) for seed in (7, 7, 8)]
    assert first == again != other
    draw = random.Random(7)
    assert "".join("S" if draw.random() < 0.3 else "." for _ in range(400)) == first


def test_many_threads_get_exactly_the_failures_that_are_planned():
    """No call is lost or counted twice."""
    function, failed = fails_then_succeeds(plain, 500), []

    def work():
        for _ in range(250):
            try:
                function(1)
            except ServiceUnavailableError:
                failed.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (500, 2000) == (len(failed), function.calls)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fails_then_succeeds(plain, -1), "failures.n: must be a whole number of at least 0, got -1"),
        (lambda: every_nth(plain, 0), "failures.n: must be a whole number of at least 1, got 0"),
        (lambda: after(plain, True), "failures.n: must be a whole number of at least 0, got True"),
        (lambda: seeded_rate(plain, 1.5, 1), "seeded_rate.rate: must be a finite number from 0 to 1, got 1.5"),
        (
            lambda: sequence(plain, [None, "late"]),
            "failures.error: must be an exception, its class, or a function that makes one, got 'late'",
        ),
    ],
)
def test_a_plan_that_makes_no_sense_is_a_sentence(make, sentence):
    """Refused when made, not when called."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert sentence == str(caught.value)
