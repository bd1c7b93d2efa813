"""What a transport costs a request: bare httpx and httpx2 beside the same with a transport of the kit, against a local server.

    python benchmarks/transport.py [--quick] [--write docs/benchmarks/transport.md]

The server is the fake AI provider in a process of its own. All contenders take turns in short batches, so that whatever else the
machine does meets all of them; the figure is the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import httpx
import httpx2
from page_section import renew
from report import machine, table

from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.testing.provider import FakeAIProvider, ProviderLimits

CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer to everything?"}]}
HEADERS = {"authorization": "Bearer any"}
PROGRAM = "python benchmarks/transport.py --write docs/benchmarks/transport.md"
BARE, PLAIN, PACED = "bare", "transport, no pacing", "transport"
GOAL = 1.05
#: Of a key with far more than is used here, so that its headers are read and nobody waits for them.
PLENTY = ProviderLimits(requests_per_minute=10_000_000, tokens_per_minute=1_000_000_000)

Batch = Callable[[int], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How many rounds, and how many requests a round and contender."""

    rounds: int
    requests: int


FULL, QUICK = Scale(200, 20), Scale(3, 5)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of client: microseconds a request by contender, and what the others cost against the bare one."""

    title: str
    microseconds: dict[str, float]
    ratios: dict[str, float]


def _serve(said: Any) -> None:
    with FakeAIProvider(limits=PLENTY) as provider:
        said.send(provider.openai_url)
        said.recv()


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a provider in another process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
        ours.send("stop")
        process.join(10.0)
    finally:
        process.kill()


def plain_clients(http: ModuleType) -> dict[str, Any]:
    """Return the contenders among sync clients."""

    def sender() -> Any:
        return http.HTTPTransport(verify=False)

    transports = {BARE: sender(), PLAIN: ResilientTransport(sender(), pacing=None), PACED: ResilientTransport(sender())}
    return {name: http.Client(transport=transport) for name, transport in transports.items()}


def async_clients(http: ModuleType) -> dict[str, Any]:
    """Return the contenders among async clients."""

    def sender() -> Any:
        return http.AsyncHTTPTransport(verify=False)

    transports = {BARE: sender(), PLAIN: AsyncResilientTransport(sender(), pacing=None), PACED: AsyncResilientTransport(sender())}
    return {name: http.AsyncClient(transport=transport) for name, transport in transports.items()}


def plain_batch(client: Any, url: str) -> Batch:
    async def batch(number: int) -> float:
        begun = perf_counter()
        for _ in range(number):
            client.post(url, json=CHAT, headers=HEADERS)
        return (perf_counter() - begun) / number

    return batch


def async_batch(client: Any, url: str) -> Batch:
    async def batch(number: int) -> float:
        begun = perf_counter()
        for _ in range(number):
            await client.post(url, json=CHAT, headers=HEADERS)
        return (perf_counter() - begun) / number

    return batch


async def measured(title: str, batches: dict[str, Batch], scale: Scale) -> Row:
    """Measure rounds of batches, in a rotating order."""
    names = list(batches)
    for name in names:
        await batches[name](scale.requests)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(scale.rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(await batches[name](scale.requests))
    ratios = {name: _median_ratio(taken[name], taken[BARE]) for name in names if name != BARE}
    return Row(title, {name: statistics.median(taken[name]) * 1e6 for name in names}, ratios)


def _median_ratio(ours: list[float], bare: list[float]) -> float:
    return statistics.median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))


async def benchmark(scale: Scale, tell: Callable[[str], object]) -> list[Row]:
    """Every row."""
    rows = []
    with server() as base:
        url = f"{base}/chat/completions"
        for http in (httpx, httpx2):
            tell(f"{http.__name__} ...")
            plain = plain_clients(http)
            batches = {name: plain_batch(client, url) for name, client in plain.items()}
            rows.append(await measured(f"{http.__name__}.Client", batches, scale))
            asynchronous = async_clients(http)
            batches = {name: async_batch(client, url) for name, client in asynchronous.items()}
            rows.append(await measured(f"{http.__name__}.AsyncClient", batches, scale))
            for client in plain.values():
                client.close()
            for client in asynchronous.values():
                await client.aclose()
    return rows


def to_markdown(rows: Sequence[Row], scale: Scale) -> str:
    """Return the table and how it was measured."""
    lines = (
        (
            row.title,
            f"{row.microseconds[BARE]:.0f} us",
            *(f"{row.microseconds[name]:.0f} us, {(row.ratios[name] - 1) * 100:+.1f} %" for name in (PLAIN, PACED)),
        )
        for row in rows
    )
    how = f"{scale.rounds} rounds of {scale.requests} requests for each contender, in turns. {machine()}."
    return f"{table(('client', BARE, PLAIN, PACED), lines)}\n\n{how}"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few requests: shows that it works; its figures mean nothing")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the table in this page")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 when a median is above {GOAL} times the bare one")
    asked = parser.parse_args(given)
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    scale = QUICK if asked.quick else FULL
    rows = asyncio.run(benchmark(scale, lambda words: print(words, file=sys.stderr)))
    text = to_markdown(rows, scale)
    if asked.write is not None:
        renew(asked.write, PROGRAM, text)
    print(text)
    return int(asked.check and any(ratio > GOAL for row in rows for ratio in row.ratios.values()))


if __name__ == "__main__":
    sys.exit(main())
