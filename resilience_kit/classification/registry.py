"""Verdicts that users register for their own exceptions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from resilience_kit.outcome import Verdict

E = TypeVar("E", bound=BaseException)
_Entry = tuple[Any]  # a new tuple distinguishes two registrations of one verdict

_lock = threading.Lock()
_registered: Mapping[type[BaseException], _Entry] = {}  # replaced as a whole, so that readers need no lock


def register_classifier(exception_type: type[E], verdict: Verdict | Callable[[E], Verdict | None]) -> Callable[[], None]:
    """Register the verdict of an exception class, or a function that returns one (None: no verdict).

    The registration nearest in the exception's MRO takes precedence over all built-in rules, and a later one for the
    same class replaces the earlier. Returns a function that removes this registration and may be called more than once.
    A function that raises counts as one that returns None. Thread-safe. Raises TypeError for anything but an exception
    class and a verdict or callable.
    """
    if not (isinstance(exception_type, type) and issubclass(exception_type, BaseException)):
        raise TypeError(f"exception_type must be an exception class, got {exception_type!r}")
    if not (isinstance(verdict, Verdict) or callable(verdict)):
        raise TypeError(f"verdict must be a Verdict or a callable that returns one, got {verdict!r}")
    entry = (verdict,)
    _replace(exception_type, entry)
    return lambda: _remove(exception_type, entry)


def snapshot_classifiers() -> Callable[[], None]:
    """Return a function that restores the current registrations."""
    kept = _registered

    def restore() -> None:
        global _registered  # noqa: PLW0603 - as below
        with _lock:
            _registered = kept

    return restore


def registered_verdict(exc: BaseException) -> Verdict | None:
    """Return the verdict of a registration, None without one."""
    known = _registered
    if not known:
        return None
    opinions = (_verdict_from(known[cls], exc) for cls in type(exc).__mro__ if cls in known)
    return next((verdict for verdict in opinions if verdict is not None), None)


def _verdict_from(entry: _Entry, exc: BaseException) -> Verdict | None:
    (rule,) = entry
    if isinstance(rule, Verdict):
        return rule
    try:
        verdict = rule(exc)
    except Exception:  # noqa: BLE001 - a classifier runs while another error is handled and must not replace it
        return None
    return verdict if isinstance(verdict, Verdict) else None


def _replace(exception_type: type[BaseException], entry: _Entry) -> None:
    global _registered  # noqa: PLW0603 - one table a process, swapped atomically
    with _lock:
        _registered = {**_registered, exception_type: entry}


def _remove(exception_type: type[BaseException], entry: _Entry) -> None:
    global _registered  # noqa: PLW0603 - the same
    with _lock:
        if _registered.get(exception_type) is entry:
            _registered = {cls: rule for cls, rule in _registered.items() if cls is not exception_type}
