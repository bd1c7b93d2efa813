"""Options of a transport, and the call sites of the hosts that it sends to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from enum import Enum
from typing import Any, Literal

from resilience_kit._checks import Checks
from resilience_kit._fork import ForkSafeLock
from resilience_kit.config import ResilienceConfig
from resilience_kit.config.call_options import CallOptions
from resilience_kit.errors import REDACTED
from resilience_kit.execution.plan import CallPlan
from resilience_kit.http.credentials import credential_of, fingerprint, host_of
from resilience_kit.http.headers import is_header_name
from resilience_kit.http.httpx_compat import Headers, decode_headers
from resilience_kit.http.pacing import Pacing, PacingGuard, shared_pacing
from resilience_kit.http.stream_progress import TERMINAL_EVENTS
from resilience_kit.orchestrator import AIServiceResilience
from resilience_kit.orchestrator.default import default_call_site
from resilience_kit.orchestrator.request import OperationCallSite
from resilience_kit.policies.retry import RetryConfig
from resilience_kit.policies.retry_budget import RetryBudgetConfig

OTHER_HOSTS = "other hosts"
_MAX_HOSTS, _LONGEST_NAME = 256, 180
_DIGITS = 8

#: Three attempts, a breaker, and a bound on what retries add to the load. No deadline: a response may take minutes.
DEFAULT_CONFIG = ResilienceConfig(retry=RetryConfig(), retry_budget=RetryBudgetConfig())

#: For a request that must not be sent again. A strategy that is set by an operator does not restore retries.
_NO_RETRY = RetryConfig(max_attempts=1, exclude_exceptions=(Exception,))


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """Options of a transport.

    `config`: of the operation of every host; its retries and deadline are for one request. `resilience`: the orchestrator of
    these operations; None: the default one. `breaker_per`: one breaker a host, or one a host and credential.
    `idempotency_header`: the header with the idempotency key of an unsafe method; None: no key, and such a request is retried
    only if it was certainly not processed. `terminal_events`: see `TERMINAL_EVENTS`; empty: a stream may end anywhere.
    `buffer_bytes`: how much of the body of a request or response is kept in memory, so that the request can be sent again and
    the response is read completely inside the attempt. `pacing`: what pauses all callers of a host and credential together;
    `"shared"`: that of the process; None: no pacing. `asynchronous`: the kind of the transport.
    """

    config: ResilienceConfig = DEFAULT_CONFIG
    resilience: AIServiceResilience | None = None
    breaker_per: Literal["host", "key"] = "host"
    idempotency_header: str | None = "Idempotency-Key"
    terminal_events: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: TERMINAL_EVENTS)
    buffer_bytes: int = 1 << 20
    pacing: Pacing | Literal["shared"] | None = "shared"
    asynchronous: InitVar[bool] = False

    def __post_init__(self, asynchronous: bool) -> None:
        checks = Checks(transport_name(asynchronous=asynchronous))
        checks.instance("config", self.config, ResilienceConfig)
        if getattr(self.config, "hedge", None) is not None:
            rule = "must have no hedge: an answer is read in its attempt; hedge the async function that makes the request"
            checks.add("config", rule, REDACTED)
        if getattr(getattr(self.config, "retry", None), "retry_on_result", None) is not None:
            rule = (
                "must have no retry_on_result: an answer is judged by its status and body; judge the parsed one in an operation"
            )
            checks.add("config", rule, REDACTED)
        if not asynchronous:
            _check_timeouts(checks, self.config)
        checks.instance("resilience", self.resilience, AIServiceResilience, type(None))
        checks.one_of("breaker_per", self.breaker_per, ("host", "key"))
        checks.integer("buffer_bytes", self.buffer_bytes, 0)
        if self.idempotency_header is not None and not is_header_name(self.idempotency_header):
            checks.add("idempotency_header", "must be the name of a header, or None", self.idempotency_header)
        if not _are_terminal_events(self.terminal_events):
            rule = "must map ends of paths to tuples of event names, as TERMINAL_EVENTS does"
            checks.add("terminal_events", rule, self.terminal_events)
        if self.pacing not in {None, "shared"}:
            checks.has_methods("pacing", self.pacing, "guard")
        checks.raise_if_any()

    @property
    def key_makes_idempotent(self) -> bool:
        """Whether a request with a key may be retried: not if the config declares it not idempotent."""
        return self.config.idempotent or bool(self.config.idempotency_key)


def transport_name(*, asynchronous: bool) -> str:
    """Return the name of a transport in its errors."""
    return "AsyncResilientTransport" if asynchronous else "ResilientTransport"


def _check_timeouts(checks: Checks, config: object) -> None:
    for name in ("first_item_timeout", "idle_timeout"):
        if getattr(config, name, None) is not None:
            rule = "must be None: nothing cuts a plain function off; use the client's read timeout or AsyncResilientTransport"
            checks.add(f"config.{name}", rule, getattr(config, name))


def _are_terminal_events(rules: object) -> bool:
    return isinstance(rules, Mapping) and all(
        isinstance(path, str) and isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        for path, names in rules.items()
    )


class RetrySafety(Enum):
    """When a request may be sent again."""

    NEVER = "never"
    IF_NOT_SENT = "only when it was surely not carried out"
    ALWAYS = "also when it may have been"


class HostCallSites:
    """Call sites by host, credential and retry safety. Thread-safe.

    Hosts beyond the first 256 share one operation without a breaker, since they have nothing in common.
    """

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        pacing = shared_pacing() if options.pacing == "shared" else options.pacing
        self._guards = () if pacing is None else (pacing.guard(_request_of),)
        if options.resilience is not None:
            for guard in self._guards:
                if isinstance(guard, PacingGuard):
                    guard.emit_on(options.resilience.events)
        self._sites: dict[tuple[str, RetrySafety], OperationCallSite] = {}
        self._names: set[str] = set()
        self._lock = ForkSafeLock()

    def plan(self, request: Any, headers: Headers, retry_safety: RetrySafety) -> CallPlan:
        """Return the plan of a request. `headers` are its own, by lower-case name."""
        name = self._name(request, headers)
        site = self._sites.get((name, retry_safety))
        return (self._create_site(name, retry_safety) if site is None else site).current()

    def _name(self, request: Any, headers: Headers) -> str:
        host = host_of(request.url)[:_LONGEST_NAME]
        if self._options.breaker_per == "key":
            credential_hash = fingerprint(credential_of(decode_headers(headers), request.url)).hex()[:_DIGITS]
            host = f"{host}#{credential_hash}" if credential_hash else host
        return host if host in self._names else self._register_name(host)

    def _register_name(self, name: str) -> str:
        with self._lock:
            if len(self._names) >= _MAX_HOSTS:
                return OTHER_HOSTS
            self._names.add(name)
        return name

    def _create_site(self, name: str, retry_safety: RetrySafety) -> OperationCallSite:
        with self._lock:
            if (name, retry_safety) not in self._sites:
                self._sites[name, retry_safety] = self._site(name, CallOptions(custom_config=self._config(name, retry_safety)))
            return self._sites[name, retry_safety]

    def _site(self, name: str, request: CallOptions) -> OperationCallSite:
        resilience = self._options.resilience
        if resilience is None:
            return default_call_site(name, request)
        site = OperationCallSite(functools.partial(resilience.make_plan, name, request), name, request)
        resilience.rebuild_site(site)
        return site

    def _config(self, name: str, retry_safety: RetrySafety) -> ResilienceConfig:
        config = self._options.config
        return dataclasses.replace(
            config,
            retry=_NO_RETRY if retry_safety is RetrySafety.NEVER and config.retry is not None else config.retry,
            circuit_breaker=None if name == OTHER_HOSTS else config.circuit_breaker,
            guards=(*config.guards, *self._guards),
            idempotent=retry_safety is RetrySafety.ALWAYS,
            idempotency_key=False,  # the exchange adds its own key, and the retry safety takes it into account
        )


def _request_of(request: Any) -> Any:
    return request
