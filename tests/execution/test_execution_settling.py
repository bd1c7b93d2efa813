"""Every ending settles its guards with what there is to know: how long, what was given or delivered, and whether it was sent."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from resilience_kit.errors import BulkheadFullError, RateLimitError, ServerError, StreamInterruptedError
from resilience_kit.events import HedgeSkipped
from resilience_kit.outcome import Streamed
from resilience_kit.policies.bulkhead import Bulkhead, BulkheadConfig
from resilience_kit.policies.hedge import HedgeConfig

STREAMS = ("generator", "async generator")


def told(guard):
    """What the permits of a guard were told: kind, duration, items or value, whether it was begun, and surely not sent."""
    outcomes = [outcome for permit in guard.permits for outcome in permit.outcomes]
    return [
        (
            each.kind.value,
            round(each.duration, 3),
            list(each.value.items) if isinstance(each.value, Streamed) else each.value,
            each.begun,
            each.not_sent,
        )
        for each in outcomes
    ]


def stream_of(lab, kind, guard, *steps, **options):
    """A protected stream of items, each after a second; an error among them is raised."""

    def items():
        for step in steps:
            lab.clock.advance(1.0)
            if isinstance(step, Exception):
                raise step
            yield step

    async def async_items():
        for step in steps:
            await lab.clock.sleep_async(1.0)
            if isinstance(step, Exception):
                raise step
            yield step

    config = lab.config(retry=None, guards=(guard,), **options)
    protected = lab.kit.with_resilience("op", custom_config=config)(items if kind == "generator" else async_items)
    return protected()


async def take(stream, most=99):
    """The first items of a stream."""
    got = []
    for _ in range(most):
        try:
            got.append(next(stream) if hasattr(stream, "__next__") else await anext(stream))
        except (StopIteration, StopAsyncIteration):
            break
    return got


@pytest.mark.parametrize("kind", STREAMS)
async def test_stream_that_ends_is_settled_with_its_items(lab, kind):
    """Also one without any."""
    guard = lab.Guard()
    await take(stream_of(lab, kind, guard, "a", "b"))
    await take(stream_of(lab, kind, guard))
    assert [("success", 2.0, ["a", "b"], True, False), ("success", 0.0, [], True, False)] == told(guard)


@pytest.mark.parametrize("kind", STREAMS)
async def test_stream_that_breaks_is_settled_with_what_was_delivered(lab, kind):
    """A service charges for it."""
    guard = lab.Guard()
    with pytest.raises(StreamInterruptedError):
        await take(stream_of(lab, kind, guard, "a", "b", ServerError()))
    assert [("failure", 3.0, ["a", "b"], True, False)] == told(guard)


@pytest.mark.parametrize("kind", STREAMS)
async def test_stream_that_is_left_is_settled_with_what_was_delivered(lab, kind):
    """It says nothing of the service, but something of the cost."""
    guard = lab.Guard()
    stream = stream_of(lab, kind, guard, "a", "b", "c")
    await take(stream, 2)
    if kind == "generator":
        stream.close()
    else:
        await stream.aclose()
    assert [("cancelled", 2.0, ["a", "b"], True, False)] == told(guard)


@pytest.mark.parametrize("kind", STREAMS)
async def test_stream_whose_consumer_fails_is_settled_with_what_was_delivered(lab, kind):
    """An error that the consumer throws in and gets back is none of the service's."""
    guard = lab.Guard()
    stream = stream_of(lab, kind, guard, "a", "b")
    await take(stream, 1)
    with pytest.raises(KeyError):
        stream.throw(KeyError()) if kind == "generator" else await stream.athrow(KeyError())
    assert [("cancelled", 1.0, ["a"], True, False)] == told(guard)


async def test_stream_that_is_cut_off_is_settled_with_what_was_delivered(lab):
    """By its idle timeout."""
    guard = lab.Guard()

    async def items():
        yield "a"
        await lab.clock.sleep_async(100.0)
        yield "b"

    config = lab.config(retry=None, guards=(guard,), idle_timeout=2.0)
    with pytest.raises(StreamInterruptedError):
        await take(lab.kit.with_resilience("op", custom_config=config)(items)())
    ((kind, seconds, *rest),) = told(guard)
    assert ("failure", ["a"], True, False) == (kind, *rest)
    assert 2.0 <= seconds < 3.0


async def test_stream_that_is_cancelled_is_settled_with_what_was_delivered(lab):
    """Its task goes away in the midst of a step."""
    guard, got = lab.Guard(), []

    async def items():
        yield "a"
        await asyncio.Event().wait()

    async def consume():
        got.append(await anext(stream))
        await anext(stream)

    stream = lab.kit.with_resilience("op", custom_config=lab.config(retry=None, guards=(guard,)))(items)()
    task = asyncio.ensure_future(consume())
    while not got:
        await asyncio.sleep(0)
    lab.clock.advance(3.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [("cancelled", 3.0, ["a"], True, False)] == told(guard)


async def test_cancelled_attempt_is_settled_with_its_duration(lab):
    """How long it had been under way."""
    guard = lab.Guard()

    async def hang():
        await asyncio.Event().wait()

    task = asyncio.ensure_future(lab.kit.with_resilience("op", custom_config=lab.config(guards=(guard,)))(hang)())
    await asyncio.sleep(0)
    lab.clock.advance(4.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [("cancelled", 4.0, None, True, False)] == told(guard)


async def test_attempt_that_was_not_made_is_settled_as_not_begun(lab, direct, steps):
    """A guard further on refused: what was taken was not used, and nothing was sent."""
    guard = lab.Guard()
    with pytest.raises(BulkheadFullError):
        await lab.call(direct, steps("done"), config=lab.config(guards=(guard, lab.Guard("full", BulkheadFullError("full")))))
    assert [("cancelled", 0.0, None, False, True)] == told(guard)


@pytest.mark.parametrize(
    ("error", "kind", "not_sent"),
    [(ServerError(), "failure", False), (RateLimitError(), "ignored", True), (ConnectionRefusedError(), "failure", True)],
)
async def test_failed_attempt_is_settled_with_whether_it_was_sent(lab, direct, steps, error, kind, not_sent):
    """A request that could not connect has cost nothing."""
    guard = lab.Guard()
    with pytest.raises(type(error)):
        await lab.call(direct, steps(error), config=lab.config(retry=None, guards=(guard,)))
    assert [(kind, 0.0, None, True, not_sent)] == told(guard)


# --- hedges ------------------------------------------------------------------------------------------------------------------


def hedged(lab, *plan, **options):
    """A call whose requests take planned seconds and end in planned steps, with a hedge after a second."""
    left = list(plan)

    async def request():
        seconds, step = left.pop(0)
        await lab.clock.sleep_async(seconds)
        if isinstance(step, Exception):
            raise step
        return step

    config = lab.config(retry=None, hedge=HedgeConfig(delay=1.0), **options)
    return lab.kit.with_resilience("op", custom_config=config)(request)


async def test_hedge_that_wins_is_settled_with_its_own_duration(lab):
    """And the first request as cancelled, with the time that it had been under way."""
    guard = lab.Guard()
    assert "hedge" == await hedged(lab, (30.0, "late"), (2.0, "hedge"), guards=(guard,))()
    assert [("cancelled", 3.0, None, True, False), ("success", 2.0, "hedge", True, False)] == told(guard)


async def test_hedge_that_loses_is_settled_as_cancelled(lab):
    """With its duration."""
    guard = lab.Guard()
    assert "first" == await hedged(lab, (3.0, "first"), (30.0, "late"), guards=(guard,))()
    assert {("success", 3.0, "first", True, False), ("cancelled", 2.0, None, True, False)} == set(told(guard))


async def test_hedge_that_is_answered_with_the_first_is_settled_with_its_value(lab):
    """Both requests were served, so both have cost something."""
    guard = lab.Guard()
    assert "first" == await hedged(lab, (3.0, "first"), (2.0, "hedge"), guards=(guard,))()
    assert [("success", 3.0, "first", True, False), ("success", 2.0, "hedge", True, False)] == sorted(
        told(guard), reverse=True, key=lambda each: each[1]
    )


async def test_hedge_that_could_not_connect_is_settled_as_not_sent(lab):
    """As any request."""
    guard = lab.Guard()
    assert "first" == await hedged(lab, (3.0, "first"), (1.0, ConnectionRefusedError()), guards=(guard,))()
    assert ("failure", 1.0, None, True, True) in told(guard)


class Ticket:
    """A turn that has come as soon as it is looked at."""

    expected = patience = None

    def __init__(self, pause=0.0):
        self.pause, self.looks = pause, 0

    def look(self):
        self.looks += 1
        return self.pause


async def test_hedge_takes_a_turn_that_has_come_at_once(lab):
    """A guard whose every permit has a turn, such as one that writes a ledger, does not switch hedging off."""

    class Ledger(lab.Guard):
        def admit(self, cost=1.0):
            permit = super().admit(cost)
            permit.turn = Ticket()
            return permit

    lab.listen(HedgeSkipped)
    guard = Ledger("ledger")
    assert "hedge" == await hedged(lab, (30.0, "late"), (2.0, "hedge"), guards=(guard,))()
    assert (2, []) == (len(guard.permits), lab.events)


@pytest.mark.parametrize("pause", [None, 3.0, "refuses"])
async def test_hedge_that_would_have_to_wait_is_told_once(lab, caplog, pause):
    """By event and log, for each guard of an operation; what was taken of others goes back."""

    class Queue(lab.Guard):
        def admit(self, cost=1.0):
            permit = super().admit(cost)
            if len(self.permits) % 2 == 0:
                if pause == "refuses":
                    self.permits.pop()
                    raise BulkheadFullError(self.name)
                permit.turn = Ticket(pause)
            return permit

    lab.listen(HedgeSkipped)
    caplog.set_level("INFO", "resilience_kit")
    first, queue = lab.Guard("first"), Queue("queue")
    queue.kind = "budget"
    for _ in range(2):
        assert "first" == await hedged(lab, (3.0, "first"), guards=(first, queue))()
        if pause == "refuses":
            queue.permits.append(lab.Guard().admit())
    assert [HedgeSkipped(operation="op", guard="queue", guard_kind="budget")] == lab.events
    words = "'op': a slow call was not hedged, since budget 'queue' has no place that is free at once; this is told once"
    assert 1 == caplog.messages.count(words)
    assert 2 == sum(each == ("cancelled", 0.0, None, False, True) for each in told(first))


async def test_hedge_with_a_full_bulkhead_is_told(lab):
    """The kit's own limits, too."""
    lab.listen(HedgeSkipped)
    room = Bulkhead(BulkheadConfig(max_concurrent=1), "room", lab.clock)
    assert "first" == await hedged(lab, (3.0, "first"), bulkhead=room)()
    assert [("room", "bulkhead")] == [(event.guard, event.guard_kind) for event in lab.events]
    assert (0, 0) == (room.in_use, room.waiting)


@pytest.mark.parametrize("kind", STREAMS)
async def test_interrupted_connection_of_a_stream_was_sent(lab, kind):
    """What has delivered was sent, whatever it broke with."""
    guard = lab.Guard()
    with contextlib.suppress(StreamInterruptedError):
        await take(stream_of(lab, kind, guard, "a", ConnectionRefusedError()))
    assert [("failure", 2.0, ["a"], True, False)] == told(guard)
