"""The kit's transport around the transport of each client of a suite's `library`, httpx or httpx2, whoever makes it."""

from __future__ import annotations

import os
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from resilience_kit import AIServiceResilience
from resilience_kit.http import AsyncResilientTransport, ResilientTransport


def wrap(client: Any, ours: type[Any]) -> None:
    """Have each client of this class send through a transport of ours, with an orchestrator of its own."""
    for name in ("_init_transport", "_init_proxy_transport"):
        setattr(client, name, _wrapped(getattr(client, name), ours))


def _wrapped(original: Any, ours: type[Any]) -> Any:
    def make(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, *args, **kwargs)
        return inner if isinstance(inner, ours) else ours(inner, resilience=AIServiceResilience(), pacing=None)

    return make


suite = tomllib.loads(Path(os.environ["FOREIGN_SUITE"]).read_text(encoding="utf-8"))
library = import_module(suite["library"])  # only this one: the anthropic suite wants httpx for a name of httpx2
wrap(library.Client, ResilientTransport)
wrap(library.AsyncClient, AsyncResilientTransport)
