"""More than one process: forks in the midst of work, pools, and a breaker's state that outlives its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A script in an interpreter of its own, where warnings are errors."""
    command = [sys.executable, "-W", "error", "-W", "ignore:.*fork.*:DeprecationWarning", "-c", textwrap.dedent(script)]
    return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(script: str, *arguments: object) -> str:
    """What a script prints; its own error output fails the test."""
    process = start(script, *arguments)
    try:
        output, errors = process.communicate(timeout=40)
    finally:
        process.kill()
    assert ("", 0) == (errors, process.returncode)
    return output


@forks
def test_forked_children_work_while_the_parent_is_busy() -> None:
    """Children forked out of four busy threads and a running loop make calls of every kind; none hangs, each counts its own.

    The parent's half-open trial is not the children's (invariant 22).
    """
    printed = run("""
        import asyncio, logging, multiprocessing, threading, time
        from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig, RetryConfig, idempotency_key
        from resilience_kit.events import Event

        logging.disable(logging.CRITICAL)
        kit = AIServiceResilience()
        config = ResilienceConfig(
            retry=RetryConfig(max_attempts=2, base_delay=0.0), deadline=5.0, idempotency_key=True,
            circuit_breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=0.01),
        )
        kit.add_listener(lambda event: None)
        turns = iter(range(10**9))

        @kit.with_resilience("busy", custom_config=config)
        def call():
            idempotency_key()
            if next(turns) % 3:
                raise ConnectionError
            return "well"

        @kit.with_resilience("async", custom_config=config)
        async def call_async():
            await asyncio.sleep(0)
            return "well"

        def work():
            while not stop.is_set():
                try:
                    call()
                    kit.get_metrics()
                except Exception:
                    pass

        def child(queue):
            kit.reset_metrics()
            ends = 0
            for _ in range(200):
                try:
                    call()
                except Exception:
                    pass
                ends += 1
            breaker = kit.get_circuit_breaker("trial")
            answer = asyncio.run(call_async())
            trial = kit.call_with_resilience(lambda: "let in", "trial")
            kit.set_strategy("busy", "critical")
            queue.put((ends, kit.get_metrics("busy")["total_calls"], answer, trial, breaker.state.value))

        stop = threading.Event()
        trial = kit.get_circuit_breaker("trial")
        trial.state = "half_open"
        trial.acquire()
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()

        async def main():
            await call_async()
            for _ in range(6):
                process = context.Process(target=child, args=[queue])
                process.start()
                process.join(10)
                assert process.exitcode == 0, process.exitcode
                assert queue.get() == (200, 200, "well", "let in", "closed")
                await asyncio.sleep(0.02)

        threading.Thread(target=lambda: asyncio.run(main())).run()
        stop.set()
        for thread in threads:
            thread.join()
        print(trial.state.value, trial.trials_in_flight)
    """)
    assert "half_open 1\n" == printed


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=forks)])
def test_a_pool_of_processes_runs_protected_functions(tmp_path: Path, method: str) -> None:
    """Decorated functions are sent by name, and our errors come back as they are."""
    (tmp_path / "work.py").write_text(
        textwrap.dedent("""
        import logging
        from resilience_kit import *
        from resilience_kit.errors import StreamInterruptedError

        logging.disable(logging.CRITICAL)

        config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=1))

        @with_resilience("work", custom_config=config)
        def work(what):
            if what == "fail":
                raise RateLimitError("slow down", retry_after=3.0)
            if what == "break":
                raise ConnectionError("down")
            return what.upper()

        def broken_stream(_):
            raise StreamInterruptedError("stream", 2, ["a", "b"])

        def closed(_):
            breaker = get_orchestrator().get_circuit_breaker("work")
            breaker.state = "open"
            return work("x")
        """)
    )
    printed = run(
        """
        import sys, warnings
        sys.path.insert(0, sys.argv[1])
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        import work

        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(sys.argv[2])) as pool:
            print(pool.submit(work.work, "fine").result())
            for job, argument in [(work.work, "fail"), (work.work, "break"), (work.broken_stream, 0), (work.closed, 0)]:
                error = pool.submit(job, argument).exception()
                told = [getattr(error, name, "") for name in ("retry_after", "partial", "name")]
                print(type(error).__name__, *told)
        """,
        tmp_path,
        method,
    )
    fine, limited, down, stream, refused = printed.splitlines()
    assert ("FINE", "RateLimitError 3.0  ", "ConnectionError   ") == (fine, limited, down)
    assert "StreamInterruptedError  ['a', 'b'] stream" == stream
    assert refused.startswith("CircuitBreakerOpenError ")


STORED = """
    import json, logging, sys, time
    from resilience_kit import AIServiceResilience, CircuitBreakerConfig, ResilienceConfig
    from resilience_kit.errors import CircuitBreakerOpenError
    from resilience_kit.policies.breaker import SQLiteBreakerStore

    logging.disable(logging.WARNING)
    path, steps = sys.argv[1], sys.argv[2:]
    kit = AIServiceResilience(store=SQLiteBreakerStore(path))
    config = ResilienceConfig(retry=None, circuit_breaker=CircuitBreakerConfig(failure_threshold=2, recovery_timeout=3.0))

    @kit.with_resilience("stored", custom_config=config)
    def call(fail):
        if fail:
            raise ConnectionError

    breaker = kit.get_circuit_breaker("stored")
    for step in steps:
        try:
            if step in ("well", "fail"):
                call(step == "fail")
                end = "let in"
            elif step == "force":
                breaker.force_open("maintenance")
                end = "forced"
            elif step == "half":
                breaker.state = "half_open"
                breaker.acquire()
                end = "trial"
            else:
                time.sleep(float(step))
                end = "slept"
        except CircuitBreakerOpenError:
            end = "refused"
        except ConnectionError:
            end = "failed"
        print(json.dumps([end, breaker.state.value, breaker.failure_count, breaker.describe()["open_remaining"]]), flush=True)
    if steps[-1] == "half":
        time.sleep(60)
"""


def steps(path: Path, *words: object) -> list[list[object]]:
    """What happens in one process, step by step: end, state, failures, seconds left."""
    return [json.loads(line) for line in run(STORED, path, *words).splitlines()]


def test_an_open_circuit_outlives_its_process(tmp_path: Path) -> None:
    """Opened in one process, refused in the next, whose open time has gone on, tried and closed in the third."""
    path = tmp_path / "breakers.db"
    assert [["failed", "closed", 1, 0.0], ["failed", "open", 2]] == [steps(path, "fail")[0], steps(path, "fail", "fail")[1][:3]]
    opened = time.monotonic()  # or a little earlier
    (end, state, failures, left) = steps(path, "well")[0]
    assert ("refused", "open", 2) == (end, state, failures)
    assert 0.0 < left < 3.0
    time.sleep(max(0.0, 3.0 - 1.0 - (time.monotonic() - opened)))
    ends = steps(path, 1.5, "well", "well")
    assert [["let in", "closed", 0, 0.0]] * 2 == ends[1:]
    assert [["let in", "closed", 0, 0.0]] == steps(path, "well")
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_circuit_forced_open_stays_so(tmp_path: Path) -> None:
    """Somebody's will outlives the process."""
    path = tmp_path / "breakers.db"
    steps(path, "force")
    assert [["refused", "forced_open", 0, None]] == steps(path, "well")


def test_a_process_killed_during_its_trial(tmp_path: Path) -> None:
    """Kill -9 of the process that tries: the next process tries itself, at once."""
    path = tmp_path / "breakers.db"
    process = start(STORED, path, "half")
    assert json.loads(process.stdout.readline())[:2] == ["trial", "half_open"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [["let in", "closed", 0, 0.0]] == steps(path, "well")


def test_many_processes_write_to_one_store(tmp_path: Path) -> None:
    """Four processes change their states as fast as they can: the store is never given up, and what it holds is readable."""
    path = tmp_path / "breakers.db"
    script = """
        import logging, sys
        from resilience_kit.policies.breaker import CircuitBreaker, SQLiteBreakerStore, flush_stores

        logging.basicConfig(level=logging.ERROR)
        store = SQLiteBreakerStore(sys.argv[1], timeout=10.0)
        breaker = CircuitBreaker(1, 10.0, name="everybody's", store=store)
        for _ in range(60):
            breaker.state = "open"
            breaker.reset()
            flush_stores()
        print(store.load("everybody's").state.value in ("open", "closed"))
    """
    processes = [start(script, path) for _ in range(4)]
    assert [("True\n", "")] * 4 == [process.communicate(timeout=40) for process in processes]


@pytest.mark.parametrize("content", [b"", b"not a database", bytes(4096), b"SQLite format 3\0" + b"\xff" * 2000])
def test_a_store_that_is_no_store_harms_nobody(tmp_path: Path, content: bytes) -> None:
    """A corrupt file is reported once, and the breaker goes on alone; an empty one is a new store."""
    path = tmp_path / "breakers.db"
    path.write_bytes(content)
    process = start(STORED, path, "fail", "fail", "well")
    output, errors = process.communicate(timeout=40)
    assert ["failed", "failed", "refused"] == [json.loads(line)[0] for line in output.splitlines()]
    assert (1 if content else 0) == errors.count("its state stays in this process")
