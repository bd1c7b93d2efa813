"""Threads of which one runs at a time, switched after any step of bytecode, in an order that a seed decides."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from tests.simulation.service import Dice

#: Mean steps from one switch to the next.
_PATIENCE = (3, 10, 30, 100)
_FOREVER = 1 << 40
_LONGEST = 30.0  # seconds; whoever waits longer for its turn will get none


class StuckError(Exception):
    """Somebody never gets its turn."""


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
            raise StuckError(f"actor {me} never gets its turn")

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


def _stepwise(step: Callable[[], None], files: frozenset[str], work: Callable[[], object]) -> None:
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


def play(baton: Baton, files: frozenset[str], works: Sequence[Callable[[], object]]) -> None:
    """Let each work be done by a thread of its own, which may be switched in these files. Raises what one of them raises."""
    broken: list[BaseException] = []

    def begin(actor: int) -> None:
        try:
            baton.wait(actor)
            _stepwise(baton.step, files, works[actor])
        except BaseException as error:
            broken.append(error)
        finally:
            baton.end(actor)

    threads = [threading.Thread(target=begin, args=(actor,)) for actor in range(len(works))]
    for thread in threads:
        thread.start()
    baton.pass_on()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
