"""docs/howto/move-from-another-library.md: what the page says of the other libraries, seen in the libraries themselves.

Run by `make foreign`, which has them installed; elsewhere it is skipped.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resilience_kit import CircuitBreaker

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "move-from-another-library.md"


def old_block(library: str) -> dict[str, object]:
    """The names of the page's block in the spelling of a library; `ask` of it calls what `answers` holds."""
    pytest.importorskip(library)
    (block,) = re.findall(rf"```python no-run\n(import {library}\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {"answers": []}
    exec(block.replace("def ask() -> str: ...", ANSWER), names)
    return names


ANSWER = """def ask() -> str:
    found = answers.pop(0)
    if isinstance(found, Exception):
        raise found
    return found
"""


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of plain code, which take no time."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def outcome_of(f: Callable[..., object], *args: object) -> str:
    """What a call came to."""
    try:
        return str(f(*args))
    except Exception as error:
        return type(error).__name__


def test_backoff_waits_as_the_page_says(slept: list[float]) -> None:
    """The same waits as in our spelling, and `giveup` ends the retries."""
    names = old_block("backoff")
    names["answers"] += [ConnectionError("reset"), ConnectionError("reset"), "yes"]
    assert ("yes", [1.0, 2.0]) == (outcome_of(names["ask"]), slept)
    names["answers"] += [ConnectionError("DNS"), "yes"]
    assert ("ConnectionError", [1.0, 2.0]) == (outcome_of(names["ask"]), slept)


def test_stamina_waits_as_the_page_says(slept: list[float]) -> None:
    """The same waits as in our spelling."""
    names = old_block("stamina")
    names["answers"] += [ConnectionResetError(), ConnectionResetError(), "yes"]
    assert ("yes", [0.1, 0.2]) == (outcome_of(names["ask"]), slept)


def test_pybreaker_differs_as_the_page_says() -> None:
    """The tripping call gets its refusal, and an excluded error counts as a success; ours gives the error, and counts nothing."""
    names = old_block("pybreaker")
    ask, theirs = names["ask"], names["breaker"]
    names["answers"] += [ConnectionResetError(), ValueError("mine"), ConnectionResetError(), ConnectionResetError(), "yes"]
    ours = CircuitBreaker(failure_threshold=2, recovery_timeout=60, excluded_exceptions=(ValueError,))
    answers = list(names["answers"])

    def answer() -> object:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    assert ["ConnectionResetError", "ValueError", "ConnectionResetError", "CircuitBreakerError"] == [
        outcome_of(ask) for _ in range(4)
    ]
    assert "open" == theirs.current_state
    assert ["ConnectionResetError", "ValueError", "ConnectionResetError", "CircuitBreakerOpenError"] == [
        outcome_of(ours.call, answer) for _ in range(4)
    ]


def test_pybreaker_lets_one_call_run_at_a_time() -> None:
    """A call within a call of another thread waits for its end, which ours does not."""
    pybreaker = pytest.importorskip("pybreaker")
    for breaker, together in ((pybreaker.CircuitBreaker(), 1), (CircuitBreaker(), 2)):
        under_way, most, lock, both = 0, 0, threading.Lock(), threading.Barrier(2)

        def work(lock: threading.Lock = lock, both: threading.Barrier = both) -> None:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            with lock:
                under_way -= 1

        threads = [threading.Thread(target=breaker.call, args=(work,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == most
