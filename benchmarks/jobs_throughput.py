"""How many jobs a second: the kit's application beside a bare Procrastinate, on the same server, in the same run.

    python benchmarks/jobs_throughput.py [--quick] [--database URL] [--write docs/benchmarks/jobs.md] [--check]

Deferred one by one and in batches of 100, run with nothing to do and with 10 ms of waiting, ten at once. Each contender has a
database of its own, emptied now and then and analysed before jobs are run. The two take turns in many short rounds, and who is
first changes, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

from jobs_contenders import AT_ONCE, BATCH, WAIT, Contender, in_batches, opened, server
from page_section import renew
from report import machine, table

PROGRAM = "python benchmarks/jobs_throughput.py --write docs/benchmarks/jobs.md"
GOAL = 0.9
EMPTIED = 25  # rounds between


@dataclass(frozen=True, slots=True)
class Scale:
    """Rounds, and jobs a round: deferred one by one, deferred in batches, run."""

    rounds: int
    single: int
    batched: int
    run: int


FULL, QUICK = Scale(150, 50, 500, 100), Scale(2, 20, 200, 40)


@dataclass(frozen=True, slots=True)
class Row:
    """One case: jobs a second, round by round."""

    title: str
    bare: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.bare)

    @property
    def spread(self) -> tuple[float, float]:
        """Between these is half of what single rounds say."""
        quarters = statistics.quantiles((ours / bare for ours, bare in zip(self.ours, self.bare, strict=True)), n=4)
        return quarters[0], quarters[2]


async def one_by_one(contender: Contender, number: int) -> float:
    begun = perf_counter()
    for n in range(number):
        await contender.nothing.defer_async(n=n)
    return number / (perf_counter() - begun)


async def batches(contender: Contender, number: int) -> float:
    begun = perf_counter()
    await in_batches(contender.nothing, number)
    return number / (perf_counter() - begun)


async def no_op(contender: Contender, number: int) -> float:
    return number / await contender.worked(contender.nothing, number)


async def waiting(contender: Contender, number: int) -> float:
    return number / await contender.worked(contender.wait, number)


async def logged(contender: Contender, number: int) -> float:
    """As a worker does in production: Procrastinate's lines of a job, and ours beside them, into a file."""
    with _log_to_file():
        return number / await contender.worked(contender.nothing, number)


@contextmanager
def _log_to_file() -> Iterator[None]:
    root = logging.getLogger()
    with tempfile.NamedTemporaryFile("w") as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        root.addHandler(handler)
        before = root.level
        root.setLevel(logging.INFO)
        try:
            yield
        finally:
            root.setLevel(before)
            root.removeHandler(handler)


Case = Callable[..., Awaitable[float]]


def cases(scale: Scale) -> dict[str, tuple[Case, int]]:
    """By title: what is measured, and with how many jobs."""
    return {
        "defer one by one": (one_by_one, scale.single),
        f"defer in batches of {BATCH}": (batches, scale.batched),
        f"run no-op jobs, {AT_ONCE} at once": (no_op, scale.run),
        f"run jobs of {WAIT * 1000:g} ms, {AT_ONCE} at once": (waiting, scale.run),
        f"run no-op jobs, {AT_ONCE} at once, logged at INFO": (logged, scale.run),
    }


async def benchmark(url: str, scale: Scale, only: str, tell: Callable[[str], object]) -> list[Row]:
    """Return the rows whose titles contain `only`."""
    rows = []
    async with AsyncExitStack() as stack:
        bare, ours = [await stack.enter_async_context(opened(url, name)) for name in ("bare", "ours")]
        for title, (case, number) in cases(scale).items():
            if only in title:
                tell(f"{title} ...")
                rows.append(Row(title))
                await fill(rows[-1], partial(case, number=number), (bare, ours), scale.rounds)
    return rows


async def fill(row: Row, measure: Callable[[Contender], Awaitable[float]], pair: Sequence[Contender], rounds: int) -> None:
    """In turns. The first one of each is for warming up, and so is each that follows an emptying."""
    sides = list(zip(pair, (row.bare, row.ours), strict=True))
    for turn in range(rounds):
        if turn % EMPTIED == 0:
            for contender in pair:
                await contender.empty()
                await measure(contender)
        for contender, figures in sides if turn % 2 else reversed(sides):
            figures.append(await measure(contender))
    for contender in pair:
        await contender.empty()


def to_markdown(rows: Sequence[Row], scale: Scale) -> str:
    """Return the table."""
    head = ("jobs a second", "bare Procrastinate", "the kit", "ratio", "half of the rounds")
    lines = (
        (
            row.title,
            *(f"{statistics.median(side):,.0f}" for side in (row.bare, row.ours)),
            f"{row.ratio:.2f}",
            f"{row.spread[0]:.2f} to {row.spread[1]:.2f}",
        )
        for row in rows
    )
    return f"{table(head, lines)}\n\nMedians of {scale.rounds} rounds in turns. {machine()}."


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few jobs: shows that it works; its figures mean nothing")
    parser.add_argument("--only", default="", metavar="WORDS", help="the cases whose titles contain this")
    parser.add_argument("--database", metavar="URL", help="a server on which databases may be made")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the figures in this page")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 when a ratio is below {GOAL}")
    asked = parser.parse_args(given)
    scale = QUICK if asked.quick else FULL
    with server(asked.database) as url:
        rows = asyncio.run(benchmark(url, scale, asked.only, lambda words: print(words, file=sys.stderr)))
    text = to_markdown(rows, scale)
    print(text)
    if asked.write is not None:
        renew(asked.write, PROGRAM, text)
    return int(asked.check and any(row.ratio < GOAL for row in rows))


if __name__ == "__main__":
    sys.exit(main())
