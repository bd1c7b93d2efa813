"""`no_waiting`: the switch that takes the waiting out."""

import asyncio
import inspect
import threading

import pytest

from resilience_kit.clock import SYSTEM_CLOCK
from resilience_kit.errors import ConfigurationError
from resilience_kit.testing import no_waiting

HOUR = 3600.0


async def test_no_sleep_lasts_inside_the_block():
    """An hour, in a thread or in a task, is over at once."""
    with no_waiting():
        SYSTEM_CLOCK.sleep(HOUR)
        await SYSTEM_CLOCK.sleep_async(HOUR)
    assert SYSTEM_CLOCK.sleep_enabled


def test_blocks_may_be_nested_and_the_switch_entered_again():
    """Waiting is back when the last block is left, whichever way."""
    switch = no_waiting()
    with switch, switch, pytest.raises(KeyError):
        with no_waiting():
            raise KeyError
        pytest.fail("not reached")
    with switch:
        with switch:
            pass
        assert not SYSTEM_CLOCK.sleep_enabled
    assert SYSTEM_CLOCK.sleep_enabled


def test_a_plain_function_may_be_decorated():
    """Arguments, result and name are its own."""

    @no_waiting()
    def slept(hours, *, more=0):
        """Sleep."""
        SYSTEM_CLOCK.sleep((hours + more) * HOUR)
        return hours + more

    assert (3, "slept", "Sleep.") == (slept(1, more=2), slept.__name__, slept.__doc__)
    assert SYSTEM_CLOCK.sleep_enabled


async def test_an_async_function_may_be_decorated():
    """The switch is on while the coroutine runs, not just while it is made."""

    @no_waiting()
    async def slept():
        await asyncio.sleep(0)
        await SYSTEM_CLOCK.sleep_async(HOUR)
        return SYSTEM_CLOCK.sleep_enabled

    coroutine = slept()
    assert SYSTEM_CLOCK.sleep_enabled
    assert inspect.iscoroutinefunction(slept)
    assert False is await coroutine
    assert SYSTEM_CLOCK.sleep_enabled


def test_a_generator_function_is_refused():
    """It would hold the switch between its items."""
    with pytest.raises(ConfigurationError, match=r"no_waiting\.function: must be a function or an async function"):

        @no_waiting()
        def items():
            yield 1


def test_many_threads_may_use_it_at_once():
    """No thread's leaving switches waiting on under another's feet, and at the end it is on."""
    wrong = []

    def work():
        for _ in range(500):
            with no_waiting():
                if SYSTEM_CLOCK.sleep_enabled:
                    wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ([], True) == (wrong, SYSTEM_CLOCK.sleep_enabled)
