"""Write SVG elements: no script, no font and no file beside them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def image(width: float, height: float, elements: Iterable[str]) -> str:
    """Return an image that stands in an HTML page, whose styles it takes."""
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(elements)}</svg>'


def document(width: float, height: float, elements: Iterable[str], style: str) -> str:
    """Return an image with its style, as the text of a file."""
    body = "\n".join(["", f"<style>{style}</style>", *elements, ""])
    return image(width, height, [body]).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def text(x: float, y: float, content: str, css_class: str = "", anchor: str = "start") -> str:
    """Return a line of text; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css_class}" text-anchor="{anchor}">{escape(content)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, tooltip: str = "") -> str:  # noqa: PLR0913 - SVG's own
    """Return a filled rectangle."""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}">{_title(tooltip)}</rect>'


def horizontal_rule(x1: float, x2: float, y: float, colour: str, tooltip: str = "", *, dashed: bool = False) -> str:  # noqa: PLR0913 - same
    """Return a horizontal line from `x1` to `x2`."""
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    ends = f'x1="{x1}" y1="{y:.2f}" x2="{x2}" y2="{y:.2f}"'
    return f'<line {ends} stroke="{colour}"{dashes}>{_title(tooltip)}</line>'


def polyline(points: Iterable[tuple[float, float]], colour: str) -> str:
    """Return an open line through the points."""
    marks = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{marks}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _title(tooltip: str) -> str:
    return f"<title>{escape(tooltip)}</title>" if tooltip else ""
