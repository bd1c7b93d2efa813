"""Threads that share a breaker, under schedules drawn from a seed: the real classes, switched between any two steps of bytecode.

Only one thread runs at a time. A trace function counts the steps that it takes in the kit's rules (`TRACED`), and when a drawn
number of them is over, another thread goes on. A thread that finds a lock held by another lets that one go on. So a schedule is
repeated exactly by its seed, and what is met is not a matter of luck.

A schedule is right when the model explains it, one step after the other (`stories`). That excludes a late success that closes an
open circuit, a half-open circuit decided by a call that is not its trial, one trial too many, a lost failure, and whatever else
no sequence of calls could do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from resilience_kit import events
from resilience_kit._drive import call, plan, sync
from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.events import EventStream, StateChanged
from resilience_kit.metrics import OperationMetrics
from resilience_kit.policies.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState, circuit, core, states
from tests.simulation.loop import Clock
from tests.simulation.model import BreakerModel
from tests.simulation.service import Dice
from tests.simulation.stories import CALLS, TICK, Mark, Story, What, stories_of

#: The files in which a thread may be switched; a class under test may bring its own.
TRACED = {str(module.__file__) for module in (core, circuit, states, sync, plan, call, events)}
_WHATS: tuple[What, ...] = (*CALLS, "failure", "failure", "success", "reset", "force", "tick", "tick")
#: Mean steps from one switch to the next.
_PATIENCE = (3, 10, 30, 100)
_FOREVER = 1 << 40
_LONGEST = 30.0  # seconds; whoever waits longer for its turn will get none


class BoomError(Exception):
    """A failure of the service."""


class NeutralError(Exception):
    """An error that says nothing about the service."""


class UnexplainedError(Exception):
    """What was seen cannot have come about one step after the other."""


# --- one thread at a time ------------------------------------------------------------------------------------------------


class Baton:
    """Whoever has it runs."""

    def __init__(self, dice: Dice, number: int, *, switches: bool) -> None:
        self._dice, self.present = dice, 0
        self._patience = dice.pick(_PATIENCE) if switches else _FOREVER
        self._left = self._drawn()
        self._alive = list(range(number))
        self._turns = [threading.Semaphore(0) for _ in range(number)]

    def _drawn(self) -> int:
        return 1 + int(self._dice.random() * 2 * self._patience)

    def pass_on(self) -> None:
        """Let anybody run who can."""
        if self._alive:
            self.present = self._dice.pick(self._alive)
            self._turns[self.present].release()

    def wait(self, me: int) -> None:
        """Wait for a turn."""
        if not self._turns[me].acquire(timeout=_LONGEST):
            raise UnexplainedError(f"actor {me} never gets its turn")

    def step(self) -> None:
        """The present thread has taken a step."""
        self._left -= 1
        if self._left <= 0:
            self._left = self._drawn()
            self.give_to(self._dice.pick(self._alive))

    def give_to(self, other: int) -> None:
        """Let another run, and wait for the next turn."""
        me = self.present
        if other != me:
            self.present = other
            self._turns[other].release()
            self.wait(me)

    def end(self, me: int) -> None:
        """This one is through."""
        self._alive.remove(me)
        self.pass_on()


class BatonLock:
    """A reentrant lock that gives the baton to its owner instead of blocking."""

    def __init__(self, baton: Baton) -> None:
        self._baton, self._owner, self._depth = baton, -1, 0

    def __enter__(self) -> None:
        while self._depth and self._owner != self._baton.present:
            self._baton.give_to(self._owner)
        self._owner = self._baton.present
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1


def _stepwise(step: Callable[[], None], files: set[str], work: Callable[[], object]) -> None:
    """Run `work` in this thread, with a `step` after each bit of bytecode in these files."""

    def inside(frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            step()
        return inside

    def at_call(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return inside

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        work()
    finally:
        sys.settrace(before)


# --- who does what -------------------------------------------------------------------------------------------------------


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
        self.heard: list[tuple[str, str]] = []
        self.breaker.add_listener(self._hear, StateChanged)
        self.breaker._lock = BatonLock(self.baton)  # type: ignore[assignment]  # of the same use
        stream._lock = BatonLock(self.baton)  # type: ignore[assignment]  # the same
        self.marks: list[Mark] = []
        self.said: dict[int, str] = {}
        self.refused_at_gates = 0
        self._broken: list[BaseException] = []
        self._acts = [self._act_of(actor, what) for actor, what in enumerate(self.whats)]

    def _prepare(self, model: BreakerModel, state: str) -> None:
        if state == "failing" and model.options.failure_threshold > 1:
            self.breaker.failed(self.breaker.enter(), BoomError())
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
        self.heard.append((event.old, event.new))

    # --- acts ------------------------------------------------------------------------------------------------------------

    def _act_of(self, actor: int, what: What) -> Callable[[], object]:
        breaker = self.breaker
        orders: dict[What, Callable[[], object]] = {
            "reset": breaker.reset,
            "force": lambda: breaker.force_open("by hand"),
            "tick": lambda: self.clock.push(TICK),
        }
        if what in orders:
            return orders[what]

        def serve() -> None:
            self._serve(actor, what)

        by = self.dice.pick(("call", "block", "driver"))
        return self._driven(serve) if by == "driver" else lambda: (breaker.call if by == "call" else self._in_block)(serve)

    def _in_block(self, serve: Callable[[], None]) -> None:
        with self.breaker:
            serve()

    def _driven(self, serve: Callable[[], None]) -> Callable[[], None]:
        """By the fast path of the driver of plain functions."""
        metrics = OperationMetrics(self.clock)
        operation = plan.Operation("stage", self.breaker, metrics, EventStream(), self.clock)
        made = plan.Plan(operation=operation, retry=None, breaker=self.breaker, judges_itself=True)
        made.refuse = self._refused_at_gate
        site = plan.CallSite(lambda: made)
        site.renew()
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

    def _play(self, actor: int) -> None:
        try:
            self.baton.wait(actor)
            self.marks.append(Mark(actor, "starts"))
            _stepwise(self.baton.step, self._files, lambda: self._say(actor))
            self.marks.append(Mark(actor, "done"))
        except BaseException as error:
            self._broken.append(error)
        finally:
            self.baton.end(actor)

    def _say(self, actor: int) -> None:
        self.said[actor] = "ran"
        try:
            self._acts[actor]()
        except CircuitBreakerOpenError:
            self.said[actor] = "refused"
        except (BoomError, NeutralError):
            pass

    def run(self) -> None:
        """Play it, each actor in a thread of its own. Raises `UnexplainedError`."""
        threads = [threading.Thread(target=self._play, args=(actor,)) for actor in range(len(self.whats))]
        for thread in threads:
            thread.start()
        self.baton.pass_on()
        for thread in threads:
            thread.join()
        if self._broken:
            raise self._broken[0]
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
