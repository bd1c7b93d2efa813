"""Timeouts of HTTP clients, limited by the deadline of the call."""

from __future__ import annotations

from typing import Final

#: Seconds that a step of a request has at least, even if the deadline is over.
_MIN_TIMEOUT: Final = 0.001


def limit_timeout(seconds: float | None, remaining: float) -> float:
    """Return a timeout, None for no limit, no longer than the `remaining` seconds of the call."""
    remaining = max(remaining, _MIN_TIMEOUT)
    return remaining if seconds is None else min(seconds, remaining)
