"""Marks the tests that a suite's file expects to fail; an expectation that fits no test is an error."""

from __future__ import annotations

import os
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expected failures are strict: one that passes fails the run. `*` and `?` are wildcards, brackets stand for themselves."""
    suite = tomllib.loads(Path(os.environ["FOREIGN_SUITE"]).read_text(encoding="utf-8"))
    unused = set(expected := suite.get("expected", {}))
    for item in items:
        for pattern, reason in expected.items():
            if fnmatchcase(item.nodeid, pattern.replace("[", "[[]")):
                unused.discard(pattern)
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True), append=False)
    if unused:
        raise pytest.UsageError(f"expectations that fit no test: {', '.join(sorted(unused))}")
