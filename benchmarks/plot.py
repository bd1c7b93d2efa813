"""Draws the rows of benchmarks/peers.py: one panel an event and a job, in it one line a contender, on a logarithmic scale.

And what benchmarks/limits.py keeps of the adaptive limit: `python benchmarks/plot.py course.json picture.svg`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ranking import Panels
from report import Spread

# Colours that keep apart for every kind of eye (Okabe and Ito), and shapes for whoever prints in grey.
_KINDS = {"sync": ("#0072B2", "o", -0.14), "async": ("#D55E00", "D", 0.14)}
_QUIET, _INK = "#767676", "#222222"
# Inches: a column with its names and its plot; a contender's line; between panels; above all of them.
_WIDE, _NAMES, _PLOT = 4.6, 2.4, 2.1
_LINE, _GAP, _TOP = 0.235, 0.55, 1.0
#: Neither the day nor the version that drew it is in the file.
_SILENT = {"Date": None, "Creator": None}
_STYLE = {"font.size": 8.5, "svg.hashsalt": "peers", "svg.fonttype": "none"}


def draw(panels: Panels, contender: str, unranked: Container[str], file: Path) -> None:
    """Write the picture; its suffix decides the format. The same figures give the same SVG, byte by byte."""
    matplotlib = import_module("matplotlib")
    with matplotlib.rc_context(_STYLE):
        figure = _figure(panels, contender, unranked)
        figure.savefig(file, dpi=120, metadata=_SILENT if file.suffix == ".svg" else None)


def columns(panels: Panels) -> dict[str, Panels]:
    """Group the panels by their job, the part of the title before the colon."""
    found: dict[str, Panels] = {}
    for title, lines in panels.items():
        job, _, event = title.partition(": ")
        found.setdefault(job, {})[event] = lines
    return found


def _figure(panels: Panels, contender: str, unranked: Container[str]) -> Any:
    by_job = columns(panels)
    height = max(_tall(column) for column in by_job.values()) + _TOP
    figure = import_module("matplotlib.figure").Figure(figsize=(_WIDE * len(by_job), height), facecolor="white")
    for at, (job, column) in enumerate(by_job.items()):
        left, top = at * _WIDE + _NAMES, height - _TOP
        figure.text(left / figure.get_figwidth(), (top + 0.32) / height, job, fontsize=12, fontweight="bold", color=_INK)
        for event, lines in column.items():
            tall = _LINE * len(lines)
            axes = figure.add_axes(
                (left / figure.get_figwidth(), (top - tall) / height, _PLOT / figure.get_figwidth(), tall / height)
            )
            axes.set_title(event, loc="left", color=_INK)
            _panel(axes, lines, contender, unranked)
            axes.set_xlim(_limits(panels))
            top -= tall + _GAP
    _legend(figure, contender)
    return figure


def _tall(column: Panels) -> float:
    return sum(_LINE * len(lines) + _GAP for lines in column.values())


def _limits(panels: Panels) -> tuple[float, float]:
    ratios = [ratio for lines in panels.values() for line in lines.values() for ratio in line.values()]
    return min(each.low for each in ratios) / 1.4, max(each.high for each in ratios) * 1.4


def _panel(axes: Any, lines: Mapping[str, Mapping[str, Spread]], contender: str, unranked: Container[str]) -> None:
    axes.set_xscale("log")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvline(1, color=_INK, linewidth=1, zorder=1)
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    for at, (name, line) in enumerate(lines.items()):
        for kind, ratio in line.items():
            colour, marker, shift = _KINDS[kind]
            colour = _QUIET if name in unranked else colour
            axes.plot((ratio.low, ratio.high), (at + shift, at + shift), color=colour, linewidth=2.2, alpha=0.5)
            axes.plot(ratio.mid, at + shift, marker, color=colour, markersize=4.6)
    axes.set_yticks(range(len(lines)), list(lines))
    for label in axes.get_yticklabels():
        label.set_color(_QUIET if label.get_text() in unranked else _INK)
        label.set_fontweight("bold" if label.get_text() == contender else "normal")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(length=0)
    axes.minorticks_off()
    axes.spines[["top", "right", "left"]].set_visible(False)


def _legend(figure: Any, contender: str) -> None:
    lines = import_module("matplotlib.lines")
    handles = [
        lines.Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=kind)
        for kind, (colour, marker, _) in _KINDS.items()
    ]
    handles.append(lines.Line2D([], [], color=_INK, linewidth=1, label=f"the {contender}: further right is slower"))
    handles.append(lines.Line2D([], [], color=_QUIET, marker="s", linestyle="", markersize=5, label="takes no part"))
    figure.legend(handles=handles, loc="upper left", ncols=4, frameon=False, fontsize=9.5, bbox_to_anchor=(0.01, 1))
    figure.text(0.99, 0.985, "cost of a call by the kit's, logarithmic", ha="right", va="top", fontsize=9.5, color=_INK)


def draw_courses(courses: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write the picture of adaptive limits by time, a panel a server, with its capacity and a band of a fifth around it."""
    matplotlib = import_module("matplotlib")
    with matplotlib.rc_context(_STYLE):
        figure = import_module("matplotlib.figure").Figure(figsize=(8.4, 2.3 * len(courses) + 0.5), facecolor="white")
        panels = figure.subplots(len(courses), 1, sharex=True, squeeze=False)[:, 0]
        for axes, course in zip(panels, courses, strict=True):
            _course(axes, course)
        panels[-1].set_xlabel("seconds")
        panels[0].legend(loc="upper left", ncols=3, frameon=False)
        figure.tight_layout()
        figure.savefig(file, dpi=120, metadata=_SILENT if file.suffix == ".svg" else None)


def _course(axes: Any, course: Mapping[str, Any]) -> None:
    starts, capacities = zip(*course["changes"], strict=True)
    at, capacity = (*starts, course["length"]), (*capacities, capacities[-1])
    axes.set_title(f"a server that {course['name']}", loc="left", color=_INK)
    axes.fill_between(
        at, [0.8 * each for each in capacity], [1.2 * each for each in capacity], step="post", color="#eeeeee", linewidth=0
    )
    axes.step(at, capacity, where="post", color=_QUIET, linewidth=1.2, label="what the server can take")
    looks = course["looks"]
    axes.plot(
        [look["at"] for look in looks],
        [look["limit"] for look in looks],
        color=_KINDS["sync"][0],
        linewidth=1.4,
        label="the limit",
    )
    axes.set_ylim(0, 1.6 * max(capacities))
    axes.set_xlim(0, course["length"])
    axes.set_ylabel("at once")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw_courses(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
