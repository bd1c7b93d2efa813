"""The program that counts what retries add to an outage's load."""

from __future__ import annotations

import importlib

import pytest

from resilience_kit import ResilienceStrategy


@pytest.fixture
def outage():
    """The program, found where its neighbours are."""
    return importlib.import_module("outage")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ResilienceStrategy)
def test_a_total_outage_gets_the_burst_and_no_more(outage, strategy):
    """500 tokens at 14 a retry are 35 retries, of however many calls (invariant 31)."""
    assert 35 / outage.CALLS == pytest.approx(outage.extra_load(outage.kit(outage.alone(strategy)), 1.0))


@pytest.mark.slow
def test_without_a_budget_each_call_retries(outage):
    """What the figures are held against."""
    assert 2.0 == pytest.approx(outage.extra_load(outage.bare_tenacity(3), 1.0))


def test_protection_within_protection_multiplies_nothing(outage):
    """Three attempts, whatever the levels; each level that holds back says so once (invariant 31)."""
    assert [(3, 3, 0), (3, 9, 1), (3, 27, 2)] == [outage.nested(levels) for levels in (1, 2, 3)]


def test_the_figures_replace_those_of_the_page(outage, tmp_path, monkeypatch, capsys):
    """What stands around them stays."""
    monkeypatch.setattr(outage, "CALLS", 10)
    page = tmp_path / "page.md"
    page_section = importlib.import_module("page_section")
    page.write_text(f"before\n{page_section.begin(outage.PROGRAM)}\nstale\n{page_section.END}\nafter\n", encoding="utf-8")
    assert 0 == outage.main(["--write", str(page)])
    written = page.read_text(encoding="utf-8")
    assert (True, True) == (written.startswith("before\n"), written.endswith("\nafter\n"))
    assert "stale" not in written
    assert capsys.readouterr().out.strip() in written
