"""What a protected function may ask about its call."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from resilience_kit import AIServiceResilience, ResilienceConfig, idempotency_key, remaining_time
from resilience_kit.config import ResilienceSettings
from resilience_kit.context import current_call
from resilience_kit.testing import FakeClock


@pytest.fixture
def kit():
    """An orchestrator on a fake clock."""
    return AIServiceResilience(ResilienceSettings(), clock=FakeClock())


def both():
    """Both answers."""
    return remaining_time(), idempotency_key()


def test_outside_of_a_call_there_is_nothing_to_know(kit):
    """None and None; and afterwards again."""
    assert (None, None) == both()
    kit.call_with_resilience(both, "op", deadline=5.0)
    assert (None, None, None) == (*both(), current_call.get())


def test_inside_there_is(kit):
    """In a call that has something to tell."""
    seconds, key = kit.call_with_resilience(both, "op", deadline=5.0)
    assert (5.0, 36) == (seconds, len(key))
    seconds, key = kit.call_with_resilience(both, "op", custom_config=ResilienceConfig(idempotency_key=True))
    assert (None, 36) == (seconds, len(key))


def test_an_inner_call_has_a_key_of_its_own_and_the_nearer_deadline(kit):
    """It is another request, inside the same time."""

    def outer():
        return both(), kit.call_with_resilience(both, "inner", deadline=60.0)

    (seconds, key), (inner_seconds, inner_key) = kit.call_with_resilience(outer, "outer", deadline=5.0)
    assert (5.0, 5.0, False) == (seconds, inner_seconds, key == inner_key)


async def test_tasks_and_threads_with_a_copied_context_know_it():
    """A bare thread does not."""
    kit = AIServiceResilience(ResilienceSettings(), clock=FakeClock(auto_advance=False))  # no loop knows of threads
    bare, copied = [], []

    async def work():
        task = await asyncio.create_task(asyncio.sleep(0, both()))
        thread = await asyncio.to_thread(both)
        context = contextvars.copy_context()
        for target in (lambda: bare.append(both()), lambda: copied.append(context.run(both))):
            plain = threading.Thread(target=target)
            plain.start()
            plain.join()
        return {both(), task, thread, *copied}

    assert 1 == len(await kit.execute_with_resilience(work, "op", deadline=5.0))
    assert [(None, None)] == bare


def test_threads_that_ask_at_once_get_one_key(kit):
    """It is made once."""
    keys, barrier = [], threading.Barrier(8)

    def work():
        context = contextvars.copy_context()

        def ask():
            barrier.wait()
            keys.append(idempotency_key())

        threads = [threading.Thread(target=context.copy().run, args=(ask,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    kit.call_with_resilience(work, "op", deadline=5.0)
    assert (8, 1) == (len(keys), len(set(keys)))


@pytest.mark.parametrize("options", [{}, {"custom_config": ResilienceConfig(deadline=5.0, attempt_timeout=4.0)}])
async def test_a_task_that_outlives_its_call_is_not_bound_by_it(kit, options):
    """On the fast path and on the other."""
    left = []

    async def later():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return remaining_time()

    async def work():
        left.append(asyncio.ensure_future(later()))
        return remaining_time()

    assert None is not await kit.execute_with_resilience(work, "op", **options)
    protected = kit.with_resilience("op", **options)(work)
    assert None is not await protected()
    assert [None, None] == await asyncio.gather(*left)


def test_a_limit_of_the_callers_own():
    """Without a deadline it is the answer; with one, whichever is shorter."""
    assert 60.0 == remaining_time(at_most=60.0)
    kit = AIServiceResilience(ResilienceSettings(), clock=FakeClock())
    both = kit.with_resilience("op", deadline=30.0)(lambda: (remaining_time(at_most=60.0), remaining_time(at_most=5.0)))
    assert (30.0, 5.0) == both()
