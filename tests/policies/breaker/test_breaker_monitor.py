"""The library's monitor sees our breakers and keeps none of them alive."""

from __future__ import annotations

import circuitbreaker
from circuitbreaker import CircuitBreakerMonitor

from resilience_kit.policies.breaker import monitor


def test_the_monitor_sees_ours_and_the_library_s(lab):
    """By name, by state, and in its summary."""
    ours = lab.breaker(name="ours")
    theirs = circuitbreaker.CircuitBreaker(name="theirs")
    CircuitBreakerMonitor.register(theirs)
    assert "ours" == CircuitBreakerMonitor.get("ours").name
    assert CircuitBreakerMonitor.all_closed()
    ours.force_open("x")
    assert ["ours"] == [breaker.name for breaker in CircuitBreakerMonitor.get_open()]
    assert ["theirs"] == [breaker.name for breaker in CircuitBreakerMonitor.get_closed()]


def test_dead_breakers_vanish(lab):
    """At once, so that the monitor's own methods go on working."""
    kept = lab.breaker(name="kept")
    gone = lab.breaker(name="gone")
    assert {"kept", "gone"} == set(CircuitBreakerMonitor.circuit_breakers)
    del gone
    assert {"kept"} == set(CircuitBreakerMonitor.circuit_breakers)
    assert [kept.name] == [breaker.name for breaker in CircuitBreakerMonitor.get_circuits()]


def test_a_breaker_named_by_its_function_is_seen(lab):
    """From the decoration on, and until the function is gone."""
    breaker = lab.breaker(name=None)
    assert {} == CircuitBreakerMonitor.circuit_breakers
    wrapped = breaker(len)
    del breaker
    assert ["len"] == list(CircuitBreakerMonitor.circuit_breakers)
    del wrapped
    assert {} == CircuitBreakerMonitor.circuit_breakers


def test_one_name_does_not_hide_another_breaker(lab):
    """The newest has the name, older ones stay visible beside it, and each goes with its own breaker."""
    first, second, third = (lab.breaker(name="x") for _ in range(3))
    seen = CircuitBreakerMonitor.circuit_breakers
    assert {"x", "x#2", "x#3"} == set(seen)
    third.force_open("x")
    assert CircuitBreakerMonitor.get("x").forced_open
    second.force_open("y")
    assert 1 == len(list(CircuitBreakerMonitor.get_closed()))
    del second
    assert 2 == len(seen)
    del third
    assert [first.state] == [breaker.state for breaker in CircuitBreakerMonitor.get_circuits()]
    del first
    assert {} == seen


def test_an_entry_that_dies_while_it_is_moved_stays_away(lab):
    """A dead proxy under the name is replaced, not moved aside."""
    dead = lab.breaker(name="x")
    proxy = CircuitBreakerMonitor.circuit_breakers["x"]
    del dead
    CircuitBreakerMonitor.circuit_breakers["x"] = proxy
    alive = lab.breaker(name="x")
    assert ["x"] == list(CircuitBreakerMonitor.circuit_breakers)
    assert alive.name == CircuitBreakerMonitor.get("x").name
    assert "circuitbreaker" in monitor.CircuitBreakerMonitor.__module__


def test_a_breaker_dies_without_a_search(lab, monkeypatch):
    """Its entry is found by its name, so ten thousand breakers that go together do not each look at all the others."""

    class Unsearchable(dict):
        def items(self):
            raise AssertionError

    monkeypatch.setattr(CircuitBreakerMonitor, "circuit_breakers", Unsearchable())
    gone = lab.breaker(name="gone")
    del gone
    assert [] == list(CircuitBreakerMonitor.circuit_breakers)
