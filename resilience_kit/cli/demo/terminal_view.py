"""The demo in a terminal: a live table while it runs, the report as tables at its end."""

from __future__ import annotations

from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resilience_kit.cli.demo.recording import Recording, Side
from resilience_kit.cli.demo.scenario import Phase
from resilience_kit.cli.demo.text_view import current_statistics, report_lines

STATE_STYLES = {"closed": "green", "half_open": "yellow", "open": "bold red"}
WIDTH = 64
GOOD, FAIR = 0.99, 0.9
COLOURS = {
    r"\b(100\.00|99\.\d\d)%": "green",
    r"(?<= )\d?\d\.\d\d%(?= +\d+ +\d+ +\d+$)": "red",
    r"^\[ok\].*": "bold green",
    r"^\[MISS\].*": "bold red",
    r"[▁▂▃▄▅▆▇█─▒]{3,}": "cyan",
    r"^issued in.*": "bold",
}


class TerminalView:
    """Draws on a rich console; `show` redraws the table, `finish` prints the report."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, recording: Recording) -> None:
        """Draw the table anew."""
        self._live.update(live_view(recording), refresh=True)

    def finish(self, recording: Recording) -> None:
        """Print the report."""
        for part in final_view(recording):
            self._console.print(part, soft_wrap=True)


def live_view(recording: Recording) -> RenderableType:
    """Return the table of all clients."""
    table = Table("", *(side.name for side in recording.sides), title_justify="left", min_width=WIDTH)
    for column in table.columns[1:]:
        column.justify = "right"
    sides = [(side, *current_statistics(side)) for side in recording.sides]
    table.add_row("requests", *(f"{side.issued}" for side, *_ in sides))
    table.add_row("waiting for an answer", *(f"{side.waiting}" for side, *_ in sides))
    table.add_row("success rate", *(_rate(rate) for _, _, rate, _ in sides))
    table.add_row("p95 latency", *(f"{p95:.0f} ms" for *_, p95 in sides))
    table.add_row("retries", *(f"{side.retries}" for side, *_ in sides))
    table.add_row("upstream calls", *(f"{len(side.sent)}" for side, *_ in sides))
    table.add_row("breaker", "-", "-", _state(recording.protected))
    bar = ProgressBar(total=recording.scenario.duration, completed=recording.now, width=WIDTH)
    end_of_line = Text("")  # a bar of rich's does not end its own
    return Group(_title(recording), bar, end_of_line, table)


def final_view(recording: Recording) -> list[Text]:
    """Return the report's lines, coloured."""
    return [_highlight(line) for line in report_lines(recording)]


def _highlight(line: str) -> Text:
    text = Text(line)
    for pattern, style in COLOURS.items():
        text.highlight_regex(pattern, style)
    return text


def _title(recording: Recording) -> Text:
    phase = recording.scenario.phase(recording.now)
    style = "green" if phase in {Phase.BEFORE, Phase.AFTER} else "bold red"
    return Text.assemble(f"{recording.now:5.1f} s  ", (phase.value, style))


def _rate(rate: float) -> Text:
    return Text(f"{rate:.2%}", style="green" if rate >= GOOD else "yellow" if rate >= FAIR else "red")


def _state(side: Side) -> Text:
    return Text(side.state, style=STATE_STYLES.get(side.state, "red"))
