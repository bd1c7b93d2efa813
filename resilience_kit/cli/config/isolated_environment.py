"""Settings that no variable of this environment changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_PREFIX = "RESILIENCE_"


@contextmanager
def without_variables() -> Iterator[None]:
    """Take our variables out of this process's environment for a while."""
    removed = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith(_PREFIX)}
    try:
        yield
    finally:
        os.environ.update(removed)
