"""Settings that all tests share, and the mark `table`."""

from __future__ import annotations

import gc
import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. CI takes the same examples every time, so that a red run can be repeated;
# elsewhere each run explores further and keeps what it found in .hypothesis/. `make test` is quick.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True, database=None, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("local"), max_examples=2000)
settings.register_profile("quick", parent=settings.get_profile("ci" if os.environ.get("CI") else "local"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "local"))

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker is measured by `make coverage`; what its tests start is not, which would cost more than it tells.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def pytest_collection_finish() -> None:
    """Many tests have the collector run, and it need not look through all modules and thousands of tests each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Nor through what the tests of another file have imported; their garbage goes first."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


# --- @pytest.mark.table: what parametrize does, in one test for all rows ---
#
# A test costs pytest some milliseconds, a row a few microseconds. Only for tests to which a row leaves nothing: all rows share
# the fixtures. All are tried, whichever fail. With --rows each is a test of its own, which -k can choose.


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --rows."""
    parser.addoption("--rows", action="store_true", help="make a test of its own of each row of a table")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Has pytest take the names of the rows for arguments that need no fixture."""
    for mark in metafunc.definition.iter_markers("table"):
        names, rows = mark.args
        if metafunc.config.getoption("rows"):
            metafunc.parametrize(names, rows, **mark.kwargs)
        else:
            nothing = [None] * len(_names(names))
            metafunc.parametrize(_names(names), [pytest.param(*nothing, id=pytest.HIDDEN_PARAM)])


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tries all rows; raises the first error, with the names of the rows that fail."""
    tables = [_rows(mark) for mark in pyfuncitem.iter_markers("table")]
    if not tables or pyfuncitem.config.getoption("rows"):
        return None
    fixtures = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    failed: list[tuple[str, Exception]] = []
    for combined in itertools.product(*tables):
        row = {name: value for each in combined for name, value in each.items()}
        try:
            pyfuncitem.obj(**fixtures | row)
        except Exception as error:
            failed.append((", ".join(f"{name}={value!r:.100}" for name, value in row.items()), error))
    if failed:
        error = failed[0][1]
        error.add_note("\n".join([f"{len(failed)} rows fail; see each with --rows:", *(name for name, _ in failed[:20])]))
        raise error
    return True


def _names(names: Any) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _rows(mark: pytest.Mark) -> list[dict[str, Any]]:
    names, rows = _names(mark.args[0]), mark.args[1]
    values = (row.values if isinstance(row, type(pytest.param())) else row if len(names) > 1 else (row,) for row in rows)
    return [dict(zip(names, each, strict=True)) for each in values]
