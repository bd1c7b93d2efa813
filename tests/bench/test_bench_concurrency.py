"""The same calls one after the other and at once."""

import asyncio
import itertools
import threading

import pytest

from resilience_kit.bench import PerformanceBenchmarker
from resilience_kit.bench.measure import concurrency
from resilience_kit.errors import ConfigurationError


def test_threads_make_all_calls_twice_over():
    """8 workers with 5 calls each: 40 in a row, 40 at once, by so many threads."""
    seen = []
    result = PerformanceBenchmarker().measure_concurrency("a", lambda: seen.append(threading.get_ident()), 8, 5)
    assert (80, 40, 8, "threads", "a") == (len(seen), result.calls, result.workers, result.mode, result.name)
    assert 1 == len(set(seen[:40]))


def test_threads_are_under_way_at_once():
    """Four calls that wait for each other come back only when there are four threads."""
    gate, calls = threading.Barrier(4), iter(range(8))

    def call():
        if next(calls) >= 4:
            gate.wait(30)

    assert "threads" == PerformanceBenchmarker().measure_concurrency("a", call, 4).mode


@pytest.mark.parametrize("twin", [False, True])
def test_tasks_are_under_way_at_once(twin):
    """The same of tasks, in a loop of their own or in the one that runs."""
    seen, gate = [], asyncio.Barrier(4)

    async def call():
        seen.append(1)
        if len(seen) > 4:
            await gate.wait()

    bench = PerformanceBenchmarker()
    result = asyncio.run(bench.measure_concurrency_async("a", call, 4)) if twin else bench.measure_concurrency("a", call, 4)
    assert ("tasks", 8) == (result.mode, len(seen))


def test_the_speed_up_is_the_quotient():
    """8 s against 2 s with 5 workers: 4 times as fast, 80 % of what could be had."""
    given = {"name": "a", "mode": "tasks", "workers": 5, "calls": 10}
    result = concurrency.ConcurrencyResult(sequential_seconds=8.0, concurrent_seconds=2.0, **given)
    assert (4.0, 0.8) == (result.speedup, result.efficiency)
    assert 1.0 == concurrency.ConcurrencyResult(sequential_seconds=0.0, concurrent_seconds=0.0, **given).speedup


def test_the_first_error_of_a_thread_leaves():
    """With the name, after the others have come back; they do not begin all that is left to them."""
    numbers = itertools.count()

    def call():
        if next(numbers) == 80_000:  # the first call of the threads, after all those made one after the other
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as raised:
        PerformanceBenchmarker().measure_concurrency("a", call, 4, 20_000)
    assert ["in the benchmark 'a'"] == raised.value.__notes__
    assert next(numbers) < 150_000


async def test_the_first_error_of_a_task_leaves():
    """As it is, not in a group, and no task is left."""
    seen = []

    async def call():
        seen.append(1)
        await asyncio.sleep(0)
        if len(seen) > 10:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as raised:
        await PerformanceBenchmarker().measure_concurrency_async("a", call, 4, 10_000)
    assert ["in the benchmark 'a'"] == raised.value.__notes__
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_cancellation_reaches_the_tasks():
    """None of them goes on."""
    task = asyncio.ensure_future(PerformanceBenchmarker().measure_concurrency_async("a", asyncio.Event().wait, 4))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {asyncio.current_task()} == asyncio.all_tasks()


def test_threads_that_cannot_be_started_leave_nobody_waiting(monkeypatch):
    """The system has no more threads: the ones that wait for the others are let go."""
    submit = concurrency.ThreadPoolExecutor.submit

    def refused(self, work):
        if len(self._threads) == 2:
            raise RuntimeError("can't start new thread")
        return submit(self, work)

    monkeypatch.setattr(concurrency.ThreadPoolExecutor, "submit", refused)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        PerformanceBenchmarker().measure_concurrency("a", lambda: None, 4)


@pytest.mark.parametrize(("field", "value"), [("workers", 0), ("iterations", 1.5), ("name", None)])
def test_wrong_arguments_are_refused(field, value):
    """Before anything is called."""
    with pytest.raises(ConfigurationError, match=f"benchmark.{field}: must be"):
        PerformanceBenchmarker().measure_concurrency(**({"name": "a", "f": pytest.fail} | {field: value}))


async def test_tasks_do_not_call_plain_functions():
    """They would block one another."""
    with pytest.raises(TypeError, match="give a plain one to measure_concurrency, which has threads"):
        await PerformanceBenchmarker().measure_concurrency_async("a", lambda: None)


def test_a_plain_function_that_gives_a_coroutine_is_refused():
    """In threads, too."""

    async def work():
        """Never runs."""

    with pytest.raises(TypeError, match="whose work is not done yet"):
        PerformanceBenchmarker().measure_concurrency("a", lambda: work(), 2)  # noqa: PLW0108 - a plain function is the point
