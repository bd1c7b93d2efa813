"""A fake AI provider for tests: a real HTTP server on loopback with configurable faults of a real service.

Importing it needs no extra; starting it needs `pip install 'ai-resilience-kit[testing]'`.
"""

from resilience_kit.testing.provider.faults import OK, REFUSE, Fault, FaultKind, FaultPlan, Outage, ReceivedRequest, SeededFaults
from resilience_kit.testing.provider.latency import SeededLatency
from resilience_kit.testing.provider.limits import Capacity, ProviderLimits
from resilience_kit.testing.provider.provider import FakeAIProvider

__all__ = [
    "OK",
    "REFUSE",
    "Capacity",
    "FakeAIProvider",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Outage",
    "ProviderLimits",
    "ReceivedRequest",
    "SeededFaults",
    "SeededLatency",
]
