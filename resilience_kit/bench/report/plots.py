"""Plots as SVG images for an HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from resilience_kit._svg import box, image, polyline, text
from resilience_kit.bench.report.content import seconds
from resilience_kit.bench.results import BenchmarkResult

_GOOD, _BAD, _MARK, _CURVE_COLOUR = "#3d7ea6", "#c2455c", "#222222", "#3d7ea6"
_LABEL_WIDTH, _BAR, _GAP, _WIDE = 190, 16, 8, 640
_SMALL_WIDTH, _SMALL_HEIGHT, _EDGE = 300, 110, 18


def bars(results: Sequence[BenchmarkResult]) -> str:
    """Draw the medians on a logarithmic scale, with a mark at each target."""
    values = [each for result in results for each in (result.time.median, result.target) if each]
    low = math.floor(math.log10(min(values, default=1e-9)))
    high = max(math.ceil(math.log10(max(values, default=1.0))), low + 1)

    def x(value: float) -> float:
        return _LABEL_WIDTH + (math.log10(value) - low) / (high - low) * _WIDE if value else _LABEL_WIDTH

    height = len(results) * (_BAR + _GAP) + 24
    parts = [text(x(10.0**power), height - 6, seconds(10.0**power), "middle") for power in range(low, high + 1)]
    for number, result in enumerate(results):
        y = number * (_BAR + _GAP) + 4
        parts.append(text(_LABEL_WIDTH - 8, y + 12, result.name, "end"))
        colour = _GOOD if result.meets_target else _BAD
        parts.append(
            box(_LABEL_WIDTH, y, max(0.5, x(result.time.median) - _LABEL_WIDTH), _BAR, colour, seconds(result.time.median))
        )
        if result.target:
            parts.append(box(x(result.target) - 1, y - 2, 2, _BAR + 4, _MARK, f"target {seconds(result.target)}"))
    return image(_LABEL_WIDTH + _WIDE + 40, height, parts)


def histogram(distribution: Sequence[tuple[float, int]]) -> str:
    """Draw the number of samples around each time, on a logarithmic scale of time."""
    if not distribution:
        return image(_SMALL_WIDTH, _SMALL_HEIGHT, [])
    positions = [math.log(value) if value > 0 else 0.0 for value, _ in distribution]
    most, span = max(count for _, count in distribution), max(positions) - min(positions)
    width, height = _SMALL_WIDTH - 20, _SMALL_HEIGHT - _EDGE
    parts = []
    for position, (value, count) in zip(positions, distribution, strict=True):
        x = 6 + (position - min(positions)) / span * width if span else width / 2
        tall = count / most * (height - 6)
        parts.append(box(x, height - tall, 6, tall, _GOOD, f"{count} around {seconds(value)}"))
    ends = (text(4, _SMALL_HEIGHT - 4, seconds(distribution[0][0])), seconds(distribution[-1][0]))
    return image(_SMALL_WIDTH, _SMALL_HEIGHT, [*parts, ends[0], text(_SMALL_WIDTH - 4, _SMALL_HEIGHT - 4, ends[1], "end")])


def trend_chart(points: Sequence[tuple[float, float]]) -> str:
    """Draw a series of values on a scale from zero."""
    if not points:
        return image(_SMALL_WIDTH, _SMALL_HEIGHT, [])
    top, last = max((y for _, y in points if y > 0), default=1.0), points[-1][0] or 1
    height = _SMALL_HEIGHT - _EDGE
    marks = ((6 + x / last * (_SMALL_WIDTH - 12), height - max(y, 0.0) / top * (height - 6)) for x, y in points)
    return image(
        _SMALL_WIDTH,
        _SMALL_HEIGHT,
        [
            polyline(marks, _CURVE_COLOUR),
            text(4, _SMALL_HEIGHT - 4, "0"),
            text(_SMALL_WIDTH - 4, _SMALL_HEIGHT - 4, f"{points[-1][0]:g}", "end"),
        ],
    )
