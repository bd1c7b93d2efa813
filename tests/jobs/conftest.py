"""Jobs without a database. Where the extra `jobs` has no wheels, there is nothing to test."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from resilience_kit.events import Event, EventStream

collect_ignore_glob = [] if find_spec("procrastinate") and find_spec("psycopg") else ["test_*.py"]


@pytest.fixture
def events() -> EventStream:
    """A stream of the test's own."""
    return EventStream()


@pytest.fixture
def heard(events: EventStream) -> list[Event]:
    """All that comes along in it."""
    found: list[Event] = []
    events.add_listener(found.append)
    return found


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "API_BASE_URL", "JOB_TIMEOUT", "MAX_RETRIES", "RETRY_BASE_DELAY", "RETRY_MAX_DELAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("WORKER_CONCURRENCY", raising=False)
