"""Counting by many threads at once."""

from __future__ import annotations

import sys
import threading
from itertools import count

from resilience_kit._counter import Counter


def test_no_count_is_lost_and_reading_counts_nothing():
    """Sixteen threads count and read: the sum is exact, every reading is between two others."""
    counter, readings = Counter(), []
    barrier = threading.Barrier(16)

    def work():
        barrier.wait()
        for _ in range(500):
            counter.add()
            readings.append(counter.value)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert (8000, 8000) == (counter.value, counter.value)
    assert 1 <= min(readings) <= max(readings) <= 8000


def test_a_fresh_counter_is_zero():
    """Before anything is counted, as often as it is read."""
    counter = Counter()
    assert [0, 0, 0] == [counter.value for _ in range(3)]
    counter.add()
    assert 1 == counter.value


def test_large_totals_are_exact():
    """Beyond a machine word, too: what is read is a number's own digits."""
    counter = Counter()
    counter.add = count(10**30).__next__
    counter.add()
    assert 10**30 + 1 == counter.value
