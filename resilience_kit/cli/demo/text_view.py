"""The demo without a terminal: one plain line a second, and the report as plain lines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Self

from resilience_kit.cli.demo.recording import Recording, Side
from resilience_kit.cli.demo.run_statistics import (
    GOAL_BURST,
    GOAL_OUTSIDE,
    GOAL_UPSTREAM,
    OUTAGE,
    SLOW_CALL_THRESHOLD,
    ClientStatistics,
    burst,
    client_statistics,
    errors,
    goals,
    percentile,
    slow_calls,
)
from resilience_kit.cli.demo.scenario import MAX_RATE_FACTOR, Phase
from resilience_kit.cli.demo.timeline import sparklines

PAGE = 80
SPARK_WIDTH = 48
COLUMNS = (("answered", 9), ("p95 ms", 8), ("sent", 7), ("received", 9))
LANE_WIDTH = 16
SHORT_NAMES = ("plain", "SDK", "kit")
MAX_LAG = 0.3


class TextView:
    """Prints progress through `write`, a line for each full second."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._last_second = write, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no display to close."""

    def show(self, recording: Recording) -> None:
        """Print the progress, once a second."""
        if int(recording.now) > self._last_second:
            self._last_second = int(recording.now)
            self._write(progress(recording))

    def finish(self, recording: Recording) -> None:
        """Print the report."""
        for line in report_lines(recording):
            self._write(line)


def progress(recording: Recording) -> str:
    """Format the progress of all clients in one line of at most 80 columns."""
    phase = recording.scenario.phase(recording.now).value
    rates = "  ".join(
        f"{name} {current_statistics(side)[1]:6.1%}" for name, side in zip(SHORT_NAMES, recording.sides, strict=True)
    )
    return f"{recording.now:2.0f} s {phase:15}  {rates}, {recording.protected.waiting} wait, {recording.protected.state}"


def current_statistics(side: Side) -> tuple[int, float, float]:
    """Return the number of ended calls, the share that succeeded, and their p95 in milliseconds."""
    answered = sum(call.error is None for call in side.calls)
    latency = percentile((call.latency for call in side.calls), 0.95)
    return len(side.calls), answered / len(side.calls) if side.calls else 1.0, latency * 1e3


def rows(recording: Recording) -> Iterator[tuple[str, list[ClientStatistics]]]:
    """Yield the periods of the report: each phase, then outside, during and in total, with all sides' figures."""
    stretches: list[tuple[str, frozenset[Phase]]] = [(phase.value, frozenset({phase})) for phase in Phase]
    stretches += [("outside outage", frozenset(Phase) - OUTAGE), ("in the outage", OUTAGE), ("in total", frozenset(Phase))]
    for name, phases in stretches:
        yield name, [client_statistics(side, recording.scenario, phases) for side in recording.sides]


def verdict(recording: Recording) -> list[str]:
    """Yield the three goals with the measured values."""
    goal = goals(recording)
    outside = f"outside the outage {goal.outside:.3%} of protected calls answered (goal: {GOAL_OUTSIDE:.1%})"
    upstream = f"in the outage {goal.upstream:.2%} of the plain client's attempts sent (goal: {GOAL_UPSTREAM:.0%})"
    peak = f"after the outage at most {goal.burst:.2f} times the normal rate sent (goal: {GOAL_BURST:g})"
    return [
        f"{_mark(goal.outside >= GOAL_OUTSIDE)} {outside}",
        f"{_mark(goal.upstream <= GOAL_UPSTREAM)} {upstream}",
        f"{_mark(goal.burst <= GOAL_BURST)} {peak}",
    ]


def narrative(recording: Recording) -> list[str]:
    """Yield the errors that users saw, the transitions of the breaker, and why protected calls waited."""
    sentences = []
    for side in recording.sides:
        seen = ", ".join(f"{count} x {name}" for name, count in errors(side.calls).items())
        sentences.append(f"errors seen by users of {side.name}: {seen or 'none'}")
    moves = [move for move in recording.protected.transitions if move.state in {"open", "closed"}]
    opened, closed = ([move.at for move in moves if move.state == state] for state in ("open", "closed"))
    if opened:
        last = f"closed for good at {closed[-1]:.2f} s" if closed and closed[-1] > opened[-1] else "was open at the end"
        sentences.append(f"breaker: opened at {opened[0]:.2f} s, {len(opened)} times in all counting failed trials, {last}")
    sentences += explanation(recording)
    sentences.append(f"the latest call was issued {recording.max_lag * 1e3:.0f} ms behind its time{_lag_warning(recording)}")
    return sentences


def explanation(recording: Recording) -> list[str]:
    """Yield why protected calls waited, and the load on the recovered service; nothing if none waited."""
    scenario, waited = recording.scenario, slow_calls(recording.protected)
    if not waited.count:
        return []
    until = max(0.0, waited.until - scenario.outage[2])
    peaks = ", ".join(f"{side.name} {burst(side, scenario):.2f}" for side in recording.sides)
    sentences = (
        f"""waits: {waited.count} protected calls waited more than {SLOW_CALL_THRESHOLD:g} s, the longest {waited.longest:.1f} s,
        instead of failing: their circuit was open, and circuit_open="wait" has them wait until the service is back.""",
        f"""recovery: what had waited was sent behind a rate limit of {MAX_RATE_FACTOR:g} times the normal {scenario.rate:g} calls
        a second, which spared the recovered service; new calls queued behind it until {until:.1f} s after the outage.""",
        f"""most attempts in any second after the outage, in multiples of the normal rate: {peaks}.""",
    )
    return [" ".join(sentence.split()) for sentence in sentences]


def _lag_warning(recording: Recording) -> str:
    return ": this machine was too busy, so the figures say little" if recording.max_lag > MAX_LAG else ""


def report_lines(recording: Recording) -> Iterator[str]:
    """Format the report as plain text, 80 columns wide."""
    head = "".join(f"{name:>{width}}" for name, width in COLUMNS)
    yield ""
    yield f"{'issued in':15} {'calls':>5}  {'client':{LANE_WIDTH}}{head}"
    for name, sides in rows(recording):
        for number, (side, entry) in enumerate(zip(recording.sides, sides, strict=True)):
            stretch = f"{name:15} {entry.calls:5}" if number == 0 else f"{'':21}"
            yield f"{stretch}  {side.name:{LANE_WIDTH}}{_row(entry)}"
    yield ""
    for label, line in sparklines(recording, SPARK_WIDTH):
        yield f"{label:30} {line}"
    yield ""
    for sentence in narrative(recording):
        yield from textwrap.wrap(sentence, PAGE, subsequent_indent="  ")
    yield from verdict(recording)


def _row(entry: ClientStatistics) -> str:
    cells = f"{entry.success_rate:.2%}", f"{entry.p95_ms:.0f}", f"{entry.sent}", f"{entry.received}"
    return "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def _mark(reached: bool) -> str:
    return "[ok]  " if reached else "[MISS]"
