"""Time limits: of the whole call, of one attempt, and those of a call around."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from resilience_kit import remaining_time
from resilience_kit.errors import APITimeoutError, DeadlineExceededError, Rejected, ServerError
from resilience_kit.execution import timeouts
from resilience_kit.policies.breaker import CircuitState
from resilience_kit.policies.retry import RetryConfig

CUTTABLE = ("async", "async generator", "sync giving a coroutine", "sync giving an async generator", "call of async", "execute")


@pytest.fixture(params=CUTTABLE)
def cuttable(request):
    """The ways whose attempts can be cut off."""
    return request.param


@pytest.fixture
def slow(lab):
    """Makes functions of a way's kind that take some seconds."""

    def make(way, *durations, values=("done",)):
        left = list(durations)

        async def work():
            seconds = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(seconds, Exception):
                raise seconds
            await lab.clock.sleep_async(seconds)
            return values[0]

        async def stream():
            yield await work()

        return stream if "generator" in way else work

    return make


async def protected(lab, way, function, **options):
    """One call of a function that is async already."""
    config = lab.config(**options)
    if way == "execute":
        return await lab.kit.execute_with_resilience(function, "op", custom_config=config)
    if way == "call of async":
        return await lab.kit.call_with_resilience(function, "op", custom_config=config)

    def give():
        return function()

    given = give if way.startswith("sync giving") else function
    return await lab.finished(lab.kit.with_resilience("op", custom_config=config)(given)())


async def test_an_attempt_past_the_deadline_is_cut(lab, cuttable, slow):
    """A hung service: a DeadlineExceededError at the deadline, which the breaker counts (invariant 26)."""
    with pytest.raises(DeadlineExceededError) as caught:
        await protected(lab, cuttable, slow(cuttable, 1000.0), deadline=5.0)
    assert 105.0 == lab.clock.monotonic()
    assert "'op' went past its deadline of 5 s in attempt 1" == str(caught.value)
    assert None is caught.value.__cause__
    assert 1 == lab.kit.get_circuit_breaker("op").failure_count
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()
    assert 0 == asyncio.current_task().cancelling()


async def test_the_cut_is_chained_to_the_last_real_error(lab, cuttable, slow):
    """The caller sees what went wrong before the time was over (invariant 32)."""
    first = ServerError("real")
    with pytest.raises(DeadlineExceededError) as caught:
        await protected(lab, cuttable, slow(cuttable, first, 1000.0), deadline=5.0)
    assert (first, 105.0) == (caught.value.__cause__, lab.clock.monotonic())
    assert "in attempt 2" in str(caught.value)
    assert None is not first.__traceback__


async def test_an_attempt_timeout_is_retried(lab, cuttable, slow):
    """An attempt that hangs is cut, counted, and made again."""
    assert "done" == await protected(lab, cuttable, slow(cuttable, 1000.0, 1000.0, 0.5), attempt_timeout=2.0)
    assert 100.0 + 2.0 + 1.0 + 2.0 + 2.0 + 0.5 == lab.clock.monotonic()
    assert {"total_calls": 1, "successful_calls": 1, "retry_attempts": 2} == lab.counted()


async def test_hung_attempts_open_the_circuit(lab, cuttable, slow):
    """As failures of kind timeout."""
    with pytest.raises(APITimeoutError) as caught:
        await protected(lab, cuttable, slow(cuttable, 1000.0), attempt_timeout=2.0, threshold=3)
    assert "'op': no answer within 2 s" == str(caught.value)
    assert CircuitState.OPEN is lab.kit.get_circuit_breaker("op").state


async def test_the_nearer_of_both_limits_cuts(lab, cuttable, slow):
    """The second attempt meets the deadline before its own timeout (invariant 26)."""
    with pytest.raises(DeadlineExceededError) as caught:
        await protected(lab, cuttable, slow(cuttable, 1000.0), attempt_timeout=3.0, deadline=5.0)
    assert 105.0 == lab.clock.monotonic()
    assert isinstance(caught.value.__cause__, APITimeoutError)


async def test_what_is_not_idempotent_is_not_repeated_after_a_timeout(lab, cuttable, slow):
    """The service may have got it (invariant 30)."""
    with pytest.raises(APITimeoutError):
        await protected(lab, cuttable, slow(cuttable, 1000.0), attempt_timeout=2.0, idempotent=False)
    assert 102.0 == lab.clock.monotonic()


async def test_an_attempt_that_answers_its_cut_with_an_error_of_its_own_ends_in_that(lab):
    """It is the function's word then, and the cancellation is taken back all the same."""

    async def stubborn():
        try:
            await lab.clock.sleep_async(1000.0)
        except asyncio.CancelledError:
            raise ServerError("cut") from None

    for options in ({"deadline": 5.0}, {"attempt_timeout": 5.0}):
        with pytest.raises(ServerError):
            await protected(lab, "async", stubborn, retry=None, **options)
        assert 0 == asyncio.current_task().cancelling()


async def test_an_attempt_that_finishes_despite_its_cut_has_finished(lab):
    """A result is a result."""

    async def stubborn():
        with contextlib.suppress(asyncio.CancelledError):
            await lab.clock.sleep_async(1000.0)
        await asyncio.sleep(0)
        return "late"

    for options in ({"deadline": 5.0}, {"attempt_timeout": 5.0}, {"deadline": 5.0, "guards": (lab.Guard(),)}):
        assert "late" == await protected(lab, "async", stubborn, **options)
        assert 0 == asyncio.current_task().cancelling()


async def test_a_sync_result_after_the_deadline_is_returned(lab):
    """A plain function cannot be cut off; what it gives is not thrown away."""
    for way in ("sync", "generator", "call"):
        assert None is await lab.call(way, lambda: lab.clock.advance(50.0), config=lab.config(deadline=5.0))


async def test_a_sync_error_after_the_deadline_is_raised(lab, way):
    """No attempt begins after the deadline (invariant 26)."""

    def attempt():
        lab.clock.advance(50.0)
        raise ServerError

    with pytest.raises((ServerError, DeadlineExceededError)) as caught:
        await lab.call(way, attempt, config=lab.config(deadline=5.0))
    assert (150.0, []) == (lab.clock.monotonic(), lab.clock.sleeps)
    assert "its time is over" in caught.value.__notes__[0]


async def test_a_pause_that_would_cross_the_deadline_is_not_begun(lab, way, steps):
    """The last real error, at once (invariant 26)."""
    attempt = steps(ServerError)
    with pytest.raises(ServerError) as caught:
        await lab.call(way, attempt, config=lab.config(deadline=3.0))
    assert (2, [1.0]) == (attempt.calls, lab.clock.sleeps)
    assert "the next attempt would begin after the deadline" in caught.value.__notes__[0]


async def test_a_pause_that_takes_longer_than_asked_ends_in_the_deadline(lab, way, steps):
    """No attempt begins after the deadline, even so (invariant 26)."""
    error = ServerError("real")
    attempt = steps(error)
    retry = RetryConfig(jitter=None, before_sleep=lambda state: lab.clock.advance(4.0))
    with pytest.raises(DeadlineExceededError) as caught:
        await lab.call(way, attempt, config=lab.config(deadline=5.0, retry=retry))
    assert (1, error) == (attempt.calls, caught.value.__cause__)


async def test_the_function_may_ask_for_its_time(lab, way):
    """For a client's own timeout: the nearest limit, counted down, never negative."""
    seen = []

    def attempt():
        seen.append(remaining_time())
        lab.clock.advance(2.0)
        seen.append(remaining_time())
        lab.clock.advance(60.0)
        seen.append(remaining_time())

    with contextlib.suppress(DeadlineExceededError):
        await lab.call(way, attempt, config=lab.config(deadline=30.0))
    assert [30.0, 28.0, 0.0] == seen
    assert None is remaining_time()


async def test_the_attempt_timeout_is_part_of_the_time(lab, way, steps):
    """Of each attempt anew, inside the deadline."""
    seen = []

    def attempt():
        seen.append(remaining_time())
        return steps(ServerError)() if len(seen) < 3 else "done"

    await lab.call(way, attempt, config=lab.config(deadline=6.0, attempt_timeout=4.0))
    assert [4.0, 4.0, 3.0] == seen


# --- a deadline around ---


async def test_a_deadline_around_binds_the_inner_call(lab, way, steps):
    """Its pauses have to fit; it does not begin when the time is over (invariant 26)."""
    attempt = steps(ServerError)

    async def outer():
        with pytest.raises(ServerError):
            await lab.call(way, attempt, operation="inner")
        lab.clock.advance(10.0)
        with pytest.raises(DeadlineExceededError, match="'inner' went past the deadline around it in attempt 1"):
            await lab.call(way, attempt, operation="inner")
        return lab.clock.monotonic()

    protected_outer = lab.kit.with_resilience("outer", custom_config=lab.config(deadline=2.5))(outer)
    with contextlib.suppress(DeadlineExceededError):
        await protected_outer()
    assert (2, [1.0]) == (attempt.calls, lab.clock.sleeps)
    assert {"total_calls": 2, "failed_calls": 2, "retry_attempts": 1} == lab.counted("inner")


async def test_the_nearer_deadline_is_named(lab, steps):
    """Although the inner call has one of its own."""

    def late():
        lab.clock.advance(10.0)
        lab.kit.call_with_resilience(steps("never"), "inner", custom_config=lab.config(deadline=60.0))

    with pytest.raises(DeadlineExceededError, match="the deadline around it"):
        lab.kit.with_resilience("outer", custom_config=lab.config(deadline=5.0))(late)()


async def test_an_attempt_cut_by_the_outer_deadline_is_neutral_inside(lab, cuttable, slow):
    """The inner service may be well; the outer operation hung (invariant 4)."""

    async def outer():
        return await protected(lab, cuttable, slow(cuttable, 1000.0))

    with pytest.raises(DeadlineExceededError):
        await lab.kit.with_resilience("outer", custom_config=lab.config(deadline=5.0))(outer)()
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted("op")
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted("outer")
    assert 0 == asyncio.current_task().cancelling()


async def test_a_callers_own_timeout_is_a_cancellation(lab, cuttable, slow):
    """asyncio.timeout around us gets its cancellation; neutral for the breaker (invariant 28)."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await protected(lab, cuttable, slow(cuttable, 1000.0), deadline=500.0, attempt_timeout=400.0)
    assert 0 == lab.kit.get_circuit_breaker("op").failure_count
    assert {"total_calls": 1, "cancelled_calls": 1} == lab.counted("op")


async def test_a_cut_and_a_cancellation_at_once_are_a_cancellation(lab):
    """The caller went away at the moment of the deadline: the call does not swallow that (invariant 28)."""
    task: asyncio.Task[object]

    async def hang():
        lab.clock.call_later(5.0, task.cancel)
        await lab.clock.sleep_async(1000.0)

    for options in ({"deadline": 5.0}, {"attempt_timeout": 5.0}):
        task = asyncio.ensure_future(protected(lab, "async", hang, **options))
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_many_calls_share_one_timer(lab):
    """Each is cut at its own time, in any order."""
    ended = {}

    async def one(seconds):
        with pytest.raises(DeadlineExceededError):
            await lab.kit.execute_with_resilience(lab.clock.sleep_async, "op", 99.0, custom_config=lab.config(deadline=seconds))
        ended[seconds] = lab.clock.monotonic() - 100.0

    times = [5.0, 0.1, 3.0, 0.3, 0.2, 7.0]
    await asyncio.gather(*map(one, times))
    assert {seconds: seconds for seconds in times} == pytest.approx(ended, abs=1e-6)


async def test_the_timer_stops_with_the_last_call(lab):
    """It looks once more, and is not there any longer."""
    decorated = lab.kit.with_resilience("op", custom_config=lab.config(deadline=30.0))(lab.shapes["async"](lambda: "done"))
    await decorated()
    cutter = timeouts.scheduler_for(lab.clock)
    assert ({}, True) == (cutter.pending, cutter.armed_for < float("inf"))
    await lab.clock.sleep_async(1.0)
    assert float("inf") == cutter.armed_for


async def test_a_loop_and_a_clock_have_a_cutter_of_their_own(lab):
    """Two clocks in one loop do not cut for each other; a forked child makes its own (invariant 22)."""
    first = timeouts.scheduler_for(lab.clock)
    assert first is timeouts.scheduler_for(lab.clock)
    assert first is not timeouts.scheduler_for(type(lab)().clock)
    timeouts._forgets.reset_after_fork()
    assert None is timeouts._thread_state.scheduler
    cutter = timeouts.scheduler_for(lab.clock)
    cutter.loop = object()  # a loop that does not say which thread it runs in
    assert cutter is not timeouts.scheduler_for(lab.clock)


async def test_a_loop_that_does_not_name_its_thread_is_asked_for(lab, monkeypatch):
    """As uvloop's."""
    cutter = timeouts.scheduler_for(lab.clock)
    monkeypatch.setattr(timeouts, "get_ident", lambda: -1)
    assert cutter is timeouts.scheduler_for(lab.clock)


async def test_a_guards_wait_beyond_the_deadline_is_a_refusal(lab, way, steps):
    """The function is not called, and nobody sleeps (invariant 26)."""
    guard = lab.Guard("slow", 7.0)
    attempt = steps("done")
    with pytest.raises(Rejected) as caught:
        await lab.call(way, attempt, config=lab.config(deadline=5.0, guards=(guard,)))
    assert ("slow", 7.0, 0, []) == (caught.value.name, caught.value.retry_after, attempt.calls, lab.clock.sleeps)
    assert [["cancelled"]] == guard.kinds
