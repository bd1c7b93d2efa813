"""The public face as a type checker sees it. Nothing here runs: mypy and pyright, both strict, read it.

`assert_type` holds the kit to exact types, so a signature that decays to Any fails the check, and `type: ignore` marks what
has to be refused, since an ignore that is not needed is an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, assert_type

import httpx
import httpx2
import tenacity

from resilience_kit import (
    AIServiceError,
    AIServiceResilience,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    ConfigurationError,
    DeadlineExceededError,
    EnhancedCircuitBreaker,
    FailureKind,
    FailureRateWindow,
    RateLimitError,
    Rejected,
    ResilienceConfig,
    ResilienceError,
    ResilienceStrategy,
    RetryConfig,
    TransientAIError,
    Verdict,
    classify,
    classify_ai_exception,
    get_orchestrator,
    idempotency_key,
    remaining_time,
    retry_with_backoff,
    set_orchestrator,
    with_resilience,
)
from resilience_kit.classification import classify_response
from resilience_kit.clock import Clock
from resilience_kit.config import Explanation, ResilienceSettings
from resilience_kit.errors import APITimeoutError, BudgetExceededError, StreamInterruptedError
from resilience_kit.events import CallFailed, ConfigChange, Event, StateChanged
from resilience_kit.guards import Guard, Permit
from resilience_kit.http import AsyncResilientTransport, ResilientTransport
from resilience_kit.limits import (
    AdaptiveLimit,
    AsyncExecutor,
    BulkheadConfig,
    Priority,
    RateLimitConfig,
    RateLimitedExecutor,
    RateLimiter,
    TokenBucketRateLimiter,
    priority,
)
from resilience_kit.orchestrator.reload import reload_on_sighup
from resilience_kit.orchestrator.watch import ConfigWatch
from resilience_kit.outcome import Outcome
from resilience_kit.policies.breaker import SQLiteBreakerStore
from resilience_kit.policies.retry import should_retry_on_exception
from resilience_kit.policies.retry_budget import RetryBudgetConfig
from resilience_kit.testing import FakeAIProvider, FakeClock, Fault, LoadReport, fails_then_succeeds, no_waiting, run_load

kit = AIServiceResilience()


# --- decorators keep kind and signature ------------------------------------------------------------------------------------


@with_resilience("plain")
def plain(text: str, *, words: int = 3) -> list[str]:
    return text.split()[:words]


@with_resilience("async", strategy="balanced", deadline=10.0)
async def asynchronous(text: str, *, words: int = 3) -> list[str]:
    return text.split()[:words]


@with_resilience("generator")
def generator(text: str) -> Generator[str, int, bool]:
    yield text
    return True


@with_resilience("iterator")
def iterator(text: str) -> Iterator[str]:
    yield text


@with_resilience("async generator")
async def async_generator(text: str) -> AsyncGenerator[str, int]:
    yield text


@with_resilience("async iterator")
async def async_iterator(text: str) -> AsyncIterator[str]:
    yield text


def what_decorated_functions_give() -> None:
    assert_type(plain("a b", words=2), list[str])
    assert_type(generator("a"), Generator[str, int, bool])
    assert_type(iterator("a"), Iterator[str])
    assert_type(async_generator("a"), AsyncGenerator[str, int])
    assert_type(async_iterator("a"), AsyncIterator[str])


async def what_decorated_async_functions_give() -> None:
    assert_type(await asynchronous("a b", words=2), list[str])
    async for item in async_iterator("a"):
        assert_type(item, str)


def what_decorated_functions_refuse() -> None:
    plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain("a", word=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    asynchronous()  # type: ignore[call-arg, unused-coroutine]  # pyright: ignore[reportCallIssue, reportUnusedCoroutine]
    generator(b"a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Summaries:
    """Methods of all kinds."""

    @kit.with_resilience("method", custom_config=ResilienceConfig(deadline=5.0))
    def method(self, text: str) -> int:
        return len(text)

    @kit.with_resilience("async method")
    async def async_method(self, text: str) -> int:
        return len(text)

    @classmethod
    @kit.with_resilience("class method")
    def class_method(cls, text: str) -> Summaries:
        return cls()

    @staticmethod
    @kit.with_resilience("static method", attempt_timeout=None)
    async def static_method(text: str) -> int:
        return len(text)

    @property
    @kit.with_resilience("property")
    def size(self) -> int:
        return 3


async def what_decorated_methods_give(summaries: Summaries) -> None:
    assert_type(summaries.method("a"), int)
    assert_type(await summaries.async_method("a"), int)
    assert_type(Summaries.class_method("a"), Summaries)
    assert_type(await summaries.static_method("a"), int)
    assert_type(summaries.size, int)
    summaries.method(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def what_the_decorator_takes() -> None:
    with_resilience("op", ResilienceStrategy.CRITICAL, {"retry_attempts": 3}, fallback=len, deadline=None, idempotent=False)
    with_resilience("op", custom_config=ResilienceConfig.from_strategy("aggressive"))
    with_resilience(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_resilience("op", deadline="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_resilience("op", dead_line=10.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# --- calls through the orchestrator ------------------------------------------------------------------------------------------


async def count_async(text: str) -> int:
    return len(text)


def count(text: str) -> int:
    return len(text)


async def what_calls_give() -> None:
    assert_type(await kit.execute_with_resilience(count_async, "count", "a"), int)
    assert_type(await kit.execute_with_resilience(count, "count", "a", in_thread=True), int)
    assert_type(kit.call_with_resilience(count, "count", "a", strategy="critical", deadline=3.0), int)
    assert_type(kit.get_circuit_breaker("count"), CircuitBreaker)
    assert_type(kit.reload(), tuple[ConfigChange, ...])
    assert_type(kit.explain("count"), Explanation)
    assert_type(kit.explain("count")["deadline"].source, str)
    with kit.watch_config(settle=0.5) as watch, reload_on_sighup(kit):
        assert_type(watch, ConfigWatch)
    assert_type(kit.operations, list[str])
    assert_type(kit.is_healthy(), bool)
    assert_type(kit.get_metrics(), dict[str, Any])  # JSON at the edge
    assert_type(kit.get_health_status(), dict[str, Any])
    assert_type(get_orchestrator(), AIServiceResilience)
    set_orchestrator(None)
    kit.register_operation("count", "balanced")
    kit.set_strategy("count", ResilienceStrategy.BALANCED)
    AIServiceResilience(ResilienceSettings(preset="production"), store=SQLiteBreakerStore("breakers.db"), clock=FakeClock())


async def what_backoff_gives() -> None:
    assert_type(await retry_with_backoff(count_async, "a", max_retries=2, base_delay=0.1), int)
    assert_type(await retry_with_backoff(count, "a", retry_exceptions=(TransientAIError,), jitter=False), int)
    await retry_with_backoff(count, "a", max_retries="2")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


# --- listeners -----------------------------------------------------------------------------------------------------------------


def hear(event: Event) -> None:
    match event:
        case StateChanged(old=old, new=new, at=at):
            assert_type((old, new, at), tuple[str, str, float])
        case CallFailed(kind=kind, reason=reason):
            assert_type((kind, reason), tuple[FailureKind, str])
        case _:
            assert_type(event.operation, str)


def what_listening_gives() -> None:
    assert_type(kit.add_listener(hear, StateChanged), Callable[[], None])
    kit.add_listener(hear, str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- breakers ------------------------------------------------------------------------------------------------------------------

breaker = CircuitBreaker(3, 10.0, ConnectionError, "name", window=FailureRateWindow(size=10, minimum_calls=5))


@breaker
def guarded(text: str) -> int:
    return len(text)


@breaker
async def guarded_async(text: str) -> int:
    return len(text)


@EnhancedCircuitBreaker(recovery_time=3.0)
def enhanced(text: str) -> Iterator[int]:
    yield len(text)


async def what_breakers_give() -> None:
    assert_type(guarded("a"), int)
    assert_type(await guarded_async("a"), int)
    assert_type(enhanced("a"), Iterator[int])
    guarded(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(breaker.call(count, "a"), int)
    assert_type(await breaker.call_async(count_async, "a"), int)
    assert_type(await breaker.execute(count_async, "a"), int)
    assert_type(await breaker.execute(count, "a"), int)
    with breaker as same:
        assert_type(same, CircuitBreaker)
    async with breaker as same:
        assert_type(same, CircuitBreaker)
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.name, str | None)
    assert_type(breaker.failure_count, int)
    assert_type(breaker.failure_threshold, int)
    assert_type(breaker.recovery_timeout, float)
    assert_type(breaker.recovery_time, float)
    assert_type(breaker.open_remaining, float)
    assert_type(breaker.last_failure, BaseException | None)
    assert_type(breaker.last_failure_time, float | None)
    assert_type(breaker.opened, bool)
    assert_type(breaker.closed, bool)
    assert_type(breaker.metrics, dict[str, object])
    breaker.state = CircuitState.OPEN
    breaker.last_failure_time = 3.0
    breaker.force_open("maintenance")
    breaker.force_close("done")
    breaker.reset()
    breaker.call(count, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- options -------------------------------------------------------------------------------------------------------------------


def what_options_take_and_give() -> None:
    retry = RetryConfig(max_attempts=4, jitter="equal", retry_exceptions=(ConnectionError,), before_sleep=tell, max_retries=None)
    assert_type(retry.max_attempts, int)
    assert_type(
        retry.retry_exceptions,
        type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool] | None,
    )
    RetryConfig(retry_exceptions=ConnectionError, exclude_exceptions=lambda error: "paid" in str(error))
    RetryConfig(retry_on_result=lambda result: result is None)
    assert_type(retry.retrying(wait=tenacity.wait_fixed(1)), tenacity.Retrying)
    assert_type(retry.retrying(), tenacity.Retrying)
    assert_type(retry.async_retrying(), tenacity.AsyncRetrying)
    assert_type(retry.decorator()(count)("a"), int)
    assert_type(retry.backoff(1), float)
    RetryConfig(jitter="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryConfig(4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    circuit = CircuitBreakerConfig(failure_threshold=3, expected_exception=lambda kind, error: "down" in str(error))
    config = ResilienceConfig(
        retry=retry, circuit_breaker=circuit, retry_budget=RetryBudgetConfig(capacity=100), circuit_open="wait"
    )
    assert_type(config.retry, RetryConfig | None)
    assert_type(config.deadline, float | None)
    assert_type(config.replace(deadline=3.0), ResilienceConfig)
    config.replace(dead_line=3.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    config.deadline = 3.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    ResilienceConfig(circuit_open="hope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tell(state: tenacity.RetryCallState) -> None:
    assert_type(should_retry_on_exception(state), bool)


@tenacity.retry(retry=should_retry_on_exception)
def with_own_tenacity() -> int:
    return 3


class Limit:
    """A user's own guard and permit."""

    name = "limit"
    wait = 0.0

    def admit(self, cost: float = 1.0) -> Limit:
        raise Rejected(self.name, 3.0)

    def fits(self, cost: float = 1.0) -> bool:
        return cost < 1.0

    def settle(self, outcome: Outcome) -> None:
        assert_type(outcome.verdict, Verdict | None)


def what_guards_are(limit: Limit) -> tuple[Guard, Permit, Clock]:
    ResilienceConfig(guards=(limit, Limit()))
    return limit, limit, FakeClock()


# --- limits ---------------------------------------------------------------------------------------------------------------------


tokens = RateLimitConfig(rate=30_000, period=60.0, cost=len, usage=lambda answer: answer.total_tokens)


@with_resilience(
    "limited", rate_limit=(RateLimitConfig(rate=500, period=60.0), tokens), bulkhead=BulkheadConfig(max_concurrent=3)
)
async def limited(text: str) -> int:
    return len(text)


async def what_limits_give() -> None:
    assert_type(await limited("a"), int)
    limiter, executor = TokenBucketRateLimiter(10, 1.0, max_tokens=2.5), AsyncExecutor(3)
    assert_type((await limiter.acquire(0.5), limiter.try_acquire(), limiter.tokens), tuple[float, bool, float])
    assert_type(await limiter.execute(limited, "a"), int)
    assert_type(await executor.execute(limited, "a"), int)
    assert_type(await executor.map(limited, ["a", "b"]), list[int])
    await executor.shutdown(timeout=1.0)
    assert_type(await RateLimitedExecutor(10, max_concurrency=2).execute(limited, "a"), int)
    with priority("high") as level:
        assert_type(level, Priority)
    both: tuple[Guard, ...] = (limiter, executor, RateLimitedExecutor(1), RateLimiter(tokens))
    ResilienceConfig(guards=both, rate_limit=limiter, bulkhead=BulkheadConfig(max_concurrent=9, adaptive=AdaptiveLimit()))
    ResilienceConfig().replace(rate_limit=tokens, bulkhead=None)


# --- what went wrong ------------------------------------------------------------------------------------------------------------


def what_errors_tell(error: Exception) -> None:
    verdict = classify(error)
    assert_type(verdict, Verdict)
    assert_type((verdict.kind, verdict.retryable, verdict.retry_after), tuple[FailureKind, bool, float | None])
    assert_type(classify_ai_exception(error), bool)
    assert_type(classify_response(429, {"retry-after": "3"}, b"{}"), Verdict)
    assert_type(remaining_time(), float | None)
    assert_type(idempotency_key(), str | None)
    try:
        raise error
    except CircuitBreakerOpenError as refused:
        assert_type((refused.name, refused.retry_after, refused.reason), tuple[str, float | None, str | None])
    match error:
        case CircuitBreakerOpenError():
            assert_type((error.name, error.retry_after), tuple[str, float | None])
        case BudgetExceededError() | Rejected():
            assert_type(error.retry_after, float | None)
        case RateLimitError():
            assert_type(error.retry_after, float | None)
        case ConfigurationError():
            assert_type([(each.path, each.got) for each in error.errors], list[tuple[str, object]])
        case StreamInterruptedError():
            assert_type(error.delivered, int)
        case _:
            pass


def what_errors_are(
    late: DeadlineExceededError, slow: APITimeoutError, wrong: ConfigurationError
) -> tuple[TimeoutError, AIServiceError, ResilienceError, ValueError]:
    return late, slow, wrong, wrong


# --- transports for clients of either library -----------------------------------------------------------------------------------


def what_takes_a_transport() -> None:
    httpx.Client(transport=ResilientTransport())
    httpx.AsyncClient(transport=AsyncResilientTransport(breaker_per="key", pacing=None))
    httpx2.Client(transport=ResilientTransport(httpx2.HTTPTransport()))
    ResilientTransport(breaker_per="hosts")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- for users' own tests -------------------------------------------------------------------------------------------------------


def what_testing_gives() -> None:
    assert_type(fails_then_succeeds(count, 2)("a"), int)
    assert_type(run_load(lambda: count("a"), duration=0.1, threads=2), LoadReport)
    with no_waiting(), FakeAIProvider([Fault.rate_limited(0.1)]) as provider:
        assert_type(provider, FakeAIProvider)
        assert_type(provider.openai_url, str)
