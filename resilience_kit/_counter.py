"""A counter that many threads may advance without a lock and without losing one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count


class Counter:
    """`add()` counts one; `value` is exact.

    `itertools.count` advances in one step of C, also on builds without the GIL. It cannot be read without being advanced, so
    reads are counted too and taken off.
    """

    __slots__ = ("_lock", "_reads", "add")

    def __init__(self) -> None:
        self.add: Callable[[], int] = count().__next__
        self._reads = 0
        self.renew_after_fork()

    @property
    def value(self) -> int:
        """How often `add` was called."""
        with self._lock:
            total = self.add() - self._reads
            self._reads += 1
        return total

    def renew_after_fork(self) -> None:
        """A lock that nobody holds; reentrant, for a signal's handler may read while its thread does."""
        self._lock = threading.RLock()
