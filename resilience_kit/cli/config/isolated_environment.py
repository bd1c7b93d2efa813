"""Settings without the RESILIENCE_* variables of this environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_PREFIX = "RESILIENCE_"


@contextmanager
def without_variables() -> Iterator[None]:
    """Remove the RESILIENCE_* variables from this process's environment inside the block."""
    removed = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith(_PREFIX)}
    try:
        yield
    finally:
        os.environ.update(removed)
