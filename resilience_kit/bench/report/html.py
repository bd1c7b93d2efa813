"""The report as one HTML page that loads and runs nothing and escapes all text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from resilience_kit.bench.report.content import HEAD, Report, headline, remarks, row
from resilience_kit.bench.report.plots import bars, histogram, trend_chart

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;font-size:13px}td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.pass{color:#1c7a4f}.over{color:#b3263c;font-weight:600}"
    "figure{display:inline-block;margin:.6rem 1rem .6rem 0}figcaption{font-size:13px;color:#555}"
    "svg text{font:11px system-ui,sans-serif;fill:#333}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def to_html(report: Report) -> str:
    """Return the page."""
    title = escape(report.suite.name)
    body = "\n".join(_body(report))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _body(report: Report) -> Iterator[str]:
    environment = ", ".join(f"{name} {value}" for name, value in report.suite.environment.items())
    yield f"<p>{escape(headline(report.suite))}</p>\n<p>{escape(environment)}</p>"
    yield _table(map(row, report.suite.results))
    noted = list(remarks(report))
    if noted:
        yield "<h2>Remarks</h2>\n<ul>" + "".join(f"<li>{escape(each)}</li>" for each in noted) + "</ul>"
    yield from _section("Medians and targets", [_figure("seconds a call; the mark is the target", bars(report.suite.results))])
    yield from _section("Samples", [_figure(each.name, histogram(each.distribution)) for each in report.suite.results])
    trends = report.trends.trends if report.trends else ()
    yield from _section(
        "Trends", [_figure(f"{each.name}: {each.verdict}", trend_chart(list(enumerate(each.medians)))) for each in trends]
    )
    yield from _section(
        "Memory held", [_figure(f"{each.name}: {each.reason}", trend_chart(each.readings)) for each in report.leaks]
    )


def _table(rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in HEAD)
    body = "\n".join(f"<tr>{''.join(map(_cell, each))}</tr>" for each in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _cell(text: str) -> str:
    return f'<td class="{text}">{text}</td>' if text in {"pass", "over"} else f"<td>{escape(text)}</td>"


def _section(title: str, figures: Sequence[str]) -> Iterator[str]:
    if figures:
        yield f"<h2>{title}</h2>"
        yield from figures


def _figure(caption: str, plot: str) -> str:
    return f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"
