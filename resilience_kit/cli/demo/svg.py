"""The timeline as an SVG file: what the user saw, what the upstream was sent, and when the breaker moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from resilience_kit._svg import box, document, horizontal_rule, text
from resilience_kit.cli.demo.recording import Recording, Side
from resilience_kit.cli.demo.run_statistics import GOAL_BURST, OUTAGE, SLOW_CALL_THRESHOLD, client_statistics, goals
from resilience_kit.cli.demo.scenario import Phase
from resilience_kit.cli.demo.timeline import Slice, slices, spans

WIDTH, LEFT, RIGHT = 1000, 180, 24
PLOT = WIDTH - LEFT - RIGHT
SLICES = 108
ROW, GAP, TOP = 84, 34, 136
BREAKER_ROW = 26
ROWS = 6
HEIGHT = TOP + ROWS * (ROW + GAP) + BREAKER_ROW + 74
TICKS = 4
COLOURS = {"answered": "#2a9d67", "late": "#e3b23c", "failed": "#d1495b", "sent": "#4a6fa5"}
STATE_COLOURS = {"closed": "#2a9d67", "half_open": "#e3b23c", "open": "#d1495b", "forced_open": "#d1495b"}
PHASE_COLOURS = {Phase.FAILING: "#fbeaec", Phase.REFUSING: "#f3e3ee"}
STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:12px;fill:#333}"
    ".y{font-size:10px;fill:#777}.t{font-size:17px;font-weight:600}.s{fill:#777}.b{font-weight:600}"
)


def draw(recording: Recording) -> str:
    """Draw the whole picture."""
    duration = recording.length
    parts = [slices(side, duration, SLICES) for side in recording.sides]
    second = SLICES / duration
    calls = Scale(second, max(max(part.issued for part in side) for side in parts))
    sent = Scale(second, max(max(part.sent for part in side) for side in parts))
    elements = [*_head(recording), *_outage(recording)]
    for number, (side, cut) in enumerate(zip(recording.sides, parts, strict=True)):
        elements += _calls_row(recording, side, cut, calls, _row_top(2 * number))
        elements += _sent_row(recording, side, cut, sent, _row_top(2 * number + 1))
    elements += [*_breaker_row(recording), *_axis(duration)]
    return document(WIDTH, HEIGHT, elements, STYLE)


class Scale:
    """The scale from counts in a slice to heights: `second` slices per second, `most` is the largest count."""

    def __init__(self, second: float, most: int) -> None:
        self._second = second
        self.step = nice_step(most * second / TICKS)
        self._top = max(self.step, math.ceil(most * second / self.step) * self.step)

    def height(self, count: float) -> float:
        """Return the height of a bar for a count in a slice."""
        return self.height_of(count * self._second)

    def height_of(self, rate: float) -> float:
        """Return the height of a rate per second."""
        return rate / self._top * ROW

    def ticks(self) -> list[float]:
        """Return the rates of the axis labels, from zero."""
        return [number * self.step for number in range(round(self._top / self.step) + 1)]


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, 50 and so on that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(max(least, 1.0)))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least)


def _row_top(number: int) -> int:
    return TOP + number * (ROW + GAP)


def _x(at: float, duration: float) -> float:
    return LEFT + min(1.0, max(0.0, at / duration)) * PLOT


def _head(recording: Recording) -> Iterator[str]:
    scenario, goal = recording.scenario, goals(recording)
    rate = recording.unprotected.issued / scenario.duration
    yield box(0, 0, WIDTH, HEIGHT, "#ffffff")
    yield text(24, 32, "The same traffic, with and without resilience_kit", "t")
    setting = f"seed {scenario.seed} · {rate:.0f} calls a second each · 5 % 429 and 2 % 500 all along"
    result = (
        f"outside the outage {goal.outside:.2%} answered · upstream load in the outage {goal.upstream:.1%} of the plain client's"
    )
    yield text(24, 52, setting, "s")
    yield text(24, 70, f"protected: {result}", "s")
    peak = f"after the outage at most {goal.burst:.2f} times the normal rate sent · vertical scales: calls or attempts a second"
    yield text(24, 88, peak, "s")
    legend = (
        ("answered", "answered"),
        ("late", f"answered after {SLOW_CALL_THRESHOLD:g} s or more"),
        ("failed", "failed"),
        ("sent", "sent; dashed: twice the normal rate"),
    )
    for number, (colour, description) in enumerate(legend):
        yield box(LEFT + 190 * number, 104, 10, 10, COLOURS[colour])
        yield text(LEFT + 190 * number + 16, 113, description, "s")


def _outage(recording: Recording) -> Iterator[str]:
    start, refused_from, end = recording.scenario.outage
    for phase, begins, ends in ((Phase.FAILING, start, refused_from), (Phase.REFUSING, refused_from, end)):
        x, x_end = (_x(at, recording.length) for at in (begins, ends))
        yield box(x, TOP - 6, x_end - x, HEIGHT - TOP - 40, PHASE_COLOURS[phase])
        yield text((x + x_end) / 2, HEIGHT - 30, phase.value, "s", "middle")


def _calls_row(recording: Recording, side: Side, parts: Sequence[Slice], scale: Scale, y: int) -> Iterator[str]:
    total, during = client_statistics(side, recording.scenario), client_statistics(side, recording.scenario, OUTAGE)
    yield from _labels(
        y, scale, side.name, "calls by issue", f"{total.success_rate:.1%} answered", f"{during.success_rate:.1%} in outage"
    )
    for index, part in enumerate(parts):
        base = float(y + ROW)
        for kind, count in (("answered", part.answered), ("late", part.late), ("failed", part.failed)):
            if count:
                height = scale.height(count)
                base -= height
                yield _bar(index, base, height, COLOURS[kind], f"{count} {kind}")


def _sent_row(recording: Recording, side: Side, parts: Sequence[Slice], scale: Scale, y: int) -> Iterator[str]:
    total, during = client_statistics(side, recording.scenario), client_statistics(side, recording.scenario, OUTAGE)
    yield from _labels(y, scale, side.name, "sent upstream", f"{total.sent} attempts", f"{during.sent} in outage")
    if (twice := scale.height_of(GOAL_BURST * recording.scenario.rate)) <= ROW:
        yield horizontal_rule(LEFT, LEFT + PLOT, y + ROW - twice, "#d1495b", f"{GOAL_BURST:g} times the normal rate", dashed=True)
    for index, part in enumerate(parts):
        if part.sent:
            height = scale.height(part.sent)
            yield _bar(index, y + ROW - height, height, COLOURS["sent"], f"{part.sent} sent")


def _bar(index: int, y: float, height: float, colour: str, note: str) -> str:
    step = PLOT / SLICES
    return box(LEFT + index * step + 0.5, y, step - 1, height, colour, note)


def _labels(y: int, scale: Scale, *labels: str) -> Iterator[str]:
    for number, label in enumerate(labels):
        yield text(LEFT - 44, y + 16 + 18 * number, label, "b" if number == 0 else "s", "end")
    for rate in scale.ticks():
        at = y + ROW - scale.height_of(rate)
        yield horizontal_rule(LEFT, LEFT + PLOT, at, "#ccc" if rate == 0 else "#e6e6e6")
        yield text(LEFT - 6, at + 4, f"{rate:g}", "y", "end")


def _breaker_row(recording: Recording) -> Iterator[str]:
    duration, y = recording.scenario.duration, _row_top(ROWS)
    yield text(LEFT - 44, y + 17, "breaker", "b", "end")
    for span in spans(recording.protected, duration):
        x, x_end = _x(span.start, duration), _x(span.end, duration)
        note = f"{span.state} from {span.start:.2f} s to {span.end:.2f} s"
        yield box(x, y, max(1.0, x_end - x), BREAKER_ROW, STATE_COLOURS.get(span.state, "#999"), note)


def _axis(duration: float) -> Iterator[str]:
    step = max(1, round(duration / 9))
    for second in range(0, int(duration) + 1, step):
        yield text(_x(second, duration), HEIGHT - 12, f"{second} s", "s", "middle")
