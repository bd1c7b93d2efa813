"""What a run of benchmarks/scale.py consists of: contests, how much of everything is in them, and the rows read from them."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import harness
from harness import Contest, Samples, Scale
from overhead import BREAKER
from report import Row, nanoseconds, row


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything there is, and how thorough a run is.

    `time`: for what is timed; `wide`: where a sample is a call of each task; `heavy`: where it is one call; `kept`: for the bytes
    of what is kept; `peak`: for those of a call. `holds`: how often a lock is taken. `lags`: rounds, and the seconds of each.
    `garbage`: calls.
    """

    threads: tuple[int, ...]
    tasks: tuple[int, ...]
    operations: tuple[int, ...]
    listeners: tuple[int, ...]
    time: Scale
    wide: Scale
    heavy: Scale
    kept: Scale
    peak: Scale
    holds: int
    lags: tuple[int, float]
    garbage: int


def _untimed(rounds: int, number: int) -> Scale:
    return Scale(rounds=rounds, least=rounds, seconds=0.0, fewest=number, tries=1)


FULL = Sizes(
    threads=(1, 8, 100),
    tasks=(1000, 10_000),
    operations=(1, 100, 10_000),
    listeners=(1, 10, 100),
    time=Scale(rounds=60, least=9, seconds=0.003, fewest=20, tries=5),
    wide=Scale(rounds=15, least=15, seconds=0.0, fewest=1, tries=2),
    heavy=_untimed(3, 1),
    kept=_untimed(2, 10_000),
    peak=_untimed(5, 20),
    holds=20_000,
    lags=(6, 1.0),
    garbage=1000,
)
QUICK = Sizes(
    threads=(1, 8, 100),
    tasks=(10, 100),
    operations=(1, 10, 100),
    listeners=(1, 10, 100),
    time=harness.QUICK,
    wide=_untimed(1, 1),
    heavy=_untimed(1, 1),
    kept=_untimed(1, 100),
    peak=_untimed(1, 20),
    holds=80,
    lags=(1, 0.0),
    garbage=20,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A contest, how it is run, and what is read from it: by title of a row, who is divided by whom."""

    contest: Contest
    scale: Scale
    rows: Mapping[str, Mapping[str, str]]

    def run(self) -> Samples:
        """Return the samples of all contenders. Collections ignore earlier objects, for as long as `settled` does."""
        gc.collect()
        gc.freeze()
        return harness.run(self.contest, self.scale)

    def read(self, samples: Samples) -> tuple[Row, ...]:
        """Return the rows."""
        return tuple(row(title, samples, against, self.contest.unit) for title, against in self.rows.items())


# --- names -------------------------------------------------------------------------------------------------------------------


def many(number: int, what: str) -> str:
    """As in 1 thread, 100 threads."""
    return f"{nanoseconds(number)} {what}{'s'[: number != 1]}"


def among(who: str, number: int, what: str) -> str:
    """Return the name of a contender that is measured with increasing numbers of something."""
    return f"{who}, {many(number, what)}"


def beside(contenders: Sequence[str], numbers: Sequence[int], what: str) -> dict[str, str]:
    """Each by circuitbreaker with as many."""
    return {among(who, number, what): among(BREAKER, number, what) for number in numbers for who in contenders}


def growth(contenders: Sequence[str], numbers: Sequence[int], what: str) -> dict[str, str]:
    """Each by itself with the fewest, which is left out."""
    fewest, *more = numbers
    return {among(who, number, what): among(who, fewest, what) for who in contenders for number in more}
