"""Bulkhead: limits the number of concurrent calls."""

from resilience_kit.policies.bulkhead.bulkhead import Bulkhead, BulkheadPermit
from resilience_kit.policies.bulkhead.options import AdaptiveLimit, BulkheadConfig

__all__ = ["AdaptiveLimit", "Bulkhead", "BulkheadConfig", "BulkheadPermit"]
