"""Stores that keep the state of breakers over a restart.

A store is optional: if it cannot be read or written, the breaker continues without it, and the failure is logged once.
One thread reads and writes all stores of a process, so that no call and no event loop waits for a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from resilience_kit._fork import register_fork_aware
from resilience_kit._worker import Worker
from resilience_kit.policies.breaker.states import CircuitState


@dataclass(frozen=True, slots=True)
class StoredState:
    """The part of a state that is stored: the state, consecutive failures, and the seconds of open time left at the save."""

    state: CircuitState
    failures: int
    remaining: float


class BreakerStore(Protocol):
    """Keeps states of breakers by name. Called at state changes only, by a thread that all stores share."""

    def load(self, name: str) -> StoredState | None:
        """Return the state saved last, with the time since then taken off `remaining`; None if there is none."""
        ...

    def save(self, name: str, state: StoredState) -> None:
        """Replace the state of `name`."""
        ...


#: Seconds that a thread without an event loop waits for a load.
LOAD_TIMEOUT: Final = 1.0


class StoreThread:
    """The thread that reads and writes all stores of this process, in the order of submission. See `flush_stores`."""

    def __init__(self) -> None:
        self._worker: Worker[Callable[[], object]] = Worker("resilience_kit stores", lambda work: work())
        self._overdue_load: Future[StoredState | None] | None = None
        register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Forget the overdue load in a forked child, where the parent's thread does not run."""
        self._overdue_load = None

    def submit(self, work: Callable[[], object]) -> None:
        """Run `work`, which catches its own errors, on the thread."""
        self._worker.submit(work)

    def load(self, store: BreakerStore, name: str) -> Future[StoredState | None]:
        """Submit a load, which runs after everything submitted before."""
        result: Future[StoredState | None] = Future()

        def work() -> None:
            try:
                stored = store.load(name)
            except Exception as error:  # noqa: BLE001 - raised where the result is read
                result.set_exception(error)
            else:
                result.set_result(stored)

        self._worker.submit(work)
        return result

    def may_wait(self) -> bool:
        """Return whether the current thread may wait for a load: it runs no event loop, and no load is overdue."""
        return not _on_event_loop() and (self._overdue_load is None or self._overdue_load.done())

    def wait(self, result: Future[StoredState | None]) -> bool:
        """Wait for a load for at most `LOAD_TIMEOUT`; return whether it is done."""
        self._worker.flush(LOAD_TIMEOUT)
        self._overdue_load = None if result.done() else result
        return result.done()

    def flush(self, timeout: float | None) -> bool:
        """Wait for all submitted work; see `flush_stores`."""
        return self._worker.flush(timeout)

    def stop(self, timeout: float | None) -> bool:
        """End the thread; see `close_stores`."""
        return self._worker.stop(timeout)


def _on_event_loop() -> bool:
    """Return whether the current thread runs an event loop of asyncio or trio."""
    in_trio = getattr(getattr(sys.modules.get("trio"), "lowlevel", None), "in_trio_run", None)
    return asyncio._get_running_loop() is not None or (in_trio is not None and in_trio())  # noqa: SLF001


store_thread: Final = StoreThread()


def flush_stores(timeout: float | None = 5.0) -> bool:
    """Wait until the states of all breakers are stored, at most `timeout` seconds; return whether they are.

    A process that exits normally does this by itself, for at most two seconds.
    """
    return store_thread.flush(timeout)


def close_stores(timeout: float | None = 5.0) -> bool:
    """Flush as `flush_stores` does, and end the writing thread. A later state change starts another one."""
    return store_thread.stop(timeout)


_TABLE = """CREATE TABLE IF NOT EXISTS breaker (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, failures INTEGER NOT NULL, remaining REAL NOT NULL, saved_at REAL NOT NULL
)"""


class SQLiteBreakerStore:
    """A SQLite file of breaker states, opened at each use. Open time goes on while the process is down.

    `timeout`: seconds to wait for the lock of another process that writes.

    Only the wall clock survives a restart, so it is read here, and not trusted: a clock that has jumped can end an open
    time early, or at worst leave the time that was left at the save.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 1.0) -> None:
        self._path, self._timeout = Path(path), timeout

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if not self._path.exists():
            self._path.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(self._path, timeout=self._timeout)) as connection, connection:
            connection.execute(_TABLE)
            yield connection

    def load(self, name: str) -> StoredState | None:
        """Load a state; see `BreakerStore`. Raises `sqlite3.Error` or `ValueError` for a file of another format."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT state, failures, remaining, saved_at FROM breaker WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            return None
        state, failures, remaining, saved_at = row
        passed = max(0.0, time.time() - float(saved_at))
        return StoredState(CircuitState(state), int(failures), max(0.0, float(remaining) - passed))

    def save(self, name: str, state: StoredState) -> None:
        """Save a state; see `BreakerStore`. Raises `sqlite3.Error`."""
        with self._connection() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO breaker VALUES (?, ?, ?, ?, ?)",
                (name, state.state.value, state.failures, state.remaining, time.time()),
            )
