"""A forked child: fresh locks, no trial of the parent's. Run in an interpreter of its own, since pytest may have threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


def run(script: str) -> str:
    """What a script prints; its own error output fails the test."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROLOGUE + textwrap.dedent(script)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout


PROLOGUE = textwrap.dedent("""
    import logging, os, sys, threading
    from resilience_kit.policies.breaker import CircuitBreaker
    logging.getLogger("resilience_kit").setLevel("ERROR")
    now = [0.0]
    breaker = CircuitBreaker(1, 10.0, name="forked", clock=lambda: now[0])

    def in_child(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
                sys.stdout.flush()
                os._exit(0)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0, status

    def fail():
        raise ValueError

    def trip():
        try:
            breaker.call(fail)
        except ValueError:
            pass
""")


def test_a_child_has_no_trial_under_way(lab):
    """The parent's trial is not the child's: the child may try at once, the parent's slot stays taken (invariant 22)."""
    printed = run("""
        trip()
        now[0] = 10.0
        trial = breaker.acquire()
        generation = breaker.snapshot.generation

        def child():
            print(breaker.trials_in_flight, breaker.snapshot.generation > generation, breaker.state)
            breaker.on_success(trial)
            print(breaker.state)
            breaker.call(int)
            print(breaker.state)

        in_child(child)
        print(breaker.trials_in_flight, breaker.state)
        breaker.on_success(trial)
        print(breaker.state)
    """)
    assert ["0", "True", "half_open", "half_open", "closed", "1", "half_open", "closed"] == printed.split()


def test_a_lock_held_by_another_thread_is_free_in_the_child():
    """The child can fail, read, emit and count although a thread of the parent held every lock (invariant 22)."""
    printed = run("""
        from resilience_kit.policies.breaker import flush_stores
        from resilience_kit.policies.breaker.store import store_thread

        class Store:
            load = save = lambda *_: None

        heard = []
        breaker = CircuitBreaker(1, 10.0, name="forked", clock=lambda: now[0], store=Store())
        breaker.add_listener(heard.append)
        locks = [breaker._lock, breaker._own_stream._lock, store_thread._worker._changed]
        held, go_on = threading.Event(), threading.Event()

        def hold():
            for lock in locks:
                lock.acquire()
            held.set()
            go_on.wait()
            for lock in locks:
                lock.release()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()

        def child():
            trip()
            print(breaker.state, breaker.metrics["failure_count"], len(heard), flush_stores())

        in_child(child)
        go_on.set()
        thread.join()
        trip()
        print(breaker.state, len(heard))
    """)
    assert ["open", "1", "1", "True", "open", "1"] == printed.split()


def test_totals_are_the_parent_s_up_to_the_fork():
    """Counting goes on from where the parent was, in both."""
    printed = run("""
        for _ in range(3):
            breaker.call(int)
        in_child(lambda: (breaker.call(int), print(breaker.metrics["success_count"])))
        print(breaker.metrics["success_count"])
    """)
    assert ["4", "3"] == printed.split()


def test_a_renewed_breaker_in_this_process(lab):
    """What the hook does, without a fork: a new stay with free slots when half-open, the same one else (invariant 22)."""
    breaker = lab.half_open()
    breaker.acquire()
    lock, snapshot = breaker._lock, breaker.snapshot
    breaker.reset_after_fork()
    assert breaker._lock is not lock
    assert (snapshot.generation + 1, 2, True) == (breaker.snapshot.generation, breaker.failure_count, breaker.fits())
    breaker.reset()
    closed = breaker.snapshot
    breaker.reset_after_fork()
    assert closed is breaker.snapshot


def test_a_child_waits_for_its_store_though_the_parent_s_was_late():
    """What the parent's thread has still to answer is never answered in the child; the child's own store is asked."""
    assert "open\n" == run("""
        from resilience_kit.policies.breaker import store
        from resilience_kit.policies.breaker.states import CircuitState
        from resilience_kit import _worker
        store.LOAD_TIMEOUT = _worker._EXIT_FLUSH_SECONDS = 0.05

        class Slow:
            def load(self, name):
                threading.Event().wait()

            def save(self, name, state):
                pass

        class Quick(Slow):
            def load(self, name):
                return store.StoredState(CircuitState.OPEN, 1, 60.0)

        late = CircuitBreaker(1, 10.0, name="late", store=Slow())

        def child():
            store.LOAD_TIMEOUT = 20.0
            print(CircuitBreaker(1, 10.0, name="quick", store=Quick()).state.value)

        in_child(child)
    """)
