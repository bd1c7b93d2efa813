"""Runs contenders side by side in one process and keeps every sample.

A row holds contenders that do the same work. Each round measures every contender of a row once, in an order drawn anew, so that
whatever slows the machine for a while slows all of them, and no contender always follows the same one. Each contender has a
callee of its own that counts its calls; a measurement whose count is not the expected one ends the benchmark, so that nothing
can be fast by being left out.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from random import Random
from statistics import median
from time import perf_counter_ns
from typing import Any

if sys.platform != "win32":
    import resource

#: Runs so many calls and gives the nanoseconds that all of them took; where a row says so, the bytes.
Measure = Callable[[int], int]
Plain = Callable[[int], Any]
Async = Callable[[int], Awaitable[Any]]


class MiscountError(Exception):
    """A measurement did not call its callee as often as it should have."""


class Callee:
    """A function that counts its calls and does no other work."""

    def __init__(self, make: Callable[[list[None]], Callable[[int], Any]]) -> None:
        self._seen: list[None] = []
        self.function = make(self._seen)

    def take_count(self) -> int:
        """Return the calls since the last `take_count`."""
        count = len(self._seen)
        self._seen.clear()
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something whose calls are timed. `reaches`: how often one call has to reach the callee; `against`: who it is divided by."""

    name: str
    against: str
    callee: Callee
    measure: Measure
    reaches: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A row: contenders that do the same work.

    `step`: calls come in multiples of it, so that they can be shared out. `weight`: one measurement takes so many times longer
    than is usual, and there are so many times fewer of them. `unit`: what is measured.
    """

    title: str
    contenders: tuple[Contender, ...]
    step: int = 1
    weight: int = 1
    unit: str = "ns a call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How thorough a run is.

    `rounds`: of the usual rows, `least` of the heaviest. `seconds`: about how long one measurement takes. `fewest`: the least
    number of calls in one. `tries`: how often a measurement is made again because another program was given the processor.
    """

    rounds: int
    least: int
    seconds: float
    fewest: int
    tries: int


FULL = Scale(rounds=100, least=9, seconds=0.003, fewest=20, tries=5)
QUICK = Scale(rounds=1, least=1, seconds=0.0, fewest=20, tries=1)

#: By contender: nanoseconds or bytes a call, one sample a round.
Samples = dict[str, list[float]]


# --- callees ---------------------------------------------------------------------------------------------------------------


def steady(seen: list[None]) -> Plain:
    def callee(x: int) -> int:
        seen.append(None)
        return x

    return callee


def failing(seen: list[None]) -> Plain:
    def callee(_: int) -> int:
        seen.append(None)
        raise ConnectionError

    return callee


def flaky(seen: list[None]) -> Plain:
    def callee(x: int) -> int:
        seen.append(None)
        if len(seen) & 1:
            raise ConnectionError
        return x

    return callee


def steady_async(seen: list[None]) -> Async:
    async def callee(x: int) -> int:
        seen.append(None)
        return x

    return callee


def failing_async(seen: list[None]) -> Async:
    async def callee(_: int) -> int:
        seen.append(None)
        raise ConnectionError

    return callee


def flaky_async(seen: list[None]) -> Async:
    async def callee(x: int) -> int:
        seen.append(None)
        if len(seen) & 1:
            raise ConnectionError
        return x

    return callee


def suspending_async(seen: list[None]) -> Async:
    async def callee(x: int) -> int:
        seen.append(None)
        await asyncio.sleep(0)
        return x

    return callee


# --- ways to call: the loops hold nothing but the call ------------------------------------------------------------------------


def calls(call: Plain) -> Measure:
    """One after the other; each has to succeed."""

    def measure(number: int) -> int:
        began = perf_counter_ns()
        for _ in repeat(None, number):
            call(1)
        return perf_counter_ns() - began

    return measure


def errors(call: Plain, kind: type[Exception]) -> Measure:
    """One after the other; each has to end in an error of `kind`."""

    def measure(number: int) -> int:
        began = perf_counter_ns()
        for _ in repeat(None, number):
            try:
                call(1)
            except kind:
                continue
            raise MiscountError("a call succeeded")
        return perf_counter_ns() - began

    return measure


def in_turn(calls: Sequence[Plain]) -> Measure:
    """One after the other, each time the next one of these; each has to succeed."""

    def measure(number: int) -> int:
        began = perf_counter_ns()
        for call in islice(cycle(calls), number):
            call(1)
        return perf_counter_ns() - began

    return measure


def in_threads(call: Plain, threads: int) -> Measure:
    """Shared out among threads that begin together: from the first one's first call to the last one's last."""

    def measure(number: int) -> int:
        share = max(1, number // threads)
        times: list[int] = []
        gate = threading.Barrier(threads)

        def work() -> None:
            gate.wait()
            began = perf_counter_ns()
            for _ in repeat(None, share):
                call(1)
            times.extend((began, perf_counter_ns()))

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return max(times) - min(times)

    return measure


@contextmanager
def tracing() -> Iterator[Callable[[], tuple[int, int]]]:
    """In here allocations are traced; gives what tells how many bytes of them are in use, and how many were at the peak."""
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()


def peaks(call: Plain, kind: type[Exception] | tuple[()] = ()) -> Measure:
    """Not time but bytes: how far each call's allocations reach above what was in use before it. It may fail with `kind`.

    What is in use is read twice before a call, so that the number that is kept is itself among it.
    """

    def measure(number: int) -> int:
        found: list[int] = []
        with tracing() as traced:
            for _ in repeat(None, number):
                before = traced()[0]
                before = traced()[0]
                tracemalloc.reset_peak()
                try:  # noqa: SIM105 - a context manager is memory, too
                    call(1)
                except kind:
                    pass
                found.append(traced()[1] - before)
        return as_the_median(found)

    return measure


def as_the_median(found: Sequence[int]) -> int:
    """Return the median times the number of samples: now and then an unrelated list grows during one."""
    return int(median(found)) * len(found)


def kept(fill: Callable[[Sequence[str]], object]) -> Measure:
    """Not time but bytes: those in use as long as what `fill` has made of so many names is kept."""

    def measure(number: int) -> int:
        names = [f"operation {place}" for place in range(number)]
        with tracing() as traced:
            before, _ = traced()
            filled = fill(names)
            gc.collect()
            after, _ = traced()
        del filled
        return after - before

    return measure


class Loop:
    """An event loop for all measurements of async contenders."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Close the loop."""
        self._runner.close()

    def measured(self, work: Callable[[int], Coroutine[Any, Any, int]]) -> Measure:
        """Return a measurement in a task of its own on this loop."""

        def measure(number: int) -> int:
            return self._runner.run(work(number))

        return measure

    def calls(self, call: Async) -> Measure:
        """As the plain `calls`."""

        async def work(number: int) -> int:
            began = perf_counter_ns()
            for _ in repeat(None, number):
                await call(1)
            return perf_counter_ns() - began

        return self.measured(work)

    def errors(self, call: Async, kind: type[Exception]) -> Measure:
        """As the plain `errors`."""

        async def work(number: int) -> int:
            began = perf_counter_ns()
            for _ in repeat(None, number):
                try:
                    await call(1)
                except kind:
                    continue
                raise MiscountError("a call succeeded")
            return perf_counter_ns() - began

        return self.measured(work)

    def in_tasks(self, call: Async, tasks: int) -> Measure:
        """Each in a task of its own, so many of them under way at once."""

        async def work(number: int) -> int:
            began = perf_counter_ns()
            for _ in repeat(None, max(1, number // tasks)):
                await asyncio.gather(*(call(1) for _ in range(tasks)))
            return perf_counter_ns() - began

        return self.measured(work)

    def peaks(self, call: Async, kind: type[Exception] | tuple[()] = ()) -> Measure:
        """As the plain `peaks`."""

        async def work(number: int) -> int:
            found: list[int] = []
            with tracing() as traced:
                for _ in repeat(None, number):
                    before = traced()[0]
                    before = traced()[0]
                    tracemalloc.reset_peak()
                    try:  # noqa: SIM105 - as above
                        await call(1)
                    except kind:
                        pass
                    found.append(traced()[1] - before)
            return as_the_median(found)

        return self.measured(work)


# --- running ---------------------------------------------------------------------------------------------------------------


@contextmanager
def settled() -> Iterator[None]:
    """In here the collections before the measurements look at nothing that was there before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def measured(contender: Contender, number: int) -> float:
    """Nanoseconds a call, over so many calls. Raises `MiscountError` when they reached the callee too seldom or too often."""
    contender.callee.take_count()
    nanoseconds = contender.measure(number)
    count, expected = contender.callee.take_count(), number * contender.reaches
    if count != expected:
        raise MiscountError(f"{contender.name}: {number} calls reached the callee {count} times, not {expected}")
    return nanoseconds / number


def fitting(contender: Contender, seconds: float, fewest: int, step: int) -> int:
    """How many calls fill so many seconds, as a multiple of `step`. Finding out warms the contender up."""
    number = step * -(-fewest // step)
    while measured(contender, number) * number < seconds * 1e9 / 2:
        number *= 2
    return number


def run(contest: Contest, scale: Scale) -> Samples:
    """Return the samples of one row."""
    seconds = scale.seconds * contest.weight
    numbers = {each.name: fitting(each, seconds, scale.fewest, contest.step) for each in contest.contenders}
    samples: Samples = {each.name: [] for each in contest.contenders}
    order, shuffle = list(contest.contenders), Random(contest.title).shuffle  # noqa: S311 - not for secrets
    for _ in range(max(scale.least, scale.rounds // contest.weight)):
        shuffle(order)
        for contender in order:
            samples[contender.name].append(_sample(contender, numbers[contender.name], contest.step, scale.tries))
    return samples


def _sample(contender: Contender, number: int, step: int, tries: int) -> float:
    """Measure after a warm-up, since a contender that sleeps leaves the processor in a slow state.

    The collector is off: its runs would count for the contender being measured instead of the one that left the garbage.
    """
    gc.collect()
    gc.disable()
    try:
        measured(contender, max(step, number // 4 // step * step))
        return _undisturbed(contender, number, tries)
    finally:
        gc.enable()


def _undisturbed(contender: Contender, number: int, tries: int) -> float:
    """Measure without a preemption by another program, or return the fastest of some tries."""
    tried = []
    for _ in range(tries):
        before = _preemptions()
        tried.append(measured(contender, number))
        if _preemptions() == before:
            return tried[-1]
    return min(tried)


def _preemptions() -> int:
    """How often the system has taken the processor away from this thread; 0 where it does not tell."""
    if sys.platform != "linux":
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def garbage(contender: Contender, number: int) -> int:
    """Objects that only the cyclic collector could free, left behind by so many calls."""
    measured(contender, 2)
    gc.collect()
    gc.disable()
    try:
        measured(contender, number)
        return gc.collect()
    finally:
        gc.enable()
