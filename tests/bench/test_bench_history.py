"""Runs on disk: read back as they were; what is broken is told and costs nothing else."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_kit.bench import (
    BenchmarkResult,
    BenchmarkSuite,
    History,
    PerformanceBenchmarker,
    read_suite,
    write_suite,
)
from resilience_kit.bench.compare import history
from resilience_kit.errors import ConfigurationError


@pytest.fixture
def file(tmp_path):
    """Where the history will be."""
    return tmp_path / "history.jsonl"


def test_a_suite_is_read_back_as_it_was(tmp_path):
    """Every number, the memory, the target, the warnings."""
    bench = PerformanceBenchmarker()
    bench.measure_performance("a", lambda: bytearray(10), 5, target=1.0)
    suite = bench.to_suite("mine")
    write_suite(suite, tmp_path / "s.json")
    assert suite == read_suite(tmp_path / "s.json")
    assert suite == BenchmarkSuite.from_dict(json.loads(suite.to_json()))
    assert suite.results[0] == BenchmarkResult.from_dict(suite.results[0].to_dict())
    assert ["s.json"] == [each.name for each in tmp_path.iterdir()]


def test_runs_are_appended(file, result, suite):
    """The oldest first; nobody else may read the file."""
    for number in range(3):
        History(file).append(suite(result(median=float(number))))
    past = History(file).read()
    assert ([0.0, 1.0, 2.0], ()) == ([each["a"].time.median for each in past.suites], past.problems)
    assert 0o600 == file.stat().st_mode & 0o777


def test_no_file_is_an_empty_history(file):
    """The first run of all."""
    assert ((), ()) == (History(file).read().suites, History(file).read().problems)


def test_old_runs_are_dropped(file, result, suite):
    """Ten are kept; the file is written anew when there are a quarter too many."""
    for number in range(40):
        History(file, limit=10).append(suite(result(median=float(number))))
        assert len(file.read_bytes().splitlines()) <= 12
    assert [float(number) for number in range(30, 40)] == [s["a"].time.median for s in History(file, limit=10).read().suites]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"[]", "must be an object"),
        (b"7", "must be an object"),
        (b"{}", "line 2.name: is missing"),
        (b'{"name": null}', "line 2.name: must be a string"),
        (b'{"name": "a", "timestamp": "t", "duration": NaN}', "line 2.duration: must be a finite number"),
        (b"[" * 100_000, "must"),
        (b'{"name": "a", "timestamp": "t", "duration": 1e999}', "line 2.duration: must be a finite number"),
        (b'{"name": "a", "timestamp": "t", "duration": 1' + b"0" * 4000 + b"}", "line 2.duration: must be a finite number"),
        (b"1" * 5000, "must be JSON"),
        (b"x" * 40_000_000, "at most 16777216 bytes"),
    ],
)
def test_a_broken_line_is_told_and_left_out(file, result, suite, line, told):
    """The runs around it are there."""
    History(file).append(suite(result()))
    with file.open("ab") as opened:
        opened.write(line + b"\n\n")
    History(file).append(suite(result()))
    past = History(file).read()
    assert (2, 1) == (len(past.suites), len(past.problems))
    assert "line 2" in past.problems[0]
    assert told in past.problems[0]


def test_half_a_line_does_not_spoil_the_next_one(file, result, suite):
    """A process was killed while it wrote."""
    History(file).append(suite(result()))
    file.write_bytes(file.read_bytes()[:-20])
    History(file).append(suite(result(median=2.0)))
    past = History(file).read()
    assert ([2.0], 1) == ([each["a"].time.median for each in past.suites], len(past.problems))


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("results",), {}, "results: must be an array"),
        (("results",), ["a"], "results[0]: must be an object"),
        (("results", 0, "name"), None, "results[0].name: must be a string"),
        (("results", 0, "iterations"), True, "results[0].iterations: must be a whole number"),
        (("results", 0, "time"), None, "results[0].time: must be an object"),
        (("results", 0, "time", "mean"), -1, "results[0].time.mean: must be a finite number of at least 0"),
        (("results", 0, "time", "exact"), 1, "results[0].time.exact: must be true or false"),
        (("results", 0, "distribution"), [7], "results[0].distribution[0]: must be an array"),
        (("results", 0, "distribution"), [[1.0]], "results[0].distribution[0][1]: is missing"),
        (("results", 0, "memory"), [], "results[0].memory: must be an object"),
        (("results", 0, "target"), "1", "results[0].target: must be a finite number"),
        (("results", 0, "warnings"), [1], "results[0].warnings[0]: must be a string"),
        (("environment",), {"python": 3}, "environment.python: must be a string"),
    ],
)
def test_what_is_wrong_is_named(result, suite, where, value, told):
    """The place and the rule."""
    document = suite(result()).to_dict()
    part = document
    for step in where[:-1]:
        part = part[step]
    part[where[-1]] = value
    with pytest.raises(ConfigurationError) as raised:
        BenchmarkSuite.from_dict(json.loads(json.dumps(document)))
    assert told in str(raised.value)


def test_everything_wrong_is_reported_at_once(result, suite):
    """A document with two wrong fields raises one error that names both, and repeats neither value."""
    document = {**suite(result()).to_dict(), "name": 7, "duration": "secret"}
    with pytest.raises(ConfigurationError) as raised:
        BenchmarkSuite.from_dict(document, "file.json")
    assert "file.json.name: must be a string; file.json.duration: must be a finite number" == str(raised.value)


def test_any_mapping_is_read(result):
    """`from_dict` takes a read-only mapping, too."""
    assert result() == BenchmarkResult.from_dict(MappingProxyType(result().to_dict()))


@given(st.binary(max_size=200))
def test_any_bytes_are_runs_or_problems(tmp_path_factory, data):
    """Never another exception (invariant 72)."""
    file = tmp_path_factory.mktemp("h") / "h.jsonl"
    file.write_bytes(data)
    assert () == History(file).read().suites


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path, result, suite):
    """The temporary file goes away with the error."""
    (tmp_path / "s.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_suite(suite(result()), tmp_path / "s.json")
    assert ["s.json"] == [each.name for each in tmp_path.iterdir()]


def test_a_limit_is_a_number(file):
    """At least one run."""
    with pytest.raises(ConfigurationError, match=r"History.limit: must be a whole number of at least 1"):
        History(file, limit=0)


def test_a_line_of_any_length_takes_little_memory(file):
    """What is beyond the first 16 MiB is not kept."""
    file.write_bytes(b"x" * 40_000_000)
    with file.open("rb") as opened:
        assert [16 * 1024 * 1024 + 1] == [len(line) for line in history._lines(opened)]
