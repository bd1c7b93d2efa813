"""How commands answer: JSON for programs, or tables and sentences for people, with colours on a terminal only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Columns where no terminal tells how many there are: a log or a pipe gets one line a row.
_WIDE = 10_000


@dataclass(frozen=True, slots=True)
class Output:
    """Where answers go. `as_json`: one JSON document on stdout, and nothing else."""

    as_json: bool = False

    def show(self, data: Any, *for_people: Table | Text | str) -> None:
        """Answer with `data`, or with what says the same to people.

        Flushes, so that whoever stopped reading is noticed here.
        """
        if self.as_json:
            sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
        elif sys.stdout.isatty():
            _print(Console(color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False), for_people)
        else:
            sys.stdout.write(_plainly(for_people))
        sys.stdout.flush()


def _print(console: Console, parts: Sequence[Table | Text | str]) -> None:
    """Tables are set apart by an empty line."""
    for number, each in enumerate(parts):
        if number and isinstance(each, Table):
            console.print()
        console.print(_text(each) if isinstance(each, str) else each, soft_wrap=not isinstance(each, Table))


def _plainly(parts: Sequence[Table | Text | str]) -> str:
    """The same without colours, bold type, and blanks that fill a line."""
    text = StringIO()
    _print(Console(file=text, width=_WIDE, color_system=None, highlight=False), parts)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Rows under a bold title; without names of columns there is no line of them. Cells are never taken for markup."""
    made = Table(
        title=_text(title, "bold") if title else None,
        title_justify="left",
        show_header=any(columns),
        box=None,
        padding=(0, 2, 0, 0),
    )
    for name in columns:
        made.add_column(_text(name, "dim"), overflow="fold")
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else _text(written(value))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def written(value: object) -> str:
    """A value as people write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {written(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(written, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """`text` with escapes in place of what a terminal would obey, or could not show."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
