"""Operations of clients that have their own rules, such as the JSON clients: counted and shown here, and ruled there.

No strategy and no setting reaches them: what a client was not given is off. Clients of one name share one operation, however
many there were, and a client that is gone leaves its numbers only.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from resilience_kit._fork import register_fork_aware
from resilience_kit.clock import Clock
from resilience_kit.metrics import OperationMetrics
from resilience_kit.policies.breaker import CircuitBreaker

#: As for transports: what is beyond that has nothing in common but the name.
OTHER_HOSTS = "other hosts"
_MAX_NAMES, _MAX_NAME_LENGTH = 256, 180


class ClientOperation:
    """The numbers of the clients of one name, and their breakers for as long as these live."""

    def __init__(self, name: str, metrics: OperationMetrics) -> None:
        self.name, self.metrics = name, metrics
        self._breakers: tuple[weakref.ref[CircuitBreaker], ...] = ()

    def add_breaker(self, breaker: CircuitBreaker) -> None:
        """Have a client's breaker, too. The registry's lock is held."""
        alive = [ref for ref in self._breakers if ref() is not None and ref() is not breaker]
        self._breakers = (*alive, weakref.ref(breaker))

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The breaker that rejects most, None where no client that lives has one."""
        alive = [breaker for ref in self._breakers if (breaker := ref()) is not None]
        return max(alive, key=rejection_rank, default=None)


def rejection_rank(breaker: CircuitBreaker) -> tuple[bool, bool]:
    """Orders breakers by how much they reject."""
    return breaker.opened, not breaker.closed


class ClientOperations:
    """The operations of all clients. Thread-safe.

    `metrics_of`: the numbers of an operation of the orchestrator's own; a client of the same name adds to them.
    """

    def __init__(self) -> None:
        self._known: dict[str, ClientOperation] = {}
        self.metrics_of: Callable[[str], OperationMetrics | None] = {}.get  # type: ignore[assignment]  # of nothing
        self.reset_after_fork()
        register_fork_aware(self)

    def get_or_create(self, name: str, clock: Clock, breaker: object = None) -> ClientOperation:
        """The operation of that name, made when it is not there. A `breaker` of another library cannot be shown."""
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
        """The operation of that name, if a client has it."""
        return self._known.get(name)

    @property
    def known(self) -> list[ClientOperation]:
        """All of them, in the order in which they were made."""
        return list(self._known.values())

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds."""
        self.lock = threading.RLock()
