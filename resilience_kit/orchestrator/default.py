"""The default orchestrator, for those who need only one. It is made at its first use, never at an import."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from resilience_kit._drive.plan import NO_PLAN, Plan
from resilience_kit._fork import Mutex
from resilience_kit._spelling import names_spelling
from resilience_kit.config import (
    NOT_GIVEN,
    ResilienceStrategy,
    check_operation,
)
from resilience_kit.config.layers import NotGiven, Seconds
from resilience_kit.config.resilience_config import BulkheadLimit, RateLimit
from resilience_kit.errors import ConfigurationError
from resilience_kit.events import EventStream, default_stream, set_default_stream
from resilience_kit.log import listen
from resilience_kit.orchestrator.clients import ClientOperations
from resilience_kit.orchestrator.request import Custom, Request, Site, protect
from resilience_kit.orchestrator.service import AIServiceResilience
from resilience_kit.policies.hedge import HedgeConfig

P = ParamSpec("P")
R = TypeVar("R")

_default: AIServiceResilience | None = None
#: The clients that were used before there was a default orchestrator, which takes them over.
_clients = ClientOperations()
_default_lock = Mutex()
_default_sites: weakref.WeakSet[Site] = weakref.WeakSet()


def get_orchestrator() -> AIServiceResilience:
    """The default orchestrator, made from the environment at its first use."""
    global _default  # noqa: PLW0603 - there is one default a process
    with _default_lock:
        if _default is None:
            _default = AIServiceResilience(events=default_stream())
            _default.adopt_clients(_clients)
        return _default


def clients_of_default() -> ClientOperations:
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
        listen(stream)
        set_default_stream(stream)
        _clients = ClientOperations() if orchestrator is None else orchestrator.clients
        sites = list(_default_sites)
    if old is not None:
        for site in sites:
            old.leave(site)


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


def operations_of_default() -> list[str]:
    """The names of the operations that functions were decorated with, called or not, and of those that the default knows."""
    with _default_lock:
        known = [] if _default is None else _default.operations
        return sorted({*known, *(site.operation for site in _default_sites)})


def join_default(operation: str) -> AIServiceResilience:
    """The default orchestrator, with the functions of an operation that were not called yet: it knows what they ask for."""
    orchestrator = get_orchestrator()
    with _default_lock:
        sites = list(_default_sites)
    for site in sites:
        if site.operation == operation:
            orchestrator.renew(site)
    return orchestrator


class _DefaultSite(Site):
    """A site of whichever orchestrator is the default when its plan is made."""

    __slots__ = ()

    def __init__(self, operation: str, request: Request) -> None:
        super().__init__(lambda: get_orchestrator().plan(operation, request), operation, request)

    def current(self) -> Plan:
        plan = self.plan
        while not isinstance(plan, Plan):
            orchestrator = get_orchestrator()
            orchestrator.renew(self)
            plan = self.plan if orchestrator is _default else NO_PLAN  # it may have been replaced meanwhile
        return plan


def site_of_default(operation: str, request: Request) -> Site:
    """A call site of whichever orchestrator is the default, for rooms that drive their calls themselves."""
    site = _DefaultSite(operation, request)
    with _default_lock:
        _default_sites.add(site)
    return site


@names_spelling("with_resilience")
def with_resilience(  # noqa: PLR0913 - one argument an option
    operation: str,
    strategy: ResilienceStrategy | str | None = None,
    custom_config: Custom = None,
    fallback: Callable[..., Any] | None = None,
    *,
    deadline: Seconds = NOT_GIVEN,
    attempt_timeout: Seconds = NOT_GIVEN,
    idempotent: bool | None = None,
    rate_limit: RateLimit | NotGiven | None = NOT_GIVEN,
    bulkhead: BulkheadLimit | NotGiven | None = NOT_GIVEN,
    hedge: HedgeConfig | NotGiven | None = NOT_GIVEN,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`AIServiceResilience.with_resilience` on the default orchestrator, which is looked up at the first call."""
    request = Request(
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
    request.check()
    name = check_operation(operation)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return protect(site_of_default(name, request), function, fallback)

    return decorate
