"""`resilience-kit bench`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

import pytest

from resilience_kit.bench import BenchmarkSuite, PerformanceBenchmarker, read_suite, write_suite


@pytest.fixture(scope="module")
def measured() -> BenchmarkSuite:
    """A real run, of as few samples as can be compared."""
    return PerformanceBenchmarker().run_comprehensive_benchmark(10)


def slowed(suite: BenchmarkSuite, name: str, factor: float) -> BenchmarkSuite:
    """The same, with one benchmark that took longer."""
    results = [replace(each, time=each.time.divided(1 / factor)) if each.name == name else each for each in suite.results]
    return replace(suite, results=tuple(results))


class Runs(NamedTuple):
    """What the command was asked to run."""

    iterations: list[int]


@pytest.fixture
def runs(monkeypatch):
    """The command without measuring: every run gives the suite that is set."""

    def build(suite: BenchmarkSuite) -> Runs:
        made = Runs([])

        def run(self, iterations=100):
            made.iterations.append(iterations)
            return suite

        monkeypatch.setattr(PerformanceBenchmarker, "run_comprehensive_benchmark", run)
        return made

    return build


@pytest.mark.slow
def test_the_table_tells_target_and_verdict(told, runs, measured) -> None:
    """One row a benchmark, the sum, and how long tracking memory took."""
    made = runs(measured)
    code, out, err = told("bench", "--iterations", "7")
    lines = out.splitlines()
    assert (0, "", [7]) == (code, err, made.iterations)
    assert lines[0].split()[:3] == ["benchmark", "median", "p95"]
    assert [each.name for each in measured.results] == [line.split()[0] for line in lines[1 : len(measured.results) + 1]]
    assert "all targets met" in out


@pytest.mark.slow
def test_json_is_the_suite(told, runs, measured) -> None:
    """As a baseline holds it."""
    runs(measured)
    assert json.loads(measured.to_json()) == told("bench", "--json").json


def test_a_missed_target_is_exit_code_1(told, runs, measured) -> None:
    """Its name is in the sum."""
    runs(slowed(measured, "config_loading", 1e6))
    code, out, _ = told("bench")
    assert (1, True) == (code, "over their targets: config_loading" in out)


def test_a_saved_run_is_a_baseline(told, runs, measured, tmp_path) -> None:
    """The same run is no regression; a slower one is, also when it meets its target."""
    file = tmp_path / "baseline.json"
    runs(measured)
    assert 0 == told("bench", "--save", str(file)).code
    assert measured == read_suite(file)
    assert 0 == told("bench", "--baseline", str(file)).code
    runs(slowed(measured, "classification", 3))
    answer = told("bench", "--baseline", str(file), "--json")
    worse = [each["name"] for each in answer.json["regressions"]["comparisons"] if each["regressed"]]
    assert (1, ["classification"]) == (answer.code, worse)
    out = told("bench", "--baseline", str(file)).out
    told_of = "classification: time 3.00 times the baseline's, slower (median "
    assert 1 == sum(line.startswith(told_of) and "this machine takes 1.00 times as long" in line for line in out.splitlines())


@pytest.mark.slow
def test_few_samples_are_said_to_be_few(told, runs, tmp_path) -> None:
    """In place of a verdict: the run is no regression."""
    file, measured = tmp_path / "baseline.json", PerformanceBenchmarker().run_comprehensive_benchmark(1)
    write_suite(measured, file)
    runs(slowed(measured, "classification", 3))
    code, out, _ = told("bench", "--baseline", str(file))
    assert (0, True) == (code, "too few samples to judge the time of config_loading, " in out)


@pytest.mark.parametrize(("option", "name"), [("--save", "x.json"), ("--html", "x.html"), ("--history", "x")])
def test_what_cannot_be_written_names_the_path_as_given(option, name, sentence, runs, measured, monkeypatch, tmp_path) -> None:
    """Not a file of our own beside it."""
    monkeypatch.chdir(tmp_path)
    runs(measured)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", ".x.tmp")

    for where in ("tempfile.mkstemp", "pathlib.Path.write_text", "os.open"):
        monkeypatch.setattr(where, refuse)
    assert f"{option}: {name}: Permission denied" == sentence("bench", option, name)


def test_a_run_may_replace_its_own_baseline(told, runs, measured, tmp_path) -> None:
    """It is compared first."""
    file = tmp_path / "baseline.json"
    write_suite(measured, file)
    runs(slowed(measured, "classification", 3))
    assert 1 == told("bench", "--baseline", str(file), "--save", str(file)).code
    assert 0 == told("bench", "--baseline", str(file)).code


def test_a_history_tells_trends(told, runs, measured, tmp_path) -> None:
    """One line more with every run."""
    file = tmp_path / "history.jsonl"
    for factor in (1, 1.5, 2, 2.5, 3):
        runs(slowed(measured, "classification", factor))
        out = told("bench", "--history", str(file)).out
    assert 5 == len(file.read_text().splitlines())
    assert any(line.startswith("classification: slower over 5 runs") for line in out.splitlines())
    trends = {each["name"]: each["verdict"] for each in told("bench", "--history", str(file), "--json").json["trends"]["trends"]}
    assert "same" == trends["config_loading"]


def test_a_page_is_written(told, runs, measured, tmp_path) -> None:
    """With everything that the table holds."""
    file = tmp_path / "bench.html"
    runs(measured)
    assert 0 == told("bench", "--html", str(file)).code
    page = file.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert [] == [each.name for each in measured.results if each.name not in page]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--save", "nowhere/x.json"], "--save: there is no folder 'nowhere'"),
        (["--html", "nowhere/x.html"], "--html: there is no folder 'nowhere'"),
        (["--history", "nowhere/x"], "--history: there is no folder 'nowhere'"),
        (["--html", "."], "--html: '.' is a folder"),
        (["--save", "x.txt"], "--save: the name must end in .json"),
        (["--baseline", "x.json"], "x.json: must be readable: No such file or directory"),
        (["--baseline", "wrong.json"], "wrong.json.name: must be a string"),
    ],
)
def test_a_wrong_file_is_told_before_anything_is_measured(
    arguments, expected, sentence, runs, measured, monkeypatch, tmp_path
) -> None:
    """Nobody waits for a mistake."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.json").write_text('{"name": 7, "timestamp": "t", "duration": 1.0, "results": []}')
    made = runs(measured)
    assert expected == sentence("bench", *arguments)
    assert [] == made.iterations


@pytest.mark.slow
def test_the_real_thing_meets_its_targets(told) -> None:
    """Few samples, all of the way."""
    answer = told("bench", "--iterations", "2", "--json")
    assert (0, True, []) == (answer.code, answer.json["passed"], answer.json["failed_targets"])
