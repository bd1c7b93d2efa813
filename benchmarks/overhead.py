"""What a protected call costs, beside the bare libraries: `make bench`, or `python benchmarks/overhead.py --help`.

Only ratios mean something, since every machine has its own nanoseconds. docs/benchmarks/overhead.md tells what is compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import repeat, starmap
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import harness
import tenacity
from circuitbreaker import CircuitBreaker as BareBreaker
from circuitbreaker import CircuitBreakerError
from harness import FULL, QUICK, Async, Callee, Contender, Contest, Loop, Measure, Plain, Scale
from report import Finding, Garbage, Report, Row, Target, finding, from_json, merged, row, to_json, to_markdown

from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig, RetryConfig

TRY, BREAKER, RETRY, BOTH = "try/except", "circuitbreaker", "tenacity", "tenacity(circuitbreaker)"
EAGER = "tenacity, sleep left out"
KIT, KIT_DEADLINE = "kit", "kit, 30 s deadline"
FORCED = "kit, forced open"
EXECUTE, CALL = "kit, execute_with_resilience", "kit, call_with_resilience"

SUCCESS, ASYNC_SUCCESS = "success, sync", "success, async"
REFUSAL, ASYNC_REFUSAL = "circuit open, sync", "circuit open, async"
RETRIED, ASYNC_RETRIED = "fails once, sync", "fails once, async"
FAILURE, ASYNC_FAILURE = "fails three times and for good, sync", "fails three times and for good, async"
THREADS, TASKS = "success, 100 threads", "success, 1000 tasks at once"

TARGETS = (
    Target(row=SUCCESS, contender=KIT, against=BREAKER, limit=0.7),
    Target(row=SUCCESS, contender=KIT_DEADLINE, against=BREAKER, limit=2.0),
    Target(row=ASYNC_SUCCESS, contender=KIT, against=BREAKER, limit=0.7),
    Target(row=ASYNC_SUCCESS, contender=KIT, against=BOTH, limit=1 / 30),
    Target(row=ASYNC_SUCCESS, contender=KIT_DEADLINE, against=BREAKER, limit=2.0),
    Target(row=ASYNC_SUCCESS, contender=EXECUTE, against=BREAKER, limit=1.0),
    Target(row=REFUSAL, contender=KIT, against=BREAKER, limit=0.6),
    Target(row=ASYNC_REFUSAL, contender=KIT, against=BREAKER, limit=0.6),
    Target(row=RETRIED, contender=KIT, against=RETRY, limit=0.6),
    Target(row=RETRIED, contender=KIT, against=EAGER, limit=1.0),
    Target(row=ASYNC_RETRIED, contender=KIT, against=RETRY, limit=0.6),
    Target(row=THREADS, contender=f"{KIT}, 100 threads", against=f"{KIT}, 1 thread", limit=1.15),
)

DAY = 86_400
NEVER = 10**9
_GARBAGE_CALLS = {FULL: 1000, QUICK: 20}


# --- the contenders' own words ---------------------------------------------------------------------------------------------


def guarded(function: Plain) -> Plain:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:  # noqa: TRY203 - the wrapper that everybody would write by hand
            raise

    return wrapper


def guarded_async(function: Async) -> Async:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except Exception:  # noqa: TRY203 - as above
            raise

    return wrapper


def with_breaker(threshold: int = 5) -> Callable[[Any], Any]:
    """Return a bare breaker that opens after so many failures, for a day."""
    return lambda function: BareBreaker(failure_threshold=threshold, recovery_timeout=DAY, name=f"bare {id(function)}")(function)


def with_retry(**more: Any) -> Callable[[Any], Any]:
    """Three attempts without a wait in between; a refusal by a breaker is not retried."""
    given = {"retry": tenacity.retry_if_not_exception_type(CircuitBreakerError), **more}
    rules: dict[str, Any] = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_none(), "reraise": True, **given}
    decorator: Callable[[Any], Any] = tenacity.retry(**rules)
    return decorator


def with_both(threshold: int = 5) -> Callable[[Any], Any]:
    retry, breaker = with_retry(), with_breaker(threshold)
    return lambda function: retry(breaker(function))


def options(threshold: int = 5, deadline: float | None = None) -> ResilienceConfig:
    """Return the kit's counterpart: breaker and retry as above, and optionally a deadline."""
    return ResilienceConfig(
        retry=RetryConfig(max_attempts=3, base_delay=0, max_delay=0),
        circuit_breaker=CircuitBreakerConfig(failure_threshold=threshold, recovery_timeout=DAY),
        deadline=deadline,
    )


class Kit:
    """One orchestrator; each contender is an operation of its own."""

    def __init__(self) -> None:
        self.resilience = AIServiceResilience()
        self._made = 0

    def name(self) -> str:
        """Return an unused name."""
        self._made += 1
        return f"operation {self._made}"

    def protects(self, config: ResilienceConfig | str | None = None) -> Callable[[Any], Any]:
        """Return the decorator for a config, or for a strategy by its name."""
        given: dict[str, Any] = {"strategy": config} if isinstance(config, str) else {"custom_config": config or options()}
        return self.resilience.with_resilience(self.name(), **given)

    def forced_open(self, function: Any) -> Any:
        """`protects`, with a circuit that somebody has forced open."""
        name = self.name()
        self.resilience.get_circuit_breaker(name).force_open("benchmark")
        return self.resilience.with_resilience(name, custom_config=options())(function)

    def given_to_call(self, function: Plain) -> Plain:
        """For calls that cost so much that one more frame does not matter."""
        return partial(self.resilience.call_with_resilience, function, self.name(), custom_config=options(NEVER))

    def given_to_execute(self, function: Async) -> Async:
        """Return the function as a call of `execute_with_resilience`."""
        return partial(self.resilience.execute_with_resilience, function, self.name(), custom_config=options(NEVER))

    def calls(self, function: Plain) -> Measure:
        """`call_with_resilience`, one after the other."""
        call, name, config = self.resilience.call_with_resilience, self.name(), options()

        def measure(number: int) -> int:
            began = perf_counter_ns()
            for _ in repeat(None, number):
                call(function, name, 1, custom_config=config)
            return perf_counter_ns() - began

        return measure

    def executes(self, loop: Loop, function: Async) -> Measure:
        """`execute_with_resilience`, one after the other."""
        execute, name, config = self.resilience.execute_with_resilience, self.name(), options()

        async def work(number: int) -> int:
            began = perf_counter_ns()
            for _ in repeat(None, number):
                await execute(function, name, 1, custom_config=config)
            return perf_counter_ns() - began

        return loop.measured(work)


# --- the rows --------------------------------------------------------------------------------------------------------------

Decorator = Callable[[Any], Any]
Way = Callable[[Any], Measure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the contenders of a row do: which callee they call, in which way, and how often a call has to reach it."""

    title: str
    against: str
    callee: Callable[[list[None]], Any]
    way: Way
    reaches: int = 1

    def by(self, decorators: Mapping[str, Decorator], **measuring: Way) -> Contest:
        """Return the row of these contenders, each with a callee of its own."""
        ways = {name: partial(self._decorated, decorator) for name, decorator in decorators.items()}
        return Contest(title=self.title, contenders=tuple(starmap(self._contender, {**ways, **measuring}.items())))

    def _decorated(self, decorator: Decorator, function: Any) -> Measure:
        return self.way(decorator(function))

    def _contender(self, name: str, way: Way) -> Contender:
        callee = Callee(self.callee)
        return Contender(name=name, against=self.against, callee=callee, measure=way(callee.function), reaches=self.reaches)


def success(kit: Kit) -> Contest:
    work = Work(title=SUCCESS, against=BREAKER, callee=harness.steady, way=harness.calls)
    return work.by({TRY: guarded, **succeeding(kit)}, **{CALL: kit.calls})


def async_success(kit: Kit, loop: Loop) -> Contest:
    work = Work(title=ASYNC_SUCCESS, against=BREAKER, callee=harness.steady_async, way=loop.calls)
    return work.by({TRY: guarded_async, **succeeding(kit)}, **{EXECUTE: partial(kit.executes, loop)})


def succeeding(kit: Kit) -> dict[str, Decorator]:
    return {
        BREAKER: with_breaker(),
        RETRY: with_retry(),
        BOTH: with_both(),
        KIT: kit.protects(),
        KIT_DEADLINE: kit.protects("balanced"),
    }


def refusals(kit: Kit, loop: Loop) -> Iterator[Contest]:
    for title, callee, errors in (
        (REFUSAL, harness.failing, harness.errors),
        (ASYNC_REFUSAL, harness.failing_async, loop.errors),
    ):
        work = Work(title=title, against=BREAKER, callee=callee, way=partial(opened, errors), reaches=0)
        yield work.by(
            {
                BREAKER: with_breaker(),
                BOTH: with_both(),
                KIT: kit.protects(),
                KIT_DEADLINE: kit.protects(options(deadline=30.0)),
                FORCED: kit.forced_open,
            }
        )


def opened(errors: Callable[[Any, type[Exception]], Measure], call: Any) -> Measure:
    """Open the circuit by failures, and measure rejected calls."""
    errors(call, Exception)(10)
    return errors(call, CircuitBreakerError)


def retries(kit: Kit, loop: Loop) -> Iterator[Contest]:
    eager = {EAGER: with_retry(sleep=lambda _: None)}
    for title, reaches, callee, way in (
        (RETRIED, 2, harness.flaky, harness.calls),
        (FAILURE, 3, harness.failing, partial(harness.errors, kind=ConnectionError)),
    ):
        yield Work(title=title, against=RETRY, callee=callee, way=way, reaches=reaches).by(
            {**retrying(kit), **eager, CALL: kit.given_to_call}
        )
    for title, reaches, async_callee, async_way in (
        (ASYNC_RETRIED, 2, harness.flaky_async, loop.calls),
        (ASYNC_FAILURE, 3, harness.failing_async, partial(loop.errors, kind=ConnectionError)),
    ):
        yield Work(title=title, against=RETRY, callee=async_callee, way=async_way, reaches=reaches).by(
            {**retrying(kit), EXECUTE: kit.given_to_execute}
        )


def retrying(kit: Kit) -> dict[str, Decorator]:
    return {
        RETRY: with_retry(),
        BOTH: with_both(NEVER),
        KIT: kit.protects(options(NEVER)),
        KIT_DEADLINE: kit.protects(options(NEVER, deadline=30.0)),
    }


def threads(kit: Kit) -> Contest:
    contenders = []
    for name, protect in {TRY: guarded, BREAKER: with_breaker(), KIT: kit.protects()}.items():
        callee = Callee(harness.steady)
        call = protect(callee.function)
        for number in (1, 100):
            label = f"{name}, {number} thread{'s'[: number != 1]}"
            measure = harness.in_threads(call, number)
            contenders.append(Contender(name=label, against=f"{name}, 1 thread", callee=callee, measure=measure))
    return Contest(title=THREADS, contenders=tuple(contenders), step=100, weight=50)


def tasks(kit: Kit, loop: Loop) -> Contest:
    work = Work(title=TASKS, against=BREAKER, callee=harness.suspending_async, way=partial(loop.in_tasks, tasks=1000))
    contest = work.by({TRY: guarded_async, **succeeding(kit)})
    return replace(contest, step=1000, weight=10)


def contests(loop: Loop) -> tuple[Contest, ...]:
    """Every row of the table."""
    kit = Kit()
    return (
        success(kit),
        async_success(kit, loop),
        *refusals(kit, loop),
        *retries(kit, loop),
        threads(kit),
        tasks(kit, loop),
    )


# --- the run ---------------------------------------------------------------------------------------------------------------


def benchmark(scale: Scale, progress: Callable[[str], object], only: str = "") -> Report:
    """Measure the rows whose titles contain `only`. Raises `MiscountError` when a callee was reached too seldom or too often."""
    rows: list[Row] = []
    findings: list[Finding] = []
    with closing(Loop()) as loop:
        known = [each for each in contests(loop) if only in each.title]
        with harness.settled():
            for each in known:
                progress(each.title)
                samples = harness.run(each, scale)
                rows.append(row(each.title, samples, {contender.name: contender.against for contender in each.contenders}))
                findings.extend(finding(target, samples) for target in TARGETS if target.row == each.title)
            progress("garbage")
            left = tuple(litter(each, _GARBAGE_CALLS[scale]) for each in known if each.step == 1)
    return Report(environment=environment(), rows=tuple(rows), findings=tuple(findings), garbage=sum(left, ()))


def litter(contest: Contest, number: int) -> tuple[Garbage, ...]:
    """Count the objects that calls leave for the collector, by contender."""
    return tuple(
        Garbage(
            row=contest.title,
            contender=each.name,
            calls=number,
            objects=harness.garbage(each, number),
            promised=each.name.startswith(KIT),
        )
        for each in contest.contenders
    )


def environment(*others: str) -> dict[str, str]:
    """Return what the figures depend on, including the versions of these distributions."""
    return {
        "Python": platform.python_version(),
        "on": f"{platform.system()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        **{name: version(name) for name in ("circuitbreaker", "tenacity", *others)},
    }


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few calls each: shows that it works; its figures mean nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the rows whose titles contain this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="measure nothing: show the medians over these runs")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    asked = arguments(given)
    logging.getLogger("resilience_kit").addHandler(logging.NullHandler())  # opened circuits would be told on standard error
    if asked.merge:
        report = merged([from_json(json.loads(path.read_text(encoding="utf-8"))) for path in asked.merge])
    else:
        report = benchmark(QUICK if asked.quick else FULL, lambda title: print(f"{title} ...", file=sys.stderr), asked.only)
    if asked.json is not None:
        asked.json.write_text(json.dumps(to_json(report), indent=2) + "\n", encoding="utf-8")
    print(to_markdown(report))
    return int(asked.check and not report.holds)


if __name__ == "__main__":
    sys.exit(main())
