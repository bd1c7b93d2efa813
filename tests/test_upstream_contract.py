"""What circuitbreaker and tenacity do by themselves, trap by trap.

Nothing of ours is tested here. Each test pins one behaviour of a library that we work around; when an upgrade makes it fail,
its docstring names the workaround that can go.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import sys
import threading
import types
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import circuitbreaker
import pytest
import tenacity
from circuitbreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerMonitor


class Boom(Exception):
    """The failure that these tests raise."""


class Clock:
    """A clock that stands still until it is told otherwise; sleeping on it moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(float(seconds))
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Both libraries on one standing clock, and an empty monitor."""
    clock = Clock()
    monkeypatch.setattr(circuitbreaker, "monotonic", clock)
    monkeypatch.setattr(tenacity, "time", types.SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(CircuitBreakerMonitor, "circuit_breakers", {})
    return clock


def fail() -> None:
    """Fail."""
    raise Boom


def trip(breaker: CircuitBreaker, failures: int) -> None:
    """Let a number of calls fail."""
    for _ in range(failures):
        with suppress(Boom):
            breaker.call(fail)


@pytest.fixture
def half_open(clock: Clock) -> CircuitBreaker:
    """A breaker that tripped after two failures and whose recovery time is over."""
    breaker = CircuitBreaker(failure_threshold=2, recovery_timeout=30, name="half-open")
    trip(breaker, 2)
    clock.now += 31
    assert circuitbreaker.STATE_HALF_OPEN == breaker.state
    return breaker


# --- circuitbreaker: who is admitted, and what a result does ---


async def test_half_open_admits_everyone(half_open: CircuitBreaker) -> None:
    """All of 50 callers pass a half-open breaker at once; if this fails, our permits for `half_open_max_calls` may go."""
    inside = 0
    release = asyncio.Event()

    @half_open
    async def trial() -> None:
        nonlocal inside
        inside += 1
        await release.wait()

    callers = [asyncio.create_task(trial()) for _ in range(50)]
    await asyncio.sleep(0)
    admitted = inside
    release.set()
    await asyncio.gather(*callers)
    assert 50 == admitted


async def test_a_cancelled_trial_counts_as_success(half_open: CircuitBreaker) -> None:
    """A trial that was cancelled closes the circuit; if this fails, our fourth outcome, cancelled, may go."""
    trial = asyncio.create_task(half_open.call_async(asyncio.sleep, 60))
    await asyncio.sleep(0)
    trial.cancel()
    with suppress(asyncio.CancelledError):
        await trial
    assert (True, 0) == (half_open.closed, half_open.failure_count)


def test_an_abandoned_stream_counts_as_success(half_open: CircuitBreaker) -> None:
    """A generator closed after its first item closes the circuit; if this fails, our neutral abandonment of streams may go."""
    stream = half_open.call_generator(lambda: iter([1, 2]))
    next(stream)
    stream.close()
    assert (True, 0) == (half_open.closed, half_open.failure_count)


def test_an_unmatched_exception_counts_as_success(clock: Clock) -> None:
    """An error that is not expected closes the circuit; if this fails, our third outcome, ignored, may go."""
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=30, expected_exception=Boom)
    trip(breaker, 1)
    clock.now += 31
    with suppress(KeyError):
        breaker.call({}.__getitem__, "absent")
    assert (True, 0) == (breaker.closed, breaker.failure_count)


def test_an_unmatched_exception_zeroes_the_count() -> None:
    """An error that is not expected forgives earlier failures; if this fails, our third outcome, ignored, may go."""
    breaker = CircuitBreaker(failure_threshold=5, expected_exception=Boom)
    trip(breaker, 4)
    with suppress(KeyError):
        breaker.call({}.__getitem__, "absent")
    assert 0 == breaker.failure_count


def test_a_success_begun_before_the_trip_closes_an_open_circuit() -> None:
    """A late success closes a circuit that others opened; if this fails, our permits need not remember their snapshot."""
    breaker = CircuitBreaker(failure_threshold=2)
    breaker.call(lambda: trip(breaker, 2))
    assert breaker.closed


def test_a_late_failure_moves_the_opening_time(clock: Clock) -> None:
    """A failure that comes in while open begins the open time anew; if this fails, our permits need not remember theirs."""
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=30)

    def slow() -> None:
        trip(breaker, 1)
        clock.now += 20
        raise Boom

    with suppress(Boom):
        breaker.call(slow)
    assert 30 == breaker.open_remaining


def test_the_context_manager_does_not_check_the_state() -> None:
    """`with breaker` enters while open, and then closes the circuit; if this fails, our own `__enter__` and `__exit__` may go."""
    breaker = CircuitBreaker(failure_threshold=1)
    trip(breaker, 1)
    entered = False
    with breaker:
        entered = breaker.opened
    assert (True, True) == (entered, breaker.closed)


def test_call_does_not_check_the_state() -> None:
    """`breaker.call` runs the function while open; if this fails, our own `call` need not ask first."""
    breaker = CircuitBreaker(failure_threshold=1)
    trip(breaker, 1)
    assert "ran" == breaker.call(lambda: "ran")


def test_nothing_is_locked() -> None:
    """Two failures at once are counted as one; if this fails, our lock around state changes may go."""
    other = threading.Thread(target=lambda: trip(breaker, 1))

    class Racing(CircuitBreaker):
        @property
        def _failure_count(self) -> int:
            seen = self.__dict__.get("count", 0)
            if racing and threading.current_thread() is not other and other.ident is None:
                other.start()
                other.join(timeout=5)
            return seen

        @_failure_count.setter
        def _failure_count(self, value: int) -> None:
            self.__dict__["count"] = value

    racing = False
    breaker = Racing(failure_threshold=5)
    racing = True
    trip(breaker, 1)
    assert 1 == breaker.failure_count


# --- circuitbreaker: options ---


def test_zero_failure_threshold_becomes_five() -> None:
    """`failure_threshold=0` is taken for 5; if this fails, our refusal of zero may be reconsidered."""
    breaker = CircuitBreaker(failure_threshold=0)
    trip(breaker, 4)
    still_closed = breaker.closed
    trip(breaker, 1)
    assert (True, True) == (still_closed, breaker.opened)


def test_zero_recovery_timeout_becomes_thirty() -> None:
    """`recovery_timeout=0` is taken for 30; if this fails, our refusal of zero may be reconsidered."""
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=0)
    trip(breaker, 1)
    assert 30 == breaker.open_remaining


@pytest.mark.parametrize("wrong", [-1, float("nan"), True])
def test_nonsense_is_taken_as_a_threshold(wrong: float) -> None:
    """Negative, NaN and bool thresholds are taken as they are; if this fails, the library checks them and ours need not."""
    assert wrong is CircuitBreaker(failure_threshold=wrong)._failure_threshold


def test_expected_exception_is_lost_in_a_sub_subclass() -> None:
    """EXPECTED_EXCEPTION of a grandparent is not seen; if this fails, our walk of the method resolution order may go."""

    class Parent(CircuitBreaker):
        EXPECTED_EXCEPTION = Boom

    class Child(Parent):
        pass

    assert (False, True) == (Parent().is_failure(KeyError, KeyError()), Child().is_failure(KeyError, KeyError()))


def test_open_remaining_is_in_whole_seconds(clock: Clock) -> None:
    """The time to reopening is rounded up to seconds; if this fails, our own `open_remaining` may go."""
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=1)
    trip(breaker, 1)
    clock.now += 0.25
    assert 1 == breaker.open_remaining


# --- circuitbreaker: what it wraps ---


def test_decorating_asks_what_python_3_14_deprecates() -> None:
    """By `asyncio.iscoroutinefunction`; if this fails, the filter for circuitbreaker in pyproject.toml may go."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        CircuitBreaker()(fail)
    assert (sys.version_info >= (3, 14)) == bool(heard)


async def test_an_async_callable_object_never_trips() -> None:
    """An object with an async `__call__` is run as if it were sync; if this fails, our own test for async callables may go."""

    class Model:
        async def __call__(self) -> None:
            raise Boom

    breaker = CircuitBreaker(failure_threshold=1, name="model")
    protected = breaker(Model())
    for _ in range(3):
        with suppress(Boom):
            await protected()
    assert (True, 0) == (breaker.closed, breaker.failure_count)


def test_a_generator_loses_what_is_sent() -> None:
    """`send()` does not reach a decorated generator; if this fails, our stream driver may use the library's wrapper."""

    @CircuitBreaker()
    def echo() -> Iterator[object]:
        got = yield "ready"
        yield got

    stream = echo()
    next(stream)
    assert stream.send("hello") is None


def test_a_generator_loses_its_return_value() -> None:
    """`return` of a decorated generator is dropped; if this fails, our stream driver may use the library's wrapper."""

    @CircuitBreaker()
    def counted() -> Iterator[int]:
        yield 1
        return "the end"

    stream = counted()
    next(stream)
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value is None


async def test_an_inner_async_generator_stays_open() -> None:
    """Closing a decorated async generator does not close the inner one; if this fails, our stream driver need not do it."""
    closed = False

    @CircuitBreaker()
    async def stream() -> AsyncIterator[int]:
        nonlocal closed
        try:
            yield 1
            yield 2
        finally:
            closed = True

    items = stream()
    await anext(items)
    await items.aclose()
    closed_in_time = closed
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert closed_in_time is False


# --- circuitbreaker: what it keeps and shows ---


def test_the_monitor_keeps_breakers_alive() -> None:
    """A breaker that nobody holds stays in the monitor; if this fails, our weak registration may go."""
    breaker = CircuitBreaker(name="kept")
    breaker(fail)
    gone = weakref.ref(breaker)
    del breaker
    gc.collect()
    assert gone() is not None


def test_the_monitor_lets_a_name_replace_another() -> None:
    """A second breaker of one name takes the first one's place without a word; if this fails, our handling of names may go."""
    first, second = CircuitBreaker(name="twin"), CircuitBreaker(name="twin")
    first(fail)
    second(fail)
    assert [second] == list(CircuitBreakerMonitor.get_circuits())


def test_the_monitor_breaks_on_a_dead_proxy() -> None:
    """A dead weak proxy in the monitor raises from its own methods; if this fails, our finalizer need not remove the entry."""
    breaker = CircuitBreaker(name="dead")
    CircuitBreakerMonitor.circuit_breakers["dead"] = weakref.proxy(breaker)
    del breaker
    gc.collect()
    with pytest.raises(ReferenceError):
        CircuitBreakerMonitor.all_closed()


def test_last_failure_pins_the_callers_frames() -> None:
    """Local variables of a failed call live until the next success; if this fails, our stripped `last_failure` may go."""

    class Payload:
        pass

    seen: list[weakref.ref[Payload]] = []

    def call() -> None:
        payload = Payload()
        seen.append(weakref.ref(payload))
        raise Boom

    breaker = CircuitBreaker()
    with suppress(Boom):
        breaker.call(call)
    gc.collect()
    pinned = seen[0]() is not None
    breaker.call(int)
    gc.collect()
    assert (True, None) == (pinned, seen[0]())


def test_the_error_prints_the_last_exception() -> None:
    """`str(CircuitBreakerError)` repeats the last failure, secrets and all; if this fails, our error's own `__str__` may go."""
    breaker = CircuitBreaker(failure_threshold=1)

    @breaker
    def call() -> None:
        raise Boom("api key sk-1234")

    with suppress(Boom):
        call()
    with pytest.raises(CircuitBreakerError) as refused:
        call()
    assert "sk-1234" in str(refused.value)


def test_the_error_changes_after_it_was_raised(clock: Clock) -> None:
    """`str(CircuitBreakerError)` reads the breaker when printed; if this fails, our error need not keep its own figures."""
    error = CircuitBreakerError(breaker := CircuitBreaker(failure_threshold=1))
    trip(breaker, 1)
    before = str(error)
    clock.now += 10
    assert before != str(error)


def test_the_error_takes_a_message_for_a_breaker() -> None:
    """A cooperative `super().__init__(message)` loses the message; if this fails, our error may call that constructor."""
    error = CircuitBreakerError("a message")
    with pytest.raises(AttributeError):
        str(error)
    assert () == error.args


def test_there_is_no_py_typed() -> None:
    """The library ships no types; if this fails, our retyped members and the mypy override may go."""
    assert "py.typed" not in {file.name for file in importlib.metadata.files("circuitbreaker") or ()}


def test_the_failure_hook_is_name_mangled() -> None:
    """A subclass cannot override `__call_failed` under its own name; if this fails, our subclass may hook in there."""
    heard = []

    class Listening(CircuitBreaker):
        def __call_failed(self) -> None:
            heard.append("failed")

    trip(Listening(), 1)
    assert [] == heard
    assert callable(CircuitBreaker._CircuitBreaker__call_failed)


# --- tenacity ---


def failing(times: int, error: BaseException | None = None) -> Callable[[], int]:
    """A function that raises `times` times and then returns how often it was called."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error or Boom(calls)
        return calls

    return call


def as_async(call: Callable[[], int]) -> Callable[[], Awaitable[int]]:
    """Make a coroutine function of a plain one."""

    async def wrapped() -> int:
        return call()

    return wrapped


def test_a_success_goes_through_the_whole_machinery(clock: Clock) -> None:
    """A call that succeeds at once still passes `before`, the predicate and a Future; if this fails, our fast path may go."""
    seen: list[tenacity.RetryCallState] = []

    def predicate(state: tenacity.RetryCallState) -> bool:
        seen.append(state)
        return False

    assert 1 == tenacity.Retrying(sleep=clock.sleep, before=seen.append, retry=predicate)(failing(0))
    assert [seen[0], seen[0]] == seen
    assert isinstance(seen[0].outcome, tenacity.Future)


async def test_tasks_that_share_a_controller_mix_their_attempts() -> None:
    """Three attempts each become fewer when two tasks iterate over one controller; if this fails, our copy a call may go."""
    shared = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), reraise=True)
    attempts = {"first": 0, "second": 0}

    async def run(name: str) -> None:
        async for attempt in shared:
            with attempt:
                attempts[name] += 1
                await asyncio.sleep(0)
                raise Boom

    await asyncio.gather(run("first"), run("second"), return_exceptions=True)
    assert sum(attempts.values()) < 6


async def test_tasks_that_share_a_controller_mix_their_results() -> None:
    """If a predicate suspends, a failure returns None and a success runs twice; if this fails, our copy a call may go."""
    calls = {"failure": 0, "success": 0}

    async def predicate(state: tenacity.RetryCallState) -> bool:
        await asyncio.sleep(0)
        return state.outcome.failed

    async def run(outcome: str) -> str:
        calls[outcome] += 1
        if outcome == "failure":
            raise Boom
        return outcome

    shared = tenacity.AsyncRetrying(retry=predicate, stop=tenacity.stop_after_attempt(3), reraise=True)
    results = await asyncio.gather(shared(run, "failure"), shared(run, "success"), return_exceptions=True)
    assert ([None, "success"], {"failure": 1, "success": 2}) == (results, calls)


@pytest.mark.parametrize(
    "predicate",
    [tenacity.retry_if_not_exception_type(ValueError), tenacity.retry_if_exception(lambda _: True)],
    ids=["retry_if_not_exception_type", "retry_if_exception"],
)
async def test_a_cancellation_is_retried(predicate: object, clock: Clock) -> None:
    """Predicates that do not ask for Exception retry CancelledError; if this fails, ours need not begin with that question."""
    retrying = tenacity.AsyncRetrying(retry=predicate, stop=tenacity.stop_after_attempt(4), sleep=clock.sleep_async)
    assert 3 == await retrying(as_async(failing(2, asyncio.CancelledError())))


def test_stop_after_delay_runs_over_its_limit(clock: Clock) -> None:
    """`stop_after_delay(1)` ends after 1.4 s; if this fails, our drivers may use it."""
    start = clock.now
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(1), wait=tenacity.wait_fixed(0.7), sleep=clock.sleep, reraise=True
    )
    with suppress(Boom):
        retrying(failing(10))
    assert 1.4 == pytest.approx(clock.now - start)


def test_stop_before_delay_keeps_its_limit(clock: Clock) -> None:
    """`stop_before_delay(1)` begins no sleep that ends past its limit; if this fails, our drivers have to count."""
    start = clock.now
    retrying = tenacity.Retrying(
        stop=tenacity.stop_before_delay(1), wait=tenacity.wait_fixed(0.7), sleep=clock.sleep, reraise=True
    )
    with suppress(Boom):
        retrying(failing(10))
    assert 0.7 == pytest.approx(clock.now - start)


def test_the_outer_world_sees_retry_error(clock: Clock) -> None:
    """Without `reraise=True` the last error comes wrapped; if this fails, our controllers need not set it."""
    with pytest.raises(tenacity.RetryError):
        tenacity.Retrying(stop=tenacity.stop_after_attempt(2), sleep=clock.sleep)(failing(10))


def test_retry_around_a_breaker_burns_its_attempts(clock: Clock) -> None:
    """A retry goes on asking a breaker that is open; if this fails, our rule that an open breaker is not retried may go."""
    calls = 0

    @tenacity.retry(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(1), sleep=clock.sleep, reraise=True)
    @CircuitBreaker(failure_threshold=1)
    def call() -> None:
        nonlocal calls
        calls += 1
        raise Boom

    with pytest.raises(CircuitBreakerError):
        call()
    assert (1, 5, [1.0] * 4) == (calls, call.statistics["attempt_number"], clock.slept)


async def test_an_async_generator_is_silently_not_retried(clock: Clock) -> None:
    """A decorated async generator runs once, whatever it raises; if this fails, our stream driver may use tenacity."""
    call = failing(2)

    @tenacity.retry(sleep=clock.sleep, reraise=True)
    async def stream() -> AsyncIterator[int]:
        yield call()

    with pytest.raises(Boom):
        await anext(stream())
    assert [] == clock.slept


def test_a_generator_is_silently_not_retried(clock: Clock) -> None:
    """A decorated generator runs once, whatever it raises; if this fails, our stream driver may use tenacity."""
    call = failing(2)

    @tenacity.retry(sleep=clock.sleep, reraise=True)
    def stream() -> Iterator[int]:
        yield call()

    with pytest.raises(Boom):
        next(stream())
    assert [] == clock.slept


def test_statistics_are_kept_per_thread(clock: Clock) -> None:
    """Another thread sees empty statistics; if this fails, our metrics may read them."""
    retrying = tenacity.Retrying(sleep=clock.sleep)
    retrying(failing(2))
    elsewhere: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: elsewhere.append(dict(retrying.statistics)))
    thread.start()
    thread.join()
    assert (3, [{}]) == (retrying.statistics["attempt_number"], elsewhere)


def test_statistics_are_cleared_by_the_next_call(clock: Clock) -> None:
    """A second call forgets the first one's figures; if this fails, our metrics may read them."""
    retrying = tenacity.Retrying(sleep=clock.sleep)
    retrying(failing(2))
    retrying(failing(0))
    assert (1, 0) == (retrying.statistics["attempt_number"], retrying.statistics["idle_for"])


# --- tenacity: what our drivers stand on; a failure here breaks them rather than relieves them ---


GIVE_UP = object()


def resume(retrying: tenacity.Retrying, call: Callable[[], int], first: Exception, *, spent: float = 0.0) -> object:
    """Go on after a first failure that happened outside tenacity, as our drivers do."""
    own = retrying.copy(retry_error_callback=lambda _: GIVE_UP)
    own.begin()
    state = tenacity.RetryCallState(own, call, (), {})
    state.start_time -= spent
    state.set_exception((type(first), first, first.__traceback__))
    try:
        while True:
            todo = own.iter(retry_state=state)
            if isinstance(todo, tenacity.DoSleep):
                state.prepare_for_next_attempt()
                own.sleep(todo)
            elif isinstance(todo, tenacity.DoAttempt):
                try:
                    state.set_result(call())
                except Boom as error:
                    state.set_exception((type(error), error, error.__traceback__))
            elif todo is GIVE_UP:
                raise state.outcome.exception()
            else:
                return todo
    finally:
        state.outcome = None
        own.iter_state.reset()
        retrying.statistics.update(own.statistics)


def first_error(call: Callable[[], int]) -> Exception:
    """The error of a call that is known to fail."""
    with pytest.raises(Boom) as caught:
        call()
    return caught.value


def watched(clock: Clock, told: list[tuple[str, int, float]]) -> tenacity.Retrying:
    """Three attempts with growing waits; tells each callback's name, attempt number and coming sleep."""

    def tell(name: str) -> Callable[[tenacity.RetryCallState], None]:
        return lambda state: told.append((name, state.attempt_number, state.upcoming_sleep))

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_exponential(multiplier=2),
        before_sleep=tell("before_sleep"),
        after=tell("after"),
        sleep=clock.sleep,
        reraise=True,
    )


@pytest.mark.parametrize("failures", [1, 2])
def test_a_resumed_call_is_like_an_eager_one(clock: Clock, failures: int) -> None:
    """Result, sleeps, callbacks and statistics are the same when the first attempt ran outside; our drivers stand on this."""
    told: list[tuple[str, int, float]] = []
    eager = watched(clock, told)
    expected = (eager(failing(failures)), clock.slept.copy(), told.copy(), eager.statistics["attempt_number"])
    clock.slept.clear()
    told.clear()
    resumed, call = watched(clock, told), failing(failures)
    result = resume(resumed, call, first_error(call))
    assert expected == (result, clock.slept, told, resumed.statistics["attempt_number"])


def test_a_resumed_call_raises_the_last_error(clock: Clock) -> None:
    """The third attempt's own error leaves a resumed controller; our drivers stand on this."""
    call = failing(10)
    first = first_error(call)
    with pytest.raises(Boom) as last:
        resume(watched(clock, []), call, first)
    assert ((3,), [2.0, 4.0]) == (last.value.args, clock.slept)


def test_a_back_dated_start_is_obeyed(clock: Clock) -> None:
    """Time spent before tenacity was entered counts when `start_time` is set back; our drivers stand on this."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_before_delay(10), wait=tenacity.wait_fixed(3), sleep=clock.sleep, reraise=True
    )
    call = failing(10)
    first = first_error(call)
    with suppress(Boom):
        resume(retrying, call, first, spent=5.0)
    assert [3.0] == clock.slept


def test_a_copy_has_an_iter_state_of_its_own() -> None:
    """Two copies in one thread do not share `iter_state`; our drivers stand on this."""
    retrying = tenacity.Retrying()
    assert retrying.copy().iter_state is not retrying.copy().iter_state


def left_for_the_collector(run: Callable[[], object]) -> int:
    """How many objects `run` leaves that only the garbage collector can free, once it is warm."""
    run()
    gc.collect()
    gc.disable()
    try:
        run()
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.parametrize("failures", [0, 1])
def test_a_call_leaves_cyclic_garbage(clock: Clock, failures: int) -> None:
    """Each call leaves work for the garbage collector; if this fails, our drivers need not reset `iter_state`."""
    assert left_for_the_collector(lambda: tenacity.Retrying(sleep=clock.sleep)(failing(failures))) > 0


def test_reraise_leaves_cyclic_garbage(clock: Clock) -> None:
    """The last error's own traceback holds it when tenacity raises it; if this fails, our driver need not raise it itself."""

    def run() -> None:
        retrying = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), sleep=clock.sleep, reraise=True)
        with suppress(Boom):
            retrying(failing(10))
        retrying.iter_state.reset()

    assert left_for_the_collector(run) > 0


@pytest.mark.parametrize("failures", [1, 10])
def test_a_resumed_call_leaves_no_cyclic_garbage(clock: Clock, failures: int) -> None:
    """Dropping `outcome`, resetting `iter_state` and raising by oneself leaves nothing to collect; our drivers stand on this."""
    retrying = watched(clock, [])

    def run() -> None:
        call = failing(failures)
        try:
            call()
        except Boom as error:
            first = error
        with suppress(Boom):
            resume(retrying, call, first)
        del first

    assert 0 == left_for_the_collector(run)


# --- asyncio ----------------------------------------------------------------------------------------------------------------


async def test_asyncio_loops_say_which_thread_they_run_in():
    """The cutter finds its loop by `_thread_id` instead of `get_running_loop`; without it, it asks asyncio at each call."""
    assert threading.get_ident() == asyncio.get_running_loop()._thread_id


def test_a_loop_that_does_not_run_has_no_thread():
    """A loop that was left is not taken for the running one."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    assert loop._thread_id is None
    loop.close()
