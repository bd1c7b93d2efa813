"""Keeps a breaker's state over a restart.

A store is a hint that may vanish: when it cannot be read or written, the breaker goes on alone, and the trouble is logged once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resilience_kit.policies.breaker.states import CircuitState


@dataclass(frozen=True, slots=True)
class StoredState:
    """What is worth keeping: the state, failures in a row, and the seconds of open time left when it was saved."""

    state: CircuitState
    failures: int
    remaining: float


class BreakerStore(Protocol):
    """Where breakers keep their states, by name. Called at state changes only, without the lock that calls need. Thread-safe."""

    def load(self, name: str) -> StoredState | None:
        """The state saved last, with the time passed since then taken off `remaining`; None when there is none."""
        ...

    def save(self, name: str, state: StoredState) -> None:
        """Replace the state of `name`."""
        ...


_TABLE = """CREATE TABLE IF NOT EXISTS breaker (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, failures INTEGER NOT NULL, remaining REAL NOT NULL, saved_at REAL NOT NULL
)"""


class SQLiteBreakerStore:
    """A file of breaker states, opened at each use. Open time goes on while the process is down.

    `timeout`: seconds to wait for another process that writes.

    The wall clock is the only one that outlives a process, so it is read here, and not trusted: a clock that has jumped can
    end an open time early, or at worst leave the time that was left when it was saved.
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
        """See `BreakerStore`. Raises `sqlite3.Error` or `ValueError` on a file that is not one of ours."""
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
        """See `BreakerStore`. Raises `sqlite3.Error`."""
        with self._connection() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO breaker VALUES (?, ?, ?, ?, ?)",
                (name, state.state.value, state.failures, state.remaining, time.time()),
            )
