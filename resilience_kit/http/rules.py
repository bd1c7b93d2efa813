"""Rules that both JSON clients share: admission, retries and the judgement of responses. Does no I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import CoroutineType
from typing import Any, Final

from resilience_kit._callable_kinds import is_awaitable
from resilience_kit.classification import classify, response_error
from resilience_kit.classification.body import has_json_content_type
from resilience_kit.classification.response import lowercase_headers
from resilience_kit.classification.safe_access import attribute
from resilience_kit.errors import REDACTED, AIServiceError, CircuitBreakerOpenError, ConfigurationError, ServerError
from resilience_kit.events import CallCancelled, CallFailed, CallRejected, CallSucceeded, ChildStream
from resilience_kit.execution.plan import CallPlan, Operation
from resilience_kit.guards import Guard
from resilience_kit.http.client_options import CLIENT_KINDS, ClientOptions, is_guard
from resilience_kit.http.credentials import credential_of
from resilience_kit.http.errors import error_from_response, map_exception
from resilience_kit.http.event_reader import EventReader, not_a_stream
from resilience_kit.http.headers import header_pairs
from resilience_kit.http.methods import METHODS_WITH_BODY
from resilience_kit.http.prepared_request import PreparedRequest, RequestBuilder
from resilience_kit.http.stream_progress import choices_in
from resilience_kit.orchestrator.default import default_clients
from resilience_kit.policies.breaker import CircuitBreaker
from resilience_kit.policies.breaker.states import Token
from resilience_kit.policies.retry import RetryConfig

_OK: Final = 200
_NO_CONTENT: Final = (204, 205, 304)


class ClientRules:
    """The rules of one client. Thread-safe."""

    def __init__(self, options: ClientOptions, owner: str) -> None:
        self.options, self._owner = options, owner
        self.requests = RequestBuilder(options, owner)
        self.name = options.name or self.requests.host or "http"
        self.events = ChildStream()
        self.limiter = None if options.rate_limiter is None or is_guard(options.rate_limiter) else options.rate_limiter
        self._operation: Operation | None = None
        self._operation_of: tuple[object, object] | None = None
        self._reported: dict[str, None] = {}
        self._plans: dict[tuple[bool, bool], CallPlan] = {}

    # --- plans and admission ---------------------------------------------------------------------------------------------

    def operation(self) -> Operation:
        """Return the operation that counts the requests: of the default orchestrator, which may have been replaced.

        Plans depend on the listeners, so that they are rebuilt if these change.
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
        """Acquire a token of the breaker of the client; count and emit a rejection like that of any guard."""
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
        """Return the plan of the attempts; None if there is nothing to plan, see `single_attempt`."""
        options = self.options
        if options.retry_config is None and options.deadline is None and not self._guards(prepared):
            return None
        return self.stream_plan(prepared)

    def stream_plan(self, prepared: PreparedRequest) -> CallPlan:
        """Return the plan of a stream, which always has one."""
        guards, retry = self._guards(prepared), self.options.retry_config if prepared.replayable else None
        operation, key = self.operation(), (retry is not None, prepared.retry_safe)
        plans = self._plans
        plan = plans.get(key)
        if plan is None or plan.guards != guards or plan.operation is not operation:
            plan = plans[key] = self._new_plan(operation, retry, guards, idempotent=prepared.retry_safe)
        return plan

    def single_attempt(self) -> SingleAttempt:
        """Return a context manager that counts a request with one attempt."""
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
        """Return the pacer of this host and key; None without pacing."""
        if self.options.pacing is None:
            return None
        headers = lowercase_headers({**(self.options.headers or {}), **dict(header_pairs(prepared.kwargs.get("headers")))})
        return self.options.pacing.for_host(prepared.info.host, credential_of(headers), prepared.model)

    def observe(self, prepared: PreparedRequest, response: Any) -> None:
        """Pass the headers of a response to the host pacer."""
        pacer = self.pacer(prepared)
        headers = attribute(response, "headers")
        if pacer is not None and isinstance(headers, Mapping):
            pacer.observe(lowercase_headers(headers))

    # --- the response ----------------------------------------------------------------------------------------------------

    def check_awaitable(self, result: object, *, awaits: bool) -> None:
        """Raise `ConfigurationError` if `request` of an async client returned no awaitable, or that of a sync client did."""
        if is_awaitable(result) is not awaits:
            if isinstance(result, CoroutineType):
                result.close()
            raise ConfigurationError([(f"{self._owner}.client", CLIENT_KINDS[awaits], REDACTED)])

    def to_exception(self, prepared: PreparedRequest, error: Exception) -> Exception:
        """Return the error to raise for the error of a request."""
        if self.options.pacing is not None:
            self.observe(prepared, attribute(error, "response"))
        return map_exception(error, prepared.info)

    def raise_for_error_body(self, prepared: PreparedRequest, response: Any, body: object) -> None:
        """Raise for an error in the body of a response with a good status."""
        status, headers = attribute(response, "status_code"), attribute(response, "headers")
        status = status if isinstance(status, int) else _OK
        verdict = response_error(status, headers, body) if isinstance(body, (Mapping, list)) else None
        if verdict is not None:
            raise error_from_response(status, headers, body, prepared.info, verdict)

    def is_empty(self, prepared: PreparedRequest, response: Any) -> bool:
        """Return whether a response has no body, so that it is None. Raises `ServerError` if one was promised."""
        if attribute(response, "status_code") in _NO_CONTENT:
            return True
        if attribute(response, "content") != b"":
            return False
        promised = has_json_content_type(lowercase_headers(attribute(response, "headers")))
        if promised and prepared.info.method in METHODS_WITH_BODY and attribute(response, "status_code") == _OK:
            raise ServerError(f"The answer is empty ({prepared.info})")
        return True

    def event_reader(self, prepared: PreparedRequest, terminal: tuple[str, ...] | None) -> EventReader:
        """Return the reader of the stream of events that a request gets."""
        choices = choices_in(prepared.kwargs.get("json"))
        return EventReader(prepared.url, prepared.info, terminal, choices=choices, max_event_size=self.options.max_event_size)

    @contextlib.contextmanager
    def decoding_errors(self, prepared: PreparedRequest) -> Iterator[None]:
        """Raise `ServerError` for a body that is no JSON, without its text; a context manager around the parsing."""
        try:
            yield
        except (ValueError, RecursionError):
            raise ServerError(f"The answer is no JSON ({prepared.info})") from None

    def not_a_stream(self, prepared: PreparedRequest, response: Any, pieces: list[bytes]) -> AIServiceError:
        """Return the error for a response that is no stream of events."""
        return not_a_stream(response.status_code, response.headers, b"".join(pieces), prepared.info)


class SingleAttempt:
    """Context manager around a request without a plan, which counts and reports it like any call."""

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
