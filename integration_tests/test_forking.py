"""docs/howto/fork-workers.md: what a forked child has, in real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "fork-workers.md"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")

#: Ends in each forked child with what `outcome` gives there, as one line on stdout.
PROLOGUE = """
import os, sys, threading, time
from resilience_kit import AIServiceResilience, ResilienceConfig, RateLimitError
from resilience_kit.events import CallSucceeded, QueuedListener, StateChanged
from resilience_kit.limits import BulkheadConfig, RateLimitConfig
from resilience_kit.policies.breaker import CircuitBreakerConfig, SQLiteBreakerStore

def in_child(outcome):
    sys.stdout.flush()  # else the child prints again what its parent has not written yet
    child = os.fork()
    if child == 0:
        print(outcome(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def printed(program: str, *arguments: str) -> list[str]:
    """What a program prints; it has to end well, within a time in which a lock that nobody frees would be seen."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    return ended.stdout.splitlines()


def test_the_program_of_the_page_prints_what_the_page_says() -> None:
    """The block at the top of the page, as a process of its own."""
    program, output = re.findall(r"```(?:python no-run|text)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[:2]
    assert output.splitlines() == printed(program)


def test_a_child_of_a_thread_that_holds_a_place_finds_it_free() -> None:
    """The parent's call is under way in a bulkhead of one and as the only trial of a half-open circuit; the child may call."""
    program = """
kit = AIServiceResilience()
config = ResilienceConfig(
    retry=None, bulkhead=BulkheadConfig(max_concurrent=1, max_queue=0), circuit_breaker=CircuitBreakerConfig(recovery_timeout=60)
)
begun, go_on = threading.Event(), threading.Event()

@kit.with_resilience("ask", custom_config=config)
def ask(wait):
    if wait:
        begun.set()
        go_on.wait(30)
    return "answered"

breaker = kit.get_circuit_breaker("ask")
ask(False)
breaker.state = "half_open"
thread = threading.Thread(target=ask, args=(True,))
thread.start()
begun.wait(30)

def attempt():
    try:
        return ask(False)
    except Exception as error:
        return type(error).__name__

print(attempt())
in_child(attempt)
go_on.set()
thread.join()
print(breaker.state.value)
"""
    assert ["CircuitBreakerOpenError", "answered", "closed"] == printed(PROLOGUE + program)


def test_a_queued_listener_works_in_the_child_and_repeats_nothing_of_the_parent() -> None:
    """The queue of the child is empty; its own events are handled by a thread of its own."""
    program = """
kit, heard, hold = AIServiceResilience(), [], threading.Event()

def slow(event):
    hold.wait(30)
    heard.append(event.operation)

listener = QueuedListener(slow)
kit.add_listener(listener, CallSucceeded)
ask = lambda name: kit.call_with_resilience(str.upper, name, "x")
ask("parent-1"), ask("parent-2")

def of_child():
    hold.set()
    ask("child")
    return listener.flush(30), heard

in_child(of_child)
hold.set()
print(listener.flush(30), heard)
"""
    assert ["(True, ['child'])", "True ['parent-1', 'parent-2']"] == printed(PROLOGUE + program)


def test_a_child_saves_and_finds_states_in_the_file_of_its_parent(tmp_path: Path) -> None:
    """The store opens its file at each use, so no connection is shared."""
    program = """
store = lambda: SQLiteBreakerStore(sys.argv[1])
kit = AIServiceResilience(store=store())
kit.get_circuit_breaker("parent").force_open("maintenance")

def of_child():
    kit.get_circuit_breaker("child").force_open("maintenance")
    return kit.get_circuit_breaker("parent").state.value

in_child(of_child)
"""
    path = str(tmp_path / "breakers.sqlite")
    assert ["forced_open"] == printed(PROLOGUE + program, path)


def test_rate_limits_of_two_children_are_two() -> None:
    """Each has what was left at the fork: a limit of three lets six calls through in two children."""
    program = """
kit = AIServiceResilience()
limit = RateLimitConfig(rate=1, period=3600, burst=3, max_wait=0)

@kit.with_resilience("ask", custom_config=ResilienceConfig(retry=None, rate_limit=limit))
def ask():
    return True

def answered():
    count = 0
    for _ in range(5):
        try:
            count += ask()
        except Exception:
            pass
    return count

in_child(answered)
in_child(answered)
"""
    assert ["3", "3"] == printed(PROLOGUE + program)
