"""The programs in benchmarks/ import each other as neighbours, so their folder has to be on the path."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _neighbours(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
