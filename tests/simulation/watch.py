"""One call, watched from outside: by the function that it calls, the clock that it sleeps on, the guards that it asks.

A watch knows the terms of its call and the models of its operation, and says at each sign of life whether the contract allows
it. What the kit does between two signs takes no turn of the loop, so most things are due at once.

    admitting -> running -> succeeded                                      -> over
        ^           |-----> failed -> sleeping -> admitting
        |           |          `----> concluded -> answering (a fallback)  -> over
        |           |-----> broken (cancelled and the like)                -> over
        |           `-----> interrupted (a stream after its first item)    -> over
        `--- sleeping (for a guard's permit, or for an open circuit)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from resilience_kit import errors
from resilience_kit.context import current_call, idempotency_key, remaining_time
from resilience_kit.outcome import Outcome, OutcomeKind
from tests.simulation.loop import SECOND
from tests.simulation.model import FORCED, HALF_OPEN, OPEN, End, Pass
from tests.simulation.service import CUT, NO_MEANING, FatalError, Meaning, meaning
from tests.simulation.terms import Below, Terms

if TYPE_CHECKING:
    from tests.simulation.guards import SimulatedPermit
    from tests.simulation.scene import Scene, Site

_TRIAL_POLL = 0.05
_SHORTEST_WAIT = 1e-3
_ROUNDING = 1e-9
#: An error's type, and the very instance where the world has made it.
Word = tuple[type[BaseException], BaseException | None]
NOTHING: Word = (type(None), None)  # type: ignore[assignment]  # nothing yet


class Now(Enum):
    """What a call is doing."""

    ADMITTING = auto()
    RUNNING = auto()
    SLEEPING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CONCLUDED = auto()
    INTERRUPTED = auto()
    BROKEN = auto()
    ANSWERING = auto()
    ANSWERED = auto()
    OVER = auto()


class Watch(Terms):
    """One call under way. `number` names it in the history; `outer` is the call in whose function it was made."""

    __slots__ = (
        "error",
        "fallback_ends", "fallback_undecided", "final",
        "injected",
        "key",
        "last",
        "leave",
        "left",
        "meaning",
        "number",
        "ours",
        "pause",
        "permits",
        "place",
        "polite",
        "protecting",
        "refusal",
        "since",
        "spent",
        "state",
        "thrown",
        "told_outer",
        "undecided",
        "value",
        "waited",
        "within",
    )  # fmt: skip

    outer: Watch | None

    def __init__(self, world: Scene, site: Site, number: int, outer: Watch | None) -> None:
        super().__init__(world, site, outer)
        self.number = number
        self.spent = self.injected = 0
        self.fallback_ends: int | None = None
        self.fallback_undecided = False
        self.leave: Pass | None = None
        self.permits: list[SimulatedPermit] = []
        self.refusal: BaseException | None = None
        self.error: Any = None
        self.ours, self.meaning = True, NO_MEANING
        #: What the last attempt that was retried had ended in, and what the call has to end in.
        self.last: Word | None = None
        self.final: Word = NOTHING
        self.told_outer = Below.NOTHING
        self.thrown: BaseException | None = None
        self.key: str | None = None
        #: The nearest call around that has a context, which one of its operation this is there, and the same of those within.
        self.protecting = outer if outer is None or not outer.site.is_bare else outer.protecting
        self.within: Counter[str] = Counter()
        if self.protecting is not None and not site.is_bare:
            self.protecting.within[site.operation.name] += 1
        self.place = 0 if self.protecting is None else self.protecting.within[site.operation.name]
        self.pause: float | None = None
        self.value: Any = None
        self.polite, self.left, self.undecided, self.waited = True, False, False, False
        self._go(Now.ADMITTING)

    def __str__(self) -> str:
        return f"call {self.number} ({self.site})"

    def _go(self, state: Now) -> None:
        self.state, self.since = state, self.world.step

    def _tell(self, text: str) -> None:
        if self.world.history is not None:
            self.world.tell(f"{self}: {text}")

    def _violated(self, invariant: int | str, text: str) -> None:
        self.world.violated(invariant, f"{self}: {text}")

    def _at_once(self, what: str) -> None:
        if self.world.step != self.since:
            self._violated(28 if self.state is Now.BROKEN else "at once", f"{what} some turns after it was {self.state.name}")

    def _expect(self, *states: Now, what: str) -> bool:
        if self.state in states:
            return True
        self._violated(28 if self.state is Now.BROKEN else "order", f"{what} while {self.state.name}")
        return False

    def _on_time(self, limit: int | None, what: str) -> None:
        """A function that is cut off and does as it is told makes nothing late, but for what holds up everybody."""
        clock = self.world.clock
        if self.polite and limit is not None and clock.now > max(limit, clock.pushed):
            self._violated(26, f"{what} {(clock.now - limit) / SECOND} s after its limit")

    # --- being let in ----------------------------------------------------------------------------------------------------

    @property
    def may_ask_twice(self) -> bool:
        """Whether it may look at the gate first, and ask once more when it turns out a coroutine, or a call inside of another."""
        return self.state is Now.ADMITTING and (self.site.asks_twice or self.outer is not None)

    def admitted_early(self) -> None:
        """The circuit has gone half-open for this call, and whoever listens to that may change it before the attempt begins."""
        if self.state is Now.ADMITTING:
            if self.waited:
                self._wait_was_in_vain()
            self._let_in()

    def enclosing_trial(self) -> Pass | None:
        """The half-open call of the same circuit that this one is made in, if that is a trial still."""
        watch, model = self.outer, self.site.operation.model
        while watch is not None:
            leave = watch.leave
            if watch.site.operation.model is model and leave is not None and leave in model.running():
                return leave
            watch = watch.outer
        return None

    def _let_in(self) -> None:
        model = self.site.operation.model
        if self.leave is not None or self.config.circuit_breaker is None:
            return
        state = model.state
        self.leave = model.ask(self.enclosing_trial())
        if self.leave is None:
            self._violated(1 if state is HALF_OPEN else 10, f"let in while {state.value}, {model.remaining()} s to go")

    def guard_asked(self, name: str, permit: SimulatedPermit | None, refusal: BaseException | None) -> None:
        """A guard gave a permit, or a refusal."""
        self._expect(Now.ADMITTING, what=f"guard {name} asked")
        if self.waited:
            self._wait_was_in_vain()
        if not self.permits:
            self._let_in()
        if permit is not None:
            self.permits.append(permit)
        self.refusal = refusal

    def _wait_was_in_vain(self) -> None:
        """What it waited for came too late: the circuit has moved on."""
        self.waited = False
        if any(not permit.settled for permit in self.permits):
            self._violated("guards", "asks anew with permits in hand")
        if self.leave is not None and self.site.operation.model.is_current(self.leave):
            self._violated("guards", "asks anew although its circuit would let it go on")
        self._release()

    def _release(self) -> None:
        if self.leave is not None:
            self.site.operation.model.end(self.leave, "neutral")
        self.leave, self.permits = None, []

    def attempt_begins(self, *, polite: bool) -> None:
        """The function is called. It is polite when it ends at once if it is cancelled."""
        now = self.world.clock.now
        if self._expect(Now.ADMITTING, what="an attempt begins"):
            self._at_once("an attempt begins")
        if self.ends is not None and now >= self.ends:
            self._violated(26, "an attempt begins after the deadline")
        self._check_admission()
        self.attempts += 1
        self.within.clear()
        self._tell(f"attempt {self.attempts} begins")
        self.site.operation.count("retry_attempts", self.attempts > 1 and not self.site.is_bare)
        self.attempt_started = self.asked_at = now
        self.injected, self.waited, self.below = self.world.injected, False, Below.NOTHING
        if not polite:
            self._is_rude()
        self._go(Now.RUNNING)
        if not self.site.is_bare:
            self._check_time_told()
            self._check_key()

    def _is_rude(self) -> None:
        """A function that does not end when it is cancelled makes its call late, and those around."""
        watch: Watch | None = self
        while watch is not None:
            watch.polite = False
            watch = watch.outer

    def _check_admission(self) -> None:
        if self.attempts >= self.most_attempts:
            self._violated(23, f"attempt {self.attempts + 1} of {self.most_attempts}")
        if self.refusal is not None:
            self._violated(2, "an attempt begins although a guard refused")
        self._let_in()
        if len(self.permits) != len(self.config.guards):
            self._violated("guards", f"{len(self.permits)} permits of {len(self.config.guards)} guards")
        if any(permit.wait for permit in self.permits) and not self.waited:
            self._violated("guards", "an attempt begins before its permits are due")
        model = self.site.operation.model
        if self.waited and self.leave is not None and not model.is_current(self.leave) and not model.admits():
            self._violated(10, "an attempt begins after a wait in which its circuit opened")

    # --- what the function is told ---------------------------------------------------------------------------------------

    def _time_is_told(self, told: float | None) -> bool:
        limit = self.limit()
        if told is None or limit is None:
            return told is limit
        return abs(told - max(0.0, (limit - self.world.clock.now) / 1e9)) < _ROUNDING

    def _check_time_told(self) -> None:
        told = remaining_time()
        if not self._time_is_told(told):
            self._violated("context", f"remaining_time() is {told}; its limit is {self.limit()} of {self.world.clock.now}")

    def _check_key(self) -> None:
        key = idempotency_key() if current_call.get() is not None else None
        if self.attempts > 1 and key != self.key:
            self._violated(30, "another key in a further attempt")
        if key is None and self.needs_key():
            self._violated(30, "no key")
        if key is not None and self.world.keys.setdefault(key, self._key_owner()) != self._key_owner():
            self._violated(30, "the key of another call")
        self.key = key

    def _key_owner(self) -> tuple[object, ...]:
        """Who may have a key: a call, or the n-th one of an operation in any attempt of the call around, where that has a key."""
        outer = self.protecting
        return (self.number,) if outer is None or outer.key is None else (outer.number, self.site.operation.name, self.place)

    def check_child(self) -> None:
        """What a task of the function's is told, which may have outlived the call."""
        told = remaining_time()
        if told is not None and (self.state is Now.OVER or not self._time_is_told(told)):
            self._violated("context", f"remaining_time() is {told} in a task of its own, while {self.state.name}")

    # --- sleeping --------------------------------------------------------------------------------------------------------

    def sleep_begins(self, seconds: float) -> None:
        """The kit pauses."""
        self._tell(f"sleeps {seconds}")
        if not self.fits(seconds):
            self._violated(26, f"sleeps {seconds} s, past its deadline")
        if self.state is Now.FAILED:
            self.retries_after(seconds)
        if self.state is Now.SLEEPING:
            if seconds != self.pause:
                self._violated(24, f"sleeps {seconds} s and not {self.pause}")
        elif self._expect(Now.ADMITTING, what=f"a sleep of {seconds} s"):
            self._at_once("a sleep")
            self._waits(seconds)
        self._go(Now.SLEEPING)

    def sleep_ended(self, error: BaseException | None) -> None:
        """It went on, or the sleep was broken off."""
        self.pause = None
        if error is not None:
            self._broken(error)
        else:
            self._go(Now.ADMITTING)

    def _waits(self, seconds: float) -> None:
        """Before an attempt: for a guard's permit, or for an open circuit."""
        expected = self._expected_wait()
        self.waited = bool(self.permits)
        if seconds != expected:
            self._violated(25, f"sleeps {seconds} s before an attempt, not {expected}")

    def _expected_wait(self) -> float | None:
        if self.waited:
            self._wait_was_in_vain()
        if self.permits and self.refusal is None:
            return max(permit.wait for permit in self.permits) or None
        pause = self._wait_for_circuit()
        self._take_refusal()
        return pause

    def _wait_for_circuit(self) -> float | None:
        """Seconds that a refused call waits, None when it does not."""
        model = self.site.operation.model
        waits = self.config.circuit_breaker is not None and self.config.circuit_open == "wait"
        if not waits or self.refusal is not None or model.state is FORCED:
            return None
        pause = max(model.remaining() or _TRIAL_POLL, _SHORTEST_WAIT)
        return pause if self.fits(pause) else None

    def _take_refusal(self) -> None:
        """The circuit must have refused; that a slot was free is a permit leaked."""
        model = self.site.operation.model
        if self.leave is not None or model.ask(self.enclosing_trial()) is not None:
            state = model.state
            self._violated(3 if state is HALF_OPEN else 10, f"refused while {state.value} with {len(model.running())} trials")

    # --- the end of an attempt -------------------------------------------------------------------------------------------

    def attempt_succeeds(self, value: object) -> None:
        """The function gave a value, or the end of its stream."""
        self._expect(Now.RUNNING, what="an attempt succeeds")
        self._on_time(self.own_cut(), "an attempt went on")
        self._tell("attempt succeeds")
        self._end("success", OutcomeKind.SUCCESS)
        if self.budget is not None:
            self.budget.give_back(self.spent)
        self.value = value
        self._go(Now.SUCCEEDED)

    def attempt_fails(self, error: BaseException) -> None:
        """The function raised."""
        self._expect(Now.RUNNING, what="an attempt fails")
        self._on_time(self.own_cut(), "an attempt went on")
        self._tell(f"attempt raises {type(error).__name__}")
        if error is self.world.service.shared_error:  # whose mark may be that of any other call that got it
            self.below = self.below or Below.COULD_HAVE_RETRIED
        if isinstance(error, Exception) and (error is not self.thrown or self.site.is_bare):
            self._failed(error, meaning(error))
        elif isinstance(error, asyncio.CancelledError) and self.world.injected == self.injected:
            self._cancelled_by_kit()
        else:
            self._broken(error)

    def _cancelled_by_kit(self) -> None:
        """By this call's limits, or by those of a call around it. When both are over, the kit's next step tells which."""
        now, cut = self.world.clock.now, self.own_cut()
        own, outer = cut is not None and cut <= now, self.outer_is_cut()
        self.undecided = own and outer
        if self.undecided:
            self._go(Now.FAILED)
        elif own:
            self._cut()
        else:
            if not outer:
                self._violated(26, f"cut off at {now}, before its time {cut}")
            self._broken(asyncio.CancelledError())

    def decide(self, *, cut: bool) -> None:
        """Which it was."""
        if self.undecided:
            self.undecided = False
            if cut:
                self._cut()
            else:
                self._broken(asyncio.CancelledError())

    def _cut(self) -> None:
        late = not self.items and self.own_ends is not None and self.world.clock.now >= self.own_ends
        self._failed(errors.DeadlineExceededError() if late else errors.APITimeoutError(), CUT, ours=False)

    def _failed(self, error: Exception, meant: Meaning, *, ours: bool = True) -> None:
        """`ours`: the error was made by the world's service, so that the caller has to get the very same."""
        counted = self.counts(error, meant)
        self.world.drawn = None
        hint = None if self.site.is_bare else meant.hint
        self._end("failure" if counted else "neutral", OutcomeKind.FAILURE if counted else OutcomeKind.IGNORED, hint)
        self.error, self.meaning, self.ours = error, meant, ours
        self._go(Now.INTERRUPTED if self.items and not self.site.is_bare else Now.FAILED)

    def _broken(self, error: BaseException) -> None:
        """Cancelled, or something else that is nobody's failure."""
        self._end("neutral", OutcomeKind.CANCELLED)
        self.error = error
        self._go(Now.BROKEN)

    def _end(self, how: End, settled: OutcomeKind, hint: float | None = None) -> None:
        leave, self.leave = self.leave, None
        if leave is not None:
            seconds = (self.world.clock.now - self.attempt_started) * 1e-9
            self.site.operation.model.end(leave, how, seconds, hint)
        for permit in self.permits:
            permit.expected = settled

    def permit_settled(self, permit: SimulatedPermit, outcome: Outcome) -> None:
        """A guard heard how the attempt ended."""
        self.decide(cut=outcome.kind is not OutcomeKind.CANCELLED)
        if permit.settled:
            self._violated("guards", "a permit is settled twice")
        if permit.expected is not outcome.kind:
            invariant = 28 if self.state is Now.BROKEN else "guards"
            self._violated(invariant, f"a permit is settled as {outcome.kind} and not {permit.expected}")

    def moved(self, text: str) -> None:
        """Its circuit has moved although it had no reason."""
        self._violated(28 if self.state is Now.BROKEN else 17, text)

    # --- another attempt, or not -----------------------------------------------------------------------------------------

    def retries_after(self, pause: float) -> None:
        """The kit has decided to try again after `pause` seconds."""
        self.decide(cut=True)
        if self.state is Now.SLEEPING or not self._expect(Now.FAILED, what="a retry"):
            return
        self._at_once("a retry")
        obstacle = self.obstacle(self.error, self.meaning, pause)
        if obstacle is not None:
            self._violated(*obstacle)
        self._check_pause(pause)
        self.spent = self.cost(self.meaning)
        if self.budget is not None:
            self.budget.left -= self.spent
        self.last, self.pause, self.permits = self._word(), pause, []
        self._go(Now.SLEEPING)

    def _word(self) -> Word:
        return type(self.error), self.error if self.ours else None

    def _check_pause(self, pause: float) -> None:
        hint = self.meaning.hint or 0.0
        if pause < hint:
            self._violated(29, f"pauses {pause} s against a hint of {hint} s")
        low, high = self.backoff_bounds()
        if not max(low, hint) <= pause <= max(high, hint):
            self._violated(24, f"pauses {pause} s after attempt {self.attempts}, not {low} to {high}")

    def conclude(self, *, refused: bool = False) -> None:
        """The kit has decided that there is no further attempt: whether that is so, and what the call ends in.

        `refused`: by its circuit. That comes before the deadline at the gate, and after it elsewhere.
        """
        if self.state is Now.FAILED and not self.undecided:
            self._at_once("the end")
            self._check_end_of_retries()
            self.final = self._word()
            self._count_failed()
        elif self.state is Now.ADMITTING:
            self._at_once("a refusal")
            self._conclude_admission(refused=refused)

    def _count_failed(self) -> None:
        self.site.operation.count("failed_calls", not self.site.is_bare)
        self._go(Now.CONCLUDED)

    def _check_end_of_retries(self) -> None:
        pause = max(self.backoff_drawn(), self.meaning.hint or 0.0)
        if not self.below and self.obstacle(self.error, self.meaning, pause) is None:
            self._violated(23, f"given up after attempt {self.attempts}, though another was allowed")
        self._leave_word()

    def _leave_word(self) -> None:
        """What the call around is to know of the error that this one ends in."""
        if self.state in {Now.FAILED, Now.INTERRUPTED} and not self.may_repeat(self.meaning):
            self.told_outer = Below.MAY_BE_DONE
        elif self.most_attempts > 1:
            self.told_outer = Below.RETRIED if self.attempts > 1 else Below.COULD_HAVE_RETRIED

    def _conclude_admission(self, *, refused: bool) -> None:
        if not self.fits(0.0) and not (refused and self.attempts == 0):
            self.final = errors.DeadlineExceededError, None
            if self.last is not None:
                self._leave_word()
            self._look_at_gate()
            self._release()
            self._count_failed()
            return
        if self.waited:
            self._wait_was_in_vain()
        refusal = self._refusal()
        self._release()
        if self.last is not None:
            self._leave_word()
        self.final = self.last or (type(refusal), self.refusal)
        failed = self.last is not None or self.site.has_fallback
        self.site.operation.count("failed_calls" if failed else "rejected_calls", not self.site.is_bare)
        self._go(Now.CONCLUDED)

    def _look_at_gate(self) -> None:
        """A call inside of another may have done so before it looked at the time, and so have ended an open time."""
        operation, model = self.site.operation, self.site.operation.model
        is_due = model.state is OPEN and model.admits()
        if self.outer is not None and self.attempts == 0 and is_due and operation.breaker.snapshot.state is HALF_OPEN:
            self._let_in()

    def _refusal(self) -> BaseException:
        if self.refusal is not None:
            return self.refusal
        if self.permits:
            if self.fits(max(permit.wait for permit in self.permits)):
                self._violated("guards", "refused although its permits are in time")
            return errors.Rejected()
        if self._wait_for_circuit() is not None:
            self._violated(27, "did not wait for its circuit")
        self._take_refusal()
        return errors.CircuitBreakerOpenError()

    # --- fallback --------------------------------------------------------------------------------------------------------

    def fallback_begins(self) -> None:
        """Something else is asked for an answer."""
        self.decide(cut=True)
        self.conclude()
        self._expect(Now.CONCLUDED, what="a fallback is asked")
        self._tell("fallback asked")
        if not self.site.has_fallback or issubclass(self.final[0], errors.InvalidRequestError):
            self._violated("fallback", "a fallback answers for a caller's mistake")
        self.site.operation.count("fallback_calls", self.site.is_stream)
        self._on_time(self.own_ends, "asks its fallback")
        now, self.injected = self.world.clock.now, self.world.injected
        self.fallback_ends = self.own_ends if self.own_ends is not None and self.own_ends > now else None
        self.own_ends, self.told_outer = None, Below.NOTHING  # what is left of it is the fallback's
        self._go(Now.ANSWERING)

    def fallback_answers(self, value: object) -> None:
        """It gave a value."""
        self._expect(Now.ANSWERING, what="a fallback's answer")
        self.value = value
        self.site.operation.count("fallback_calls", not self.site.is_stream)
        self._go(Now.ANSWERED)

    def fallback_fails(self, error: BaseException) -> None:
        """It raised."""
        self._expect(Now.ANSWERING, what="a fallback's error")
        late = self.fallback_ends is not None and self.world.clock.now >= self.fallback_ends
        if isinstance(error, asyncio.CancelledError) and late and self.world.injected == self.injected:
            self.last, self.final = self.final, (errors.DeadlineExceededError, None)
            self.fallback_undecided = self.outer_is_cut()
        else:
            self.final = type(error), error
        self._go(Now.CONCLUDED)

    # --- the end of the call ---------------------------------------------------------------------------------------------

    def ends_well(self, value: object) -> None:
        """The caller has a value."""
        self._tell("ends well")
        self.told_outer = Below.NOTHING
        if self._expect(Now.SUCCEEDED, Now.ANSWERED, what="a value"):
            self._at_once("a value")
            self.site.operation.count("bare" if self.site.is_bare else "successful_calls", self.state is Now.SUCCEEDED)
        if value is not self.value:
            self._violated("value", f"gives {value!r} and not {self.value!r}")
        self._over()

    def ends_badly(self, error: BaseException) -> None:
        """The caller has an error."""
        self._tell(f"ends with {type(error).__name__}")
        self.decide(cut=not isinstance(error, asyncio.CancelledError))
        self.conclude(refused=isinstance(error, errors.CircuitBreakerOpenError))
        if isinstance(error, ZeroDivisionError):
            self._violated(14, "ends with the error of a listener")
        if self._expect(Now.CONCLUDED, Now.BROKEN, Now.INTERRUPTED, what=f"the end with {type(error).__name__}"):
            self._at_once("the end")
            self._check_last_word(error)
        self._over()

    def _check_last_word(self, error: BaseException) -> None:
        if self.state is Now.BROKEN:
            self.site.operation.count("cancelled_calls", not self.site.is_bare)
            self._compare(28, error, (type(self.error), self.error if isinstance(self.error, FatalError) else None))
        elif self.state is Now.INTERRUPTED:
            self._leave_word()
            self._count_failed()
            self._compare(32, error, (errors.StreamInterruptedError, None))
            if self.ours and error.__cause__ is not self.error:
                self._violated(32, "a broken stream hides why it broke")
        else:
            if self.fallback_undecided and isinstance(error, asyncio.CancelledError):
                self.final = asyncio.CancelledError, None
            self._compare(32, error, self.final)
            if self.final == (errors.DeadlineExceededError, None):
                self._check_cause(error)

    def _compare(self, invariant: int, error: BaseException, word: Word) -> None:
        kind, instance = word
        if type(error) is not kind or (instance is not None and error is not instance):
            self._violated(invariant, f"ends with {type(error).__name__} and not {kind.__name__}")

    def _check_cause(self, error: BaseException) -> None:
        """A deadline's error is chained to what the attempts before had ended in."""
        expected = type(None) if self.last is None else self.last[0]
        if type(error.__cause__) is not expected:
            self._violated(32, f"a deadline's error is chained to {type(error.__cause__).__name__}, not to {expected.__name__}")

    def _over(self) -> None:
        if self.outer is not None:
            self.outer.below = self.told_outer
        self._on_time(None if self.items else self.own_ends, "returns")
        if any(not permit.settled for permit in self.permits):
            self._violated("guards", "a permit is not settled")
        self._go(Now.OVER)
        self.world.under_way.pop(self, None)
        self.error = self.refusal = self.last = self.thrown = None  # whose frames may hold a stream that nobody else does
        self.final = NOTHING

    # --- streams ---------------------------------------------------------------------------------------------------------

    def asks_for_item(self) -> None:
        """The consumer wants the next item."""
        self.asked_at = self.world.clock.now

    def gives_item(self) -> None:
        """The function yields one. With the first, the call's own time limits are over."""
        self._expect(Now.RUNNING, what="an item")
        self._on_time(self.own_cut(), "an item came")
        self._tell("an item")
        if not self.items and not self.site.is_bare:
            self.own_ends = None
        self.items += 1

    def leaves(self) -> None:
        """The consumer goes away; the function hears of it now or later."""
        self._tell("left")
        self.left = True
        if self.state is not Now.RUNNING:
            self._over()

    def attempt_left(self) -> None:
        """The function is told that nobody wants more."""
        self._tell("attempt is left")
        self._broken(GeneratorExit())
        self.site.operation.count("cancelled_calls", not self.site.is_bare)
        self._over()
