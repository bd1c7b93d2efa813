"""What a forked child must not inherit: locks that another thread held, and permits of calls that did not come along."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Owns a lock or permits."""

    def renew_after_fork(self) -> None:
        """Replace locks, drop permits. Runs in the child, which has one thread."""
        ...


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(owner: Renewable) -> None:
    """Have `owner` renewed in every forked child, for as long as it lives."""
    _living.add(owner)


class Mutex:
    """A reentrant lock of a module, which nobody holds in a forked child."""

    def __init__(self) -> None:
        self.renew_after_fork()
        renew_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew_after_fork(self) -> None:
        """See `Renewable`."""
        self._lock = threading.RLock()


def _renew_all() -> None:
    for owner in list(_living):
        owner.renew_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only, where nothing forks
    os.register_at_fork(after_in_child=_renew_all)
