"""A fresh default orchestrator and fresh process-wide state for a test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resilience_kit.classification.registry import snapshot_classifiers
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.orchestrator.default import replaced_default
from resilience_kit.policies.breaker.monitor import unregister_all

_PACING = "resilience_kit.http.pacing"
_VARIABLES = "resilience_kit.config.variables"


@contextmanager
def fresh_orchestrator(settings: Any = None, *, clock: Clock = SYSTEM_CLOCK) -> Iterator[AIServiceResilience]:
    """Install a new default orchestrator, and a shared pacing without observations, inside the block.

        with fresh_orchestrator() as kit: ...

    `settings` and `clock` are those of the `AIServiceResilience`. Decorated functions, transports and clients that were made
    before, such as those of a module under test, use it too. At the end the default orchestrator of before is back, with its
    circuits as they were; the shared pacing is reset again, classifiers that were registered meanwhile are removed, the
    library's monitor shows the breakers of before, and what is logged once a process can be logged again. Breakers, limits,
    orchestrators and pacings that a test creates are not touched. Not for two threads at a time, since it is process-wide.
    """
    restore_classifiers, restore_monitor = snapshot_classifiers(), unregister_all()
    _reset_process_state()
    try:
        with replaced_default(AIServiceResilience(settings, clock=clock)) as orchestrator:
            yield orchestrator
    finally:
        _reset_process_state()
        restore_monitor()
        restore_classifiers()


def _reset_process_state() -> None:
    """Reset the state of the modules that are imported."""
    if _PACING in sys.modules:
        sys.modules[_PACING].shared_pacing().reset_all()
    if _VARIABLES in sys.modules:
        sys.modules[_VARIABLES].reset_warnings()
