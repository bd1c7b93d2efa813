"""What the tests against real libraries share: orchestrators that the environment does not change, and time limits."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

from resilience_kit import AIServiceResilience

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
