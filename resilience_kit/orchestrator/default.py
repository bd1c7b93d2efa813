"""The default orchestrator of the process, made at its first use, never at an import."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from resilience_kit._fork import ForkSafeLock
from resilience_kit._keyword_hints import suggests_keywords
from resilience_kit.config import (
    UNSET,
    ResilienceStrategy,
    check_operation,
)
from resilience_kit.config.call_options import CallOptions, CustomConfigOption, Seconds, Unset
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit
from resilience_kit.errors import ConfigurationError
from resilience_kit.events import EventStream, default_stream, set_default_stream
from resilience_kit.execution.plan import NO_PLAN, CallPlan
from resilience_kit.log import attach_logging
from resilience_kit.orchestrator.clients import ClientOperations
from resilience_kit.orchestrator.request import OperationCallSite, wrap_function
from resilience_kit.orchestrator.service import AIServiceResilience
from resilience_kit.policies.hedge import HedgeConfig

P = ParamSpec("P")
R = TypeVar("R")

_default: AIServiceResilience | None = None
#: The clients used before the default orchestrator exists; it takes them over.
_clients = ClientOperations()
_default_lock = ForkSafeLock()
_default_sites: weakref.WeakSet[OperationCallSite] = weakref.WeakSet()


def get_orchestrator() -> AIServiceResilience:
    """Return the default orchestrator, made from the environment at its first use. Thread-safe."""
    global _default  # noqa: PLW0603 - there is one default a process
    with _default_lock:
        if _default is None:
            _default = AIServiceResilience(events=default_stream())
            _default.attach_clients(_clients)
        return _default


def default_clients() -> ClientOperations:
    """Return the clients whose metrics the default orchestrator shows, or will show once it exists."""
    return _clients


def set_orchestrator(orchestrator: AIServiceResilience | None) -> None:
    """Replace the default from the next call on, also for functions decorated before; None makes a new one when needed.

    Events and metrics of clients, pacing, jobs and standalone breakers go to the new default as well.
    """
    global _default, _clients  # noqa: PLW0603 - as above
    if orchestrator is not None and not isinstance(orchestrator, AIServiceResilience):
        raise ConfigurationError([("orchestrator", "must be an AIServiceResilience or None", orchestrator)])
    with _default_lock:
        old, _default = _default, orchestrator
        stream = EventStream() if orchestrator is None else orchestrator.events
        attach_logging(stream)
        set_default_stream(stream)
        _clients = ClientOperations() if orchestrator is None else orchestrator.clients
        sites = list(_default_sites)
    if old is not None:
        for site in sites:
            old.detach_site(site)


@contextmanager
def replaced_default(orchestrator: AIServiceResilience) -> Iterator[AIServiceResilience]:
    """Replace the default inside the block and restore the previous one, or its absence, after it."""
    with _default_lock:
        before = _default
    set_orchestrator(orchestrator)
    try:
        yield orchestrator
    finally:
        set_orchestrator(before)


def default_operations() -> list[str]:
    """List the operations of decorated functions, called or not, and those of the default orchestrator, sorted."""
    with _default_lock:
        known = [] if _default is None else _default.operations
        return sorted({*known, *(site.operation for site in _default_sites)})


def attach_pending_call_sites(operation: str) -> AIServiceResilience:
    """Return the default orchestrator after attaching the call sites of an operation that have not been called yet."""
    orchestrator = get_orchestrator()
    with _default_lock:
        sites = list(_default_sites)
    for site in sites:
        if site.operation == operation:
            orchestrator.rebuild_site(site)
    return orchestrator


class _DefaultCallSite(OperationCallSite):
    """A call site of the orchestrator that is the default when its plan is made."""

    __slots__ = ()

    def __init__(self, operation: str, options: CallOptions) -> None:
        super().__init__(lambda: get_orchestrator().make_plan(operation, options), operation, options)

    def current(self) -> CallPlan:
        plan = self.plan
        while not isinstance(plan, CallPlan):
            orchestrator = get_orchestrator()
            orchestrator.rebuild_site(self)
            plan = self.plan if orchestrator is _default else NO_PLAN  # the default may have been replaced meanwhile
        return plan


def default_call_site(operation: str, options: CallOptions) -> OperationCallSite:
    """Return a call site that follows the default orchestrator, for packages that execute their calls themselves."""
    site = _DefaultCallSite(operation, options)
    with _default_lock:
        _default_sites.add(site)
    return site


@suggests_keywords("with_resilience")
def with_resilience(  # noqa: PLR0913 - one argument an option
    operation: str,
    strategy: ResilienceStrategy | str | None = None,
    custom_config: CustomConfigOption = None,
    fallback: Callable[..., Any] | None = None,
    *,
    deadline: Seconds = UNSET,
    attempt_timeout: Seconds = UNSET,
    idempotent: bool | None = None,
    rate_limit: RateLimit | Unset | None = UNSET,
    bulkhead: BulkheadLimit | Unset | None = UNSET,
    hedge: HedgeConfig | Unset | None = UNSET,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate as `AIServiceResilience.with_resilience` does, on the default orchestrator, looked up at the first call."""
    options = CallOptions(
        strategy=strategy,
        custom_config=custom_config,
        fallback=fallback,
        deadline=deadline,
        attempt_timeout=attempt_timeout,
        idempotent=idempotent,
        rate_limit=rate_limit,
        bulkhead=bulkhead,
        hedge=hedge,
    )
    options.validate()
    name = check_operation(operation)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return wrap_function(default_call_site(name, options), function, fallback)

    return decorate
