"""Threads that share a breaker, under schedules drawn from a seed: the real classes, switched between any two steps of bytecode.

Only one thread runs at a time (`baton`). A trace function counts the steps that it takes in the kit's rules (`TRACED`), and when
a drawn number of them is over, another thread goes on. A thread that finds a lock held by another lets that one go on. So a
schedule is repeated exactly by its seed, and what is met is not a matter of luck. Switching between any two steps is more than
the GIL allows, and what builds without it do.

A schedule is right when the model explains it, one step after the other (`stories`). That excludes a late success that closes an
open circuit, a half-open circuit decided by a call that is not its trial, one trial too many, a lost failure, and whatever else
no sequence of calls could do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.events import EventStream, StateChanged, event_stream
from resilience_kit.execution import admission, call, plan, sync
from resilience_kit.metrics import OperationMetrics
from resilience_kit.outcome import FailureKind
from resilience_kit.policies import retry_budget
from resilience_kit.policies.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState, circuit, core, states
from tests.simulation.baton import Baton, BatonLock, play
from tests.simulation.loop import Clock
from tests.simulation.model import BreakerModel
from tests.simulation.service import Dice
from tests.simulation.stories import CALLS, TICK, Mark, Story, What, stories_of

#: The files in which a thread may be switched; a class under test may bring its own.
TRACED = frozenset(
    str(module.__file__) for module in (core, circuit, states, sync, plan, admission, call, event_stream, retry_budget)
)
_WHATS: tuple[What, ...] = (*CALLS, "failure", "failure", "success", "reset", "force", "tick", "tick")

_CAPACITY = 20


class BoomError(Exception):
    """A failure of the service."""


class NeutralError(Exception):
    """An error that says nothing about the service."""


class UnexplainedError(Exception):
    """What was seen cannot have come about one step after the other."""


class Stage:
    """A breaker in some state, three to five actors around it, and what was seen of them.

    `files` are traced beside the kit's rules. Without `switches` one actor after the other does all that it has to do.
    """

    def __init__(
        self,
        seed: int,
        make_breaker: Callable[..., CircuitBreaker] = CircuitBreaker,
        files: frozenset[str] = frozenset(),
        *,
        switches: bool = True,
    ) -> None:
        self.dice, self.clock = Dice(seed), Clock(_nobody_sleeps)
        dice = self.dice
        self.whats: list[What] = [dice.pick(_WHATS) for _ in range(dice.pick((3, 4, 5)))]
        self.baton = Baton(dice, len(self.whats), switches=switches)
        self._files = TRACED | files
        options: dict[str, Any] = {
            "failure_threshold": dice.pick((1, 2, 3)),
            "recovery_timeout": TICK,
            "half_open_max_calls": dice.pick((1, 1, 2)),
            "success_threshold": dice.pick((1, 1, 2)),
            "trial_lease": dice.pick((TICK / 2.0, 60.0)),
            "excluded_exceptions": (NeutralError,),
        }
        stream = EventStream()
        self.breaker = make_breaker(name="stage", clock=self.clock.monotonic, events=stream, **options)
        model = BreakerModel(CircuitBreakerConfig(**options), self.clock.monotonic, float)
        self._prepare(model, dice.pick(("closed", "failing", "open", "due", "half_open")))
        self._beginning = Story.beginning(model, self.clock.monotonic())
        self._failures_before = model.counted_failures
        self.heard_by_number: dict[int, tuple[str, str]] = {}
        self.breaker.add_listener(self._hear, StateChanged)
        self.breaker._lock = BatonLock(self.baton)  # type: ignore[assignment]  # of the same use
        stream._lock = BatonLock(self.baton)  # type: ignore[assignment]  # the same
        self.marks: list[Mark] = []
        self.said: dict[int, str] = {}
        self.refused_at_gates = 0
        self._acts = [self._act_of(actor, what) for actor, what in enumerate(self.whats)]

    def _prepare(self, model: BreakerModel, state: str) -> None:
        if state == "failing" and model.options.failure_threshold > 1:
            self.breaker.on_failure(self.breaker.acquire(), BoomError())
            leave = model.ask()
            assert leave is not None
            model.end(leave, "failure")
        if state in {"open", "due", "half_open"}:
            wanted = CircuitState.HALF_OPEN if state == "half_open" else CircuitState.OPEN
            self.breaker.state = wanted
            model.order(wanted)
        if state == "due":
            self.clock.push(TICK)

    def _hear(self, event: Any) -> None:
        self.heard_by_number[event.sequence] = (event.old, event.new)

    @property
    def heard(self) -> list[tuple[str, str]]:
        """The moves in their order; each thread delivers its own."""
        return [move for _, move in sorted(self.heard_by_number.items())]

    # --- acts ------------------------------------------------------------------------------------------------------------

    def _act_of(self, actor: int, what: What) -> Callable[[], object]:
        breaker = self.breaker
        orders: dict[What, Callable[[], object]] = {
            "reset": breaker.reset,
            "force": lambda: breaker.force_open("by hand"),
            "tick": self._tick,
        }
        if what in orders:
            return orders[what]

        def serve() -> None:
            self._serve(actor, what)

        by = self.dice.pick(("call", "block", "driver"))
        return self._driven(serve) if by == "driver" else lambda: (breaker.call if by == "call" else self._in_block)(serve)

    def _tick(self) -> None:
        """Time passes, but not in the midst of a rule, which reckons with the time of its beginning."""
        with self.breaker._lock:
            self.clock.push(TICK)

    def _in_block(self, serve: Callable[[], None]) -> None:
        with self.breaker:
            serve()

    def _driven(self, serve: Callable[[], None]) -> Callable[[], None]:
        """By the fast path of the driver of plain functions."""
        metrics = OperationMetrics(self.clock)
        operation = plan.Operation("stage", self.breaker, metrics, EventStream(), self.clock)
        made = plan.CallPlan(operation=operation, retry=None, breaker=self.breaker, breaker_classifies=True)
        made.count_fast_rejection = self._refused_at_gate
        site = plan.CallSite(lambda: made)
        site.rebuild()
        return sync.protect(site, serve)

    def _refused_at_gate(self) -> int:
        self.refused_at_gates += 1
        return 1

    def _serve(self, actor: int, what: What) -> None:
        self.marks.append(Mark(actor, "begins"))
        for _ in range(self.dice.pick((0, 5, 50, 500))):
            self.baton.step()
        self.marks.append(Mark(actor, "ends"))
        if what != "success":
            raise BoomError if what == "failure" else NeutralError

    def _say(self, actor: int) -> None:
        self.said[actor] = "ran"
        self.marks.append(Mark(actor, "starts"))
        try:
            self._acts[actor]()
        except CircuitBreakerOpenError:
            self.said[actor] = "refused"
        except (BoomError, NeutralError):
            pass
        self.marks.append(Mark(actor, "done"))

    def run(self) -> None:
        """Play it, each actor in a thread of its own. Raises `UnexplainedError`."""
        play(self.baton, self._files, [functools.partial(self._say, actor) for actor in range(len(self.whats))])
        stories = stories_of(self._beginning, self.marks, self.whats, self.said)
        if not any(self._ends_like(story) for story in stories):
            raise UnexplainedError(self._seen())

    def _ends_like(self, story: Story) -> bool:
        breaker, snapshot = self.breaker, self.breaker.snapshot
        same_place = (snapshot.state, snapshot.generation, snapshot.failures) == (story.state, story.stay, story.failures)
        same_time = snapshot.state is not CircuitState.OPEN or snapshot.until == story.until
        refused = breaker.metrics["rejected_count"] + self.refused_at_gates  # type: ignore[operator]  # a number
        same_counts = (breaker.metrics["failure_count"], refused, breaker.times_opened) == (
            story.counted_failures, story.refusals, story.times_opened,
        )  # fmt: skip
        return same_place and same_time and same_counts and self.heard == story.moves

    def _seen(self) -> str:
        marks = ", ".join(f"{mark.actor} {mark.sign}" for mark in self.marks)
        return f"{self.whats}: {marks}; {self.said}; {self.heard}; {self.breaker!r} with {self.breaker.failure_count} failures"


def _nobody_sleeps(seconds: float) -> Any:
    raise AssertionError(f"a sleep of {seconds} s")


# --- a retry budget beside it --------------------------------------------------------------------------------------------


class BudgetStage:
    """Actors who take tokens, succeed and reset: nothing is lost, and while tokens are missing successes are reported."""

    def __init__(self, seed: int) -> None:
        dice, clock = Dice(seed), Clock(_nobody_sleeps)
        self._baton = Baton(dice, 4, switches=True)
        self.breaker = CircuitBreaker(5, name="stage", clock=clock.monotonic)
        config = retry_budget.RetryBudgetConfig(capacity=_CAPACITY, transient_cost=5, success_refund=5)
        budget = self.budget = retry_budget.RetryBudget(config)
        operation = plan.Operation("stage", self.breaker, OperationMetrics(clock), EventStream(), clock, budget)
        made = plan.CallPlan(operation=operation, retry=None, breaker=self.breaker, budget=budget)
        site = plan.CallSite(lambda: made)
        site.rebuild()
        made.take_retry_tokens(FailureKind.SERVER_ERROR)
        self.breaker.on_failure(self.breaker.acquire(), BoomError())
        self.breaker._lock = BatonLock(self._baton)  # type: ignore[assignment]  # of the same use
        budget._lock = BatonLock(self._baton)  # type: ignore[assignment]  # the same
        acts = (lambda: made.take_retry_tokens(FailureKind.SERVER_ERROR), sync.protect(site, int), self.breaker.reset)
        self._acts: list[Callable[[], object]] = [dice.pick((*acts, acts[1])) for _ in range(4)]

    def run(self) -> None:
        """Play it. Raises `UnexplainedError`."""
        play(self._baton, TRACED, self._acts)
        breaker, left = self.breaker, self.budget.available_tokens
        if left < _CAPACITY and not (self.budget.below_capacity and breaker.snapshot.tracks_success):
            raise UnexplainedError(f"{left} tokens of {_CAPACITY} left, and nobody is told of successes")
