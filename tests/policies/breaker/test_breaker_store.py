"""State over a restart, and stores that fail."""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.events import EventStream
from resilience_kit.policies.breaker import (
    BreakerStore,
    CircuitBreaker,
    CircuitState,
    SQLiteBreakerStore,
    StoredState,
    close_stores,
    flush_stores,
)
from resilience_kit.policies.breaker import store as store_module


@pytest.fixture
def wall(monkeypatch):
    """A wall clock that stands still."""
    now = [1_700_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


@pytest.fixture
def store(tmp_path, wall):
    """A store in a file."""
    return SQLiteBreakerStore(tmp_path / "breakers.db")


class Memory:
    """A store in a dict, which can be told to fail."""

    def __init__(self) -> None:
        self.kept: dict[str, StoredState] = {}
        self.fails_at: set[str] = set()
        self.asked = 0

    def load(self, name: str) -> StoredState | None:
        self._maybe_fail("load")
        return self.kept.get(name)

    def save(self, name: str, state: StoredState) -> None:
        self._maybe_fail("save")
        self.kept[name] = state

    def _maybe_fail(self, what: str) -> None:
        self.asked += 1
        if what in self.fails_at:
            raise OSError("no such disk: /secret/path")


def test_an_open_circuit_is_open_after_a_restart(lab, store, wall, tmp_path):
    """With the open time that is left, which goes on while the process is down, and the failures so far."""
    lab.open(store=store, name="x")
    assert flush_stores()
    wall[0] += 4
    again = lab.breaker(store=SQLiteBreakerStore(tmp_path / "breakers.db"), name="x")
    assert (CircuitState.OPEN, 6.0, 2) == (again.state, again.open_remaining, again.failure_count)
    assert lab.refuses(again)
    assert [{"from": "closed", "to": "open", "at": 1000.0, "reason": "restored"}] == again.metrics["state_changes"]
    lab.clock.now += 6
    again.call(int)
    assert again.closed
    assert lab.breaker(store=store, name="x").closed
    assert lab.breaker(store=store, name="y").closed


def test_a_restored_state_is_told(lab, store):
    """A listener hears that the circuit is open again."""
    lab.open(store=store, name="x")
    stream, heard = EventStream(), []
    stream.add_listener(heard.append)
    again = lab.breaker(store=store, name="x", events=stream)
    assert [("closed", "open", "restored")] == [(event.old, event.new, event.reason) for event in heard]
    assert again.opened
    assert again.snapshot.generation > 0


def test_a_trial_under_way_is_due_again(lab, store):
    """A half-open circuit of a process that died is one whose open time is over."""
    lab.half_open(store=store, name="x").acquire()
    again = lab.breaker(store=store, name="x")
    assert CircuitState.HALF_OPEN is again.state
    again.call(int)
    assert again.closed


def test_forced_open_survives(lab, store):
    """As long as nobody closes it."""
    lab.breaker(store=store, name="x").force_open("maintenance")
    again = lab.breaker(store=store, name="x")
    assert (CircuitState.FORCED_OPEN, math.inf) == (again.state, again.open_remaining)
    with pytest.raises(CircuitBreakerOpenError, match="forced open: restored"):
        again.acquire()
    again.reset()
    assert lab.breaker(store=store, name="x").closed


@pytest.mark.parametrize(("jump", "left"), [(-86_400, 10.0), (86_400, 0.0)])
def test_a_wall_clock_that_jumps_does_little(lab, store, wall, jump, left):
    """Back: the time that was left when it was saved; forward: the trial is due (invariant 11)."""
    lab.open(store=store, name="x")
    assert flush_stores()
    wall[0] += jump
    again = lab.breaker(store=store, name="x")
    assert (left, 2) == (again.open_remaining, again.failure_count)


def test_the_name_comes_with_the_function(lab, store):
    """A breaker that is named by what it decorates saves and restores under that name, and nothing before."""

    def ask():
        raise lab.Boom

    first = lab.breaker(store=store, name=None)
    first.force_open("unnamed")
    assert flush_stores()
    assert store.load(str(first)) is None
    first.reset()
    first(ask)
    lab.fail(first, 2)
    again = lab.breaker(store=store, name=None)
    assert again.closed
    again(ask)
    assert CircuitState.OPEN is again.state


def test_a_store_file_is_its_owner_s(store, tmp_path):
    """Nobody else reads it."""
    store.save("x", StoredState(CircuitState.OPEN, 1, 2.0))
    assert 0o600 == stat.S_IMODE((tmp_path / "breakers.db").stat().st_mode)
    assert StoredState(CircuitState.OPEN, 1, 2.0) == store.load("x")


@pytest.mark.parametrize("content", [b"not a database, but text " * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_corrupt_file_is_told_once_and_left_alone(lab, tmp_path, caplog, content):
    """The breaker goes on in this process, logs one line, and does not touch the file again."""
    path = tmp_path / "breakers.db"
    path.write_bytes(content)
    breaker = lab.open(store=SQLiteBreakerStore(path), name="x")
    lab.clock.now += 10
    breaker.call(int)
    assert flush_stores()
    assert (content, True) == (path.read_bytes(), breaker.closed)
    assert 1 == caplog.messages.count("the store of circuit breaker 'x' failed (DatabaseError); its state stays in this process")


@pytest.mark.parametrize(
    ("column", "value"), [("state", "ajar"), ("failures", "many"), ("remaining", "long"), ("saved_at", "now")]
)
def test_a_row_that_is_no_state_is_a_failing_store(lab, store, tmp_path, caplog, column, value):
    """Whatever stands in the file, the breaker starts closed."""
    lab.open(store=store, name="x")
    assert flush_stores()
    with sqlite3.connect(tmp_path / "breakers.db") as connection:
        connection.execute(f"UPDATE breaker SET {column} = ?", (value,))
    connection.close()
    assert lab.breaker(store=store, name="x").closed
    assert "(ValueError)" in caplog.text


@pytest.mark.parametrize("fails_at", ["load", "save"])
def test_a_failing_store_is_given_up(lab, caplog, fails_at):
    """It is asked once, told of without its words, and never again; calls and state do not notice (invariant 14)."""
    store = Memory()
    store.fails_at = {fails_at}
    breaker = lab.open(store=store, name="x")
    assert flush_stores()
    asked = store.asked
    lab.clock.now += 10
    breaker.call(int)
    assert flush_stores()
    assert (True, asked) == (breaker.closed, store.asked)
    assert "secret" not in caplog.text
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    words = "the store of circuit breaker 'x' failed (OSError); its state stays in this process"
    assert ("resilience_kit", words) == (record.name, record.getMessage())


@pytest.mark.parametrize("kept", [
    StoredState(CircuitState.CLOSED, 1, 0.0),
    StoredState(CircuitState.BUDGET_LIMITED, 1, 5.0),
])  # fmt: skip
def test_other_states_are_not_taken_over(lab, kept):
    """Closed needs no restoring; a budget is not this breaker's business."""
    store = Memory()
    store.kept["x"] = kept
    breaker = lab.breaker(store=store, name="x")
    assert (CircuitState.CLOSED, 0) == (breaker.state, breaker.failure_count)


@pytest.mark.parametrize(("state", "left"), [(CircuitState.OPEN, 4.0), (CircuitState.FORCED_OPEN, math.inf)])
def test_what_is_taken_over_is_told_in_full(lab, state, left):
    """The state, its failures and when it was restored; forced open has no end, whatever the store says."""
    store = Memory()
    store.kept["x"] = StoredState(state, 3, 4.0)
    breaker = lab.breaker(store=store, name="x")
    assert (state, left, 3) == (breaker.state, breaker.open_remaining, breaker.failure_count)
    assert [("closed", state.value, lab.clock.now, "restored")] == [
        tuple(change.values()) for change in breaker.metrics["state_changes"]
    ]


@pytest.mark.parametrize("remaining", [math.nan, -5.0])
def test_a_store_that_tells_nonsense_does_not_shut_for_ever(lab, remaining):
    """A time that is none is over (invariant 20)."""
    store = Memory()
    store.kept["x"] = StoredState(CircuitState.OPEN, 1, remaining)
    assert not lab.refuses(lab.breaker(store=store, name="x"))


def test_the_closed_path_asks_no_store(lab):
    """Calls that change no state read and write nothing."""
    store = Memory()
    breaker = lab.breaker(store=store, name="x")
    for _ in range(10):
        breaker.call(int)
    lab.fail(breaker)
    assert flush_stores()
    assert 1 == store.asked
    lab.fail(breaker)
    for _ in range(10):
        assert lab.refuses(breaker)
    assert flush_stores()
    assert 2 == store.asked
    lab.clock.now += 10
    breaker.call(int)
    lab.fail(breaker)
    breaker.call(int)
    assert flush_stores()
    assert 3 <= store.asked <= 4  # half-open may be over before it is written
    assert "closed" == store.kept["x"].state.value


class Gated(Memory):
    """A store that stands still until its gate is open, and remembers what was saved, and by which threads."""

    def __init__(self) -> None:
        super().__init__()
        self.needs_admission, self.inside = threading.Event(), threading.Event()
        self.saved: list[tuple[str, str]] = []
        self.threads: set[threading.Thread] = set()

    def load(self, name: str) -> StoredState | None:
        self._wait()
        return super().load(name)

    def save(self, name: str, state: StoredState) -> None:
        self._wait()
        self.saved.append((name, state.state.value))
        super().save(name, state)

    def _wait(self) -> None:
        self.threads.add(threading.current_thread())
        self.inside.set()
        assert self.needs_admission.wait(30)


@pytest.fixture
def gated():
    """A store that stands still, and does not for ever."""
    store: BreakerStore = Gated()
    yield store
    store.needs_admission.set()
    assert flush_stores()


def test_calls_go_on_while_a_store_stands_still(lab, gated):
    """A blocked disk blocks no call and no order; the state that is there in the end is the last one (invariant 21)."""
    gated.needs_admission.set()
    breaker = lab.breaker(store=gated, name="x")
    gated.needs_admission.clear()
    gated.inside.clear()
    breaker.force_open("by hand")
    assert gated.inside.wait(30)
    for _ in range(100):
        breaker.reset()
        lab.fail(breaker, 2)
    assert lab.refuses(breaker)
    assert not flush_stores(0.0)
    breaker.reset()
    gated.needs_admission.set()
    assert flush_stores()
    # the first state had been read when the disk stood still; of those that came meanwhile only the last one is written
    assert [("x", "forced_open"), ("x", "closed")] == gated.saved
    assert CircuitState.CLOSED is gated.kept["x"].state
    assert threading.current_thread() not in gated.threads


async def test_an_event_loop_does_not_wait_for_a_store(lab, gated):
    """Neither for what it says of a new breaker, which is obeyed when it comes, nor for a state to be written (invariant 21)."""
    gated.kept["x"] = StoredState(CircuitState.OPEN, 3, 5.0)
    breaker = lab.breaker(store=gated, name="x")
    assert (0, True) == (breaker.failure_count, breaker.closed)
    breaker.call(int)
    gated.needs_admission.set()
    assert await asyncio.to_thread(flush_stores)
    assert (CircuitState.OPEN, 5.0, 3) == (breaker.state, breaker.open_remaining, breaker.failure_count)
    gated.needs_admission.clear()
    breaker.force_open("by hand")
    assert "forced_open" == breaker.state.value
    gated.needs_admission.set()
    assert await asyncio.to_thread(flush_stores)
    assert CircuitState.FORCED_OPEN is gated.kept["x"].state


async def test_a_state_that_comes_late_does_not_undo_what_happened_meanwhile(lab, gated):
    """A breaker that has moved since it was made knows better than its store."""
    gated.kept["x"] = StoredState(CircuitState.OPEN, 3, 5.0)
    breaker = lab.breaker(store=gated, name="x")
    breaker.force_open("by hand")
    breaker.reset()
    gated.needs_admission.set()
    assert await asyncio.to_thread(flush_stores)
    assert (True, CircuitState.CLOSED) == (breaker.closed, gated.kept["x"].state)


async def test_a_store_that_fails_late_is_given_up(lab, gated, caplog):
    """One line, as for any store that fails."""
    gated.fails_at = {"load"}
    breaker = lab.breaker(store=gated, name="x")
    gated.needs_admission.set()
    assert await asyncio.to_thread(flush_stores)
    breaker.force_open("by hand")
    assert await asyncio.to_thread(flush_stores)
    assert ({}, 1) == (gated.kept, caplog.text.count("its state stays in this process"))


def test_a_thread_waits_for_a_slow_store_once_and_for_a_bounded_time(lab, gated, monkeypatch):
    """The state is obeyed when it comes. While one is late, the next is not waited for: a dead disk costs one wait in all."""
    monkeypatch.setattr(store_module, "LOAD_TIMEOUT", 0.01)
    waits = []
    wait = store_module.store_thread.wait
    monkeypatch.setattr(store_module.store_thread, "wait", lambda result: waits.append(1) or wait(result))
    for name in "xyz":
        gated.kept[name] = StoredState(CircuitState.OPEN, 3, 5.0)
    breakers = [lab.breaker(store=gated, name=name) for name in "xy"]
    assert ([True, True], 1) == ([breaker.closed for breaker in breakers], len(waits))
    gated.needs_admission.set()
    assert flush_stores()
    assert [True, True] == [breaker.opened for breaker in breakers]
    monkeypatch.setattr(store_module, "LOAD_TIMEOUT", 30.0)
    assert lab.breaker(store=gated, name="z").opened
    assert 2 == len(waits)


def test_the_loop_of_trio_does_not_wait_either(monkeypatch):
    """Its thread is known by trio itself, which is asked only where it is loaded."""
    assert store_module.store_thread.may_wait()
    monkeypatch.setitem(sys.modules, "trio", SimpleNamespace(lowlevel=SimpleNamespace(in_trio_run=lambda: True)))
    assert not store_module.store_thread.may_wait()


def test_many_breakers_share_one_thread_and_end_in_their_last_states(lab, gated):
    """Threads move fifty breakers at once; each breaker's last state is what its store has in the end."""
    gated.needs_admission.set()
    breakers = [lab.breaker(store=gated, name=str(number)) for number in range(50)]

    def work(seed):
        dice = random.Random(seed)
        for _ in range(100):
            breaker = dice.choice(breakers)
            dice.choice((breaker.reset, lambda breaker=breaker: breaker.force_open("x")))()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert flush_stores()
    moved = [breaker for breaker in breakers if breaker.metrics["state_changes"]]
    assert [breaker.state for breaker in moved] == [gated.kept[str(breaker)].state for breaker in moved]
    assert 1 == len(gated.threads)


def test_stores_can_be_closed_and_used_again(lab):
    """Closing writes what is to be written; the next change has another thread."""
    store = Memory()
    breaker = lab.breaker(store=store, name="x")
    breaker.force_open("x")
    assert close_stores()
    assert CircuitState.FORCED_OPEN is store.kept["x"].state
    breaker.reset()
    assert close_stores()
    assert CircuitState.CLOSED is store.kept["x"].state


def test_a_forked_child_saves_its_own_states(lab, gated):
    """A save that waits in the parent's queue is the parent's; the child's next one is not taken for it (invariant 22)."""
    gated.needs_admission.set()
    breaker = lab.breaker(store=gated, name="x")
    gated.needs_admission.clear()
    gated.inside.clear()
    breaker.force_open("by hand")
    assert gated.inside.wait(30)
    breaker.reset()
    assert breaker._persistence.save_pending
    breaker.reset_after_fork()
    assert not breaker._persistence.save_pending


def test_an_unnamed_breaker_writes_nothing(lab):
    """There is no name to write it under."""
    store = Memory()
    lab.breaker(store=store, name=None).force_open("x")
    assert flush_stores()
    assert ({}, 0) == (store.kept, store.asked)


def test_a_store_given_up_before_its_turn_is_left_alone(lab, caplog):
    """What was ordered before it failed is not carried out, and a second failure is not logged."""
    store = Memory()
    breaker = lab.breaker(store=store, name="x")
    breaker._persistence.detach_store(breaker, OSError())
    breaker._persistence.detach_store(breaker, OSError())
    breaker._persistence.save(breaker)
    assert ({}, 1) == (store.kept, len(caplog.records))


def test_the_end_of_the_process_writes_the_last_state(tmp_path):
    """Also one that was reached an instant before."""
    script = """
        import sys
        from resilience_kit.policies.breaker import CircuitBreaker, SQLiteBreakerStore

        breaker = CircuitBreaker(name="x", store=SQLiteBreakerStore(sys.argv[1]))
        for _ in range(20):
            breaker.reset()
            breaker.force_open("maintenance")
    """
    path = tmp_path / "breakers.db"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], check=True, timeout=60, capture_output=True)
    assert CircuitState.FORCED_OPEN is CircuitBreaker(name="x", store=SQLiteBreakerStore(path)).state


def test_processes_and_threads_share_a_file(store, tmp_path):
    """Many writers at once: every row is whole."""
    stores = [store, SQLiteBreakerStore(tmp_path / "breakers.db", timeout=10.0)]

    def write(number):
        for step in range(5):
            stores[number % 2].save(f"breaker {number}", StoredState(CircuitState.OPEN, step, float(number)))

    stores[0] = SQLiteBreakerStore(tmp_path / "breakers.db", timeout=10.0)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [StoredState(CircuitState.OPEN, 4, float(number)) for number in range(4)] == [
        store.load(f"breaker {n}") for n in range(4)
    ]


def test_stored_state_of_a_cost_breaker_is_told_and_not_taken(caplog):
    """A name that two breakers share is a mistake of whoever named them: the breaker works, and the log has a sentence."""

    class Store:
        def load(self, _name):
            return StoredState(CircuitState.BUDGET_LIMITED, 3, 60.0)

        def save(self, _name, _state):
            pass

    breaker = CircuitBreaker(name="shared", store=Store())
    assert (CircuitState.CLOSED, "called") == (breaker.state, breaker.call(lambda: "called"))
    words = "its stored state 'budget_limited' is a cost breaker's; give one of the two another name"
    assert [f"circuit breaker 'shared' starts closed: {words}"] == caplog.messages
