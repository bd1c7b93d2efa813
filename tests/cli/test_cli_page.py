"""docs/reference/cli.md: what its sessions show is what the commands print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience_kit.cli.app import run

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "cli.md"
SESSION = re.compile(r"^```console\n(?P<lines>(?:.*\n)*?)^```$", re.MULTILINE)
OF_CONFIG = ("show", "explain", "validate", "schema", "templates", "diff")
OF_JOBS = ("worker", "serve", "sweep", "list", "retry", "demo")
COMMANDS = [
    "demo",
    "doctor",
    "presets",
    "bench",
    *(f"config {each}" for each in OF_CONFIG),
    *(f"jobs {each}" for each in OF_JOBS),
]
NAMED = re.compile(r"^(?:\| )?`resilience-kit ((?:config |jobs )?[a-z]+)", re.MULTILINE)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Each command of the sessions with what is shown to come out."""
    for session in SESSION.finditer(page):
        for step in re.split(r"^\$ ", session["lines"], flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


class Shell:
    """Knows `export`, `unset`, `echo $?`, `cat FILE` (whose output becomes the file), and our own command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys, self._code = monkeypatch, capsys, 0

    def do(self, command: str, printed: str) -> str:
        """What comes out."""
        program, *arguments = shlex.split(command)
        match program:
            case "export":
                name, _, value = arguments[0].partition("=")
                self._monkeypatch.setenv(name, value)
            case "unset":
                self._monkeypatch.delenv(arguments[0])
            case "cat":
                Path(arguments[0]).write_text(printed)
                return printed
            case "echo":
                return f"{self._code}\n"
            case "resilience-kit":
                self._code = run(arguments)
            case _:
                raise AssertionError(command)
        return "".join(self._capsys.readouterr())


def test_the_sessions_of_the_page_are_true(monkeypatch, capsys, tmp_path) -> None:
    """From top to bottom, as one session."""
    monkeypatch.chdir(tmp_path)
    shell = Shell(monkeypatch, capsys)
    count = 0
    for command, printed in steps(PAGE.read_text(encoding="utf-8")):
        assert printed == shell.do(command, printed), command
        count += command.startswith("resilience-kit")
    assert count > 5


def test_the_page_names_every_command() -> None:
    """In its table."""
    assert sorted(COMMANDS) == sorted({*NAMED.findall(PAGE.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_names_every_option(command, told) -> None:
    """As `--help` does."""
    page = PAGE.read_text(encoding="utf-8")
    options = {*re.findall(r"--[a-z-]+", told(*command.split(), "--help").out)} - {"--help"}
    assert [] == [option for option in sorted(options) if f"`{option}" not in page]
