"""HTTP: small JSON clients, endpoints as data, and transports that protect the clients of others.

Names are imported at their first use: neither httpx nor pydantic is loaded by what does not need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilience_kit.http.async_client import AsyncAPIClient
    from resilience_kit.http.client import APIClient
    from resilience_kit.http.endpoint import Endpoint, EndpointConfig
    from resilience_kit.http.sse import ServerSentEvent
    from resilience_kit.http.stream_progress import TERMINAL_EVENTS
    from resilience_kit.http.tokens import max_tokens_estimate, tokens_used
    from resilience_kit.http.transport import AsyncResilientTransport, ResilientTransport

__all__ = [
    "TERMINAL_EVENTS",
    "APIClient",
    "AsyncAPIClient",
    "AsyncResilientTransport",
    "Endpoint",
    "EndpointConfig",
    "ResilientTransport",
    "ServerSentEvent",
    "max_tokens_estimate",
    "tokens_used",
]

_HOMES = {
    "APIClient": "client",
    "AsyncAPIClient": "async_client",
    "Endpoint": "endpoint",
    "EndpointConfig": "endpoint",
    "ServerSentEvent": "sse",
    "AsyncResilientTransport": "transport",
    "ResilientTransport": "transport",
    "TERMINAL_EVENTS": "stream_progress",
    "max_tokens_estimate": "tokens",
    "tokens_used": "tokens",
}


def __getattr__(name: str) -> Any:
    if name == "httpx":  # where the clients get theirs from
        return importlib.import_module(f"{__name__}._backend").library(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
