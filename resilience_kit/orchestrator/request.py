"""Call sites, and the driver for each kind of function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from resilience_kit._callable_kinds import CallableKind, kind_of
from resilience_kit.config import UNSET, ResilienceConfig
from resilience_kit.config.call_options import CallOptions
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.execution import aio, streams, sync
from resilience_kit.execution.hedge import hedging_not_supported
from resilience_kit.execution.plan import CallPlan, CallSite

P = ParamSpec("P")
R = TypeVar("R")

_DRIVERS: dict[CallableKind, Callable[[CallSite, Callable[..., Any]], Callable[..., Any]]] = {
    CallableKind.SYNC: sync.protect,
    CallableKind.ASYNC: aio.protect,
    CallableKind.GENERATOR: streams.protect_generator,
    CallableKind.ASYNC_GENERATOR: streams.protect_async_generator,
}


_DECORATOR_ORDER_HINT = "; put it on the method itself, below @staticmethod, @classmethod or @property"


class OperationCallSite(CallSite):
    """A call site that knows its operation and options."""

    __slots__ = ("operation", "options")

    def __init__(self, make_plan: Callable[[], CallPlan], operation: str, options: CallOptions) -> None:
        super().__init__(make_plan)
        self.operation, self.options = operation, options


class AdHocCallSite(OperationCallSite):
    """The call site of options passed with each call. Its `custom_config` is a copy: the caller may change a mapping."""

    __slots__ = ("custom_config", "deadline", "fallback", "strategy")

    def __init__(self, make_plan: Callable[[], CallPlan], operation: str, options: CallOptions) -> None:
        super().__init__(make_plan, operation, options)
        self.strategy, self.custom_config = options.strategy, options.custom_config
        self.fallback, self.deadline = options.fallback, options.deadline


def check_fallback(fallback: Callable[..., Any] | None, kind: CallableKind) -> None:
    """Raise ConfigurationError for a fallback of another kind than the function that it replaces."""
    if fallback is None:
        return
    fallback_kind = kind_of(fallback)
    if fallback_kind is kind or (kind is CallableKind.ASYNC and fallback_kind is CallableKind.SYNC):
        return
    rule = f"must be {kind.value}{' or a plain one' if kind is CallableKind.ASYNC else ''}, as what it stands in for"
    raise ConfigurationError([("with_resilience.fallback", f"{rule}; this is {fallback_kind.value}", REDACTED)])


def _check_hedge(site: CallSite, kind: CallableKind) -> None:
    """Raise ConfigurationError for hedging of a function that is not async: its slower request could not be cancelled."""
    options = site.options if isinstance(site, OperationCallSite) else CallOptions()
    custom = options.custom_config.hedge if isinstance(options.custom_config, ResilienceConfig) else None
    if kind is not CallableKind.ASYNC and (custom if options.hedge is UNSET else options.hedge) is not None:
        raise hedging_not_supported(f"{site.operation} ({kind.value})" if isinstance(site, OperationCallSite) else "")


def kind_when_awaited(function: Callable[..., Any]) -> CallableKind:
    """Return the kind of a function whose result is awaited; a plain function counts as async."""
    kind = kind_of(function)
    return CallableKind.ASYNC if kind is CallableKind.SYNC else kind


def wrap_function(site: CallSite, function: Callable[P, R], fallback: Callable[..., Any] | None) -> Callable[P, R]:
    """Wrap a function of any kind in the driver of its kind, under the plan of `site`."""
    if not callable(function) or isinstance(function, type | staticmethod):
        what = "class" if isinstance(function, type) else type(function).__name__
        raise ConfigurationError(
            [("with_resilience", f"must decorate a function, not a {what}{_DECORATOR_ORDER_HINT}", REDACTED)]
        )
    kind = kind_of(function)
    check_fallback(fallback, kind)
    _check_hedge(site, kind)
    return _DRIVERS[kind](site, function)
