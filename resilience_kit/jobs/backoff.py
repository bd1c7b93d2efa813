"""When a failed job runs again.

The rule is pure arithmetic, `min(base_delay * 2**attempts, max_delay)`, and never raises: Procrastinate takes a strategy that
raises for a job that must not be retried, so an error in here would lose the job.

A number of attempts is no measure of an outage: five retries are over after a minute. `give_up_after` is one, in seconds.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.jobs import Job

from resilience_kit._checks import Checks
from resilience_kit.classification import classify
from resilience_kit.jobs.run import age_of
from resilience_kit.outcome import FailureKind, Verdict

#: A float doubles this often before it is infinite.
_MAX_DOUBLINGS: Final = 1023
#: 100 years: what is later cannot be told from never, and dates end in the year 9999.
_MAX_DELAY: Final = 3_155_760_000.0
_JITTER_SHARE: Final = 0.2
#: The shortest delay between retries beyond `max_attempts`, as far as `max_delay` allows it: they may go on for a day.
_MIN_EXTENDED_DELAY: Final = 1.0
#: Kinds of trouble that pass, also where the call that met them must not be repeated at once.
_TRANSIENT: Final = frozenset(
    {FailureKind.TRANSIENT, FailureKind.RATE_LIMIT, FailureKind.TIMEOUT, FailureKind.CONNECTION, FailureKind.OVERLOADED}
)


def is_transient(verdict: Verdict) -> bool:
    """Return whether a later run may succeed: the service failed, was unavailable, or sent a `Retry-After`.

    A deadline that is over or a broken stream ends a call for good, and a later run is a call of its own.
    """
    return verdict.retryable or verdict.counts_against_breaker or verdict.kind in _TRANSIENT


@dataclass(frozen=True, slots=True)
class ExponentialBackoffStrategy(BaseRetryStrategy):
    """Retries a job after `base_delay`, 2, 4, 8... times that, and at most `max_delay` seconds.

    `attempts` are the runs before the one that failed, 0 on the first, as in `job.attempts`. There is no retry once `attempts`
    has reached `max_attempts`, so a job runs at most `max_attempts + 1` times. `retry_exceptions`: the types that are retried;
    None for every Exception, and an empty tuple for none. `jitter`: the delay is anywhere from 0.8 to 1.2 times as long, and at
    most `max_delay`. `respect_retry_after`: the delay is at least what the service asked for, over `max_delay` too.
    `use_classifier`: only what is transient is retried, see `is_transient`. `random`: a number from 0.0 up to 1.0.

    `give_up_after`: a transient failure is retried beyond `max_attempts`, until so many seconds have passed since the job's
    first run, by the database's clock or by the sum of the delays, whichever is more. None or 0 for never. All other errors,
    and runs that were lost with their worker, keep to `max_attempts`. Equal strategies have equal attempts and delays.

    A cancelled run is always retried at once, whatever `attempts` says: a worker that shuts down cancels what still runs, and
    the job is not to blame. Raises ConfigurationError, which is a ValueError, for options that make no sense; its methods
    never raise. Thread-safe.
    """

    max_attempts: int = 5
    base_delay: float = 2.0
    max_delay: float = 300.0
    retry_exceptions: Iterable[type[BaseException]] | None = None
    jitter: bool = False
    _: KW_ONLY
    respect_retry_after: bool = False
    use_classifier: bool = False
    give_up_after: float | None = field(default=None, compare=False)
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "retry_exceptions", _as_tuple(self.retry_exceptions))
        checks = Checks("ExponentialBackoffStrategy")
        checks.integer("max_attempts", self.max_attempts, 0)
        base = checks.seconds("base_delay", self.base_delay, zero=True)
        longest = checks.seconds("max_delay", self.max_delay, zero=True)
        if base and longest and self.max_delay < self.base_delay:
            checks.add("max_delay", f"must be at least base_delay, {self.base_delay:g}", self.max_delay)
        if self.retry_exceptions is not None:
            checks.exception_types("retry_exceptions", self.retry_exceptions)
        checks.optional_seconds("give_up_after", self.give_up_after, zero=True)
        for name in ("jitter", "respect_retry_after", "use_classifier"):
            checks.flag(name, getattr(self, name))
        checks.optional_callable("random", self.random, "no argument")
        checks.raise_if_any()

    @property
    def max_runs(self) -> int:
        """Return the number of runs after which not even transient failures are retried, computed from the delays alone."""
        attempts, limit = self.max_attempts, self.give_up_after or 0.0
        if not self._has_extended_retries:
            return attempts + 1
        longest = self._extended_delay(_MAX_DOUBLINGS)
        while self._waited(attempts) < limit and self._extended_delay(attempts) < longest:
            attempts += 1
        return attempts + 1 + math.ceil(max(0.0, limit - self._waited(attempts)) / longest)

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to run again, or None for never. Called by Procrastinate, also for stalled jobs."""
        seconds = self._seconds(exception, _attempts_of(job), age_of(getattr(job, "id", None)))
        return None if seconds is None else RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))

    def get_schedule_in(  # type: ignore[override]  # the deprecated method's name, with the contract's answer
        self, exception: BaseException | None = None, attempts: int = 0
    ) -> dict[str, float] | None:
        """Return the delay in seconds, or None for never. Without an exception only the number of attempts counts."""
        seconds = self._seconds(exception, attempts)
        return None if seconds is None else {"seconds": seconds}

    def allows_after_loss(self, attempts: int, losses: int, age: float) -> bool:
        """Return whether a job that was lost with its worker has another run.

        `losses`: how many of the `attempts` runs before were lost, too; `age`: seconds since its first run. A job that kills
        its workers stops after `max_attempts` losses, and one whose other runs met an outage is not taken for it.
        """
        if attempts < self.max_attempts:
            return True
        return losses < self.max_attempts and self._has_extended_retries and age < (self.give_up_after or 0.0)

    def _seconds(self, exception: BaseException | None, attempts: object, age: float | None = None) -> float | None:
        if issubclass(type(exception), asyncio.CancelledError):  # not isinstance, which calls the exception's own code
            return 0.0
        made = attempts if isinstance(attempts, int) else 0
        try:
            return self._delay_after(exception, made, age)
        except Exception:  # noqa: BLE001 - any method of a foreign exception may raise
            return None if made >= self.max_attempts else self._base_delay_for(made)

    def _delay_after(self, exception: BaseException | None, attempts: int, age: float | None) -> float | None:
        beyond = attempts >= self.max_attempts
        if beyond and (exception is None or not self._has_time(attempts, age)):
            return None
        if exception is None:
            return self._with_jitter(self._base_delay_for(attempts))
        if not issubclass(type(exception), self._retryable_types()):
            return None
        verdict = classify(exception) if beyond or self.use_classifier or self.respect_retry_after else None
        if (beyond or self.use_classifier) and verdict is not None and not is_transient(verdict):
            return None
        delay = self._extended_delay(attempts) if beyond else self._base_delay_for(attempts)
        return min(max(self._with_jitter(delay), self._retry_after(verdict)), _MAX_DELAY)

    @property
    def _has_extended_retries(self) -> bool:
        """Return whether there are retries beyond `max_attempts`. Without any delay they would be a busy loop."""
        return bool(self.give_up_after) and self.max_delay > 0.0

    def _has_time(self, attempts: int, age: float | None) -> bool:
        limit = self.give_up_after or 0.0
        return self._has_extended_retries and (0.0 if age is None else age) < limit and self._waited(attempts) < limit

    def _waited(self, attempts: int) -> float:
        """Return the sum of the delays before run number `attempts + 1`, without jitter and hints."""
        first = min(attempts, self.max_attempts)
        waited = math.fsum(self._base_delay_for(each) for each in range(min(first, _MAX_DOUBLINGS)))
        waited += max(0, first - _MAX_DOUBLINGS) * self._base_delay_for(_MAX_DOUBLINGS)
        later = range(first, min(attempts, _MAX_DOUBLINGS))
        waited += math.fsum(self._extended_delay(each) for each in later)
        return waited + max(0, attempts - max(first, _MAX_DOUBLINGS)) * self._extended_delay(_MAX_DOUBLINGS)

    def _retryable_types(self) -> tuple[type[BaseException], ...]:
        return (Exception,) if self.retry_exceptions is None else tuple(self.retry_exceptions)

    def _retry_after(self, verdict: Verdict | None) -> float:
        hint = None if verdict is None or not self.respect_retry_after else verdict.retry_after
        return 0.0 if hint is None else hint

    def _base_delay_for(self, attempts: int) -> float:
        doublings = min(max(attempts, 0), _MAX_DOUBLINGS)
        return min(self.base_delay * 2.0**doublings, self.max_delay, _MAX_DELAY)

    def _extended_delay(self, attempts: int) -> float:
        return max(self._base_delay_for(attempts), min(_MIN_EXTENDED_DELAY, self.max_delay))

    def _with_jitter(self, delay: float) -> float:
        """Apply the jitter. Its range is cut at `max_delay` before the draw, so that jobs spread there, too."""
        if not self.jitter:
            return delay
        least, most = delay * (1.0 - _JITTER_SHARE), min(delay * (1.0 + _JITTER_SHARE), self.max_delay)
        return min(least + (most - least) * self.random(), self.max_delay)


def _as_tuple(types: object) -> object:
    if types is None or isinstance(types, tuple):
        return types
    if isinstance(types, type):
        return (types,)
    return tuple(types) if isinstance(types, Iterable) else types


def _attempts_of(job: Job) -> object:
    return getattr(job, "attempts", 0)
