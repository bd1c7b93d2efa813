"""Everything that happens, as data.

Events name operations, kinds and numbers; never an error's text, an argument or a result, so a listener cannot leak a secret
by printing what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from resilience_kit.errors import GuardKind
from resilience_kit.outcome import FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to `operation`."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """A circuit breaker moved. `old` and `new` are `CircuitState` values, `at` is monotonic seconds.

    `sequence` grows with each move of a breaker: two threads may deliver two moves at the same time, and the one with the
    higher number is the later one.
    """

    old: str
    new: str
    reason: str
    at: float
    sequence: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """Attempt number `attempt` (from 1) failed; the next one starts after `delay` seconds.

    `error_type` is "result" where the function returned something that means "try again".
    """

    attempt: int
    delay: float
    kind: FailureKind
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSucceeded(Event):
    """A call ended well after `attempts` attempts and `duration` seconds, waits included."""

    attempts: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(Event):
    """A call ended in an error after `attempts` attempts; `reason` says why there was no further one."""

    attempts: int
    duration: float
    kind: FailureKind
    error_type: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRejected(Event):
    """A guard of kind `guard_kind` refused the call before its first attempt; `guard` is its name, `retry_after` in seconds."""

    guard: str
    guard_kind: GuardKind = GuardKind.CUSTOM
    retry_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDelayed(Event):
    """A call has waited `seconds` for its turn at `guard`, a limit of the operation or the pace of its host."""

    guard: str
    guard_kind: GuardKind = GuardKind.CUSTOM
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCancelled(Event):
    """The caller went away; nothing was learnt about the service."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackUsed(Event):
    """A fallback is asked instead of raising an error of type `error_type`."""

    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedRetry(Event):
    """Two layers retry the same call; told once an operation. `inner` names the layer below, `remedy` what to change."""

    inner: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsIgnored(Event):
    """An operation was used a second time with breaker or limit options that differ from its first; those rule."""

    options: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyChanged(Event):
    """The strategy of an operation was changed while running."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted(Event):
    """A call took unusually long: a second request was sent `after` so many seconds. The first answer counts."""

    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeSkipped(Event):
    """A hedge was not sent, since `guard` would have made it wait or refused it; told once for each guard of an operation."""

    guard: str
    guard_kind: GuardKind = GuardKind.CUSTOM


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersParked(Event):
    """A service has asked for a pause of `seconds`, which all requests to it with the same key obey. `operation` is the host."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLatched(Event):
    """A host has refused a credential, or an account without credit: requests are held back but for a trial now and then.

    `operation` is the host, `why` is "credential" or "billing", `retry_after` the seconds to the first trial.
    """

    why: str
    retry_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRestored(Event):
    """A trial went well: what was latched is open again."""

    why: str


class ConfigChange(NamedTuple):
    """An option of an operation that a reload changed. The values are plain ones."""

    operation: str
    field: str
    old: object
    new: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded(Event):
    """The settings were read anew and are obeyed from the next call on. `changes`: of all operations in use."""

    operation: str = ""
    changes: tuple[ConfigChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRejected(Event):
    """Settings that were read anew are wrong, and the old ones stay; told once for each set of `errors`, which are sentences."""

    operation: str = ""
    errors: tuple[str, ...]
