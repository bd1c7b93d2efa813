"""The benchmark of scale runs, and what it measures with is right. No time is judged here."""

import json
import re
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from resilience_kit import CircuitBreaker, metrics


@pytest.fixture
def harness():
    """The module, whose folder is on the path by now."""
    import harness

    return harness


@pytest.fixture
def lock_hold():
    """The same."""
    import lock_hold

    return lock_hold


@pytest.fixture
def memory():
    """The same."""
    import memory

    return memory


@pytest.fixture
def scale():
    """The program."""
    import scale

    return scale


# --- the program -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_quick_run_covers_every_section_and_every_target(scale, tmp_path, capsys):
    """Every contender reaches its callee as often as it should, or the run would not have ended well."""
    written = tmp_path / "run.json"
    assert 0 == scale.main(["--quick", "--json", str(written)])
    run = json.loads(written.read_text())
    sections = {each["title"].partition(":")[0] for each in (*run["rows"], *run["tails"])}
    assert {*scale.SECTIONS, *scale.TAILS} == sections
    assert len(list(scale.targets(scale.QUICK))) == len(run["findings"])
    assert [] == [each for each in run["garbage"] if each["promised"] and each["objects"]]
    told = capsys.readouterr().out
    assert all(f"### {title}" in told for title in ("threads: success", "bytes: breakers", "lock: held for", "loop: late by"))


@pytest.mark.slow
@pytest.mark.skipif(not metrics.GIL, reason="objects are larger on builds without the GIL")
def test_a_breaker_stays_within_its_bytes(scale, tmp_path):
    """At most 1.4 kB each, with its entry in the library's monitor; what it is made of adds up to it, but for a tenth."""
    written = tmp_path / "run.json"
    scale.main(["--quick", "--only=bytes", "--json", str(written)])
    run = json.loads(written.read_text())
    assert [True] == [each["holds"] for each in run["findings"]]
    together = {each["contender"]: each["ratio"]["mid"] for each in run["rows"][1]["figures"]}
    assert 0.9 < together["together, as the objects tell"] < 1.1


def test_a_page_has_its_tables_renewed(scale, tmp_path):
    """What stands around the marks stays."""
    run, page = tmp_path / "run.json", tmp_path / "page.md"
    scale.main(["--quick", "--runs=2", "--only=lock", "--json", str(run)])
    page.write_text("before\n<!-- measured: lock -->\nold\n<!-- end -->\nafter\n")
    scale.main(["--merge", str(run), "--write", str(page)])
    lines = page.read_text().splitlines()
    assert ["before", "<!-- measured: lock -->", "### lock: held for"] == lines[:3]
    assert "old" not in lines
    assert ["<!-- end -->", "after"] == lines[-2:]
    assert "2" == json.loads(run.read_text())["environment"]["runs"]


def test_the_page_has_a_place_for_every_part(scale):
    """Each once, and with something in it to be replaced."""
    page = Path(__file__).parents[2].joinpath("docs/benchmarks/scale.md").read_text(encoding="utf-8")
    told = scale.parts(scale.Report(environment={}, rows=(), findings=(), garbage=()))
    assert sorted(told) == sorted(re.findall(r"<!-- measured: (\w+) -->\n.+\n", page))
    marked = scale.filled(page, {name: f"the {name}" for name in told})
    assert all(f"-->\nthe {name}\n<!--" in marked for name in told)


@pytest.mark.parametrize("part", ["--quick", "--only=lock"])
def test_a_page_is_for_whole_runs(scale, tmp_path, part):
    """Else some of its tables would be of another run, or mean nothing."""
    with pytest.raises(SystemExit):
        scale.main([part, "--write", str(tmp_path / "page.md")])


@pytest.mark.slow
def test_check_tells_of_a_missed_target(scale, tmp_path):
    """By the exit code."""
    run = tmp_path / "run.json"
    scale.main(["--quick", "--only=bytes", "--json", str(run)])
    document = json.loads(run.read_text())
    document["findings"][0]["ratio"] = {"low": 2.0, "mid": 2.0, "high": 2.0}
    missed = tmp_path / "missed.json"
    missed.write_text(json.dumps(document))
    assert (0, 1) == tuple(scale.main(["--check", "--merge", str(file)]) for file in (run, missed))


def test_growth_is_read_against_the_fewest(scale):
    """And the comparison with circuitbreaker against as many."""
    import comparison

    assert {"kit, 8 threads": "kit, 1 thread"} == comparison.growth(["kit"], [1, 8], "thread")
    assert {"kit, 8 threads": "circuitbreaker, 8 threads"} == comparison.beside(["kit"], [8], "thread")
    assert "kit, 10 000 operations" == comparison.among("kit", 10_000, "operation")


# --- ways to call --------------------------------------------------------------------------------------------------------------


def test_calls_in_turn_go_round(harness):
    """Seven calls of three functions: three, two and two."""
    made = []
    harness.in_turn([lambda _, name=name: made.append(name) for name in "abc"])(7)
    assert "abcabca" == "".join(made)


def test_each_call_has_a_task_of_its_own(harness):
    """Two waves of three tasks, all of a wave begun before one of it has ended."""
    steps = []

    async def call(_):
        steps.append("begins")
        await harness.asyncio.sleep(0)
        steps.append("ends")

    with closing(harness.Loop()) as loop:
        loop.in_tasks(call, 3)(6)
    assert (["begins"] * 3 + ["ends"] * 3) * 2 == steps


# --- bytes ---------------------------------------------------------------------------------------------------------------------


def test_the_peak_of_a_call_is_what_it_allocates(harness):
    """The size of what it makes, although it is dropped at once, beyond what any call takes while a debugger looks on."""
    nothing, something = (harness.peaks(call)(5) / 5 for call in (lambda x: x, lambda _: bytes(1000) and None))
    assert sys.gettrace() is not None or 0 == nothing
    assert sys.getsizeof(bytes(1000)) <= something - nothing < 1100


def test_the_peak_of_a_coroutine_counts_it(harness):
    """A coroutine is an object."""

    async def call(x):
        return x

    with closing(harness.Loop()) as loop:
        assert 0 < loop.peaks(call)(5) < 5 * 1000


def test_a_measured_call_may_fail_where_it_is_said_to(harness):
    """Any other error ends the benchmark, sync and async."""

    def fail(_):
        raise ConnectionError

    async def fail_async(_):
        raise ConnectionError

    assert harness.peaks(fail, ConnectionError)(5) > 0
    with closing(harness.Loop()) as loop:
        assert loop.peaks(fail_async, ConnectionError)(5) > 0
        with pytest.raises(ConnectionError):
            loop.peaks(fail_async)(5)
    with pytest.raises(ConnectionError):
        harness.peaks(fail)(5)


def test_what_is_kept_is_weighed_and_what_is_dropped_is_not(harness):
    """Count the sets that are kept (they have no free list), and not the names, which are the caller's."""
    kept = harness.kept(lambda names: [{name} for name in names])(100)
    dropped = harness.kept(lambda names: [{name} for name in names] and None)(100)
    assert dropped < 1000 < 100 * {0}.__sizeof__() < kept


def test_an_object_is_made_of_what_only_it_has(memory):
    """What another one has, too, and the name it was given, are not its own."""
    shared = list(range(1000, 2000))

    class Thing:
        def __init__(self, name):
            self.name, self.own, self.shared = name, [name], shared

    told = memory.parts(Thing)
    assert {"1 x Thing", "1 x list", "1 x dict"} == set(told)


def test_weighing_leaves_the_library_s_monitor_alone(memory):
    """It keeps what it is shown, and would grow with each measurement."""
    before = dict(memory.CircuitBreakerMonitor.circuit_breakers)
    memory.all_of(lambda: memory.bare_decorated)(10)
    memory.parts(memory.breaker)
    assert before == memory.CircuitBreakerMonitor.circuit_breakers


# --- the lock and the loop -----------------------------------------------------------------------------------------------------


def test_every_move_takes_the_lock_once(lock_hold):
    """So that what is told is one critical section, and nothing is left out (invariant 21)."""
    assert [5] * len(lock_hold.MOVES) == [len(lock_hold.held_by(move, 5)) for move in lock_hold.MOVES]
    assert 5 == len(lock_hold.held_by_nothing(5))


def test_moves_are_what_they_are_called(lock_hold):
    """The states that they lead to."""
    led_to = {}
    for move in lock_hold.MOVES:
        breaker = lock_hold.timed_breaker(move.threshold)
        move.do(breaker, move.before(breaker))
        led_to[move.name] = breaker.snapshot.state.value
    assert ["closed", "closed", "open", "half_open", "closed", "open"] == list(led_to.values())


def test_a_failure_and_a_success_after_it_take_the_lock_in_every_thread(lock_hold):
    """Forty failures of eight threads."""
    assert 40 == len(lock_hold.held_among_threads(8, 40))


def test_a_timed_lock_keeps_others_out(lock_hold):
    """It is the lock that it stands for."""
    lock, got = lock_hold.TimedLock(threading.Lock()), []
    with lock:
        other = threading.Thread(target=lambda: got.append(lock._lock.acquire(blocking=False)))
        other.start()
        other.join()
    assert ([False], 1) == (got, len(lock.held))


def test_a_loop_s_lag_is_taken_beside_threads_that_call(lock_hold):
    """The loop and the threads share one breaker."""
    breaker = CircuitBreaker(10**9)
    crowd = lock_hold.Crowd(name="kit", protect=breaker, threads=2)
    lags = lock_hold.lags_beside((crowd,), rounds=2, seconds=0.0)["kit"]
    assert 2 == len(lags)
    assert all(lag > 0 for lag in lags)
    assert breaker.metrics["failure_count"] > 0
