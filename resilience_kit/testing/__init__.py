"""Tools for users' tests: a fake provider, a fake clock, planned failures, a load generator, and a switch that removes waits.

The provider's names are imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from resilience_kit.testing.clock import FakeClock
from resilience_kit.testing.failures import FailingFunction, Failure, after, every_nth, fails_then_succeeds, seeded_rate, sequence
from resilience_kit.testing.fresh import fresh_orchestrator
from resilience_kit.testing.load import LoadReport, run_load, run_load_async
from resilience_kit.testing.waiting import no_waiting

if TYPE_CHECKING:
    from resilience_kit.testing.provider import (
        OK,
        REFUSE,
        Capacity,
        FakeAIProvider,
        Fault,
        FaultKind,
        FaultPlan,
        Outage,
        ProviderLimits,
        ReceivedRequest,
        SeededFaults,
        SeededLatency,
    )

__all__ = [
    "OK",
    "REFUSE",
    "Capacity",
    "FailingFunction",
    "Failure",
    "FakeAIProvider",
    "FakeClock",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "LoadReport",
    "Outage",
    "ProviderLimits",
    "ReceivedRequest",
    "SeededFaults",
    "SeededLatency",
    "after",
    "every_nth",
    "fails_then_succeeds",
    "fresh_orchestrator",
    "no_waiting",
    "run_load",
    "run_load_async",
    "seeded_rate",
    "sequence",
]

_OF_THE_PROVIDER = frozenset(
    {
        "OK",
        "REFUSE",
        "Capacity",
        "FakeAIProvider",
        "Fault",
        "FaultKind",
        "Outage",
        "FaultPlan",
        "ProviderLimits",
        "ReceivedRequest",
        "SeededFaults",
        "SeededLatency",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _OF_THE_PROVIDER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.provider"), name)
