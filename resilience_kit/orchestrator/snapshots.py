"""Snapshots of an orchestrator for people and exporters: metrics, breakers and health, ready for JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from resilience_kit._checks import did_you_mean
from resilience_kit.errors import ConfigurationError
from resilience_kit.metrics import OperationMetrics
from resilience_kit.orchestrator.clients import rejection_rank
from resilience_kit.orchestrator.registry import OperationRegistry
from resilience_kit.policies.breaker import CircuitBreaker, CircuitState


class Snapshots:
    """Reads one registry and the clients attached to it. Thread-safe."""

    def __init__(self, registry: OperationRegistry) -> None:
        self._registry = registry

    def operation_names(self) -> list[str]:
        """List the registry's operations, then those of clients, each in the order of first use."""
        registry = self._registry
        return list(dict.fromkeys([*registry.operations, *(client.name for client in registry.clients.known)]))

    def metrics(self, operation: str | None = None) -> dict[str, Any]:
        """See `AIServiceResilience.get_metrics`."""
        if operation is not None:
            return self._metrics_of(operation).snapshot()
        breakers = self._breakers()
        open_count = sum(breaker.opened for breaker in breakers.values())
        names = self.operation_names()
        return {
            "operations": {name: self._metrics_of(name).snapshot() for name in names},
            "circuit_breaker": {name: breaker.describe() for name, breaker in breakers.items()},
            "summary": {
                "total_operations": len(names),
                "healthy_circuit_breakers": len(breakers) - open_count,
                "open_circuit_breakers": open_count,
                "timestamp": _utc_timestamp(),
            },
        }

    def reset_metrics(self, operation: str | None = None) -> None:
        """See `AIServiceResilience.reset_metrics`."""
        for name in self.operation_names() if operation is None else [operation]:
            self._metrics_of(name).reset()

    def open_circuits(self) -> list[str]:
        """List the operations whose circuit is open or forced open, sorted."""
        return self._in_state(CircuitState.OPEN, CircuitState.FORCED_OPEN)

    def health(self) -> dict[str, Any]:
        """See `AIServiceResilience.get_health_status`."""
        opened = self.open_circuits()
        return {
            "healthy": not opened,
            "open_circuit_breakers": opened,
            "half_open_circuit_breakers": self._in_state(CircuitState.HALF_OPEN),
            "total_circuit_breakers": len(self._breakers()),
            "total_operations": len(self.operation_names()),
            "timestamp": _utc_timestamp(),
        }

    def _in_state(self, *states: CircuitState) -> list[str]:
        return [name for name, breaker in sorted(self._breakers().items()) if breaker.state in states]

    def _breakers(self) -> dict[str, CircuitBreaker]:
        """Return each operation's breaker: its own, or that of a client of the same name if that one rejects more."""
        found = {each.name: each.breaker for each in list(self._registry.operations.values())}
        for client in self._registry.clients.known:
            breaker, own = client.breaker, found.get(client.name)
            if breaker is not None and (own is None or rejection_rank(breaker) > rejection_rank(own)):
                found[client.name] = breaker
        return found

    def _metrics_of(self, operation: str) -> OperationMetrics:
        client = self._registry.clients.get(operation)
        metrics = self._registry.own_metrics(operation) or (None if client is None else client.metrics)
        if metrics is None:
            known = did_you_mean(operation, self.operation_names())
            raise ConfigurationError([("operation", f"must be an operation in use{known}", operation)])
        return metrics


def _utc_timestamp() -> str:
    return datetime.now(UTC).isoformat()
