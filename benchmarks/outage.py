"""How much load retries add while a service fails: `make outage`, or `python benchmarks/outage.py`.

On a clock that jumps, so it takes seconds and its figures are the same on every machine. docs/benchmarks/outage.md tells what
they mean.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import tenacity
from page_section import renew
from report import table

from resilience_kit import AIServiceResilience, ResilienceConfig, ResilienceStrategy, RetryConfig
from resilience_kit.errors import ServerError
from resilience_kit.events import Event, NestedRetry
from resilience_kit.testing import FakeClock

CALLS = 10_000
FAILING = (1.0, 0.5, 0.2, 0.1, 0.05)
ATTEMPTS = 3
PROGRAM = "python benchmarks/outage.py --write docs/benchmarks/outage.md"

Call = Callable[[], None]
Decorator = Callable[[Call], Callable[..., Any]]


class Service:
    """Fails at random, and counts the requests that it gets."""

    def __init__(self, failing: float) -> None:
        self.requests, self._failing, self._random = 0, failing, Random(1)  # noqa: S311 - not for secrets

    def answer(self) -> None:
        """One request. Raises `ServerError`."""
        self.requests += 1
        if self._random.random() < self._failing:
            raise ServerError("down")


@dataclass(frozen=True, slots=True)
class Line:
    """Extra requests, as a share of the calls, of one protection at each share of failures."""

    name: str
    extra: tuple[float, ...]


def extra_load(protect: Decorator, failing: float) -> float:
    """Return the requests beyond one a call, divided by the calls."""
    service = Service(failing)
    call = protect(service.answer)
    for _ in range(CALLS):
        with suppress(ServerError):
            call()
    return service.requests / CALLS - 1.0


def kit(config: ResilienceConfig) -> Decorator:
    """Without its breaker, which would end the outage's load at once and leave nothing to be seen of the budget."""
    return AIServiceResilience(clock=FakeClock()).with_resilience("it", custom_config=config)


def alone(strategy: str) -> ResilienceConfig:
    return ResilienceConfig.from_strategy(strategy).replace(circuit_breaker=None, deadline=None)


def bare_tenacity(attempts: int) -> Decorator:
    stop = tenacity.stop_after_attempt(attempts)
    return tenacity.retry(stop=stop, wait=tenacity.wait_none(), sleep=lambda _: None, reraise=True)


def lines() -> Iterator[Line]:
    contenders: dict[str, Decorator] = {f"kit, {name.value}": kit(alone(name)) for name in ResilienceStrategy}
    contenders["kit, 3 attempts, no budget"] = kit(ResilienceConfig(retry=RetryConfig(), circuit_breaker=None))
    contenders |= {f"tenacity, {number} attempts": bare_tenacity(number) for number in (3, 7)}
    for name, protect in contenders.items():
        yield Line(name, tuple(extra_load(protect, failing) for failing in FAILING))


def nested(levels: int) -> tuple[int, int, int]:
    """Count the requests of one failing call through nested operations of three attempts, by kit and tenacity, and events."""
    told: list[Event] = []
    resilience = AIServiceResilience(clock=FakeClock())
    resilience.add_listener(told.append, NestedRetry)
    ours, theirs = Service(1.0), Service(1.0)
    call, other = ours.answer, theirs.answer
    for level in range(levels):
        config = ResilienceConfig(retry=RetryConfig(max_attempts=ATTEMPTS), circuit_breaker=None)
        call = resilience.with_resilience(f"level {level}", custom_config=config)(call)
        other = bare_tenacity(ATTEMPTS)(other)
    for each in (call, other):
        with suppress(ServerError):
            each()
    return ours.requests, theirs.requests, len(told)


def markdown() -> str:
    heads = ("extra requests by calls", *(f"{share:.0%} fail" for share in FAILING))
    extra = ((line.name, *(f"{share:+.1%}" for share in line.extra)) for line in lines())
    levels = ((str(number), *map(str, nested(number))) for number in (1, 2, 3))
    counted = table(("levels of three attempts each", "requests, kit", "requests, tenacity", "told"), levels)
    return f"{table(heads, extra)}\n\n{counted}"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="renew the tables in this page")
    page: Path | None = parser.parse_args(given).write
    logging.getLogger("resilience_kit").addHandler(logging.NullHandler())  # the table tells what was told
    tables = markdown()
    if page is not None:
        renew(page, PROGRAM, tables)
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
