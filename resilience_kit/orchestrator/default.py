"""The default orchestrator, for those who need only one. It is made at its first use, never at an import."""

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
#: The clients that were used before there was a default orchestrator, which takes them over.
_clients = ClientOperations()
_default_lock = ForkSafeLock()
_default_sites: weakref.WeakSet[OperationCallSite] = weakref.WeakSet()


def get_orchestrator() -> AIServiceResilience:
    """The default orchestrator, made from the environment at its first use."""
    global _default  # noqa: PLW0603 - there is one default a process
    with _default_lock:
        if _default is None:
            _default = AIServiceResilience(events=default_stream())
            _default.attach_clients(_clients)
        return _default


def default_clients() -> ClientOperations:
    """The clients whose numbers the default orchestrator shows, or will show when there is one."""
    return _clients


def set_orchestrator(orchestrator: AIServiceResilience | None) -> None:
    """Have another default from the next call on, also for functions decorated before; None has it made anew when needed.

    What clients, pacing, jobs and breakers that stand alone emit and count from now on goes to it, too.
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
    """Have another default inside the block, and the one of before, which may be none yet, after it."""
    with _default_lock:
        before = _default
    set_orchestrator(orchestrator)
    try:
        yield orchestrator
    finally:
        set_orchestrator(before)


def default_operations() -> list[str]:
    """The names of the operations that functions were decorated with, called or not, and of those that the default knows."""
    with _default_lock:
        known = [] if _default is None else _default.operations
        return sorted({*known, *(site.operation for site in _default_sites)})


def attach_pending_call_sites(operation: str) -> AIServiceResilience:
    """The default orchestrator, with the functions of an operation that were not called yet: it knows what they ask for."""
    orchestrator = get_orchestrator()
    with _default_lock:
        sites = list(_default_sites)
    for site in sites:
        if site.operation == operation:
            orchestrator.rebuild_site(site)
    return orchestrator


class _DefaultCallSite(OperationCallSite):
    """A site of whichever orchestrator is the default when its plan is made."""

    __slots__ = ()

    def __init__(self, operation: str, options: CallOptions) -> None:
        super().__init__(lambda: get_orchestrator().make_plan(operation, options), operation, options)

    def current(self) -> CallPlan:
        plan = self.plan
        while not isinstance(plan, CallPlan):
            orchestrator = get_orchestrator()
            orchestrator.rebuild_site(self)
            plan = self.plan if orchestrator is _default else NO_PLAN  # it may have been replaced meanwhile
        return plan


def default_call_site(operation: str, options: CallOptions) -> OperationCallSite:
    """A call site of whichever orchestrator is the default, for rooms that drive their calls themselves."""
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
    """`AIServiceResilience.with_resilience` on the default orchestrator, which is looked up at the first call."""
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
