"""The demo without a terminal: one plain line a second, and the report as plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from resilience_kit.cli.demo.figures import GOAL_OUTSIDE, GOAL_UPSTREAM, OUTAGE, Figures, errors, figures, goals, percentile
from resilience_kit.cli.demo.recording import Recording, Side
from resilience_kit.cli.demo.scenario import Phase
from resilience_kit.cli.demo.timeline import sparklines

SPARK_WIDTH = 48
COLUMNS = (("answered", 8), ("p95 ms", 6), ("sent", 5), ("recvd", 5))
TOO_LATE = 0.3


class LineView:
    """Prints progress through `tell`, a line for each full second."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell, self._told = tell, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to take down."""

    def show(self, recording: Recording) -> None:
        """Say where things stand, once a second."""
        if int(recording.now) > self._told:
            self._told = int(recording.now)
            self._tell(progress(recording))

    def finish(self, recording: Recording) -> None:
        """Print the report."""
        for line in report_lines(recording):
            self._tell(line)


def progress(recording: Recording) -> str:
    """Both clients so far, in one line."""
    plain, kit = (_so_far(side) for side in recording.sides)
    phase = recording.scenario.phase(recording.now).value
    side = recording.kit
    return f"{recording.now:3.0f} s {phase:15} | plain {plain} | kit {kit}, {side.retries} retries, breaker {side.state}"


def _so_far(side: Side) -> str:
    calls, rate, p95 = standing(side)
    return f"{rate:6.1%} of {calls} answered, p95 {p95:.0f} ms, {len(side.sent)} sent"


def standing(side: Side) -> tuple[int, float, float]:
    """Calls that have ended, the share of them that was answered, and their p95 in milliseconds."""
    answered = sum(call.error is None for call in side.calls)
    latency = percentile((call.latency for call in side.calls), 0.95)
    return len(side.calls), answered / len(side.calls) if side.calls else 1.0, latency * 1e3


def rows(recording: Recording) -> Iterator[tuple[str, Figures, Figures]]:
    """The report's rows: each phase, then outside, during and in total, with both sides' figures."""
    stretches: list[tuple[str, frozenset[Phase]]] = [(phase.value, frozenset({phase})) for phase in Phase]
    stretches += [("outside outage", frozenset(Phase) - OUTAGE), ("in the outage", OUTAGE), ("in total", frozenset(Phase))]
    for name, phases in stretches:
        plain, kit = (figures(side, recording.scenario, phases) for side in recording.sides)
        yield name, plain, kit


def verdict(recording: Recording) -> list[str]:
    """The two goals with what was measured."""
    goal = goals(recording)
    outside = f"outside the outage {goal.outside:.3%} of protected calls answered (goal: {GOAL_OUTSIDE:.1%})"
    upstream = f"in the outage {goal.upstream:.2%} of the plain client's attempts sent (goal: {GOAL_UPSTREAM:.0%})"
    return [f"{_mark(goal.outside >= GOAL_OUTSIDE)} {outside}", f"{_mark(goal.upstream <= GOAL_UPSTREAM)} {upstream}"]


def story(recording: Recording) -> list[str]:
    """What users saw as errors, and how the breaker moved."""
    lines = []
    for side in recording.sides:
        seen = ", ".join(f"{count} x {name}" for name, count in errors(side.calls).items())
        lines.append(f"errors that users of the {side.name} saw: {seen or 'none'}")
    moves = [move for move in recording.kit.moves if move.state in {"open", "closed"}]
    opened, closed = ([move.at for move in moves if move.state == state] for state in ("open", "closed"))
    if opened:
        last = f"closed for good at {closed[-1]:.2f} s" if closed and closed[-1] > opened[-1] else "was open at the end"
        lines.append(f"breaker: opened at {opened[0]:.2f} s, {len(opened)} times in all counting failed trials, {last}")
    lines.append(f"the latest call was issued {recording.late * 1e3:.0f} ms behind its time{_doubt(recording)}")
    return lines


def _doubt(recording: Recording) -> str:
    return ": this machine was too busy, so the figures say little" if recording.late > TOO_LATE else ""


def report_lines(recording: Recording) -> Iterator[str]:
    """The report in plain text, 80 columns wide but for the story."""
    head = " ".join(f"{name:>{width}}" for name, width in COLUMNS)
    yield ""
    yield f"{'':22}" + " | ".join(f"{side.name:^{len(head)}}" for side in recording.sides).rstrip()
    yield f"{'issued in':15} {'calls':>5} {head} | {head}"
    for name, plain, kit in rows(recording):
        yield f"{name:15} {plain.calls:5} {_row(plain)} | {_row(kit)}"
    yield ""
    for label, line in sparklines(recording, SPARK_WIDTH):
        yield f"{label:30} {line}"
    yield ""
    yield from story(recording)
    yield from verdict(recording)


def _row(entry: Figures) -> str:
    cells = f"{entry.success_rate:.2%}", f"{entry.p95_ms:.0f}", f"{entry.sent}", f"{entry.received}"
    return " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def _mark(reached: bool) -> str:
    return "[ok]  " if reached else "[MISS]"
