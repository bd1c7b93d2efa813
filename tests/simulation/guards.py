"""Guards of a simulated world: they grant, make wait and refuse at random, and see how their permits are settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience_kit.errors import RateLimitExceededError, Rejected
from resilience_kit.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from tests.simulation.scene import Scene
    from tests.simulation.watch import Watch


class SimulatedPermit:
    """A permit that knows what it is to be settled with."""

    __slots__ = ("_guard", "_watch", "expected", "settled", "wait")

    def __init__(self, guard: SimulatedGuard, watch: Watch, wait: float) -> None:
        self._guard, self._watch, self.wait = guard, watch, wait
        self.expected, self.settled = OutcomeKind.CANCELLED, False

    def settle(self, outcome: Outcome) -> None:
        """See `Permit.settle`."""
        self._watch.permit_settled(self, outcome)
        self.settled = True
        self._guard.in_use -= 1


class SimulatedGuard:
    """A guard; `in_use` counts the permits that have not come back."""

    def __init__(self, world: Scene, name: str) -> None:
        self.name, self.in_use, self._world = name, 0, world

    def admit(self, cost: float = 1.0) -> SimulatedPermit:
        """See `Guard.admit`."""
        world, watch = self._world, self._world.present
        assert watch is not None
        refusal = self._refusal()
        if refusal is not None:
            watch.guard_asked(self.name, None, refusal)
            raise refusal
        wait = world.dice.pick((0.0, 0.0, 0.25, 1.0)) if not world.service.healed else 0.0
        permit = SimulatedPermit(self, watch, wait)
        watch.guard_asked(self.name, permit, None)
        self.in_use += 1
        return permit

    def _refusal(self) -> Rejected | None:
        dice = self._world.dice
        if self._world.service.healed or not dice.chance(0.12):
            return None
        return dice.pick((RateLimitExceededError(self.name, 0.5), Rejected(self.name)))

    def fits(self, cost: float = 1.0) -> bool:
        """See `Guard.fits`."""
        return True
