"""Operations of clients that carry their own policies, such as the JSON clients: the orchestrator only reports on them.

Strategies and settings do not apply to them: a policy that a client was not given is off. Clients of one name share one
operation. A client that was collected leaves its metrics only.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import Clock
from resilience_kit.metrics import OperationMetrics
from resilience_kit.policies.breaker import CircuitBreaker

#: The operation of all clients beyond the limit of names, as for transports.
OTHER_HOSTS = "other hosts"
_MAX_NAMES, _MAX_NAME_LENGTH = 256, 180


class ClientOperation:
    """The metrics of the clients of one name, and weak references to their breakers."""

    def __init__(self, name: str, metrics: OperationMetrics) -> None:
        self.name, self.metrics = name, metrics
        self._breakers: tuple[weakref.ref[CircuitBreaker], ...] = ()

    def add_breaker(self, breaker: CircuitBreaker) -> None:
        """Add a client's breaker. The caller holds the lock of `ClientOperations`."""
        alive = [ref for ref in self._breakers if ref() is not None and ref() is not breaker]
        self._breakers = (*alive, weakref.ref(breaker))

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The breaker that rejects most; None if no living client has one."""
        alive = [breaker for ref in self._breakers if (breaker := ref()) is not None]
        return max(alive, key=rejection_rank, default=None)


def rejection_rank(breaker: CircuitBreaker) -> tuple[bool, bool]:
    """Return a sort key: the more a breaker rejects, the larger."""
    return breaker.opened, not breaker.closed


class ClientOperations:
    """The operations of all clients. Thread-safe.

    `metrics_of`: returns the metrics of an orchestrator's operation; a client of the same name adds to them.
    """

    def __init__(self) -> None:
        self._known: dict[str, ClientOperation] = {}
        self.metrics_of: Callable[[str], OperationMetrics | None] = {}.get  # type: ignore[assignment]  # of nothing
        self.reset_after_fork()
        register_fork_aware(self)

    def get_or_create(self, name: str, clock: Clock, breaker: object = None) -> ClientOperation:
        """Return the operation of that name, made if it is new. A `breaker` of another library is not shown."""
        name = name[:_MAX_NAME_LENGTH]
        with self.lock:
            if name not in self._known and len(self._known) >= _MAX_NAMES:
                name = OTHER_HOSTS
            operation, shared = self._known.get(name), self.metrics_of(name)
            if operation is None:
                operation = self._known[name] = ClientOperation(name, shared or OperationMetrics(clock))
            elif shared is None:
                operation.metrics.use_clock(clock)
            if isinstance(breaker, CircuitBreaker):
                operation.add_breaker(breaker)
        return operation

    def get(self, name: str) -> ClientOperation | None:
        """Return the operation of that name; None if no client has it."""
        return self._known.get(name)

    @property
    def known(self) -> list[ClientOperation]:
        """All operations of clients, in the order of creation."""
        return list(self._known.values())

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child, where another thread may have held it."""
        self.lock = threading.RLock()
