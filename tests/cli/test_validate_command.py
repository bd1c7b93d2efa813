"""`resilience-kit config validate`."""

from __future__ import annotations

import io
import os
import sys

import pytest

VALID = 'preset = "production"\nretry_attempts = 4\n[operations.qa]\nstrategy = "balanced"\ndeadline = 20\n'


@pytest.fixture
def written(tmp_path):
    """A file of a name and a text; its path."""

    def write(name: str, text: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def stdin(monkeypatch):
    """Something to be read from stdin."""

    def give(text: str | bytes) -> None:
        raw = io.BytesIO(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw, encoding="utf-8"))

    return give


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", VALID),
        ("a.json", '{"preset": "simple", "operations": {"qa": {"strategy": "critical"}}}'),
        ("A.TOML", 'preset = "simple"'),
    ],
)
def test_a_valid_file_is_said_to_be_so(name, text, told, written) -> None:
    """Exit code 0 and a line."""
    file = written(name, text)
    assert (0, f"{file}: valid\n", "") == told("config", "validate", file)


def test_everything_wrong_is_told_at_once(told, written) -> None:
    """Place, rule and value of each error; what to write instead; exit code 1."""
    file = written("a.toml", 'retry_atempts = 3\nbase_delay = 200\n[operations.qa]\nstrategy = "critcal"\n')
    code, out, err = told("config", "validate", file)
    assert (1, "") == (code, err)
    assert [
        f"{file}: not valid",
        f"error       {file}: base_delay: must be a number of seconds from 0.1 to 10, got 200",
        f"error       {file}: operations.qa.strategy: must be the name of a strategy; did you mean 'critical'?, got 'critcal'",
        f"error       {file}: retry_atempts: is not a setting; did you mean 'retry_attempts'?",
        f"suggestion  {file}: operations.qa.strategy: did you mean 'critical'?",
        f"suggestion  {file}: retry_atempts: did you mean 'retry_attempts'?",
    ] == sorted(out.splitlines(), key=lambda line: (line.split()[0] != f"{file}:", line))


def test_the_verdict_as_json(told, written) -> None:
    """The result's own words, and the file."""
    file = written("a.json", '{"deadline": true}')
    answer = told("config", "validate", file, "--json")
    expected = {
        "file": file,
        "is_valid": False,
        "errors": [f"{file}: deadline: must be a number of seconds from 1 to 600, got True"],
        "warnings": [],
        "suggestions": [],
    }
    assert (1, "", expected) == (answer.code, answer.err, answer.json)


def test_what_is_hardly_meant_is_a_warning(told, written) -> None:
    """For all operations over the file's own preset, and for each section over its strategy; still valid."""
    file = written(
        "a.toml", 'preset = "production"\ndeadline = 20\n[operations.qa]\nretry_attempts = 9\nstrategy = "aggressive"\n'
    )
    answer = told("config", "validate", file, "--json")
    assert (0, True, []) == (answer.code, answer.json["is_valid"], answer.json["errors"])
    first, *others = answer.json["warnings"]
    assert first.startswith("retry_attempts: the waits between them may take")
    assert {"operations.qa"} == {".".join(each.split(".")[:2]) for each in others}
    assert any("circuit_breaker_threshold: 3 is below retry_attempts 9" in each for each in others)
    assert answer.json["suggestions"][0].startswith("deadline: above")


def test_a_deadline_that_no_attempt_can_meet_is_a_warning(told, written) -> None:
    """A file may say so, since an application starts with it."""
    text = 'retry_attempts = 3\nbase_delay = 10\ndeadline = 5\njitter = "none"\nmax_delay = 10'
    answer = told("config", "validate", written("a.toml", text), "--json")
    assert 0 == answer.code
    assert answer.json["warnings"][0].startswith("deadline: must leave time for the last attempt")


def test_the_environment_has_no_say(told, written, monkeypatch) -> None:
    """Neither its wrong variables nor its right ones."""
    monkeypatch.setenv("RESILIENCE_PRESET", "wrong")
    monkeypatch.setenv("RESILIENCE_CUSTOM_CONFIG", '{"attempt_timeout": 600, "deadline": 600}')
    assert 0 == told("config", "validate", written("a.toml", "deadline = 5")).code
    assert "wrong" == os.environ["RESILIENCE_PRESET"]


@pytest.mark.parametrize("text", [VALID, '\n  {"preset": "production"}'])
def test_stdin_is_toml_or_json_by_its_first_sign(text, told, stdin) -> None:
    """A brace begins JSON."""
    stdin(text)
    assert (0, "stdin: valid\n", "") == told("config", "validate", "-")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"deadline": 0}', "stdin: deadline: must be a number of seconds from 1 to 600, got 0"),
        ("deadline = ", "stdin: must be TOML: Invalid value (at end of document)"),
        ("{", "stdin: must be JSON: Expecting property name enclosed in double quotes at line 1 column 2"),
        (b"\xff", "stdin: must be text in UTF-8"),
        (b"#" * (1024 * 1024 + 1), "stdin: must be at most 1048576 bytes long"),
        ('{"deadline": 5, "deadline": 6}', "stdin: deadline: must not be given twice"),
    ],
)
def test_errors_in_stdin_name_no_file(text, expected, told, stdin) -> None:
    """They say stdin, and not where it was put down."""
    stdin(text)
    answer = told("config", "validate", "-", "--json")
    assert (1, [expected]) == (answer.code, answer.json["errors"])


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.json", '{"retry_attempts": 3}', None),
        ("a.toml", "retry_attempts = 3", None),
        ("a.toml", 'preset = "simple"', "preset: is not a setting"),
        ("a.json", "{}", "configuration: must hold at least one setting"),
        ("a.json", '{"x": "' + "x" * 5000 + '"}', "configuration: must be at most 4096 bytes long"),
        ("a.json", b" " * (2 * 1024 * 1024), "configuration: must be at most 4096 bytes long"),
        ("a.json", '{"jitter": "fu\u200bll"}', "jitter: must hold no control, format"),
        ("a.toml", 'jitter = "fu\u200bll"', "jitter: must hold no control, format"),
        ("a.toml", "x = ", "a.toml: must be TOML: Invalid value"),
    ],
)
def test_strict_is_as_strangers_are_judged(name, text, error, told, written) -> None:
    """The validator's own limits, and settings only."""
    answer = told("config", "validate", "--strict", written(name, text), "--json")
    assert (int(error is not None), error is None) == (answer.code, answer.json["is_valid"])
    assert error is None or any(error in each for each in answer.json["errors"])


@pytest.mark.parametrize(("name", "expected"), [("no.toml", "there is no file 'no.toml'"), (".", "there is no file '.'")])
def test_what_is_no_file_is_a_mistake(name, expected, sentence, monkeypatch, tmp_path) -> None:
    """Exit code 2: nothing was judged."""
    monkeypatch.chdir(tmp_path)
    assert expected == sentence("config", "validate", name)


def test_another_kind_of_file_is_not_valid(told, written) -> None:
    """Its name says what it is read as."""
    answer = told("config", "validate", written("a.yaml", "deadline: 5"), "--json")
    assert (1, True) == (answer.code, answer.json["errors"][0].endswith("a.yaml: must be a .toml or a .json file"))
