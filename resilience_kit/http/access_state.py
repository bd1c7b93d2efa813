"""Latches that reject requests after a refused credential or a used-up account, with a trial request at intervals."""

from __future__ import annotations

from collections.abc import Iterator

from resilience_kit._fork import register_fork_aware
from resilience_kit._wait_queue import DeferringLock
from resilience_kit.errors import BillingStoppedError, CredentialRefusedError, GuardKind
from resilience_kit.events import AccessLatched, AccessRestored, Event
from resilience_kit.outcome import FailureKind, Verdict

#: Verdicts that prove that the service accepted the credential.
_AUTHENTICATED_KINDS = frozenset(
    {
        FailureKind.RATE_LIMIT,
        FailureKind.QUOTA,
        FailureKind.INVALID_REQUEST,
        FailureKind.NOT_FOUND,
        FailureKind.CONTENT_FILTER,
        FailureKind.CONTEXT_LENGTH,
        FailureKind.CONFLICT,
    }
)


class Latch:
    """Rejects requests after a refusal, except for one trial every `interval` seconds. A successful trial lifts it.

    `next_trial` is in seconds of the owner's clock. Not thread-safe: its owner holds the lock.
    """

    __slots__ = ("interval", "is_suspended", "next_trial")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.is_suspended = False
        self.next_trial = 0.0

    def suspend(self, now: float, seconds: float | None = None) -> bool:
        """Close the latch; the next trial is in `seconds`, or after the interval. Return whether it was open."""
        was_clear, self.is_suspended = not self.is_suspended, True
        self.next_trial = now + (self.interval if seconds is None else seconds)
        return was_clear

    def wait(self, now: float) -> float:
        """Seconds to the next trial; 0.0 when it may be made, or when none is needed."""
        return max(0.0, self.next_trial - now) if self.is_suspended else 0.0

    def take_trial(self, now: float) -> bool:
        """Admit one request when `wait` is over: whether it is a trial. The next trial is an interval later in any case."""
        if self.is_suspended:
            self.next_trial = now + self.interval
        return self.is_suspended

    def return_trial(self, now: float) -> None:
        """Make the next request a trial, since this one was not made."""
        self.next_trial = now

    def resume(self) -> bool:
        """Lift the latch. Return whether it was closed."""
        was_suspended, self.is_suspended = self.is_suspended, False
        return was_suspended


class AccessState:
    """Latches of one host and credential, for all models. Its lock is shared by all of its host pacers.

    `host` is its name in errors and events. `generation`: how many latches were lifted. `has_credential`: whether there is a
    credential that could be refused.
    """

    __slots__ = ("__weakref__", "billing", "credential", "generation", "guard_lock", "has_credential", "host")

    def __init__(
        self, host: str, credential_retry_interval: float, billing_retry_interval: float, *, has_credential: bool
    ) -> None:
        self.host = host
        self.credential, self.billing = Latch(credential_retry_interval), Latch(billing_retry_interval)
        self.generation, self.has_credential = 0, has_credential
        self.reset_after_fork()
        register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self.guard_lock = DeferringLock()

    def reset(self) -> None:
        """Forget every refusal, those of running requests included."""
        self.generation += 1
        self.credential.resume()
        self.billing.resume()

    def is_suspended(self, now: float) -> bool:
        """Whether a latch rejects requests now."""
        return self.credential.wait(now) > 0.0 or self.billing.wait(now) > 0.0

    def raise_if_suspended(self, now: float, guard: str) -> None:
        """Raise `CredentialRefusedError` or `BillingStoppedError` on behalf of `guard` if a latch rejects requests now."""
        for latch, rejection in ((self.credential, CredentialRefusedError), (self.billing, BillingStoppedError)):
            if wait := latch.wait(now):
                raise rejection(self.host, wait).attribute_to(guard, GuardKind.PACING)

    def take_trials(self, now: float) -> bool:
        """Admit one request: whether it is a trial of a latch."""
        return any([self.credential.take_trial(now), self.billing.take_trial(now)])

    def return_trials(self, now: float) -> None:
        """Take back the trials of a request that was not made."""
        self.credential.return_trial(now)
        self.billing.return_trial(now)

    def resume_all(self) -> Iterator[Event]:
        """Lift both latches after a successful trial."""
        yield from self._resume("credential", self.credential)
        yield from self._resume("billing", self.billing)

    def resume_authenticated(self, verdict: Verdict) -> Iterator[Event]:
        """Lift the latch of the credential if a trial failed in a way that proves that the credential was accepted."""
        if verdict.kind in _AUTHENTICATED_KINDS:
            yield from self._resume("credential", self.credential)

    def suspend(self, verdict: Verdict, retry_after: float | None, now: float) -> Iterator[Event]:
        """Close the latch that a verdict concerns, if any."""
        if verdict.kind is FailureKind.AUTH and self.has_credential:
            yield from self._suspend("credential", self.credential, None, now)
        if verdict.kind is FailureKind.QUOTA and not verdict.retryable:
            yield from self._suspend("billing", self.billing, retry_after or None, now)

    def _suspend(self, reason: str, latch: Latch, seconds: float | None, now: float) -> Iterator[Event]:
        if latch.suspend(now, seconds):
            yield AccessLatched(operation=self.host, why=reason, retry_after=latch.next_trial - now)

    def _resume(self, reason: str, latch: Latch) -> Iterator[Event]:
        if latch.resume():
            self.generation += 1
            yield AccessRestored(operation=self.host, why=reason)
