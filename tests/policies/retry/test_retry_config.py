"""The waits, the conditions and the hooks of a RetryConfig, and its faces in tenacity."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.errors import (
    AuthenticationError,
    BulkheadFullError,
    CircuitBreakerOpenError,
    ConfigurationError,
    RateLimitError,
    Rejected,
    ServerError,
)
from resilience_kit.outcome import FailureKind, Verdict
from resilience_kit.policies.retry import RetryConfig, should_retry_on_exception, verdict_of

PREDICATE = {"retry_exceptions": lambda error: "again" in str(error)}
DRAWS = {"0": 0.0, "half": 0.5, "almost 1": 1.0 - 2.0**-53}
RETRYABLE = Verdict(FailureKind.SERVER_ERROR, retryable=True, counts_against_breaker=True)
FINAL = Verdict(FailureKind.AUTH, retryable=False, counts_against_breaker=False)


def bounds(config: RetryConfig, attempt: int) -> tuple[float, float]:
    """The wait after an attempt, by the formula, in exact arithmetic."""
    grown = float(min(config.base_delay * _power(config.backoff_factor, attempt - 1), 1e300))
    ceiling = min(grown, config.max_delay)
    if config.jitter == "full":
        return 0.0, ceiling
    if config.jitter == "equal":
        return ceiling / 2, ceiling
    if config.jitter == "proportional":
        spread = config.jitter_factor
        return ceiling * (1 - spread), min(ceiling * (1 + spread), config.max_delay)
    return ceiling, ceiling


def _power(base: float, exponent: int) -> float:
    try:
        return base**exponent
    except OverflowError:
        return 1e300


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("jitter", ["full", "equal", "proportional", None])
def test_a_wait_is_within_its_bounds(draw, jitter, monkeypatch):
    """Up to attempt 10 000, with the random number at its ends and in the middle (invariant 24)."""
    monkeypatch.setattr(random, "uniform", lambda low, high: low + (high - low) * DRAWS[draw])
    for base in (0.0, 1e-9, 1.0, 50.0):
        for factor in (1.0, 1.5, 2.0, 10.0):
            config = RetryConfig(base_delay=base, max_delay=60.0, backoff_factor=factor, jitter=jitter)
            for attempt in (*range(1, 40), 309, 1024, 1025, 10_000):
                low, high = bounds(config, attempt)
                wait = config.backoff(attempt)
                assert 0.0 <= wait <= 60.0
                assert low * (1 - 1e-12) <= wait <= high * (1 + 1e-12), (base, factor, attempt)


@pytest.mark.parametrize("jitter", ["full", "equal", "proportional"])
def test_waits_at_the_limit_are_spread(jitter):
    """A thousand callers at max_delay do not come back at the same moment (invariant 24)."""
    config = RetryConfig(base_delay=1.0, max_delay=10.0, jitter=jitter)
    low = {"full": 0.0, "equal": 5.0, "proportional": 8.0}[jitter]
    for attempt in (5, 6, 1000):
        waits = [config.backoff(attempt) for _ in range(1000)]
        assert low <= min(waits) < low + 0.5
        assert 9.5 < max(waits) <= 10.0
        assert max(map(waits.count, set(waits))) < 10


@given(
    attempt=st.integers(1, 10_000),
    base=st.floats(0, 1e6),
    longest=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    jitter=st.sampled_from(["full", "equal", "proportional", None]),
    spread=st.floats(0, 1),
)
def test_no_wait_is_negative_or_above_the_limit(attempt, base, longest, factor, jitter, spread):
    """Whatever the options (invariant 24)."""
    config = RetryConfig(base_delay=base, max_delay=longest, backoff_factor=factor, jitter=jitter, jitter_factor=spread)
    assert 0.0 <= config.backoff(attempt) <= longest


@pytest.mark.table(
    ("error", "options", "expected"),
    [
        (ServerError(), {}, True),
        (AuthenticationError(), {}, False),
        (ServerError(), {"exclude_exceptions": (ServerError,)}, False),
        (KeyError(), {"retry_exceptions": (KeyError,)}, True),
        (ServerError(), {"retry_exceptions": (KeyError,)}, False),
        (KeyError(), {"retry_exceptions": (LookupError,), "exclude_exceptions": (KeyError,)}, False),
        (KeyboardInterrupt(), {"retry_exceptions": (BaseException,)}, False),
        (asyncio.CancelledError(), {"retry_exceptions": (BaseException,)}, False),
        (CircuitBreakerOpenError("op", 1.0), {"retry_exceptions": (Exception,)}, False),
        (CircuitBreakerOpenError("op", 1.0), {"retry_exceptions": (Rejected,)}, True),
        (BulkheadFullError("op"), {"retry_exceptions": (BulkheadFullError, KeyError)}, True),
        (CircuitBreakerOpenError("op", 1.0), {"retry_exceptions": (BulkheadFullError,)}, False),
        (KeyError(), {"retry_exceptions": KeyError}, True),
        (ServerError(), {"exclude_exceptions": ServerError}, False),
        (KeyError("again"), PREDICATE, True),
        (KeyError("never"), PREDICATE, False),
        (KeyError("again"), PREDICATE | {"exclude_exceptions": lambda _: True}, False),
        (CircuitBreakerOpenError("again", 1.0), PREDICATE, False),
        (KeyboardInterrupt("again"), PREDICATE, False),
        (asyncio.CancelledError("again"), PREDICATE, False),
    ],
)
def test_what_is_worth_another_attempt(error, options, expected):
    """Named classes or the classifier; exclusions win; refusals when named; cancellations never (invariant 28)."""
    verdict = RETRYABLE if isinstance(error, ServerError) else FINAL
    assert expected == RetryConfig(**options).should_retry(error, verdict)


def test_max_retries_is_one_less():
    """Another way to say it."""
    assert (1, 4) == (RetryConfig(max_retries=0).max_attempts, RetryConfig(max_retries=3).max_attempts)
    assert RetryConfig(max_retries=4) == RetryConfig(max_attempts=5)


async def hook_async(state):
    """Would never be awaited."""


@pytest.mark.table(
    ("options", "field"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": True}, "max_attempts"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_retries": -1}, "max_retries"),
        ({"base_delay": -1}, "base_delay"),
        ({"base_delay": float("nan")}, "base_delay"),
        ({"max_delay": float("inf")}, "max_delay"),
        ({"backoff_factor": 0.5}, "backoff_factor"),
        ({"jitter": "some"}, "jitter"),
        ({"jitter": True}, "jitter"),
        ({"jitter_factor": 1.5}, "jitter_factor"),
        ({"retry_exceptions": [ServerError]}, "retry_exceptions"),
        ({"retry_exceptions": ("ServerError",)}, "retry_exceptions"),
        ({"retry_exceptions": int}, "retry_exceptions"),
        ({"retry_exceptions": hook_async}, "retry_exceptions"),
        ({"exclude_exceptions": "ServerError"}, "exclude_exceptions"),
        ({"exclude_exceptions": None}, "exclude_exceptions"),
        ({"retry_on_result": 3}, "retry_on_result"),
        ({"retry_on_result": ServerError}, "retry_on_result"),
        ({"retry_on_result": hook_async}, "retry_on_result"),
        ({"max_retry_after": -0.1}, "max_retry_after"),
        ({"before_sleep": 3}, "before_sleep"),
        ({"after": hook_async}, "after"),
        ({"before_sleep": hook_async}, "before_sleep"),
    ],
)
def test_wrong_options_are_refused(options, field):
    """With the field's name (invariant 19)."""
    with pytest.raises(ConfigurationError, match=f"RetryConfig.{field}: must be"):
        RetryConfig(**options)


def test_all_wrong_options_are_told_at_once():
    """One error for all."""
    with pytest.raises(ConfigurationError) as caught:
        RetryConfig(max_attempts=0, base_delay=-1.0, jitter="x", before_sleep=3)
    assert 4 == len(caught.value.errors)


# --- inside tenacity ---


def counted(errors):
    """A function that raises these in turn."""
    calls = []

    def work():
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return calls, work


QUICK = {"base_delay": 0.0}


async def test_the_decorator_is_tenacitys():
    """For plain and async functions; the last error leaves as it is."""
    calls, work = counted([ServerError(), ServerError()])
    assert ("done", 3) == (RetryConfig(**QUICK).decorator()(work)(), len(calls))
    calls, work = counted([ServerError()] * 9)

    @RetryConfig(**QUICK).decorator()
    async def async_work():
        return work()

    with pytest.raises(ServerError):
        await async_work()
    assert 3 == len(calls)


@pytest.mark.parametrize(
    ("option", "calls", "slept"),
    [
        ({}, 3, [1.0, 2.0]),
        ({"wait": tenacity.wait_fixed(7)}, 3, [7.0, 7.0]),
        ({"stop": tenacity.stop_after_attempt(5)}, 5, [1.0, 2.0, 4.0, 8.0]),
        ({"retry": tenacity.retry_if_exception_type(KeyError)}, 1, []),
    ],
)
async def test_an_option_of_tenacitys_replaces_that_of_the_config(option, calls, slept):
    """`wait`, `retry`, `stop` and all others, in a controller, an async controller and a decorator."""
    config = RetryConfig(jitter=None)
    for way in ("retrying", "async_retrying", "decorator", "decorator of async"):
        sleeps, made = [], []

        def work(made=made):
            made.append(1)
            raise ServerError

        async def async_work(work=work):
            work()

        async def sleep_async(seconds, sleeps=sleeps):
            sleeps.append(seconds)

        with pytest.raises(ServerError):
            if way == "retrying":
                config.retrying(sleep=sleeps.append, **option)(work)
            elif way == "async_retrying":
                await config.async_retrying(sleep=sleep_async, **option)(async_work)
            elif way == "decorator":
                config.decorator(sleep=sleeps.append, **option)(work)()
            else:
                await config.decorator(sleep=sleep_async, **option)(async_work)()
        assert (calls, slept) == (len(made), sleeps), way


def test_an_option_that_the_config_has_a_hook_for_replaces_the_hook():
    """Also those that are off by default."""
    seen = []
    config = RetryConfig(**QUICK, before_sleep=lambda _: seen.append("ours"), after=lambda _: seen.append("ours"))
    options = {name: lambda _, name=name: seen.append(name) for name in ("before_sleep", "after")}
    config.retrying(**options)(counted([ServerError()])[1])
    assert ["after", "before_sleep"] == seen


def test_an_option_that_tenacity_does_not_know_is_a_type_error():
    """With its name."""
    with pytest.raises(TypeError, match="waits"):
        RetryConfig().retrying(waits=3)


async def test_a_result_that_means_try_again_in_tenacity():
    """The last result is returned, for plain and async functions, unless somebody asks tenacity for its own error."""
    config = RetryConfig(**QUICK, retry_on_result=lambda result: result == "pending")
    for answers, expected in ((["pending", "done"], "done"), (["pending"] * 3, "pending")):
        left = list(answers)
        assert expected == config.retrying()(lambda left=left: left.pop(0))
        left = list(answers)
        assert expected == config.decorator()(lambda left=left: left.pop(0))()
        left = list(answers)

        async def work(left=left):
            return left.pop(0)

        assert expected == await config.async_retrying()(work)
        left += answers
        assert expected == await config.decorator()(work)()
    with pytest.raises(tenacity.RetryError):
        config.retrying(reraise=False)(lambda: "pending")
    with pytest.raises(ServerError):
        config.retrying()(counted([ServerError()] * 9)[1])


async def test_the_controllers_are_tenacitys():
    """With its options, and one more reason to stop."""
    calls, work = counted([ServerError()] * 9)
    with pytest.raises(ServerError):
        RetryConfig(**QUICK).retrying(stop=tenacity.stop_after_attempt(2))(work)
    assert 2 == len(calls)
    _, work = counted([ServerError()])

    async def async_work():
        return work()

    begun = []
    assert "done" == await RetryConfig(**QUICK).async_retrying(before=lambda s: begun.append(s.attempt_number))(async_work)
    assert [1, 2] == begun


def test_hooks_are_called_by_tenacity():
    """As it calls them; without them it has its own."""
    seen = []
    config = RetryConfig(**QUICK, before_sleep=lambda s: seen.append("before_sleep"), after=lambda s: seen.append("after"))
    config.decorator()(counted([ServerError()])[1])()
    assert ["after", "before_sleep"] == seen


def test_hints_in_tenacity():
    """Never earlier than the hint; over the limit there is no further attempt (invariant 29)."""
    slept = []
    config = RetryConfig(jitter=None)
    config.retrying(sleep=slept.append)(counted([RateLimitError("slow", retry_after=20.0)])[1])
    assert [20.0] == slept
    calls, work = counted([RateLimitError("slow", retry_after=61.0)])
    with pytest.raises(RateLimitError):
        config.retrying(sleep=slept.append)(work)
    assert (1, [20.0]) == (len(calls), slept)


def test_the_predicate_for_users_who_keep_their_tenacity():
    """Retries what the classifier calls retryable, and no cancellation (invariant 28)."""
    for errors, expected in (([ServerError()], 2), ([AuthenticationError()], 1), ([KeyboardInterrupt()], 1)):
        calls, work = counted(errors)
        retrying = tenacity.Retrying(retry=should_retry_on_exception, reraise=True, stop=tenacity.stop_after_attempt(3))
        with contextlib.suppress(BaseException):
            retrying(work)
        assert expected == len(calls)


def test_a_state_without_an_error_has_no_verdict():
    """Before the first attempt and after a success."""
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    assert (None, False) == (verdict_of(state), should_retry_on_exception(state))
    state.set_result("done")
    assert (None, False) == (verdict_of(state), should_retry_on_exception(state))
    assert 0.0 == RetryConfig(base_delay=0.0).retrying().wait(state)
    assert not RetryConfig().retrying().retry(state)
    assert not RetryConfig().retrying().stop(state)
