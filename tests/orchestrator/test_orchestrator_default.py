"""The default orchestrator: made when it is needed, and replaced under functions that are decorated already."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from resilience_kit import get_orchestrator, set_orchestrator, with_resilience
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import ConfigurationError, ServerError
from resilience_kit.orchestrator import AIServiceResilience, default


def test_decorating_makes_no_orchestrator():
    """Nor does importing; a wrong environment is an error at the first call only."""
    code = (
        "import resilience_kit as k, resilience_kit.orchestrator.default as o\n"
        "f = k.with_resilience('op', 'critical')(lambda: 1)\n"
        "assert o._default is None\n"
        "try: f()\n"
        "except k.ConfigurationError as e: assert 'RESILIENCE_PRESET' in str(e), e\n"
        "else: raise SystemExit('no error')\n"
    )
    environment = {**os.environ, "RESILIENCE_PRESET": "nonsense"}
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode


def test_the_first_call_makes_it():
    """And get_orchestrator gives that one."""
    protected = with_resilience("op")(lambda: 1)
    assert None is default._default
    assert 1 == protected()
    made = get_orchestrator()
    assert (default._default, 1) == (made, made.get_metrics("op")["total_calls"])
    assert made is get_orchestrator()


async def test_functions_follow_the_default(clock):
    """Of every kind, from the next call on; the old one hears no more of them."""

    async def work():
        return 1

    def items():
        yield 1

    async def async_items():
        yield 1

    protected = [with_resilience("op", "balanced")(each) for each in (lambda: 1, work, items, async_items)]

    async def call_all():
        return protected[0](), await protected[1](), list(protected[2]()), [item async for item in protected[3]()]

    first, second = (AIServiceResilience(ResilienceSettings(), clock=clock) for _ in range(2))
    set_orchestrator(first)
    assert (1, 1, [1], [1]) == await call_all()
    set_orchestrator(second)
    first.set_strategy("op", "critical")
    await call_all()
    await call_all()
    assert (4, 8) == (first.get_metrics("op")["total_calls"], second.get_metrics("op")["total_calls"])
    set_orchestrator(None)
    await call_all()
    assert 4 == get_orchestrator().get_metrics("op")["total_calls"]
    assert get_orchestrator() not in {first, second}


def test_a_live_change_reaches_functions_of_the_default(clock):
    """As those of any orchestrator."""
    kit = AIServiceResilience(ResilienceSettings(), clock=clock)
    set_orchestrator(kit)
    calls = []

    @with_resilience("op", deadline=None)
    def protected():
        calls.append(1)
        raise ServerError

    for strategy, expected in (("aggressive", 2), ("critical", 7)):
        kit.set_strategy("op", strategy)
        kit.get_circuit_breaker("op").reset()
        calls.clear()
        with pytest.raises(ServerError):
            protected()
        assert expected == len(calls)


def test_a_plan_of_an_orchestrator_that_was_replaced_meanwhile_is_not_kept(clock, monkeypatch):
    """The call that was making it goes on with the new one."""
    first, second = (AIServiceResilience(ResilienceSettings(), clock=clock) for _ in range(2))
    set_orchestrator(first)
    make = first.make_plan

    def plan(*args):
        made = make(*args)
        set_orchestrator(second)
        return made

    monkeypatch.setattr(first, "make_plan", plan)
    protected = with_resilience("op")(lambda: 1)
    protected()
    assert (0, 1) == (first.get_metrics("op")["total_calls"], second.get_metrics("op")["total_calls"])


def test_threads_make_one_default():
    """However many call at once."""
    found, barrier = [], threading.Barrier(8)

    def use():
        barrier.wait()
        found.append(get_orchestrator())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(set(map(id, found)))


@pytest.mark.parametrize("wrong", ["production", 3, AIServiceResilience])
def test_only_an_orchestrator_can_be_the_default(wrong):
    """A sentence, and the old one stays."""
    before = get_orchestrator()
    with pytest.raises(ConfigurationError, match="orchestrator: must be an AIServiceResilience or None"):
        set_orchestrator(wrong)
    assert before is get_orchestrator()
