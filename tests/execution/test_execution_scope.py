"""Deadline and idempotency key hold in everything that a call does: attempts, hedges, fallbacks and the calls within it."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience_kit import idempotency_key, remaining_time
from resilience_kit.context import MAX_KEY_LENGTH, IdempotencyKeyHolder, current_call, nested_key, request_key
from resilience_kit.errors import ConfigurationError, DeadlineExceededError, ServerError
from resilience_kit.policies.breaker.states import running_trials
from resilience_kit.policies.hedge import HedgeConfig


class Job(IdempotencyKeyHolder):
    """What a job is to the calls within it: a context with a fixed key and no deadline."""

    def __init__(self, key="job-1"):
        self._key, self._counts = key, None

    def remaining(self):
        return None


class InJob:
    """Runs the code of a `with` block as one run of a job."""

    def __init__(self, key="job-1"):
        self._job = Job(key)

    def __enter__(self):
        self._token = current_call.set(self._job)

    def __exit__(self, *_):
        current_call.reset(self._token)


# --- fallbacks ---------------------------------------------------------------------------------------------------------------


async def answer_of_fallback(lab, kind, attempt, fallback, **options):
    """One call whose attempts fail, and what its fallback gives."""
    shape = lab.shapes[kind]
    options = {"custom_config": lab.config(retry=None, **options), "fallback": shape(fallback)}
    return await lab.finished(lab.kit.with_resilience("op", **options)(shape(attempt))())


async def test_fallback_runs_under_the_deadline_of_its_call(lab, kind, steps):
    """What is left of the deadline when the attempts are over is what the fallback has."""

    def attempt():
        lab.clock.advance(2.0)
        raise ServerError

    seen = await answer_of_fallback(lab, kind, attempt, lambda: (remaining_time(), idempotency_key()), deadline=5.0)
    assert 3.0 == seen[0]
    assert isinstance(seen[1], str)
    assert (None, None) == (remaining_time(), idempotency_key())


async def test_fallback_has_the_key_of_its_call(lab, kind):
    """The key of a call is one, whoever answers for it."""
    keys = []

    def attempt():
        keys.append(idempotency_key())
        raise ServerError

    keys.append(await answer_of_fallback(lab, kind, attempt, idempotency_key, idempotency_key=True))
    assert [keys[0]] * 2 == keys
    assert keys[0] is not None


async def test_fallback_of_a_call_that_is_out_of_time_still_answers(lab, kind):
    """It finds that nothing is left, and is not cut off before it has begun."""

    def attempt():
        lab.clock.advance(9.0)
        raise ServerError

    assert 0.0 == await answer_of_fallback(lab, kind, attempt, remaining_time, deadline=5.0)


async def test_fallback_of_a_call_that_is_out_of_time_makes_a_protected_call(lab, kind):
    """The deadline that has passed is the failed call's; a protected call in its fallback has what is left around the two."""
    backup = lab.kit.with_resilience("backup", custom_config=lab.config(retry=None, idempotency_key=True))(
        lambda: (remaining_time(), idempotency_key())
    )

    def attempt():
        lab.clock.advance(9.0)
        raise ServerError

    left, key = await answer_of_fallback(lab, kind, attempt, backup, deadline=5.0)
    assert (None, True) == (left, key.endswith("/fallback/backup/1"))


def test_fallback_of_a_call_that_is_out_of_time_obeys_a_deadline_around(lab):
    """A deadline around the call binds the calls of its fallback, however the call itself has ended."""
    backup = lab.kit.with_resilience("backup", custom_config=lab.config(retry=None, idempotency_key=True))(remaining_time)

    def attempt():
        lab.clock.advance(9.0)
        raise ServerError

    inner = lab.kit.with_resilience("in", custom_config=lab.config(retry=None, deadline=5.0), fallback=backup)(attempt)
    assert 11.0 == lab.kit.with_resilience("out", custom_config=lab.config(retry=None, deadline=20.0))(inner)()


async def test_fallback_knows_an_outer_deadline(lab, steps):
    """A fallback is inside whatever its call is inside of."""
    inner = lab.kit.with_resilience("in", custom_config=lab.config(retry=None), fallback=remaining_time)(steps(ServerError))
    assert 7.0 == lab.kit.with_resilience("out", custom_config=lab.config(deadline=7.0))(inner)()


@pytest.mark.parametrize("kind", ["async", "async generator"])
async def test_fallback_that_hangs_is_cut_at_the_deadline(lab, kind):
    """The deadline is the whole call's, and its error tells that the fallback was under way."""

    async def hang():
        await lab.clock.sleep_async(100.0)

    async def hang_for_an_item():
        await lab.clock.sleep_async(100.0)
        yield 1

    fallback = hang if kind == "async" else hang_for_an_item
    options = {"custom_config": lab.config(retry=None, deadline=5.0), "fallback": fallback}

    def fail():
        raise ServerError("down")

    protected = lab.kit.with_resilience("op", **options)(lab.shapes[kind](fail))
    with pytest.raises(DeadlineExceededError, match=r"'op' went past its deadline of 5 s in its fallback") as caught:
        await lab.finished(protected())
    assert isinstance(caught.value.__cause__, ServerError)
    assert 105.0 == pytest.approx(lab.clock.monotonic(), abs=0.3)
    assert 1 == lab.counted()["failed_calls"]


async def test_fallback_that_is_cancelled_stays_cancelled(lab):
    """A cancellation from outside is nobody's time-out."""

    async def hang():
        await asyncio.Event().wait()

    async def fail():
        raise ServerError

    protected = lab.kit.with_resilience("op", custom_config=lab.config(retry=None, deadline=5.0), fallback=hang)(fail)
    task = asyncio.ensure_future(protected())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stream_of_a_fallback_is_under_the_deadline_until_its_first_item(lab):
    """As the stream that it replaces; after that, only what is around the call binds it."""
    seen = []

    def fallback():
        seen.append(remaining_time())
        got = yield 1
        seen.append((got, remaining_time()))
        try:
            yield 2
        except KeyError:
            yield 3

    def fail():
        raise ServerError
        yield

    config = lab.config(retry=None, deadline=5.0)
    stream = lab.kit.with_resilience("op", custom_config=config, fallback=fallback)(fail)()
    assert (1, 2, 3) == (next(stream), stream.send("sent"), stream.throw(KeyError()))
    assert [5.0, ("sent", None)] == seen
    stream.close()
    assert [] == list(stream)


async def test_async_stream_of_a_fallback_is_under_the_deadline_until_its_first_item(lab):
    """The same for async generators."""
    seen = []

    async def fallback():
        seen.append(remaining_time())
        got = yield 1
        seen.append((got, remaining_time()))
        try:
            yield 2
        except KeyError:
            yield 3

    async def fail():
        raise ServerError
        yield

    config = lab.config(retry=None, deadline=5.0)
    stream = lab.kit.with_resilience("op", custom_config=config, fallback=fallback)(fail)()
    assert (1, 2, 3) == (await anext(stream), await stream.asend("sent"), await stream.athrow(KeyError()))
    assert [5.0, ("sent", None)] == seen
    await stream.aclose()


def test_fallback_stream_may_be_any_iterable(lab):
    """What can only be iterated is iterated; what is thrown in, or a close, ends it."""

    def fail():
        raise ServerError
        yield

    class Items:
        def __iter__(self):
            return iter([1, 2])

    def fallback():
        return (yield from Items())

    make = lab.kit.with_resilience("op", custom_config=lab.config(retry=None), fallback=fallback)(fail)
    assert [1, 2] == list(make())
    stream = make()
    next(stream)
    with pytest.raises(KeyError):
        stream.throw(KeyError())


async def test_what_outlives_a_fallback_is_not_bound_by_it(lab, kind, steps):
    """A context that a task has kept says that there is no deadline any more."""
    kept = []

    def fallback():
        kept.append(contextvars.copy_context())

    await answer_of_fallback(lab, kind, steps(ServerError), fallback, deadline=5.0)
    assert None is kept[0].run(remaining_time)


# --- keys --------------------------------------------------------------------------------------------------------------------


async def test_key_within_a_job_is_derived_from_the_jobs(lab, way):
    """The same for each run of the job, whichever way the call is made, also where the operation needs no context itself."""
    for config in (lab.config(), lab.config(deadline=5.0), lab.config(idempotency_key=True)):
        for _ in range(2):
            with InJob():
                keys = [await lab.call(way, idempotency_key, config=config) for _ in range(2)]
            assert ["job-1/op/1", "job-1/op/2"] == keys


async def test_key_within_a_call_is_the_same_in_each_of_its_attempts(lab, way, kind):
    """The count of inner calls restarts with each attempt: what is done again is done under the same key."""
    seen, config = [], lab.config(deadline=100.0)
    inner = lab.kit.with_resilience("in", custom_config=lab.config())(idempotency_key)

    def attempt():
        seen.append((idempotency_key(), inner(), inner()))
        if len(seen) < 3:
            raise ServerError
        return "done"

    assert "done" == await lab.call(kind, attempt, config=config)
    assert [seen[0]] * 3 == seen
    own, first, second = seen[0]
    assert (f"{own}/in/1", f"{own}/in/2") == (first, second)


async def test_key_within_a_fallback_differs_from_those_of_the_attempts(lab, kind):
    """A fallback may send something else to the same operation."""
    seen = []
    inner = lab.kit.with_resilience("in", custom_config=lab.config())(idempotency_key)

    def attempt():
        seen.append(inner())
        raise ServerError

    with InJob():
        seen.append(await answer_of_fallback(lab, kind, attempt, inner))
    assert ["job-1/op/1/in/1", "job-1/op/1/fallback/in/1"] == seen


async def test_hedge_has_the_keys_of_the_request_that_it_repeats(lab):
    """Both requests of an attempt are the same request, and so are the calls that they make."""
    seen = []

    @lab.kit.with_resilience("in", custom_config=lab.config())
    async def inner():
        return idempotency_key()

    async def attempt():
        seen.append((idempotency_key(), await inner(), remaining_time()))
        await lab.clock.sleep_async(10.0)

    config = lab.config(hedge=HedgeConfig(delay=1.0), deadline=60.0)
    await lab.kit.with_resilience("op", custom_config=config)(attempt)()
    (first, second) = seen
    assert first[:2] == second[:2]
    assert (60.0, 59.0) == (first[2], second[2])


async def test_key_holds_in_tasks_and_threads_of_the_call(lab):
    """A task copies the context, and so does a thread that is started with a copy."""
    seen = []
    inner = lab.kit.with_resilience("in", custom_config=lab.config())(idempotency_key)

    @lab.kit.with_resilience("op", custom_config=lab.config(idempotency_key="order-7"))
    async def call():
        async def child():
            return inner()

        seen.append(await asyncio.ensure_future(child()))
        thread = threading.Thread(target=contextvars.copy_context().run, args=(lambda: seen.append(inner()),))
        thread.start()
        thread.join()

    await call()
    assert ["order-7/in/1", "order-7/in/2"] == seen


def test_calls_in_many_threads_have_many_keys(lab):
    """The count is shared by all that runs inside one attempt (invariant 30)."""
    seen = []
    inner = lab.kit.with_resilience("in", custom_config=lab.config())(lambda: seen.append(idempotency_key()))

    def many():
        for _ in range(100):
            inner()

    @lab.kit.with_resilience("op", custom_config=lab.config(idempotency_key="k"))
    def call():
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(many,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    call()
    assert {f"k/in/{number}" for number in range(1, 401)} == set(seen)


def test_what_an_abandoned_attempt_still_does_takes_no_number_of_the_next(lab):
    """A thread that goes on with an attempt that is over counts there."""
    contexts, seen = [], []
    inner = lab.kit.with_resilience("in", custom_config=lab.config())(idempotency_key)

    @lab.kit.with_resilience("op", custom_config=lab.config(idempotency_key="k"))
    def call():
        contexts.append(contextvars.copy_context())
        if len(contexts) < 3:
            raise ServerError
        for context in contexts[:2]:
            context.run(inner)
        seen.append(inner())

    call()
    assert ["k/in/1"] == seen


async def test_key_may_be_a_text_or_a_function_of_the_arguments(lab, way):
    """The function's text is the key as it is, wherever the call is made; None from it means a key of the call's own."""

    def attempt(order):
        del order
        return idempotency_key()

    def of(order):
        return f"order-{order}" if order else None

    with InJob():
        keys = [await lab.call(way, attempt, order, config=lab.config(idempotency_key=of)) for order in (7, 8, 7, 0)]
        fixed = await lab.call(way, attempt, 1, config=lab.config(idempotency_key="fixed"))
    assert ["order-7", "order-8", "order-7", "job-1/op/4", "fixed"] == [*keys, fixed]


async def test_key_function_is_asked_once_a_call(lab, direct, steps):
    """All attempts have what it gave before the first."""
    asked, seen = [], []

    def of():
        asked.append(1)
        return f"key-{len(asked)}"

    def attempt():
        seen.append(idempotency_key())
        raise ServerError

    with pytest.raises(ServerError):
        await lab.call(direct, attempt, config=lab.config(idempotency_key=of))
    assert (["key-1"] * 3, [1]) == (seen, asked)


@pytest.mark.parametrize("given", [7, "", b"key"])
async def test_key_function_that_gives_no_text_is_told(lab, direct, steps, given):
    """Nothing is sent under a key that is none."""
    attempt = steps("done")
    with pytest.raises(ConfigurationError, match="idempotency_key: must give a text that is not empty, or None"):
        await lab.call(direct, attempt, config=lab.config(idempotency_key=lambda: given))
    assert (0, {"total_calls": 1, "failed_calls": 1}) == (attempt.calls, lab.counted())


async def test_key_function_that_fails_ends_the_call(lab, direct, steps):
    """Its error says where it comes from."""
    attempt = steps("done")

    def of():
        raise KeyError("order")

    with pytest.raises(KeyError) as caught:
        await lab.call(direct, attempt, config=lab.config(idempotency_key=of))
    assert any("ResilienceConfig.idempotency_key" in note for note in caught.value.__notes__)
    assert 0 == attempt.calls


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), min_size=1, max_size=8), st.text(min_size=1))
@settings(max_examples=60)
def test_keys_are_bounded_stable_and_fit_a_header(names, outer):
    """However deep calls are nested and whatever their operations are called (services take 255 characters)."""

    def nested(left):
        holder = Job(outer) if left is None else left
        keys = []
        for name in names:
            token = current_call.set(holder)
            try:
                number = holder.next_number(name)
                key = nested_key(holder, name, number)
            finally:
                current_call.reset(token)
            keys.append(key)
            holder = Job(key)
        return keys

    first = nested(None)
    assert first == nested(None)
    assert len(set(first)) == len(first)
    assert all(len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable() for key in first)


def test_keys_of_operations_with_separators_in_their_names_do_not_meet():
    """A name that looks like a nested call is none."""
    outer = Job("k")
    assert nested_key(outer, "a/1/b", 1) != nested_key(Job(nested_key(outer, "a", 1)), "b", 1)


def test_request_keys_tell_requests_apart_and_know_them_again():
    """The same request in the next attempt has the same key, the second such one in this attempt another; outside, none has."""
    assert None is request_key(b"POST", b"url", b"body")
    runs = []
    for _ in range(2):
        with InJob():
            runs.append(
                [
                    request_key(b"POST", b"url", b"body"),
                    request_key(b"POST", b"url", b"other"),
                    request_key(b"POST", b"url", b"body"),
                    request_key(b"POST", b"urlb", b"ody"),
                ]
            )
    assert runs[0] == runs[1]
    assert 4 == len(set(runs[0]))
    with InJob():
        sent = [request_key(b"a", is_repetition=repeated) for repeated in (True, False, True, False, True)]
    assert sent[0] == sent[1] == sent[2]
    assert sent[2] != sent[3] == sent[4]
    with InJob("job-2"):
        assert request_key(b"POST", b"url", b"body") not in runs[0]


# --- coroutines that are dropped -------------------------------------------------------------------------------------------


class Suspended:
    """Awaits for ever."""

    def __await__(self):
        yield


async def suspended():
    """Never gives anything."""
    await Suspended()


async def suspended_items():
    """The same as a stream."""
    await Suspended()
    yield 1


@pytest.mark.parametrize("half_open", [False, True])
@pytest.mark.parametrize("options", [{}, {"deadline": 5.0}, {"idempotency_key": True}, {"retry": None, "deadline": 5.0}])
@pytest.mark.parametrize("stream", [False, True])
async def test_call_that_is_closed_in_another_context_asks_no_fallback(lab, half_open, options, stream):
    """The collector closes an abandoned coroutine in a context of its own: nothing is judged, asked or left behind there."""
    asked = []

    def fallback():
        asked.append(current_call.get())

    async def items():
        fallback()
        yield 1

    async def answer():
        fallback()

    config = lab.config(**options)
    wrap = lab.kit.with_resilience("op", custom_config=config, fallback=items if stream else answer)
    protected = wrap(suspended_items if stream else suspended)
    breaker = lab.kit.get_circuit_breaker("op")
    if half_open:
        breaker.state = "half_open"
    begun = protected().asend(None) if stream else protected()
    contextvars.copy_context().run(begun.send, None)
    begun.close()
    assert ([], None, ()) == (asked, current_call.get(), running_trials.get())
    assert breaker.state == ("half_open" if half_open else "closed")
    assert breaker.failure_count == 0


async def test_call_that_is_closed_from_another_context_asks_no_fallback(lab):
    """As the collector closes what nobody holds any more: nothing is called then, and no context of the closer's changes."""
    asked = []

    async def wait():
        await asyncio.sleep(0)

    async def fallback():
        asked.append(1)

    config = lab.config(retry=None, idempotency_key=True)
    call = lab.kit.with_resilience("op", custom_config=config, fallback=fallback)(wait)()
    contextvars.copy_context().run(call.send, None)
    call.close()
    assert ([], None) == (asked, current_call.get())
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted()


async def test_trial_that_is_closed_from_another_context_gives_its_slot_back(lab):
    """In a breaker alone and in an operation."""

    async def wait():
        await asyncio.sleep(0)

    breaker = lab.kit.get_circuit_breaker("op")
    for protected in (lab.kit.with_resilience("op", custom_config=lab.config(retry=None))(wait), breaker.decorate(wait)):
        breaker.state = "half_open"
        call = protected()
        contextvars.copy_context().run(call.send, None)
        assert 1 == breaker.trials_in_flight
        call.close()
        assert (0, ()) == (breaker.trials_in_flight, running_trials.get())


async def test_light_call_with_a_deadline_can_be_closed_in_another_context(lab):
    """It ends as a closed coroutine does, and not in an error about the context."""
    begun = lab.kit.with_resilience("op", custom_config=lab.config(deadline=5.0))(suspended)()
    contextvars.copy_context().run(begun.send, None)
    begun.close()
    counted = lab.kit.get_metrics("op")
    assert (1, 0) == (counted["cancelled_calls"], counted["failed_calls"])
