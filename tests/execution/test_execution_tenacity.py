"""Users' tenacity hooks mean what they mean in tenacity itself, and the schedule is tenacity's."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
import tenacity

from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.errors import ServerError
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.testing import FakeClock

SCENARIOS = 1200


class AError(Exception):
    """One error."""


class BError(Exception):
    """Another."""


class FatalError(BaseException):
    """Not to be caught."""


@pytest.mark.slow
def test_a_random_scenario_goes_as_in_plain_tenacity(caplog):
    """Calls, sleeps, hooks, what they see of state and statistics, and the end: the same in 1200 scenarios, sync and async."""
    caplog.set_level("ERROR", "resilience_kit")
    with asyncio.Runner() as runner:
        for seed in range(SCENARIOS):
            assert scenario(seed, runner, ours=False) == scenario(seed, runner, ours=True), seed


def scenario(seed: int, runner: asyncio.Runner, *, ours: bool) -> tuple[Any, ...]:
    """One random policy and one random script, by tenacity or by the kit."""
    draw = random.Random(seed)
    is_async = draw.random() < 0.5
    script = [draw.choice([None, AError, AError, AError, BError, FatalError]) for _ in range(8)]
    log: list[Any] = []
    config = RetryConfig(
        max_attempts=draw.randint(1, 5),
        base_delay=draw.choice([0.0, 0.5, 2.0]),
        max_delay=draw.choice([0.0, 3.0, 60.0]),
        backoff_factor=draw.choice([1.0, 2.0, 3.0]),
        jitter=None,
        retry_exceptions=draw.choice([(AError,), (AError, BError), (Exception,), (BaseException,), ()]),
        exclude_exceptions=draw.choice([(), (BError,)]),
        before_sleep=hook("before_sleep", log) if draw.random() < 0.7 else None,
        after=hook("after", log) if draw.random() < 0.7 else None,
    )
    attempts = iter(script)

    def body(*args: Any, **kwargs: Any) -> str:
        error = next(attempts)
        log.append(("call", error))
        if error is not None:
            raise error("x")
        return "done"

    async def body_async(*args: Any, **kwargs: Any) -> str:
        return body()

    function: Any = body_async if is_async else body
    function.__name__ = "f"
    wrapped = with_kit(function, config, log) if ours else with_tenacity(function, config, log, is_async=is_async)
    try:
        result = runner.run(wrapped(1, key=2)) if is_async else wrapped(1, key=2)
    except BaseException as error:
        return log, type(error), type(error.__cause__), type(error.__context__), error.__suppress_context__
    return log, result


def hook(name: str, log: list[Any]) -> Any:
    """A hook that writes down all it is told."""

    def write(state: tenacity.RetryCallState) -> None:
        outcome = state.outcome
        assert outcome is not None
        seen = (state.attempt_number, outcome.attempt_number, type(outcome.exception()), outcome.failed, round(state.idle_for, 6))
        upcoming = (state.upcoming_sleep, state.next_action and state.next_action.sleep)
        log.append(
            (name, *seen, *upcoming, state.args, state.kwargs, state.fn and state.fn.__name__, state.outcome_timestamp is None)
        )
        statistics = state.retry_object.statistics
        log.append((sorted(statistics), statistics["attempt_number"], round(statistics["idle_for"], 6)))

    return write


def with_kit(function: Any, config: RetryConfig, log: list[Any]) -> Any:
    """`function` under a kit whose sleeps are written down."""
    clock = FakeClock()
    clock.sleeps = Sleeps(log)
    kit = AIServiceResilience(ResilienceSettings(), clock=clock)
    return kit.with_resilience("op", custom_config=ResilienceConfig(retry=config, circuit_breaker=None))(function)


class Sleeps(list[float]):
    """Writes down each sleep."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log

    def append(self, seconds: float) -> None:
        self._log.append(("sleep", seconds))


def with_tenacity(function: Any, config: RetryConfig, log: list[Any], *, is_async: bool) -> Any:
    """The same policy in tenacity's own words."""

    def wait(state: tenacity.RetryCallState) -> float:
        return min(config.base_delay * config.backoff_factor ** (state.attempt_number - 1), config.max_delay)

    def wanted(error: BaseException) -> bool:
        retried = config.retry_exceptions
        assert retried is not None
        return isinstance(error, Exception) and isinstance(error, retried) and not isinstance(error, config.exclude_exceptions)

    def sleep(seconds: float) -> None:
        log.append(("sleep", seconds))

    async def sleep_async(seconds: float) -> None:
        sleep(seconds)

    options: dict[str, Any] = {
        "retry": tenacity.retry_if_exception(wanted),
        "wait": wait,
        "stop": tenacity.stop_after_attempt(config.max_attempts),
        "sleep": sleep_async if is_async else sleep,
        "before_sleep": config.before_sleep,
        "reraise": True,
        **({"after": config.after} if config.after is not None else {}),
    }
    return (tenacity.AsyncRetrying if is_async else tenacity.Retrying)(**options).wraps(function)


async def test_the_time_since_the_start_counts_the_first_attempt(lab, kind, steps):
    """Although tenacity is entered after it only."""
    seen = []
    attempt = steps(lambda: (lab.clock.advance(5.0), steps(ServerError)()), "done")
    retry = RetryConfig(jitter=None, before_sleep=lambda state: seen.append(round(state.seconds_since_start)))
    await lab.call(kind, attempt, config=lab.config(retry=retry))
    assert [5] == seen


@pytest.mark.parametrize("which", ["before_sleep", "after"])
async def test_a_hook_that_raises_ends_the_call(lab, kind, steps, which):
    """Its error is the last word, the attempt before it has been counted, and no permit is kept."""

    def hook_that_raises(state):
        raise ZeroDivisionError

    guard = lab.Guard()
    attempt = steps(ServerError)
    config = lab.config(retry=RetryConfig(**{which: hook_that_raises}), guards=(guard,))
    with pytest.raises(ZeroDivisionError) as caught:
        await lab.call(kind, attempt, config=config)
    assert (1, []) == (attempt.calls, lab.clock.sleeps)
    assert [["failure"]] == guard.kinds
    assert ["resilience_kit: 'op' failed after 1 attempt in 0.0 s: it was broken off between attempts"] == caught.value.__notes__
    assert {"total_calls": 1, "failed_calls": 1} == lab.counted()


async def test_try_again_is_an_error_like_others(lab, kind, steps):
    """Named, it is retried as often as others; the caller never sees a RetryError."""
    attempt = steps(tenacity.TryAgain)
    with pytest.raises(tenacity.TryAgain):
        await lab.call(kind, attempt, config=lab.config(retry=RetryConfig(base_delay=0, retry_exceptions=(tenacity.TryAgain,))))
    assert 3 == attempt.calls
