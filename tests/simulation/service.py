"""The service that a simulated world calls: what it answers, how long it takes, and what its errors mean.

The meanings are written down here from the contract and not asked of the classifier.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from resilience_kit import errors
from resilience_kit.outcome import FailureKind

T = TypeVar("T")


class Dice(random.Random):
    """All chance in a world comes from here."""

    def pick(self, among: Sequence[T]) -> T:
        """One of them; quicker than `choice`."""
        return among[int(self.random() * len(among))]

    def chance(self, share: float) -> bool:
        """True in `share` of all cases."""
        return self.random() < share


class FatalError(BaseException):
    """What nobody may catch, such as Ctrl-C: the kit has to let it through."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error says about the next attempt, the breaker, and whether the request was surely not carried out."""

    kind: FailureKind
    retryable: bool
    counted: bool
    unsent: bool = False
    hint: float | None = None


_MEANINGS: dict[type[BaseException], Meaning] = {
    errors.ServerError: Meaning(FailureKind.SERVER_ERROR, retryable=True, counted=True),
    errors.ServiceUnavailableError: Meaning(FailureKind.OVERLOADED, retryable=True, counted=True),
    errors.APIConnectionError: Meaning(FailureKind.CONNECTION, retryable=True, counted=True),
    errors.APITimeoutError: Meaning(FailureKind.TIMEOUT, retryable=True, counted=True),
    errors.RateLimitError: Meaning(FailureKind.RATE_LIMIT, retryable=True, counted=False, unsent=True),
    errors.AuthenticationError: Meaning(FailureKind.AUTH, retryable=False, counted=False),
    errors.InvalidRequestError: Meaning(FailureKind.INVALID_REQUEST, retryable=False, counted=False),
    errors.QuotaExceededError: Meaning(FailureKind.QUOTA, retryable=False, counted=False),
    ValueError: Meaning(FailureKind.UNKNOWN, retryable=False, counted=False),
    ConnectionRefusedError: Meaning(FailureKind.CONNECTION, retryable=True, counted=True, unsent=True),
    errors.CircuitBreakerOpenError: Meaning(FailureKind.OVERLOADED, retryable=False, counted=False, unsent=True),
    errors.RateLimitExceededError: Meaning(FailureKind.RATE_LIMIT, retryable=False, counted=False, unsent=True),
    errors.Rejected: Meaning(FailureKind.UNKNOWN, retryable=False, counted=False, unsent=True),
    errors.DeadlineExceededError: Meaning(FailureKind.TIMEOUT, retryable=False, counted=True),
    errors.StreamInterruptedError: Meaning(FailureKind.CONNECTION, retryable=False, counted=True),
}
NO_MEANING = Meaning(FailureKind.UNKNOWN, retryable=False, counted=False)
#: An attempt that the kit itself has cut off.
CUT = Meaning(FailureKind.TIMEOUT, retryable=True, counted=True)
THROTTLED = (FailureKind.RATE_LIMIT, FailureKind.OVERLOADED)


def meaning(error: Exception) -> Meaning:
    """What an error of the service, or of the kit below, means."""
    if isinstance(error, errors.StreamInterruptedError) and isinstance(error.__cause__, Exception):
        cause = meaning(error.__cause__)
        return Meaning(cause.kind, retryable=False, counted=cause.counted)  # an item has come, so it was sent
    known = _MEANINGS[type(error)]
    hint = getattr(error, "retry_after", None)
    if hint is None or not math.isfinite(hint):
        return known
    return Meaning(known.kind, known.retryable, known.counted, known.unsent, hint)


Trouble = Callable[[], BaseException]


def _overloaded(seconds: float) -> errors.ServiceUnavailableError:
    error = errors.ServiceUnavailableError()
    error.retry_after = seconds  # type: ignore[attr-defined]  # as an SDK's own error would carry it
    return error


TROUBLES: tuple[Trouble, ...] = (
    errors.ServerError,
    errors.ServerError,
    errors.ServerError,
    errors.ServiceUnavailableError,
    lambda: _overloaded(1.5),
    lambda: _overloaded(400.0),
    errors.APIConnectionError,
    errors.APITimeoutError,
    errors.RateLimitError,
    lambda: errors.RateLimitError("slower", 0.75),
    lambda: errors.RateLimitError("slower", 3.0),
    lambda: errors.RateLimitError("slower", 90.0),
    lambda: errors.RateLimitError("slower", math.nan),
    errors.AuthenticationError,
    errors.InvalidRequestError,
    errors.QuotaExceededError,
    ValueError,
    ConnectionRefusedError,
    FatalError,
)

#: Binary fractions of a second, so that times meet.
PAUSES = (0.0, 0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
FOREVER = -1.0

Manner = Literal["cooperative", "cleans up", "answers late", "fails instead"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One attempt as the service will have it: its pauses, then a value (no `trouble`) or an error.

    `manner`: what it does when it is cancelled. `busy`: seconds for which it lets nobody else run. `calls`: it makes a
    protected call of its own. `items`: what a stream gives before its end.
    """

    pauses: tuple[float, ...] = ()
    trouble: Trouble | None = None
    manner: Manner = "cooperative"
    busy: float = 0.0
    calls: bool = False
    leaves_child: bool = False
    items: int = 1


FINE = Answer()
_TROUBLED = {"up": 0.06, "flaky": 0.5, "down": 0.95, "slow": 0.1, "hanging": 0.1}
WEATHERS = ("up", "flaky", "flaky", "down", "down", "slow", "hanging")


class Service:
    """Answers of a service whose weather changes with time, until it is healed."""

    def __init__(self, dice: Dice, now: Callable[[], float], *, nested: bool, rude: bool) -> None:
        self._dice, self._now, self._nested, self._rude = dice, now, nested, rude
        self._changes_at = 0.0
        self.healed = False
        self.shared_error = errors.ServerError("one for all who wait for it")
        self._weather, self._outage = "up", TROUBLES[0]

    def answer(self) -> Answer:
        """What the next attempt meets."""
        if self.healed:
            return FINE
        dice, weather = self._dice, self._present_weather()
        troubled = dice.chance(_TROUBLED[weather])
        trouble = (self._outage if weather == "down" else dice.pick(TROUBLES)) if troubled else None
        if troubled and dice.chance(0.05):
            trouble = self._give_shared
        return Answer(
            self._pauses(weather),
            trouble,
            self._manner(),
            dice.pick((0.125, 1.0, 3.0)) if dice.chance(0.02) else 0.0,
            calls=self._nested and dice.chance(0.4),
            leaves_child=dice.chance(0.02),
            items=dice.pick((0, 1, 1, 2, 3)),
        )

    def _give_shared(self) -> BaseException:
        """The same instance again, as when many wait for one connection."""
        return self.shared_error

    def _present_weather(self) -> str:
        now, dice = self._now(), self._dice
        if now >= self._changes_at:
            self._changes_at = now + dice.pick((0.5, 1.0, 4.0, 16.0))
            self._weather, self._outage = dice.pick(WEATHERS), dice.pick(TROUBLES)
        return self._weather

    def _pauses(self, weather: str) -> tuple[float, ...]:
        dice = self._dice
        if weather == "hanging" and dice.chance(0.6):
            return (dice.pick((FOREVER, 8.0, 40.0)),)
        pauses = tuple(dice.pick(PAUSES) for _ in range(dice.pick((0, 0, 1, 1, 2, 3))))
        return (*pauses, dice.pick((1.0, 2.0, 4.0))) if weather == "slow" else pauses

    def _manner(self) -> Manner:
        if not self._rude or self._dice.chance(0.7):
            return "cooperative"
        return self._dice.pick(("cleans up", "answers late", "fails instead"))
