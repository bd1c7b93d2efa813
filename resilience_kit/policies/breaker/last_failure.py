"""Copies errors so that they can be kept: a traceback keeps frames alive, and with them every local of the caller."""

from __future__ import annotations

_DEPTH = 3
_LISTS = frozenset({list, tuple})


def strip_traceback(error: BaseException, depth: int = _DEPTH) -> BaseException:
    """Return a copy of an error without traceback, so that it keeps no frames alive. Errors inside it are copied, too."""
    kind = type(error)
    if depth == 0:
        return Exception(kind.__name__)
    try:
        copy = kind.__new__(kind, *[_strip(value, depth) for value in error.args])
        for name, value in error.__dict__.items():
            copy.__dict__[name] = _strip(value, depth)
    except Exception:  # noqa: BLE001 - an error class may do anything in __new__
        return Exception(kind.__name__)
    return copy


def _strip(value: object, depth: int) -> object:
    if isinstance(value, BaseException):
        return strip_traceback(value, depth - 1)
    if type(value) in _LISTS and any(isinstance(entry, BaseException) for entry in value):  # type: ignore[attr-defined]
        return [_strip(entry, depth) for entry in value]  # type: ignore[attr-defined]
    return value
