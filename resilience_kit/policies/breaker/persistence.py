"""Keeps the state of a breaker in a store, over a restart.

The stores' own thread calls the store. Nothing here takes the breaker's lock: `apply_stored_state` does, in the breaker.
"""

from __future__ import annotations

import functools
import logging
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from resilience_kit.policies.breaker.states import CircuitState, StateSnapshot
from resilience_kit.policies.breaker.store import BreakerStore, StoredState, store_thread

_logger = logging.getLogger("resilience_kit")

#: What a stored state becomes after a restart.
RESTORED_STATES = {
    CircuitState.OPEN: CircuitState.OPEN,
    CircuitState.HALF_OPEN: CircuitState.OPEN,
    CircuitState.FORCED_OPEN: CircuitState.FORCED_OPEN,
}


class PersistentBreaker(Protocol):
    """What a `StatePersistence` needs of its breaker."""

    snapshot: StateSnapshot

    @property
    def name(self) -> str | None:
        """The name under which the store keeps the state; None: nothing is kept."""
        ...

    def stored_state(self) -> StoredState:
        """Return what is worth keeping of the present state."""
        ...

    def apply_stored_state(self, stored: StoredState | None, before: StateSnapshot) -> None:
        """Go to a stored state, unless the breaker has moved on from `before` in the meantime."""
        ...


class StatePersistence:
    """The store of one breaker, which is given with each call: kept here, it would be a reference cycle.

    `save_pending`: a save has been submitted, and will write the state as it is by then.
    """

    __slots__ = ("save_pending", "store")

    def __init__(self, store: BreakerStore | None) -> None:
        self.store, self.save_pending = store, False

    def start_restore(self, breaker: PersistentBreaker) -> PendingRestore | None:
        """Have the store read; `finish()` of what is returned takes the state over. None where there is nothing to read."""
        if self.store is None or breaker.name is None:
            return None
        return PendingRestore(breaker, self, breaker.snapshot, store_thread.load(self.store, breaker.name))

    def save_soon(self, breaker: PersistentBreaker) -> None:
        """Submit a save to the stores' thread, unless one is pending."""
        if self.store is not None and not self.save_pending:
            self.save_pending = True
            store_thread.submit(functools.partial(self.save, breaker))

    def save(self, breaker: PersistentBreaker) -> None:
        """Write the present state. Called by the stores' thread."""
        self.save_pending = False  # before the state is read: one that comes later is saved later
        store = self.store
        if store is None or breaker.name is None:
            return
        try:
            store.save(breaker.name, breaker.stored_state())
        except Exception as error:  # noqa: BLE001 - a store is a hint; whatever it raises, the breaker goes on
            self.detach_store(breaker, error)

    def detach_store(self, breaker: PersistentBreaker, error: Exception) -> None:
        """Go on without a store that failed; logged once."""
        store, self.store = self.store, None
        if store is not None:
            message = "the store of circuit breaker %r failed (%s); its state stays in this process"
            _logger.error(message, str(breaker), type(error).__name__)


class PendingRestore(NamedTuple):
    """A state that the store's thread reads for a breaker."""

    breaker: PersistentBreaker
    persistence: StatePersistence
    before: StateSnapshot
    result: Future[StoredState | None]

    def finish(self) -> None:
        """Have the breaker take the state over: now, after waiting for it, or on an event loop when it is there."""
        if store_thread.may_wait() and store_thread.wait(self.result):
            self._apply(self.result)
        else:
            self.result.add_done_callback(self._apply)

    def _apply(self, result: Future[StoredState | None]) -> None:
        try:
            stored = result.result()
        except Exception as error:  # noqa: BLE001 - a store is a hint; whatever it raises, the breaker goes on
            self.persistence.detach_store(self.breaker, error)
        else:
            self.breaker.apply_stored_state(stored, self.before)
