"""What the demo prints: plain lines without a terminal, tables in one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from resilience_kit.cli.demo.lines import LineView, progress, report_lines, story
from resilience_kit.cli.demo.recording import CallRecord, Move, Recording
from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.cli.demo.screen import ScreenView


def recording() -> Recording:
    """A small run: the plain client fails in the outage, the kit does not."""
    made = Recording(Scenario(duration=9.0), now=4.0, late=0.012)
    for side in made.sides:
        side.issued = 90
        side.sent = side.received = [at / 10 for at in range(90)]
    made.plain.calls = [CallRecord(at / 10, at / 10 + 0.02, "HTTP 503" if 30 <= at < 60 else None) for at in range(90)]
    made.kit.calls = [CallRecord(at / 10, at / 10 + 0.02) for at in range(90)]
    made.kit.sent = [at / 10 for at in range(90) if not 31 <= at < 60]
    made.kit.moves = [Move(3.1, "open"), Move(6.0, "half_open"), Move(6.1, "closed")]
    made.kit.retries = 5
    return made


def test_progress_is_one_line_with_both_clients() -> None:
    """Time, phase, and what each client has reached."""
    assert (
        "  4 s outage: 503     | plain  66.7% of 90 answered, p95 20 ms, 90 sent"
        " | kit 100.0% of 90 answered, p95 20 ms, 61 sent, 5 retries, breaker closed"
    ) == progress(recording())


def test_lines_come_once_a_second() -> None:
    """Four looks a second, one line."""
    told: list[str] = []
    with LineView(told.append) as view:
        for now in (0.0, 0.9, 1.0, 1.25, 1.9, 2.1):
            made = recording()
            made.now = now
            view.show(made)
    assert ["  1 s", "  2 s"] == [line[:5] for line in told]


def test_the_plain_report_fits_a_page_and_ends_with_the_goals() -> None:
    """Both goals stand last, with what was measured."""
    lines = list(report_lines(recording()))
    assert max(len(line) for line in lines if line not in story(recording())) <= 80
    assert [
        "[ok]   outside the outage 100.000% of protected calls answered (goal: 99.9%)",
        "[ok]   in the outage 3.33% of the plain client's attempts sent (goal: 5%)",
    ] == lines[-2:]


def test_a_missed_goal_says_so() -> None:
    """Nothing is rounded away."""
    made = recording()
    made.kit.calls[0] = CallRecord(0.0, 1.0, "HTTP 500")
    assert "[MISS] outside the outage 98.333% of protected calls answered (goal: 99.9%)" in list(report_lines(made))


def test_the_story_tells_errors_and_moves() -> None:
    """What users saw, when the breaker opened and closed, and how well the load kept its pace."""
    assert [
        "errors that users of the plain client saw: 30 x HTTP 503",
        "errors that users of the resilience_kit saw: none",
        "breaker: opened at 3.10 s, 1 times in all counting failed trials, closed for good at 6.10 s",
        "the latest call was issued 12 ms behind its time",
    ] == story(recording())


def test_a_breaker_that_stays_open_and_a_busy_machine_are_told() -> None:
    """Neither is hidden."""
    made = recording()
    made.kit.moves, made.late = [Move(3.1, "open")], 0.5
    assert [
        "breaker: opened at 3.10 s, 1 times in all counting failed trials, was open at the end",
        "the latest call was issued 500 ms behind its time: this machine was too busy, so the figures say little",
    ] == story(made)[2:]


def test_a_breaker_that_never_opened_is_not_mentioned() -> None:
    """No line about it."""
    made = recording()
    made.kit.moves = []
    assert not [line for line in story(made) if line.startswith("breaker")]


def test_the_screen_shows_a_live_table_and_then_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure that the table names is drawn while it runs; the report stays."""
    monkeypatch.setenv("TERM", "xterm")  # on a dumb terminal nothing is drawn
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, height=60)
    with ScreenView(console) as view:
        view.show(recording())
    live = output.getvalue()
    for word in ("requests", "success rate", "p95 latency", "retries", "breaker", "upstream calls", "outage: 503", "66.67%"):
        assert word in live
    view.finish(recording())
    final = Text.from_ansi(output.getvalue().removeprefix(live)).plain
    for word in ("outside outage", "in the outage", "sent upstream", "[ok]", "opened at 3.10 s", "100.00%"):
        assert word in final
