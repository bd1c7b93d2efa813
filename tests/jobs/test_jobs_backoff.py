"""When a failed job runs again."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from procrastinate import BaseRetryStrategy
from procrastinate.jobs import Job

from resilience_kit.errors import (
    AuthenticationError,
    CircuitBreakerOpenError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from resilience_kit.jobs import ExponentialBackoffStrategy


def job(attempts: int) -> Job:
    """A job that has had so many runs before this one."""
    return Job(id=1, queue="default", lock=None, queueing_lock=None, task_name="t", attempts=attempts)


def seconds(strategy: ExponentialBackoffStrategy, attempts: int, exception: BaseException | None = None) -> float | None:
    """What `get_schedule_in` says."""
    found = strategy.get_schedule_in(exception, attempts)
    return None if found is None else found["seconds"]


class Hostile(Exception):
    """Fails at whatever it is asked."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


HOSTILE = Hostile()


def test_the_delays_double() -> None:
    """2, 4, 8, 16, 32 for attempts 0 to 4, and none after that (invariant 66)."""
    strategy = ExponentialBackoffStrategy()
    assert [2.0, 4.0, 8.0, 16.0, 32.0, None, None] == [seconds(strategy, attempts) for attempts in range(7)]


def test_the_cap_holds() -> None:
    """However often it has doubled (invariant 66)."""
    strategy = ExponentialBackoffStrategy(10_000, 2.0, 300.0)
    assert [256.0, 300.0, 300.0, 300.0] == [seconds(strategy, attempts) for attempts in (7, 8, 1023, 9999)]


def test_procrastinate_gets_a_date() -> None:
    """As far ahead as the delay, and with a time zone."""
    before = datetime.now(UTC)
    decision = ExponentialBackoffStrategy().get_retry_decision(exception=OSError(), job=job(2))
    assert decision is not None
    assert decision.retry_at is not None
    assert 8.0 == pytest.approx((decision.retry_at - before).total_seconds(), abs=1.0)


def test_procrastinate_is_told_when_there_is_no_retry() -> None:
    """By None, through its own entry point, too."""
    strategy: BaseRetryStrategy = ExponentialBackoffStrategy(max_attempts=2)
    assert strategy.get_retry_exception(exception=OSError(), job=job(2)) is None
    assert strategy.get_retry_exception(exception=OSError(), job=job(1)) is not None


@pytest.mark.parametrize(
    ("types", "exception", "retried"),
    [
        (None, OSError(), True),
        (None, KeyboardInterrupt(), False),
        ((ConnectionError,), ConnectionResetError(), True),
        ([ConnectionError], ValueError(), False),
        (ConnectionError, ConnectionError(), True),
        ((), OSError(), False),
    ],
)
def test_only_the_types_named_are_retried(types: object, exception: BaseException, retried: bool) -> None:
    """None names every Exception, and an empty tuple none."""
    strategy = ExponentialBackoffStrategy(retry_exceptions=types)  # type: ignore[arg-type]  # a class alone is taken, too
    assert retried == (seconds(strategy, 0, exception) is not None)


@pytest.mark.parametrize("attempts", [0, 4, 5, 1000])
def test_a_cancelled_run_is_retried_at_once(attempts: int) -> None:
    """Whatever the number of attempts: the worker shuts down, and the job is not to blame (invariant 67)."""
    strategy = ExponentialBackoffStrategy(retry_exceptions=(OSError,))
    assert 0.0 == seconds(strategy, attempts, asyncio.CancelledError())


@pytest.mark.parametrize(
    "options",
    [
        {"base_delay": 2.0, "max_delay": 1.0},
        {"base_delay": -1.0},
        {"max_delay": math.nan},
        {"max_delay": math.inf},
        {"base_delay": math.nan},
        {"max_attempts": -1},
        {"max_attempts": True},
        {"jitter": "full"},
        {"retry_exceptions": 5},
        {"retry_exceptions": ["OSError"]},
        {"give_up_after": -1.0},
        {"give_up_after": math.nan},
        {"random": 1},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    """As a ValueError that names the option."""
    with pytest.raises(ValueError, match=rf"ExponentialBackoffStrategy\.{[*options][-1]}: must be") as caught:
        ExponentialBackoffStrategy(**options)  # type: ignore[arg-type]  # on purpose
    assert isinstance(caught.value, ConfigurationError)


def test_zero_means_zero() -> None:
    """No attempts, no delay."""
    assert seconds(ExponentialBackoffStrategy(max_attempts=0), 0) is None
    assert 0.0 == seconds(ExponentialBackoffStrategy(9, 0.0, 0.0), 8)


@pytest.mark.parametrize(("random", "expected"), [(0.0, 8.0), (0.5, 10.0), (0.999999, 12.0)])
def test_jitter_spreads_by_a_fifth(random: float, expected: float) -> None:
    """0.8 to 1.2 times the delay."""
    strategy = ExponentialBackoffStrategy(base_delay=10.0, jitter=True, random=lambda: random)
    assert expected == pytest.approx(seconds(strategy, 0), abs=1e-3)


def test_jitter_does_not_pass_the_cap() -> None:
    """It comes last of all."""
    for drawn, expected in ((0.0, 8.0), (0.5, 9.0), (1.0, 10.0)):
        strategy = ExponentialBackoffStrategy(base_delay=10.0, max_delay=10.0, jitter=True, random=lambda drawn=drawn: drawn)
        assert expected == pytest.approx(seconds(strategy, 0))
        assert seconds(strategy, 0) <= 10.0


@pytest.mark.parametrize(("hint", "expected"), [(1.0, 2.0), (30.0, 30.0), (1000.0, 1000.0), (None, 2.0)])
def test_the_hint_of_a_service_is_heeded_when_asked_for(hint: float | None, expected: float) -> None:
    """Never earlier than it says, over the cap too; otherwise the delay is what the arithmetic says."""
    error = RateLimitError("slow down", retry_after=hint)
    assert expected == seconds(ExponentialBackoffStrategy(respect_retry_after=True), 0, error)
    assert 2.0 == seconds(ExponentialBackoffStrategy(), 0, error)


def test_the_classifier_is_heeded_when_asked_for() -> None:
    """A wrong key is not retried then, and a server's error is."""
    heeding = ExponentialBackoffStrategy(use_classifier=True)
    assert seconds(heeding, 0, AuthenticationError()) is None
    assert 2.0 == seconds(heeding, 0, ServerError())
    assert 2.0 == seconds(ExponentialBackoffStrategy(), 0, AuthenticationError())


def test_a_hostile_exception_is_retried_plainly() -> None:
    """A strategy that raises would lose the job (invariant 66)."""
    assert 2.0 == seconds(ExponentialBackoffStrategy(respect_retry_after=True), 0, HOSTILE)
    assert seconds(ExponentialBackoffStrategy(use_classifier=True), 0, HOSTILE) is None


def test_a_random_that_fails_leaves_the_plain_delay() -> None:
    """For the same reason."""
    assert 2.0 == seconds(ExponentialBackoffStrategy(jitter=True, random=lambda: 1 // 0), 0)


@given(
    attempts=st.one_of(st.integers(), st.none(), st.floats(), st.text()),
    base=st.floats(0, 1e300),
    cap=st.floats(0, 1e308),
    jitter=st.booleans(),
)
def test_it_never_raises(attempts: object, base: float, cap: float, jitter: bool) -> None:
    """Whatever it is asked, and the answer is within the jitter of the formula (invariant 66)."""
    strategy = ExponentialBackoffStrategy(10_000, min(base, cap), cap, jitter=jitter)
    found = strategy.get_schedule_in(OSError(), attempts)  # type: ignore[arg-type]  # on purpose
    strategy.get_retry_decision(exception=OSError(), job=job(0).evolve(attempts=attempts))
    assert found is None or 0.0 <= found["seconds"] <= cap


def test_it_is_a_value() -> None:
    """Equal options make equal strategies, and none can be changed."""
    assert ExponentialBackoffStrategy() == ExponentialBackoffStrategy(5, 2.0, 300.0)
    with pytest.raises(AttributeError):
        ExponentialBackoffStrategy().max_attempts = 3  # type: ignore[misc]  # on purpose


TRANSIENT = [
    ServerError("x"),
    RateLimitError("x"),
    TimeoutError(),
    ConnectionResetError(),
    DeadlineExceededError("x"),
    StreamInterruptedError("api", 1, []),
    CircuitBreakerOpenError("api", 1.0),
    ExceptionGroup("two", [ServerError("x"), TimeoutError()]),
]
LASTING = [ValueError(), OSError(), AuthenticationError("x"), QuotaExceededError("x"), InvalidRequestError("x")]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda each: type(each).__name__)
def test_transient_failures_are_retried_for_give_up_after_seconds(error: Exception) -> None:
    """By the sum of the delays, the longest of them again and again; the attempts within the limit are as without it."""
    strategy = ExponentialBackoffStrategy(give_up_after=3600.0)
    delays = [seconds(strategy, attempts, error) for attempts in range(30)]
    made = [each for each in delays if each is not None]
    assert [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0] == made[:10]
    assert [None] * (30 - len(made)) == delays[len(made) :]
    assert 3600.0 <= sum(made) < 3600.0 + 300.0
    assert strategy.max_runs == len(made) + 1


@pytest.mark.parametrize("error", LASTING, ids=lambda each: type(each).__name__)
def test_lasting_failures_keep_to_max_attempts(error: Exception) -> None:
    """Time does not mend them."""
    strategy = ExponentialBackoffStrategy(give_up_after=3600.0)
    assert [32.0, None] == [seconds(strategy, attempts, error) for attempts in (4, 5)]


@pytest.mark.parametrize("limit", [None, 0, 0.0])
def test_without_give_up_after_max_attempts_are_the_limit(limit: float | None) -> None:
    """For all errors, as the contract says."""
    strategy = ExponentialBackoffStrategy(give_up_after=limit)
    assert [32.0, None] == [seconds(strategy, attempts, TimeoutError()) for attempts in (4, 5)]
    assert 6 == strategy.max_runs
    assert ExponentialBackoffStrategy() == strategy


def test_retries_without_a_delay_have_an_end() -> None:
    """No delay ever adds up to an hour, so the attempts count; a short one is a second beyond them."""
    assert seconds(ExponentialBackoffStrategy(5, 0.0, 0.0, give_up_after=3600.0), 5, TimeoutError()) is None
    assert 6 == ExponentialBackoffStrategy(5, 0.0, 0.0, give_up_after=3600.0).max_runs
    assert 1.0 == seconds(ExponentialBackoffStrategy(5, 0.0, 60.0, give_up_after=3600.0), 5, TimeoutError())
    assert 0.1 == seconds(ExponentialBackoffStrategy(5, 0.1, 0.1, give_up_after=3600.0), 5, TimeoutError())


@pytest.mark.slow
@given(
    st.integers(0, 50),
    st.floats(0.0, 100.0),
    st.floats(0.01, 1000.0),
    st.one_of(st.none(), st.floats(0.0, 1e6)),
)
def test_max_runs_is_where_the_retries_end(attempts: int, base: float, more: float, limit: float | None) -> None:
    """Whatever the options: the run before is retried, this one is not, and no delay is longer than the longest."""
    strategy = ExponentialBackoffStrategy(attempts, base, base + more, give_up_after=limit)
    last = strategy.max_runs - 1
    assert seconds(strategy, last, TimeoutError()) is None
    assert last == 0 or 0.0 <= (seconds(strategy, last - 1, TimeoutError()) or 0.0) <= base + more
    assert last == 0 or seconds(strategy, last - 1, TimeoutError()) is not None
    assert last >= attempts


def test_a_lost_run_counts_among_lost_runs_beyond_max_attempts() -> None:
    """A job that met an outage is not taken for one that kills its workers (invariant 62)."""
    strategy = ExponentialBackoffStrategy(give_up_after=3600.0)
    assert strategy.allows_after_loss(4, 4, 9999.0)
    assert not strategy.allows_after_loss(5, 5, 0.0)
    assert strategy.allows_after_loss(20, 0, 3599.0)
    assert not strategy.allows_after_loss(20, 5, 0.0)
    assert not strategy.allows_after_loss(20, 0, 3600.0)
    assert not ExponentialBackoffStrategy().allows_after_loss(5, 0, 0.0)


def test_the_classifier_lets_what_is_transient_run_again() -> None:
    """Also where the call that met it must not be repeated at once."""
    strategy = ExponentialBackoffStrategy(use_classifier=True)
    assert [2.0] * len(TRANSIENT) == [seconds(strategy, 0, each) for each in TRANSIENT]
    assert [None] * 2 == [seconds(strategy, 0, each) for each in (AuthenticationError("x"), QuotaExceededError("x"))]


def test_what_cannot_be_classified_keeps_to_max_attempts() -> None:
    """A hostile error is no reason to try for a day."""
    strategy = ExponentialBackoffStrategy(give_up_after=3600.0)
    assert [32.0, None] == [seconds(strategy, attempts, HOSTILE) for attempts in (4, 5)]
