"""The breaker against a model of it, written from the contract: any history of calls, time and orders from outside."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.guards import Permit
from resilience_kit.outcome import Outcome, OutcomeKind
from resilience_kit.policies.breaker import CircuitBreaker

#: Binary fractions, so that sums are exact and boundaries are met.
SECONDS = st.sampled_from([2.0**-20, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 64.0, 36_000.0])


@dataclass
class ModelCall:
    """A call that was let in: in which stay of the breaker, and for a trial until when it counts."""

    stay: int
    lease_ends: float | None
    permit: Permit | None = None
    settled: bool = False


@dataclass
class Model:
    """The rules of the contract in the plainest words."""

    threshold: int
    recovery: float
    longest: float | None
    slots: int
    needed: int
    lease: float
    now: float = 0.0
    state: str = "closed"
    stay: int = 0
    failures: int = 0
    opens_until: float = 0.0
    good_trials: int = 0
    times_reopened: int = 0
    calls: list[ModelCall] = field(default_factory=list)
    moves: list[tuple[str, str]] = field(default_factory=list)
    successes: int = 0
    counted_failures: int = 0
    refusals: int = 0

    def go(self, state: str) -> None:
        if state != self.state:
            self.moves.append((self.state, state))
        self.state, self.stay, self.good_trials = state, self.stay + 1, 0
        if state == "closed":
            self.failures = self.times_reopened = 0

    def trials(self) -> list[ModelCall]:
        """Trials under way that still count."""
        return [
            call
            for call in self.calls
            if not call.settled and call.stay == self.stay and call.lease_ends is not None and call.lease_ends > self.now
        ]

    def reads(self) -> str:
        """An open time that is over reads as half-open."""
        return "half_open" if self.state == "open" and self.now >= self.opens_until else self.state

    def ask(self) -> ModelCall | None:
        if self.reads() == "half_open" and self.state == "open":
            self.go("half_open")
        if self.state == "closed":
            return self.admitted(None)
        if self.state == "half_open" and len(self.trials()) < self.slots:
            return self.admitted(self.now + self.lease)
        self.refusals += 1
        return None

    def admitted(self, lease_ends: float | None) -> ModelCall:
        call = ModelCall(self.stay, lease_ends)
        self.calls.append(call)
        return call

    def end(self, call: ModelCall, how: OutcomeKind) -> None:
        counts = call.stay == self.stay and (call.lease_ends is None or call.lease_ends > self.now)
        call.settled = True
        self.successes += how is OutcomeKind.SUCCESS
        self.counted_failures += how is OutcomeKind.FAILURE
        if counts and how is OutcomeKind.SUCCESS:
            self.succeed()
        elif counts and how is OutcomeKind.FAILURE:
            self.fail()

    def succeed(self) -> None:
        self.failures = 0
        if self.state == "half_open":
            self.good_trials += 1
            if self.good_trials == self.needed:
                self.go("closed")

    def fail(self) -> None:
        self.failures += 1
        if self.state == "half_open" or self.failures >= self.threshold:
            growth = 1 if self.longest is None else 2**self.times_reopened
            seconds = self.recovery * growth
            self.opens_until = self.now + (seconds if self.longest is None else min(seconds, self.longest))
            self.times_reopened += 1
            self.go("open")

    def order(self, state: str) -> None:
        if state == "open":
            self.opens_until = self.now + self.recovery
        self.go(state)


class Breakers(RuleBasedStateMachine):
    """Drives both and compares after each step."""

    @initialize(
        threshold=st.integers(1, 3), recovery=st.sampled_from([1.0, 8.0]), growth=st.sampled_from([None, 1.0, 4.0]),
        slots=st.integers(1, 3), needed=st.integers(1, 3), lease=st.sampled_from([0.5, 2.0, 16.0]),
    )  # fmt: skip
    def make(self, threshold, recovery, growth, slots, needed, lease):
        longest = None if growth is None else recovery * growth
        self.model = Model(threshold, recovery, longest, slots, needed, lease)
        self.breaker = CircuitBreaker(
            threshold, recovery, name="modelled", half_open_max_calls=slots, success_threshold=needed, trial_lease=lease,
            max_recovery_timeout=longest, clock=lambda: self.model.now, random=lambda: 0.5, excluded_exceptions=(KeyError,),
        )  # fmt: skip
        self.heard: list[tuple[str, str]] = []
        self.breaker.add_listener(lambda event: self.heard.append((event.old, event.new)))
        self.stay_and_generation = (0, 0)

    def ask(self):
        expected = self.model.ask()
        try:
            permit = self.breaker.admit()
        except CircuitBreakerOpenError:
            permit = None
        assert (expected is None) is (permit is None)
        if expected is not None:
            expected.permit = permit
        return expected

    def settle(self, call: ModelCall, how: OutcomeKind, error: Exception | None = None):
        self.model.end(call, how)
        assert call.permit is not None
        call.permit.settle(Outcome(OutcomeKind.FAILURE if error is not None else how, error=error))

    def open_calls(self) -> list[ModelCall]:
        return [call for call in self.model.calls if not call.settled]

    @rule(number=st.integers(1, 4))
    def some_ask(self, number):
        for _ in range(number):
            self.ask()

    @precondition(lambda self: self.open_calls())
    @rule(data=st.data(), how=st.sampled_from(["success", "failure", "failure", "ignored", "excluded", "cancelled"]))
    def one_ends(self, data, how):
        """Any of the calls under way, however old: late results are among them."""
        call = data.draw(st.sampled_from(self.open_calls()), "call")
        if how == "excluded":
            self.settle(call, OutcomeKind.IGNORED, KeyError())
        else:
            self.settle(call, OutcomeKind(how), ValueError() if how == "failure" else None)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.model.now += seconds

    @precondition(lambda self: self.model.state == "open" and self.model.opens_until > self.model.now)
    @rule(step=st.sampled_from([-(2.0**-20), 0.0, 2.0**-20]))
    def time_comes_to_the_reopening(self, step):
        self.model.now = max(self.model.now, self.model.opens_until + step)

    @precondition(lambda self: self.model.trials())
    @rule(step=st.sampled_from([-(2.0**-20), 0.0]))
    def time_comes_to_a_lease_s_end(self, step):
        ends = [call.lease_ends for call in self.model.trials()]
        self.model.now = max(self.model.now, min(ends) + step)

    @rule(state=st.sampled_from(["closed", "open", "half_open"]))
    def state_is_set(self, state):
        self.model.order(state)
        self.breaker.state = state

    @rule(order=st.sampled_from(["force_open", "force_close", "reset"]))
    def it_is_forced(self, order):
        self.model.order("forced_open" if order == "force_open" else "closed")
        getattr(self.breaker, order)(*(() if order == "reset" else ("by hand",)))

    @invariant()
    def both_agree(self):
        """State, row of failures, open time, permits in use and totals (invariants 1 to 13, 17)."""
        model, breaker = self.model, self.breaker
        metrics = breaker.metrics
        assert (model.reads(), model.failures) == (breaker.state.value, breaker.failure_count)
        assert len(model.trials()) == breaker.trials_in_flight
        assert (model.successes, model.counted_failures, model.refusals) == (
            metrics["success_count"], metrics["failure_count"], metrics["rejected_count"],
        )  # fmt: skip
        if model.state == "open":
            assert max(0.0, model.opens_until - model.now) == breaker.open_remaining
        admits = model.state == "closed" or (model.reads() == "half_open" and len(model.trials()) < model.slots)
        assert admits is breaker.fits()

    @invariant()
    def the_path_is_one(self):
        """Events follow each other, generations only grow, trials are within bounds (invariants 1, 17)."""
        assert self.model.moves == self.heard
        changes: Any = self.breaker.metrics["state_changes"]
        assert [(change["from"], change["to"]) for change in changes] == self.heard[-100:]
        assert all(new == old for (_, new), (old, _) in itertools.pairwise(self.heard))
        stay, generation = self.stay_and_generation
        assert (self.model.stay > stay) is (self.breaker.snapshot.generation > generation)
        self.stay_and_generation = (self.model.stay, self.breaker.snapshot.generation)
        assert 0 <= self.breaker.trials_in_flight <= self.model.slots

    def teardown(self):
        """The service is well from now on: closed within the open time, a lease and the needed calls (invariant 20)."""
        if not hasattr(self, "model"):
            return
        model, breaker = self.model, self.breaker
        if breaker.forced_open:
            model.order("closed")
            breaker.reset()
        model.now += breaker.open_remaining
        model.now += model.lease
        for _ in range(model.needed):
            call = self.ask()
            assert call is not None
            self.settle(call, OutcomeKind.SUCCESS)
        assert breaker.closed
        assert 0 == breaker.failure_count


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=settings.default.max_examples * 3 // 2, stateful_step_count=40)
