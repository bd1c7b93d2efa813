"""Options of the JSON clients and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from resilience_kit._callable_kinds import CallableKind, kind_of
from resilience_kit._checks import Checks
from resilience_kit.classification.safe_access import attribute
from resilience_kit.clock import Clock
from resilience_kit.errors import REDACTED
from resilience_kit.guards import Guard
from resilience_kit.http.credentials import host_of
from resilience_kit.http.headers import check_headers, is_header_name
from resilience_kit.policies.retry import RetryConfig

if TYPE_CHECKING:
    from resilience_kit.http.pacing import Pacing

SCHEMES: Final = ("http://", "https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The options of a JSON client, as its constructor has them."""

    base_url: str | None
    timeout: Any
    headers: Mapping[str, str] | None
    client: Any
    circuit_breaker: Any
    retry_config: RetryConfig | None
    rate_limiter: Any
    pacing: Pacing | None
    deadline: float | None
    idempotency_header: str | None
    name: str | None
    max_event_size: int
    clock: Clock

    def check(self, owner: str, *, awaits: bool) -> None:
        """Raise a `ConfigurationError` that lists all violations. It holds no value that may be a secret."""
        checks = Checks(owner)
        check_base_url(checks, self.base_url, optional=self.client is not None)
        check_timeout(checks, self.timeout)
        check_headers(checks, self.headers)
        if self.client is not None:
            checks.has_methods("client", self.client, "request")
            _check_kind(checks, self.client, awaits=awaits)
        if self.circuit_breaker is not None:
            checks.has_methods("circuit_breaker", self.circuit_breaker, "call_async" if awaits else "call")
        checks.instance("retry_config", self.retry_config, RetryConfig, type(None))
        if self.pacing is not None:
            checks.has_methods("pacing", self.pacing, "for_host")
        checks.optional_seconds("deadline", self.deadline)
        checks.instance("name", self.name, str, type(None))
        checks.integer("max_event_size", self.max_event_size, 1)
        checks.has_methods("clock", self.clock, "monotonic", "nanoseconds", "sleep", "sleep_async", "call_later")
        _check_limiter(checks, self.rate_limiter, awaits=awaits)
        _check_header_name(checks, self.idempotency_header)
        checks.raise_if_any()


CLIENT_KINDS: Final = {
    True: "must be an async client, such as httpx.AsyncClient; a plain one is for APIClient",
    False: "must be a plain client, such as httpx.Client; an async one is for AsyncAPIClient",
}


def _check_kind(checks: Checks, client: object, *, awaits: bool) -> None:
    """Check, without calling it, that the client is async or sync, by its `request` method and its context manager."""
    is_async = kind_of(attribute(client, "request")) is CallableKind.ASYNC  # type: ignore[arg-type]  # None is of no kind either
    is_sync = not is_async and _is_only_for(client, "__enter__", "__aenter__")
    if is_sync if awaits else is_async or _is_only_for(client, "__aenter__", "__enter__"):
        checks.add("client", CLIENT_KINDS[awaits], REDACTED)


def _is_only_for(client: object, name: str, other: str) -> bool:
    return hasattr(type(client), name) and not hasattr(type(client), other)


def check_base_url(checks: Checks, base_url: object, *, optional: bool) -> None:
    """Check that the URL has a supported scheme and a host."""
    text = str(base_url) if base_url is not None else ""
    clean = text.isprintable() and " " not in text
    if not (optional and not text) and not (clean and text.lower().startswith(SCHEMES) and host_of(text)):
        checks.add("base_url", "must begin with http:// or https:// and name a host, as in https://api.example.com/v1", REDACTED)


def check_timeout(checks: Checks, timeout: object) -> None:
    """Check that the timeout is None, seconds, or an `httpx.Timeout`."""
    if not hasattr(timeout, "read"):
        checks.optional_seconds("timeout", timeout)


def _check_limiter(checks: Checks, limiter: object, *, awaits: bool) -> None:
    if limiter is None or is_guard(limiter):
        return
    if awaits:
        checks.has_methods("rate_limiter", limiter, "acquire")
    else:
        checks.add("rate_limiter", "must be a guard, such as resilience_kit.limits.TokenBucketRateLimiter", REDACTED)


def _check_header_name(checks: Checks, name: object) -> None:
    if name is not None and not is_header_name(name):
        checks.add("idempotency_header", "must be the name of a header, or None for no key", REDACTED)


def is_guard(limiter: object) -> bool:
    """Return whether the class of `limiter` makes it a guard; attributes of the instance alone do not count."""
    return isinstance(limiter, Guard) and callable(getattr(type(limiter), "admit", None))
