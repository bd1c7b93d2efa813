"""What is refused once and stays refused is not asked for again by everybody: a latch, with one trial in a while."""

from __future__ import annotations

from resilience_kit._fork import register_fork_aware
from resilience_kit._wait_queue import DeferringLock


class Latch:
    """Shut by a refusal; from then on one request each `interval` seconds is a trial. One that goes well lifts the latch.

    `next_trial` is in seconds of the owner's clock. Not thread-safe: its owner has the lock.
    """

    __slots__ = ("interval", "is_suspended", "next_trial")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.is_suspended = False
        self.next_trial = 0.0

    def suspend(self, now: float, seconds: float | None = None) -> bool:
        """Refused: the next trial is in `seconds`, or after the interval. Tells whether the latch was open."""
        was_clear, self.is_suspended = not self.is_suspended, True
        self.next_trial = now + (self.interval if seconds is None else seconds)
        return was_clear

    def wait(self, now: float) -> float:
        """Seconds to the next trial; 0.0 when it may be made, or when none is needed."""
        return max(0.0, self.next_trial - now) if self.is_suspended else 0.0

    def take_trial(self, now: float) -> bool:
        """Let one request in when `wait` is over: whether it is a trial. The next trial is an interval later, however it ends."""
        if self.is_suspended:
            self.next_trial = now + self.interval
        return self.is_suspended

    def return_trial(self, now: float) -> None:
        """The trial was not made: the next request is one."""
        self.next_trial = now

    def resume(self) -> bool:
        """It works again. Tells whether the latch was shut."""
        was_suspended, self.is_suspended = self.is_suspended, False
        return was_suspended


class AccessState:
    """What holds for a host and a credential, whichever model is asked for: the latches. Its lock is that of all its paces.

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
        """In a forked child: a lock that nobody holds."""
        self.guard_lock = DeferringLock()

    def reset(self) -> None:
        """Forget every refusal, also those that are still on their way."""
        self.generation += 1
        self.credential.resume()
        self.billing.resume()
