"""The protocols of guards: a guard decides whether an attempt may start, a driver waits for its permit or its ticket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from resilience_kit.errors import GuardKind, Rejected
from resilience_kit.outcome import Outcome


@runtime_checkable
class Permit(Protocol):
    """Leave to start one attempt.

    The driver sleeps `wait` seconds before the call (0.0 as a rule) and settles the permit exactly once, whatever happens.
    A permit may have a `turn`, which the driver waits for before it asks the next guard; None or no such attribute: it has come.
    """

    @property
    def wait(self) -> float:
        """Seconds to sleep before the call."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Hear how the attempt ended. Must not raise, sleep or block."""
        ...


class Turn(Protocol):
    """A caller's place in a guard's queue: the guard moves it on, the driver waits. Settling its permit gives the place up.

    Used by one caller at a time, moved by any thread.
    """

    @property
    def expected(self) -> float | None:
        """Seconds until it comes if nothing changes; None when nobody knows."""
        ...

    @property
    def patience(self) -> float | None:
        """Seconds for which the guard lets this caller wait still; None: without limit."""
        ...

    def look(self) -> float | None:
        """0.0 when it has come, the seconds to sleep before `claim`, or None: until it is woken. Raises `Rejected`."""
        ...

    def claim(self) -> None:
        """Hear that the seconds that `look` named have been slept, whatever the clock says."""
        ...

    def wake_by(self, wake: Callable[[], object]) -> None:
        """Call `wake`, from any thread, when another look is worth while; at once, when it has been since the last look."""
        ...

    def refusal(self) -> Rejected:
        """Return the error to raise when the caller cannot wait so long."""
        ...


@runtime_checkable
class Guard(Protocol):
    """Decides whether an attempt may start. Never sleeps, never calls the user's function, never logs. Thread-safe.

    One that has `admit_call(args, kwargs)`, too, is asked by that, and sees the arguments of the call. One that has a `kind`
    (a `GuardKind` or its value) is reported under it in events and refusals; any other is `custom`.
    """

    @property
    def name(self) -> str:
        """Who refuses, for errors and events."""
        ...

    def admit(self, cost: float = 1.0) -> Permit:
        """Give a permit that costs `cost` units, or raise `Rejected`."""
        ...

    def fits(self, cost: float = 1.0) -> bool:
        """Whether `admit` would give a permit now; takes nothing."""
        ...


def guard_kind_of(guard: object) -> GuardKind:
    """Tell the kind of a guard: its `kind` where that is a `GuardKind` or the value of one, else `custom`."""
    kind = getattr(guard, "kind", None)
    return GuardKind(kind) if isinstance(kind, str) and kind in _GUARD_KINDS else GuardKind.CUSTOM


_GUARD_KINDS = frozenset(GuardKind)
