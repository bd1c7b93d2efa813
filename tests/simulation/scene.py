"""What every simulated world has: operations with their models, call sites, a service, and the checks after each turn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

from tenacity import RetryCallState

from resilience_kit.config import ResilienceConfig, ResilienceSettings
from resilience_kit.events import CallCancelled, CallFailed, CallRejected, CallSucceeded, Event, RetryScheduled, StateChanged
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.policies import retry
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState
from tests.simulation import options
from tests.simulation.guards import SimulatedGuard
from tests.simulation.loop import Clock
from tests.simulation.model import CLOSED, FORCED, HALF_OPEN, OPEN, BreakerModel, BudgetModel
from tests.simulation.service import Dice, Service
from tests.simulation.watch import Watch

SETTINGS = ResilienceSettings()
BARE = ResilienceConfig(retry=None)
STRATEGIES = ("aggressive", "balanced", "conservative", "critical")
HEARD: tuple[type[Event], ...] = (StateChanged, RetryScheduled, CallFailed, CallRejected, CallCancelled)
COUNTS = ("successful_calls", "failed_calls", "rejected_calls", "cancelled_calls", "retry_attempts", "fallback_calls")

Way = Literal[
    "decorated", "plain", "giving", "execute", "execute plain", "execute stream", "call", "stream",
    "bare", "bare stream", "block",
]  # fmt: skip
_STREAMS = ("stream", "execute stream", "bare stream")
_BARE = ("bare", "bare stream", "block")
_MADE_AT_FIRST_CALL = ("execute", "execute plain", "execute stream", "call")
ASKING_TWICE = ("giving", "execute stream")


class ViolationError(Exception):
    """The kit has broken the contract. `invariant` is a number of design/invariants.md, or a word."""

    def __init__(self, invariant: int | str, text: str) -> None:
        super().__init__(f"[{invariant}] {text}")
        self.invariant = invariant


class Spread:
    """One row of random numbers for several readers, each at his own pace: a breaker and its model."""

    def __init__(self, dice: Dice) -> None:
        self._draw, self._drawn = dice.random, list[float]()

    def reader(self) -> Callable[[], float]:
        """A function that gives one after the other."""
        return map(self._number, itertools.count()).__next__

    def _number(self, place: int) -> float:
        while place >= len(self._drawn):
            self._drawn.append(self._draw())
        return self._drawn[place]


class Operation:
    """One name: its breaker and budget, their models, and what was counted by hand."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.breaker: CircuitBreaker
        self.model: BreakerModel
        self.budget: BudgetModel | None = None
        self.counts = dict.fromkeys((*COUNTS, "bare"), 0)
        self.forgotten = dict(self.counts)
        self.sites: list[Site] = []
        self.heard = 0
        self.real_budget: Callable[[], int] = int

    def count(self, what: str, when: bool = True) -> None:
        """Count one."""
        if when:
            self.counts[what] += 1


class Site:
    """A place where an operation is called, in one of the ways in which a user may."""

    def __init__(self, operation: Operation, number: int, way: Way, custom: ResilienceConfig) -> None:
        self.operation, self.number, self.way, self.custom = operation, number, way, custom
        self.config, self.has_fallback = custom, False
        self.is_stream, self.is_bare = way in _STREAMS, way in _BARE
        self.asks_twice = way in ASKING_TWICE
        self.function: Any = None

    def __str__(self) -> str:
        return f"{self.operation.name}.{self.number}, {self.way}"


class Scene:
    """One run. Everything in it is drawn from `seed`; `history` collects what happened, for those who want to read it."""

    ways: tuple[Way, ...]

    def __init__(self, seed: int, history: list[str] | None = None) -> None:
        self.seed, self.history = seed, history
        self.dice = Dice(seed)
        self.clock = Clock(self._sleep_begins)
        self.service = Service(self.dice, self.clock.monotonic, nested=self.dice.chance(0.15), rude=self.dice.chance(0.15))
        self.violation: ViolationError | None = None
        self.keys: dict[str, tuple[object, ...]] = {}
        self.calls = 0
        self.under_way: dict[Watch, None] = {}
        self.drawn: float | None = None
        self._ends_listening: Callable[[], None] | None = None
        self.kit = AIServiceResilience(SETTINGS, clock=self.clock)
        self.guards: list[SimulatedGuard] = []
        self.operations = [self._operation(name) for name in ("a", "b")[: self.dice.pick((1, 1, 2))]]
        self.listens = self.dice.pick(("no", "yes", "yes", "raises", "meddles", "to all"))
        self._listen()

    # --- to be had from the kind of world --------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number of the present turn."""
        raise NotImplementedError

    @property
    def present(self) -> Watch | None:
        """The innermost call in whose context this is run."""
        raise NotImplementedError

    @property
    def injected(self) -> int:
        """How often the present task was cancelled by the world."""
        return 0

    def protect(self, site: Site) -> Any:
        """The function of a call site, as its user calls it."""
        raise NotImplementedError

    # --- building --------------------------------------------------------------------------------------------------------

    def _operation(self, name: str) -> Operation:
        dice, operation = self.dice, Operation(name)
        breaker_options = options.breaker_options(dice)
        guards = tuple(SimulatedGuard(self, f"{name}-{number}") for number in range(dice.pick((1, 2))))
        self.guards += guards
        spread = Spread(dice)
        operation.model = BreakerModel(breaker_options, self.clock.monotonic, spread.reader())
        for number in range(dice.pick((1, 2, 3))):
            path = dice.pick(options.PATHS if number else options.PROTECTED)
            custom = options.config(dice, path, breaker_options, guards, self._look_on)
            way = dice.pick(self.ways) if number else self.ways[0]
            if way in ASKING_TWICE and (custom.guards or custom.circuit_open == "wait"):
                way = "execute"  # those begin once more when they see what the function gives
            site = Site(operation, number, way, BARE if way in _BARE else custom)
            site.has_fallback = path == "general" and way not in (*_BARE, *ASKING_TWICE) and dice.chance(0.3)
            self._site(site)
        operation.breaker = self.kit.get_circuit_breaker(name)
        operation.breaker._random = spread.reader()
        operation.real_budget = lambda: self.kit._registry.operations[name].budget.available_tokens  # type: ignore[union-attr]  # asked when there is one
        return operation

    def _site(self, site: Site) -> None:
        site.operation.sites.append(site)
        site.function = self.protect(site)
        if site.way not in _MADE_AT_FIRST_CALL:
            self._budget(site)

    def _budget(self, site: Site) -> None:
        """The first call site with a retry budget makes that of its operation."""
        if site.operation.budget is None and site.config.retry_budget is not None:
            site.operation.budget = BudgetModel(site.config.retry_budget)

    def watch(self, site: Site) -> Watch:
        """A call begins."""
        self._budget(site)
        self.calls += 1
        watch = Watch(self, site, self.calls, self.present)
        self.under_way[watch] = None
        self.tell(f"{watch} begins")
        return watch

    # --- hearing ---------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self.listens != "no":
            self.kit.add_listener(self._hear, *HEARD, *((CallSucceeded,) if self.listens == "to all" else ()))

    def _hear(self, event: Event) -> None:
        watch, operation = self.present, next(each for each in self.operations if each.name == event.operation)
        if self.history is not None:
            self.tell(f"event {event}")
        if watch is not None and watch.site.operation is operation:
            self._tell_watch(watch, event)
        if isinstance(event, StateChanged):
            self._check_path(operation, event)
        if self.listens == "raises" and self.dice.chance(0.5):
            raise ZeroDivisionError
        if self.listens == "meddles" and self.dice.chance(0.15) and not (watch is not None and watch.may_ask_twice):
            self.meddle(operation)

    def _tell_watch(self, watch: Watch, event: Event) -> None:
        if isinstance(event, StateChanged):
            watch.decide(cut=True)
            if watch.site.operation.model.state is OPEN and event.new == HALF_OPEN:
                watch.admitted_early()
        elif isinstance(event, RetryScheduled):
            watch.retries_after(event.delay)
        elif isinstance(event, CallFailed | CallRejected):
            watch.decide(cut=True)
            watch.conclude(refused=isinstance(event, CallRejected))
        elif isinstance(event, CallCancelled):
            watch.decide(cut=False)

    def _check_path(self, operation: Operation, event: StateChanged) -> None:
        moves = operation.model.moves
        if operation.heard >= len(moves) or moves[operation.heard] != (event.old, event.new):
            words = f"{operation.name} went from {event.old} to {event.new} ({event.reason}), not {moves[operation.heard :]}"
            if (event.old, event.new) == (OPEN, CLOSED):
                self.violated(7, words)
            elif self.present is not None:
                self.present.moved(words)
            else:
                self.violated(17, words)
        operation.heard += 1

    def _sleep_begins(self, seconds: float) -> Callable[[BaseException | None], None]:
        watch = self.present
        assert watch is not None
        watch.sleep_begins(seconds)
        return watch.sleep_ended

    def uniform(self, low: float, high: float) -> float:
        """Stands in for `random.uniform` in the retry policy."""
        dice = self.dice
        value = low if dice.chance(0.02) else low + (high - low) * dice.random()
        self.drawn = value
        return value

    def _look_on(self, state: RetryCallState) -> None:
        """A user's hook: it hears of errors only, and of the right attempt."""
        watch, outcome = self.present, state.outcome
        if watch is None or outcome is None or not isinstance(outcome.exception(), Exception):
            self.violated(28, f"a hook is told of {outcome}")
        elif state.attempt_number != watch.attempts:
            self.violated("hooks", f"{watch}: a hook is told of attempt {state.attempt_number}, not {watch.attempts}")

    # --- orders ----------------------------------------------------------------------------------------------------------

    def meddle(self, operation: Operation) -> None:
        """Somebody changes an operation by hand."""
        order = self.dice.pick(("reset", "force_open", "force_close", "open", "half_open", "strategy", "listen"))
        self.tell(f"order {order} for {operation.name}")
        if order == "strategy":
            self._change_strategy(operation)
        elif order == "listen":
            self._listen_to_more()
        elif order in {"open", "half_open"}:
            operation.model.order(CircuitState(order))
            operation.breaker.state = order
        elif order == "force_open":
            operation.model.order(FORCED)
            operation.breaker.force_open("by hand")
        else:
            self.close(operation)

    def _listen_to_more(self) -> None:
        """Somebody else begins or ends to listen to all, which gives every call site a new plan."""
        if self._ends_listening is None:
            self._ends_listening = self.kit.add_listener(lambda _: None)
        else:
            self._ends_listening()
            self._ends_listening = None

    def forget_counts(self) -> None:
        """Metrics begin at zero again."""
        self.tell("metrics are reset")
        self.kit.reset_metrics()
        for operation in self.operations:
            operation.forgotten = dict(operation.counts)

    def close(self, operation: Operation) -> None:
        """Close a circuit by hand."""
        operation.model.order(CLOSED)
        operation.breaker.reset()

    def _change_strategy(self, operation: Operation) -> None:
        strategy = self.dice.pick(STRATEGIES)
        for site in operation.sites:
            if not site.is_bare:
                site.config = site.custom.with_strategy(strategy).with_useful_timeout()
        first = operation.sites[0].config
        assert first.circuit_breaker is not None
        operation.model.reconfigure(first.circuit_breaker)
        if operation.budget is None and first.retry_budget is not None:
            operation.budget = BudgetModel(first.retry_budget)
        self.kit.set_strategy(operation.name, strategy)

    # --- checking --------------------------------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """A line of the history."""
        if self.history is not None:
            self.history.append(f"{self.clock.now / 1e9:.9f} s, turn {self.step}: {text}")

    def violated(self, invariant: int | str, text: str) -> None:
        """Note what is wrong; the first word counts. Not raised here, where the kit would catch it."""
        self.tell(f"VIOLATION [{invariant}] {text}")
        if self.violation is None:
            self.violation = ViolationError(invariant, text)

    def check(self) -> None:
        """Whether breakers and budgets are where their models are; raises what was noted."""
        if self.violation is not None:
            raise self.violation
        for operation in self.operations:
            snapshot, model = operation.breaker.snapshot, operation.model
            if snapshot.state is not model.state or snapshot.generation != model.stay or snapshot.failures != model.failures:
                self._explain(operation)
            if model.state is OPEN and snapshot.until != model.until:
                raise ViolationError(18, f"{operation.name} is open until {snapshot.until} and not {model.until}")
            if model.state is HALF_OPEN and operation.breaker.trials_in_flight != len(model.running()):
                self._explain(operation)
            if operation.budget is not None and operation.budget.left != operation.real_budget():
                raise ViolationError(31, f"{operation.name}: {operation.real_budget()} tokens and not {operation.budget.left}")

    def _explain(self, operation: Operation) -> None:
        breaker, model = operation.breaker, operation.model
        is_at = (breaker.snapshot.state.value, breaker.snapshot.generation, breaker.failure_count, breaker.trials_in_flight)
        should_be = (model.state.value, model.stay, model.failures, len(model.running()))
        same_state = is_at[:2] == should_be[:2] and is_at[2] == should_be[2]
        invariant = 5 if same_state else 7 if model.state is OPEN else 17
        raise ViolationError(invariant, f"{operation.name}: state, stay, failures, trials are {is_at} and not {should_be}")

    def check_counts(self) -> None:
        """Every call has ended in exactly one way, and is counted once."""
        for operation in self.operations:
            real, totals_by_hand = self.kit.get_metrics(operation.name), operation.counts
            by_hand = {name: totals_by_hand[name] - operation.forgotten[name] for name in COUNTS}
            by_hand["total_calls"] = sum(by_hand[name] for name in COUNTS[:4])
            counted = {name: real[name] for name in by_hand}
            self._compare("counts", operation, counted, by_hand)
            metrics, model = operation.breaker.metrics, operation.model
            totals = {name: metrics[name] for name in ("success_count", "failure_count", "rejected_count")}
            successes = totals_by_hand["successful_calls"] + totals_by_hand["bare"]
            expected = (successes, model.counted_failures, model.refusals)
            self._compare("counts", operation, totals, dict(zip(totals, expected, strict=True)))
            self._compare(9, operation, operation.breaker.times_opened, model.times_opened)
            if self.listens != "no":
                self._compare(9, operation, operation.heard, len(model.moves))

    def _compare(self, invariant: int | str, operation: Operation, real: object, expected: object) -> None:
        if real != expected:
            raise ViolationError(invariant, f"{operation.name}: {real} and not {expected}")

    def check_idle(self) -> None:
        """Nothing is under way, so nothing is held."""
        for watch in self.under_way:
            raise ViolationError(15, f"{watch} is {watch.state.name} for ever")
        for operation in self.operations:
            if operation.breaker.trials_in_flight:
                raise ViolationError(
                    5, f"{operation.name}: {operation.breaker.trials_in_flight} trials in flight, and nobody there"
                )
        for guard in self.guards:
            if guard.in_use:
                raise ViolationError("guards", f"{guard.name}: {guard.in_use} permits out, and nobody there")

    @contextlib.contextmanager
    def own_chance(self) -> Iterator[None]:
        """Have the retry policy draw from this world's dice."""
        before, retry.random = retry.random, self  # type: ignore[assignment]  # it asks for `uniform` only
        try:
            yield
        finally:
            retry.random = before
