"""What the two JSON clients share: which request is made, how often, and what its answer comes to. Nothing waits here."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from resilience_kit._callable_kinds import CallableKind, is_awaitable, kind_of
from resilience_kit._checks import Checks
from resilience_kit._redaction import is_secret_name
from resilience_kit.classification import classify, response_error
from resilience_kit.classification.body import has_json_content_type
from resilience_kit.classification.response import lowercase_headers
from resilience_kit.classification.safe_access import attribute
from resilience_kit.clock import Clock
from resilience_kit.context import remaining_time, request_key
from resilience_kit.errors import REDACTED, AIServiceError, CircuitBreakerOpenError, ConfigurationError, ServerError
from resilience_kit.events import CallCancelled, CallFailed, CallRejected, CallSucceeded, ChildStream
from resilience_kit.execution.plan import CallPlan, Operation
from resilience_kit.guards import Guard
from resilience_kit.http.credentials import credential_of, model_in_path
from resilience_kit.http.errors import RequestInfo, error_from_response, map_exception
from resilience_kit.http.event_reader import EVENT_STREAM, EventReader, not_a_stream
from resilience_kit.http.excerpts import host_of, secrets_of
from resilience_kit.http.json_response import METHODS_WITH_BODY
from resilience_kit.http.stream_progress import choices_in
from resilience_kit.orchestrator.default import default_clients
from resilience_kit.policies.breaker import CircuitBreaker
from resilience_kit.policies.breaker.states import Token
from resilience_kit.policies.retry import RetryConfig

if TYPE_CHECKING:
    from resilience_kit.http.pacing import Pacing

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
SCHEMES: Final = ("http://", "https://")
_BODIES: Final = ("content", "data", "files")
_REPLAYABLE_TYPES: Final = (str, bytes, bytearray, int, float, bool, type(None))
_OK: Final = 200
_NO_CONTENT: Final = (204, 205, 304)
_MIN_TIMEOUT: Final = 0.001


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
        """Raise a `ConfigurationError` that lists what is wrong. No value that may hold a secret is in it."""
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


_KINDS: Final = {
    True: "must be an async client, such as httpx.AsyncClient; a plain one is for APIClient",
    False: "must be a plain client, such as httpx.Client; an async one is for AsyncAPIClient",
}


def _check_kind(checks: Checks, client: object, *, awaits: bool) -> None:
    """What can be known before it is asked: what kind of function `request` is, and of which `with` it is for."""
    is_async = kind_of(attribute(client, "request")) is CallableKind.ASYNC  # type: ignore[arg-type]  # None is of no kind either
    is_sync = not is_async and _is_only_for(client, "__enter__", "__aenter__")
    if is_sync if awaits else is_async or _is_only_for(client, "__aenter__", "__enter__"):
        checks.add("client", _KINDS[awaits], REDACTED)


def _is_only_for(client: object, name: str, other: str) -> bool:
    return hasattr(type(client), name) and not hasattr(type(client), other)


def check_origin(  # noqa: PLR0913 - one request
    owner: str, base: str, url: str, kwargs: Mapping[str, Any], names: Iterable[str], credentials: Iterable[str] = ()
) -> None:
    """Raise `ConfigurationError` where headers that hold a credential would be sent to another origin than that of `base`.

    `names`: of headers that are added to what is `kwargs`; `credentials`: those of them that hold one whatever their name.
    """
    if not base or not url.lower().startswith(SCHEMES) or _origin(url) == _origin(base):
        return
    replaced, sure = {name.lower() for name, _ in _pairs(kwargs.get("headers"))}, {name.lower() for name in credentials}
    if any((is_secret_name(name) or name.lower() in sure) and name.lower() not in replaced for name in names):
        rule = "must have the scheme, host and port of base_url, whose credential is in the headers; use another client for it"
        raise ConfigurationError([(f"{owner}.url", rule, REDACTED)])


def _origin(url: str) -> tuple[str, str]:
    return url[:5].lower().rstrip(":"), host_of(url)


def check_base_url(checks: Checks, base_url: object, *, optional: bool) -> None:
    """A scheme that can be used, and a host."""
    text = str(base_url) if base_url is not None else ""
    clean = text.isprintable() and " " not in text
    if not (optional and not text) and not (clean and text.lower().startswith(SCHEMES) and host_of(text)):
        checks.add("base_url", "must begin with http:// or https:// and name a host, as in https://api.example.com/v1", REDACTED)


def check_timeout(checks: Checks, timeout: object) -> None:
    """None, seconds, or httpx's own object of four of them."""
    if not hasattr(timeout, "read"):
        checks.optional_seconds("timeout", timeout)


def check_headers(checks: Checks, headers: object) -> None:
    """Texts by names, none of which would begin another header."""
    if headers is not None and not isinstance(headers, Mapping):
        checks.add("headers", "must map names to texts", REDACTED)
        return
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            checks.add("headers", "must map names to texts; turn other values into text, and leave out what is None", REDACTED)
        elif any(sign in name + value for sign in "\r\n\0"):
            checks.add("headers", "must hold no line breaks; strip what was read from a file", REDACTED)


def _check_limiter(checks: Checks, limiter: object, *, awaits: bool) -> None:
    if limiter is None or is_guard(limiter):
        return
    if awaits:
        checks.has_methods("rate_limiter", limiter, "acquire")
    else:
        checks.add("rate_limiter", "must be a guard, such as resilience_kit.limits.TokenBucketRateLimiter", REDACTED)


def _check_header_name(checks: Checks, name: object) -> None:
    if name is not None and (not isinstance(name, str) or not name.isascii() or not name.replace("-", "").isalnum()):
        checks.add("idempotency_header", "must be the name of a header, or None for no key", REDACTED)


def is_guard(limiter: object) -> bool:
    """Whether its class makes it a guard; the attributes of an object alone may be anything."""
    return isinstance(limiter, Guard) and callable(getattr(type(limiter), "admit", None))


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """One request as the caller wants it made, for all of its attempts.

    `retry_safe`: it may be sent again although the service may have carried it out. `replayable`: its body can be sent again.
    """

    method: str
    url: str
    kwargs: Mapping[str, Any]
    info: RequestInfo
    retry_safe: bool
    replayable: bool


class ClientRules:
    """The rules of one client. Thread-safe."""

    def __init__(self, options: ClientOptions, owner: str) -> None:
        self.options, self._owner = options, owner
        self.host = host_of(str(options.base_url or attribute(options.client, "base_url") or ""))
        self.name = options.name or self.host or "http"
        self.events = ChildStream()
        self.limiter = None if options.rate_limiter is None or is_guard(options.rate_limiter) else options.rate_limiter
        self._operation: Operation | None = None
        self._operation_of: tuple[object, object] | None = None
        self._reported: dict[str, None] = {}
        self._plans: dict[tuple[bool, bool], CallPlan] = {}

    # --- the request -----------------------------------------------------------------------------------------------------

    def prepare(self, client: Any, method: str, url: Any, kwargs: Mapping[str, Any]) -> PreparedRequest:
        """The request, with an idempotency key where it may have to be repeated, and else as it was given."""
        self._check_origin(client, url, kwargs)
        kwargs = self._with_client_headers(client, kwargs) if self.options.client is not None else kwargs
        replayable = _is_replayable(kwargs)
        safe = method.upper() in SAFE_METHODS
        if not safe and replayable and self._retries_enabled:
            kwargs = self._with_key(method, url, kwargs)
        base, headers = str(self.options.base_url or ""), self.options.headers
        secrets = functools.partial(secrets_of, base, headers, url, kwargs, self.options.client)
        info = RequestInfo(method.upper(), host_of(str(url)) or self.host, secrets)
        retry_safe = safe or self._has_key(kwargs)
        return PreparedRequest(method, self._full_url(client, url), kwargs, info, retry_safe, replayable)

    def _check_origin(self, client: Any, url: Any, kwargs: Mapping[str, Any]) -> None:
        if not str(url).lower().startswith(SCHEMES):
            return  # most are paths, for which nothing has to be looked at
        base, client_headers = self.options.base_url or attribute(client, "base_url"), attribute(client, "headers")
        names = (*(self.options.headers or ()), *(client_headers if isinstance(client_headers, Mapping) else ()))
        check_origin(self._owner, str(base or ""), str(url), kwargs, names)

    @property
    def _retries_enabled(self) -> bool:
        retry = self.options.retry_config
        return retry is not None and retry.max_attempts > 1

    def _with_client_headers(self, client: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With our headers, where the client that somebody handed us has headers, but not these."""
        client_headers, own_headers = attribute(client, "headers"), self.options.headers
        if not own_headers or not isinstance(client_headers, Mapping):
            return kwargs
        missing = {name: value for name, value in own_headers.items() if client_headers.get(name) != value}
        return with_headers(kwargs, missing) if missing else kwargs

    def _full_url(self, client: Any, url: Any) -> Any:
        """Below our base, where the client that somebody handed us has none, or another one."""
        base = self.options.base_url
        if self.options.client is None or not base or str(url).lower().startswith(SCHEMES):
            return url
        client_base_url = str(attribute(client, "base_url")).rstrip("/")
        has_other = client_base_url.lower().startswith(SCHEMES) and client_base_url != str(base).rstrip("/")
        return join_url(str(base), str(url)) if not client_base_url or has_other else url

    def _with_key(self, method: str, url: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With a key, which inside a call or a job is derived from the key around it and what is sent."""
        name = self.options.idempotency_header
        if name is None or self._has_key(kwargs):
            return kwargs
        parts = (kwargs[part] for part in (*_BODIES, "json", "params") if part in kwargs)
        key = request_key(method.upper().encode(), f"{self.options.base_url} {url}".encode(), *map(_encode_part, parts))
        return with_headers(kwargs, {name: str(uuid.uuid4()) if key is None else key})

    def _has_key(self, kwargs: Mapping[str, Any]) -> bool:
        name = self.options.idempotency_header
        return name is not None and name.lower() in {each.lower() for each, _ in _pairs(kwargs.get("headers"))}

    def for_event_stream(self, prepared: PreparedRequest) -> PreparedRequest:
        """The same request for a stream of events."""
        if any(name.lower() == "accept" for name, _ in _pairs(prepared.kwargs.get("headers"))):
            return prepared
        return dataclasses.replace(prepared, kwargs=with_headers(prepared.kwargs, {"Accept": EVENT_STREAM}))

    def limit_timeout(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is given, with no timeout beyond the deadline that the call has, if it has one."""
        remaining = remaining_time()
        timeout = kwargs.get("timeout", self.options.timeout)
        if remaining is None or not (timeout is None or isinstance(timeout, int | float)):
            return kwargs
        return {**kwargs, "timeout": max(_MIN_TIMEOUT, remaining if timeout is None else min(remaining, timeout))}

    # --- how often -------------------------------------------------------------------------------------------------------

    def operation(self) -> Operation:
        """Where this client's requests are counted: in the default orchestrator, which may have become another one.

        Plans know who listens; so with other listeners they are made anew, too.
        """
        clients = default_clients()
        made_of = (clients, self.events.version)
        operation = self._operation
        if operation is None or self._operation_of != made_of:
            clock = self.options.clock
            joined = clients.get_or_create(self.name, clock, self.options.circuit_breaker)
            operation = Operation(self.name, CircuitBreaker(), joined.metrics, self.events, clock, reported=self._reported)
            self._operation, self._operation_of, self._plans = operation, made_of, {}
        return operation

    def acquire(self, breaker: CircuitBreaker) -> Token:
        """Have a request admitted by the client's breaker; a rejection is counted and emitted as that of any guard."""
        try:
            return breaker.acquire()
        except CircuitBreakerOpenError as rejection:
            operation = self.operation()
            operation.metrics.rejected_calls.add()
            if operation.events.has_listener(CallRejected):
                operation.events.emit(
                    CallRejected(
                        operation=operation.name,
                        guard=rejection.guard,
                        guard_kind=rejection.guard_kind,
                        retry_after=rejection.retry_after,
                    )
                )
            raise

    def plan(self, prepared: PreparedRequest) -> CallPlan | None:
        """What rules the attempts; None where there is nothing to be ruled, see `unruled`."""
        options = self.options
        if options.retry_config is None and options.deadline is None and not self._guards(prepared):
            return None
        return self.stream_plan(prepared)

    def stream_plan(self, prepared: PreparedRequest) -> CallPlan:
        """The same for a stream, whose breaks are always told in this kit's words."""
        guards, retry = self._guards(prepared), self.options.retry_config if prepared.replayable else None
        operation, key = self.operation(), (retry is not None, prepared.retry_safe)
        plans = self._plans
        plan = plans.get(key)
        if plan is None or plan.guards != guards or plan.operation is not operation:
            plan = plans[key] = self._new_plan(operation, retry, guards, idempotent=prepared.retry_safe)
        return plan

    def single_attempt(self) -> SingleAttempt:
        """Count a request that is made once and raises what it raises: a block around it."""
        return SingleAttempt(self.operation())

    def _new_plan(
        self, operation: Operation, retry: RetryConfig | None, guards: tuple[Guard, ...], *, idempotent: bool
    ) -> CallPlan:
        return CallPlan(
            operation=operation,
            retry=retry,
            breaker=None,
            deadline=self.options.deadline,
            guards=guards,
            idempotent=idempotent,
        )

    def _guards(self, prepared: PreparedRequest) -> tuple[Guard, ...]:
        limiter, pacer = self.options.rate_limiter, self.pacer(prepared)
        guards = () if limiter is None or self.limiter is not None else (limiter,)
        return guards if pacer is None else (pacer, *guards)

    def pacer(self, prepared: PreparedRequest) -> Any:
        """The pace of this host and key, None where there is no pacing."""
        if self.options.pacing is None:
            return None
        headers = lowercase_headers({**(self.options.headers or {}), **dict(_pairs(prepared.kwargs.get("headers")))})
        return self.options.pacing.for_host(prepared.info.host, credential_of(headers), _model_of(prepared))

    def observe(self, prepared: PreparedRequest, response: Any) -> None:
        """The head of an answer is there."""
        pacer = self.pacer(prepared)
        headers = attribute(response, "headers")
        if pacer is not None and isinstance(headers, Mapping):
            pacer.observe(lowercase_headers(headers))

    # --- the answer ------------------------------------------------------------------------------------------------------

    def check_awaitable(self, result: object, *, awaits: bool) -> None:
        """Raise `ConfigurationError` where what `request` gave is of the other kind of client."""
        if is_awaitable(result) is not awaits:
            if isinstance(result, CoroutineType):
                result.close()
            raise ConfigurationError([(f"{self._owner}.client", _KINDS[awaits], REDACTED)])

    def to_exception(self, prepared: PreparedRequest, error: Exception) -> Exception:
        """What to raise for what a request ended in."""
        if self.options.pacing is not None:
            self.observe(prepared, attribute(error, "response"))
        return map_exception(error, prepared.info)

    def raise_for_error_body(self, prepared: PreparedRequest, response: Any, body: object) -> None:
        """Raise for a good status whose body is an error."""
        status, headers = attribute(response, "status_code"), attribute(response, "headers")
        status = status if isinstance(status, int) else _OK
        verdict = response_error(status, headers, body) if isinstance(body, (Mapping, list)) else None
        if verdict is not None:
            raise error_from_response(status, headers, body, prepared.info, verdict)

    def is_empty(self, prepared: PreparedRequest, response: Any) -> bool:
        """Whether an answer has no body, so that it is None in JSON. Raises `ServerError` where one was promised."""
        if attribute(response, "status_code") in _NO_CONTENT:
            return True
        if attribute(response, "content") != b"":
            return False
        promised = has_json_content_type(lowercase_headers(attribute(response, "headers")))
        if promised and prepared.info.method in METHODS_WITH_BODY and attribute(response, "status_code") == _OK:
            raise ServerError(f"The answer is empty ({prepared.info})")
        return True

    def event_reader(self, prepared: PreparedRequest, terminal: tuple[str, ...] | None) -> EventReader:
        """What follows the stream of events that answers a request."""
        choices = choices_in(prepared.kwargs.get("json"))
        return EventReader(prepared.url, prepared.info, terminal, choices=choices, max_event_size=self.options.max_event_size)

    @contextlib.contextmanager
    def decoding_errors(self, prepared: PreparedRequest) -> Iterator[None]:
        """While a body is parsed: what is no JSON is an error of the service, whose text is not repeated."""
        try:
            yield
        except (ValueError, RecursionError):
            raise ServerError(f"The answer is no JSON ({prepared.info})") from None

    def not_a_stream(self, prepared: PreparedRequest, response: Any, pieces: list[bytes]) -> AIServiceError:
        """The error for an answer that is no stream of events."""
        return not_a_stream(response.status_code, response.headers, b"".join(pieces), prepared.info)


class SingleAttempt:
    """The block around a request that no plan rules. It is counted and reported as any call, and changes nothing."""

    __slots__ = ("_operation", "_started")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        self._started = self._operation.clock.nanoseconds()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        operation, now = self._operation, self._operation.clock.nanoseconds()
        metrics, seconds = operation.metrics, (now - self._started) * 1e-9
        if error is None:
            metrics.succeeded(now - self._started)
            metrics.last_success = now
            if operation.events.has_listener(CallSucceeded):
                operation.events.emit(CallSucceeded(operation=operation.name, attempts=1, duration=seconds))
        elif isinstance(error, Exception):
            metrics.failed_calls.add()
            metrics.last_failure = now
            if operation.events.has_listener(CallFailed):
                operation.events.emit(
                    CallFailed(
                        operation=operation.name,
                        attempts=1,
                        duration=seconds,
                        kind=classify(error).kind,
                        error_type=type(error).__name__,
                        reason="it has no retries",
                    )
                )
        else:
            metrics.cancelled_calls.add()
            if operation.events.has_listener(CallCancelled):
                operation.events.emit(CallCancelled(operation=operation.name, attempts=1))


def _model_of(prepared: PreparedRequest) -> str:
    body = prepared.kwargs.get("json")
    model = body.get("model") if isinstance(body, Mapping) else None
    return model_in_path(str(prepared.url)) or (model if isinstance(model, str) else "")


def with_headers(kwargs: Mapping[str, Any], added: Mapping[str, str]) -> dict[str, Any]:
    """What is given, with headers that it has not got."""
    known = kwargs.get("headers")
    names = {name.lower() for name, _ in _pairs(known)}
    new = {name: value for name, value in added.items() if name.lower() not in names}
    if isinstance(known, (list, tuple)):
        return {**kwargs, "headers": [*known, *new.items()]}
    return {**kwargs, "headers": {**(known or {}), **new}}


def _pairs(headers: Any) -> list[tuple[str, str]]:
    if isinstance(headers, Mapping):
        headers = headers.items()
    return [(_text(name), _text(value)) for name, value in headers or ()]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def join_url(base: str, url: str) -> str:
    """An address below another one, as httpx has it: a path is below the base's own, however it begins."""
    return f"{base.rstrip('/')}/{url.lstrip('/')}" if url else base


def _encode_part(value: object) -> bytes:
    """What a part of a request holds, the same for the same data in each process."""
    try:
        return json.dumps(value, default=repr).encode()
    except (TypeError, ValueError, RecursionError):
        return repr(value).encode(errors="replace")


def _is_replayable(kwargs: Mapping[str, Any]) -> bool:
    """Whether no part of the body is used up when it is sent."""
    return all(_is_replayable_value(kwargs.get(name)) for name in _BODIES)


def _is_replayable_value(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_replayable_value, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_replayable_value, value))
    return isinstance(value, _REPLAYABLE_TYPES)
