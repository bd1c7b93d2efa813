"""Output of commands: JSON for programs, or tables and sentences, with colours on a terminal only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: Columns without a terminal: a log or a pipe gets one line per row.
_UNLIMITED_WIDTH = 10_000
#: Between two columns.
_GAP = "  "
#: Columns of a record: its name and the rest.
_RECORD_COLUMNS = ("", "")
#: Cells without content.
_EMPTY_CELLS = {"", "-"}
#: The minimum width of a last column of text.
_MIN_LAST_COLUMN = 24
_MEASURING_CONSOLE = Console(file=StringIO(), width=_UNLIMITED_WIDTH, color_system=None)


@dataclass(frozen=True, slots=True)
class Output:
    """Writes results to stdout. `as_json`: one JSON document, and nothing else."""

    as_json: bool = False

    def show(self, data: Any, *for_people: Grid | Text | str) -> None:
        """Write `data` as JSON, or the same content formatted for people.

        Flushes, so that a closed pipe raises here.
        """
        if self.as_json:
            sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
        elif sys.stdout.isatty():
            _print(Console(color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False), for_people)
        else:
            sys.stdout.write(_without_styles(for_people))
        sys.stdout.flush()


def _print(console: Console, parts: Sequence[Grid | Text | str]) -> None:
    """Print the parts, with an empty line before each table."""
    for number, each in enumerate(parts):
        if number and isinstance(each, Grid):
            console.print()
        if isinstance(each, Grid):
            console.print(each.render(console.width))
        else:
            console.print(_text(each) if isinstance(each, str) else each, soft_wrap=True)


def _without_styles(parts: Sequence[Grid | Text | str]) -> str:
    """Format the parts without colours, bold type and trailing blanks."""
    text = StringIO()
    _print(Console(file=text, width=_UNLIMITED_WIDTH, color_system=None, highlight=False), parts)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells under a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Text]]

    def render(self, width: int) -> RenderableType:
        """Render a table if no word is split for it, else a table of two columns, else paragraphs."""
        if self._min_width() <= width:
            return self._table()
        return Group(*self._paragraphs()) if self.columns == _RECORD_COLUMNS else self._records().render(width)

    def _min_width(self) -> int:
        """Return the width of all columns but the last, plus the longest word of that one."""
        *columns, last = zip([_text(name) for name in self.columns], *self.rows, strict=True)
        widest = [
            max(Measurement.get(_MEASURING_CONSOLE, _MEASURING_CONSOLE.options, cell).maximum for cell in column)
            for column in columns
        ]
        measurements = [Measurement.get(_MEASURING_CONSOLE, _MEASURING_CONSOLE.options, cell) for cell in last]
        min_text_width, max_text_width = max(each.minimum for each in measurements), max(each.maximum for each in measurements)
        return sum(widest) + len(_GAP) * len(widest) + min(max_text_width, max(min_text_width, _MIN_LAST_COLUMN))

    def _table(self) -> Table:
        made = Table(
            title=_text(self.title, "bold") if self.title else None,
            title_justify="left",
            show_header=any(self.columns),
            box=None,
            padding=(0, len(_GAP), 0, 0),
        )
        for name in self.columns:
            made.add_column(_text(name, "dim"), overflow="fold", no_wrap=True)
        made.columns[-1].no_wrap = False
        for row in self.rows:
            made.add_row(*row)
        return made

    def _records(self) -> Grid:
        """Return a grid of two columns: the first cells of each row, and the others that are not empty, labelled."""
        unnamed = next((number for number, name in enumerate(self.columns) if name), len(self.columns))
        head = min(max(1, unnamed), len(self.columns) - 1)
        rows = [(Text(_GAP).join(row[:head]), _labelled_cells(self.columns[head:], row[head:])) for row in self.rows]
        return Grid(self.title, _RECORD_COLUMNS, rows)

    def _paragraphs(self) -> Iterator[RenderableType]:
        if self.title:
            yield _text(self.title, "bold")
        for name, content in self.rows:
            yield from (name, Padding(content, (0, 0, 0, 4)))


def _labelled_cells(columns: Sequence[str], cells: Sequence[Text]) -> Text:
    return Text("; ").join(_labelled(*each) for each in zip(columns, cells, strict=True) if each[1].plain not in _EMPTY_CELLS)


def _labelled(name: str, cell: Text) -> Text:
    return Text.assemble((f"{printable(name)}: " if name else "", "dim"), cell)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Grid:
    """Make a table under a bold title, with a header if columns have names. Cells are never parsed as markup."""
    return Grid(title, columns, [[*map(_cell, row)] for row in rows])


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else _text(format_value(value))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def format_value(value: object) -> str:
    """Format a value for people."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(format_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """Escape the characters of `text` that are control sequences or not printable."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
