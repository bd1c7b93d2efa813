"""Work that must not be done where it comes up: one daemon thread takes it from a queue, in order.

The thread starts with the first item and ends when there has been none for a while, so a worker that is dropped is collected,
and a forked child, to which no thread comes along, starts one of its own.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from resilience_kit._fork import register_fork_aware

T = TypeVar("T")

#: Seconds without an item after which the thread ends.
_IDLE_SECONDS = 10.0
#: Seconds that the end of the interpreter waits for the queues of all workers.
_EXIT_FLUSH_SECONDS = 2.0


class Worker(Generic[T]):
    """Calls `work(item)` for each submitted item, one after the other, in a thread of its own. Thread-safe.

    `submit` never waits for `work`. With `maxsize`, a full queue drops its oldest item, or the new one if `drop_newest`;
    `dropped` counts them. `work` has to catch its own errors.
    """

    def __init__(self, name: str, work: Callable[[T], object], *, maxsize: int | None = None, drop_newest: bool = False) -> None:
        self._name, self._work, self._maxsize, self._drop_newest = name, work, maxsize, drop_newest
        self.dropped = 0
        #: Items with their numbers, of which the thread has one under way; 0: none.
        self._queue: deque[tuple[int, T]] = deque()
        self._in_progress = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._submitted = 0
        self._stopping = False
        register_fork_aware(self)
        _workers.add(self)

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, item: T) -> None:
        """Queue an item."""
        with self._changed:
            self._stopping = False
            if self._maxsize is not None and len(self._queue) >= self._maxsize:
                self.dropped += 1
                if self._drop_newest:
                    return
                self._queue.popleft()
            self._submitted += 1
            self._queue.append((self._submitted, item))
            self._changed.notify_all()
            self._start()

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until everything that was submitted before is done, at most `timeout` seconds; tells whether it is.

        Called by the worker's own thread it does not wait.
        """
        with self._changed:
            last_submitted = self._submitted
            if threading.current_thread() is self._thread:
                return self._is_processed(last_submitted)
            if self._is_processed(last_submitted) or self._start():
                return self._changed.wait_for(lambda: self._is_processed(last_submitted), timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while self._queue and self._queue[0][0] <= last_submitted:  # at the interpreter's end no thread starts
            if end is not None and time.monotonic() >= end:
                return False
            self._run(self._queue.popleft()[1])
        return True

    def _is_processed(self, number: int) -> bool:
        """Whether no item up to this number waits or is under way; those that were dropped do neither."""
        waits = bool(self._queue) and self._queue[0][0] <= number
        return not waits and not 0 < self._in_progress <= number

    def stop(self, timeout: float | None = 5.0) -> bool:
        """`flush`, and have the thread end. The next item starts another one."""
        flushed = self.flush(timeout)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        return flushed

    def _start(self) -> bool:
        """Have a thread where there is something to do; tells whether there is one. The lock is held."""
        if self._thread is not None and self._thread.is_alive():
            return True
        thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter ends: a later item or `flush` tries again
            return False
        self._thread = thread
        _flush_at_end_of_child()
        return True

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._stopping or (not self._changed.wait(_IDLE_SECONDS) and not self._queue):
                        self._thread = None
                        return
                number, item = self._queue.popleft()
                self._in_progress = number
            self._run(item)
            del item

    def _run(self, item: T) -> None:
        try:
            self._work(item)
        finally:
            with self._changed:
                self._in_progress = 0
                self._changed.notify_all()

    def reset_after_fork(self) -> None:
        """In a forked child: a lock that nobody holds, no thread, and an empty queue: what was in it is the parent's."""
        self._changed = threading.Condition()
        self._queue.clear()
        self._thread = None
        self._submitted = self._in_progress = 0
        self._stopping = False


_workers: weakref.WeakSet[Worker[Any]] = weakref.WeakSet()
_registered_in = 0


def _flush_all() -> None:
    end = time.monotonic() + _EXIT_FLUSH_SECONDS
    for worker in list(_workers):
        worker.flush(max(0.0, end - time.monotonic()))


atexit.register(_flush_all)


def _flush_at_end_of_child() -> None:
    """Flush in a child of `multiprocessing`, which ends without `atexit` but not without its own finalizers."""
    global _registered_in  # noqa: PLW0603 - once a process
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None and _registered_in != os.getpid():
        _registered_in = os.getpid()
        util.Finalize(None, _flush_all, exitpriority=0)
