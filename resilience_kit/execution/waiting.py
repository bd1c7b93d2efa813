"""How a driver waits before an attempt: for a time, or for a turn in a guard's queue, whichever the call says."""

from __future__ import annotations

import asyncio
import functools
import math
import threading

from resilience_kit.clock import Clock, resolve_future
from resilience_kit.execution.call import Call
from resilience_kit.guards import Turn


def wait(call: Call, pause: float) -> None:
    """Block this thread for `pause` seconds, or until its turn may have come."""
    ticket, clock = call.turn, call.plan.clock
    if ticket is None:
        clock.sleep(pause)
    else:
        wait_for_ticket(ticket, clock, pause, call.max_wait())


async def wait_async(call: Call, pause: float) -> None:
    """Wait as above, in a task."""
    ticket, clock = call.turn, call.plan.clock
    if ticket is None:
        await clock.sleep_async(pause)
    else:
        await wait_for_ticket_async(ticket, clock, pause, call.max_wait())


def wait_for_ticket(turn: Turn, clock: Clock, pause: float, max_wait: float | None) -> None:
    """Sleep `pause` seconds, which may be infinite, or until woken; `max_wait` bounds what nobody knows the length of."""
    woken, sleep = threading.Event(), _finite_or_none(pause)
    turn.wake_by(woken.set)
    if not clock.wait(woken, sleep, max_wait) and sleep is not None:
        turn.claim()


async def wait_for_ticket_async(turn: Turn, clock: Clock, pause: float, max_wait: float | None) -> None:
    """Wait as above, in a task."""
    loop, sleep = asyncio.get_running_loop(), _finite_or_none(pause)
    woken: asyncio.Future[bool] = loop.create_future()

    resolve = functools.partial(resolve_future, woken, result=True)
    turn.wake_by(functools.partial(loop.call_soon_threadsafe, resolve))
    if not await clock.wait_async(woken, sleep, max_wait) and sleep is not None:
        turn.claim()


def _finite_or_none(pause: float) -> float | None:
    return None if pause == math.inf else pause
