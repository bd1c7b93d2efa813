"""The timeline's slices, the breaker's spans, the sparklines and the picture."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from resilience_kit.cli.demo.recording import BreakerTransition, CallRecord, Recording, Side
from resilience_kit.cli.demo.scenario import Scenario
from resilience_kit.cli.demo.svg import draw, nice_step
from resilience_kit.cli.demo.timeline import Slice, Span, slices, spans, sparkline, sparklines, state_sparkline


def recording() -> Recording:
    """Nine seconds, a call a second, the plain client's middle ones failed and the kit's late."""
    made = Recording(Scenario(duration=9.0, rate=1.0))
    for side in made.sides:
        side.issued, side.sent = 9, [at + 0.5 for at in range(9)]
    made.unprotected.calls = [CallRecord(at + 0.5, at + 0.6, "HTTP 503" if 3 <= at < 6 else None) for at in range(9)]
    made.protected.calls = [CallRecord(at + 0.5, max(at + 0.6, 6.2) if at >= 3 else at + 0.6) for at in range(9)]
    made.protected.sent = [0.5, 1.5, 2.5, 3.5, *[6.2] * 3, 6.5, 7.5, 8.5]
    made.protected.transitions = [
        BreakerTransition(3.6, "open"),
        BreakerTransition(6.1, "half_open"),
        BreakerTransition(6.2, "closed"),
    ]
    return made


def test_slices_sort_calls_by_their_end_and_keep_them_all() -> None:
    """Answered at once, answered late, failed; what comes after the end belongs to the last slice."""
    side = Side("any", calls=[CallRecord(0.1, 0.2), CallRecord(0.1, 3.0), CallRecord(0.9, 1.0, "x"), CallRecord(5.0, 5.1)])
    side.sent = [0.1, 0.2, 1.5, 9.0]
    assert [Slice(1, 1, 1, 2), Slice(1, 0, 0, 2)] == slices(side, 2.0, 2)


def test_spans_cover_the_whole_time_without_gaps() -> None:
    """Closed from zero, then as the moves say, to the end."""
    assert [Span("closed", 0.0, 3.6), Span("open", 3.6, 6.1), Span("half_open", 6.1, 6.2), Span("closed", 6.2, 9.0)] == spans(
        recording().protected, 9.0
    )
    assert [Span("closed", 0.0, 9.0)] == spans(Side("any"), 9.0)


@pytest.mark.parametrize(
    ("values", "top", "expected"),
    [([0, 1, 4, 8], None, " ▂▅█"), ([0, 0], None, "  "), ([], None, ""), ([1], 8, "▂"), ([9], 8, "█")],
)
def test_a_sparkline_has_a_sign_for_each_value(values: list[float], top: float | None, expected: str) -> None:
    """Zero is empty, the top is full."""
    assert expected == sparkline(values, top)


def test_the_breakers_line_shows_the_worst_state_of_each_slice() -> None:
    """Open hides half-open, half-open hides closed."""
    assert "───████──" == state_sparkline(recording(), 9)


def test_sparklines_have_one_width_and_one_scale() -> None:
    """Seven labelled lines of the asked width."""
    lines = sparklines(recording(), 30)
    assert [30] * 7 == [len(line) for _, line in lines]
    assert ["plain client: calls answered", "plain client: sent upstream"] == [label for label, _ in lines[:2]]


def test_sparklines_of_nothing_are_empty() -> None:
    """A run that was broken off at once still has a report."""
    assert ["    "] * 6 == [line for _, line in sparklines(Recording(Scenario()), 4)[:6]]


def test_a_run_that_outlasts_its_traffic_is_drawn_to_its_end() -> None:
    """The last call's end is the end of the picture."""
    made = recording()
    made.protected.calls.append(CallRecord(8.9, 10.5))
    assert (10.5, 9.0) == (made.length, recording().length)


def test_the_picture_is_well_formed_and_complete() -> None:
    """Every call, attempt and span of the recording is in it, as the notes of its boxes tell."""
    root = ET.fromstring(draw(recording()))
    notes = [note.text for note in root.iter("{http://www.w3.org/2000/svg}title")]
    counts = {
        kind: sum(int(note.split()[0]) for note in notes if note.endswith(f" {kind}"))
        for kind in ("answered", "late", "failed", "sent")
    }
    assert {"answered": 13, "late": 2, "failed": 3, "sent": 28} == counts
    assert "open from 3.60 s to 6.10 s" in notes


def test_the_picture_has_scales_in_calls_a_second() -> None:
    """Each row has its numbers from zero, and the dashed line stands where twice the normal rate is."""
    root = ET.fromstring(draw(recording()))
    svg = "{http://www.w3.org/2000/svg}"
    numbers = [text.text for text in root.iter(f"{svg}text") if text.get("class") == "y"]
    assert 6 == numbers.count("0")
    assert len(numbers) > 12
    zero, *others = [text for text in root.iter(f"{svg}text") if text.get("class") == "y"][-len(numbers) // 6 :]
    per_unit = (float(zero.get("y", "")) - float(others[-1].get("y", ""))) / float(others[-1].text or "")
    dashed = [line for line in root.iter(f"{svg}line") if line.get("stroke-dasharray")]
    base = float(zero.get("y", "")) - 4
    assert pytest.approx(base - 2 * per_unit, abs=0.1) == float(dashed[-1].get("y1", ""))


@pytest.mark.parametrize(("least", "step"), [(0.0, 1), (1, 1), (1.2, 2), (3, 5), (5, 5), (7, 10), (11, 20), (120, 200)])
def test_steps_of_a_scale_are_round_numbers(least: float, step: float) -> None:
    """One, two or five times a power of ten, and never below what is needed."""
    assert step == nice_step(least)


def test_the_picture_of_nothing_can_be_drawn() -> None:
    """A run that was broken off at once still has a picture."""
    assert draw(Recording(Scenario())).endswith("</svg>\n")
