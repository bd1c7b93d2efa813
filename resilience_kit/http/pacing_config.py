"""Options of pacing."""

from __future__ import annotations

from dataclasses import dataclass

from resilience_kit._checks import Checks


@dataclass(frozen=True, slots=True, kw_only=True)
class PacingConfig:
    """How callers of one host with one key are paced. Times are seconds.

    `max_wait`: the longest time in the queue; a request that would wait longer is rejected at once, a retry only if the service
    demanded so long a pause. `headroom`: the share of a limit that is left to other users of the key; callers slow down when no
    more than that is left, with 1.0 from the first request on. `credential_retry_interval`: how often a refused
    credential is retried. `billing_retry_interval`: how often an account without credit or quota is, unless the service
    reports when it is renewed. `max_keys`: hosts, keys and models that are kept; the least recently used one is dropped first.

    The default of `max_wait` is that of `RetryConfig.max_retry_after`.
    """

    max_wait: float = 60.0
    headroom: float = 0.1
    credential_retry_interval: float = 60.0
    billing_retry_interval: float = 60.0
    max_keys: int = 1024

    def __post_init__(self) -> None:
        checks = Checks("PacingConfig")
        checks.seconds("max_wait", self.max_wait, zero=True)
        checks.number("headroom", self.headroom, 0.0, 1.0)
        checks.seconds("credential_retry_interval", self.credential_retry_interval)
        checks.seconds("billing_retry_interval", self.billing_retry_interval)
        checks.integer("max_keys", self.max_keys, 1)
        checks.raise_if_any()
