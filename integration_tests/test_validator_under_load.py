"""The validator before many strangers at once: exact, bounded in time and memory, whoever asks and whatever comes."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilience_kit.config import ClientRateLimits, ResilienceConfigValidator
from resilience_kit.config.validator.client_rate_limiter import ClientRateLimiter

THREADS = 64
DEEP = "[" * 2048 + "]" * 2048


@pytest.fixture
def _switching_often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def by_threads(work: Callable[[int], object]) -> list[object]:
    """What `work` gives in each of 64 threads, all of which begin at once."""
    barrier = threading.Barrier(THREADS)

    def begun(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begun, range(THREADS)))


def median_ms(work: Callable[[], object], times: int = 9) -> float:
    """The median of some runs, in time of this thread, since other programs may have the processor meanwhile."""
    taken = []
    for _ in range(times):
        begin = time.thread_time_ns()
        work()
        taken.append((time.thread_time_ns() - begin) / 1e6)
    return statistics.median(taken)


@pytest.mark.usefixtures("_switching_often")
def test_configuration_validator_thread_safety_under_concurrent_load() -> None:
    """64 threads with one identifier pass exactly as often as permitted, and each gets the answer to its own text."""
    validator = ResilienceConfigValidator(ClientRateLimits(per_minute=500, per_hour=777, interval=None))

    def validate(number: int) -> list[bool]:
        passed = []
        for turn in range(40):
            attempts = (number + turn) % 12
            result = validator.validate_with_security_checks(json.dumps({"retry_attempts": attempts}), "one client")
            if result.retry_after is None:
                assert (1 <= attempts <= 10) == result.is_valid
                assert ({"retry_attempts": attempts} if result else None) == result.settings
            passed.append(result.retry_after is None)
        return passed

    assert 500 == sum(sum(each) for each in by_threads(validate))  # type: ignore[misc]  # lists of bools
    assert 0 == validator.get_rate_limit_info("one client")["remaining_this_minute"]


@pytest.mark.usefixtures("_switching_often")
def test_two_tries_of_one_client_are_a_second_apart_whoever_makes_them() -> None:
    """Of 64 threads that ask at once exactly one passes; so it does for each of 64 clients."""
    validator = ResilienceConfigValidator()
    assert 1 == sum(bool(each) for each in by_threads(lambda _: validator.check_rate_limit("client")))
    passed = by_threads(lambda _: [bool(validator.check_rate_limit(f"client {n}")) for n in range(THREADS)])
    assert [1] * THREADS == [sum(each) for each in zip(*passed, strict=True)]  # type: ignore[call-overload]  # lists of bools


def test_a_million_names_take_bounded_memory() -> None:
    """A flood of new identifiers leaves a table of bounded size, takes nobody's quota back, and in the end costs nothing more."""
    door = ClientRateLimiter(ClientRateLimits(interval=None, per_minute=1))
    assert door.admit("somebody") is None
    for number in range(1_000_000):
        door.admit(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    table = sys.getsizeof(door._requests) + sum(sys.getsizeof(key) + sys.getsizeof(each) for key, each in door._requests.items())
    further = memory_of(lambda: [door.admit(f"{number}{'x' * 1000}") and None for number in range(20_000)])
    assert (4096, True) == (door.clients, door.admit("somebody") is not None)
    assert table < 2e6
    assert further < 1e6


def memory_of(work: Callable[[], object]) -> int:
    """The most bytes that were taken at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_ten_megabytes_are_refused_in_no_time() -> None:
    """By their length, before anything is read (invariant 73)."""
    validator = ResilienceConfigValidator()
    large: list[object] = ["x" * 10_000_000, b"{" * 10_000_000, bytearray(10_000_000), '{"deadline": "' + "\u00e9" * 10_000_000]
    for data in large:
        assert median_ms(lambda data=data: validator.validate_with_security_checks(data)) < 5.0  # type: ignore[misc]
    client = "x" * 10_000_000
    assert median_ms(lambda: validator.check_rate_limit(client)) < 5.0


@pytest.mark.parametrize(
    "data",
    [
        "[" * 4096,
        DEEP,
        '{"a":' * 800 + "1" + "}" * 800,
        '{"deadline":' + "9" * 4000 + "}",
        '{"deadline":0.0' + "9" * 4000 + "}",
        '{"deadline":1e' + "9" * 4000 + "}",
        json.dumps({f"retry_attempt{n}": n for n in range(50)}),
        json.dumps({"operation_overrides": {f"o{n}": "critcally balanced" for n in range(50)}}),
        '{"' + '":1,"'.join(str(n) for n in range(500)) + '":1}',
        '{"' + '":1,"'.join("a" for _ in range(600)) + '":1}',
        '"' + "\\u0000" * 600 + '"',
        json.dumps({"jitter": "-" * 200}),
        json.dumps({"_" * 200: "A" * 200, "=" * 199: "a1" * 100}),
        json.dumps([["x" * 180] * 20]),
    ],
    ids=range(14),
)
def test_the_slowest_texts_are_answered_within_50_ms(data: str) -> None:
    """Also those that are made to cost as much as four kilobytes can (invariant 72)."""
    validator = ResilienceConfigValidator()
    assert not validator.validate_with_security_checks(data)
    assert median_ms(lambda: validator.validate_with_security_checks(data)) < 50.0


def test_hostile_mappings_are_answered_within_50_ms() -> None:
    """Few objects with endlessly many paths between them, and a million items."""
    bush: object = []
    for _ in range(9):
        bush = [bush] * 20
    validator = ResilienceConfigValidator()
    for data in (bush, {"a": bush}, dict.fromkeys(map(str, range(1_000_000))), [[]] * 1_000_000):
        assert median_ms(lambda data=data: validator.validate_custom_config(data)) < 50.0  # type: ignore[misc]
