"""`resilience-kit demo`: every mistake is one sentence on stderr and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resilience_kit.cli.app import run
from resilience_kit.cli.demo import command, traffic
from resilience_kit.cli.demo.recording import CallRecord, Recording
from resilience_kit.cli.demo.scenario import Scenario


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["demo", "--quik"], "resilience-kit: No such option"),
        (["demo", "--seed", "-1"], "resilience-kit: Invalid value for '--seed'"),
        (["demo", "--seed", "one"], "resilience-kit: Invalid value for '--seed'"),
        (["demo", "--picture", "/no/such/x.svg"], "resilience-kit: /no/such/x.svg: No such file or directory"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on stdout, one line on stderr, no traceback."""
    code = run(arguments)
    told = capsys.readouterr()
    assert (2, "", 1) == (code, told.out, told.err.count("\n"))
    assert told.err.startswith(sentence)


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` lists the options."""
    assert 0 == run(["demo", "--help"])
    assert "--quick" in capsys.readouterr().out


def recorded(scenario: Scenario) -> Recording:
    """A run of one call a side."""
    made = Recording(scenario, now=2.0)
    for side in made.sides:
        side.issued, side.calls, side.sent, side.received = 1, [CallRecord(0.5, 0.6)], [0.5], [0.5]
    return made


@pytest.fixture
def no_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command without a service and without waiting."""

    async def run_at_once(scenario: Scenario, watch: object) -> Recording:
        watch(recorded(scenario))
        return recorded(scenario)

    monkeypatch.setattr(traffic, "run", run_at_once)


@pytest.mark.usefixtures("no_traffic")
def test_json_is_alone_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program can read it; the picture is written all the same."""
    picture = tmp_path / "picture.svg"
    assert 0 == run(["demo", "--quick", "--json", "--seed", "3", "--picture", str(picture)])
    report = json.loads(capsys.readouterr().out)
    assert (3, str(picture)) == (report["seed"], report["picture"])
    assert picture.read_text(encoding="utf-8").startswith("<svg ")


@pytest.mark.usefixtures("no_traffic")
def test_without_a_terminal_it_prints_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No escape sequence, the goals, and where the picture is."""
    picture = tmp_path / "picture.svg"
    assert 0 == run(["demo", "--picture", str(picture)])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert f"timeline: {picture}\n" == out.splitlines(keepends=True)[-1]


def test_an_interrupted_demo_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is no mistake: the shell's own exit code, and no traceback."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run_visibly", interrupted)
    assert 130 == run(["demo", "--picture", str(tmp_path / "picture.svg")])
    assert "" == capsys.readouterr().err
