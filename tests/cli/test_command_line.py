"""The command line as a whole: mistakes, exit codes, help, missing libraries, colours."""

from __future__ import annotations

import importlib
import io
import os
import sys
from importlib.metadata import version

import pytest

from resilience_kit import cli
from resilience_kit._version import install_command
from resilience_kit.cli import app

COMMANDS = [
    ["demo"],
    ["doctor"],
    ["presets"],
    ["bench"],
    ["config", "show"],
    ["config", "explain"],
    ["config", "validate"],
    ["config", "schema"],
    ["config", "templates"],
    ["config", "diff"],
]
ANSWERS = [
    ["doctor"],
    ["presets"],
    ["config", "show"],
    ["config", "explain", "qa"],
    ["config", "schema"],
    ["config", "templates"],
    ["config", "templates", "low_latency"],
    ["config", "diff", "simple", "production"],
]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Missing command."),
        (["demmo"], "No such command 'demmo'."),
        (["config"], "Missing command."),
        (["config", "shwo"], "No such command 'shwo'."),
        (["config", "explain"], "Missing argument 'operation'"),
        (["presets", "extra"], "Got unexpected extra argument"),
        (["doctor", "--jsn"], "No such option"),
        (["bench", "--iterations", "0"], "Invalid value for '--iterations'"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, expected, sentence) -> None:
    """Nothing on stdout, one line on stderr, exit code 2, no traceback; it names the help of the command."""
    said = sentence(*arguments).replace("'OPERATION'", "'operation'")
    command = " ".join(["resilience-kit", *arguments[: 2 if arguments[:2] == ["config", "explain"] else 1]])
    command = command if arguments != ["demmo"] else "resilience-kit"
    assert (True, True) == (said.startswith(expected), said.endswith(f" See '{command} --help'."))


@pytest.mark.parametrize("variable", ["RESILIENCE_PRESET", "RESILIENCE_CUSTOM_CONFIG", "RESILIENCE_OPERATION_QA"])
@pytest.mark.parametrize("arguments", [["config", "show"], ["config", "explain", "qa"], ["bench", "--iterations", "1"]])
def test_a_wrong_environment_is_one_sentence(arguments, variable, sentence, monkeypatch) -> None:
    """It names the variable."""
    monkeypatch.setenv(variable, "wrong")
    assert sentence(*arguments).startswith(f"{variable}: must be ")


def test_a_sentence_holds_nothing_that_a_terminal_obeys(sentence) -> None:
    """Control signs of a file's name are escaped."""
    assert r"there is no file '\x1b[31m.toml'" == sentence("config", "validate", "\x1b[31m.toml")


def test_the_version_is_the_distributions(told) -> None:
    """`--version` names the distribution, not the import name."""
    assert (0, f"ai-resilience-kit {version('ai-resilience-kit')}\n", "") == told("--version")


@pytest.mark.parametrize("arguments", [[], ["config"]])
def test_help_tells_the_exit_codes(arguments, told) -> None:
    """All four stand in the help of both groups."""
    code, out, err = told(*arguments, "--help")
    words = " ".join(out.split())
    assert (0, "") == (code, err)
    assert app.EXIT_CODES in words


@pytest.mark.parametrize("arguments", [[], ["config"], *COMMANDS], ids=" ".join)
def test_help_has_a_short_name(arguments, told) -> None:
    """`-h` is `--help`."""
    assert told(*arguments, "--help") == told(*arguments, "-h")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_has_json(arguments, told) -> None:
    """And a help that says so."""
    code, out, err = told(*arguments, "--help")
    assert (0, "", True) == (code, err, "--json" in out)


@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_json_is_alone_on_stdout(arguments, told) -> None:
    """One document, ASCII only, so that no encoding can spoil it."""
    answer = told(*arguments, "--json")
    assert answer.json
    assert (0, "", True) == (answer.code, answer.err, answer.out.isascii())


@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_without_a_terminal_there_are_no_colours(arguments, told, monkeypatch) -> None:
    """No escape, no blanks at a line's end, whatever FORCE_COLOR says."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, err = told(*arguments)
    assert (0, "", False) == (code, err, "\x1b" in out)
    assert [] == [line for line in out.splitlines() if line != line.rstrip()]


class Terminal(io.StringIO):
    """A stdout that people look at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_it_wants_none(no_color, coloured, monkeypatch) -> None:
    """NO_COLOR takes bold type away, too."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    assert 0 == app.run(["doctor"])
    assert ("nothing needs attention" in terminal.getvalue(), coloured) == (True, "\x1b[" in terminal.getvalue())


@pytest.mark.parametrize("width", [20, 80, *(pytest.param(width, marks=pytest.mark.slow) for width in (60, 100, 160))])
@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_no_word_is_split_for_a_table(arguments, width, told, monkeypatch) -> None:
    """On a terminal of any width that has room for the words."""
    words = {*told(*arguments).out.split()}
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    assert 0 == app.run(arguments)
    shown = {*terminal.getvalue().replace(";", " ").replace(":", " ").split()}
    names = {word for word in words if "_" in word and word.strip("()").replace("_", "").isalnum() and len(word) < width - 4}
    assert set() == {name for name in names if name not in shown}


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("typer", []), ("rich", ["presets"]), ("packaging", ["doctor"]), ("httpx", ["demo"])],
)
def test_a_missing_library_names_its_extra(missing, arguments, monkeypatch, capsys) -> None:
    """Without an extra the command says what to install."""
    ours = ("resilience_kit.cli.", "resilience_kit.testing")
    for name in [name for name in sys.modules if name.startswith(ours) or name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(sys, "argv", ["resilience-kit", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert 2 == ended.value.code
    expected = f"resilience-kit: {missing} is missing; {install_command(cli.REQUIRED_EXTRAS[missing])}\n"
    assert ("", expected) == capsys.readouterr()


def test_another_missing_module_is_a_defect_and_is_shown(monkeypatch) -> None:
    """Only what the extras bring is excused."""
    monkeypatch.setitem(sys.modules, "resilience_kit.cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_main_runs_the_arguments_of_the_process(monkeypatch) -> None:
    """The console script's entry point ends with the command's code."""
    monkeypatch.setattr(sys, "argv", ["resilience-kit", "config", "diff", "simple", "simples"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert 2 == ended.value.code


@pytest.mark.parametrize(("module", "function"), [("app", "run"), ("presets", "show_presets")])
def test_ctrl_c_is_no_mistake(module, function, monkeypatch, capsys) -> None:
    """The shell's own exit code, and no traceback."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(f"resilience_kit.cli.{module}"), function, interrupted)
    monkeypatch.setattr(sys, "argv", ["resilience-kit", "presets"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (130, ("", "")) == (ended.value.code, capsys.readouterr())


def test_a_sign_that_the_terminal_does_not_know_is_written_as_its_number(monkeypatch, capsys) -> None:
    """An ASCII stdout is no reason for a traceback."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["resilience-kit", "config", "explain", "größe"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (0, True) == (ended.value.code, raw.getvalue().startswith(rb"gr\xf6\xdfe"))


def test_whoever_stops_reading_ends_the_command_quietly(monkeypatch, capsys) -> None:
    """A closed pipe is exit code 1 without a word."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "argv", ["resilience-kit", "config", "schema"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)
    assert (1, "") == (ended.value.code, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "code"), [(["config", "show"], 1), (["config", "diff", "simple", "simples"], 2), (["--help"], 1)]
)
def test_a_closed_stdout_is_nobody_who_reads(arguments, code, monkeypatch) -> None:
    """As `>&-` leaves it, stderr too: no traceback, and the codes of the page."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "argv", ["resilience-kit", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    sys.stdout.close()
    sys.stderr.close()
    assert code == ended.value.code


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (OSError("odd"), "odd"),
        (OSError(), "OSError"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(error, expected, sentence, monkeypatch) -> None:
    """The path first, where there is one; no number of an error."""

    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr("resilience_kit.cli.presets.show_presets", refuse)
    assert expected == sentence("presets")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("resilience-kit conf", ["config"]),
        ("resilience-kit config ex", ["explain"]),
        ("resilience-kit config explain qa --strategy c", ["conservative", "critical"]),
        ("resilience-kit config explain qa --live b", ["balanced"]),
        ("resilience-kit config explain s", ["sentiment", "summarize"]),
        ("resilience-kit config templates low", ["low_latency"]),
        ("resilience-kit config diff pro", ["production"]),
        ("resilience-kit config diff simple robust", ["robust_production"]),
    ],
)
def test_the_shell_completes_names(words, expected, monkeypatch, capsys) -> None:
    """Commands, strategies, operations, templates, and all that can be compared."""
    monkeypatch.setenv("RESILIENCE_PRESET", "production")
    monkeypatch.setenv("_RESILIENCE_KIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    monkeypatch.setattr(sys, "argv", ["resilience-kit"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (0, expected, "") == (ended.value.code, out.split(), err)


def test_a_wrong_environment_completes_to_nothing(monkeypatch, capsys) -> None:
    """No sentence in the middle of somebody's typing."""
    monkeypatch.setenv("RESILIENCE_PRESET", "wrong")
    monkeypatch.setenv("_RESILIENCE_KIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "resilience-kit config explain ")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit) as ended:
        app.run([])
    assert (0, ("\n", "")) == (ended.value.code, capsys.readouterr())
