"""State over a restart, and stores that fail."""

from __future__ import annotations

import math
import sqlite3
import stat
import threading
import time

import pytest

from resilience_kit.errors import CircuitBreakerOpenError
from resilience_kit.events import EventStream
from resilience_kit.policies.breaker import BreakerStore, CircuitState, SQLiteBreakerStore, StoredState


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
    lab.half_open(store=store, name="x").enter()
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
        again.enter()
    again.reset()
    assert lab.breaker(store=store, name="x").closed


@pytest.mark.parametrize(("jump", "left"), [(-86_400, 10.0), (86_400, 0.0)])
def test_a_wall_clock_that_jumps_does_little(lab, store, wall, jump, left):
    """Back: the time that was left when it was saved; forward: the trial is due (invariant 11)."""
    lab.open(store=store, name="x")
    wall[0] += jump
    again = lab.breaker(store=store, name="x")
    assert (left, 2) == (again.open_remaining, again.failure_count)


def test_the_name_comes_with_the_function(lab, store):
    """A breaker that is named by what it decorates saves and restores under that name, and nothing before."""

    def ask():
        raise lab.Boom

    first = lab.breaker(store=store, name=None)
    first.force_open("unnamed")
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
    assert (content, True) == (path.read_bytes(), breaker.closed)
    assert ["the store of circuit breaker 'x' failed (DatabaseError); its state stays in this process"] == [
        record.getMessage() for record in caplog.records
    ]


@pytest.mark.parametrize(
    ("column", "value"), [("state", "ajar"), ("failures", "many"), ("remaining", "long"), ("saved_at", "now")]
)
def test_a_row_that_is_no_state_is_a_failing_store(lab, store, tmp_path, caplog, column, value):
    """Whatever stands in the file, the breaker starts closed."""
    lab.open(store=store, name="x")
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
    asked = store.asked
    lab.clock.now += 10
    breaker.call(int)
    assert (True, asked, 1) == (breaker.closed, store.asked, len(caplog.records))
    assert "secret" not in caplog.text
    assert ("resilience_kit", "ERROR") == (caplog.records[0].name, caplog.records[0].levelname)
    assert "the store of circuit breaker 'x' failed (OSError); its state stays in this process" == caplog.messages[0]


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
    store: BreakerStore = Memory()
    breaker = lab.breaker(store=store, name="x")
    for _ in range(10):
        breaker.call(int)
    lab.fail(breaker)
    assert 1 == store.asked
    lab.fail(breaker)
    for _ in range(10):
        assert lab.refuses(breaker)
    lab.clock.now += 10
    breaker.call(int)
    lab.fail(breaker)
    breaker.call(int)
    assert (4, "closed") == (store.asked, store.kept["x"].state.value)


def test_the_newest_state_is_what_stays(lab):
    """A thread that is slow to save does not put an older state over a newer one."""
    store, gate, inside = Memory(), threading.Event(), threading.Event()
    save = store.save

    def slow_save(name, state):
        if threading.current_thread() is slow:
            inside.set()
            gate.wait(10)
        save(name, state)

    store.save = slow_save
    breaker = lab.breaker(store=store, name="x")
    slow = threading.Thread(target=breaker.force_open, args=("slow",))
    slow.start()
    inside.wait(10)
    quick = threading.Thread(target=breaker.reset)
    quick.start()
    while not breaker.closed:
        time.sleep(0)
    gate.set()
    slow.join()
    quick.join()
    assert CircuitState.CLOSED is store.kept["x"].state


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
