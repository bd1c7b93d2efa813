"""A simulated world of tasks: who calls, who is cancelled when, and what else happens at any turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from resilience_kit.context import current_call
from resilience_kit.errors import CircuitBreakerOpenError, ServerError
from resilience_kit.execution import timeouts
from tests.simulation.loop import Loop, Order, give_way
from tests.simulation.scene import Operation, Scene, Site, ViolationError, Way
from tests.simulation.service import FOREVER, Answer, FatalError
from tests.simulation.watch import Watch

_ORDERS: tuple[Order, ...] = ("random", "random", "oldest first", "newest first")
_LEAP = 36_000.0
_MOST_STEPS = 200_000
_TICK = 0.25


class Caller(asyncio.Task[None]):
    """A task that makes calls. Knows who cancels it: the world (`inject`), or the kit."""

    def __init__(self, coro: Coroutine[Any, Any, None], world: World) -> None:
        self.world, self.watches, self.injected, self.unanswered = world, list[Watch](), 0, 0
        super().__init__(coro, loop=world.loop)

    def cancel(self, msg: Any = None) -> bool:
        """By the kit. Now and then somebody else cancels in the same moment, before or after it."""
        self.world.tell("the kit cancels")
        dice = self.world.dice
        if self.world.ties and dice.chance(0.1):
            self.inject()
        cancelled = super().cancel(msg)
        if self.world.ties and dice.chance(0.1):
            self.inject()
        return cancelled

    def inject(self) -> None:
        """By the world: the call has to end with that, unless its function catches it."""
        self.world.tell("the world cancels")
        self.injected += 1
        self.unanswered += 1
        super().cancel()

    def caught(self) -> None:
        """A cancellation has come out of a call: take back those that stand, as whoever catches one has to."""
        while self.unanswered:
            self.uncancel()
            self.unanswered -= 1


class World(Scene):
    """Some callers on one loop.

    With `cancels` it is a small world in which nothing happens by chance but its service: these callers, by number, are cancelled
    after these turns.
    """

    ways: tuple[Way, ...] = (
        "decorated", "decorated", "execute", "execute plain", "execute stream", "giving", "plain", "stream", "stream", "bare",
        "bare stream", "block",
    )  # fmt: skip

    def __init__(self, seed: int, history: list[str] | None = None, cancels: dict[int, list[int]] | None = None) -> None:
        self.loop: Loop
        self.callers: list[Caller] = []
        self.hung: list[asyncio.Future[None]] = []
        super().__init__(seed, history)
        dice = self.dice
        self.loop = Loop(self.clock, dice.pick(_ORDERS), dice.random, looks_like_asyncio=dice.chance(0.7))
        self.ties = dice.chance(0.3)
        self.is_small = cancels is not None
        self.plan: list[tuple[int, Callable[[], None]]] = self._drawn_plan() if cancels is None else self._given_plan(cancels)
        #: How many turns the time of trouble took.
        self.troubled_turns = 0

    @property
    def step(self) -> int:
        return self.loop.steps if self.callers else 0

    @property
    def present(self) -> Watch | None:
        watches = getattr(self._present_task(), "watches", None)
        return watches[-1] if watches else None

    @property
    def injected(self) -> int:
        return getattr(self._present_task(), "injected", 0)

    def _present_task(self) -> Any:
        return asyncio.current_task(self.loop) if self.callers else None

    # --- what happens besides --------------------------------------------------------------------------------------------

    def _drawn_plan(self) -> list[tuple[int, Callable[[], None]]]:
        dice = self.dice
        happenings = (*[self._cancel_one] * 3, self._cancel_twice, self._leap, self._dawdle, self._order, self.forget_counts)
        number = dice.pick((0, 0, 1, 2, 4, 8))
        return sorted(((int(dice.random() ** 2 * 150), dice.pick(happenings)) for _ in range(number)), key=lambda each: -each[0])

    def _given_plan(self, cancels: dict[int, list[int]]) -> list[tuple[int, Callable[[], None]]]:
        return [(turn, lambda who=who: self._cancel(who)) for turn, who in sorted(cancels.items(), reverse=True)]  # type: ignore[misc]  # mypy does not see the default

    def _cancel(self, numbers: list[int]) -> None:
        for number in numbers:
            if number < len(self.callers) and not self.callers[number].done():
                self.callers[number].inject()

    def _cancel_one(self) -> None:
        alive = [caller for caller in self.callers if not caller.done()]
        if alive:
            self.dice.pick(alive).inject()

    def _cancel_twice(self) -> None:
        alive = [caller for caller in self.callers if not caller.done()]
        if alive:
            caller = self.dice.pick(alive)
            caller.inject()
            caller.inject()

    def _leap(self) -> None:
        self.tell("the clock leaps")
        self.clock.push(_LEAP)

    def _dawdle(self) -> None:
        """The machine is slow: time passes while something is ready to run."""
        self.clock.push(self.dice.pick((0.125, 0.25, 1.0, 4.0)))
        self.tell("the machine is slow")

    def _order(self) -> None:
        self.meddle(self.dice.pick(self.operations))

    # --- calling ---------------------------------------------------------------------------------------------------------

    def protect(self, site: Site) -> Any:
        custom, fallback = site.custom, self._fallback(site)
        kit, name, way = self.kit, site.operation.name, site.way
        functions: dict[Way, Any] = {
            "decorated": self._serve, "stream": self._stream, "giving": self._give, "plain": self._serve_plainly,
            "execute": self._serve, "execute plain": self._serve_plainly, "execute stream": self._stream,
        }  # fmt: skip
        if way.startswith("execute"):
            return lambda watch: kit.execute_with_resilience(functions[way], name, watch, custom_config=custom, fallback=fallback)
        if way in functions:
            return kit.with_resilience(name, custom_config=custom, fallback=fallback)(functions[way])
        return {"bare": self._call_bare, "bare stream": self._stream_bare, "block": self._call_in_block}[way]

    async def _call_bare(self, watch: Watch) -> Any:
        return await watch.site.operation.breaker.call_async(self._serve, watch)

    def _stream_bare(self, watch: Watch) -> Any:
        return watch.site.operation.breaker.call_async_generator(self._stream, watch)

    async def _call_in_block(self, watch: Watch) -> Any:
        async with watch.site.operation.breaker:
            return await self._serve(watch)

    async def _work(self, calls: int) -> None:
        """The life of a caller."""
        for _ in range(calls):
            dice = self.dice
            await self._take(self.loop.pause(dice.pick((0.0, 0.0, 0.125, 0.5, 1.0, 4.0))))
            operation = dice.pick(self.operations)
            await self._take(self.call(dice.pick(operation.sites)))

    async def _take(self, step: Coroutine[Any, Any, object]) -> None:
        """One step of a caller's life, which goes on whatever it ends in."""
        caller = self._present_task()
        try:
            await step
        except asyncio.CancelledError:
            if not caller.unanswered:
                self.violated(28, "a cancellation that nobody ordered")
            caller.caught()
        except (Exception, FatalError):  # looked at already
            pass
        if caller.cancelling() != caller.unanswered:
            self.violated(28, f"{caller.cancelling()} cancellations stand, {caller.unanswered} were ordered")

    async def call(self, site: Site) -> Any:
        """One call, watched to its end."""
        caller, context = self._present_task(), current_call.get()
        watch = self.watch(site)
        caller.watches.append(watch)
        try:
            value = await self._value_of(watch)
        except BaseException as error:
            if not watch.left:
                watch.ends_badly(error)
            raise
        else:
            if not watch.left:
                watch.ends_well(value)
        finally:
            caller.watches.pop()
            if current_call.get() is not context:
                self.violated("context", f"{watch} has left its context behind")
        return value

    async def _value_of(self, watch: Watch) -> Any:
        site = watch.site
        if site.way == "plain":
            return site.function(watch)
        return await (self._consume(watch) if site.is_stream else site.function(watch))

    # --- being called ----------------------------------------------------------------------------------------------------

    async def _serve(self, watch: Watch) -> Any:
        answer = self.service.answer()
        watch.attempt_begins(polite=answer.manner == "cooperative")
        try:
            value = await self._act(watch, answer)
        except BaseException as error:
            watch.attempt_fails(error)
            raise
        watch.attempt_succeeds(value)
        return value

    def _give(self, watch: Watch) -> Any:
        return self._serve(watch)

    def _serve_plainly(self, watch: Watch) -> Any:
        answer = self.service.answer()
        watch.attempt_begins(polite=True)
        self.clock.push(answer.busy)
        if answer.trouble is not None:
            error = answer.trouble()
            watch.attempt_fails(error)
            raise error
        value = self._value(watch)
        watch.attempt_succeeds(value)
        return value

    def _value(self, watch: Watch) -> int:
        return watch.number * 1000 + watch.attempts

    async def _act(self, watch: Watch, answer: Answer) -> Any:
        self.clock.push(answer.busy)
        if answer.leaves_child and not watch.site.is_bare:
            self.loop.create_task(self._be_child(watch))
        try:
            await self._take_time(answer)
            if answer.calls and len(self._present_task().watches) == 1:
                await self.call(self.dice.pick(self.operations[-1].sites))
        except asyncio.CancelledError:
            if answer.manner == "cooperative":
                raise
            await self._answer_rudely(answer)
        if answer.trouble is not None:
            raise answer.trouble()
        return self._value(watch)

    async def _be_child(self, watch: Watch) -> None:
        await self.loop.pause(self.dice.pick((0.0, 0.25, 4.0)))
        watch.check_child()

    async def _answer_rudely(self, answer: Answer) -> None:
        """To a cancellation: with a clean-up that takes its time, an error of its own, or not at all."""
        if answer.manner == "cleans up":
            await self.loop.pause(0.25)
            raise asyncio.CancelledError
        if answer.manner == "fails instead":
            raise ServerError("instead of a cancellation") from None
        await give_way()

    async def _take_time(self, answer: Answer) -> None:
        for pause in answer.pauses:
            if pause == FOREVER and not self.service.healed:
                await self._hang()
            else:
                await self.loop.pause(pause)

    async def _hang(self) -> None:
        forever = self.loop.create_future()
        self.hung.append(forever)
        try:
            await forever
        finally:
            self.hung.remove(forever)
            del forever  # see `Loop.pause`

    # --- streams ---------------------------------------------------------------------------------------------------------

    async def _stream(self, watch: Watch) -> AsyncGenerator[int, Any]:
        answer = self.service.answer()
        watch.attempt_begins(polite=answer.manner == "cooperative")
        try:
            await self._act_in_stream(watch, answer, first=True)
            for item in range(answer.items):
                watch.gives_item()
                yield item
                await self._act_in_stream(watch, answer, first=False)
        except GeneratorExit:
            watch.attempt_left()
            if answer.manner == "cleans up":
                await self.loop.pause(0.25)
            raise
        except BaseException as error:
            watch.attempt_fails(error)
            raise
        watch.attempt_succeeds(None)

    async def _act_in_stream(self, watch: Watch, answer: Answer, *, first: bool) -> None:
        try:
            await self._take_time(answer)
        except asyncio.CancelledError:
            if answer.manner == "cooperative":
                raise
            await self._answer_rudely(answer)
        if answer.trouble is not None and (first is (answer.items == 0) or self.dice.chance(0.5)):
            raise answer.trouble()

    async def _consume(self, watch: Watch) -> None:
        stream = watch.site.function(watch)
        if watch.site.way == "execute stream":
            stream = await stream
        try:
            while not watch.left:
                watch.asks_for_item()
                await stream.__anext__()
                await self._think(watch, stream)
        except StopAsyncIteration:
            return

    async def _think(self, watch: Watch, stream: Any) -> None:
        """Between two items: go on, wait, leave, or throw something in."""
        dice = self.dice
        if dice.chance(0.2):
            await self._linger(watch, dice.pick((0.0, 0.25, 4.0)))
        if dice.chance(0.1):
            watch.leaves()
            if dice.chance(0.6):
                await stream.aclose()
        elif dice.chance(0.05):
            error = watch.thrown = ServerError("thrown in")
            watch.asks_for_item()
            await stream.athrow(error)

    async def _linger(self, watch: Watch, seconds: float) -> None:
        try:
            await self.loop.pause(seconds)
        except asyncio.CancelledError:
            watch.leaves()
            raise

    # --- fallbacks -------------------------------------------------------------------------------------------------------

    def _fallback(self, site: Site) -> Any:
        if not site.has_fallback:
            return None
        if site.is_stream:
            return self._stream_instead
        if site.way == "plain":
            return self._answer_instead_at_once
        return self.dice.pick((self._answer_instead, self._answer_instead_at_once))

    async def _answer_instead(self, watch: Watch) -> Any:
        watch.fallback_begins()
        try:
            await self.loop.pause(self.dice.pick((0.0, 0.5)))
            return self._answer(watch)
        except BaseException as error:
            watch.fallback_fails(error)
            raise

    def _answer_instead_at_once(self, watch: Watch) -> Any:
        watch.fallback_begins()
        try:
            return self._answer(watch)
        except BaseException as error:
            watch.fallback_fails(error)
            raise

    def _answer(self, watch: Watch) -> int:
        if self.dice.chance(0.2):
            raise ValueError("the fallback failed")
        value = -self._value(watch)
        watch.fallback_answers(value)
        return value

    async def _stream_instead(self, watch: Watch) -> AsyncGenerator[int, Any]:
        watch.fallback_begins()
        try:
            yield 1
            await give_way()
            if self.dice.chance(0.2):
                raise ValueError("the fallback failed")
        except GeneratorExit:
            raise
        except BaseException as error:
            watch.fallback_fails(error)
            raise
        watch.fallback_answers(None)

    # --- the whole run ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All of it: a time of trouble, then health, and then the end of whatever hung."""
        dice = self.dice
        with self.own_chance():
            self._start(dice.pick((1, 2) if self.is_small else (1, 1, 2, 2, 3, 4, 8)))
            self.loop.run(self._after)
            self.troubled_turns = self.loop.steps
            self._heal()
            self._release_hung()
            self._end()

    def _start(self, number: int) -> None:
        dice = self.dice
        for _ in range(number):
            self.callers.append(Caller(self._work(dice.pick((1, 2) if self.is_small else (1, 2, 3, 4))), self))

    def _after(self) -> None:
        self.check()
        while self.plan and self.loop.steps >= self.plan[-1][0]:
            self.plan.pop()[1]()
        if self.loop.steps > _MOST_STEPS:
            raise ViolationError("at once", "the world does not come to rest")

    def _heal(self) -> None:
        """The service is well from now on: each circuit closes within its open time, a lease and the trials it needs (20)."""
        self.plan.clear()
        self.ties = False
        self.listens = "yes" if self.listens == "meddles" else self.listens
        self.service.healed = True
        for operation in self.operations:
            if operation.breaker.forced_open:
                self.close(operation)
        self.callers.append(Caller(self._prove_alive(), self))
        self.loop.run(self._after)

    async def _prove_alive(self) -> None:
        for operation in self.operations:
            if operation.model.options.window is not None:
                await self._fill_window(operation)
            await self._wait_for_trial(operation)
            for _ in range(operation.model.options.success_threshold):
                await self._healthy_call(operation.sites[0])
            if not operation.breaker.closed:
                self.violated(20, f"{operation.name} is {operation.breaker.state} although its service is well")
            await self._healthy_call(operation.sites[0])

    async def _fill_window(self, operation: Operation) -> None:
        """A window may hold failures enough that some successes more, which make up its minimum, open the circuit."""
        for _ in range(10):
            await self._wait_for_trial(operation)
            with contextlib.suppress(CircuitBreakerOpenError):
                await self.call(operation.sites[0])

    async def _wait_for_trial(self, operation: Operation) -> None:
        await self.loop.pause(operation.model.remaining() + operation.model.options.trial_lease + 2e-9)

    async def _healthy_call(self, site: Site) -> None:
        try:
            await self.call(site)
        except Exception as error:
            self.violated(20, f"a healthy call ended with {type(error).__name__}: {error}")

    def _release_hung(self) -> None:
        """Late results of calls that nobody waited for any more, or their end by cancellation."""
        dice = self.dice
        for caller in self.callers:
            if not caller.done() and dice.chance(0.5):
                caller.inject()
        for forever in tuple(self.hung):
            if not forever.done():
                forever.set_exception(ServerError("late")) if dice.chance(0.5) else forever.set_result(None)
        self.loop.run(self._after)

    def _end(self) -> None:
        unfinished = [caller for caller in self.callers if not caller.done()]
        if unfinished:
            raise ViolationError("at once", f"{len(unfinished)} tasks wait for ever")
        for caller in self.callers:
            if not caller.cancelled() and caller.exception() is not None:
                raise caller.exception()  # type: ignore[misc]  # it is not None
        if self.loop.timers:
            raise ViolationError("timers", f"{self.loop.timers} timers are left")
        if self.loop.complaints:
            raise ViolationError("loop", f"the loop complains: {self.loop.complaints[0]}")
        cutter = timeouts._thread_state.scheduler
        if cutter is not None and cutter.loop is self.loop and cutter.pending:
            raise ViolationError("timers", f"{len(cutter.pending)} cuts are left")
        self.check()
        self.check_idle()
        self.check_counts()
