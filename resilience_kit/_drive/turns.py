"""How a driver waits before an attempt: for a time, or for a turn in a guard's queue, whichever the call says."""

from __future__ import annotations

import asyncio
import functools
import math
import threading

from resilience_kit._drive.call import Call
from resilience_kit.outcome import Clock, Turn, tell


def wait(call: Call, pause: float) -> None:
    """Block this thread for `pause` seconds, or until its turn may have come."""
    turn, clock = call.turn, call.plan.clock
    if turn is None:
        clock.sleep(pause)
    else:
        wait_for_turn(turn, clock, pause, call.patience())


async def wait_async(call: Call, pause: float) -> None:
    """The same for this task."""
    turn, clock = call.turn, call.plan.clock
    if turn is None:
        await clock.sleep_async(pause)
    else:
        await wait_for_turn_async(turn, clock, pause, call.patience())


def wait_for_turn(turn: Turn, clock: Clock, pause: float, patience: float | None) -> None:
    """Sleep `pause` seconds, which may be infinite, or until woken; `patience` bounds what nobody knows the length of."""
    woken, sleep = threading.Event(), _known(pause)
    turn.wake_by(woken.set)
    if not clock.wait(woken, sleep, patience) and sleep is not None:
        turn.claim()


async def wait_for_turn_async(turn: Turn, clock: Clock, pause: float, patience: float | None) -> None:
    """The same for this task."""
    loop, sleep = asyncio.get_running_loop(), _known(pause)
    woken: asyncio.Future[bool] = loop.create_future()

    tell_it = functools.partial(tell, woken, answer=True)
    turn.wake_by(functools.partial(loop.call_soon_threadsafe, tell_it))
    if not await clock.wait_async(woken, sleep, patience) and sleep is not None:
        turn.claim()


def _known(pause: float) -> float | None:
    return None if pause == math.inf else pause
