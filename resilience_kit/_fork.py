"""What a forked child must not inherit: locks that another thread held, and permits of calls that did not come along."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """Owns a lock or permits."""

    def reset_after_fork(self) -> None:
        """Replace locks, drop permits. Runs in the child, which has one thread."""
        ...


_living: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def register_fork_aware(owner: ForkAware) -> None:
    """Have `owner` renewed in every forked child, for as long as it lives."""
    _living.add(owner)


class ForkSafeLock:
    """A reentrant lock of a module, which nobody holds in a forked child."""

    def __init__(self) -> None:
        self.reset_after_fork()
        register_fork_aware(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def reset_after_fork(self) -> None:
        """See `ForkAware`."""
        self._lock = threading.RLock()


def _reset_all() -> None:
    for owner in list(_living):
        owner.reset_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only, where nothing forks
    os.register_at_fork(after_in_child=_reset_all)
