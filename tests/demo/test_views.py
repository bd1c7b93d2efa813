"""What the demo prints: plain lines without a terminal, tables in one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from resilience_kit.cli.demo.recording import BreakerTransition, CallRecord, Recording
from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.cli.demo.terminal_view import TerminalView, live_view
from resilience_kit.cli.demo.text_view import TextView, explanation, narrative, progress, report_lines


def recording() -> Recording:
    """A small run: the plain client fails in the outage, the kit does not."""
    made = Recording(Scenario(duration=12.0, rate=10.0), now=4.0, max_lag=0.012)
    for side in made.sides:
        side.issued = 90
        side.sent = side.received = [at / 10 for at in range(90)]
    made.unprotected.calls = [CallRecord(at / 10, at / 10 + 0.02, "HTTP 503" if 30 <= at < 60 else None) for at in range(90)]
    made.sdk.calls = [CallRecord(at / 10, at / 10 + 0.5, "HTTP 503" if 30 <= at < 55 else None) for at in range(90)]
    made.protected.calls = [CallRecord(at / 10, at / 10 + (3.5 if 31 <= at < 60 else 0.02)) for at in range(90)]
    made.protected.sent = [at / 10 for at in range(90) if not 31 <= at < 60]
    made.protected.transitions = [
        BreakerTransition(3.1, "open"),
        BreakerTransition(6.0, "half_open"),
        BreakerTransition(6.1, "closed"),
    ]
    made.protected.retries = 5
    return made


def test_progress_is_one_line_with_all_clients() -> None:
    """Time, phase, what each client has reached, and who waits; at its longest it fits a terminal of 80 columns."""
    assert " 4 s outage: 503      plain  66.7%  SDK  72.2%  kit 100.0%, 0 wait, closed" == progress(recording())
    longest = recording()
    longest.now, longest.protected.issued = 5.9, 1089
    for side in longest.sides:
        side.calls = [CallRecord(0.0, 1.0)]
    longest.protected.transitions.append(BreakerTransition(5.8, "half_open"))
    assert "half_open" in progress(longest)
    assert len(progress(longest)) <= 80


def test_lines_come_once_a_second() -> None:
    """Four looks a second, one line."""
    told: list[str] = []
    with TextView(told.append) as view:
        for now in (0.0, 0.9, 1.0, 1.25, 1.9, 2.1):
            made = recording()
            made.now = now
            view.show(made)
    assert [" 1 s", " 2 s"] == [line[:4] for line in told]


def test_the_plain_report_fits_a_page_and_ends_with_the_goals() -> None:
    """All goals stand last, with what was measured."""
    lines = list(report_lines(recording()))
    assert max(len(line) for line in lines) <= 80
    assert [
        "[ok]   outside the outage 100.000% of protected calls answered (goal: 99.9%)",
        "[ok]   in the outage 3.33% of the plain client's attempts sent (goal: 5%)",
        "[ok]   after the outage at most 1.00 times the normal rate sent (goal: 2)",
    ] == lines[-3:]


def test_a_missed_goal_says_so() -> None:
    """Nothing is rounded away."""
    made = recording()
    made.protected.calls[0] = CallRecord(0.0, 1.0, "HTTP 500")
    assert "[MISS] outside the outage 98.333% of protected calls answered (goal: 99.9%)" in list(report_lines(made))


def test_the_story_tells_errors_and_moves() -> None:
    """What users saw, when the breaker opened and closed, and how well the load kept its pace."""
    assert [
        "errors seen by users of plain client: 30 x HTTP 503",
        "errors seen by users of SDK, 2 retries: 25 x HTTP 503",
        "errors seen by users of resilience_kit: none",
        "breaker: opened at 3.10 s, 1 times in all counting failed trials, closed for good at 6.10 s",
        *explanation(recording()),
        "the latest call was issued 12 ms behind its time",
    ] == narrative(recording())


def test_the_explanation_says_why_calls_waited_and_what_came_after() -> None:
    """How many waited, for what, how the recovery was held back, and how each client met the service that was back."""
    told = " ".join(explanation(recording()))
    assert "29 protected calls waited more than 1 s, the longest 3.5 s, instead of failing" in told
    assert "rate limit of 1.6 times the normal 10 calls a second" in told
    assert "until 3.4 s after the outage" in told
    assert "plain client 1.00, SDK, 2 retries 1.00, resilience_kit 1.00" in told


def test_nothing_is_explained_when_nobody_waited() -> None:
    """Without a wait there is no sentence about waits."""
    assert [] == explanation(Recording(Scenario()))


def test_a_breaker_that_stays_open_and_a_busy_machine_are_told() -> None:
    """Neither is hidden."""
    made = recording()
    made.protected.transitions, made.max_lag = [BreakerTransition(3.1, "open")], 0.5
    assert [
        "breaker: opened at 3.10 s, 1 times in all counting failed trials, was open at the end",
        "the latest call was issued 500 ms behind its time: this machine was too busy, so the figures say little",
    ] == [line for line in narrative(made)[3:] if line not in explanation(made)]


def test_a_breaker_that_never_opened_is_not_mentioned() -> None:
    """No line about it."""
    made = recording()
    made.protected.transitions = []
    assert not [line for line in narrative(made) if line.startswith("breaker")]


@pytest.mark.parametrize("now", [4.0, 12.0])
@pytest.mark.parametrize("width", [40, 80])
def test_the_progress_bar_ends_its_line(now: float, width: int) -> None:
    """What follows the bar begins on a line of its own, also at 100 %, and in a narrow terminal, where the bar is shorter."""
    made = recording()
    made.now = now
    output = io.StringIO()
    Console(file=output, force_terminal=True, width=width, height=60, color_system=None).print(live_view(made))
    (bar,) = [
        line for line in output.getvalue().splitlines() if "━" in line and "┃" not in line and "┏" not in line and "┡" not in line
    ]
    assert set("━╸╺ ") >= set(bar)
    assert len(bar) <= width


def test_the_screen_shows_a_live_table_and_then_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure that the table names is drawn while it runs; the report stays."""
    monkeypatch.setenv("TERM", "xterm")  # on a dumb terminal nothing is drawn
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, height=60)
    with TerminalView(console) as view:
        view.show(recording())
    live = output.getvalue()
    for word in ("requests", "success rate", "p95 latency", "retries", "breaker", "upstream calls", "outage: 503", "66.67%"):
        assert word in live
    view.finish(recording())
    final = Text.from_ansi(output.getvalue().removeprefix(live)).plain
    for word in ("outside outage", "in the outage", "sent upstream", "[ok]", "opened at 3.10 s", "100.00%"):
        assert word in final
