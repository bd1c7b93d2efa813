"""Keeps the state of a breaker in a store, over a restart.

The store thread calls the store. Nothing here takes the breaker's lock; `BreakerCore.apply_stored_state` does.
"""

from __future__ import annotations

import functools
import logging
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from resilience_kit.policies.breaker.states import CircuitState, StateSnapshot
from resilience_kit.policies.breaker.store import BreakerStore, StoredState, store_thread

_logger = logging.getLogger("resilience_kit")

#: The state after a restart for each stored state that is restored.
RESTORED_STATES = {
    CircuitState.OPEN: CircuitState.OPEN,
    CircuitState.HALF_OPEN: CircuitState.OPEN,
    CircuitState.FORCED_OPEN: CircuitState.FORCED_OPEN,
}


class PersistentBreaker(Protocol):
    """The interface of a breaker that `StatePersistence` needs."""

    snapshot: StateSnapshot

    @property
    def name(self) -> str | None:
        """Return the key in the store; None: nothing is kept."""
        ...

    def stored_state(self) -> StoredState:
        """Return the part of the current state that a store keeps."""
        ...

    def apply_stored_state(self, stored: StoredState | None, before: StateSnapshot) -> None:
        """Apply a stored state, unless the breaker has left `before` in the meantime."""
        ...


class StatePersistence:
    """The store of one breaker. Each call takes the breaker as an argument: an attribute would be a reference cycle.

    `save_pending`: a save has been submitted and will write the state that is current when it runs.
    """

    __slots__ = ("save_pending", "store")

    def __init__(self, store: BreakerStore | None) -> None:
        self.store, self.save_pending = store, False

    def start_restore(self, breaker: PersistentBreaker) -> PendingRestore | None:
        """Submit a load; `finish()` of the return value applies the state. None if there is nothing to load."""
        if self.store is None or breaker.name is None:
            return None
        return PendingRestore(breaker, self, breaker.snapshot, store_thread.load(self.store, breaker.name))

    def save_soon(self, breaker: PersistentBreaker) -> None:
        """Submit a save to the store thread, unless one is pending."""
        if self.store is not None and not self.save_pending:
            self.save_pending = True
            store_thread.submit(functools.partial(self.save, breaker))

    def save(self, breaker: PersistentBreaker) -> None:
        """Write the current state. Called by the store thread."""
        self.save_pending = False  # before the state is read: a later change submits another save
        store = self.store
        if store is None or breaker.name is None:
            return
        try:
            store.save(breaker.name, breaker.stored_state())
        except Exception as error:  # noqa: BLE001 - a store is optional; whatever it raises, the breaker continues
            self.detach_store(breaker, error)

    def detach_store(self, breaker: PersistentBreaker, error: Exception) -> None:
        """Continue without a store that failed; logged once."""
        store, self.store = self.store, None
        if store is not None:
            message = "the store of circuit breaker %r failed (%s); its state stays in this process"
            _logger.error(message, str(breaker), type(error).__name__)


class PendingRestore(NamedTuple):
    """A state that the store thread is loading for a breaker."""

    breaker: PersistentBreaker
    persistence: StatePersistence
    before: StateSnapshot
    result: Future[StoredState | None]

    def finish(self) -> None:
        """Apply the state: now, after waiting for it, or in a callback when the thread may not wait."""
        if store_thread.may_wait() and store_thread.wait(self.result):
            self._apply(self.result)
        else:
            self.result.add_done_callback(self._apply)

    def _apply(self, result: Future[StoredState | None]) -> None:
        try:
            stored = result.result()
        except Exception as error:  # noqa: BLE001 - a store is optional; whatever it raises, the breaker continues
            self.persistence.detach_store(self.breaker, error)
        else:
            self.breaker.apply_stored_state(stored, self.before)
