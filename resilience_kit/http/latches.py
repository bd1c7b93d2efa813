"""What is refused once and stays refused is not asked for again by everybody: a latch, with one trial in a while."""

from __future__ import annotations

from resilience_kit._fork import renew_after_fork
from resilience_kit._turns import GuardLock


class Latch:
    """Shut by a refusal; from then on one request each `interval` seconds is a trial. One that goes well lifts the latch.

    `next_trial` is in seconds of the owner's clock. Not thread-safe: its owner has the lock.
    """

    __slots__ = ("interval", "is_shut", "next_trial")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.is_shut = False
        self.next_trial = 0.0

    def shut(self, now: float, seconds: float | None = None) -> bool:
        """Refused: the next trial is in `seconds`, or after the interval. Tells whether the latch was open."""
        was_open, self.is_shut = not self.is_shut, True
        self.next_trial = now + (self.interval if seconds is None else seconds)
        return was_open

    def wait(self, now: float) -> float:
        """Seconds to the next trial; 0.0 when it may be made, or when none is needed."""
        return max(0.0, self.next_trial - now) if self.is_shut else 0.0

    def take(self, now: float) -> bool:
        """Let one request in when `wait` is over: whether it is a trial. The next trial is an interval later, however it ends."""
        if self.is_shut:
            self.next_trial = now + self.interval
        return self.is_shut

    def give_back(self, now: float) -> None:
        """The trial was not made: the next request is one."""
        self.next_trial = now

    def lift(self) -> bool:
        """It works again. Tells whether the latch was shut."""
        was_shut, self.is_shut = self.is_shut, False
        return was_shut


class Access:
    """What holds for a host and a credential, whichever model is asked for: the latches. Its lock is that of all its paces.

    `host` is its name in errors and events. `generation`: how many latches were lifted. `is_named`: whether there is a
    credential that could be refused.
    """

    __slots__ = ("__weakref__", "billing", "credential", "generation", "guarded", "host", "is_named")

    def __init__(self, host: str, credential_trial: float, billing_trial: float, *, is_named: bool) -> None:
        self.host = host
        self.credential, self.billing = Latch(credential_trial), Latch(billing_trial)
        self.generation, self.is_named = 0, is_named
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self.guarded = GuardLock()

    def start_clean(self) -> None:
        """Forget every refusal, also those that are still on their way."""
        self.generation += 1
        self.credential.lift()
        self.billing.lift()
