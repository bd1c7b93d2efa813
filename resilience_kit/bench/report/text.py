"""The report for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence

from resilience_kit.bench.report.content import HEAD, Report, headline, remarks, row


def to_text(report: Report) -> str:
    """Return a headline, a table and remarks. Control characters, which a file may have brought, are replaced."""
    environment = ", ".join(f"{name} {value}" for name, value in report.suite.environment.items())
    lines = [report.suite.name, headline(report.suite), environment, "", *_table([HEAD, *map(row, report.suite.results)])]
    noted = list(remarks(report))
    return "\n".join(map(_printable, [*lines, *(["", *noted] if noted else [])])) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(each, widths, strict=True))
        )
        for each in rows
    ]


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
