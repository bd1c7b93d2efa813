"""The recording cut into equal slices of time, for the picture and the sparklines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resilience_kit.cli.demo.recording import Recording, Side
from resilience_kit.cli.demo.run_statistics import SLOW_CALL_THRESHOLD

BARS = "▁▂▃▄▅▆▇█"
STATE_SYMBOLS = {"closed": "─", "half_open": "▒", "open": "█"}


@dataclass(frozen=True, slots=True)
class Slice:
    """Calls issued in one slice, by their end (answered within `PATIENCE` seconds, answered later, failed), and attempts sent."""

    answered: int
    late: int
    failed: int
    sent: int

    @property
    def issued(self) -> int:
        """All calls of the slice."""
        return self.answered + self.late + self.failed


@dataclass(frozen=True, slots=True)
class Span:
    """The breaker was in `state` from `start` to `end`."""

    state: str
    start: float
    end: float


def slices(side: Side, duration: float, count: int) -> list[Slice]:
    """Cut the recording into `count` equal slices; what comes after `duration` belongs to the last one."""
    kinds = [[0, 0, 0, 0] for _ in range(count)]
    for call in side.calls:
        kind = 2 if call.error is not None else int(call.latency > SLOW_CALL_THRESHOLD)
        kinds[_index(call.issued, duration, count)][kind] += 1
    for at in side.sent:
        kinds[_index(at, duration, count)][3] += 1
    return [Slice(*kind) for kind in kinds]


def spans(side: Side, end: float) -> list[Span]:
    """Return the periods of the breaker's states from zero to `end`."""
    edges = [(0.0, "closed"), *((move.at, move.state) for move in side.transitions)]
    ends = [at for at, _ in edges[1:]] + [max(end, edges[-1][0])]
    return [Span(state, start, stop) for (start, state), stop in zip(edges, ends, strict=True)]


def sparkline(values: Sequence[float], top: float | None = None) -> str:
    """Draw one bar per value, zero as a space; `top` is the value of a full bar."""
    top = max(values, default=0.0) if top is None else top
    return "".join(" " if value <= 0 else BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] for value in values)


def state_sparkline(recording: Recording, count: int) -> str:
    """Return the breaker's worst state in each slice: open, then half-open, then closed."""
    duration = recording.length
    symbols = []
    for index in range(count):
        start, end = index * duration / count, (index + 1) * duration / count
        seen = {span.state for span in spans(recording.protected, duration) if span.start < end and span.end > start}
        symbols.append(next((sign for state, sign in reversed(STATE_SYMBOLS.items()) if state in seen), "?"))
    return "".join(symbols)


def sparklines(recording: Recording, count: int) -> list[tuple[str, str]]:
    """Draw labelled lines for a terminal: answered calls and upstream attempts of all sides, and the breaker."""
    duration = recording.length
    sides = [(side, slices(side, duration, count)) for side in recording.sides]
    top_calls = max((part.issued for _, parts in sides for part in parts), default=1)
    top_sent = _top_sent(parts for _, parts in sides)
    labelled = []
    for side, parts in sides:
        labelled.append((f"{side.name}: calls answered", sparkline([part.answered + part.late for part in parts], top_calls)))
        labelled.append((f"{side.name}: sent upstream", sparkline([part.sent for part in parts], top_sent)))
    return [*labelled, ("breaker: ─ closed  █ open", state_sparkline(recording, count))]


def _top_sent(all_parts: Iterable[Sequence[Slice]]) -> int:
    return max((part.sent for parts in all_parts for part in parts), default=1)


def _index(at: float, duration: float, count: int) -> int:
    return min(count - 1, int(at / duration * count))
