"""A breaker used inside itself: what is called within a half-open call runs under its trial; refusals are no failures."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import circuitbreaker
import pytest

from resilience_kit.errors import (
    APIConnectionError,
    BulkheadFullError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
    FallbackExhaustedError,
    RateLimitExceededError,
    Rejected,
    ServerError,
    is_rejection,
)
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState


async def finished(result):
    """The value, or the last item, of whatever a call gave."""
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        return [item async for item in result][-1]
    return list(result)[-1] if inspect.isgenerator(result) else result


def nested(breaker, kind, work):
    """An outer function of one kind around an inner plain one, both behind the breaker."""
    inner = breaker(work)

    def plain():
        return inner()

    async def coroutine():
        await asyncio.sleep(0)
        return inner()

    def generator():
        yield "first"
        yield inner()

    async def async_generator():
        yield "first"
        await asyncio.sleep(0)
        yield inner()

    def block():
        with breaker:
            return inner()

    async def async_block():
        async with breaker:
            await asyncio.sleep(0)
            return inner()

    def in_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, inner).result()

    async def in_task():
        async def child():
            return inner()

        return await asyncio.ensure_future(child())

    def awaited():
        return asyncio.ensure_future(coroutine())

    async def async_inner():
        return inner()

    return {
        "plain": breaker(plain),
        "async": breaker(coroutine),
        "generator": breaker(generator),
        "async generator": breaker(async_generator),
        "block": block,
        "async block": async_block,
        "thread": breaker(in_thread),
        "task": breaker(in_task),
        "future": breaker(awaited),
        "call": lambda: breaker.call(inner),
        "call_async": lambda: breaker.call_async(async_inner),
        "execute": lambda: breaker.execute(inner),
        "call_generator": lambda: breaker.call_generator(generator),
        "call_async_generator": lambda: breaker.call_async_generator(async_generator),
    }[kind]


KINDS = (
    "plain", "async", "generator", "async generator", "block", "async block", "thread", "task", "future", "call", "call_async",
    "execute", "call_generator", "call_async_generator",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_breaker_inside_itself_closes_after_a_good_trial(lab, kind):
    """The trial of the outer call is not refused by itself (invariant 20)."""
    breaker = lab.half_open()
    outer = nested(breaker, kind, lambda: "done")
    assert "done" == await finished(outer())
    assert ["open", "half_open", "closed"] == lab.path(breaker)


@pytest.mark.parametrize("kind", KINDS)
async def test_failure_within_a_trial_fails_it(lab, kind):
    """The circuit opens once for the two ends of one trial."""
    breaker = lab.half_open()
    with pytest.raises(lab.Boom):
        await finished(nested(breaker, kind, lab.boom)())
    assert (CircuitState.OPEN, 2, 0) == (breaker.state, breaker.times_opened, breaker.trials_in_flight)


def test_nested_failure_fails_a_trial_whatever_the_outer_call_makes_of_it(lab):
    """A service that fails behind a caught error is still down."""
    breaker = lab.half_open()

    @breaker
    def outer():
        with contextlib.suppress(lab.Boom):
            breaker.call(lab.boom)
        return "caught"

    assert "caught" == outer()
    assert CircuitState.OPEN is breaker.state


def test_nested_success_alone_closes_nothing(lab):
    """The end of the call around decides, and its own failure counts."""
    breaker = lab.half_open()

    @breaker
    def outer():
        breaker.call(lambda: "good")
        assert (CircuitState.HALF_OPEN, 1) == (breaker.state, breaker.trials_in_flight)
        raise lab.Boom

    with pytest.raises(lab.Boom):
        outer()
    assert ["open", "half_open", "open"] == lab.path(breaker)


def test_nested_call_takes_no_trial_of_its_own_where_there_are_several(lab):
    """One call around is one trial, however many there may be, and is one success of those that close the circuit."""
    breaker = lab.half_open(half_open_max_calls=2, success_threshold=2)
    assert 1 == breaker.call(breaker.call, lambda: breaker.trials_in_flight)
    assert CircuitState.HALF_OPEN is breaker.state
    breaker.call(lambda: "good")
    assert breaker.closed


def test_nested_call_in_three_layers_runs_under_one_trial(lab):
    """However deep."""
    breaker = lab.half_open()
    assert 1 == breaker.call(breaker.call, breaker.call, lambda: breaker.trials_in_flight)
    assert breaker.closed


def test_two_breakers_around_each_other_know_their_own_trials(lab):
    """The trial of one is none of the other, and each finds its own through the other's."""
    first, second = lab.half_open(name="first"), lab.half_open(name="second")
    assert "done" == first.call(second.call, first.call, second.call, lambda: "done")
    assert (True, True) == (first.closed, second.closed)


def test_other_callers_are_refused_while_a_trial_is_under_way(lab):
    """What does not run inside it is not let in by it (invariant 1)."""
    breaker, refused = lab.half_open(), []

    def elsewhere():
        try:
            breaker.call(lambda: None)
        except CircuitBreakerOpenError as error:
            refused.append(str(error))

    def outer():
        thread = threading.Thread(target=elsewhere)  # which copies no context
        thread.start()
        thread.join()

    breaker.call(outer)
    assert ["Circuit breaker is open: 'lab'; its trial call is still under way"] == refused


async def test_task_that_outlives_its_trial_is_let_in_as_anybody_else(lab):
    """A trial that has ended lets nobody in, whoever inherited it."""
    breaker, tasks = lab.half_open(success_threshold=2), []
    gate = asyncio.Event()

    async def child():
        await gate.wait()
        return breaker.call(lambda: "later")

    async def outer():
        tasks.append(asyncio.ensure_future(child()))

    await breaker.call_async(outer)
    token = breaker.acquire()
    gate.set()
    with pytest.raises(CircuitBreakerOpenError):
        await tasks[0]
    breaker.release(token)


def test_trial_whose_lease_is_over_lets_nobody_in_under_it(lab):
    """A nested call then has to find a slot of its own (invariant 6)."""
    breaker = lab.half_open(trial_lease=5.0)

    def outer():
        lab.clock.now += 6.0
        other = breaker.acquire()
        assert lab.refuses(breaker)
        breaker.release(other)

    breaker.call(outer)


def test_fits_is_true_inside_a_trial(lab):
    """A retry within it finds no open circuit."""
    breaker = lab.half_open()
    assert breaker.call(breaker.fits)
    breaker.state = "half_open"
    token = breaker.acquire()
    assert not breaker.fits()
    breaker.release(token)


async def test_stream_that_is_closed_elsewhere_leaves_no_trial_behind(lab):
    """A trial is entered for each step of a stream, so its consumer's other calls are outside."""
    breaker = lab.half_open()

    @breaker
    def stream():
        yield 1
        yield 2

    items = stream()
    next(items)
    assert lab.refuses(breaker)
    items.close()
    assert not lab.refuses(breaker)


@pytest.mark.parametrize("sent", ["send", "throw"])
def test_steps_of_a_stream_under_a_trial_pass_what_is_sent_and_thrown(lab, sent):
    """A half-open stream is the same stream."""
    breaker = lab.half_open()

    @breaker
    def stream():
        try:
            got = yield 1
        except KeyError:
            got = "thrown"
        yield got
        return "end"

    items = stream()
    next(items)
    assert ("sent" if sent == "send" else "thrown") == (items.send("sent") if sent == "send" else items.throw(KeyError()))
    with pytest.raises(StopIteration) as end:
        next(items)
    assert ("end", True) == (end.value.value, breaker.closed)


# --- refusals ----------------------------------------------------------------------------------------------------------------


def caused(error, cause):
    """An error that says what it comes of."""
    error.__cause__ = cause
    return error


OPEN = CircuitBreakerOpenError("other", 1.0)
REFUSALS = {
    "rejected": Rejected("x"),
    "open": OPEN,
    "bulkhead": BulkheadFullError("x"),
    "rate limit": RateLimitExceededError("x", 1.0),
    "the library's": circuitbreaker.CircuitBreakerError(circuitbreaker.CircuitBreaker(name="theirs")),
    "wrapped": caused(RuntimeError("wrapped"), OPEN),
    "wrapped twice": caused(RuntimeError("outer"), caused(APIConnectionError("sdk"), OPEN)),
    "fallbacks": FallbackExhaustedError("chain", [OPEN, Rejected("y")]),
    "group": ExceptionGroup("several", [OPEN, Rejected("y")]),
}
FAILURES = {
    "bare": RuntimeError(),
    "one real level": FallbackExhaustedError("chain", [OPEN, ServerError("503")]),
    "no level": FallbackExhaustedError("chain"),
    "one real of a group": ExceptionGroup("several", [OPEN, ServerError()]),
    "a deadline after a refusal": caused(DeadlineExceededError("late"), OPEN),
    "context only": RuntimeError("while"),
}
FAILURES["context only"].__context__ = OPEN
ANSWERED = caused(ServerError("503"), OPEN)
ANSWERED.status = 503
FAILURES["an answer"] = ANSWERED


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_never_counts_as_a_failure(lab, name):
    """A guard's, the breaker's own or another one's, bare or wrapped: closed it stays closed, half-open the slot comes back."""
    for breaker in (lab.breaker(failure_threshold=1), lab.half_open()):
        before = breaker.state
        for _ in range(3):
            with pytest.raises(type(REFUSALS[name])):
                breaker.call(_raise, REFUSALS[name])
        assert (before, 0) == (breaker.state, breaker.trials_in_flight)


@pytest.mark.parametrize("name", FAILURES)
def test_failure_beside_a_refusal_counts(lab, name):
    """What a service did is not hidden by a refusal that came before or beside it."""
    breaker = lab.breaker(failure_threshold=1)
    with pytest.raises(type(FAILURES[name])):
        breaker.call(_raise, FAILURES[name])
    assert CircuitState.OPEN is breaker.state
    assert not is_rejection(FAILURES[name])


def test_refusal_among_the_causes_is_looked_for_within_bounds():
    """A circle of causes ends."""
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    assert not is_rejection(first)


@pytest.mark.parametrize(
    ("expected", "counts"),
    [
        (CircuitBreakerOpenError, True),
        ((KeyError, Rejected), True),
        ([Rejected], True),
        (Exception, False),
        ((Exception, KeyError), False),
        (lambda kind, error: True, False),
    ],
)
def test_refusal_counts_where_its_class_is_expected_by_name(lab, expected, counts):
    """Whoever names a class of refusals means it; who expects everything, or asks a predicate, does not."""
    breaker = lab.breaker(failure_threshold=1, expected_exception=expected)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.call(_raise, OPEN)
    assert counts is breaker.opened


def test_refused_inner_breaker_does_not_open_the_outer_one(lab):
    """A breaker of the base library inside one of ours."""
    theirs, ours = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=100, name="theirs"), lab.breaker(3)
    with pytest.raises(lab.Boom):
        ours.call(theirs.call, lab.boom)
    for _ in range(9):
        with pytest.raises(circuitbreaker.CircuitBreakerError):
            ours.call(theirs.decorate(lab.boom))
    assert (1, CircuitState.CLOSED) == (ours.failure_count, ours.state)


def _raise(error):
    raise error


# --- finished futures ----------------------------------------------------------------------------------------------------------


async def test_finished_future_is_judged_at_once(lab):
    """Not a turn of the loop later, in which any number of calls would pass."""
    breaker, calls = lab.breaker(failure_threshold=1), []

    @breaker
    def fail():
        calls.append(1)
        future = asyncio.get_running_loop().create_future()
        future.set_exception(lab.Boom())
        return future

    results = []
    for _ in range(10):
        with contextlib.suppress(CircuitBreakerOpenError):
            results.append(fail())
    assert (1, CircuitState.OPEN) == (len(calls), breaker.state)
    with pytest.raises(lab.Boom):
        await results[0]


async def test_finished_future_of_a_good_call_is_counted_at_once(lab):
    """And a cancelled one says nothing."""
    breaker = lab.half_open()
    cancelled, done = (asyncio.get_running_loop().create_future() for _ in range(2))
    cancelled.cancel()
    done.set_result("done")
    assert cancelled is breaker.call(lambda: cancelled)
    assert (CircuitState.HALF_OPEN, 0) == (breaker.state, breaker.trials_in_flight)
    assert done is breaker.call(lambda: done)
    assert breaker.closed


# --- states that are not a plain breaker's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [CircuitState.BUDGET_LIMITED, "budget_limited", "nonsense", None, 7])
def test_state_that_is_no_plain_breakers_is_refused(lab, value):
    """It used to become forced open, which nobody had asked for."""
    breaker = lab.breaker()
    with pytest.raises(ValueError, match=r"state: must be one of 'closed', 'open', 'half_open', 'forced_open'"):
        breaker.set_state(value, "by hand")
    with pytest.raises(ValueError, match=r"state: must be one of"):
        breaker.state = value
    assert ([], True) == (lab.path(breaker), breaker.closed)


def test_state_may_be_named_by_its_text(lab):
    """As in the setter."""
    breaker = lab.breaker()
    breaker.set_state("open", "by hand")
    assert CircuitState.OPEN is breaker.state


def test_refusals_of_a_forced_open_circuit_say_who_forced_it(lab):
    """Never that a trial is under way; the words are made once."""
    breaker = lab.breaker()
    breaker.force_open("maintenance")
    texts = {str(_refusal(breaker)) for _ in range(3)}
    assert {"Circuit breaker is open: 'lab'; forced open: maintenance"} == texts
    assert _refusal(breaker).reason is _refusal(breaker).reason


def _refusal(breaker):
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    return caught.value


def test_open_remaining_is_never_negative(lab):
    """Whenever it is asked: an open time that is over has nothing left."""
    breaker = lab.open()
    for seconds in (0.0, 5.0, 5.0, 5.0, 1e9):
        lab.clock.now += seconds
        assert breaker.open_remaining >= 0.0
    assert 0.0 == breaker.open_remaining
    breaker.last_failure_time = -1e9
    assert 0.0 == breaker.open_remaining


def test_overridden_members_have_no_effect_on_decorated_functions(lab):
    """Admission reads the breaker's snapshot, as the reference page says; an own rule is an `expected_exception` or a guard."""

    class Never(CircuitBreaker):
        @property
        def opened(self):
            return True

        def call(self, func, *args, **kwargs):
            raise AssertionError

    protected = Never(2, 10.0, name="never", clock=lab.clock)(lambda: "called")
    assert "called" == protected()
