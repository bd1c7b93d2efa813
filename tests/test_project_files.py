"""The workflow, the commit hooks and the Makefile: they name what exists, and agree with what pyproject.toml promises."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
JOBS = yaml.safe_load(WORKFLOW)["jobs"]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
LOCKS = {path.stem for path in (ROOT / "requirements").glob("*.txt")}


def steps() -> Iterator[dict[str, str]]:
    """Every step of every job."""
    for job in JOBS.values():
        yield from job["steps"]


def test_every_promised_python_runs_all_of_ci():
    """The versions of the classifiers are those of the matrix, and the first is the lowest that may install."""
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert promised == JOBS["ci"]["strategy"]["matrix"]["python"]
    assert f">={promised[0]}" == PROJECT["requires-python"]
    assert "make ci PYTHON=python" == JOBS["ci"]["steps"][-1]["run"]


def test_the_other_jobs_are_targets():
    """A job's name is what a person types; the one without the GIL has an interpreter without it, the lowest the lowest."""
    jobs = {each["target"]: each["python"] for each in JOBS["other"]["strategy"]["matrix"]["include"]}
    assert {"freethreaded": "3.14t", "lowest": "3.11", "newest": "3.14", "dist": "3.13", "foreign": "3.11"} == jobs
    assert set() == jobs.keys() - TARGETS
    assert "make ${{ matrix.target }} PYTHON=python" == JOBS["other"]["steps"][-1]["run"]


def test_the_workflow_can_read_and_no_more():
    """Foreign actions are pinned by commit and get no credentials, no job may write, run for ever or see a secret."""
    used = [step["uses"] for step in steps() if "uses" in step]
    assert [] == [name for name in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name)]
    assert [{"persist-credentials": False}] * len(JOBS) == [
        step["with"] for step in steps() if "checkout" in step.get("uses", "")
    ]
    assert {"contents": "read"} == yaml.safe_load(WORKFLOW)["permissions"]
    assert [] == [name for name, job in JOBS.items() if "permissions" in job or job["timeout-minutes"] > 60]
    assert "secrets." not in WORKFLOW


def test_the_commit_hooks_are_local_targets():
    """Nothing is fetched for a commit; each hook is a target of the Makefile that looks at the whole project."""
    assert ["local"] == [each["repo"] for each in HOOKS]
    hooks = HOOKS[0]["hooks"]
    assert ["make lint", "make type", "make arrows"] == [hook["entry"] for hook in hooks]
    assert set() == {hook["entry"].removeprefix("make ") for hook in hooks} - TARGETS
    assert {("system", False)} == {(hook["language"], hook["pass_filenames"]) for hook in hooks}
    assert ["pre-commit", "pre-push", "pre-commit"] == [stage for hook in hooks for stage in hook["stages"]]


def test_ci_runs_what_the_quick_tests_leave_out():
    """`make test` is for a minute's wait: the slow tests, the coverage and the many worlds are asked for by `make ci`."""
    recipes = dict(re.findall(r"^([a-z]+):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))
    assert {"lint", "type", "arrows"} <= set(re.search(r"^ci:([a-z ]*)", MAKEFILE, re.MULTILINE)[1].split())
    assert "coverage simulate" in recipes["ci"]
    assert "integration" in recipes["ci"]
    assert ("-m 'not slow'" in recipes["test"], "slow" in recipes["coverage"]) == (True, False)
    assert "--fail-under=100" in recipes["coverage"]


@pytest.mark.parametrize("name", ["circuitbreaker", "tenacity", "pydantic", "pydantic-settings"])
def test_the_lowest_lock_holds_the_lower_bounds(name: str):
    """What `make lowest` installs is what pyproject.toml calls the lowest, to the digits that it names."""
    (required,) = [text for text in PROJECT["dependencies"] if re.match(rf"{name}[<>=]", text)]
    lowest = re.search(r">=([\d.]+)", required)[1]
    locked = re.search(rf"^{name}==([\d.]+)", (ROOT / "requirements" / "lowest.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert lowest.split(".") == locked.split(".")[: lowest.count(".") + 1]


def test_every_lock_is_written_by_make_lock_and_none_names_an_index():
    """A lock that nobody renews grows old; one that names an index is of use on one machine only."""
    assert {f"requirements/{name}.txt" for name in LOCKS} == set(re.findall(r"--output-file (requirements/\S+)", MAKEFILE))
    for name in sorted(LOCKS):
        assert "://" not in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
