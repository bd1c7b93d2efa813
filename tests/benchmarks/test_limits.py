"""The program that holds the limits to a provider: what it makes of its samples. What it measures takes real time and servers."""

from __future__ import annotations

import asyncio
import importlib
import json
from types import SimpleNamespace

import pytest

from resilience_kit.testing import FakeClock, Fault


@pytest.fixture
def limits():
    """The program, found where its neighbours are. It measures a client that not every environment of the tests has."""
    pytest.importorskip("openai")
    return importlib.import_module("limits")


@pytest.fixture
def adaptive_limit():
    """Its neighbour, which measures the adaptive limit."""
    return importlib.import_module("adaptive_limit")


def came(at: float, fault: Fault) -> SimpleNamespace:
    """A request on a provider's record."""
    return SimpleNamespace(at=at, fault=fault)


@pytest.mark.slow
def test_a_share_is_of_all_that_would_have_been_let_through(limits):
    """Three answers in two seconds at one a second, with one second's worth on top, are all; what came later does not count."""
    tally = limits.Tally("kit")
    good, limited = Fault.slow(0.0), Fault.rate_limited()
    tally.count([came(0.0, good), came(1.0, good), came(1.5, limited), came(2.0, good), came(2.1, good)], 2.0, 0, 60)
    assert (1.0, 3, 1, False) == (tally.share, tally.answered, tally.refused, tally.good)
    assert ("kit", "100.0%", "1", "1.33", "0", "0") == tally.row()


def test_a_course_tells_how_near_and_how_soon(adaptive_limit):
    """The mean of a phase's last half, and the time until it stayed near."""
    looks = [adaptive_limit.Look(turn * 0.1, 4 if turn < 50 else 10, turn, 0) for turn in range(100)]
    (phase,) = adaptive_limit.Course("it", [(0.0, 10)], 10.0, looks).phases()
    assert (10.0, True) == (phase.mean, phase.good)
    assert 4.7 == pytest.approx(phase.soon, abs=0.1)


def test_a_limit_that_is_never_near_is_not_good(adaptive_limit):
    """Nor is one that is found too late."""
    looks = [adaptive_limit.Look(turn * 0.1, 4, turn, 1) for turn in range(100)]
    (phase,) = adaptive_limit.Course("it", [(0.0, 10)], 10.0, looks).phases()
    assert (None, False) == (phase.soon, phase.good)


def test_the_simulated_server_is_found_out_and_followed(adaptive_limit):
    """Within a fifth of its capacity, and within five seconds of each change; the clock is a fake one."""
    clock, course = FakeClock(), adaptive_limit.Course("lets wait", adaptive_limit.CHANGES, adaptive_limit.LENGTH)
    adaptive = adaptive_limit.AdaptiveLimit(initial=4, slow_call_duration=adaptive_limit.SLOW, backoff=0.8)
    asyncio.run(adaptive_limit.Run(course, adaptive, clock).go(adaptive_limit.Patient(clock)))
    assert [20, 8, 30] == [phase.capacity for phase in course.phases() if phase.good]
    assert adaptive_limit.LENGTH == json.loads(json.dumps(course.to_json()))["length"]


@pytest.mark.slow
def test_a_rate_is_exact_over_a_simulated_minute(limits):
    """To one call."""
    assert 7 * 60 + 1 == pytest.approx(limits.started(FakeClock(), 7.0, 60.0, 20), abs=1)


def test_every_taker_takes(limits):
    """And has a figure; those that are promised are among them."""
    found = limits.costs(10, 2)
    assert set(limits.TAKERS) <= set(found)
    assert all(each.mid > 0 for each in found.values())


def test_what_is_not_kept_is_told(limits, adaptive_limit):
    """A promise by its name; contenders that promise nothing are left out."""
    cost = {name: limits.Spread(1e3, 2e3, 3e3) for name in limits.TAKERS}
    poor, other = limits.Tally(limits.PROMISED[0], share=0.5), limits.Tally("no limit, asks again")
    looks = [adaptive_limit.Look(turn * 0.1, 4, turn, 1) for turn in range(100)]
    report = limits.Report([poor, other], [adaptive_limit.Course("it", [(0.0, 10)], 10.0, looks)], [], cost)
    assert 4 == len(report.broken())
    assert "no limit" not in " ".join(report.broken())
    assert "never" in report.to_markdown()


def test_a_burst_that_is_not_answered_to_the_last_is_reported(limits):
    """Of the contenders that promise it; the others are in the table only."""
    good, poor = (limits.bursts.Burst(limits.bursts.PROMISED[0], 200, answered, 1, 3, 9.6) for answered in (200, 199))
    other = limits.bursts.Burst("an SDK", 200, 120, 80, 300, 17.0)
    cost = {name: limits.Spread(1.0, 1.0, 1.0) for name in limits.TAKERS}
    report = limits.Report([], [], [], cost, [good, poor, other])
    assert [f"{poor.name}: 199 of 200 answered, 1 ended by a 429"] == report.broken()
    assert "| an SDK | 200 | 120 | 80 | 300 | 17 |" in report.to_markdown()


def test_the_figures_replace_those_of_the_page(limits, monkeypatch, tmp_path, capsys):
    """What stands around them stays, and the course is kept for the picture."""
    report = limits.Report([], [], [("a rate", "1", "1", "+0%")], {name: limits.Spread(1.0, 1.0, 1.0) for name in limits.TAKERS})
    monkeypatch.setattr(limits, "benchmark", lambda _scale: report)
    page, kept = tmp_path / "page.md", tmp_path / "build" / "adaptive_limit.json"
    page_section = importlib.import_module("page_section")
    page.write_text(f"before\n{page_section.begin(limits.PROGRAM)}\nstale\n{page_section.END}\nafter\n", encoding="utf-8")
    assert 0 == limits.main(["--write", str(page), "--keep", str(kept)])
    written = page.read_text(encoding="utf-8")
    assert (True, True, False) == (written.startswith("before\n"), written.endswith("\nafter\n"), "stale" in written)
    assert [] == json.loads(kept.read_text(encoding="utf-8"))
    assert "a rate" in capsys.readouterr().out
