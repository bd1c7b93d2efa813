"""A simulated world without a loop: plain functions and generators, one after the other and inside each other.

Several streams are under way at once, each moved on by hand, so that calls overlap here too. Ctrl-C may come out of a function or
out of a sleep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

from resilience_kit.context import current_call
from resilience_kit.errors import CircuitBreakerOpenError, ServerError
from tests.simulation.loop import nanoseconds
from tests.simulation.scene import Operation, Scene, Site, ViolationError, Way
from tests.simulation.service import FOREVER, Answer, FatalError
from tests.simulation.watch import Watch

_LEAP = 36_000.0
_INTERRUPTS = (KeyboardInterrupt, SystemExit, FatalError)


class PlainWorld(Scene):
    """One caller, and the streams that it has open."""

    ways: tuple[Way, ...] = ("decorated", "decorated", "call", "stream", "stream", "bare", "bare stream", "block")

    def __init__(self, seed: int, history: list[str] | None = None) -> None:
        self.turns = 0
        self._stack: list[Watch] = []
        self.streams: list[tuple[Watch, Any]] = []
        super().__init__(seed, history)
        self.interrupts = self.dice.pick((0.0, 0.0, 0.1))
        self.clock.interrupt = self._interrupt

    @property
    def step(self) -> int:
        return self.turns

    @property
    def present(self) -> Watch | None:
        return self._stack[-1] if self._stack else None

    def _interrupt(self) -> None:
        if self.dice.chance(self.interrupts) and not self.service.healed:
            raise self.dice.pick(_INTERRUPTS)

    # --- calling ---------------------------------------------------------------------------------------------------------

    def protect(self, site: Site) -> Any:
        custom, kit, name = site.custom, self.kit, site.operation.name
        fallback = None if not site.has_fallback else self._stream_instead if site.is_stream else self._answer_instead
        if site.way in {"decorated", "stream"}:
            function = self._stream if site.is_stream else self._serve
            return kit.with_resilience(name, custom_config=custom, fallback=fallback)(function)
        if site.way == "call":
            return lambda watch: kit.call_with_resilience(self._serve, name, watch, custom_config=custom, fallback=fallback)
        return {"bare": self._call_bare, "bare stream": self._stream_bare, "block": self._call_in_block}[site.way]

    def _call_bare(self, watch: Watch) -> Any:
        return watch.site.operation.breaker.call(self._serve, watch)

    def _stream_bare(self, watch: Watch) -> Any:
        return watch.site.operation.breaker.call_generator(self._stream, watch)

    def _call_in_block(self, watch: Watch) -> Any:
        with watch.site.operation.breaker:
            return self._serve(watch)

    def call(self, site: Site) -> Any:
        """One call, watched to its end; of a stream, to its first item at least."""
        if site.is_stream:
            self._open(site)
            return None
        watch = self.watch(site)
        with self._inside(watch):
            try:
                value = site.function(watch)
            except BaseException as error:
                watch.ends_badly(error)
                raise
            watch.ends_well(value)
        return value

    @contextlib.contextmanager
    def _inside(self, watch: Watch) -> Iterator[None]:
        context = current_call.get()
        self._stack.append(watch)
        try:
            yield
        finally:
            self._stack.pop()
            if current_call.get() is not context:
                self.violated("context", f"{watch} has left its context behind")

    # --- streams ---------------------------------------------------------------------------------------------------------

    def _open(self, site: Site) -> None:
        watch = self.watch(site)
        stream = site.function(watch)
        self.streams.append((watch, stream))
        self._move_on(watch, stream.__next__)

    def _move_on(self, watch: Watch, step: Any, *given: Any) -> None:
        watch.asks_for_item()
        with self._inside(watch):
            try:
                step(*given)
            except StopIteration:
                self._forget(watch)
                watch.ends_well(None)
            except BaseException as error:
                self._forget(watch)
                watch.ends_badly(error)
                raise

    def _forget(self, watch: Watch) -> None:
        self.streams = [each for each in self.streams if each[0] is not watch]

    def _move_one_stream(self) -> None:
        watch, stream = self.dice.pick(self.streams)
        what = self.dice.pick(("next", "next", "send", "throw", "close", "drop"))
        if what in {"close", "drop"}:
            self._leave(watch, stream, close=what == "close")
        elif what == "throw":
            watch.thrown = ServerError("thrown in")
            self._move_on(watch, stream.throw, watch.thrown)
        else:
            self._move_on(watch, *((stream.send, 1) if what == "send" else (stream.__next__,)))

    def _leave(self, watch: Watch, stream: Any, *, close: bool) -> None:
        self._forget(watch)
        watch.leaves()
        if close:
            stream.close()

    # --- being called ----------------------------------------------------------------------------------------------------

    def _serve(self, watch: Watch) -> Any:
        answer = self.service.answer()
        watch.attempt_begins(polite=False)
        try:
            value = self._act(watch, answer)
        except BaseException as error:
            watch.attempt_fails(error)
            raise
        watch.attempt_succeeds(value)
        return value

    def _act(self, watch: Watch, answer: Answer) -> int:
        self._take_time(answer)
        if answer.calls and len(self._stack) == 1:
            self.call(self.dice.pick([site for site in self.operations[-1].sites if not site.is_stream]))
        if answer.trouble is not None:
            raise answer.trouble()
        return watch.number * 1000 + watch.attempts

    def _take_time(self, answer: Answer) -> None:
        for pause in answer.pauses:
            self.clock.now += nanoseconds(60.0 if pause == FOREVER else pause)
            self._interrupt()

    def _stream(self, watch: Watch) -> Generator[int, Any, None]:
        answer = self.service.answer()
        watch.attempt_begins(polite=False)
        try:
            for item in range(answer.items):
                self._take_time(answer)
                self._maybe_fail(answer)
                watch.gives_item()
                yield item
            self._take_time(answer)
            if answer.trouble is not None:
                raise answer.trouble()
        except GeneratorExit:
            watch.attempt_left()
            raise
        except BaseException as error:
            watch.attempt_fails(error)
            raise
        watch.attempt_succeeds(None)

    def _maybe_fail(self, answer: Answer) -> None:
        if answer.trouble is not None and self.dice.chance(0.5):
            raise answer.trouble()

    # --- fallbacks -------------------------------------------------------------------------------------------------------

    def _answer_instead(self, watch: Watch) -> Any:
        watch.fallback_begins()
        try:
            value = self._answer(watch)
        except BaseException as error:
            watch.fallback_fails(error)
            raise
        watch.fallback_answers(value)
        return value

    def _answer(self, watch: Watch) -> int:
        if self.dice.chance(0.2):
            raise ValueError("the fallback failed")
        return -watch.number

    def _stream_instead(self, watch: Watch) -> Generator[int, Any, None]:
        watch.fallback_begins()
        try:
            yield self._answer(watch)
        except GeneratorExit:
            raise
        except BaseException as error:
            watch.fallback_fails(error)
            raise
        watch.fallback_answers(None)

    # --- the whole run ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """A time of trouble, then health."""
        with self.own_chance():
            for _ in range(self.dice.pick((4, 8, 16, 24))):
                self._take_turn()
            self._heal()
            self._end()

    def _take_turn(self) -> None:
        dice = self.dice
        self.turns += 1
        with contextlib.suppress(Exception, *_INTERRUPTS):
            if self.streams and dice.chance(0.4):
                self._move_one_stream()
            elif dice.chance(0.1):
                self._let_something_happen()
            else:
                self.clock.now += nanoseconds(dice.pick((0.0, 0.0, 0.125, 0.5, 1.0, 4.0)))
                self.call(dice.pick(dice.pick(self.operations).sites))
        self.check()

    def _let_something_happen(self) -> None:
        if self.dice.chance(0.3):
            self.tell("the clock leaps")
            self.clock.push(_LEAP)
        elif self.dice.chance(0.2):
            self.forget_counts()
        else:
            self.meddle(self.dice.pick(self.operations))

    def _heal(self) -> None:
        """See `World`. Streams that are open hold their trials, so their leases have to end first (20)."""
        self.service.healed = True
        self.listens = "yes" if self.listens == "meddles" else self.listens
        for operation in self.operations:
            self.turns += 1
            if operation.breaker.forced_open:
                self.close(operation)
            self._prove_alive(operation)

    def _prove_alive(self, operation: Operation) -> None:
        if operation.model.options.window is not None:
            for _ in range(10):
                self._healthy_call(operation, may_be_refused=True)
        for _ in range(operation.model.options.success_threshold):
            self._healthy_call(operation)
        if not operation.breaker.closed:
            raise ViolationError(20, f"{operation.name} is {operation.breaker.state} although its service is well")
        self._healthy_call(operation)

    def _healthy_call(self, operation: Operation, *, may_be_refused: bool = False) -> None:
        model = operation.model
        self.turns += 1
        if not model.admits() or model.trials:
            self.clock.now += nanoseconds(model.remaining() + model.options.trial_lease + 2e-9)
        try:
            self.call(operation.sites[0])
        except Exception as error:
            if not (may_be_refused and isinstance(error, CircuitBreakerOpenError)):
                self.violated(20, f"a healthy call ended with {type(error).__name__}: {error}")
        self.check()

    def _end(self) -> None:
        while self.streams:
            self.turns += 1
            watch, stream = self.streams[-1]
            with contextlib.suppress(Exception, *_INTERRUPTS):
                if self.dice.chance(0.5):
                    self._move_on(watch, stream.__next__)
                else:
                    self._leave(watch, stream, close=True)
            self.check()
        self.check()
        self.check_idle()
        self.check_counts()
