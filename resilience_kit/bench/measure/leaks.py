"""Leak detection: memory that grows with every call, as opposed to a cache that grows until it is full.

Memory in use, after garbage collection, is read at even steps. A series of readings grows when three conditions hold: the
Mann-Kendall test says that it rises, its Theil-Sen slope is more than a byte a call or so, and both halves of it have risen. The
last one rules out a single step, as when a dictionary takes a larger table.

A cache that fills up grows as well, so growth alone is no leak. The first half of the readings of each round is ignored; and
while memory grows, a further round follows, as long as all before it. A leak continues at the same rate in the last one.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from resilience_kit.bench.measure.memory import traced_memory
from resilience_kit.bench.measure.options import LeakOptions
from resilience_kit.bench.measure.slopes import rise_probability, slope
from resilience_kit.bench.measure.switches import FROZEN, GC_DISABLED, TRACING

#: A leak's rate in the last round is at least this share of the rate in the first.
SUSTAINED_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryGrowth:
    """The second half of a round: `calls` calls in it, the bytes that each of them added, and the chance that it is noise."""

    calls: int
    bytes_per_call: float
    probability: float
    grows: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """Whether `name` leaks; `bytes_per_call` is the rate at the end, 0.0 when it does not; `reason` says what was seen.

    `calls`: all calls that were made. `readings`: (calls so far, bytes held above the start), for a plot.
    """

    name: str
    leaks: bool
    bytes_per_call: float
    probability: float
    calls: int
    reason: str
    rounds: tuple[MemoryGrowth, ...]
    readings: tuple[tuple[int, int], ...]

    def __bool__(self) -> bool:
        return self.leaks


def leak_plan(name: str, options: LeakOptions) -> Generator[int, Any, LeakReport]:
    """Plan calls until memory stops growing, or until it has grown in every round."""
    growths: list[MemoryGrowth] = []
    rows: list[tuple[int, array[int]]] = []
    with TRACING, GC_DISABLED, FROZEN:
        yield 1
        start = traced_memory()
        for step in _steps(options):
            row = yield from _readings(step, options.samples_per_round)
            rows.append((step, row))
            growths.append(_growth(row[len(row) // 2 :], step, options))
            if not growths[-1].grows:
                break
    return _report(name, growths, _plotted(rows, start))


def _steps(options: LeakOptions) -> list[int]:
    """Return the calls between two readings, by round."""
    calls = [options.iterations << max(0, number - 1) for number in range(options.rounds)]
    return [-(-each // options.samples_per_round) for each in calls]


def _readings(step: int, points: int) -> Generator[int, Any, array[int]]:
    """Read memory after each step, into a list that has its final size from the start."""
    row = array("q", bytes(8 * points))
    for point in range(points):
        yield step
        row[point] = traced_memory()
    return row


def _growth(row: array[int], step: int, options: LeakOptions) -> MemoryGrowth:
    rate, probability, middle = slope(row) / step, rise_probability(row), len(row) // 2
    return MemoryGrowth(
        calls=step * len(row),
        bytes_per_call=rate,
        probability=probability,
        grows=(
            probability <= options.significance
            and rate >= options.min_bytes_per_call
            and row[0] < row[middle]
            and row[middle] < row[-1]
        ),
    )


def _plotted(rows: list[tuple[int, array[int]]], start: int) -> tuple[tuple[int, int], ...]:
    made, found = 0, [(0, 0)]
    for step, row in rows:
        for taken in row:
            made += step
            found.append((made, taken - start))
    return tuple(found)


def _report(name: str, growths: list[MemoryGrowth], readings: tuple[tuple[int, int], ...]) -> LeakReport:
    first, last, calls = growths[0], growths[-1], readings[-1][0]
    leaks = last.grows and last.bytes_per_call >= SUSTAINED_SHARE * first.bytes_per_call
    return LeakReport(
        name=name,
        leaks=leaks,
        bytes_per_call=last.bytes_per_call if leaks else 0.0,
        probability=last.probability,
        calls=calls,
        reason=_reason(leaks, first, last, calls),
        rounds=tuple(growths),
        readings=readings,
    )


def _reason(leaks: bool, first: MemoryGrowth, last: MemoryGrowth, calls: int) -> str:
    rate = f"{last.bytes_per_call:.0f} bytes a call after {calls} calls"
    if leaks:
        return f"still grows by {rate}, as fast as at first"
    if last.grows:
        return f"grows by {rate}, but grew by {first.bytes_per_call:.0f} at first: it fills up"
    return f"does not grow any more after {calls - last.calls} calls"
