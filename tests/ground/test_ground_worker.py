"""Work in a thread of its own: order, the end of the thread, forks, and the end of the interpreter."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

from resilience_kit import _worker
from resilience_kit._worker import Worker


@pytest.fixture
def short_idle(monkeypatch):
    """Threads without work end at once."""
    monkeypatch.setattr(_worker, "_IDLE_SECONDS", 0.001)


def run(script: str) -> str:
    """What a script prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout


def test_a_worker_does_its_items_in_order():
    """All of them in one thread, which is not the caller's."""
    done: list[tuple[int, threading.Thread]] = []
    worker = Worker("worker", lambda item: done.append((item, threading.current_thread())))
    for item in range(50):
        worker.submit(item)
    assert worker.flush()
    assert [*range(50)] == [item for item, _ in done]
    (thread,) = {thread for _, thread in done}
    assert (True, "worker") == (thread.daemon, thread.name)


def test_a_flush_waits_for_what_came_before_it_only():
    """A queue that is never empty does not hold it up."""
    worker: Worker[threading.Event] = Worker("worker", lambda event: event.wait(30))
    first, second = threading.Event(), threading.Event()
    worker.submit(first)
    flushed: list[bool] = []
    waiting = threading.Thread(target=lambda: flushed.append(worker.flush(30)))
    waiting.start()
    first.set()
    waiting.join()
    worker.submit(second)
    assert [True] == flushed
    assert not worker.flush(0.0)
    second.set()
    assert worker.flush()


def test_an_idle_worker_has_no_thread_and_starts_another(short_idle):
    """So one that nobody holds is collected."""
    done: list[int] = []
    worker = Worker("worker", done.append)
    for number in range(3):
        worker.submit(number)
        assert worker.flush()
        while (thread := worker._thread) is not None:
            thread.join(1)
    assert [0, 1, 2] == done
    gone = weakref.ref(worker)
    del worker
    gc.collect()
    assert gone() is None


def test_a_stopped_worker_ends_its_thread_and_starts_again():
    """Stopping is no end for ever."""
    done: list[int] = []
    worker = Worker("worker", done.append)
    worker.submit(1)
    thread = worker._thread
    assert worker.stop()
    assert thread is not None
    thread.join(30)
    worker.submit(2)
    assert worker.stop()
    assert [1, 2] == done


def test_a_flush_by_the_worker_itself_does_not_wait():
    """It would wait for its own end."""
    answers: list[bool] = []
    worker: Worker[int] = Worker("worker", lambda _: answers.append(worker.flush(None)))
    worker.submit(1)
    assert worker.flush()
    assert [False] == answers


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_exits_ends_the_thread_and_not_the_worker():
    """An error that is not for catching passes; the next item has another thread."""
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            raise SystemExit
        done.append(item)

    worker = Worker("worker", work)
    worker.submit(1)
    assert worker.flush()
    thread = worker._thread
    assert thread is not None
    thread.join(30)
    worker.submit(2)
    assert worker.flush()
    assert [2] == done


def test_where_no_thread_starts_a_flush_does_the_work(monkeypatch):
    """At the interpreter's end, or where there are too many threads."""

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    worker = Worker("worker", done.append)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        worker.submit(1)
        assert [] == done
        assert worker.flush()
        assert [1] == done
        worker.submit(2)
    worker.submit(3)
    assert worker.flush()
    assert [1, 2, 3] == done


def test_where_no_thread_starts_a_flush_ends_in_time(monkeypatch):
    """Also at the interpreter's end, with a long queue of a slow sink."""

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    now, done = [0.0], list[int]()

    def work(item):
        done.append(item)
        now[0] += 1.0

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    monkeypatch.setattr(_worker.time, "monotonic", lambda: now[0])
    worker = Worker("worker", work)
    for item in range(5):
        worker.submit(item)
    assert not worker.flush(2.0)
    assert [0, 1] == done
    assert worker.flush(None)
    assert [0, 1, 2, 3, 4] == done


def test_a_flush_waits_for_what_is_under_way_while_other_items_are_dropped():
    """A dropped item is not taken for the one that the thread still works on."""
    gate, entered = threading.Event(), threading.Event()

    def work(_: int) -> None:
        entered.set()
        assert gate.wait(30)

    worker = Worker("worker", work, maxsize=1)
    worker.submit(1)
    assert entered.wait(30)
    flushed: list[bool] = []
    waiting = threading.Thread(target=lambda: flushed.append(worker.flush(0.05)))
    waiting.start()
    for item in range(2, 10):
        worker.submit(item)
    waiting.join()
    assert ([False], 7) == (flushed, worker.dropped)
    gate.set()
    assert worker.flush()


def test_a_renewed_worker_has_nothing_of_the_parent_s(monkeypatch):
    """What a fork does: no thread, nothing queued, and a lock that nobody holds (invariant 22)."""

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    worker = Worker("worker", done.append)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        worker.submit(1)
    holder = threading.Thread(target=worker._changed.acquire)
    holder.start()
    holder.join()
    worker.reset_after_fork()
    assert (0, True) == (len(worker), worker.flush(0.0))
    worker.submit(3)
    assert worker.flush()
    assert [3] == done


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_works_and_leaves_the_parent_s_items_to_the_parent():
    """Also one that was forked in the midst of the parent's work (invariant 22)."""
    printed = run("""
        import os, threading
        from resilience_kit.events import CallCancelled, QueuedListener

        gate, entered = threading.Event(), threading.Event()

        def sink(event):
            entered.set()
            gate.wait(30)
            print(os.getpid() == parent, event.attempts, flush=True)

        parent, queued = os.getpid(), QueuedListener(sink)
        for number in (1, 2):
            queued(CallCancelled(operation="x", attempts=number))
        entered.wait(30)
        pid = os.fork()
        if pid == 0:
            gate.set()
            queued(CallCancelled(operation="x", attempts=3))
            os._exit(0 if queued.close() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        gate.set()
        queued.close()
    """)
    assert ["False 3", "True 1", "True 2"] == printed.splitlines()


def test_the_end_of_the_interpreter_waits_for_the_queue():
    """What was queued last is done, too."""
    printed = run("""
        import time
        from resilience_kit.events import CallCancelled, QueuedListener

        def sink(event):
            time.sleep(0.01)
            print(event.attempts, flush=True)

        queued = QueuedListener(sink)
        for number in range(5):
            queued(CallCancelled(operation="x", attempts=number))
    """)
    assert ["0", "1", "2", "3", "4"] == printed.split()


def test_the_end_of_the_interpreter_does_not_wait_for_ever():
    """A sink that does not return is left."""
    assert "end\n" == run("""
        import threading
        from resilience_kit import _worker
        from resilience_kit.events import CallCancelled, QueuedListener

        _worker._EXIT_FLUSH_SECONDS = 0.05
        queued = QueuedListener(lambda event: threading.Event().wait())
        queued(CallCancelled(operation="x", attempts=1))
        print("end")
    """)


def test_the_wait_at_the_end_is_bounded_for_all_workers_together(monkeypatch):
    """Those that are done cost nothing, and the bound is for all of them."""
    monkeypatch.setattr(_worker, "_EXIT_FLUSH_SECONDS", 0.01)
    gate = threading.Event()
    workers: list[Worker[int]] = [Worker("worker", lambda _: gate.wait(30)) for _ in range(3)]
    for worker in workers:
        worker.submit(1)
    _worker._flush_all()
    assert [False] * 3 == [worker.flush(0.0) for worker in workers]
    gate.set()
    monkeypatch.setattr(_worker, "_EXIT_FLUSH_SECONDS", 30.0)
    _worker._flush_all()
    assert [True] * 3 == [worker.flush(0.0) for worker in workers]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_of_multiprocessing_waits_for_its_queue_too():
    """Such a child ends without `atexit`."""
    printed = run("""
        import multiprocessing, time
        from resilience_kit.events import CallCancelled, QueuedListener

        def sink(event):
            time.sleep(0.01)
            print(event.attempts, flush=True)

        def work():
            queued = QueuedListener(sink)
            for number in range(3):
                queued(CallCancelled(operation="x", attempts=number))

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
    """)
    assert ["0", "1", "2"] == printed.split()


def test_a_child_registers_its_end_once(monkeypatch):
    """However often its threads start; and the main process not at all, which has `atexit`."""
    registered: list[object] = []
    monkeypatch.setattr(_worker, "_registered_in", 0)
    import multiprocessing.process
    import multiprocessing.util

    monkeypatch.setattr(multiprocessing.util, "Finalize", lambda *args, **_: registered.append(args))
    _worker._flush_at_end_of_child()
    assert [] == registered
    monkeypatch.setattr(multiprocessing.process, "parent_process", object)
    _worker._flush_at_end_of_child()
    _worker._flush_at_end_of_child()
    assert 1 == len(registered)
