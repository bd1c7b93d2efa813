"""Registers breakers with the library's `CircuitBreakerMonitor` without keeping them alive."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from itertools import count

from circuitbreaker import CircuitBreaker, CircuitBreakerMonitor


class _Removal:
    """Removes the entry of a dead breaker: directly under its name, by a search if the entry was moved."""

    __slots__ = ("_entries", "_name")

    def __init__(self, name: str, entries: dict[str, CircuitBreaker]) -> None:
        self._name, self._entries = name, entries

    def __call__(self, dead: weakref.ProxyType[CircuitBreaker]) -> None:
        entries = self._entries
        if entries.get(self._name) is dead:
            entries.pop(self._name, None)
            return
        for key in [key for key, entry in list(entries.items()) if entry is dead]:
            entries.pop(key, None)


def register_weakly(breaker: CircuitBreaker) -> None:
    """Register a weak entry under the breaker's name; an older one of that name moves to `name#2`, `name#3`, ...

    The entry is removed in the same step in which the breaker dies: a dead proxy would make the monitor's own methods
    raise ReferenceError.
    """
    name, entries = breaker.name, CircuitBreakerMonitor.circuit_breakers
    older = entries.get(name)
    entries[name] = weakref.proxy(breaker, _Removal(name, entries))
    if older is not None:
        _move_aside(entries, name, older)


def unregister_all() -> Callable[[], None]:
    """Clear the monitor. Returns a function that restores the entries of breakers that are still alive."""
    entries = CircuitBreakerMonitor.circuit_breakers
    kept = dict(entries)
    entries.clear()

    def restore() -> None:
        entries.clear()
        for name, entry in kept.items():
            with contextlib.suppress(ReferenceError):
                alive = entry.decorate  # as below
                entries[name] = entry
                del alive

    return restore


def _move_aside(entries: dict[str, CircuitBreaker], name: str, older: CircuitBreaker) -> None:
    try:
        alive = older.decorate  # a bound method of the breaker itself: keeps it alive until the entry is made
    except ReferenceError:
        return
    entries[next(key for key in (f"{name}#{number}" for number in count(2)) if key not in entries)] = older
    del alive
