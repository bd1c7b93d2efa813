"""Process-wide switches: tracemalloc, the garbage collector. Each is restored at the end."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from types import TracebackType
from typing import Final

from resilience_kit._fork import register_fork_aware


class Switch:
    """A context manager that holds a process-wide switch in one position.

    Any number of threads, tasks and nested blocks may hold it at once and leave in any order: the last one to leave restores it,
    if the first one had to change it. Thread-safe.
    """

    def __init__(self, is_set: Callable[[], bool], put: Callable[[], object], put_back: Callable[[], object]) -> None:
        self._is_set, self._put, self._put_back = is_set, put, put_back
        self._holders = 0
        self._moved = False
        self._lock = threading.Lock()
        register_fork_aware(self)

    def __enter__(self) -> None:
        with self._lock:
            if not self._holders and not self._is_set():
                self._put()
                self._moved = True
            self._holders += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders and self._moved:
                self._moved = False
                self._put_back()

    def reset_after_fork(self) -> None:
        """Make a new lock in a forked child. The threads that held the switch are gone, but not its position."""
        self._lock = threading.Lock()


#: tracemalloc is on.
TRACING = Switch(tracemalloc.is_tracing, tracemalloc.start, tracemalloc.stop)
#: The garbage collector does not run by itself.
GC_DISABLED = Switch(lambda: not gc.isenabled(), gc.disable, gc.enable)
#: Objects that an interpreter may freeze by itself before any program runs: CPython 3.12 begins with some hundred, others with
#: none. A program that calls gc.freeze() freezes thousands.
_OF_INTERPRETER: Final = 1000
#: The garbage collector ignores what existed before, which makes its runs short.
FROZEN = Switch(lambda: gc.get_freeze_count() > _OF_INTERPRETER, gc.freeze, gc.unfreeze)
