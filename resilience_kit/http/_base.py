"""What the sync and the async JSON client share that neither waits nor does I/O."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resilience_kit._keyword_hints import suggests_keywords
from resilience_kit.clock import SYSTEM_CLOCK, Clock
from resilience_kit.events import Event, Listener
from resilience_kit.http._backend import library
from resilience_kit.http.client_options import ClientOptions
from resilience_kit.http.rules import ClientRules
from resilience_kit.policies.breaker import CircuitBreaker
from resilience_kit.policies.retry import RetryConfig

if TYPE_CHECKING:
    from resilience_kit.http.pacing import Pacing


class BaseClient:
    """Constructor, events and the HTTP client, which both JSON clients share."""

    _closed = True  # until it is made: one that was refused has nothing to close
    _client: Any = None
    _awaits = False
    _close_hint = "`with`, or call close()"

    @suggests_keywords("client")
    def __init__(  # noqa: PLR0913 - one argument a part
        self,
        base_url: str | None,
        timeout: float | None = 10.0,
        headers: Mapping[str, str] | None = None,
        client: Any = None,
        circuit_breaker: Any = None,
        retry_config: RetryConfig | None = None,
        rate_limiter: Any = None,
        *,
        pacing: Pacing | None = None,
        deadline: float | None = None,
        idempotency_header: str | None = "Idempotency-Key",
        name: str | None = None,
        max_event_size: int = 1 << 20,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        options = ClientOptions(
            base_url=base_url,
            timeout=timeout,
            headers=headers,
            client=client,
            circuit_breaker=circuit_breaker,
            retry_config=retry_config,
            rate_limiter=rate_limiter,
            pacing=pacing,
            deadline=deadline,
            idempotency_header=idempotency_header,
            name=name,
            max_event_size=max_event_size,
            clock=clock,
        )
        options.check(type(self).__name__, awaits=self._awaits)
        self.base_url, self.timeout, self.headers = base_url, timeout, headers
        self._client, self._breaker, self._rules = client, circuit_breaker, ClientRules(options, type(self).__name__)
        # a subclass that overrides a method of the breaker has that method called
        self._counts_rejections = isinstance(circuit_breaker, CircuitBreaker) and all(
            getattr(type(circuit_breaker), name) is getattr(CircuitBreaker, name)
            for name in ("call", "call_async", "call_generator", "call_async_generator")
        )
        self._owns_client = client is None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def add_listener(self, listener: Listener, *types: type[Event]) -> Callable[[], None]:
        """Send the events of this client to `listener`; the returned function removes it.

        They are sent to the listeners of the default orchestrator, too.
        """
        return self._rules.events.add_listener(listener, *types)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._rules.name!r}{' closed' if self._closed else ''}>"

    def _get_client(self) -> Any:
        """Return the HTTP client, created at the first use."""
        if self._closed:
            raise RuntimeError(f"this {type(self).__name__} is closed; make another one")
        if self._client is None:
            self._set_client(self._create_client())
        return self._client

    def _set_client(self, created: Any) -> None:
        self._client = created

    def _create_client(self) -> Any:
        kind = getattr(library(type(self).__name__), self._client_class)
        return kind(base_url=self.base_url, timeout=self.timeout, headers=self.headers)

    _client_class = ""

    def _detach_client(self) -> Any:
        """Return the client to close, if this object owns it; None the second time."""
        self._closed = True
        client, self._client = self._client, None
        return client if self._owns_client else None

    def _warn(self) -> None:
        if self._owns_client and self._client is not None:
            warnings.warn(f"unclosed {self!r}: use it in {self._close_hint}", ResourceWarning, stacklevel=3, source=self)
