"""Chooses the HTTP library of clients that are given none: httpx, or httpx2 if only that is installed."""

from __future__ import annotations

import importlib
from typing import Any

from resilience_kit.errors import REDACTED, ConfigurationError

MISSING = "needs httpx to make requests with: pip install 'ai-resilience-kit[http]', or hand it a client of yours by client="
_NAMES = ("httpx", "httpx2")


def library(owner: str) -> Any:
    """Import the library at its first use. Raises `ConfigurationError` on behalf of `owner` if neither is installed."""
    for name in _NAMES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ConfigurationError([(owner, MISSING, REDACTED)])
