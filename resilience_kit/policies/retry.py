"""Retry: whether to retry, and after how long. Options on one side, tenacity objects on the other.

The rules are tenacity's own kinds of objects (retry, wait, stop), so they also work in a plain `tenacity.retry(...)`.
What tenacity does differently from this package's needs, and what is done instead, is pinned in
`tests/test_upstream_contract.py`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import InitVar, dataclass
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

import tenacity
from tenacity import RetryCallState
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from resilience_kit._callable_kinds import CallableKind, is_awaitable, kind_of
from resilience_kit._checks import Checks
from resilience_kit._keyword_hints import suggests_keywords_for_class
from resilience_kit.classification import classify
from resilience_kit.errors import Rejected
from resilience_kit.outcome import Verdict

P = ParamSpec("P")
R = TypeVar("R")
Jitter = Literal["full", "equal", "proportional"]
Hook = Callable[[RetryCallState], object]
#: Exception classes, or a predicate of the error.
ErrorFilter = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]


@suggests_keywords_for_class
@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """Define which errors are retried, how often, and after which waits.

    The wait after attempt k, from 1, is drawn below the ceiling `min(base_delay * backoff_factor ** (k - 1), max_delay)` seconds.
    A rejection by this package (`Rejected`) is only retried when its class is named. A service's Retry-After lengthens the wait.

    `max_attempts`: attempts of a call, the first one included. `base_delay`: seconds, ceiling of the first wait. `max_delay`:
    seconds; the longest wait, except for a service's Retry-After. `backoff_factor`: growth of the ceiling per attempt.
    `jitter`: `"full"`: anywhere below the ceiling, which spreads callers most; `"equal"`: in its upper half; `"proportional"`:
    within `jitter_factor` of it; None: exactly it. `jitter_factor`: for proportional jitter only.
    `retry_exceptions`: a class, classes or a predicate of the error, for what is retried; None: whatever the classifier calls
    retryable. `exclude_exceptions`: the same for what is never retried. `retry_on_result`: a predicate of the function's result,
    true for a result that means "retry"; when no attempt is left, the last result is returned. `max_retry_after`: seconds; a
    longer Retry-After ends the retries. `before_sleep`: a plain function, called before each wait as tenacity calls it. `after`:
    the same, called after each failed attempt. `max_retries`: alternative to `max_attempts`: one less.
    """

    max_attempts: int = 3
    base_delay: float = 1.0
    max_delay: float = 60.0
    backoff_factor: float = 2.0
    jitter: Jitter | None = "full"
    jitter_factor: float = 0.2
    retry_exceptions: ErrorFilter | None = None
    exclude_exceptions: ErrorFilter = ()
    retry_on_result: Callable[[Any], bool] | None = None
    max_retry_after: float = 60.0
    before_sleep: Hook | None = None
    after: Hook | None = None
    max_retries: InitVar[int | None] = None

    def __post_init__(self, max_retries: int | None) -> None:
        checks = Checks("RetryConfig")
        for field in ("retry_exceptions", "exclude_exceptions"):
            value = getattr(self, field)
            object.__setattr__(self, field, (value,) if isinstance(value, type) else value)
        if max_retries is None:
            checks.integer("max_attempts", self.max_attempts, 1)
        elif checks.integer("max_retries", max_retries, 0):
            object.__setattr__(self, "max_attempts", max_retries + 1)
        _check_delays(checks, self)
        checks.one_of("jitter", self.jitter, ("full", "equal", "proportional", None))
        if self.retry_exceptions is not None:
            _check_filter(checks, "retry_exceptions", self.retry_exceptions)
        _check_filter(checks, "exclude_exceptions", self.exclude_exceptions)
        _check_predicate(checks, "retry_on_result", self.retry_on_result)
        checks.seconds("max_retry_after", self.max_retry_after, zero=True)
        _check_hook(checks, "before_sleep", self.before_sleep)
        _check_hook(checks, "after", self.after)
        checks.raise_if_any()

    def backoff(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number `attempt`, from 1: between 0 and `max_delay`."""
        ceiling = min(self.uncapped_backoff(attempt), self.max_delay)
        if self.jitter == "full":
            return random.uniform(0.0, ceiling)  # noqa: S311 - jitter, not a secret
        if self.jitter == "equal":
            half = ceiling / 2.0
            return half + random.uniform(0.0, half)  # noqa: S311 - as above
        if self.jitter == "proportional":
            # The range is clipped at max_delay before the draw: clipped afterwards, many callers would wait exactly max_delay.
            most = min(ceiling * (1.0 + self.jitter_factor), self.max_delay)
            return min(random.uniform(ceiling * (1.0 - self.jitter_factor), most), self.max_delay)  # noqa: S311 - as above
        return ceiling

    def uncapped_backoff(self, attempt: int) -> float:
        """Return the seconds `base_delay * backoff_factor ** (attempt - 1)`, before any limit, as far as a float goes."""
        try:
            return self.base_delay * float(self.backoff_factor) ** (attempt - 1)
        except OverflowError:
            return sys.float_info.max if self.base_delay else 0.0

    def should_retry(self, error: BaseException, verdict: Verdict) -> bool:
        """Return whether an error with this verdict should be retried. Cancellation never is."""
        if not isinstance(error, Exception) or _matches(error, self.exclude_exceptions):
            return False
        if self.retry_exceptions is None:
            return verdict.retryable
        if isinstance(error, Rejected) and not _names_rejected(self.retry_exceptions):
            return False
        return _matches(error, self.retry_exceptions)

    def retrying(self, **options: Any) -> tenacity.Retrying:
        """Return a tenacity controller for plain functions. `options` are tenacity's keywords and override the config's."""
        return tenacity.Retrying(**self._tenacity_options(options))

    def async_retrying(self, **options: Any) -> tenacity.AsyncRetrying:
        """Return a tenacity controller for async functions. `options` as in `retrying`."""
        return tenacity.AsyncRetrying(**self._tenacity_options(options))

    def decorator(self, **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a tenacity decorator, for plain and async functions. `options` as in `retrying`."""
        return cast("Callable[[Callable[P, R]], Callable[P, R]]", tenacity.retry(**self._tenacity_options(options)))

    def _tenacity_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return this config as keywords of tenacity, overridden by `options`."""
        rules: dict[str, Any] = {
            "retry": retry_if_retryable(self),
            "wait": wait_backoff(self),
            "stop": tenacity.stop_any(
                tenacity.stop_after_attempt(self.max_attempts), stop_on_long_retry_after(self.max_retry_after)
            ),
            "reraise": True,
            "before_sleep": self.before_sleep,
        }
        if self.after is not None:
            rules["after"] = self.after
        if self.retry_on_result is not None and not {"retry_error_cls", "reraise"} & options.keys():
            rules["retry_error_callback"] = _last_result
        return rules | options


def _last_result(retry_state: RetryCallState) -> Any:
    """Return the last result, or raise the last error, where tenacity would raise a `RetryError` about a result."""
    return cast("tenacity.Future", retry_state.outcome).result()


def _check_delays(checks: Checks, config: RetryConfig) -> None:
    checks.seconds("base_delay", config.base_delay, zero=True)
    checks.seconds("max_delay", config.max_delay, zero=True)
    checks.number("backoff_factor", config.backoff_factor, 1.0)
    checks.number("jitter_factor", config.jitter_factor, 0.0, 1.0)


def _check_filter(checks: Checks, field: str, value: object) -> None:
    classes = isinstance(value, tuple) and all(isinstance(each, type) and issubclass(each, BaseException) for each in value)
    if not classes and (isinstance(value, tuple) or not callable(value) or kind_of(value) is not CallableKind.SYNC):
        checks.add(field, "must be an exception class, a tuple of them or a plain function (error) -> bool", value)


def _check_predicate(checks: Checks, field: str, predicate: object) -> None:
    is_error = isinstance(predicate, type) and issubclass(predicate, BaseException)
    if predicate is not None and (not callable(predicate) or is_error or kind_of(predicate) is not CallableKind.SYNC):
        checks.add(field, "must be a plain function (result) -> bool", predicate)


def _matches(error: Exception, wanted: ErrorFilter) -> bool:
    return isinstance(error, wanted) if isinstance(wanted, tuple | type) else bool(wanted(error))


def _check_hook(checks: Checks, field: str, hook: object) -> None:
    if hook is None:
        return
    if not callable(hook):
        checks.add(field, "must be a function of tenacity's RetryCallState", hook)
    elif kind_of(hook) is not CallableKind.SYNC:
        checks.add(field, "must be a plain function: it is called between attempts of sync and async operations alike", hook)


def _names_rejected(wanted: ErrorFilter) -> bool:
    """Return whether the filter names a class of rejections.

    A predicate does not: it would be called for every rejection of an open circuit.
    """
    return isinstance(wanted, tuple) and any(issubclass(named, Rejected) for named in wanted)


def verdict_of(retry_state: RetryCallState) -> Verdict | None:
    """Return the verdict of the attempt that failed last; None after a success. A driver's state already carries it."""
    known: Verdict | None = getattr(retry_state, "verdict", None)
    if known is not None:
        return known
    error = _error_of(retry_state)
    return None if error is None else classify(error)


def _error_of(retry_state: RetryCallState) -> BaseException | None:
    return None if retry_state.outcome is None else retry_state.outcome.exception()


def should_retry_on_exception(retry_state: RetryCallState) -> bool:
    """Decide by the classifier, as a tenacity predicate: `tenacity.retry(retry=should_retry_on_exception)`.

    Never retries a cancellation.
    """
    verdict = verdict_of(retry_state)
    return verdict is not None and verdict.retryable and isinstance(_error_of(retry_state), Exception)


class retry_if_retryable(retry_base):  # noqa: N801 - named as tenacity names its own
    """Retry what a config calls retryable."""

    def __init__(self, config: RetryConfig) -> None:
        self._config = config

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Return whether to retry; called by tenacity."""
        outcome, on_result = retry_state.outcome, self._config.retry_on_result
        if outcome is not None and not outcome.failed:
            return on_result is not None and bool(on_result(outcome.result()))
        error, verdict = _error_of(retry_state), verdict_of(retry_state)
        return error is not None and verdict is not None and self._config.should_retry(error, verdict)


class wait_backoff(wait_base):  # noqa: N801 - as above
    """Wait by a config's backoff, and at least for the service's Retry-After."""

    def __init__(self, config: RetryConfig) -> None:
        self._config = config

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the seconds to wait; called by tenacity."""
        verdict = verdict_of(retry_state)
        hint = None if verdict is None else verdict.retry_after
        return max(self._config.backoff(retry_state.attempt_number), hint or 0.0)


class stop_on_long_retry_after(stop_base):  # noqa: N801 - as above
    """Stop when a Retry-After exceeds `max_retry_after` seconds; it is never shortened."""

    def __init__(self, max_retry_after: float) -> None:
        self._max_retry_after = max_retry_after

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Return whether to stop; called by tenacity."""
        verdict = verdict_of(retry_state)
        return verdict is not None and verdict.retry_after is not None and verdict.retry_after > self._max_retry_after


@overload
async def retry_with_backoff(
    f: Callable[..., Awaitable[R]],
    *args: object,
    retry_exceptions: ErrorFilter = (Exception,),
    exclude_exceptions: ErrorFilter = (),
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 60.0,
    backoff_factor: float = 2.0,
    jitter: bool = True,
    jitter_factor: float = 0.2,
    **kwargs: object,
) -> R: ...


@overload
async def retry_with_backoff(
    f: Callable[..., R],
    *args: object,
    retry_exceptions: ErrorFilter = (Exception,),
    exclude_exceptions: ErrorFilter = (),
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 60.0,
    backoff_factor: float = 2.0,
    jitter: bool = True,
    jitter_factor: float = 0.2,
    **kwargs: object,
) -> R: ...


async def retry_with_backoff(  # noqa: PLR0913 - the signature is fixed
    f: Callable[..., Awaitable[R] | R],
    *args: object,
    retry_exceptions: ErrorFilter = (Exception,),
    exclude_exceptions: ErrorFilter = (),
    max_retries: int = 3,
    base_delay: float = 1.0,
    max_delay: float = 60.0,
    backoff_factor: float = 2.0,
    jitter: bool = True,
    jitter_factor: float = 0.2,
    **kwargs: object,
) -> R:
    """Run `f`, plain or async, at most `1 + max_retries` times, with growing waits in between, and do nothing else.

    There is no circuit breaker, deadline or attempt timeout, retry budget, rate limit, idempotency key, metric, event or log
    line. The default `retry_exceptions` does not classify errors: a wrong key, a bad request and an exhausted quota are retried
    like an outage. A service's Retry-After is never read. A plain `f` blocks the event loop. Use `with_resilience` for services.

    Wait n, from 0, is `base_delay * backoff_factor ** n` seconds, times `random.uniform(1 - jitter_factor, 1 + jitter_factor)`
    with jitter, and at most `max_delay`. `retry_exceptions` and `exclude_exceptions` are those of `RetryConfig`. The last error
    propagates unchanged. Rejections by this package are only retried when named. Raises `ConfigurationError` on a bad setting.
    """
    config = RetryConfig(
        max_retries=max_retries,
        base_delay=base_delay,
        max_delay=max_delay,
        backoff_factor=backoff_factor,
        jitter=None,
        jitter_factor=jitter_factor,
        retry_exceptions=_as_tuple(retry_exceptions),
        exclude_exceptions=_as_tuple(exclude_exceptions),
    )
    spread = jitter_factor if jitter else 0.0

    def wait(state: RetryCallState) -> float:
        return min(config.uncapped_backoff(state.attempt_number) * random.uniform(1.0 - spread, 1.0 + spread), max_delay)  # noqa: S311 - as above

    controller = tenacity.AsyncRetrying(
        retry=retry_if_retryable(config),
        wait=wait,
        stop=tenacity.stop_after_attempt(config.max_attempts),
        sleep=_sleep,
        reraise=True,
    )
    return cast("R", await controller(_call_and_await, f, args, kwargs))


async def _call_and_await(f: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    result = f(*args, **kwargs)
    return await cast("Awaitable[object]", result) if is_awaitable(result) else result


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _as_tuple(types: object) -> Any:
    return tuple(types) if isinstance(types, list | set | frozenset) else (types,) if isinstance(types, type) else types
