"""Notes and tracebacks of the errors that a call raises."""

from __future__ import annotations

import contextlib
from types import TracebackType


def trim_traceback(error: Exception, seen: TracebackType | None) -> None:
    """Drop from the traceback of a repeated instance what it had before, or it would grow with each attempt."""
    link = error.__traceback__
    while link is not None and link.tb_next is not seen:
        link = link.tb_next
    if link is not None:
        link.tb_next = None


def add_note(error: BaseException, operation: str, text: str) -> None:
    """One note an operation, also when the same instance comes again. An error class may refuse attributes: then without."""
    start = f"resilience_kit: {operation!r} "
    with contextlib.suppress(Exception):
        notes = getattr(error, "__notes__", [])
        notes[:] = [note for note in notes if not note.startswith(start)]
        error.add_note(start + text)
