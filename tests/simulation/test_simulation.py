"""The kit in simulated worlds, and the simulator itself.

The runs of the thousands are in processes of their own: there no coverage is measured, which would cost more than they do.
How the retries follow tenacity is compared in tests/execution/test_execution_tenacity.py, with tenacity itself as the model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import faults, racy
from tests.simulation.runs import Run, run_all, sweep
from tests.simulation.schedules import BudgetStage, Stage, UnexplainedError

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str, hash_seed: str = "random") -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


# --- the kit ---


def test_a_thousand_worlds():
    """Under faults, cancellations, leaps of time and orders from outside all is safe after each turn, and alive in the end.

    (invariants 1 to 10, 12 to 15, 17, 18, 20, 23 to 32) `make simulate` has ten thousand, and the cancellations after each turn
    and the schedules of threads that are below in many more.
    """
    assert "1000 runs" in (told := simulate("--runs", "1000", "--sweeps", "0", "--schedules", "0"))
    assert ": 0 violations" in told


def test_a_small_world_with_a_cancellation_after_each_turn():
    """Once, twice and twice in a row: no permit is kept, nothing is counted twice or not at all (invariants 3, 4, 5, 28)."""
    runs = [run for seed in (1, 4) for run in sweep(seed)]
    assert [] == run_all(runs).violations
    assert len(runs) > 50


@pytest.mark.parametrize("seed", range(40))
def test_a_schedule_of_threads(seed):
    """Switched anywhere, threads do what they could have done one after the other (invariants 1, 7, 8, 9, 17)."""
    Stage(seed).run()


@pytest.mark.parametrize("seed", [*range(20), 109, 528, 942])
def test_a_schedule_of_threads_with_a_retry_budget(seed):
    """While tokens are missing, successes are reported, whoever took and gave back what at the same time (invariant 31)."""
    BudgetStage(seed).run()


# --- the simulator ---


@pytest.mark.slow
def test_each_fault_is_found():
    """What is put into the kit on purpose is noticed, and called by its name."""
    found = json.loads(simulate("--faults", "--runs", "3000"))
    assert [fault.name for fault in faults.FAULTS] == [each["fault"] for each in found]
    assert [] == [each["fault"] for each in found if each["found"] is None]


@pytest.mark.slow
@pytest.mark.parametrize("breaker", racy.RACY)
def test_each_race_is_found(breaker):
    """Some schedule of the first thousand shows it, while one actor after the other gets on well with the same breaker."""
    files = frozenset({racy.__file__})
    for seed in range(30):
        Stage(seed, breaker, files, switches=False).run()
    with pytest.raises(UnexplainedError):
        for seed in range(1000):
            Stage(seed, breaker, files).run()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_the_same_seed_is_the_same_story(seed):
    """In any process, whatever its hashes are: with a loop, and without."""
    told = [simulate("--seed", str(seed), "--trace", hash_seed=hash_seed) for hash_seed in ("1", "2")]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) > 20


def test_a_story_does_not_depend_on_those_before():
    """Run again after others, in one process."""
    stories: list[list[str]] = []
    for seed in (*range(10), *range(10)):
        stories.append([])
        Run(seed).world(stories[-1]).run()
    assert stories[:10] == stories[10:]


def test_the_command_names_the_cancellations():
    """One line repeats the run."""
    assert "python -m tests.simulation --seed 7" == Run(7).command
    assert "python -m tests.simulation --seed 7 --cancel 3:0,0 5:1" == Run(7, ((3, (0, 0)), (5, (1,)))).command
    assert "nothing wrong\n" == simulate("--seed", "7", "--cancel", "3:0,0", "5:1")
