"""A fixed piece of work that measures the current speed of this machine, so that figures of two days can be compared.

It is timed between the samples of a benchmark and for about as long as one of them takes, so that what slows the one (a slower
processor, other programs that share it) slows the other as well.
"""

from __future__ import annotations

import statistics

from resilience_kit.bench.measure.driving import Timer
from resilience_kit.bench.measure.samples import Samples

#: How often the work is timed in the course of a benchmark, at most.
POINTS = 10
_STEPS = 200
_LONGEST = 50_000_000
_MOST_ROUNDS = 500
_SCALE = 1_000_000


def work() -> int:
    """Do a mix of typical work: calls, small objects, dictionaries, text, an error raised and caught. About 0.1 ms."""
    table: dict[str, int] = {}
    for number in range(_STEPS):
        table[f"key {number % 50}"] = table.get(f"key {number % 25}", 0) + len([number, number + 1])
        try:
            table[str(-number)]
        except KeyError:
            continue
    return sum(sorted(table.values()))


class CpuShare:
    """The share of some spans of time in which a processor worked for this process.

    The median over the spans, since other programs take the processor for long, but seldom; or the share of all of them
    together, where that is larger: a clock of processor time that moves in steps of 16 ms shows nothing in most of them.
    """

    def __init__(self, exact: int) -> None:
        self._shares = Samples(exact)
        self._worked = self._took = 0

    def add(self, worked: int, took: int) -> None:
        """Add a span of so many nanoseconds."""
        self._worked += worked
        self._took += took
        if took:
            self._shares.add(min(_SCALE, worked * _SCALE // took))

    @property
    def share(self) -> float:
        """Return the share from 0.0 to 1.0; 1.0 while unknown."""
        return min(1.0, max(self._shares.summary().median / _SCALE, self._worked / self._took)) if self._took else 1.0


class Calibration:
    """Collects how long the work took, at up to `POINTS` of `iterations` samples."""

    def __init__(self, iterations: int, timer: Timer, cpu: Timer) -> None:
        self._timer, self._cpu, self._every = timer, cpu, -(-iterations // POINTS)
        self._times: list[float] = []
        self._own_cpu_share = CpuShare(POINTS)

    def sample(self, number: int, nanoseconds: int) -> None:
        """Time the work after sample `number` (from 0) if it is due: once, or for as long as the sample, 50 ms at most."""
        if number % self._every == 0:
            self._times.append(self._timed(min(nanoseconds, _LONGEST)))

    def _timed(self, nanoseconds: int) -> float:
        worked, began = self._cpu(), self._timer()
        rounds = took = 0
        while rounds == 0 or (0 < took < nanoseconds and rounds < _MOST_ROUNDS):
            work()
            rounds += 1
            took = self._timer() - began
        self._own_cpu_share.add(self._cpu() - worked, took)
        return took / rounds

    @property
    def seconds(self) -> float:
        """Return the median time of the work."""
        return statistics.median(self._times) / 1e9

    def cpu_share(self, measured: CpuShare) -> float:
        """Return the share of the time in which the benchmark needed a processor, from the share `measured` in which it had one.

        The calibration always needs one: where it had one for half of its time, other programs had it for the other half, also
        during the benchmark.
        """
        return min(1.0, measured.share / (self._own_cpu_share.share or 1.0))
