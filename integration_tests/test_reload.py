"""Settings that change for real: files, links, signals and watches, under the load of threads (invariant 75)."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from resilience_kit import AIServiceResilience, RateLimitError, remaining_time
from resilience_kit.clock import SYSTEM_CLOCK
from resilience_kit.config import ResilienceSettings
from resilience_kit.errors import CircuitBreakerOpenError, ConfigurationError
from resilience_kit.events import ConfigRejected, ConfigReloaded
from resilience_kit.policies.breaker import CircuitState

THREADS = 8
CHANGES = 200
PER_ATTEMPT = 100.0
CHOICES = (2, 3, 4)


def content(attempts: int) -> str:
    """A configuration whose two numbers belong together."""
    return json.dumps({"retry_attempts": attempts, "jitter": "none", "deadline": attempts * PER_ATTEMPT})


def replace(path: Path, text: str) -> None:
    """Put another file in its place, as careful writers do."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether something comes to be true in time."""
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.005)
    return condition()


class Hasty:
    """The machine's clock, whose sleeps are over at once."""

    def __getattr__(self, name: str) -> object:
        return getattr(SYSTEM_CLOCK, name)

    def sleep(self, seconds: float) -> None:
        """Do not."""


class Pairs:
    """Calls from several threads, each of which sees whether its deadline and its attempts belong together."""

    def __init__(self, kit: AIServiceResilience) -> None:
        self.calls = itertools.count()
        self.made, self.wrong, self.stop = 0, [], threading.Event()
        self._kit, self._seen = kit, threading.local()
        self._protected = kit.with_resilience("pair")(self._work)
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def _work(self) -> None:
        self._seen.times.append(remaining_time())
        raise RateLimitError  # retried, and no failure of the service, so that no circuit opens

    def _run(self) -> None:
        while not self.stop.is_set():
            self._seen.times = []
            self._kit._registry.operations["pair"].budget.refund(500)
            try:
                self._protected()
            except RateLimitError:
                self._check(self._seen.times)
            except Exception as error:
                self.wrong.append(error)
            self.made = next(self.calls) + 1

    def _check(self, times: list[float]) -> None:
        deadline = round(times[0] / PER_ATTEMPT) * PER_ATTEMPT
        if deadline != len(times) * PER_ATTEMPT or max(times) > deadline:
            self.wrong.append(times)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> bool:
        """Wait until each thread has had time for another call."""
        reached = self.made + THREADS
        return eventually(lambda: self.made >= reached)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration file."""
    path = tmp_path / "app.json"
    path.write_text(content(2))
    return path


@pytest.fixture
def kit(path: Path) -> Iterator[AIServiceResilience]:
    """An orchestrator of that file, whose sleeps are over at once."""
    logging.getLogger("resilience_kit").setLevel(logging.CRITICAL)
    yield AIServiceResilience(ResilienceSettings(config_file=path), clock=Hasty())
    logging.getLogger("resilience_kit").setLevel(logging.NOTSET)


def refused(kit: AIServiceResilience) -> None:
    """Reload what must not be obeyed."""
    with pytest.raises(ConfigurationError):
        kit.reload()


def change(number: int, path: Path, kit: AIServiceResilience) -> str:
    """One change of the file, and reloads while it is under way: replaced, overwritten in two steps, or spoilt for a while."""
    text = content(CHOICES[number % len(CHOICES)])
    match number % 4:
        case 0 | 1:
            replace(path, text)
        case 2:
            with path.open("w") as file:
                refused(kit)  # empty
                file.write(text[: len(text) // 2])
                file.flush()
                refused(kit)  # half of it
                file.write(text[len(text) // 2 :])
        case _:
            path.write_text('{"retry_attempts": 99}')
            refused(kit)
            replace(path, text)
    return text


def test_no_call_sees_a_mixed_config_under_load(path: Path, kit: AIServiceResilience) -> None:
    """8 threads call while the file changes 200 times: each call has one pair of numbers, and none fails for a change."""
    kit.get_circuit_breaker("other").force_open("stays so")
    reloads: list[ConfigReloaded] = []
    kit.add_listener(reloads.append, ConfigReloaded)
    with Pairs(kit) as pairs:
        for number in range(CHANGES):
            attempts = json.loads(change(number, path, kit))["retry_attempts"]
            kit.reload()
            assert attempts == kit.settings.default.retry.max_attempts
            assert pairs.go_on()
    assert [] == pairs.wrong
    assert CHANGES * THREADS <= pairs.made
    assert pairs.made == kit.get_metrics("pair")["total_calls"] == kit.get_metrics("pair")["failed_calls"]
    assert CircuitState.FORCED_OPEN is kit.get_circuit_breaker("other").state
    with pytest.raises(CircuitBreakerOpenError):
        kit.call_with_resilience(lambda: 1, "other")
    assert len(reloads) >= CHANGES * 2 // 3


def test_no_call_sees_a_mixed_config_under_a_watch(path: Path, kit: AIServiceResilience) -> None:
    """The same with nobody calling reload: what a watch reads of files that are half written is never obeyed."""
    rejected: list[ConfigRejected] = []
    kit.add_listener(rejected.append, ConfigRejected)
    with Pairs(kit) as pairs, kit.watch_config(settle=0.02):
        for number in range(20):
            text = content(CHOICES[number % len(CHOICES)])
            if number % 2:
                replace(path, text)
            else:
                with path.open("w") as file:
                    file.write(text[:20])
                    file.flush()
                    time.sleep(0.05)
                    file.write(text[20:])
            wanted = json.loads(text)["retry_attempts"]
            assert eventually(lambda wanted=wanted: kit.settings.default.retry.max_attempts == wanted)
            assert pairs.go_on()
    assert [] == pairs.wrong
    assert all("app.json: must be JSON" in event.errors[0] or "empty" in event.errors[0] for event in rejected)


def test_a_bad_file_is_told_once_by_a_watch_and_then_mended(path: Path, kit: AIServiceResilience) -> None:
    """The old settings stay; a file that is gone for a while is no end either."""
    heard: list[object] = []
    kit.add_listener(heard.append, ConfigRejected, ConfigReloaded)
    with kit.watch_config(settle=0.02):
        replace(path, '{"deadline": "never"}')
        assert eventually(lambda: len(heard) == 1)
        (path.parent / "beside").write_text("x")
        path.unlink()
        assert eventually(lambda: len(heard) == 2)
        replace(path, content(4))
        assert eventually(lambda: kit.settings.default.deadline == 400.0)
    assert [ConfigRejected, ConfigRejected, ConfigReloaded] == [type(event) for event in heard]


def test_a_watch_sees_the_swapped_links_of_kubernetes(tmp_path: Path) -> None:
    """The file is a link through `..data`, which is replaced by another link in one step."""
    for number in (2, 3, 4):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "app.json").write_text(content(number))
    (tmp_path / "..data").symlink_to("..2")
    path = tmp_path / "app.json"
    path.symlink_to(Path("..data") / "app.json")
    kit = AIServiceResilience(ResilienceSettings(config_file=path))
    with kit.watch_config(settle=0.02):
        for number in (3, 4, 2):
            (tmp_path / "..data_tmp").symlink_to(f"..{number}")
            (tmp_path / "..data_tmp").replace(tmp_path / "..data")
            assert eventually(lambda number=number: kit.settings.default.retry.max_attempts == number)


def child(script: str, path: Path) -> subprocess.Popen[str]:
    """A script in an interpreter of its own, where warnings are errors, with the file named in its environment."""
    environment = {**os.environ, "RESILIENCE_CONFIG_FILE": str(path)}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no such signal")
def test_sighup_reloads_also_while_the_main_thread_holds_the_lock(path: Path) -> None:
    """The handler takes no lock: a signal in the midst of whatever the main thread does is obeyed when that is done."""
    process = child(
        """
        import signal, time
        from resilience_kit import AIServiceResilience
        from resilience_kit.orchestrator.reload import reload_on_sighup

        kit = AIServiceResilience()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with reload_on_sighup(kit):
            ends = time.monotonic() + 30
            for wanted in (300.0, 400.0):
                with kit._registry.lock, kit._reloader.lock:
                    print("ready", flush=True)
                    time.sleep(0.2)
                while kit.settings.default.deadline != wanted and time.monotonic() < ends:
                    time.sleep(0.005)
                print(kit.settings.default.deadline, flush=True)
        print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
        """,
        path,
    )
    try:
        printed = []
        for attempts in (3, 4):
            printed.append(process.stdout.readline().strip())
            replace(path, content(attempts))
            for _ in range(5):
                process.send_signal(signal.SIGHUP)
            printed.append(process.stdout.readline().strip())
        printed.append(process.stdout.readline().strip())
        errors = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert ["ready", "300.0", "ready", "400.0", "True"] == printed
    assert "" == errors


def test_a_program_ends_although_its_watch_was_not_stopped(path: Path) -> None:
    """Without a word, and at once."""
    script = """
        from resilience_kit import AIServiceResilience
        kit = AIServiceResilience()
        watch = kit.watch_config()
    """
    for _ in range(3):
        process = child(script, path)
        output, errors = process.communicate(timeout=40)
        assert ("", "", 0) == (output, errors, process.returncode)


def test_importing_the_kit_imports_no_watch() -> None:
    """Watching, explaining and reloading cost nothing until they are wanted."""
    code = (
        "import sys, resilience_kit; print([name for name in sys.modules if 'watch' in name.split('.')[-1]"
        " or name in ('resilience_kit.config.explain', 'resilience_kit.orchestrator.reload')])"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "[]\n" == output
