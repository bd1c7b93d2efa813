"""`resilience-kit config validate`."""

from __future__ import annotations

import io
import os
import socket
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("deadline = 60\n[operations.qa]\nattempt_timeout = 45", []),
        ("deadline = 10\n[operations.qa]\nattempt_timeout = 25", ["attempt_timeout: 25, cut to the deadline, which is 10"]),
        ('default_strategy = "critical"\n[operations.qa]\nretry_attempts = 9', []),
        ('preset = "critical"\n[operations.qa]\nretry_attempts = 9\nbase_delay = 8', [
            "retry_attempts: the waits between them may take 356 s, and the deadline ends a call after 300 s"
        ]),
        ('preset = "production"\n[operations.qa]\nattempt_timeout = 60', []),
        ("[operations.qa]\nmax_delay = 1", ["base_delay: 2, cut to max_delay, which is 1"]),
        ('[operations.qa]\njitter = "none"\nretry_attempts = 5\ndeadline = 20', [
            "deadline: must leave time for the last attempt, before which at least 24 s are waited, got 20"
        ]),
        ("[operations.qa]\nretry_attempts = 6", [
            "circuit_breaker_threshold: 5 is below retry_attempts 6, so one failing call opens the circuit",
            "retry_attempts: the waits between them may take 34 s, and the deadline ends a call after 30 s",
        ]),
    ],
)  # fmt: skip
def test_a_section_is_judged_over_all_that_the_file_says(text, warnings, told, written) -> None:
    """As `explain` would resolve it with this file alone; what is odd without the section is not told again."""
    answer = told("config", "validate", written("a.toml", text), "--json")
    assert (0, [f"operations.qa.{each}" for each in warnings]) == (answer.code, answer.json["warnings"])
    assert len(warnings) == len(answer.json["suggestions"])


def test_a_section_is_judged_over_the_preset_s_word_about_it(told, written) -> None:
    """The preset gives `sentiment` another strategy than the rest; the section is called as it is written."""
    file = written("a.toml", 'preset = "production"\n[operations]\nsentiment.attempt_timeout = 60\n"a b".attempt_timeout = 300\n')
    answer = told("config", "validate", file, "--json").json
    assert [
        "operations.sentiment.attempt_timeout: 60, cut to the deadline, which is 10",
        "operations['a b'].attempt_timeout: 300, cut to the deadline, which is 120",
    ] == answer["warnings"]
    assert ["operations.sentiment.deadline: give it, too", "operations['a b'].deadline: give it, too"] == answer["suggestions"]


def test_what_is_odd_everywhere_is_told_once(told, written) -> None:
    """Not again by each section."""
    answer = told("config", "validate", written("a.toml", "deadline = 5\n[operations.qa]\nrecovery_timeout = 50"), "--json")
    assert ["retry_attempts"] == [each.partition(":")[0] for each in answer.json["warnings"]]


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no.toml", "there is no file 'no.toml'"),
        ("x.toml/y.toml", "there is no file 'x.toml/y.toml'"),
        (".", "'.' is a folder"),
        ("", "the file's name is empty"),
        ("socket", "'socket' is a socket or a disk, and no file"),
        ("x" * 300, f"{'x' * 300}: File name too long"),
    ],
)
def test_what_is_no_file_is_a_mistake(name, expected, sentence, monkeypatch, tmp_path) -> None:
    """Exit code 2: nothing was judged; it says what it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text("")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        assert expected == sentence("config", "validate", name)


@pytest.mark.parametrize("text", [VALID, '{"preset": "production"}'])
def test_a_pipe_is_read_as_stdin_is(text, told) -> None:
    """As a shell's `<(...)` is one."""
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    assert (0, f"/dev/fd/{read}: valid\n", "") == told("config", "validate", f"/dev/fd/{read}")
    os.close(read)


@pytest.mark.parametrize(
    ("device", "error"), [("/dev/null", "must not be empty"), ("/dev/zero", "must be at most 1048576 bytes long")]
)
def test_a_device_is_read_as_far_as_a_file_may_go(device, error, told) -> None:
    """It may never end."""
    answer = told("config", "validate", device, "--json")
    assert (1, [f"{device}: {error}"]) == (answer.code, answer.json["errors"])


def test_a_file_without_a_name_of_its_own_is_read_as_stdin_is(told, written) -> None:
    """Given as an open file."""
    with Path(written("a.txt", VALID)).open("rb") as file:
        assert 0 == told("config", "validate", f"/dev/fd/{file.fileno()}").code


def test_a_closed_stdin_is_a_mistake(sentence, monkeypatch) -> None:
    """As `<&-` leaves it."""
    monkeypatch.setattr(sys, "stdin", None)
    assert "stdin is closed" == sentence("config", "validate", "-")


def test_another_kind_of_file_is_not_valid(told, written) -> None:
    """Its name says what it is read as."""
    answer = told("config", "validate", written("a.yaml", "deadline: 5"), "--json")
    assert (1, True) == (answer.code, answer.json["errors"][0].endswith("a.yaml: must be a .toml or a .json file"))


@pytest.mark.parametrize("text", ['{"deadline": 5}', "deadline = 5"])
def test_a_byte_order_mark_in_stdin_hides_no_brace(text, told, stdin) -> None:
    """What comes through a pipe from Windows is JSON or TOML all the same."""
    stdin("\ufeff" + text)
    assert 0 == told("config", "validate", "-").code


APP_WITH_NAMES = """
from resilience_kit import AIServiceResilience, with_resilience

@with_resilience("summarize")
def summarize(): ...

kit = AIServiceResilience()

@kit.with_resilience("translate")
def translate(): ...
"""


@pytest.fixture
def app_with_names(tmp_path, monkeypatch):
    """An application in the current folder, of a name that is imported once."""
    name = f"named_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(APP_WITH_NAMES)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_file_is_compared_with_the_operations_of_an_app(told, written, app_with_names) -> None:
    """Of its decorated functions, called or not, or of the orchestrator that it holds; a near name is a warning."""
    file = written("near.toml", '[operations.summarise]\nstrategy = "critical"\n[operations.translat]\ndeadline = 9\n')
    assert [] == told("config", "validate", file, "--json").json["warnings"]
    answer = told("config", "validate", file, "--app", app_with_names, "--json").json
    expected = "operations.summarise: the application has no operation 'summarise'; did you mean 'summarize'?"
    assert (True, [expected]) == (answer["is_valid"], answer["warnings"])
    assert ["operations.summarise: write 'summarize', if that is meant"] == answer["suggestions"]
    (other,) = told("config", "validate", file, "--app", f"{app_with_names}:kit", "--json").json["warnings"]
    assert "did you mean 'translate'?" in other


def test_strangers_know_no_app(sentence, written) -> None:
    """The two options contradict each other."""
    assert "leave out --app" in sentence("config", "validate", written("a.toml", "deadline = 5"), "--strict", "--app", "x")


def test_the_doctor_compares_names(told, app_with_names, monkeypatch) -> None:
    """With those of presets and of the file, or of an application."""
    monkeypatch.setenv("RESILIENCE_OPERATION_SUMARIZE", "critical")
    monkeypatch.setenv("RESILIENCE_OPERATION_TRANSLAT", "critical")
    for options, expected in (
        ([], {"RESILIENCE_OPERATION_SUMARIZE": "summarize"}),
        (["--app", app_with_names], {"RESILIENCE_OPERATION_SUMARIZE": "summarize"}),
        (["--app", f"{app_with_names}:kit"], {"RESILIENCE_OPERATION_TRANSLAT": "translate"}),
    ):
        found = {each["subject"]: each for each in told("doctor", "--json", *options).json["findings"]}
        near = {name: each for name, each in found.items() if "did you mean" in each["text"]}
        assert expected == {name: each["text"].rpartition(" ")[2].strip("'?") for name, each in near.items()}
        assert {"info"} == {each["severity"] for each in near.values()}


def test_the_doctor_compares_variables_with_the_file(told, tmp_path, monkeypatch) -> None:
    """An operation that the file names is one."""
    file = tmp_path / "a.toml"
    file.write_text('[operations.moderation]\nstrategy = "critical"\n')
    monkeypatch.setenv("RESILIENCE_CONFIG_FILE", str(file))
    monkeypatch.setenv("RESILIENCE_OPERATION_MODERATON", "critical")
    found = [each["text"] for each in told("doctor", "--json").json["findings"] if "did you mean" in each["text"]]
    assert ["names the operation 'moderaton'; did you mean 'moderation'?"] == found
