"""Holds the kit's limits to a provider that has some: `make limits`, or `python benchmarks/limits.py --help`.

How much of a rate limit is used without a single 429, how soon an adaptive bulkhead finds what a server can take, and what taking
costs. docs/benchmarks/limits.md tells what the figures mean; `plot.py` draws the course that `--keep` writes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import timeit
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from statistics import quantiles
from threading import BoundedSemaphore, Thread
from time import perf_counter, sleep
from typing import Any

import adaptive_limit
import bursts
import httpx
import openai
from page_section import renew
from report import Spread, table

from resilience_kit import AIServiceResilience, ResilienceConfig
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.limits import AdaptiveLimit, Bulkhead, BulkheadConfig, RateLimitConfig, RateLimiter, TokenBucketRateLimiter
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.testing import FakeAIProvider, FakeClock, ProviderLimits, ReceivedRequest
from resilience_kit.testing.provider import FaultKind

#: The provider's, and what it grants at once after a rest: a second's worth. The kit is given half of that.
REQUESTS, TOKENS, SECOND = 1800, 24_000, 1.0
LATENCY = 0.05
CALLERS, THREADS = 40, 20
SECONDS = 20.0
#: Seconds for which whoever was refused and knows no better waits.
IMPATIENCE = 0.2
#: Words of a question, and the most of an answer.
QUESTION, MOST = 2, 20
ENOUGH = 0.95
#: Nanoseconds that taking may cost when nobody else does.
CHEAP = 1000.0
PROGRAM = "python benchmarks/limits.py --write docs/benchmarks/limits.md"

Ask = Callable[[Any], Awaitable[None]]


# --- a provider that is limited ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What a provider saw of one contender, and how long its callers waited for each answer, in seconds."""

    name: str
    share: float = 0.0
    answered: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nearly all of the limit was used, and it was never exceeded."""
        return self.share >= ENOUGH and not self.refused

    def count(self, requests: Iterable[ReceivedRequest], seconds: float, units: int, limit: int) -> None:
        """Count the share of all that the provider would have accepted, its burst included."""
        came = [request for request in requests if request.at <= seconds]
        self.answered = sum(request.fault.kind is FaultKind.OK for request in came)
        self.refused = sum(request.fault.kind is FaultKind.RATE_LIMITED for request in came)
        self.share = (units or self.answered) / (limit / 60.0 * (seconds + SECOND))

    def row(self) -> tuple[str, ...]:
        """Return a row of the table."""
        cut = quantiles(self.waits, n=100) if len(self.waits) > 1 else [0.0] * 99
        requests = (self.answered + self.refused) / max(1, self.answered)
        waits = (f"{1000 * cut[49]:,.0f}", f"{1000 * cut[98]:,.0f}")
        return (self.name, f"{self.share:.1%}", str(self.refused), f"{requests:.2f}", *(wait.replace(",", " ") for wait in waits))


def question(words: int) -> dict[str, Any]:
    """Return a request whose response has so many words."""
    return {"model": "any", "messages": [{"role": "user", "content": f"say {words}"}], "max_tokens": MOST}


def answer_of(prompt: str) -> str:
    """Return the response to such a request."""
    return " ".join(["word"] * int(prompt.rpartition(" ")[2]))


def check_refusal(error: httpx.HTTPStatusError | openai.APIStatusError) -> None:
    """Raise what is no 429, which would be a mistake of this program."""
    if error.response.status_code != 429:  # noqa: PLR2004 - named above
        raise error


class Client:
    """Callers who want one answer after the other, for so many seconds, and ask again when they are refused."""

    def __init__(self, tally: Tally, provider: FakeAIProvider, seconds: float) -> None:
        self._tally, self._provider, self._seconds = tally, provider, seconds
        self.used = 0

    def in_tasks(self, protect: Callable[[Ask], Ask]) -> None:
        """As tasks, with httpx."""
        asyncio.run(self._in_tasks(protect))

    def by_sdk(self) -> None:
        """As tasks, with the OpenAI SDK, which retries twice by itself."""
        asyncio.run(self._by_sdk())

    def in_threads(self, protect: Callable[[Any], Any]) -> None:
        """As threads, with httpx."""
        with httpx.Client(base_url=self._provider.openai_url, timeout=60.0) as client:

            def ask(body: Any) -> None:
                client.post("/chat/completions", json=body).raise_for_status()

            self._provider.restart_schedule()
            threads = [Thread(target=self._call_in_thread, args=(protect(ask),)) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    async def _in_tasks(self, protect: Callable[[Ask], Ask]) -> None:
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(base_url=self._provider.openai_url, limits=unlimited, timeout=60.0) as client:

            async def ask(body: Any) -> Any:
                response = await client.post("/chat/completions", json=body)
                answer = response.raise_for_status().json()
                self.used += answer["usage"]["total_tokens"]
                return answer

            await self._together(protect(ask))

    async def _by_sdk(self) -> None:
        async with openai.AsyncOpenAI(base_url=self._provider.openai_url, api_key="any", timeout=60.0) as client:

            async def ask(body: Any) -> None:
                await client.chat.completions.create(**body)

            await self._together(ask)

    async def _together(self, ask: Ask) -> None:
        self._provider.restart_schedule()
        callers = [asyncio.create_task(self._call(ask, Random(number))) for number in range(CALLERS)]  # noqa: S311 - no secret
        await asyncio.sleep(self._seconds)
        for caller in callers:
            caller.cancel()
        for ended in await asyncio.gather(*callers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _call(self, ask: Ask, random: Random) -> None:
        while True:
            body, began = question(random.randint(1, MOST)), perf_counter()
            await self._answered(ask, body)
            self._tally.waits.append(perf_counter() - began)

    async def _answered(self, ask: Ask, body: Any) -> None:
        while True:
            try:
                return await ask(body)
            except (httpx.HTTPStatusError, openai.APIStatusError) as error:
                check_refusal(error)
                await asyncio.sleep(IMPATIENCE)

    def _call_in_thread(self, ask: Callable[[Any], None]) -> None:
        ends = perf_counter() + self._seconds
        while (began := perf_counter()) < ends:
            try:
                ask(question(1))
                self._tally.waits.append(perf_counter() - began)
            except httpx.HTTPStatusError as error:
                check_refusal(error)
                sleep(IMPATIENCE)


def held(limit: RateLimitConfig) -> Callable[[Any], Any]:
    """Return the kit's rate limit and no other policy."""
    config = ResilienceConfig(retry=None, circuit_breaker=None, rate_limit=limit)
    return AIServiceResilience().with_resilience("limited", custom_config=config)


def requests_held(burst_seconds: float = SECOND / 2) -> Callable[[Any], Any]:
    """To requests a minute."""
    return held(RateLimitConfig(rate=REQUESTS, period=60.0, burst=REQUESTS / 60.0 * burst_seconds))


def tokens_held() -> Callable[[Any], Any]:
    """To tokens a minute: as many as there may be, until the answer tells how many there were."""
    return held(
        RateLimitConfig(
            rate=TOKENS,
            period=60.0,
            burst=TOKENS / 60.0 * SECOND / 2,
            cost=lambda body: QUESTION + body["max_tokens"],
            usage=lambda answer: answer["usage"]["total_tokens"],
        )
    )


def as_it_is(ask: Ask) -> Ask:
    """Nothing holds it."""
    return ask


CONTENDERS: dict[str, Callable[[Client], None]] = {
    "kit, requests a minute": lambda client: client.in_tasks(requests_held()),
    "kit, requests a minute, threads": lambda client: client.in_threads(requests_held()),
    "kit, tokens a minute": lambda client: client.in_tasks(tokens_held()),
    "kit, with all of the provider's burst": lambda client: client.in_tasks(requests_held(SECOND)),
    "no limit, asks again": lambda client: client.in_tasks(as_it_is),
    "openai SDK, its own retries": Client.by_sdk,
}
#: What the promise is made of.
PROMISED = tuple(CONTENDERS)[:3]


def tally(name: str, seconds: float) -> Tally:
    """One contender against a provider of its own."""
    found, by_tokens = Tally(name), "tokens" in name
    kind: Any = {"tokens_per_minute": TOKENS} if by_tokens else {"requests_per_minute": REQUESTS}
    limits = ProviderLimits(**kind, burst_seconds=SECOND)
    with FakeAIProvider(limits=limits, latency=LATENCY, answer=answer_of) as provider:
        client = Client(found, provider, seconds)
        CONTENDERS[name](client)
        found.count(provider.requests, seconds, client.used if by_tokens else 0, TOKENS if by_tokens else REQUESTS)
    return found


# --- what a rate comes to over time ------------------------------------------------------------------------------------------


def started(clock: Clock, rate: float, seconds: float, callers: int) -> int:
    """Count the calls that a limiter admits in so many seconds, from tasks that always call."""
    limiter = RateLimiter(RateLimitConfig(rate=rate, burst=1.0), clock=clock)
    config = ResilienceConfig(retry=None, circuit_breaker=None, rate_limit=limiter)
    starts: list[float] = []

    @AIServiceResilience(clock=clock).with_resilience("exact", custom_config=config)
    async def start() -> None:
        starts.append(clock.monotonic())

    async def call() -> None:
        while True:
            await start()

    async def run() -> None:
        began, tasks = clock.monotonic(), [asyncio.create_task(call()) for _ in range(callers)]
        await clock.sleep_async(seconds + 1.0 / rate / 2.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        starts[:] = [at for at in starts if at - began <= seconds + 1e-6]

    asyncio.run(run())
    return len(starts)


def exactness(seconds: float) -> Iterator[tuple[str, str, str, str]]:
    """Lines of the table: what should start, what did, and by how much that is off."""
    cases: tuple[tuple[str, Clock, float, float], ...] = (
        ("60 s on a clock that jumps", FakeClock(), 7.0, 60.0),
        (f"{seconds:g} s of real time", SYSTEM_CLOCK, 200.0, seconds),
    )
    for name, clock, rate, lasting in cases:
        due, found = int(rate * lasting) + 1, started(clock, rate, lasting, 50)
        yield f"{name}, {rate:g} a second, 50 tasks", str(due), str(found), f"{found / due - 1:+.2%}"


# --- what taking costs -------------------------------------------------------------------------------------------------------

GOOD = Outcome(kind=OutcomeKind.SUCCESS)
PLENTY = 1e12


def takers() -> dict[str, Callable[[int], float]]:
    """By name, a function that takes so many times and gives the seconds of it."""
    bucket = TokenBucketRateLimiter(PLENTY)
    limiter = RateLimiter(RateLimitConfig(rate=PLENTY))
    two = RateLimiter(RateLimitConfig(rate=PLENTY), RateLimitConfig(rate=PLENTY))
    room = Bulkhead(BulkheadConfig(max_concurrent=10))
    adaptive = Bulkhead(BulkheadConfig(max_concurrent=10, adaptive=AdaptiveLimit()))
    return {
        "TokenBucketRateLimiter.try_acquire": timed(bucket.try_acquire),
        "await TokenBucketRateLimiter.acquire": lambda number: asyncio.run(acquired(bucket, number)),
        "RateLimiter, admit and settle": timed(lambda: limiter.admit().settle(GOOD)),
        "RateLimiter of two limits, admit and settle": timed(lambda: two.admit().settle(GOOD)),
        "Bulkhead, admit and settle": timed(lambda: room.admit().settle(GOOD)),
        "Bulkhead, adaptive, admit and settle": timed(lambda: adaptive.admit().settle(GOOD)),
        "threading.BoundedSemaphore, for comparison": timed(partial(taken, BoundedSemaphore(10))),
        "a protected call without a limit": timed(protected()),
        "the same with a rate limit": timed(protected(rate_limit=RateLimitConfig(rate=PLENTY))),
        "the same with a bulkhead": timed(protected(bulkhead=BulkheadConfig(max_concurrent=10))),
    }


#: What is to be cheap.
TAKERS = ("TokenBucketRateLimiter.try_acquire", "await TokenBucketRateLimiter.acquire")


def timed(take: Callable[[], object]) -> Callable[[int], float]:
    return lambda number: timeit.timeit(take, number=number)


def taken(semaphore: BoundedSemaphore) -> None:
    with semaphore:
        pass


async def acquired(bucket: TokenBucketRateLimiter, number: int) -> float:
    began = perf_counter()
    for _ in range(number):
        await bucket.acquire()
    return perf_counter() - began


def protected(**limits: Any) -> Callable[[], object]:
    config = ResilienceConfig(retry=None, circuit_breaker=None, **limits)
    return AIServiceResilience().with_resilience("cost", custom_config=config)(lambda: None)


def costs(number: int, rounds: int) -> dict[str, Spread]:
    """Nanoseconds, of contenders that take turns; so many times are over before another program is given the processor."""
    known = takers()
    found: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(rounds):
        for name, take in known.items():
            take(number // 10)
            found[name].append(take(number) / number * 1e9)
    return {name: Spread.of_samples(samples) for name, samples in found.items()}


# --- the program -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    tallies: Sequence[Tally]
    courses: Sequence[adaptive_limit.Course]
    exact: Sequence[tuple[str, ...]]
    costs: dict[str, Spread]
    bursts: Sequence[bursts.Burst] = ()

    def to_markdown(self) -> str:
        """Return the tables."""
        heads = ("contender", "of what is allowed", "429s", "requests an answer", "wait, ms", "99th percentile")
        phases = [(course.name, *_phase(phase)) for course in self.courses for phase in course.phases()]
        near = ("server", "capacity", "limit found", "off by", "near after, s", "answered of possible", "refused")
        cost = [(name, f"{each.mid:.0f}", f"{each.low:.0f} - {each.high:.0f}") for name, each in self.costs.items()]
        return "\n\n".join(
            (
                table(heads, [each.row() for each in self.tallies]),
                table(bursts.HEADS, [each.row() for each in self.bursts]),
                table(near, phases),
                table(("rate", "due", "started", "off by"), self.exact),
                table(("taking", "ns", "quartiles"), cost),
            )
        )

    def broken(self) -> list[str]:
        """Promises that were not kept."""
        return [
            *(f"{each.name}: {each.share:.1%} used, {each.refused} refused" for each in self._promised() if not each.good),
            *(
                f"{each.name}: {each.answered} of {each.asked} answered, {each.ended} ended by a 429"
                for each in self.bursts
                if each.name in bursts.PROMISED and not each.good
            ),
            *(
                f"{course.name}: at {phase.capacity} places a limit of {phase.mean:.1f}, near after {phase.soon} s"
                for course in self.courses
                for phase in course.phases()
                if not phase.good
            ),
            *(f"{name}: {self.costs[name].mid:.0f} ns" for name in TAKERS if self.costs[name].mid > CHEAP),
        ]

    def _promised(self) -> Iterator[Tally]:
        return (each for each in self.tallies if each.name in PROMISED)


def _phase(phase: adaptive_limit.Phase) -> tuple[str, ...]:
    soon = "never" if phase.soon is None else f"{phase.soon:.1f}"
    off = f"{phase.mean / phase.capacity - 1:+.0%}"
    return (str(phase.capacity), f"{phase.mean:.1f}", off, soon, f"{phase.answered:.0%}", f"{phase.refused:.1%}")


def benchmark(scale: float = 1.0) -> Report:
    """All of it; `scale` shortens what takes real time."""
    return Report(
        [tally(name, SECONDS * scale) for name in CONTENDERS],
        list(adaptive_limit.courses(scale)),
        list(exactness(10.0 * scale)),
        costs(100, max(2, int(1000 * scale))),
        list(bursts.bursts(scale)),
    )


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the tables in this page")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the course of the adaptive limit, for plot.py")
    parser.add_argument("--scale", type=float, default=1.0, help="of the time that it takes (%(default)s: five minutes)")
    options = parser.parse_args(given)
    report = benchmark(options.scale)
    tables = report.to_markdown()
    if options.write is not None:
        renew(options.write, PROGRAM, tables)
    if options.keep is not None:
        options.keep.parent.mkdir(parents=True, exist_ok=True)
        options.keep.write_text(json.dumps([course.to_json() for course in report.courses]), encoding="utf-8")
    print(tables)
    print("\n".join(["", *report.broken()]), file=sys.stderr)
    return int(bool(report.broken()))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
