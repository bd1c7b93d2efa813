"""When a failed job runs again.

The rule is pure arithmetic, `min(base_delay * 2**attempts, max_delay)`, and answers for whatever it is asked: Procrastinate takes
a strategy that raises for a job that must not be retried, so an error in here would lose the job.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.jobs import Job

from resilience_kit._checks import Checks
from resilience_kit.classification import classify
from resilience_kit.outcome import Verdict

#: A float doubles this often before it is infinite.
_MOST_DOUBLINGS: Final = 1023
#: 100 years: what is later cannot be told from never, and dates end in the year 9999.
_LATEST: Final = 3_155_760_000.0
_SPREAD: Final = 0.2


@dataclass(frozen=True, slots=True)
class ExponentialBackoffStrategy(BaseRetryStrategy):
    """Retries a job after `base_delay`, 2, 4, 8... times that, and at most `max_delay` seconds.

    `attempts` are the runs before the one that failed, 0 on the first, as in `job.attempts`. There is no retry once `attempts`
    has reached `max_attempts`, so a job runs at most `max_attempts + 1` times. `retry_exceptions`: the types that are retried;
    None for every Exception, and an empty tuple for none. `jitter`: the delay is anywhere from 0.8 to 1.2 times as long, and at
    most `max_delay`. `heed_retry_after`: the delay is at least what the service asked for, over `max_delay` too.
    `heed_classifier`: only what `classify` calls retryable is retried. `random`: a number from 0.0 up to 1.0.

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
    heed_retry_after: bool = False
    heed_classifier: bool = False
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "retry_exceptions", _as_tuple(self.retry_exceptions))
        checks = Checks("ExponentialBackoffStrategy")
        checks.whole("max_attempts", self.max_attempts, 0)
        base = checks.seconds("base_delay", self.base_delay, zero=True)
        longest = checks.seconds("max_delay", self.max_delay, zero=True)
        if base and longest and self.max_delay < self.base_delay:
            checks.fail("max_delay", f"must be at least base_delay, {self.base_delay:g}", self.max_delay)
        if self.retry_exceptions is not None:
            checks.exception_types("retry_exceptions", self.retry_exceptions)
        for name in ("jitter", "heed_retry_after", "heed_classifier"):
            checks.flag(name, getattr(self, name))
        checks.optional_callable("random", self.random, "no argument")
        checks.done()

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """What Procrastinate asks: when to run again, or None for never. Whether the worker lives is not its business."""
        seconds = self._seconds(exception, _attempts_of(job))
        return None if seconds is None else RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))

    def get_schedule_in(  # type: ignore[override]  # the deprecated method's name, with the contract's answer
        self, exception: BaseException | None = None, attempts: int = 0
    ) -> dict[str, float] | None:
        """The same in seconds from now. Without an exception only the number of attempts counts."""
        seconds = self._seconds(exception, attempts)
        return None if seconds is None else {"seconds": seconds}

    def _seconds(self, exception: BaseException | None, attempts: object) -> float | None:
        if issubclass(type(exception), asyncio.CancelledError):  # not isinstance, which asks the exception
            return 0.0
        made = attempts if isinstance(attempts, int) else 0
        if made >= self.max_attempts:
            return None
        try:
            return self._judged(exception, made)
        except Exception:  # noqa: BLE001 - a foreign exception may fail at anything that it is asked
            return self._plain(made)

    def _judged(self, exception: BaseException | None, attempts: int) -> float | None:
        if exception is None:
            return self._spread(attempts)
        if not issubclass(type(exception), self._wanted()):
            return None
        verdict = classify(exception) if self.heed_classifier or self.heed_retry_after else None
        if self.heed_classifier and verdict is not None and not verdict.retryable:
            return None
        return min(max(self._spread(attempts), self._asked_for(verdict)), _LATEST)

    def _wanted(self) -> tuple[type[BaseException], ...]:
        return (Exception,) if self.retry_exceptions is None else tuple(self.retry_exceptions)

    def _asked_for(self, verdict: Verdict | None) -> float:
        hint = None if verdict is None or not self.heed_retry_after else verdict.retry_after
        return 0.0 if hint is None else hint

    def _plain(self, attempts: int) -> float:
        doublings = min(max(attempts, 0), _MOST_DOUBLINGS)
        return min(self.base_delay * 2.0**doublings, self.max_delay, _LATEST)

    def _spread(self, attempts: int) -> float:
        """The wait, with its jitter, whose range is cut at `max_delay` before the draw: jobs spread there, too."""
        plain = self._plain(attempts)
        if not self.jitter:
            return plain
        least, most = plain * (1.0 - _SPREAD), min(plain * (1.0 + _SPREAD), self.max_delay)
        return min(least + (most - least) * self.random(), self.max_delay)


def _as_tuple(types: object) -> object:
    if types is None or isinstance(types, tuple):
        return types
    if isinstance(types, type):
        return (types,)
    return tuple(types) if isinstance(types, Iterable) else types


def _attempts_of(job: Job) -> object:
    return getattr(job, "attempts", 0)
