"""What hedging does to the slowest calls, and what it costs: `make hedging`, or `python benchmarks/hedging.py`.

Against a real server on loopback, of whose answers 2 % take twenty times as long as the others. docs/benchmarks/hedging.md tells
what the figures mean.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import httpx
from page_section import renew
from report import table

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.policies.hedge import HedgeConfig
from resilience_kit.testing.provider import FakeAIProvider, SeededLatency

CALLS, CALLERS = 4000, 8
USUAL, TAIL, FACTOR, SPREAD = 0.05, 0.02, 20.0, 0.2
CHAT = {"model": "gpt-fake", "messages": [{"role": "user", "content": "What is the answer?"}]}
PROGRAM = "python benchmarks/hedging.py --write docs/benchmarks/hedging.md"

CONTENDERS: dict[str, HedgeConfig | None] = {
    "without": None,
    "hedged, `HedgeConfig()`": HedgeConfig(),
    "hedged, `HedgeConfig(delay=0.2)`": HedgeConfig(delay=0.2),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One contender: sorted seconds of its calls, the requests that the server got, the connections that stayed open."""

    seconds: Sequence[float]
    requests: int
    left_open: int

    def quantile(self, share: float) -> float:
        """By nearest rank."""
        return self.seconds[ceil(share * len(self.seconds)) - 1]

    @property
    def extra(self) -> float:
        """Return the requests beyond one a call, divided by the calls."""
        return self.requests / len(self.seconds) - 1.0


async def measured(hedge: HedgeConfig | None, calls: int) -> Figures:
    """So many calls by a few callers, each of whom waits for its answer before the next one."""
    seconds: list[float] = []
    numbers = iter(range(calls))
    with FakeAIProvider(latency=SeededLatency(USUAL, tail=TAIL, factor=FACTOR, spread=SPREAD)) as provider:
        async with httpx.AsyncClient(base_url=provider.url, timeout=30.0) as client:
            resilience = AIServiceResilience()

            @resilience.with_resilience("chat", custom_config=ResilienceConfig(hedge=hedge))
            async def chat() -> None:
                (await client.post("/v1/chat/completions", json=CHAT)).raise_for_status()

            async def caller() -> None:
                for _ in numbers:
                    started = time.perf_counter()
                    await chat()
                    seconds.append(time.perf_counter() - started)

            await asyncio.gather(*(caller() for _ in range(CALLERS)))
        await asyncio.sleep(0.2)  # for the server to notice
        return Figures(sorted(seconds), provider.request_count, provider.open_connections)


def markdown(calls: int) -> str:
    rows = []
    for name, hedge in CONTENDERS.items():
        figures = asyncio.run(measured(hedge, calls))
        assert figures.left_open == 0, "a connection was not given back"
        times = (f"{figures.quantile(share) * 1000:.0f} ms" for share in (0.5, 0.95, 0.99, 0.999))
        rows.append((name, *times, str(figures.requests), f"{figures.extra:+.1%}"))
    return table(("contender", "p50", "p95", "p99", "p99.9", "requests", "extra"), rows)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the table in this page")
    options = parser.parse_args(given)
    figures = markdown(options.calls)
    page: Path | None = options.write
    if page is not None:
        renew(page, PROGRAM, figures)
    print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
